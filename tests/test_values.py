from __future__ import annotations

import traceback
from collections.abc import Callable
from decimal import Decimal, Inexact, Rounded, localcontext
from typing import Any

import pytest

from dynaflow.encoding import encode
from dynaflow.errors import MalformedValue
from dynaflow.values import MAX_DEPTH, TYPES, canonical, decode, to_boto, type_of

MARKER = "pa55w0rd"  # stands for item data in values that are refused

READERS = pytest.mark.parametrize("read", [decode, canonical, to_boto])
Reader = Callable[[Any], Any]


def in_lists(levels: int) -> dict[str, Any]:
    """Return a string inside of so many lists."""
    value: dict[str, Any] = {"S": "x"}
    for _ in range(levels):
        value = {"L": [value]}
    return value


def in_maps(levels: int) -> dict[str, Any]:
    """Return a string inside of so many maps."""
    value: dict[str, Any] = {"S": "x"}
    for _ in range(levels):
        value = {"M": {"a": value}}
    return value


# --- decode: what DynamoDB writes ---------------------------------------------------------------

DECODED: dict[str, tuple[dict[str, Any], Any]] = {
    "text": ({"S": "abc"}, "abc"),
    "empty text": ({"S": ""}, ""),
    "text with U+0000": ({"S": "a\x00b"}, "a\x00b"),
    "an emoji": ({"S": "🛒"}, "🛒"),
    "a lone surrogate": ({"S": "a\ud800b"}, "a\ud800b"),
    "a whole number": ({"N": "42"}, Decimal(42)),
    "a fraction": ({"N": "-1.5"}, Decimal("-1.5")),
    "true": ({"BOOL": True}, True),
    "false": ({"BOOL": False}, False),
    "null": ({"NULL": True}, None),
    "binary as base64": ({"B": "Zm9vYmFy"}, b"foobar"),
    "binary as bytes": ({"B": b"foobar"}, b"foobar"),
    "binary as bytearray": ({"B": bytearray(b"foobar")}, b"foobar"),
    "empty binary": ({"B": ""}, b""),
    "binary that is not UTF-8": ({"B": "//79gA=="}, b"\xff\xfe\xfd\x80"),
    "a string set": ({"SS": ["a", "b"]}, {"a", "b"}),
    "a string set with empty text": ({"SS": [""]}, {""}),
    "a number set": ({"NS": ["1", "2.5"]}, {Decimal(1), Decimal("2.5")}),
    "a binary set as base64": ({"BS": ["YQ==", "Yg=="]}, {b"a", b"b"}),
    "a binary set as bytes": ({"BS": [b"a", bytearray(b"b")]}, {b"a", b"b"}),
    "an empty list": ({"L": []}, []),
    "a list": ({"L": [{"S": "a"}, {"N": "1"}, {"NULL": True}]}, ["a", Decimal(1), None]),
    "an empty map": ({"M": {}}, {}),
    "a map": ({"M": {"a": {"M": {"b.c": {"BOOL": True}}}}}, {"a": {"b.c": True}}),
    "a map with an empty name": ({"M": {"": {"S": "x"}}}, {"": "x"}),
    "a map that looks like a value": ({"M": {"S": {"S": "x"}}}, {"S": "x"}),
}


@pytest.mark.parametrize(("wire", "python"), DECODED.values(), ids=DECODED.keys())
def test_each_type_reads_as_its_python_form(wire: dict[str, Any], python: Any) -> None:
    value = decode(wire)
    assert value == python
    assert type(value) is type(python)


def test_the_cases_above_cover_every_type() -> None:
    assert {type_of(wire) for wire, _ in DECODED.values()} == set(TYPES)


NUMBERS = [
    "0",
    "-0",
    "1" * 38,
    "-" + "9" * 38,
    "0." + "1" * 38,
    "12345678901234567890123456789012345678",
    "1234567890123456789.0123456789012345678",
    "1E-130",
    "-1E-130",
    "9." + "9" * 37 + "E+125",
    "9." + "9" * 37 + "e125",
    "0." + "0" * 129 + "1",  # 1E-130 written out, as DynamoDB Local does
    "9" * 38 + "0" * 88,  # 9.99…E+125 written out
    "1" * 38 + "00",  # 40 digits, 38 of them significant
    "1." + "1" * 37 + "00",
    "00" + "1" * 38,
    "0" * 40,
    "0E-500",
    "+1",
    ".5",
    "5.",
]


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_are_exact(text: str) -> None:
    number = decode({"N": text})
    assert type(number) is Decimal
    assert number.as_tuple() == Decimal(text).as_tuple()


def test_numbers_ignore_the_decimal_context_of_the_caller() -> None:
    texts = ["9" * 38 + "0" * 88, "1." + "1" * 37, "1E-130"]
    with localcontext(prec=3, Emin=-5, Emax=5) as context:
        context.traps[Inexact] = context.traps[Rounded] = True
        numbers = [decode({"N": text}) for text in texts]
        assert [canonical({"N": text})[1] for text in texts] == numbers
        assert [encode(number) for number in numbers] == [{"N": str(n)} for n in numbers]
    assert numbers == [Decimal(text) for text in texts]


NOT_NUMBERS = [
    *(
        "",
        " ",
        " 1",
        "1 ",
        "1\n",
        "\t1",
        "1_0",
        "1,0",
        "0x10",
        "1e",
        "e5",
        ".",
        "+",
        "--1",
        "1.2.3",
    ),
    *("NaN", "nan", "sNaN", "Infinity", "-Infinity", "inf", "None", "true"),
    *("١٢٣", "１", "²", "1\x00"),  # digits for Unicode, not for DynamoDB
    *("1" * 39, "0." + "1" * 39, "1" + "0" * 37 + "1", "1" * 38 + "010"),
    *("1E-131", "1E+126", "9.9E126", "0." + "0" * 130 + "1", "1" + "0" * 126),
    *("1E99999", "1E-99999", "1" * 5_000, "0" * 1_000_000),
]


@READERS
@pytest.mark.parametrize("text", NOT_NUMBERS, ids=lambda text: ascii(text[:12]))
def test_what_dynamodb_does_not_call_a_number_is_refused(read: Reader, text: str) -> None:
    with pytest.raises(MalformedValue, match=r"^malformed attribute value: N "):
        read({"N": text})
    with pytest.raises(MalformedValue):
        read({"NS": ["1", text]})


# --- decode: sizes -------------------------------------------------------------------------------


@READERS
@pytest.mark.parametrize("nest", [in_lists, in_maps])
def test_32_levels_are_read_and_33_are_refused(
    read: Reader, nest: Callable[[int], dict[str, Any]]
) -> None:
    assert read(nest(MAX_DEPTH))
    with pytest.raises(MalformedValue, match="nested deeper than 32 levels") as refused:
        read(nest(MAX_DEPTH + 1))
    assert len(refused.value.path) == MAX_DEPTH


@READERS
@pytest.mark.parametrize("nest", [in_lists, in_maps])
def test_5000_levels_are_refused_without_a_recursion_error(
    read: Reader, nest: Callable[[int], dict[str, Any]]
) -> None:
    with pytest.raises(MalformedValue, match="nested deeper"):
        read(nest(5_000))


def test_an_empty_container_counts_as_a_level() -> None:
    wire: dict[str, Any] = {"L": []}
    for _ in range(MAX_DEPTH - 1):
        wire = {"M": {"a": wire}}
    assert decode(wire)
    with pytest.raises(MalformedValue):
        decode({"L": [wire]})


@READERS
def test_10000_attributes_are_read(read: Reader) -> None:
    wire: dict[str, Any] = {"M": {f"attribute {n}": {"N": str(n)} for n in range(10_000)}}
    assert read(wire)
    assert decode(wire)["attribute 9999"] == 9999


@pytest.mark.parametrize(
    ("wire", "size"),
    [
        ({"S": "x" * 400 * 1024}, 400 * 1024),
        ({"B": "YWFh" * (400 * 1024 // 3)}, 400 * 1024 // 3 * 3),
        ({"L": [{"BOOL": True}] * 200_000}, 200_000),
    ],
    ids=["text", "binary", "list"],
)
def test_400_kilobytes_are_read(wire: dict[str, Any], size: int) -> None:
    assert len(decode(wire)) == size


def test_containers_are_fresh_at_every_read() -> None:
    wire: dict[str, Any] = {"L": [{"M": {"a": {"L": []}}}]}
    first = decode(wire)
    first[0]["a"].append("mine")
    assert decode(wire) == [{"a": []}]


# --- refusals ------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[Any, str]] = {
    "no dict: None": (None, "expected a map with one type descriptor, got NoneType"),
    "no dict: text": (MARKER, "expected a map with one type descriptor, got str"),
    "no dict: a list": ([{"S": MARKER}], "expected a map with one type descriptor, got list"),
    "no descriptor": ({}, "expected exactly one type descriptor, got 0"),
    "two descriptors": ({"S": MARKER, "N": "1"}, "expected exactly one type descriptor, got 2"),
    "an unknown descriptor": ({MARKER: "1"}, "unknown type descriptor"),
    "a descriptor in lower case": ({"s": MARKER}, "unknown type descriptor"),
    "a descriptor that is no text": ({1: MARKER}, "unknown type descriptor"),
    "S with a number": ({"S": 1}, "S holds int, not text"),
    "S with null": ({"S": None}, "S holds NoneType, not text"),
    "S with bytes": ({"S": MARKER.encode()}, "S holds bytes, not text"),
    "N with a number": ({"N": 1}, "N holds int, not text"),
    "N with a float": ({"N": 1.5}, "N holds float, not text"),
    "N with a Decimal": ({"N": Decimal(1)}, "N holds Decimal, not text"),
    "N with words": ({"N": MARKER}, "N is not a decimal number"),
    "B with a number": ({"B": 1}, "B holds int, not base64 text or bytes"),
    "B that is no base64": ({"B": MARKER + "!"}, "B is not base64 text"),
    "B with a line break": ({"B": "Zm9v\nYmFy"}, "B is not base64 text"),
    "B with a space": ({"B": "Zm9v YmFy"}, "B is not base64 text"),
    "B without its padding": ({"B": "Zg"}, "B is not base64 text"),
    "B in the URL alphabet": ({"B": "_-__"}, "B is not base64 text"),
    "B that is not ASCII": ({"B": "Zm9vé" + MARKER}, "B is not base64 text"),
    "BOOL with text": ({"BOOL": MARKER}, "BOOL holds str, not a boolean"),
    "BOOL with a number": ({"BOOL": 1}, "BOOL holds int, not a boolean"),
    "NULL with false": ({"NULL": False}, "NULL holds something else than true"),
    "NULL with one": ({"NULL": 1}, "NULL holds something else than true"),
    "NULL with text": ({"NULL": MARKER}, "NULL holds something else than true"),
    "SS with text": ({"SS": MARKER}, "a set holds str, not a list"),
    "SS with a map": ({"SS": {MARKER: 1}}, "a set holds dict, not a list"),
    "SS with a number": ({"SS": ["a", 1]}, "S holds int, not text"),
    "SS with a value": ({"SS": [{"S": MARKER}]}, "S holds dict, not text"),
    "NS with a number": ({"NS": [1]}, "N holds int, not text"),
    "NS with words": ({"NS": ["1", MARKER]}, "N is not a decimal number"),
    "BS with words": ({"BS": [MARKER + "!"]}, "B is not base64 text"),
    "BS with null": ({"BS": [None]}, "B holds NoneType, not base64 text or bytes"),
    "L with text": ({"L": MARKER}, "L holds str, not a list"),
    "L with a map": ({"L": {"S": MARKER}}, "L holds dict, not a list"),
    "L with null": ({"L": None}, "L holds NoneType, not a list"),
    "M with a list": ({"M": [MARKER]}, "M holds list, not a map"),
    "M with text": ({"M": MARKER}, "M holds str, not a map"),
    "M with a name that is no text": (
        {"M": {1: {"S": MARKER}}},
        "M has an attribute name that is not text",
    ),
}


@READERS
@pytest.mark.parametrize(("wire", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_malformed_value_is_refused_by_type_and_never_quoted(
    read: Reader, wire: Any, reason: str
) -> None:
    with pytest.raises(MalformedValue) as refused:
        read(wire)
    error = refused.value
    assert (error.reason, error.path) == (reason, ())
    assert str(error) == f"malformed attribute value: {reason}"
    printed = repr(error) + "".join(traceback.format_exception(error))
    assert MARKER not in printed


@READERS
@pytest.mark.parametrize(("wire", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_malformed_value_inside_others_is_named_by_its_path(
    read: Reader, wire: Any, reason: str
) -> None:
    outer = {"M": {"cart": {"L": [{"S": MARKER}, {"M": {"it's": wire}}]}}}
    with pytest.raises(MalformedValue) as refused:
        read(outer)
    assert refused.value.path == ("cart", 1, "it's")
    assert str(refused.value) == (f"""malformed attribute value at ['cart'][1]["it's"]: {reason}""")
    assert MARKER not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize("wire", [None, [], {}, {"X": 1}, {"S": "a", "N": "1"}])
def test_the_type_of_a_value_needs_exactly_one_known_descriptor(wire: Any) -> None:
    with pytest.raises(MalformedValue):
        type_of(wire)
