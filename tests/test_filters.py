"""What filters are true of. Each row: a filter, the old item, the new item, what it says.

No old item means INSERT, no new item REMOVE, both MODIFY. ``Wire`` stands for a raw value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any

import pytest

from dynaflow.codec import decode_records
from dynaflow.encoding import encode
from dynaflow.errors import ImageMissing, MalformedValue
from dynaflow.filters import F, Filter, PathRef, added, changed, crossed, removed
from dynaflow.record import Record
from tests.support.ids import stable_id

Item = Mapping[str, Any]
NULL = None
YES, NO = True, False
BIG = Decimal("99999999999999999999999999999999999998")  # 38 digits; a float would round it


@dataclass
class Wire:
    """A value as it is on the wire, for what ``encode`` never writes."""

    value: Any


class Status(StrEnum):
    PAID = "paid"


class Level(IntEnum):
    HIGH = 3


class Colour(Enum):
    RED = "red"


class Legacy(str, Enum):  # noqa: UP042  # many code bases have enums of this older form
    PAID = "paid"


def record(old: Item | None, new: Item | None, view_type: str | None = None) -> Record:
    """Return the record of this change, with the images that the view type carries."""
    event_name = "INSERT" if old is None else "REMOVE" if new is None else "MODIFY"
    stream: dict[str, Any] = {"Keys": {"id": {"S": "o-1"}}, "SequenceNumber": "1"}
    if view_type is not None:
        stream["StreamViewType"] = view_type
    if new is not None and view_type in (None, "NEW_IMAGE", "NEW_AND_OLD_IMAGES"):
        stream["NewImage"] = wire(new)
    if old is not None and view_type in (None, "OLD_IMAGE", "NEW_AND_OLD_IMAGES"):
        stream["OldImage"] = wire(old)
    (decoded,) = decode_records([{"eventName": event_name, "dynamodb": stream}], "")
    assert isinstance(decoded, Record)
    return decoded


def wire(item: Item) -> dict[str, Any]:
    """Return the item's raw attributes."""
    return {n: v.value if isinstance(v, Wire) else encode(v) for n, v in item.items()}


Row = tuple[Filter, Item | None, Item | None, bool | type[Exception]]

EQUALITY: list[Row] = [
    (F.new.a == "x", None, {"a": "x"}, True),
    (F.new.a == "x", None, {"a": "X"}, False),
    (F.new.a == "x", None, {"a": b"x"}, False),
    (F.new.a == "x", None, {"a": {"x"}}, False),
    (F.new.a == "x", None, {"a": ["x"]}, False),
    (F.new.a == "x", None, {"b": "x"}, False),
    (F.new.a == "", None, {"a": ""}, True),
    (F.new.a == 1, None, {"a": 1}, True),
    (F.new.a == 1, None, {"a": Wire({"N": "1.0"})}, True),
    (F.new.a == 100, None, {"a": Wire({"N": "1E+2"})}, True),
    (F.new.a == 0, None, {"a": Wire({"N": "-0"})}, True),
    (F.new.a == 1, None, {"a": "1"}, False),
    (F.new.a == 1, None, {"a": True}, False),
    (F.new.a == YES, None, {"a": 1}, False),
    (F.new.a == YES, None, {"a": True}, True),
    (F.new.a == NO, None, {"a": True}, False),
    (F.new.a == BIG, None, {"a": BIG}, True),
    (F.new.a == BIG, None, {"a": BIG + 1}, False),
    (F.new.a == Decimal("0.1"), None, {"a": Wire({"N": ".10"})}, True),
    (F.new.a == NULL, None, {"a": None}, True),
    (F.new.a == NULL, None, {"a": False}, False),
    (F.new.a == NULL, None, {}, False),
    (F.new.a == b"\xff\x00", None, {"a": Wire({"B": "/wA="})}, True),
    (F.new.a == b"\xff\x00", None, {"a": Wire({"B": b"\xff\x00"})}, True),
    (F.new.a == b"\xff", None, {"a": Wire({"B": b"\xff\x00"})}, False),
    (F.new.a == {1, 2}, None, {"a": Wire({"NS": ["2.0", "1"]})}, True),
    (F.new.a == {"1", "2"}, None, {"a": {1, 2}}, False),
    (F.new.a == {b"\xff"}, None, {"a": Wire({"BS": [b"\xff"]})}, True),
    (F.new.a == [1, "x"], None, {"a": [1, "x"]}, True),
    (F.new.a == [1, "x"], None, {"a": ["x", 1]}, False),
    (F.new.a == [1], None, {"a": [True]}, False),
    (F.new.a == {"b": [1]}, None, {"a": {"b": [1]}}, True),
    (F.new.a == {"b": 1}, None, {"a": {"b": 1, "c": 1}}, False),
    (F.new.a != "x", None, {"a": "y"}, True),
    (F.new.a != "x", None, {"a": "x"}, False),
    (F.new.a != "x", None, {"a": 1}, True),
    (F.new.a != "x", None, {}, True),
    (F.new.a == Status.PAID, None, {"a": "paid"}, True),
    (F.new.a == Legacy.PAID, None, {"a": "paid"}, True),
    (F.new.a == Level.HIGH, None, {"a": 3}, True),
    (F.new.a == Colour.RED, None, {"a": "red"}, True),
    (F.new.a.is_in(["x", 1]), None, {"a": "x"}, True),
    (F.new.a.is_in(["x", 1]), None, {"a": Wire({"N": "1.0"})}, True),
    (F.new.a.is_in(["x", 1]), None, {"a": True}, False),
    (F.new.a.is_in(["x", 1]), None, {}, False),
    (F.new.a.is_in({None}), None, {"a": None}, True),
    (F.new.a.is_in(letter for letter in "xy"), None, {"a": "y"}, True),
    (F.new.a.is_in([["x"]]), None, {"a": ["x"]}, True),
]

ORDER: list[Row] = [
    (F.new.a > 9, None, {"a": 10}, True),
    (F.new.a > 9, None, {"a": 9}, False),
    (F.new.a > 9, None, {"a": "99"}, False),
    (F.new.a > 9, None, {}, False),
    (F.new.a >= 9, None, {"a": Wire({"N": "9.0"})}, True),
    (F.new.a < 9, None, {"a": Decimal("8.99")}, True),
    (F.new.a < 9, None, {"a": 9}, False),
    (F.new.a < 9, None, {"a": None}, False),
    (F.new.a < 9, None, {"a": False}, False),
    (F.new.a <= 9, None, {"a": 9}, True),
    (F.new.a <= 9, None, {"a": Decimal("9.01")}, False),
    (F.new.a < BIG + 1, None, {"a": BIG}, True),
    (F.new.a < BIG, None, {"a": BIG}, False),
    (F.new.a > "10", None, {"a": "9"}, True),
    (F.new.a > "Z", None, {"a": "a"}, True),
    (F.new.a > "\uffff", None, {"a": "\U0001f600"}, True),  # UTF-16 would order it the other way
    (F.new.a > b"\x7f", None, {"a": Wire({"B": "/w=="})}, True),
    (F.new.a > b"\x7f", None, {"a": Wire({"B": b"\xff"})}, True),
    (F.new.a < b"Zg", None, {"a": Wire({"B": "ZgA="})}, False),  # bytewise, not as base64 text
    (F.new.a.between(1, 5), None, {"a": 1}, True),
    (F.new.a.between(1, 5), None, {"a": 5}, True),
    (F.new.a.between(1, 5), None, {"a": Decimal("0.99")}, False),
    (F.new.a.between(1, 5), None, {"a": Decimal("5.01")}, False),
    (F.new.a.between(1, 5), None, {"a": "3"}, False),
    (F.new.a.between(1, 5), None, {}, False),
    (F.new.a.between("b", "b"), None, {"a": "b"}, True),
    (F.new.a > F.old.a, {"a": 1}, {"a": 2}, True),
    (F.new.a > F.old.a, {"a": 2}, {"a": 2}, False),
    (F.new.a > F.old.a, {"a": 1}, {"a": "2"}, False),
    (F.new.a > F.old.a, {"a": [1]}, {"a": [2]}, False),
    (F.new.a > F.old.a, {}, {"a": 2}, False),
    (F.new.a > F.old.a, None, {"a": 2}, False),
    (F.new.a < F.new.b, None, {"a": 2}, False),
    (F.new.a == F.new.b, None, {"a": 1, "b": Wire({"N": "1.0"})}, True),
    (F.new.a == F.new.b, None, {"a": 1, "b": "1"}, False),
    (F.new.a == F.new.b, None, {}, False),
    (F.new.a != F.new.b, None, {}, True),
    (F.new.a != F.new.b, None, {"a": 1}, True),
    (F.new.a != F.new.b, None, {"a": 1, "b": 1}, False),
    (F.new.owner == F.keys.id, None, {"owner": "o-1"}, True),
]

PARTS: list[Row] = [
    (F.new.a.startswith("ab"), None, {"a": "abc"}, True),
    (F.new.a.startswith("bc"), None, {"a": "abc"}, False),
    (F.new.a.startswith("ab"), None, {"a": b"abc"}, False),
    (F.new.a.startswith("ab"), None, {"a": ["ab"]}, False),
    (F.new.a.startswith("ab"), None, {}, False),
    (F.new.a.startswith(b"\xff"), None, {"a": Wire({"B": "/wA="})}, True),
    (F.new.a.endswith("bc"), None, {"a": "abc"}, True),
    (F.new.a.endswith("ab"), None, {"a": "abc"}, False),
    (F.new.a.endswith(b"\x00"), None, {"a": Wire({"B": b"\xff\x00"})}, True),
    (F.new.a.contains("b"), None, {"a": "abc"}, True),
    (F.new.a.contains("d"), None, {"a": "abc"}, False),
    (F.new.a.contains("b"), None, {"a": {"a", "b"}}, True),
    (F.new.a.contains("b"), None, {"a": {"ab"}}, False),
    (F.new.a.contains("b"), None, {"a": ["a", "b"]}, True),
    (F.new.a.contains("b"), None, {"a": {"b": 1}}, False),
    (F.new.a.contains("b"), None, {"a": b"abc"}, False),
    (F.new.a.contains("b"), None, {}, False),
    (F.new.a.contains(1), None, {"a": Wire({"NS": ["1.0", "2"]})}, True),
    (F.new.a.contains(1), None, {"a": {"1"}}, False),
    (F.new.a.contains(1), None, {"a": 1}, False),
    (F.new.a.contains(1), None, {"a": [Decimal("1.0")]}, True),
    (F.new.a.contains(1), None, {"a": [True]}, False),
    (F.new.a.contains(b"bc"), None, {"a": Wire({"B": "YWJjZA=="})}, True),
    (F.new.a.contains(b"bc"), None, {"a": {b"bc", b"d"}}, True),
    (F.new.a.contains(None), None, {"a": [1, None]}, True),
    (F.new.a.contains(None), None, {"a": None}, False),
    (F.new.a.contains(True), None, {"a": True}, False),
    (F.new.a.contains({"b": 1}), None, {"a": [{"b": 1}]}, True),
    (F.new.a.exists(), None, {"a": ""}, True),
    (F.new.a.exists(), None, {"a": None}, True),
    (F.new.a.exists(), None, {"b": 1}, False),
    (F.new.a.is_type("NS"), None, {"a": {1}}, True),
    (F.new.a.is_type("NULL"), None, {"a": None}, True),
    (F.new.a.is_type("N"), None, {"a": "1"}, False),
    (F.new.a.is_type("N"), None, {}, False),
]

PATHS: list[Row] = [
    (F.new["weird.name"] == 1, None, {"weird.name": 1, "weird": {"name": 2}}, True),
    (F.new["exists"] == 1, None, {"exists": 1}, True),
    (F.new["__class__"] == 1, None, {"__class__": 1}, True),
    (F.new[Status.PAID] == 1, None, {"paid": 1}, True),
    (F.new[Legacy.PAID] == 1, None, {"paid": 1}, True),
    (F.new._private == 1, None, {"_private": 1}, True),
    (F.new.straße == 1, None, {"straße": 1}, True),
    (F.new.items_[0].sku == "x", None, {"items_": [{"sku": "x"}]}, True),
    (F.new.items_[1].sku == "x", None, {"items_": [{"sku": "x"}]}, False),
    (F.new.a.b["c.d"][0] == 1, None, {"a": {"b": {"c.d": [1]}}}, True),
    (F.new.a.b.exists(), None, {"a": {"b": None}}, True),
    (F.new.a.b.exists(), None, {"a": {"c": 1}}, False),
    (F.new.a.b.exists(), None, {"a": [{"b": 1}]}, False),
    (F.new.a.b.c.exists(), None, {"a": {"b": "c"}}, False),
    (F.new.a.b.c.exists(), None, {}, False),
    (F.new.a[0].exists(), None, {"a": {"0": 1}}, False),
    (F.new.a[0].exists(), None, {"a": {1}}, False),
    (F.new.a[0].exists(), None, {"a": "x"}, False),
    (F.new.a["0"].exists(), None, {"a": [1]}, False),
    (F.new.a[0][1] == 2, None, {"a": [[1, 2]]}, True),
    (F.keys.id == "o-1", {"id": "o-1"}, None, True),
    (F.keys.other.exists(), {"id": "o-1"}, None, False),
    (F.new.a == 1, {"a": 1}, None, False),
    (F.new.a != 1, {"a": 1}, None, True),
    (F.old.a == 1, {"a": 1}, None, True),
    (F.old.a == 1, None, {"a": 1}, False),
    (F.old.a == 1, {"a": 1}, {"a": 2}, True),
]

CHANGES: list[Row] = [
    (changed("a"), {"a": 1}, {"a": 2}, True),
    (changed("a"), {"a": 1}, {"a": "1"}, True),
    (changed("a"), {"a": 1}, {"a": Wire({"N": "1.0"})}, False),
    (changed("a"), {"a": Wire({"B": "/w=="})}, {"a": Wire({"B": b"\xff"})}, False),
    (changed("a"), {"a": Wire({"SS": ["x", "y"]})}, {"a": Wire({"SS": ["y", "x"]})}, False),
    (changed("a"), {"a": {"b": 1}}, {"a": {"b": 2}}, True),
    (changed("a"), {}, {"a": None}, True),
    (changed("a"), {"a": None}, {}, True),
    (changed("a"), {}, {}, False),
    (changed("a"), None, {"a": 1}, True),
    (changed("a"), None, {}, False),
    (changed("a"), {"a": 1}, None, True),
    (changed("a", to="paid"), {"a": "open"}, {"a": "paid"}, True),
    (changed("a", to="paid"), {"a": "paid"}, {"a": "paid"}, False),
    (changed("a", to="paid"), {"a": "open"}, {"a": "sent"}, False),
    (changed("a", to="paid"), None, {"a": "paid"}, True),
    (changed("a", to="paid"), {"a": "paid"}, None, False),
    (changed("a", to=None), {"a": 1}, {"a": None}, True),
    (changed("a", to=None), {"a": 1}, {}, False),
    (changed("a", was="open"), {"a": "open"}, {"a": "paid"}, True),
    (changed("a", was="open"), {"a": "sent"}, {"a": "paid"}, False),
    (changed("a", was="open"), {"a": "open"}, {"a": "open"}, False),
    (changed("a", was="open"), {"a": "open"}, None, True),
    (changed("a", was="open"), None, {"a": "paid"}, False),
    (changed("a", was=None), {}, {"a": 1}, False),
    (changed("a", was=1, to=2), {"a": 1}, {"a": 2}, True),
    (changed("a", was=1, to=2), {"a": 1}, {"a": 3}, False),
    (changed("a", was=1, to=2), {"a": 0}, {"a": 2}, False),
    (changed("a.b"), {"a.b": 1}, {"a.b": 2}, True),
    (changed("a.b"), {"a": {"b": 1}}, {"a": {"b": 2}}, False),
    (changed(F.new.a.b), {"a": {"b": 1}}, {"a": {"b": 2}}, True),
    (changed(F.old.a[0], to=2), {"a": [1]}, {"a": [2]}, True),
    (changed(F.new.a.b), {"a": {"b": 1, "c": 1}}, {"a": {"b": 1, "c": 2}}, False),
    (added("a"), {}, {"a": None}, True),
    (added("a"), {"a": 1}, {"a": 2}, False),
    (added("a"), {"a": 1}, {}, False),
    (added("a"), {}, {}, False),
    (added("a"), None, {"a": 1}, True),
    (added("a"), {"a": 1}, None, False),
    (added(F.new.a.b), {"a": {}}, {"a": {"b": 1}}, True),
    (removed("a"), {"a": None}, {}, True),
    (removed("a"), {"a": 1}, {"a": None}, False),
    (removed("a"), {}, {"a": 1}, False),
    (removed("a"), {}, {}, False),
    (removed("a"), {"a": 1}, None, True),
    (removed("a"), None, {"a": 1}, False),
    (crossed("a", above=10), {"a": 10}, {"a": 11}, True),
    (crossed("a", above=10), {"a": 11}, {"a": 12}, False),
    (crossed("a", above=10), {"a": 9}, {"a": 10}, False),
    (crossed("a", above=10), {"a": 11}, {"a": 9}, False),
    (crossed("a", above=10), {}, {"a": 11}, True),
    (crossed("a", above=10), {"a": "11"}, {"a": 11}, True),
    (crossed("a", above=10), {"a": 9}, {"a": "11"}, False),
    (crossed("a", above=10), None, {"a": 11}, True),
    (crossed("a", above=10), {"a": 9}, None, False),
    (crossed("a", below=Decimal("0.5")), {"a": Decimal("0.5")}, {"a": Decimal("0.4")}, True),
    (crossed("a", below=0), {"a": -1}, {"a": -2}, False),
    (crossed("a", below=0), {"a": 1}, {"a": 0}, False),
    (crossed("a", above="m"), {"a": "a"}, {"a": "z"}, True),
    (crossed(F.new.a.b, below=b"m"), {"a": {"b": b"z"}}, {"a": {"b": b"a"}}, True),
]

MALFORMED: list[Row] = [
    (F.new.a == 1, None, {"a": Wire({"N": "one"})}, MalformedValue),
    (F.new.a == "x", None, {"a": Wire({"N": "one"})}, False),  # N is not S, whatever it holds
    (F.new.a == "x", None, {"a": Wire({"S": 1})}, MalformedValue),
    (F.new.a == "x", None, {"a": Wire({"S": "x", "N": "1"})}, MalformedValue),
    (F.new.a == "x", None, {"a": Wire({})}, MalformedValue),
    (F.new.a == "x", None, {"a": Wire(None)}, MalformedValue),
    (F.new.a == "x", None, {"a": Wire({"X": "x"})}, MalformedValue),
    (F.new.a != "x", None, {"a": Wire("x")}, MalformedValue),
    (F.new.b == "x", None, {"a": Wire("x"), "b": "x"}, True),  # not read, so not noticed
    (F.new.a > b"", None, {"a": Wire({"B": "no base64"})}, MalformedValue),
    (F.new.a.is_type("S"), None, {"a": Wire("x")}, MalformedValue),
    (F.new.a.contains("x"), None, {"a": Wire({"SS": "x"})}, MalformedValue),
    (F.new.a.b.exists(), None, {"a": Wire({"M": []})}, MalformedValue),
    (F.new.a[0].exists(), None, {"a": Wire({"L": {}})}, MalformedValue),
    (F.new.a.b == 1, None, {"a": Wire("x")}, MalformedValue),
    (F.new.a > F.old.a, {"a": Wire({"N": ""})}, {"a": 1}, MalformedValue),
    (changed("a", to=1), {"a": Wire({"NULL": False})}, {"a": 1}, MalformedValue),
    (crossed("a", above=1), {"a": Wire({"N": "x"})}, {"a": 2}, MalformedValue),
]

ROWS = [*EQUALITY, *ORDER, *PARTS, *PATHS, *CHANGES, *MALFORMED]


@pytest.mark.parametrize(("condition", "old", "new", "expected"), ROWS, ids=stable_id)
def test_a_filter_is_true_of(
    condition: Filter, old: Item | None, new: Item | None, expected: bool | type[Exception]
) -> None:
    change = record(old, new, "NEW_AND_OLD_IMAGES")

    if isinstance(expected, bool):
        assert condition(change) is expected
        assert (~condition)(change) is not expected
    else:
        with pytest.raises(expected):
            condition(change)


X, Y = {"a": 1}, {"a": 2}

VIEW_TYPES: list[tuple[Filter, Item | None, Item | None, str | None, bool | type[Exception]]] = [
    (F.new.a == 2, None, Y, "NEW_IMAGE", True),
    (F.new.a == 2, None, Y, "OLD_IMAGE", ImageMissing),
    (F.new.a == 2, None, Y, "KEYS_ONLY", ImageMissing),
    (F.new.a == 2, X, Y, "OLD_IMAGE", ImageMissing),
    (F.new.a == 2, X, Y, "KEYS_ONLY", ImageMissing),
    (F.new.a == 2, X, None, "OLD_IMAGE", False),  # a REMOVE has no new image under any view type
    (F.new.a == 2, X, None, "KEYS_ONLY", False),
    (F.new.a != 2, X, Y, "KEYS_ONLY", ImageMissing),
    (~F.new.a.exists(), X, Y, "KEYS_ONLY", ImageMissing),
    (F.new.id == "o-1", X, Y, "KEYS_ONLY", ImageMissing),
    (F.keys.id == "o-1", X, Y, "KEYS_ONLY", True),
    (F.old.a == 1, X, Y, "OLD_IMAGE", True),
    (F.old.a == 1, X, Y, "NEW_IMAGE", ImageMissing),
    (F.old.a == 1, X, None, "NEW_IMAGE", ImageMissing),
    (F.old.a == 1, X, None, "KEYS_ONLY", ImageMissing),
    (F.old.a == 1, None, Y, "NEW_IMAGE", False),  # an INSERT has no old image
    (F.old.a == 1, None, Y, "KEYS_ONLY", False),
    (F.new.a > F.old.a, X, Y, "NEW_IMAGE", ImageMissing),
    (F.old.a < F.new.a, X, Y, "OLD_IMAGE", ImageMissing),
    (changed("a"), None, Y, "NEW_IMAGE", True),
    (changed("a"), X, Y, "NEW_IMAGE", ImageMissing),
    (changed("a", to=3), X, Y, "NEW_IMAGE", ImageMissing),
    (changed("a"), X, None, "OLD_IMAGE", True),
    (changed("a"), X, Y, "OLD_IMAGE", ImageMissing),
    (added("a"), X, Y, "NEW_IMAGE", ImageMissing),
    (added("a"), None, Y, "NEW_IMAGE", True),
    (removed("a"), X, Y, "NEW_IMAGE", ImageMissing),
    (removed("a"), X, None, "OLD_IMAGE", True),
    (crossed("a", above=1), X, Y, "NEW_IMAGE", ImageMissing),
    (crossed("a", above=1), None, Y, "NEW_IMAGE", True),
    (F.new.a == 2, X, Y, None, True),  # nothing is known, so what is there is all there is
]


@pytest.mark.parametrize(
    ("condition", "old", "new", "view_type", "expected"), VIEW_TYPES, ids=stable_id
)
def test_an_image_that_the_view_type_leaves_out_is_an_error_and_not_a_missing_value(
    condition: Filter,
    old: Item | None,
    new: Item | None,
    view_type: str | None,
    expected: bool | type[Exception],
) -> None:
    change = record(old, new, view_type)

    if isinstance(expected, bool):
        assert condition(change) is expected
    else:
        with pytest.raises(expected):
            condition(change)


def test_a_record_without_a_view_type_and_without_the_image_has_nothing_in_it() -> None:
    change = record(X, Y, "KEYS_ONLY")
    del change.raw["dynamodb"]["StreamViewType"]

    assert (F.new.a == 2)(change) is False


@pytest.mark.parametrize(
    ("condition", "expression"),
    [
        (F.old.status == "paid", "F.old.status == 'paid'"),
        (~F.old["a.b"].exists() & (F.new.a == 1), 'F.old["a.b"].exists()'),
        (changed("status", to="paid"), "changed(F.new.status)"),
        (crossed("a", above=1), "F.old.a > 1"),
    ],
)
def test_the_error_about_a_missing_image_names_expression_view_type_event_and_remedy(
    condition: Filter, expression: str
) -> None:
    with pytest.raises(ImageMissing) as caught:
        condition(record(X, Y, "NEW_IMAGE"))

    message = str(caught.value)
    for part in (expression, "NEW_IMAGE", "MODIFY", "NEW_AND_OLD_IMAGES", "a new ARN"):
        assert part in message


MARKER = "pa55w0rd"  # stands for item data


@pytest.mark.parametrize(
    ("condition", "value", "path"),
    [
        (F.new.a == 1, {"N": MARKER}, ("new", "a")),
        (F.new.a == {"b": 1}, {"M": {"b": {"N": MARKER}}}, ("new", "a", "b")),
        (F.new.a.b[1].c == 1, {"M": {"b": {"L": [0, {"M": MARKER}]}}}, ("new", "a", "b", 1)),
        (F.new.a.b == 1, {"M": {"b": MARKER}}, ("new", "a", "b")),
        (F.new.a.b.c == 1, {"M": {"b": MARKER}}, ("new", "a", "b")),
        (F.new.a.b == 1, MARKER, ("new", "a")),
        (changed(F.new.a[0]), {"L": [{"S": [MARKER]}]}, ("new", "a", 0)),
        (F.new.x != F.new.a, {"N": MARKER}, ("new", "a")),
    ],
)
def test_a_malformed_value_is_named_by_image_and_path_and_never_quoted(
    condition: Filter, value: Any, path: tuple[str | int, ...]
) -> None:
    with pytest.raises(MalformedValue) as caught:
        condition(record(None, {"a": Wire(value), "x": 1}))

    assert caught.value.path == path
    assert MARKER not in str(caught.value)


def test_a_filter_tells_which_paths_it_reads() -> None:
    condition = (F.new.a.b[0] == 1) & ~(F.keys.id > F.old.c) | changed("d", to=1)

    assert set(condition.paths()) == {
        PathRef("new", ("a", "b", 0)),
        PathRef("keys", ("id",)),
        PathRef("old", ("c",)),
        PathRef("new", ("d",)),
        PathRef("old", ("d",)),
    }
    for both in (changed(F.old.a), added("a"), removed("a"), crossed("a", below=1)):
        assert set(both.paths()) == {PathRef("new", ("a",)), PathRef("old", ("a",))}
    assert list((F.keys.id == 1).paths()) == [PathRef("keys", ("id",))]
