from __future__ import annotations

import json
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any

import pytest
from aws_lambda_powertools.utilities.data_classes import DynamoDBStreamEvent
from botocore.parsers import create_parser
from botocore.session import get_session

from dynaflow.codec import decode_event, decode_records, is_stream_event
from dynaflow.errors import EventError, MalformedRecord, MalformedValue
from dynaflow.record import EventName, Record, Undecodable
from dynaflow.testing.records import RecordBuilder, lambda_event

MARKER = "pa55w0rd"  # stands for item data, which no error may show


def numbered(sequence_number: Any, **fields: Any) -> dict[str, Any]:
    """Return a raw record with this sequence number."""
    raw = RecordBuilder().insert({"id": "1"}) | fields
    raw["dynamodb"]["SequenceNumber"] = sequence_number
    return raw


def spoiled(**stream_fields: Any) -> dict[str, Any]:
    """Return a raw MODIFY with other fields in its ``dynamodb``."""
    raw = RecordBuilder().modify({"id": MARKER}, {"id": MARKER, "n": 1})
    raw["dynamodb"] |= stream_fields
    return raw


def undecodable(raw: dict[str, Any]) -> Undecodable:
    """Return what the codec makes of a raw record that cannot be read."""
    ((record,), _) = decode_event(lambda_event(raw))
    assert isinstance(record, Undecodable)
    assert isinstance(record.reason, MalformedRecord)
    assert record.raw is raw
    assert record.sequence_number == raw["dynamodb"]["SequenceNumber"]
    assert MARKER not in repr(record) + repr(record.reason)
    return record


# --- events ---------------------------------------------------------------------------------------


def test_an_event_becomes_records_and_the_arn_of_their_stream() -> None:
    make = RecordBuilder(table="orders")
    raws = [
        make.insert({"id": 1}),
        make.modify({"id": 1}, {"id": 1, "n": 2}),
        make.expire({"id": 1}),
    ]
    records, arn = decode_event(make.event(*raws))
    assert arn == make.stream_arn
    assert [record.raw for record in records] == raws
    assert all(isinstance(record, Record) and record.source_arn == arn for record in records)
    assert [record.event_name for record in records if isinstance(record, Record)] == [
        EventName.INSERT,
        EventName.MODIFY,
        EventName.REMOVE,
    ]


def test_the_event_is_left_as_it_was() -> None:
    make = RecordBuilder()
    event = make.event(make.insert({"id": 1}), make.remove({"id": 1}))
    before = json.dumps(event)
    for record in decode_event(event)[0]:
        assert isinstance(record, Record)
        assert record.keys.to_dict() == {"id": 1}
    assert json.dumps(event) == before


@pytest.mark.parametrize("form", [list, tuple], ids=["list", "tuple"])
def test_a_bare_list_is_read_as_pipes_sends_it(form: Any) -> None:
    raws = form([RecordBuilder().insert({"id": 1})])
    records, arn = decode_event(raws)
    assert [record.raw for record in records] == list(raws)
    assert arn == RecordBuilder().stream_arn


@pytest.mark.parametrize("event", [{"Records": []}, {"Records": ()}, []], ids=repr)
def test_no_records_are_fine(event: Any) -> None:
    assert decode_event(event) == ((), "")


def test_powertools_wrapper_of_the_event_is_read() -> None:
    make = RecordBuilder()
    event = make.event(make.insert({"id": 1, "photo": b"\xff"}), make.expire({"id": 1}))
    wrapped = DynamoDBStreamEvent(event)
    records, arn = decode_event(wrapped)
    assert [record.raw for record in records] == event["Records"]
    assert arn == make.stream_arn
    assert is_stream_event(wrapped)


def test_any_mapping_may_be_the_event_and_the_records() -> None:
    raw = RecordBuilder().insert({"id": 1})
    frozen = MappingProxyType(raw | {"dynamodb": MappingProxyType(raw["dynamodb"])})
    ((record,), _) = decode_event(MappingProxyType({"Records": (frozen,)}))
    assert isinstance(record, Record)
    assert record.new == {"id": 1}


def test_records_without_an_arn_have_an_empty_one() -> None:
    raw = RecordBuilder().insert({"id": 1})
    del raw["eventSourceARN"]
    ((record,), arn) = decode_event(lambda_event(raw))
    assert (arn, record.source_arn) == ("", "")


def test_a_record_without_an_arn_is_of_the_stream_that_the_others_name() -> None:
    make = RecordBuilder()
    raws = [make.insert({"id": n}) for n in range(3)]
    raws[1]["eventSourceARN"] = None
    records, arn = decode_event(lambda_event(*raws))
    assert {record.source_arn for record in records} == {arn} == {make.stream_arn}


def test_records_of_two_streams_fail_as_a_whole() -> None:
    raws = [RecordBuilder(table=table).insert({"id": 1}) for table in ("orders", "users")]
    with pytest.raises(EventError, match="mixes records of 2 streams"):
        decode_event(lambda_event(*raws))


OTHER_SOURCES: dict[str, tuple[dict[str, Any], str]] = {
    "SQS": ({"messageId": "1", "body": MARKER, "eventSource": "aws:sqs"}, "aws:sqs"),
    "S3": ({"eventSource": "aws:s3", "s3": {"object": {"key": MARKER}}}, "aws:s3"),
    "SNS": ({"EventSource": "aws:sns", "Sns": {"Message": MARKER}}, "aws:sns"),
}


@pytest.mark.parametrize(("raw", "source"), OTHER_SOURCES.values(), ids=OTHER_SOURCES.keys())
def test_events_of_other_sources_are_refused_by_name(raw: dict[str, Any], source: str) -> None:
    with pytest.raises(EventError, match=f"a record comes from '{source}'") as refused:
        decode_event({"Records": [raw]})
    assert MARKER not in str(refused.value)
    assert not is_stream_event({"Records": [raw]})


def test_one_record_of_another_source_among_good_ones_fails_the_event() -> None:
    good = RecordBuilder().insert({"id": 1})
    with pytest.raises(EventError, match="'aws:sqs'"):
        decode_event(lambda_event(good, numbered("1", eventSource="aws:sqs")))


@pytest.mark.parametrize(
    "window",
    [
        {"window": {"start": "2020-07-30T17:00:00Z", "end": "2020-07-30T17:05:00Z"}, "state": {}},
        {"isFinalInvokeForWindow": True},
    ],
    ids=["window", "last call"],
)
def test_a_tumbling_window_is_refused_with_the_setting_to_change(window: dict[str, Any]) -> None:
    with pytest.raises(EventError, match="TumblingWindowInSeconds to 0"):
        decode_event({"Records": [], **window})


@pytest.mark.parametrize(
    "event", [{}, {"detail": MARKER}, {"records": []}, {"httpMethod": "GET"}], ids=repr
)
def test_an_event_without_records_is_refused(event: Any) -> None:
    with pytest.raises(EventError, match="the event has no 'Records'") as refused:
        decode_event(event)
    assert MARKER not in str(refused.value)


@pytest.mark.parametrize(
    "event",
    [
        *(None, MARKER, MARKER.encode(), 1, {MARKER}),
        *({"Records": None}, {"Records": MARKER}, {"Records": {MARKER: 1}}),
    ],
    ids=repr,
)
def test_what_is_no_event_is_refused_by_its_type(event: Any) -> None:
    with pytest.raises(
        EventError, match=r"expected a DynamoDB Streams event .* got \w+$"
    ) as refused:
        decode_event(event)
    assert MARKER not in str(refused.value)


def test_is_stream_event_knows_events_and_lists() -> None:
    raw = RecordBuilder().insert({"id": 1})
    assert is_stream_event({"Records": [raw]})
    assert is_stream_event([raw])
    others: list[Any] = [None, "x", {}, {"Records": []}, [], {"Records": None}, [raw, None]]
    assert not any(is_stream_event(other) for other in others)


# --- sequence numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "0",
        "7",
        "111",
        "000000000000000000017",
        "9" * 21,
        "1" * 28,
        "0" * 30 + "5",
        "8" * 40,
        "3" * 4300,
    ],
    ids=len,
)
def test_sequence_numbers_of_any_length_keep_their_text(text: str) -> None:
    ((record,), _) = decode_event(lambda_event(numbered(text)))
    assert record.sequence_number == text
    assert record.position == int(text)


def test_records_are_ordered_as_numbers_and_not_as_text() -> None:
    ascending = ["0" * 20 + "5", "9" * 21, "1" + "0" * 21, "9" * 22, "1" + "0" * 27]
    assert sorted(ascending) != ascending
    for arrived in (ascending, ascending[::-1], sorted(ascending)):
        records, _ = decode_event(lambda_event(*map(numbered, arrived)))
        assert [record.sequence_number for record in records] == ascending


def test_the_same_record_twice_stays_two_records() -> None:
    raw = numbered("17")
    records, _ = decode_event(lambda_event(raw, raw))
    assert [record.sequence_number for record in records] == ["17", "17"]


UNUSABLE: list[Any] = [
    *(None, "", " ", "1 ", " 1", "1\n", "+1", "-1", "1.0", "1e5", "1_0", "0x1", "abc", MARKER),
    *("١٢٣", "１", "²", "1" * 5_000, 1, 1.0, True, ["1"], {"N": "1"}, b"1"),
]


@pytest.mark.parametrize("number", UNUSABLE, ids=lambda number: ascii(number)[:12])
def test_an_unusable_sequence_number_fails_the_whole_batch(number: Any) -> None:
    good = [RecordBuilder().insert({"id": MARKER}) for _ in range(2)]
    with pytest.raises(EventError, match=r"no usable dynamodb\.SequenceNumber") as refused:
        decode_event(lambda_event(good[0], numbered(number), good[1]))
    assert MARKER not in str(refused.value)


@pytest.mark.parametrize(
    "raw",
    [
        *(None, MARKER, 1, [], {}),
        {"eventName": "INSERT"},
        {"eventName": "INSERT", "dynamodb": None},
        {"eventName": "INSERT", "dynamodb": MARKER},
        {"eventName": "INSERT", "dynamodb": [{"SequenceNumber": "1"}]},
        {"eventName": "INSERT", "dynamodb": {"Keys": {"id": {"S": MARKER}}}},
    ],
    ids=repr,
)
def test_a_record_without_a_place_for_its_sequence_number_fails_the_whole_batch(raw: Any) -> None:
    with pytest.raises(EventError, match=r"no usable dynamodb\.SequenceNumber") as refused:
        decode_records([RecordBuilder().insert({"id": 1}), raw], "")
    assert MARKER not in str(refused.value)


# --- records that cannot be read ------------------------------------------------------------------


@pytest.mark.parametrize("name", [None, "", "insert", "UPSERT", MARKER, 1, ["INSERT"], {"S": "x"}])
def test_an_unknown_event_name_is_undecodable_and_keeps_its_keys(name: Any) -> None:
    record = undecodable(spoiled() | {"eventName": name})
    assert str(record.reason) == "eventName is not INSERT, MODIFY or REMOVE"
    assert record.keys == {"id": MARKER}


def test_a_missing_event_name_is_undecodable() -> None:
    raw = spoiled()
    del raw["eventName"]
    assert undecodable(raw).keys == {"id": MARKER}


@pytest.mark.parametrize("keys", [None, {}, [], MARKER, 1, [{"id": {"S": MARKER}}]], ids=repr)
def test_missing_keys_are_undecodable_and_leave_no_key(keys: Any) -> None:
    record = undecodable(spoiled(Keys=keys))
    assert str(record.reason) == "dynamodb.Keys is missing or empty"
    assert record.keys is None


def test_absent_keys_are_undecodable() -> None:
    raw = spoiled()
    del raw["dynamodb"]["Keys"]
    assert undecodable(raw).keys is None


@pytest.mark.parametrize("image", [MARKER, [], 0, False, ["x"]], ids=repr)
@pytest.mark.parametrize("name", ["NewImage", "OldImage"])
def test_an_image_of_a_wrong_type_is_undecodable_and_keeps_its_keys(name: str, image: Any) -> None:
    record = undecodable(spoiled(**{name: image}))
    assert str(record.reason) == f"dynamodb.{name} is {type(image).__name__}, not a map"
    assert record.keys == {"id": MARKER}


@pytest.mark.parametrize(
    "value", [{"S": 1}, {}, MARKER, None, {"N": MARKER}, {"S": "a", "N": "1"}], ids=repr
)
def test_an_undecodable_record_with_a_malformed_key_has_no_keys(value: Any) -> None:
    record = undecodable(spoiled(Keys={"id": value}) | {"eventName": "UPSERT"})
    assert record.keys is None


def test_a_malformed_key_of_a_record_that_is_fine_otherwise_fails_when_it_is_read() -> None:
    ((record,), _) = decode_event(lambda_event(spoiled(Keys={"id": {"N": MARKER}})))
    assert isinstance(record, Record)
    with pytest.raises(MalformedValue, match=r"at \['id'\]: N is not a decimal number"):
        record.keys.to_dict()


def test_images_that_are_null_are_as_good_as_absent() -> None:
    ((record,), _) = decode_event(lambda_event(spoiled(NewImage=None, OldImage=None)))
    assert isinstance(record, Record)
    assert (record.new, record.old) == (None, None)


def test_a_bad_record_keeps_its_place_between_good_ones() -> None:
    raws = [numbered("1"), numbered("2", eventName="UPSERT"), numbered("3")]
    records, _ = decode_event(lambda_event(*raws))
    assert [type(record) for record in records] == [Record, Undecodable, Record]
    assert [record.position for record in records] == [1, 2, 3]


def test_binary_keys_come_out_of_an_undecodable_record() -> None:
    make = RecordBuilder(keys=("id", "at"))
    raw = make.insert({"id": b"\xff\x00", "at": 1}) | {"eventName": "UPSERT"}
    record = undecodable(raw)
    assert record.keys == {"id": b"\xff\x00", "at": 1}


# --- GetRecords -----------------------------------------------------------------------------------


def parsed_by_botocore(*raws: dict[str, Any]) -> list[Any]:
    """Return raw records as botocore's own parser reads them from a GetRecords answer."""
    records = [{k: v for k, v in raw.items() if k != "eventSourceARN"} for raw in raws]
    for record in records:
        if identity := record.get("userIdentity"):
            identity = {"Type": identity["type"], "PrincipalId": identity["principalId"]}
            record["userIdentity"] = identity
    service = get_session().get_service_model("dynamodbstreams")
    body = json.dumps({"Records": records}).encode()
    answer = create_parser(service.metadata["protocol"]).parse(
        {"status_code": 200, "headers": {}, "body": body},
        service.operation_model("GetRecords").output_shape,
    )
    parsed: list[Any] = answer["Records"]
    return parsed


def test_an_answer_of_get_records_reads_like_the_lambda_event() -> None:
    make = RecordBuilder()
    item = {"id": 1, "photo": b"\xff", "parts": {b"\x00", b"\x01"}, "deep": [{"b": b"x"}]}
    raws = [make.insert(item), make.modify(item, item | {"n": 2}), make.expire(item)]
    from_lambda, _ = decode_event(make.event(*raws))
    pages = parsed_by_botocore(*raws)
    assert pages[0]["dynamodb"]["NewImage"]["photo"] == {"B": b"\xff"}
    assert isinstance(pages[0]["dynamodb"]["ApproximateCreationDateTime"], datetime)
    from_api = decode_records(pages, make.stream_arn)
    for ours, theirs in zip(from_api, from_lambda, strict=True):
        assert isinstance(ours, Record)
        assert isinstance(theirs, Record)
        for name in (
            *("event_id", "event_name", "keys", "new", "old", "sequence_number", "position"),
            *("created_at", "table", "view_type", "size_bytes", "is_ttl_delete"),
        ):
            assert getattr(ours, name) == getattr(theirs, name), name
    last = from_api[-1]
    assert isinstance(last, Record)
    assert last.is_ttl_delete
    assert last.created_at is not None
    assert last.created_at.tzinfo is timezone.utc
