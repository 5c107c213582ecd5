from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any

import pytest

from dynaflow.encoding import encode
from dynaflow.values import MAX_DEPTH, canonical, decode, json_default, to_boto, type_of
from tests.support.ids import stable_id


class Colour(str, Enum):  # noqa: UP042 - this is how enums were written before StrEnum
    RED = "red"


class Size(int, Enum):
    SMALL = 1


class Level(IntEnum):
    LOW = 1


# --- canonical: DynamoDB's equality ---------------------------------------------------------------

EQUAL: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"N": "1"}, {"N": "1.0"}),
    ({"N": "100"}, {"N": "1E+2"}),
    ({"N": "0"}, {"N": "-0.00"}),
    ({"B": "YQ=="}, {"B": b"a"}),
    ({"SS": ["a", "b"]}, {"SS": ["b", "a"]}),
    ({"NS": ["1", "2"]}, {"NS": ["2.0", "1.0"]}),
    ({"BS": ["YQ==", "Yg=="]}, {"BS": [b"b", b"a"]}),
    ({"M": {"a": {"N": "1"}, "b": {"S": ""}}}, {"M": {"b": {"S": ""}, "a": {"N": "1.0"}}}),
    ({"L": [{"N": "1"}]}, {"L": [{"N": "1.0"}]}),
]

DIFFERENT: list[dict[str, Any]] = [
    {"S": "1"},
    {"N": "1"},
    {"B": "MQ=="},
    {"BOOL": True},
    {"BOOL": False},
    {"NULL": True},
    {"S": ""},
    {"B": ""},
    {"SS": ["1"]},
    {"NS": ["1"]},
    {"BS": ["MQ=="]},
    {"L": []},
    {"M": {}},
    {"L": [{"S": "1"}]},
    {"L": [{"N": "1"}]},
    {"L": [{"BOOL": True}]},
    {"L": [{"N": "1"}, {"N": "2"}]},
    {"L": [{"N": "2"}, {"N": "1"}]},
    {"M": {"1": {"N": "1"}}},
    {"M": {"1": {"BOOL": True}}},
    {"N": "1" * 37 + "1"},
    {"N": "1" * 37 + "2"},
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_values_that_dynamodb_calls_equal_are_equal(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert canonical(one) == canonical(other)
    assert hash(canonical(one)) == hash(canonical(other))


def test_values_of_different_types_or_contents_all_differ() -> None:
    assert len({canonical(value) for value in DIFFERENT}) == len(DIFFERENT)
    assert all(canonical(value)[0] == type_of(value) for value in DIFFERENT)


# --- to_boto --------------------------------------------------------------------------------------


def test_binaries_become_bytes_and_all_else_stays() -> None:
    wire = {
        "M": {
            "text": {"S": "x"},
            "number": {"N": "1.50"},
            "binary": {"B": "YQ=="},
            "binaries": {"L": [{"BS": ["Yg==", "YQ=="]}]},
            "numbers": {"NS": ["2", "1"]},
            "yes": {"BOOL": True},
            "nothing": {"NULL": True},
        }
    }
    assert to_boto(wire) == {
        "M": {
            "text": {"S": "x"},
            "number": {"N": "1.50"},
            "binary": {"B": b"a"},
            "binaries": {"L": [{"BS": [b"a", b"b"]}]},
            "numbers": {"NS": ["2", "1"]},
            "yes": {"BOOL": True},
            "nothing": {"NULL": True},
        }
    }


def test_the_form_for_boto_shares_no_container_with_the_wire() -> None:
    wire: dict[str, Any] = {"M": {"a": {"L": [{"SS": ["x"]}]}}}
    boto = to_boto(wire)
    boto["M"]["a"]["L"][0]["SS"].append("mine")
    boto["M"]["a"]["L"].append({"S": "mine"})
    boto["M"]["mine"] = {"S": "mine"}
    assert wire == {"M": {"a": {"L": [{"SS": ["x"]}]}}}


# --- encode ---------------------------------------------------------------------------------------

ENCODED: dict[str, tuple[Any, dict[str, Any]]] = {
    "text": ("abc", {"S": "abc"}),
    "an enum of text": (Colour.RED, {"S": "red"}),
    "an int": (42, {"N": "42"}),
    "an int of 38 digits": (int("9" * 38), {"N": "9" * 38}),
    "an enum of ints": (Size.SMALL, {"N": "1"}),
    "an IntEnum": (Level.LOW, {"N": "1"}),
    "a Decimal": (Decimal("1.50"), {"N": "1.50"}),
    "the smallest number": (Decimal("1E-130"), {"N": "1E-130"}),
    "a zero with an exponent": (Decimal("0E-99999"), {"N": "0"}),
    "minus zero": (Decimal("-0.0"), {"N": "0"}),
    "true": (True, {"BOOL": True}),
    "none": (None, {"NULL": True}),
    "bytes": (b"a", {"B": "YQ=="}),
    "a bytearray": (bytearray(b"a"), {"B": "YQ=="}),
    "a memoryview": (memoryview(b"a"), {"B": "YQ=="}),
    "a list": ([1, "a", None], {"L": [{"N": "1"}, {"S": "a"}, {"NULL": True}]}),
    "a tuple": ((), {"L": []}),
    "a dict": ({"a": {"b": 1}}, {"M": {"a": {"M": {"b": {"N": "1"}}}}}),
    "a set of text": ({"b", "a"}, {"SS": ["a", "b"]}),
    "a frozen set of numbers": (frozenset({1, Decimal("2.5")}), {"NS": ["1", "2.5"]}),
    "a set of bytes": ({b"a"}, {"BS": ["YQ=="]}),
    "the keys of a dict": ({"a": 1}.keys(), {"SS": ["a"]}),
}


@pytest.mark.parametrize(("python", "wire"), ENCODED.values(), ids=ENCODED.keys())
def test_python_values_are_written_in_wire_form(python: Any, wire: dict[str, Any]) -> None:
    encoded = encode(python)
    assert encoded == wire
    assert decode(json.loads(json.dumps(encoded))) == decode(wire)


@pytest.mark.parametrize("value", [0.1, float("nan"), [1.0], {"a": {"b": 1.5}}, {0.5}])
def test_a_float_is_refused_and_the_error_says_what_to_write(value: Any) -> None:
    with pytest.raises(TypeError, match=r"a float is not exact: write Decimal\('0.1'\) or an int"):
        encode(value)


@pytest.mark.parametrize(
    "value",
    [
        set(),
        {1, "a"},
        {True},
        {None},
        {(1, 2)},
        object(),
        date(2026, 1, 1),
        {1: "a"},
        1j,
        range(3),
    ],
    ids=stable_id,
)
def test_what_dynamodb_has_no_type_for_is_refused(value: Any) -> None:
    with pytest.raises(TypeError):
        encode(value)


@pytest.mark.parametrize(
    "value",
    [
        int("1" * 39),
        Decimal("1E-131"),
        Decimal("1E+126"),
        Decimal("NaN"),
        Decimal("sNaN"),
        Decimal("-Infinity"),
        10**5_000,
    ],
    ids=lambda value: f"{value:.3}" if isinstance(value, Decimal) else "an int",
)
def test_a_number_that_dynamodb_cannot_store_is_refused(value: int | Decimal) -> None:
    with pytest.raises(ValueError, match=r"N has more than|N is outside|no NaN and no infinity"):
        encode(value)


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {"a": value}])
def test_python_values_nest_as_deep_as_wire_values(wrap: Callable[[Any], Any]) -> None:
    value: Any = "x"
    for _ in range(MAX_DEPTH):
        value = wrap(value)
    assert decode(encode(value)) == value
    for _ in range(5_000):
        value = wrap(value)
    with pytest.raises(ValueError, match="at most 32 levels"):
        encode(value)


# --- json_default ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("1"), "1"),
        (Decimal("1.0"), "1"),
        (Decimal("-0"), "0"),
        (Decimal("1E+2"), "100"),
        (Decimal("9" * 38), "9" * 38),
        (Decimal("1.5"), "1.5"),
        (Decimal("0.1"), "0.1"),
        (Decimal("1E-130"), "1e-130"),
        (Decimal("0.1234567890123456789"), '"0.1234567890123456789"'),
        (Decimal("1" * 19 + "." + "1" * 19), f'"{"1" * 19}.{"1" * 19}"'),
        (Decimal("NaN"), '"NaN"'),
        (Decimal("-Infinity"), '"-Infinity"'),
        (b"a", '"YQ=="'),
        (bytearray(b"a"), '"YQ=="'),
        ({"b", "a"}, '["a", "b"]'),
        ({Decimal("2.5"), Decimal(1)}, "[1, 2.5]"),
        (frozenset({b"b", b"a"}), '["YQ==", "Yg=="]'),
        (set(), "[]"),
        (date(2026, 1, 2), '"2026-01-02"'),
        (datetime(2026, 1, 2, 3, 4, tzinfo=timezone.utc), '"2026-01-02T03:04:00+00:00"'),
    ],
    ids=stable_id,
)
def test_decoded_values_become_json_without_losing_a_digit(value: Any, text: str) -> None:
    assert json.dumps(value, default=json_default) == text


def test_json_default_refuses_other_types_as_the_standard_library_does() -> None:
    with pytest.raises(TypeError, match="Object of type object is not JSON serializable"):
        json.dumps({"a": object()}, default=json_default)
