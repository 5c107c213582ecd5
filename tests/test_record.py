from __future__ import annotations

import json
import traceback
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from dynaflow.batch import Batch, BatchResult, Deadline, Outcome, Status
from dynaflow.codec import decode_records
from dynaflow.errors import DynaflowError, MalformedRecord, MalformedValue
from dynaflow.record import EventName, Image, Record, Undecodable, table_of
from dynaflow.testing.records import RecordBuilder
from dynaflow.values import json_default

MARKER = "pa55w0rd"  # stands for item data, which no text of ours may show

ITEM: dict[str, Any] = {
    "id": {"S": "o-1"},
    "total": {"N": "12.50"},
    "photo": {"B": "/wA="},
    "tags": {"SS": ["b", "a"]},
    "lines": {"L": [{"M": {"sku": {"S": "x"}, "count": {"N": "2"}}}]},
    "gone": {"NULL": True},
}


def record_of(raw: dict[str, Any]) -> Record:
    """Return the record that the codec makes of a raw one."""
    (record,) = decode_records([raw], raw.get("eventSourceARN", ""))
    assert isinstance(record, Record)
    return record


def removed(**fields: Any) -> Record:
    """Return the record of a delete with other fields than usual."""
    return record_of(RecordBuilder().remove({"id": "1"}) | fields)


def created(value: Any) -> datetime | None:
    """Return the creation time that a record with this field tells."""
    raw = RecordBuilder().insert({"id": "1"})
    raw["dynamodb"]["ApproximateCreationDateTime"] = value
    return record_of(raw).created_at


# --- Image ---------------------------------------------------------------------------------------


def test_an_image_is_a_mapping_of_decoded_attributes() -> None:
    image = Image(ITEM)
    assert isinstance(image, Mapping)
    assert not isinstance(image, dict)
    assert list(image) == list(ITEM)
    assert len(image) == 6
    assert image["total"] == Decimal("12.50")
    assert image["photo"] == b"\xff\x00"
    assert image.get("gone", "default") is None
    assert image.get("missing", "default") == "default"
    assert "gone" in image
    assert "missing" not in image
    with pytest.raises(KeyError, match="missing"):
        image["missing"]


def test_an_image_equals_the_dict_of_its_values() -> None:
    values = {
        "id": "o-1",
        "total": Decimal("12.5"),
        "photo": b"\xff\x00",
        "tags": {"a", "b"},
        "lines": [{"sku": "x", "count": 2}],
        "gone": None,
    }
    image = Image(ITEM)
    assert image == values
    assert values == image
    assert image == Image(json.loads(json.dumps(ITEM)))
    assert image.to_dict() == dict(image) == {**image} == values
    assert image != values | {"id": "o-2"}
    assert image != list(values)


def test_an_image_cannot_be_written_to() -> None:
    image: Any = Image(ITEM)
    with pytest.raises(TypeError):
        image["id"] = "o-2"
    with pytest.raises(TypeError):
        del image["id"]
    with pytest.raises(AttributeError):
        image.id = "o-2"
    with pytest.raises(TypeError):
        hash(image)


def test_every_read_gives_fresh_containers() -> None:
    image = Image(ITEM)
    image["lines"][0]["sku"] = "changed"
    image["tags"].add("changed")
    image.to_dict()["lines"].clear()
    image.to_dynamodb()["lines"]["L"].clear()
    assert image["lines"] == [{"sku": "x", "count": 2}]
    assert image["tags"] == {"a", "b"}


def test_to_dynamodb_is_what_boto3_writes() -> None:
    written = Image(ITEM).to_dynamodb()
    assert written == ITEM | {"photo": {"B": b"\xff\x00"}}
    assert Image(written) == Image(ITEM)


def test_to_json_keeps_every_digit() -> None:
    image = Image(ITEM | {"exact": {"N": "0.12345678901234567890"}, "big": {"N": "1E+30"}})
    assert json.loads(image.to_json()) == {
        "id": "o-1",
        "total": 12.5,
        "photo": "/wA=",
        "tags": ["a", "b"],
        "lines": [{"sku": "x", "count": 2}],
        "gone": None,
        "exact": "0.12345678901234567890",
        "big": 10**30,
    }


def test_an_image_inside_other_data_becomes_json_with_json_default() -> None:
    text = json.dumps({"image": Image(ITEM)}, default=json_default)
    assert json.loads(text) == {"image": json.loads(Image(ITEM).to_json())}


def test_odd_strings_come_through_unchanged() -> None:
    odd = {"a\x00": {"S": "\ud800"}, "🛒": {"S": "\x00🛒"}, "": {"S": ""}}
    image = Image(odd)
    assert image == {"a\x00": "\ud800", "🛒": "\x00🛒", "": ""}
    assert json.loads(image.to_json()) == image
    assert image.to_dynamodb() == odd


def test_a_malformed_attribute_fails_when_it_is_read_and_is_named_by_its_path() -> None:
    image = Image({"id": {"S": "1"}, "cart": {"L": [{"N": MARKER}]}})
    assert image["id"] == "1"
    for read in (image.to_dict, image.to_dynamodb, image.to_json, lambda: image["cart"]):
        with pytest.raises(MalformedValue) as refused:
            read()
        assert refused.value.path == ("cart", 0)
        assert MARKER not in "".join(traceback.format_exception(refused.value))


def test_neither_repr_nor_str_shows_data() -> None:
    raw = RecordBuilder().modify({"id": MARKER, MARKER: 1}, {"id": MARKER, "x": MARKER})
    record = record_of(raw)
    undecodable = Undecodable(
        raw | {"eventName": MARKER},
        reason=MalformedRecord("eventName is not INSERT, MODIFY or REMOVE"),
        sequence_number="17",
        position=17,
        source_arn="",
        keys=record.keys,
    )
    shown: list[Any] = [record, record.keys, record.old, record.new, undecodable]
    assert [str(thing) for thing in shown] == [repr(thing) for thing in shown]
    assert [repr(thing) for thing in shown] == [
        "<Record MODIFY table 900000000000000000001>",
        "<Image with 1 attributes>",
        "<Image with 2 attributes>",
        "<Image with 2 attributes>",
        "<Undecodable 17: eventName is not INSERT, MODIFY or REMOVE>",
    ]


# --- Record --------------------------------------------------------------------------------------


def test_a_record_shows_what_the_wire_says() -> None:
    raw = RecordBuilder(table="orders").modify({"id": "1", "n": 1}, {"id": "1", "n": 2})
    record = record_of(raw)
    assert record.event_name is EventName.MODIFY
    assert record.event_id == raw["eventID"]
    assert record.keys == {"id": "1"}
    assert record.old == {"id": "1", "n": 1}
    assert record.new == {"id": "1", "n": 2}
    assert record.sequence_number == "900000000000000000001"
    assert record.position == 900000000000000000001
    assert record.created_at == datetime(2026, 1, 1, 0, 0, 1, tzinfo=timezone.utc)
    assert record.source_arn == raw["eventSourceARN"]
    assert record.table == "orders"
    assert record.view_type == "NEW_AND_OLD_IMAGES"
    assert record.size_bytes == 3 + 6 + 6
    assert record.is_ttl_delete is False
    assert record.is_backfill is False
    assert record.raw is raw


def test_a_record_with_nothing_but_what_is_needed_says_none() -> None:
    stream = {"Keys": {"id": {"S": "1"}}, "SequenceNumber": "111"}
    record = record_of({"eventName": "INSERT", "dynamodb": stream})
    assert (record.new, record.old, record.created_at) == (None, None, None)
    assert (record.table, record.view_type, record.size_bytes) == (None, None, None)
    assert (record.event_id, record.source_arn) == ("", "")
    assert repr(record) == "<Record INSERT ? 111>"


def test_fields_of_a_wrong_type_are_as_good_as_missing() -> None:
    raw = RecordBuilder().insert({"id": "1"}) | {"eventID": None, "userIdentity": "x"}
    raw["dynamodb"] |= {"StreamViewType": 1, "SizeBytes": "12"}
    record = record_of(raw)
    assert (record.event_id, record.view_type, record.size_bytes) == ("", None, None)
    assert record.is_ttl_delete is False


def test_unknown_fields_are_ignored() -> None:
    raw = RecordBuilder().insert({"id": "1"}) | {"eventVersion": "9.9", "future": {"S": 1}}
    raw["dynamodb"] |= {"ApproximateCreationDateTimePrecision": "MICROSECOND", "future": [1]}
    assert record_of(raw).new == {"id": "1"}


@pytest.mark.parametrize(
    "identity",
    [
        {"type": "Service", "principalId": "dynamodb.amazonaws.com"},
        {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"},
    ],
    ids=["as in a Lambda event", "as in the API"],
)
def test_a_ttl_delete_is_known_in_both_spellings(identity: dict[str, str]) -> None:
    assert removed(userIdentity=identity).is_ttl_delete is True
    inserted = RecordBuilder().insert({"id": "1"}) | {"userIdentity": identity}
    assert record_of(inserted).is_ttl_delete is False


@pytest.mark.parametrize(
    "identity",
    [
        None,
        {},
        {"type": "Service"},
        {"principalId": "dynamodb.amazonaws.com"},
        {"type": "Service", "principalId": "replication.dynamodb.amazonaws.com"},
        {"type": "User", "principalId": "dynamodb.amazonaws.com"},
        {"type": ["Service"], "principalId": {"S": 1}},
        "dynamodb.amazonaws.com",
    ],
)
def test_any_other_identity_is_no_ttl_delete(identity: Any) -> None:
    assert removed(userIdentity=identity).is_ttl_delete is False


def test_a_delete_without_an_identity_is_no_ttl_delete() -> None:
    assert removed().is_ttl_delete is False


MOMENT = datetime(2023, 3, 15, 1, 20, 18, tzinfo=timezone.utc)
EAST = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    "value",
    [
        1678843218,
        1678843218.0,
        1.678843218e9,
        Decimal(1678843218),
        "1678843218",
        "1678843218.0",
        "2023-03-15T01:20:18Z",
        "2023-03-15T01:20:18",
        "2023-03-15T03:20:18+02:00",
        datetime(2023, 3, 15, 1, 20, 18, tzinfo=timezone.utc),
        datetime(2023, 3, 15, 1, 20, 18),  # noqa: DTZ001, RUF100 - what a parser without zones gives
        datetime(2023, 3, 15, 3, 20, 18, tzinfo=EAST),
    ],
    ids=repr,
)
def test_a_creation_time_is_utc_however_it_is_written(value: Any) -> None:
    moment = created(value)
    assert moment == MOMENT
    assert moment is not None
    assert moment.tzinfo is timezone.utc


def test_a_creation_time_may_be_missing_or_null() -> None:
    assert created(None) is None
    raw = RecordBuilder().insert({"id": "1"})
    del raw["dynamodb"]["ApproximateCreationDateTime"]
    assert record_of(raw).created_at is None


@pytest.mark.parametrize(
    "value",
    [
        *("", MARKER, "2023-13-45T99:00:00", "T", "1e400", "nan", "9" * 5_000),
        *(float("nan"), float("inf"), 1e300, 10**400, Decimal("NaN"), Decimal("1E+9999")),
        *(True, [], {MARKER: 1}, b"1", datetime.max.replace(tzinfo=timezone(-timedelta(hours=9)))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_creation_time_that_is_none_is_refused_and_not_quoted(value: Any) -> None:
    with pytest.raises(MalformedRecord) as refused:
        created(value)
    assert str(refused.value) == "ApproximateCreationDateTime is not a time"
    assert MARKER not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    ("arn", "table"),
    [
        ("arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00", "orders"),
        ("arn:aws-cn:dynamodb:cn-north-1:123456789012:table/a.b-c_d/stream/x", "a.b-c_d"),
        ("arn:aws:dynamodb:ddblocal:000000000000:table/orders", "orders"),
        ("arn:aws:dynamodb:eu-west-1:123456789012:table/", None),
        ("arn:aws:kinesis:eu-west-1:123456789012:stream/orders", None),
        ("orders", None),
        ("", None),
    ],
)
def test_the_table_is_read_from_the_arn(arn: str, table: str | None) -> None:
    assert table_of(arn) == table


# --- what goes around a record --------------------------------------------------------------------


def test_a_deadline_counts_down_on_its_own_clock() -> None:
    now = 100.0
    deadline = Deadline.after(5.0, clock=lambda: now)
    assert deadline.remaining() == 5.0
    now = 107.0
    assert deadline.remaining() == -2.0


def test_a_deadline_is_on_the_monotonic_clock_unless_told_otherwise() -> None:
    assert 0 < Deadline.after(1_000.0).remaining() <= 1_000.0


def test_a_batch_is_empty_and_without_a_deadline_by_default() -> None:
    batch = Batch(records=())
    assert (batch.source_arn, batch.deadline, batch.invocation) == ("", None, None)


def test_the_result_names_the_lowest_record_that_is_not_done() -> None:
    low, high = removed(), removed()
    assert BatchResult().failed is None
    assert BatchResult(not_done=(low, high)).failed is low


def test_the_result_tells_who_handled_what_and_which_errors_came() -> None:
    record, error = removed(), DynaflowError("no")
    result = BatchResult(
        outcomes=(
            Outcome(record, "shop.ship", Status.DONE),
            Outcome(record, "shop.bill", Status.FAILED, error),
            Outcome(record, "shop.mail", Status.NOT_DONE),
            Outcome(record, None, Status.FAILED, error),
            Outcome(record, "shop.ship", Status.DONE),
        )
    )
    assert result.handled_by == ["shop.ship", "shop.ship"]
    assert result.errors == [error, error]
