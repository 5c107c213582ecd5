"""Kinesis Data Streams for DynamoDB: decoded, routed, answered, parked and run again."""

from __future__ import annotations

import copy
import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import pytest
from aws_lambda_powertools.utilities.data_classes import KinesisStreamEvent
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dynaflow import App, Change, F, Idempotent, NonRetryable, Record, Router, Status
from dynaflow._commit import mark_of
from dynaflow._mark_keys import MarkKeys
from dynaflow.cli._letters import Letter
from dynaflow.cli._redrive import unfit
from dynaflow.codec import decode_event, decode_records, is_stream_event
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.dead_letters import JsonLines
from dynaflow.engine.order import Ordering
from dynaflow.errors import EventError, MalformedRecord
from dynaflow.record import Undecodable
from dynaflow.stores import MemoryMarks
from dynaflow.testing import RecordBuilder, TestClient, kinesis_event
from tests.support.command_line import Project
from tests.support.routers import app_for

ARN = "arn:aws:kinesis:us-east-1:123456789012:stream/changes"
MARKER = "pa55w0rd"  # stands for item data, which no error may show


def orders() -> RecordBuilder:
    return RecordBuilder(table="orders")


def users() -> RecordBuilder:
    return RecordBuilder(table="users")


def change(**fields: Any) -> bytes:
    """Return the data of a change with other fields; None leaves a field out."""
    stream = {
        "ApproximateCreationDateTime": 1_767_225_601_000,
        "Keys": {"id": {"S": MARKER}},
        "NewImage": {"id": {"S": MARKER}},
        "SizeBytes": 20,
    }
    whole = {
        "awsRegion": "us-east-1",
        "eventID": "a7e6e6b6-1b1c-4e0e-9a5e-0d8a5f4e6a10",
        "eventName": "INSERT",
        "userIdentity": None,
        "recordFormat": "application/json",
        "tableName": "orders",
        "dynamodb": stream,
        "eventSource": "aws:dynamodb",
        **fields,
    }
    return json.dumps(whole).encode()


def stream_fields(**fields: Any) -> dict[str, Any]:
    """Return the ``dynamodb`` of a change, with other fields in it."""
    stream: dict[str, Any] = json.loads(change())["dynamodb"]
    return stream | fields


def decoded(*data: bytes | dict[str, Any]) -> list[Record | Undecodable]:
    return list(decode_event(kinesis_event(*data))[0])


def read(data: bytes | dict[str, Any]) -> Record:
    (record,) = decoded(data)
    assert isinstance(record, Record)
    return record


def numbers(event: dict[str, Any]) -> list[str]:
    return [raw["kinesis"]["sequenceNumber"] for raw in event["Records"]]


# --- decoding -------------------------------------------------------------------------------------


def test_a_change_reads_as_it_would_from_the_table_s_own_stream() -> None:
    build = RecordBuilder(keys=("id", "at"), table="orders")
    item = {"id": 1, "at": b"\xff", "parts": {b"\x00"}, "deep": [{"n": None}]}
    raws = [build.insert(item), build.modify(item, item | {"n": 2}), build.expire(item)]
    event = kinesis_event(*raws)
    ours, arn = decode_event(event)
    theirs, _ = decode_event(build.event(*raws))
    assert arn == ARN
    for our, their, number in zip(ours, theirs, numbers(event), strict=True):
        assert isinstance(our, Record)
        assert isinstance(their, Record)
        for name in (
            *("event_id", "event_name", "keys", "new", "old", "created_at", "table", "size_bytes"),
            *("is_ttl_delete", "is_backfill"),
        ):
            assert getattr(our, name) == getattr(their, name), name
        assert (our.sequence_number, our.position) == (number, int(number))
        assert (our.source_arn, our.view_type) == (ARN, None)
        assert our.raw["eventSourceARN"] == ARN
        assert our.raw["dynamodb"]["SequenceNumber"] == number
        assert "userIdentity" not in our.raw or our.is_ttl_delete


def test_the_event_is_left_as_it_was() -> None:
    event = kinesis_event(orders().insert({"id": 1}), b"junk")
    before = copy.deepcopy(event)
    decode_event(event)
    assert event == before


def test_records_are_in_the_order_of_their_numbers_in_kinesis_and_of_nothing_else() -> None:
    build = orders()
    first, second = build.insert({"id": 1}), build.modify({"id": 1}, {"id": 1, "n": 2})
    event = kinesis_event(second, first, second)  # late, and a duplicate
    assert [record.raw["eventName"] for record in decode_event(event)[0]] == [
        *("MODIFY", "INSERT", "MODIFY")
    ]
    event["Records"].reverse()
    assert [r.sequence_number for r in decode_event(event)[0]] == sorted(numbers(event))


def test_numbers_of_other_lengths_order_as_numbers_and_keep_their_text() -> None:
    event = kinesis_event(change(), change(), change())
    for raw, number in zip(event["Records"], ("10", "9", "007"), strict=True):
        raw["kinesis"]["sequenceNumber"] = number
    assert [record.sequence_number for record in decode_event(event)[0]] == ["007", "9", "10"]


def test_pipes_sends_a_list_of_records_whose_fields_stand_at_the_top() -> None:
    event = kinesis_event(orders().insert({"id": 1}))
    flat = [{**raw.pop("kinesis"), **raw} for raw in copy.deepcopy(event["Records"])]
    assert "kinesis" not in flat[0]
    ((ours,), arn), ((theirs,), _) = decode_event(flat), decode_event(event)
    assert isinstance(ours, Record)
    assert (ours.raw, ours.sequence_number, arn) == (theirs.raw, theirs.sequence_number, ARN)
    assert App(Router()).accepts(flat) is False
    assert app_for("orders").accepts(flat)


def test_powertools_wrapper_of_the_event_is_read() -> None:
    event = kinesis_event(orders().insert({"id": 1}))
    assert [r.raw for r in decode_event(KinesisStreamEvent(event))[0]] == [
        r.raw for r in decode_event(event)[0]
    ]


def test_an_event_of_kinesis_is_none_of_dynamodb_streams() -> None:
    assert not is_stream_event(kinesis_event(change()))


_AT = datetime(2026, 1, 1, 0, 0, 1, 123_000, timezone.utc)


@pytest.mark.parametrize(
    ("written", "precision", "at"),
    [
        (1_767_225_601_123, None, _AT),
        (1_767_225_601_123_000, None, _AT),
        (1_767_225_601_123_457, None, _AT.replace(microsecond=123_457)),
        (1_767_225_601_999_999, None, _AT.replace(microsecond=999_999)),
        (1_767_225_601_123, "MILLISECOND", _AT),
        (1_767_225_601_123_457, "MICROSECOND", _AT.replace(microsecond=123_457)),
        (1_000_000, "MICROSECOND", datetime(1970, 1, 1, 0, 0, 1, 0, timezone.utc)),
        (1_000, "MILLISECOND", datetime(1970, 1, 1, 0, 0, 1, 0, timezone.utc)),
        (1_767_225_601_123, "FORTNIGHT", _AT),
        (1_767_225_601_123, 3, _AT),
        (1_767_225_601, None, _AT.replace(microsecond=0)),
        (1_767_225_601.123, None, _AT),
        (None, None, None),
    ],
)
def test_times_are_read_in_milliseconds_and_in_microseconds(
    written: Any, precision: Any, at: datetime | None
) -> None:
    fields = stream_fields(ApproximateCreationDateTime=written)
    if precision is not None:
        fields["ApproximateCreationDateTimePrecision"] = precision
    assert read(change(dynamodb=fields)).created_at == at


@pytest.mark.parametrize("written", [MARKER, True, [], {}, 1e999, 10**30, 10**400, 1e300])
def test_what_is_no_time_is_found_when_it_is_read(written: Any) -> None:
    record = read(change(dynamodb=stream_fields(ApproximateCreationDateTime=written)))
    with pytest.raises(MalformedRecord, match="not a time"):
        _ = record.created_at


def test_a_view_type_that_a_change_never_has_is_not_believed() -> None:
    seen = list[Any]()
    router = Router()

    @router.on_modify(name="ship")
    def ship(old: dict[str, Any], new: dict[str, Any]) -> None:
        seen.append((old, new))

    fields = stream_fields(StreamViewType="KEYS_ONLY", OldImage={"id": {"S": MARKER}})
    event = kinesis_event(change(eventName="MODIFY", dynamodb=fields))
    assert App(router).lambda_handler()(event) == {"batchItemFailures": []}
    assert seen == [({"id": MARKER}, {"id": MARKER})]


NO_CHANGE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is not JSON"),
    "text": (MARKER.encode(), "is not JSON"),
    "half": (change()[:-1], "is not JSON"),
    "two": (change() + change(), "is not JSON"),
    "UTF-16": (change().decode().encode("utf-16"), "is not JSON"),
    "Latin-1": (b'{"a": "\xe9"}', "is not JSON"),
    "deep": (b"[" * 100_000, "is not JSON"),
    "long number": (b"1" * 5_000, "is not JSON"),
    "gzip": (b"\x1f\x8b\x08\x00\x00", "is not JSON"),
    "aggregated": (b"\xf3\x89\x9a\xc2\x0a\x01a", "is aggregated"),
    "a list": (b"[" + change() + b"]", "no change of a DynamoDB table"),
    "a number": (b"1", "no change of a DynamoDB table"),
    "null": (b"null", "no change of a DynamoDB table"),
    "an object": (b'{"a": "pa55w0rd"}', "no change of a DynamoDB table"),
    "another source": (change(eventSource="aws:s3"), "no change of a DynamoDB table"),
    "no source": (change(eventSource=None), "no change of a DynamoDB table"),
    "no dynamodb": (change(dynamodb=None), "dynamodb is NoneType, not a map"),
    "a list for dynamodb": (change(dynamodb=[MARKER]), "dynamodb is list, not a map"),
    "no table": (change(tableName=None), "tableName is missing or no text"),
    "an empty table": (change(tableName=""), "tableName is missing or no text"),
    "a number for a table": (change(tableName=7), "tableName is missing or no text"),
}


@pytest.mark.parametrize(("data", "reason"), NO_CHANGE.values(), ids=NO_CHANGE.keys())
def test_data_that_is_no_change_is_undecodable_and_keeps_its_place(
    data: bytes, reason: str
) -> None:
    event = kinesis_event(change(), data, change())
    records, _ = decode_event(event)
    assert [type(record).__name__ for record in records] == [
        *("KinesisRecord", "Undecodable", "KinesisRecord")
    ]
    bad = records[1]
    assert isinstance(bad, Undecodable)
    assert isinstance(bad.reason, MalformedRecord)
    assert reason in str(bad.reason)
    assert MARKER not in str(bad.reason) + repr(bad)
    assert (bad.sequence_number, bad.raw) == (numbers(event)[1], event["Records"][1])
    assert bad.keys is None


@pytest.mark.parametrize("data", [None, 1, b"eyJ9", ["e30="], "e30", "e3 0=", "é", "----", {}])
def test_data_that_is_no_base64_text_is_undecodable(data: Any) -> None:
    event = kinesis_event(change())
    event["Records"][0]["kinesis"]["data"] = data
    ((record,), _) = decode_event(event)
    assert isinstance(record, Undecodable)
    assert str(record.reason) == "kinesis.data is not base64 text"


@pytest.mark.parametrize(
    ("data", "reason", "keys"),
    [
        (change(eventName="UPSERT"), "eventName is not", {"id": MARKER}),
        (change(dynamodb=stream_fields(NewImage=[])), "NewImage is list", {"id": MARKER}),
        (change(dynamodb=stream_fields(Keys={})), "Keys is missing", None),
        (change(dynamodb=stream_fields(Keys=MARKER)), "Keys is missing", None),
    ],
)
def test_a_damaged_change_keeps_its_key_and_its_table(data: bytes, reason: str, keys: Any) -> None:
    (record,) = decoded(data)
    assert isinstance(record, Undecodable)
    assert reason in str(record.reason)
    assert record.keys == keys
    assert record.table == "orders"
    assert record.raw["eventSource"] == "aws:dynamodb"  # such as one of the stream


@pytest.mark.parametrize("number", [None, "", "1.0", "-1", 1, "١", ["1"], "1" * 5_000])
def test_an_unusable_sequence_number_fails_the_whole_batch(number: Any) -> None:
    event = kinesis_event(change(), change())
    event["Records"][1]["kinesis"]["sequenceNumber"] = number
    with pytest.raises(EventError, match=r"no usable kinesis\.sequenceNumber"):
        decode_event(event)


@pytest.mark.parametrize("inner", [None, MARKER, [], 1, {}])
def test_a_record_without_its_kinesis_part_fails_the_whole_batch(inner: Any) -> None:
    event = kinesis_event(change())
    event["Records"][0]["kinesis"] = inner
    with pytest.raises(EventError, match=r"no usable kinesis\.sequenceNumber"):
        decode_event(event)


def test_an_event_of_several_sources_or_streams_is_refused() -> None:
    ours, theirs = kinesis_event(change())["Records"], [orders().insert({"id": 1})]
    with pytest.raises(EventError, match="from 'aws:dynamodb', not from 'aws:kinesis'"):
        decode_event(ours + theirs)
    with pytest.raises(EventError, match="from 'aws:kinesis', not from 'aws:dynamodb'"):
        decode_event(theirs + ours)
    with pytest.raises(EventError, match="mixes records of 2 streams"):
        decode_event(ours + kinesis_event(change(), stream_arn=f"{ARN}-2")["Records"])


def test_what_was_read_once_can_be_read_again() -> None:
    event = kinesis_event(orders().insert({"id": 1}), change(eventName="UPSERT"), b"junk")
    records, arn = decode_event(event)
    again = decode_records([record.raw for record in records], arn)
    for one, other in zip(records, again, strict=True):
        assert (type(one), one.raw, one.table) == (type(other), other.raw, other.table)
        assert (one.sequence_number, one.keys) == (other.sequence_number, other.keys)
    as_event, named = decode_event({"Records": [records[0].raw]})
    assert isinstance(as_event[0], Record)
    assert (as_event[0].table, named) == ("orders", ARN)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["S", "N", "M", "L", "B", "id"]), inner, max_size=3)
    ),
    max_leaves=6,
)
places = st.sampled_from(
    [
        *("eventID", "eventName", "userIdentity", "tableName", "dynamodb", "eventSource"),
        *("Keys", "NewImage", "OldImage", "SizeBytes", "ApproximateCreationDateTime"),
        *("SequenceNumber", "StreamViewType", "ApproximateCreationDateTimePrecision"),
    ]
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    whole = json.loads(change())
    for place in draw(st.lists(places, max_size=3)):
        holder = whole if place[0].islower() else whole["dynamodb"]
        if isinstance(holder, dict):
            holder[place] = draw(json_values)
    return json.dumps(whole).encode()


garbage = st.binary(max_size=40) | json_values.map(lambda v: json.dumps(v).encode()) | damaged()


@settings(deadline=None, max_examples=150)
@given(data=st.lists(garbage, min_size=1, max_size=4))
@example(data=[b'{"a":' * 900 + b"1" + b"}" * 900, change()])
@example(data=[change(dynamodb=stream_fields(ApproximateCreationDateTime=10**400))])
@example(data=[change(dynamodb=stream_fields(NewImage={"id": {"N": "x"}}))])
def test_no_data_whatsoever_fails_more_than_what_comes_from_it_on(data: list[bytes]) -> None:
    router = Router()
    handled = list[bool]()

    @router.on_any(name="ship", table="orders")
    def ship(record: Record) -> None:
        handled.append(record.is_ttl_delete)
        if handled[-1] or record.new is None:
            return
        record.new.to_dict()

    event = kinesis_event(change(), *data)
    app = App(router)
    assert app.accepts(event)
    answer = app.lambda_handler(report_batch_item_failures=True)(event)
    assert handled
    failed = [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]
    assert failed in ([], *([number] for number in numbers(event)[1:]))


# --- accepts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tables", "accepted"),
    [
        (("orders",), True),
        (("users",), True),
        ((None,), True),
        (("carts",), False),
        (("carts", "users"), True),
        ((), False),
    ],
)
def test_an_event_is_accepted_if_some_route_takes_one_of_its_tables(
    tables: tuple[str | None, ...], accepted: bool
) -> None:
    event = kinesis_event(orders().insert({"id": 1}), users().insert({"id": 1}))
    assert app_for(*tables).accepts(event) is accepted


def test_a_stream_of_somebody_else_is_not_accepted() -> None:
    assert not app_for(None, "orders").accepts(kinesis_event(b"junk", b"{}", b"[1]"))
    assert app_for("orders").accepts(kinesis_event(b"junk", change()))


def test_a_change_that_names_no_table_is_accepted_so_that_it_fails_instead_of_being_lost() -> None:
    event = kinesis_event(change(tableName=None))
    app = app_for("orders")
    assert app.accepts(event)
    answer = app.lambda_handler(report_batch_item_failures=True)(event)
    assert answer == {"batchItemFailures": [{"itemIdentifier": numbers(event)[0]}]}


# --- through Lambda's door ------------------------------------------------------------------------


def ship_router(failing: set[str], seen: list[str]) -> Router:
    router = Router(table="orders")

    @router.on_any(name="ship")
    def ship(keys: dict[str, Any]) -> None:
        seen.append(keys["id"])
        if keys["id"] in failing:
            raise ValueError("no")

    return router


def test_the_answer_names_the_lowest_failed_record_by_its_number_in_kinesis() -> None:
    seen = list[str]()
    handler = App(ship_router({"b", "c"}, seen)).lambda_handler(report_batch_item_failures=True)
    build = orders()
    event = kinesis_event(*(build.insert({"id": name}) for name in "abcd"), after=41)
    number = event["Records"][1]["kinesis"]["sequenceNumber"]
    assert len(number) == 56
    assert handler(event) == {"batchItemFailures": [{"itemIdentifier": number}]}
    assert sorted(seen) == ["a", "b", "c", "d"]


def test_what_is_no_change_holds_back_what_comes_after_it() -> None:
    seen = list[str]()
    handler = App(ship_router(set(), seen)).lambda_handler(report_batch_item_failures=True)
    build = orders()
    event = kinesis_event(build.insert({"id": "a"}), b"junk", build.insert({"id": "b"}))
    assert handler(event) == {"batchItemFailures": [{"itemIdentifier": numbers(event)[1]}]}
    assert seen == ["a"]


def test_a_delete_by_time_to_live_is_known_by_its_mark_and_by_the_item_itself() -> None:
    seen = list[str]()
    router = Router(table="orders")

    @router.on_expire(ttl_attribute="expires_at", name="archive")
    def archive(old: dict[str, Any]) -> None:
        seen.append(old["id"])

    build = orders()
    at = 1_767_225_600  # the records are written a few seconds later
    event = kinesis_event(
        build.expire({"id": "by its mark"}),
        build.remove({"id": "by its attribute", "expires_at": at}),
        build.remove({"id": "not yet", "expires_at": at + 3_600}),
        build.remove({"id": "by a user"}),
        precision="MICROSECOND",
    )
    assert App(router).lambda_handler()(event) == {"batchItemFailures": []}
    assert seen == ["by its mark", "by its attribute"]


# --- several tables in one stream -----------------------------------------------------------------


def test_each_route_gets_the_records_of_its_table() -> None:
    seen = list[tuple[str, str]]()
    router = Router()
    for table in ("orders", "users"):

        @router.on_any(table=table, name=table)
        def handle(record: Record, table: str = table) -> None:
            assert record.table is not None
            seen.append((table, record.table))

    event = kinesis_event(*(RecordBuilder(table=t).insert({"id": 1}) for t in ("users", "carts")))
    assert App(router).lambda_handler()(event) == {"batchItemFailures": []}
    assert seen == [("users", "users")]


def test_items_of_two_tables_with_one_key_do_not_wait_for_each_other() -> None:
    seen = list[str]()
    router = Router()

    @router.on_any(name="ship")
    def ship(record: Record) -> None:
        assert record.table is not None
        seen.append(record.table)
        if record.table == "orders":
            raise ValueError("no")

    raws = [orders().insert({"id": 1}), users().insert({"id": 1}), orders().remove({"id": 1})]
    event = kinesis_event(*raws)
    handler = App(router).lambda_handler(report_batch_item_failures=True)
    assert handler(event) == {"batchItemFailures": [{"itemIdentifier": numbers(event)[0]}]}
    assert sorted(seen) == ["orders", "users"]  # the order's second change waits for its first


def test_a_damaged_change_holds_back_its_own_table_s_item_alone() -> None:
    seen = list[str]()
    router = Router()

    @router.on_any(name="ship")
    def ship(record: Record) -> None:
        seen.append(f"{record.table} {record.keys['id']}")

    build, item = orders(), {"id": "1"}
    bad = change(eventName="UPSERT", dynamodb=stream_fields(Keys={"id": {"S": "1"}}))
    event = kinesis_event(bad, users().insert(item), build.insert(item), build.insert({"id": "2"}))
    handler = App(router).lambda_handler(report_batch_item_failures=True)
    assert handler(event) == {"batchItemFailures": [{"itemIdentifier": numbers(event)[0]}]}
    assert sorted(seen) == ["orders 2", "users 1"]


def test_latest_only_makes_no_record_of_another_table_stale() -> None:
    got = list[tuple[str | None, str]]()
    router = Router()

    @router.on_batch(latest_only=True, name="index")
    def index(changes: list[Change[dict[str, Any]]]) -> None:
        got.extend((c.record.table, c.event_name.value) for c in changes)

    build = orders()
    raws = [build.insert({"id": 1}), users().insert({"id": 1}), build.remove({"id": 1})]
    assert App(router).lambda_handler()(kinesis_event(*raws)) == {"batchItemFailures": []}
    assert sorted(got, key=str) == [("orders", "REMOVE"), ("users", "INSERT")]


def lane(ordering: Ordering, record: Record | Undecodable) -> Any:
    assert record.keys is not None
    return ordering.lane_of(record, record.keys)


def test_lanes_by_partition_key_go_by_the_table_of_each_record() -> None:
    of_orders = RecordBuilder(("order", "line"), table="orders")
    of_users = RecordBuilder(("user", "order"), table="users")
    records = decoded(
        of_orders.insert({"order": "1", "line": "a"}),
        of_orders.insert({"order": "1", "line": "b"}),
        of_users.insert({"user": "1", "order": "1"}),
        change(
            eventName="UPSERT",
            dynamodb=stream_fields(Keys={"order": {"S": "1"}, "line": {"S": "c"}}),
        ),
    )
    named = Ordering("partition_key", partition_key={"orders": "order", "users": "user"})
    first, second, other, damaged = [lane(named, record) for record in records]
    assert first == second == damaged
    assert first != other
    alike = Ordering("partition_key", partition_key="order")
    assert lane(alike, records[0]) != lane(alike, records[2])


@pytest.mark.parametrize("by", ["shard", lambda record: "tenant"])
def test_lanes_by_shard_or_by_a_function_are_those_of_all_tables(by: Any) -> None:
    one, other = decoded(orders().insert({"id": 1}), users().insert({"id": 1}))
    assert lane(Ordering(by), one) == lane(Ordering(by), other)


# --- duplicates -----------------------------------------------------------------------------------


def identified(*data: dict[str, Any] | bytes) -> list[tuple[str, str]]:
    """Return by which marks of either kind records are known."""
    keys = MarkKeys(None, "")
    records = [record for record in decoded(*data) if isinstance(record, Record)]
    return [(keys.of(record, "ship"), mark_of(record, "ship")) for record in records]


def test_a_duplicate_is_the_same_change_and_other_changes_are_not() -> None:
    build = orders()
    raw, other = build.insert({"id": 1}), build.insert({"id": 1})
    elsewhere = users().insert({"id": 1}) | {"eventID": raw["eventID"]}
    once, twice, third, fourth = identified(raw, raw, other, elsewhere)
    assert once == twice
    assert all(len({a, b, c}) == 3 for a, b, c in zip(once, third, fourth, strict=True))


def test_changes_without_an_event_id_are_told_apart_by_their_numbers() -> None:
    once, twice = identified(change(eventID=None), change(eventID=None))
    assert once != twice


def test_a_duplicate_runs_again_unless_marks_say_that_it_is_done() -> None:
    seen = list[str]()
    router = ship_router(set(), seen)
    raw = orders().insert({"id": "a"})
    with TestClient(App(router)) as stream:
        result = stream.send(kinesis_event(raw, raw))
    assert (result.handled_by, seen) == (["ship", "ship"], ["a", "a"])
    seen.clear()
    with TestClient(App(router, middleware=[Idempotent(MemoryMarks())])) as stream:
        result = stream.send(kinesis_event(raw, raw))
        later = stream.send(kinesis_event(raw, after=2))
    assert [outcome.status for outcome in result.outcomes] == [Status.DONE, Status.REPEATED]
    assert (later.repeated_by, seen) == (["ship"], ["a"])


def test_a_call_of_a_batch_route_may_hold_a_change_and_its_duplicate() -> None:
    sizes = list[int]()
    router = Router(middleware=[Idempotent(MemoryMarks())])

    @router.on_batch(name="index")
    def index(changes: list[Change[dict[str, Any]]]) -> None:
        sizes.append(len(changes))

    raw = orders().insert({"id": "a"})
    with TestClient(App(router)) as stream:
        assert stream.send(kinesis_event(raw, raw)).failed is None
        assert stream.send(kinesis_event(raw, after=2)).repeated_by == ["index"]
    assert sizes == [2]


def test_what_comes_again_is_remembered_and_its_duplicate_is_not() -> None:
    seen = list[str]()
    build = orders()
    bad, good = build.insert({"id": "bad"}), build.insert({"id": "good"})
    event = kinesis_event(bad, good)
    with TestClient(App(ship_router({"bad"}, seen))) as stream:
        stream.send(event)
        again = stream.send(event)
        assert again.repeated_by == ["ship"]
        stream.send(kinesis_event(bad, good, after=2))
    assert seen.count("good") == 2


def test_what_is_nested_too_deeply_to_be_compared_is_answered_for() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    seen = list[str]()
    build = orders()
    event = build.event(build.insert({"id": "bad"}), build.insert({"id": "a"}) | {"x": deep})
    handler = App(ship_router({"bad"}, seen)).lambda_handler(report_batch_item_failures=True)
    number = event["Records"][0]["dynamodb"]["SequenceNumber"]
    for _ in range(2):
        assert handler(event) == {"batchItemFailures": [{"itemIdentifier": number}]}


# --- dead letters ---------------------------------------------------------------------------------


def parked() -> list[DeadLetterRecord]:
    """Return the letters of a record that its handler gave up, a damaged one, and junk."""
    letters = list[DeadLetterRecord]()
    router = Router(table="orders")

    @router.on_insert(name="ship")
    def ship() -> None:
        raise NonRetryable("no")

    app = App(router, dead_letter=letters.append)
    event = kinesis_event(orders().insert({"id": "a"}), change(eventName="UPSERT"), b"junk")
    assert app.lambda_handler()(event) == {"batchItemFailures": []}
    letters.sort(key=lambda letter: letter.sequence_number)  # junk is parked before all others
    assert [letter.sequence_number for letter in letters] == numbers(event)
    return letters


def test_letters_hold_what_came_and_read_back_as_it_was() -> None:
    whole, damaged, junk = (DeadLetterRecord.from_json(letter.to_json()) for letter in parked())
    assert [letter.source_arn for letter in (whole, damaged, junk)] == [ARN] * 3
    record, bad, nothing_at_all = whole.record(), damaged.record(), junk.record()
    assert isinstance(record, Record)
    assert record.new == {"id": "a"}
    assert record.table == "orders"
    assert record.created_at == datetime(2026, 1, 1, 0, 0, 1, tzinfo=timezone.utc)
    assert record.sequence_number == whole.sequence_number
    assert record.identity == (ARN, "orders", whole.event_id)
    assert "orders" in repr(whole)
    assert bad.table == "orders"
    assert bad.keys == {"id": MARKER}
    assert isinstance(nothing_at_all, Undecodable)
    assert "is not JSON" in str(nothing_at_all.reason)
    assert b64decode(junk.raw["kinesis"]["data"]) == b"junk"


def test_a_letter_for_no_route_is_run_where_some_route_takes_its_table() -> None:
    letter = Letter(replace(parked()[0], route=None), [])
    assert unfit(app_for("orders"), letter) is None
    assert unfit(app_for("users"), letter) is not None


@pytest.mark.parametrize("cut", [DeadLetterRecord.without_images, DeadLetterRecord._barest])
def test_letters_that_are_cut_still_say_which_table_they_are_of(
    cut: Callable[[DeadLetterRecord], DeadLetterRecord],
) -> None:
    for letter in parked():
        record = cut(letter).record()
        assert record.sequence_number == letter.sequence_number
    assert cut(parked()[0]).record().table == "orders"


SHOP = """
    from dynaflow import App, Router
    router = Router(table="orders")
    @router.on_insert(name="ship")
    def ship(new):
        print("shipped", new["id"])
    app = App(router)
"""


@pytest.fixture
def project(aws_project: Project) -> Project:
    aws_project.write("shop.py", SHOP)
    return aws_project


def test_letters_are_listed_and_run_again(project: Project, tmp_path: Path) -> None:
    sink = JsonLines(project.directory / "letters.jsonl")
    whole, _, junk = parked()
    sink(whole)
    sink(junk)
    listed = project.run("dead-letters", "list", "letters.jsonl", "--json")
    tables = {letter["id"]: letter["table"] for letter in json.loads(listed.stdout)}
    assert tables == {whole.id: "orders", junk.id: None}
    ran = project.run("dead-letters", "redrive", "shop:app", "letters.jsonl", "--route", "ship")
    assert (ran.exit_code, "shipped a" in ran.output) == (0, True)
    listed = project.run("dead-letters", "list", "letters.jsonl", "--json")
    assert [letter["id"] for letter in json.loads(listed.stdout)] == [junk.id]


def test_a_letter_without_images_is_not_looked_for_in_kinesis(project: Project) -> None:
    JsonLines(project.directory / "letters.jsonl")(parked()[0].without_images())
    ran = project.run("dead-letters", "redrive", "shop:app", "letters.jsonl", "--all")
    assert ran.exit_code != 0
    assert "one of Kinesis, which dynaflow does not read by itself" in ran.output.replace("\n", " ")


# --- the command line -----------------------------------------------------------------------------


def test_invoke_and_explain_read_such_events(project: Project) -> None:
    event = kinesis_event(orders().insert({"id": "a"}), users().insert({"id": "a"}))
    path = project.write_event(event)
    invoked = project.run("invoke", "shop:app", path)
    assert invoked.exit_code == 0
    assert "shipped a" in invoked.output
    assert numbers(event)[0] in invoked.output
    explained = json.loads(project.run("explain", "shop:app", path, "--json").stdout)
    assert [record["table"] for record in explained] == ["orders", "users"]


# --- the builder ----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["MILLISECOND", "MICROSECOND"])
@pytest.mark.parametrize("says_precision", [False, True])
def test_the_builder_writes_what_dynamodb_writes(
    precision: Literal["MILLISECOND", "MICROSECOND"], says_precision: bool
) -> None:
    raw = orders().modify({"id": 1}, {"id": 1, "n": 2})
    event = kinesis_event(raw, precision=precision, says_precision=says_precision)
    ((record,),) = [event["Records"]]
    data = json.loads(b64decode(record["kinesis"]["data"]))
    assert list(data) == [
        *("awsRegion", "eventID", "eventName", "userIdentity", "recordFormat", "tableName"),
        *("dynamodb", "eventSource"),
    ]
    said = data["dynamodb"].pop("ApproximateCreationDateTimePrecision", None)
    assert said == (precision if says_precision else None)
    assert data["dynamodb"].keys() == {
        *("ApproximateCreationDateTime", "Keys", "NewImage", "OldImage", "SizeBytes")
    }
    assert (data["userIdentity"], data["tableName"]) == (None, "orders")
    written = decode_event(event)[0][0]
    assert isinstance(written, Record)
    assert written.created_at == datetime(2026, 1, 1, 0, 0, 1, tzinfo=timezone.utc)


def test_the_builder_takes_data_as_it_is_and_numbers_go_on() -> None:
    event = kinesis_event(b"\x00\xff", stream_arn=ARN.replace("us-east-1", "eu-west-1"))
    assert event["Records"][0]["kinesis"]["data"] == b64encode(b"\x00\xff").decode()
    assert event["Records"][0]["awsRegion"] == "eu-west-1"
    two = numbers(kinesis_event(b"", b""))
    assert numbers(kinesis_event(b"", after=1)) == two[1:]


def test_the_builder_refuses_records_that_kinesis_never_has() -> None:
    with pytest.raises(ValueError, match="KEYS_ONLY"):
        kinesis_event(RecordBuilder(view_type="KEYS_ONLY").insert({"id": 1}))
    raw = orders().insert({"id": 1})
    del raw["eventSourceARN"]
    with pytest.raises(ValueError, match="eventSourceARN"):
        kinesis_event(raw)


def test_filters_see_what_they_see_of_a_stream() -> None:
    seen = list[str]()
    router = Router(table="orders")

    @router.on_modify(F.old.status == "open", F.new.status == "paid", name="ship")
    def ship(new: dict[str, Any]) -> None:
        seen.append(new["id"])

    build = orders()
    event = kinesis_event(
        build.modify({"id": "a", "status": "open"}, {"id": "a", "status": "paid"}),
        build.modify({"id": "b", "status": "void"}, {"id": "b", "status": "paid"}),
    )
    assert App(router).lambda_handler()(event) == {"batchItemFailures": []}
    assert seen == ["a"]
