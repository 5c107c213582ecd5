from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from dynaflow.codec import decode_event, is_stream_event
from dynaflow.record import Image, Record
from dynaflow.testing import RecordBuilder, lambda_event
from tests.support.ids import stable_id

OLD: dict[str, Any] = {"id": "1", "n": 1}
NEW: dict[str, Any] = {"id": "1", "n": 2}


def stream_of(raw: dict[str, Any]) -> dict[str, Any]:
    """Return what a raw record has under ``dynamodb``."""
    stream: dict[str, Any] = raw["dynamodb"]
    return stream


def one_of_each(make: RecordBuilder) -> list[dict[str, Any]]:
    """Return an insert, a modify, a remove and an expire."""
    return [make.insert(NEW), make.modify(OLD, NEW), make.remove(OLD), make.expire(OLD)]


def decoded(*raws: dict[str, Any]) -> list[Record]:
    """Return the records that the codec makes of raw ones."""
    records, _ = decode_event(lambda_event(*raws))
    assert all(isinstance(record, Record) for record in records)
    return [record for record in records if isinstance(record, Record)]


def test_a_record_has_every_field_of_a_lambda_record() -> None:
    make = RecordBuilder(table="orders", region="eu-west-1", account="111122223333")
    assert make.modify(OLD, NEW) == {
        "eventID": "41fd6b5e778ea2c8d3d46f49f2989a77",
        "eventName": "MODIFY",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "eu-west-1",
        "dynamodb": {
            "ApproximateCreationDateTime": 1767225601.0,
            "Keys": {"id": {"S": "1"}},
            "NewImage": {"id": {"S": "1"}, "n": {"N": "2"}},
            "OldImage": {"id": {"S": "1"}, "n": {"N": "1"}},
            "SequenceNumber": "900000000000000000001",
            "SizeBytes": 15,
            "StreamViewType": "NEW_AND_OLD_IMAGES",
        },
        "eventSourceARN": (
            "arn:aws:dynamodb:eu-west-1:111122223333:table/orders/stream/2026-01-01T00:00:00.000"
        ),
    }


def test_each_method_writes_its_event_name() -> None:
    names = [raw["eventName"] for raw in one_of_each(RecordBuilder())]
    assert names == ["INSERT", "MODIFY", "REMOVE", "REMOVE"]


def test_only_an_expiry_has_the_mark_of_time_to_live_as_lambda_spells_it() -> None:
    *others, expired = one_of_each(RecordBuilder())
    assert expired["userIdentity"] == {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
    assert not any("userIdentity" in raw for raw in others)
    assert [record.is_ttl_delete for record in decoded(*others, expired)] == [False] * 3 + [True]


IMAGES: dict[str, list[set[str]]] = {
    "KEYS_ONLY": [set(), set(), set(), set()],
    "NEW_IMAGE": [{"NewImage"}, {"NewImage"}, set(), set()],
    "OLD_IMAGE": [set(), {"OldImage"}, {"OldImage"}, {"OldImage"}],
    "NEW_AND_OLD_IMAGES": [{"NewImage"}, {"NewImage", "OldImage"}, {"OldImage"}, {"OldImage"}],
}


@pytest.mark.parametrize("view_type", IMAGES)
def test_the_view_type_decides_which_images_are_there(view_type: str) -> None:
    raws = one_of_each(RecordBuilder(view_type=view_type))
    present = [{"NewImage", "OldImage"} & stream_of(raw).keys() for raw in raws]
    assert present == IMAGES[view_type]
    assert {stream_of(raw)["StreamViewType"] for raw in raws} == {view_type}
    assert all(stream_of(raw)["Keys"] == {"id": {"S": "1"}} for raw in raws)


def test_images_hold_what_they_were_made_of() -> None:
    item = {
        "id": 7,
        "at": b"\xff\x00",
        "text": "🛒\x00",
        "exact": Decimal("1E-130"),
        "parts": {b"a", b"b"},
        "tags": {"x"},
        "deep": [{"a": [None, True, {"b": {1, 2}}]}],
        "nothing": [],
    }
    make = RecordBuilder(keys=("id", "at"))
    (record,) = decoded(json.loads(json.dumps(make.insert(item))))
    assert record.new == item
    assert record.keys == {"id": 7, "at": b"\xff\x00"}
    assert stream_of(make.insert(item))["NewImage"]["at"] == {"B": "/wA="}
    assert make.insert(Image(stream_of(make.insert(item))["NewImage"]))


def test_an_attribute_may_nest_32_levels() -> None:
    value: Any = "x"
    for _ in range(32):
        value = [value]
    (record,) = decoded(RecordBuilder().insert({"id": "1", "deep": value}))
    assert record.new is not None
    assert record.new["deep"] == value
    with pytest.raises(ValueError, match="at most 32 levels"):
        RecordBuilder().insert({"id": "1", "deep": [value]})


def test_keys_and_images_share_nothing() -> None:
    stream = stream_of(RecordBuilder().modify(OLD, NEW))
    stream["Keys"]["id"]["S"] = "changed"
    assert stream["NewImage"]["id"] == {"S": "1"}
    assert stream["OldImage"]["id"] == {"S": "1"}
    assert OLD == {"id": "1", "n": 1}


# --- what grows -----------------------------------------------------------------------------------


def test_sequence_numbers_grow_as_numbers_while_their_text_does_not() -> None:
    make = RecordBuilder()
    numbers = [stream_of(raw)["SequenceNumber"] for raw in one_of_each(make) + one_of_each(make)]
    assert [len(number) for number in numbers] == [21, 21, 28, 28, 28, 28, 28, 28]
    assert sorted(set(numbers), key=int) == numbers
    assert sorted(numbers[:3]) != numbers[:3]
    assert numbers[0].startswith("9")
    assert numbers[2].startswith("1")


def test_creation_times_are_floats_that_grow() -> None:
    times = [stream_of(raw)["ApproximateCreationDateTime"] for raw in one_of_each(RecordBuilder())]
    assert all(type(time) is float for time in times)
    assert sorted(set(times)) == times


def test_event_ids_are_32_hex_digits_and_differ_between_records_and_streams() -> None:
    makes = [RecordBuilder(), RecordBuilder(table="other"), RecordBuilder(region="eu-west-1")]
    ids = [raw["eventID"] for make in makes for raw in one_of_each(make)]
    assert len(set(ids)) == len(ids) == 12
    assert all(len(bytes.fromhex(event_id)) == 16 for event_id in ids)


def test_two_builders_made_alike_return_the_same_records() -> None:
    assert one_of_each(RecordBuilder()) == one_of_each(RecordBuilder())


def test_a_refused_item_uses_up_no_sequence_number() -> None:
    make = RecordBuilder()
    with pytest.raises(ValueError, match="no key attribute"):
        make.insert({})
    assert make.insert(NEW) == RecordBuilder().insert(NEW)


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("", 0),
        ("abc", 3),
        ("é🛒", 6),
        ("\ud800", 3),
        (b"abc", 3),
        (True, 1),
        (None, 1),
        (0, 1),
        (1, 2),
        (100, 2),
        (1234, 3),
        (-1234, 4),
        (Decimal("0.00123"), 3),
        (Decimal("1E+125"), 2),
        ({"ab", "c"}, 3),
        ({1, 1234}, 5),
        ({b"abc", b""}, 3),
        ([], 3),
        (["abc", None], 3 + 1 + 3 + 1 + 1),
        ({}, 3),
        ({"name": "abc"}, 3 + 1 + 4 + 3),
    ],
    ids=lambda value: ascii(stable_id(value)),
)
def test_sizes_are_counted_as_dynamodb_counts_them(value: Any, size: int) -> None:
    stream = stream_of(RecordBuilder().insert({"id": "1", "attribute": value}))
    assert stream["SizeBytes"] == len("id1") + len("id1") + len("attribute") + size


def test_the_size_is_that_of_what_the_record_carries() -> None:
    # As recorded from AWS: the key "id" with "id_value" and the view type NEW_IMAGE make 20 bytes.
    make = RecordBuilder(view_type="NEW_IMAGE")
    item = {"id": "id_value"}
    assert stream_of(make.insert(item))["SizeBytes"] == 20
    assert stream_of(make.remove(item))["SizeBytes"] == 10


# --- events ---------------------------------------------------------------------------------------


def test_an_event_holds_its_records_in_the_order_given() -> None:
    make = RecordBuilder()
    raws = one_of_each(make)
    assert make.event(*raws) == lambda_event(*raws) == {"Records": raws}
    assert make.event() == {"Records": []}
    assert is_stream_event(make.event(*raws))
    assert json.loads(json.dumps(make.event(*raws))) == make.event(*raws)


def test_the_stream_arn_is_that_of_every_record() -> None:
    make = RecordBuilder(table="orders")
    assert {raw["eventSourceARN"] for raw in one_of_each(make)} == {make.stream_arn}
    assert decoded(make.insert(NEW))[0].table == "orders"


# --- refusals -------------------------------------------------------------------------------------


def test_a_missing_key_attribute_is_named() -> None:
    make = RecordBuilder(keys=("id", "at"))
    with pytest.raises(ValueError, match="new has no key attribute 'at'"):
        make.insert(NEW)
    with pytest.raises(ValueError, match="old has no key attribute 'at'"):
        make.modify(OLD, NEW | {"at": 1})
    for method in (make.remove, make.expire):
        with pytest.raises(ValueError, match="old has no key attribute 'id'"):
            method({"at": 1})


@pytest.mark.parametrize("view_type", IMAGES)
def test_old_and_new_must_be_the_same_item(view_type: str) -> None:
    make = RecordBuilder(keys=("id", "at"), view_type=view_type)
    with pytest.raises(ValueError, match="old and new differ in 'id' or 'at': they are two items"):
        make.modify({"id": "1", "at": 1}, {"id": "1", "at": 2})
    with pytest.raises(ValueError, match="they are two items"):
        make.modify({"id": "1", "at": 1}, {"id": 1, "at": 1})
    assert make.modify({"id": "1", "at": 1}, {"id": "1", "at": Decimal("1.0")})


@pytest.mark.parametrize(
    ("value", "kind"),
    [(None, "NULL"), (True, "BOOL"), ({"a"}, "SS"), ([], "L"), ({}, "M"), ("", "S"), (b"", "B")],
    ids=stable_id,
)
def test_what_cannot_be_a_key_is_refused(value: Any, kind: str) -> None:
    with pytest.raises(ValueError, match=f"the key attribute 'id' of new is {kind} or empty"):
        RecordBuilder().insert({"id": value})


def test_zero_is_a_key() -> None:
    assert stream_of(RecordBuilder().insert({"id": 0}))["Keys"] == {"id": {"N": "0"}}


def test_a_float_is_refused_with_the_attribute_that_holds_it() -> None:
    with pytest.raises(TypeError, match="a float is not exact") as refused:
        RecordBuilder().insert({"id": "1", "price": [0.1]})
    assert refused.value.__notes__ == ["in the attribute 'price'"]


@pytest.mark.parametrize("item", ["id", [("id", "1")], None, 1])
def test_an_item_is_a_mapping(item: Any) -> None:
    with pytest.raises(TypeError, match="an item is a mapping of attribute names to values"):
        RecordBuilder().insert(item)


def test_attribute_names_are_text() -> None:
    item: Any = {"id": "1", 2: "x"}
    with pytest.raises(TypeError, match="attribute names are text, got int"):
        RecordBuilder().insert(item)


def test_a_string_of_keys_is_refused_with_what_to_write() -> None:
    with pytest.raises(TypeError, match=r"write keys=\('id',\)"):
        RecordBuilder("id")


@pytest.mark.parametrize("keys", [(), ("a", "b", "c")])
def test_a_table_has_one_or_two_key_attributes(keys: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=f"one or two key attributes, got {len(keys)}"):
        RecordBuilder(keys)


def test_an_unknown_view_type_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"unknown view type 'NEW'; take one of .*'NEW_IMAGE'"):
        RecordBuilder(view_type="NEW")
