"""The wire → records: Lambda events, Pipes' lists, and pages of GetRecords.

What came through Kinesis is first made such as if it had not (``_kinesis.py``).

Nothing is decoded here beyond what order and safety need: sequence numbers, event names, and
whether keys and images are there. A record that fails these checks becomes ``Undecodable``; only
what makes the whole batch unusable is raised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dynaflow._kinesis import (
    KINESIS,
    KinesisRecord,
    change_in,
    is_of_kinesis,
    named_table,
    number_in,
    tables_in,
)
from dynaflow.errors import EventError, MalformedRecord, MalformedValue
from dynaflow.record import EventName, Image, Record, Undecodable, table_of
from dynaflow.values import canonical

__all__ = ["decode_event", "decode_records", "is_stream_event", "tables_of_event"]

_EVENT_NAMES = {name.value: name for name in EventName}
_SOURCE = "aws:dynamodb"


def decode_event(event: Any) -> tuple[tuple[Record | Undecodable, ...], str]:
    """Read a Lambda event, or the list that EventBridge Pipes sends.

    The records are those of DynamoDB Streams, or of a Kinesis stream that DynamoDB writes a table's
    changes to. Of these, ``sequence_number`` is the one in Kinesis, and order is that of arrival
    there: it may differ from the order of the changes, and a change may come more than once.

    Returns:
        The records in ascending order, and the stream's ARN ("" if the records name none).

    Raises:
        EventError: it is no such event, its records come from several streams, or a record has no
            usable sequence number, so that its failure could not be reported.
    """
    raws = _raw_records(event)
    arns = {arn for raw in raws if (arn := _text(raw, "eventSourceARN"))}
    if len(arns) > 1:
        raise EventError(
            f"the event mixes records of {len(arns)} streams; their sequence numbers cannot be "
            "compared. Send one event per stream."
        )
    arn = arns.pop() if arns else ""
    if raws and _text(raws[0], "eventSource") == KINESIS:
        return _in_order([_decode_kinesis(raw, arn) for raw in raws]), arn
    return decode_records(raws, arn), arn


def decode_records(raws: Sequence[Any], source_arn: str) -> tuple[Record | Undecodable, ...]:
    """Read raw records of one stream: of a Lambda event, or as botocore parses GetRecords.

    Records of a Kinesis stream's ARN may be as they came, or in the form of ``Record.raw``.

    Returns:
        One entry per raw record, in ascending order of sequence number.

    Raises:
        EventError: a record without a usable sequence number; none of the others may start, since
            its failure could not be reported.
    """
    decode = _decode_kinesis if is_of_kinesis(source_arn) else _decode_record
    return _in_order([decode(raw, source_arn) for raw in raws])


def is_stream_event(event: Any) -> bool:
    """Return True if the event, or the list, holds records of DynamoDB Streams."""
    return _all_from(_SOURCE, event.get("Records") if isinstance(event, Mapping) else event)


def tables_of_event(event: Any) -> frozenset[str | None]:
    """Return the tables that the records of an event are of; none if it is of another source.

    Never raises: it is asked about events of every kind. None stands for a record that says of no
    table. Of a Kinesis event, what holds no change of a table does not count.
    """
    try:
        records = event["Records"] if isinstance(event, Mapping) else event
        if _all_from(KINESIS, records):
            return frozenset().union(*map(tables_in, records))
        if not is_stream_event(event):
            return frozenset()
        return frozenset(table_of(_text(raw, "eventSourceARN")) for raw in records)
    except Exception:  # whatever a foreign object's methods do, it is not a stream's event
        return frozenset()


def _all_from(source: str, records: Any) -> bool:
    return (
        isinstance(records, (list, tuple))
        and bool(records)
        and all(isinstance(raw, Mapping) and raw.get("eventSource") == source for raw in records)
    )


def _raw_records(event: Any) -> Sequence[Any]:
    if isinstance(event, Mapping):
        if "window" in event or "isFinalInvokeForWindow" in event:
            raise EventError(
                "this event belongs to a tumbling window, whose state dynaflow does not keep. "
                "Set TumblingWindowInSeconds to 0 on the event source mapping."
            )
        if "Records" not in event:
            raise EventError(
                "the event has no 'Records', so it is not from DynamoDB Streams. "
                "Check which event source invokes this function."
            )
        event = event["Records"]
    if not isinstance(event, (list, tuple)):
        raise EventError(
            f"expected a DynamoDB Streams event (a mapping with a list 'Records'), got "
            f"{type(event).__name__}"
        )
    expected = _SOURCE
    if event and _text(event[0], "eventSource") == KINESIS:
        expected = KINESIS
    for raw in event:
        source = _text(raw, "eventSource") or _text(raw, "EventSource")  # SNS has the capital E
        if source not in ("", expected):
            raise EventError(
                f"a record comes from {source!r}, not from {expected!r}. "
                "Route other sources to another handler before this one."
            )
    return event


def _text(raw: Any, name: str) -> str:
    """Return a text field of a raw record; "" if it is not there or not text."""
    value = raw.get(name) if isinstance(raw, Mapping) else None
    return value if isinstance(value, str) else ""


def _in_order(records: list[Record | Undecodable]) -> tuple[Record | Undecodable, ...]:
    records.sort(key=lambda record: record.position)  # the service's order already: one cheap pass
    return tuple(records)


def _decode_kinesis(raw: Any, source_arn: str) -> Record | Undecodable:
    """Read a Kinesis record, or what an earlier reading made of one: a letter's record, say."""
    if _text(raw, "eventSource") != KINESIS:
        return _decode_record(raw, source_arn, KinesisRecord)
    sequence_number = number_in(raw)
    position = _position(sequence_number, "kinesis.sequenceNumber")
    change = change_in(raw, source_arn)
    if isinstance(change, dict):
        return _decode_record(change, source_arn, KinesisRecord)
    return Undecodable(
        raw,
        reason=MalformedRecord(change),
        sequence_number=sequence_number,
        position=position,
        source_arn=source_arn,
        keys=None,
    )


def _decode_record(
    raw: Any, source_arn: str, record_type: type[Record] = Record
) -> Record | Undecodable:
    stream = raw.get("dynamodb") if isinstance(raw, Mapping) else None
    sequence_number: Any = stream.get("SequenceNumber") if isinstance(stream, Mapping) else None
    position = _position(sequence_number)
    problem = _problem(raw, stream)
    if problem is None:
        return record_type(
            raw,
            event_name=_EVENT_NAMES[raw["eventName"]],
            sequence_number=sequence_number,
            position=position,
            source_arn=source_arn,
        )
    return Undecodable(
        raw,
        reason=MalformedRecord(problem),
        sequence_number=sequence_number,
        position=position,
        source_arn=source_arn,
        keys=_readable_keys(stream),
        table=named_table(raw) if record_type.shares_stream else None,
    )


def _position(sequence_number: Any, name: str = "dynamodb.SequenceNumber") -> int:
    if isinstance(sequence_number, str) and sequence_number.isascii() and sequence_number.isdigit():
        try:
            return int(sequence_number)
        except ValueError:  # Python refuses to convert more than 4,300 digits
            pass
    raise EventError(
        f"a record has no usable {name} (text of decimal digits), so its failure "
        "could not be reported. The whole batch fails and no handler was started."
    )


def _problem(raw: Any, stream: Any) -> str | None:
    """Return what keeps this record from being read, without its data; None if nothing does."""
    event_name = raw.get("eventName")
    if not isinstance(event_name, str) or event_name not in _EVENT_NAMES:
        return "eventName is not INSERT, MODIFY or REMOVE"
    keys = stream.get("Keys")
    if not isinstance(keys, dict) or not keys:
        return "dynamodb.Keys is missing or empty"
    for name in ("NewImage", "OldImage"):
        image = stream.get(name)
        if image is not None and not isinstance(image, dict):
            return f"dynamodb.{name} is {type(image).__name__}, not a map"
    return None


def _readable_keys(stream: Any) -> Image | None:
    keys = stream.get("Keys")
    if not isinstance(keys, dict) or not keys:
        return None
    try:
        for value in keys.values():
            canonical(value)
    except MalformedValue:
        return None
    return Image(keys)
