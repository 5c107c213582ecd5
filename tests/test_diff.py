"""``record.diff``: what was added, removed and changed. Rows: old item, new item, what differs."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynaflow import EventName, F, Record, changed
from dynaflow.codec import decode_event
from dynaflow.diff import AttributePath, Diff, ValueChange
from dynaflow.encoding import encode
from dynaflow.errors import ImageMissing, MalformedValue
from dynaflow.filters import Path
from dynaflow.testing import RecordBuilder
from dynaflow.values import canonical

Item = Mapping[str, Any]
KEY = {"id": "1"}
DEEPEST = 32  # levels, DynamoDB's limit


def record_of(raw: dict[str, Any]) -> Record:
    (record,), _ = decode_event({"Records": [raw]})
    assert isinstance(record, Record)
    return record


def modify(old: Item, new: Item, view_type: str = "NEW_AND_OLD_IMAGES") -> Record:
    build = RecordBuilder(view_type=view_type)
    return record_of(build.modify({**KEY, **old}, {**KEY, **new}))


def on_the_wire(old: Any, new: Any) -> Record:
    """Return the record of an item whose attribute ``a`` was and is the raw value."""
    raw = RecordBuilder().modify(KEY, KEY)
    raw["dynamodb"]["OldImage"]["a"] = old
    raw["dynamodb"]["NewImage"]["a"] = new
    return record_of(raw)


def told(diff: Diff) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return added, removed and changed with paths as they are written."""
    changes = {str(path): (value.old, value.new) for path, value in diff.changed.items()}
    added = {str(path): value for path, value in diff.added.items()}
    return added, {str(path): value for path, value in diff.removed.items()}, changes


@pytest.mark.parametrize(
    ("old", "new", "added", "removed", "changes"),
    [
        ({}, {}, {}, {}, {}),
        ({"a": 1}, {"a": 1}, {}, {}, {}),
        ({"a": "x"}, {"a": "y"}, {}, {}, {"a": ("x", "y")}),
        ({}, {"a": None}, {"a": None}, {}, {}),
        ({"a": None}, {}, {}, {"a": None}, {}),
        ({"a": None}, {"a": False}, {}, {}, {"a": (None, False)}),
        ({"a": True}, {"a": 1}, {}, {}, {"a": (True, 1)}),
        ({"a": "1"}, {"a": 1}, {}, {}, {"a": ("1", 1)}),
        ({"a": 1}, {"a": Decimal("1.0")}, {}, {}, {}),
        ({"a": {"x", "y"}}, {"a": {"y", "x"}}, {}, {}, {}),
        ({"a": {"x"}}, {"a": {"x", "y"}}, {}, {}, {"a": ({"x"}, {"x", "y"})}),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, {}, {}, {"a.b": (1, 2)}),
        ({"a": {"b": 1}}, {"a": {"c": 1}}, {"a.c": 1}, {"a.b": 1}, {}),
        ({"a": {}}, {"a": {"b": {"c": 1}}}, {"a.b": {"c": 1}}, {}, {}),
        ({"a": {"b": 1}}, {"a": [1]}, {}, {}, {"a": ({"b": 1}, [1])}),
        ({"a": {"b": 1}}, {"a": "b"}, {}, {}, {"a": ({"b": 1}, "b")}),
        ({"a": [1, 2]}, {"a": [1, 3]}, {}, {}, {"a[1]": (2, 3)}),
        ({"a": [1]}, {"a": [1, [2]]}, {"a[1]": [2]}, {}, {}),
        ({"a": [1, 2, 3]}, {"a": [1]}, {}, {"a[1]": 2, "a[2]": 3}, {}),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, {}, {}, {"a[0].b": (1, 2)}),
        ({"a.b": 1}, {"a.b": 2}, {}, {}, {'["a.b"]': (1, 2)}),
        ({"a": {"b.c": 1}}, {"a": {"b.c": 2}}, {}, {}, {'a["b.c"]': (1, 2)}),
        ({"a": {"0": 1}}, {"a": {"0": 2}}, {}, {}, {'a["0"]': (1, 2)}),
        ({"exists": 1}, {"exists": 2}, {}, {}, {'["exists"]': (1, 2)}),
    ],
)
def test_a_change_is_told_by_path(
    old: Item, new: Item, added: Item, removed: Item, changes: Item
) -> None:
    diff = modify(old, new).diff
    assert told(diff) == (added, removed, changes)
    assert bool(diff) == bool(added or removed or changes)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"N": "1"}, {"N": "1.0"}),
        ({"N": "100"}, {"N": "1E+2"}),
        ({"NS": ["1", "2"]}, {"NS": ["2.0", "1"]}),
        ({"B": "/wA="}, {"B": b"\xff\x00"}),
        ({"L": [{"M": {"x": {"N": "0"}}}]}, {"L": [{"M": {"x": {"N": "-0"}}}]}),
    ],
)
def test_what_dynamodb_calls_equal_does_not_differ(old: Any, new: Any) -> None:
    assert not on_the_wire(old, new).diff


def test_an_inserted_item_is_all_added_and_a_removed_one_all_removed() -> None:
    item = {**KEY, "address": {"city": "Oslo"}}
    inserted = record_of(RecordBuilder().insert(item)).diff
    assert told(inserted) == ({"id": "1", "address": {"city": "Oslo"}}, {}, {})
    removed = record_of(RecordBuilder().remove(item)).diff
    assert told(removed) == ({}, {"id": "1", "address": {"city": "Oslo"}}, {})
    assert told(record_of(RecordBuilder().expire(item)).diff) == told(removed)


def test_paths_are_tuples_and_a_text_is_one_attributes_name() -> None:
    diff = modify({"a.b": 1, "c": {"d": 1}}, {"a.b": 2, "c": {"d": 2}, "e": 0}).diff
    objects: list[Any] = [7, None, ["a.b"], ()]
    assert diff.changed["a.b"] == ValueChange(1, 2)
    assert diff.changed["c", "d"] == ValueChange(1, 2)
    assert diff.changed == {("a.b",): ValueChange(1, 2), ("c", "d"): ValueChange(1, 2)}
    assert "a.b" in diff.changed
    assert ("c", "d") in diff.changed
    assert "c.d" not in diff.changed
    assert "c" not in diff.changed
    assert not [other for other in objects if other in diff.changed]
    assert diff.added.get("e") == 0
    assert diff.added.get("f") is None
    assert len(diff.changed) == 2
    with pytest.raises(KeyError):
        diff.changed["e"]


def test_paths_come_in_the_order_of_the_new_image_then_of_what_it_lost() -> None:
    diff = modify({"z": 1, "b": {"y": 1, "x": 1}}, {"c": 0, "b": {"x": 2, "w": 0}, "a": 0}).diff
    assert [str(path) for path in diff.paths] == ["c", "b.x", "b.w", "b.y", "a", "z"]
    assert list(diff.added) == list(diff.added.keys()) == [("c",), ("b", "w"), ("a",)]


def test_no_repr_shows_data() -> None:
    diff = modify({"a": "secret", "b": {"c": "secret"}}, {"a": "secret2", "d": "secret"}).diff
    texts = [
        repr(diff),
        repr(diff.changed),
        repr(diff.changed["a"]),
        *map(repr, diff.paths),
    ]
    assert repr(diff) == "<Diff 1 added, 1 removed, 1 changed>"
    assert repr(diff.changed["a"]) == "<ValueChange from str to str>"
    assert repr(diff.paths[0]) == "<AttributePath a>"
    assert not [text for text in texts if "secret" in text]


def test_a_list_that_a_handler_changes_is_not_changed_for_the_next_one() -> None:
    record = modify({}, {"a": [1]})
    record.diff.added["a"].append(2)
    assert record.diff.added["a"] == [1]


def test_it_is_compared_once() -> None:
    record = modify({"a": 1}, {"a": 2})
    assert record.diff is record.diff


def test_only_what_differs_is_decoded() -> None:
    record = modify({"a": 1}, {"a": 2})
    for image in ("OldImage", "NewImage"):
        record.raw["dynamodb"][image]["same"] = {"N": "not a number"}
    assert told(record.diff) == ({}, {}, {"a": (1, 2)})


def test_nothing_is_compared_before_it_is_read() -> None:
    record = on_the_wire({"N": "1"}, {"N": "many"})
    diff = record.diff
    with pytest.raises(MalformedValue, match="N is not a decimal number") as caught:
        bool(diff)
    assert caught.value.path == ("new", "a")
    assert repr(diff) == "<Diff of a malformed image>"


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ({"M": {"b": {"N": "x"}}}, {"M": {"b": {"N": "1"}}}, ("old", "a", "b")),
        ({"L": [{"N": "1"}]}, {"L": [{"S": 1}]}, ("new", "a", 0)),
        ({"M": {"b": {}}}, {"M": {"b": {"N": "1"}}}, ("old", "a", "b")),
        ({"M": []}, {"M": {}}, ("old", "a")),
        ({"L": []}, {"L": {}}, ("new", "a")),
        (None, {"S": "x"}, ("old", "a")),
    ],
)
def test_a_malformed_value_is_named_by_image_and_path(
    old: Any, new: Any, path: tuple[str | int, ...]
) -> None:
    diff = on_the_wire(old, new).diff
    with pytest.raises(MalformedValue) as caught:
        told(diff)
    assert caught.value.path == path


def test_a_malformed_value_that_was_added_raises_where_it_is_read() -> None:
    record = modify({}, {"b": 1})
    record.raw["dynamodb"]["NewImage"]["a"] = {"M": {"x": {"N": "many"}}}
    assert record.diff.added["b"] == 1
    with pytest.raises(MalformedValue) as caught:
        record.diff.added["a"]
    assert caught.value.path == ("new", "a", "x")


@pytest.mark.parametrize(
    ("event", "view_type", "missing"),
    [
        ("insert", "KEYS_ONLY", "new"),
        ("insert", "OLD_IMAGE", "new"),
        ("modify", "KEYS_ONLY", "old"),
        ("modify", "NEW_IMAGE", "old"),
        ("modify", "OLD_IMAGE", "new"),
        ("remove", "KEYS_ONLY", "old"),
        ("remove", "NEW_IMAGE", "old"),
    ],
)
def test_an_image_that_the_view_type_leaves_out_is_missed_with_the_remedy(
    event: str, view_type: str, missing: str
) -> None:
    build = RecordBuilder(view_type=view_type)
    items = (KEY, KEY) if event == "modify" else (KEY,)
    record = record_of(getattr(build, event)(*items))
    with pytest.raises(ImageMissing) as caught:
        _ = record.diff
    assert str(caught.value).startswith(f"record.diff compares the {missing} image")
    assert view_type in str(caught.value)
    assert "NEW_AND_OLD_IMAGES" in str(caught.value)


@pytest.mark.parametrize(("event", "view_type"), [("insert", "NEW_IMAGE"), ("remove", "OLD_IMAGE")])
def test_an_image_that_the_event_does_not_have_is_not_missed(event: str, view_type: str) -> None:
    record = record_of(getattr(RecordBuilder(view_type=view_type), event)(KEY))
    assert len(record.diff.paths) == 1


def test_an_image_that_is_not_there_for_no_known_reason_is_missed_too() -> None:
    raw = RecordBuilder().modify(KEY, KEY)
    del raw["dynamodb"]["OldImage"], raw["dynamodb"]["StreamViewType"]
    with pytest.raises(ImageMissing, match="compares the old image, which this record of MODIFY"):
        _ = record_of(raw).diff


def nested(levels: int, leaf: Any) -> Any:
    """Return maps and lists in turns around a raw value."""
    value = leaf
    for level in range(levels):
        value = {"M": {"m": value}} if level % 2 else {"L": [value]}
    return value


def test_the_deepest_nesting_that_dynamodb_has_is_followed() -> None:
    diff = on_the_wire(nested(DEEPEST, {"N": "1"}), nested(DEEPEST, {"N": "2"})).diff
    (path,) = diff.paths
    assert len(path) == DEEPEST + 1
    assert diff.changed[path] == ValueChange(1, 2)


@pytest.mark.parametrize("levels", [DEEPEST + 1, 5_000])
def test_deeper_nesting_is_malformed_and_overflows_no_stack(levels: int) -> None:
    diff = on_the_wire(nested(levels, {"N": "1"}), nested(levels, {"N": "2"})).diff
    with pytest.raises(MalformedValue, match="nested deeper than 32 levels"):
        bool(diff)


def test_ten_thousand_attributes_are_compared() -> None:
    old = {f"a{n}": {"b": n} for n in range(10_000)}
    new = {f"a{n}": {"b": n + (n % 1000 == 0)} for n in range(10_000)}
    assert [str(path) for path in modify(old, new).diff.paths] == [
        f"a{n}.b" for n in range(0, 10_000, 1000)
    ]


NAMES = st.sampled_from(["a", "b", "a.b", "0", "exists", "ä"])
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.decimals(-2, 2, places=1),
    st.sampled_from(["", "x", "1"]),
    st.binary(max_size=1),
    st.sets(st.integers(0, 2), min_size=1),
    st.sets(st.sampled_from(["x", "y"]), min_size=1),
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
)
ITEMS = st.dictionaries(NAMES, VALUES, max_size=4)


def apply(diff: Diff, item: Item) -> Item:
    """Return the item with the diff applied to it."""
    root: Any = dict(record_of(RecordBuilder().insert({**KEY, **item})).new or {})
    for path, value in diff.changed.items():
        _container(root, path)[path[-1]] = value.new
    for path in reversed(list(diff.removed.keys())):  # of a list, the last ones first
        del _container(root, path)[path[-1]]
    for path, value in diff.added.items():
        container = _container(root, path)
        if isinstance(container, list):
            assert path[-1] == len(container)
            container.append(value)
        else:
            container[path[-1]] = value
    return dict(root)


def _container(root: Any, path: AttributePath) -> Any:
    for segment in path[:-1]:
        root = root[segment]
    return root


@given(ITEMS, ITEMS)
def test_the_old_item_with_the_diff_applied_is_the_new_one(old: Item, new: Item) -> None:
    diff = modify(old, new).diff
    assert canonical(encode(apply(diff, old))) == canonical(encode({**KEY, **new}))
    assert bool(diff) == (canonical(encode(old)) != canonical(encode(new)))
    assert len(diff.paths) == len(diff.added) + len(diff.removed) + len(diff.changed)


@given(ITEMS, ITEMS)
def test_the_filter_changed_is_true_of_every_path(old: Item, new: Item) -> None:
    record = modify(old, new)
    for path in record.diff.paths:
        image: Path = F.new
        for segment in path:
            image = image[segment]
        assert changed(image)(record)
        assert str(path) == repr(image).removeprefix("F.new").removeprefix(".")


def test_event_names_decide_which_images_count() -> None:
    raw = RecordBuilder().modify({**KEY, "a": 1}, {**KEY, "a": 2})
    raw["eventName"] = EventName.INSERT.value
    assert told(record_of(raw).diff) == ({"id": "1", "a": 2}, {}, {})
