"""Kinesis Data Streams for DynamoDB: a Kinesis record → a record as DynamoDB Streams would have it.

DynamoDB writes each change as JSON text into the data of a Kinesis record. It has no sequence
number, stream or view type of its own, names its table, and counts time in milliseconds or
microseconds (Amazon DynamoDB Developer Guide, "Using Kinesis Data Streams to capture changes to
DynamoDB"). Several tables may share a stream, and a change may be in it twice.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar

from dynaflow.record import Record

__all__ = [
    "KINESIS",
    "KinesisRecord",
    "change_in",
    "is_of_kinesis",
    "named_table",
    "number_in",
    "tables_in",
]

KINESIS = "aws:kinesis"
_DYNAMODB = "aws:dynamodb"

_AGGREGATED = b"\xf3\x89\x9a\xc2"  # what the Kinesis Producer Library begins such a record with
_PER_SECOND = {"MILLISECOND": 10**3, "MICROSECOND": 10**6}
_PRECISION = "ApproximateCreationDateTimePrecision"
_WRITTEN = "ApproximateCreationDateTime"
_IS_IT_OURS = "Does the event source mapping read the stream of another producer?"


class KinesisRecord(Record):
    """A change that came through a Kinesis stream."""

    __slots__ = ()

    shares_stream: ClassVar[bool] = True

    @property
    def table(self) -> str | None:
        """The table's name, as the record says it."""
        return named_table(self.raw)

    @property
    def identity(self) -> tuple[str, ...]:
        """Stream, table and event id: a duplicate has another sequence number."""
        if self.event_id:
            return self.source_arn, self.table or "", self.event_id
        return super().identity


def is_of_kinesis(source_arn: str) -> bool:
    """Return True for the ARN of a Kinesis stream."""
    return ":kinesis:" in source_arn


def named_table(raw: Any) -> str | None:
    """Return the table that a change names; None if it names none."""
    name = raw.get("tableName") if isinstance(raw, Mapping) else None
    return name if isinstance(name, str) and name else None


def number_in(raw: Mapping[str, Any]) -> Any:
    """Return the sequence number of a Kinesis record, whatever it is."""
    return _inner(raw).get("sequenceNumber")


def change_in(raw: Mapping[str, Any], source_arn: str) -> dict[str, Any] | str:
    """Return the change in a Kinesis record, or what keeps it from being one, without its data.

    Args:
        raw: the record; it is not changed.
        source_arn: the stream's ARN.

    Returns:
        A raw record such as one of DynamoDB Streams, with the Kinesis record's sequence number,
        and times in seconds.
    """
    change = _change(_inner(raw).get("data"))
    if isinstance(change, str):
        return change
    stream = change.get("dynamodb")
    if not isinstance(stream, dict):
        return f"dynamodb is {type(stream).__name__}, not a map"
    if named_table(change) is None:
        return "tableName is missing or no text"
    if source_arn:
        change["eventSourceARN"] = source_arn
    else:
        change.pop("eventSourceARN", None)
    if change.get("userIdentity") is None:
        change.pop("userIdentity", None)
    stream["SequenceNumber"] = number_in(raw)
    stream.pop("StreamViewType", None)  # there is none here, and it would be believed
    _in_seconds(stream)
    return change


def tables_in(raw: Mapping[str, Any]) -> frozenset[str | None]:
    """Return the table of the change in a Kinesis record; none if it holds no change."""
    change = _change(_inner(raw).get("data"))
    return frozenset() if isinstance(change, str) else frozenset({named_table(change)})


def _inner(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what has data and sequence number: in Lambda a member, in Pipes the record itself."""
    inner = raw.get("kinesis", raw)
    return inner if isinstance(inner, Mapping) else {}


def _change(data: Any) -> dict[str, Any] | str:
    if not isinstance(data, str):
        return "kinesis.data is not base64 text"
    try:
        content = b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return "kinesis.data is not base64 text"
    if content.startswith(_AGGREGATED):
        return f"kinesis.data is aggregated, which DynamoDB's is not. {_IS_IT_OURS}"
    try:
        change = json.loads(content.decode())
    except (ValueError, RecursionError):  # they would quote the data
        return f"kinesis.data is not JSON. {_IS_IT_OURS}"
    if not isinstance(change, dict) or change.get("eventSource") != _DYNAMODB:
        return f"kinesis.data is JSON, but no change of a DynamoDB table. {_IS_IT_OURS}"
    return change


def _in_seconds(stream: dict[str, Any]) -> None:
    """Turn the time of a change into seconds; what is no time stays, to be found when it is read.

    Not every record says how fine its time is. Seconds reach 10^12 in thirty thousand years, and
    milliseconds have passed it in 2001.
    """
    written, precision = stream.get(_WRITTEN), stream.pop(_PRECISION, None)
    if isinstance(written, bool) or not isinstance(written, (int, float)):
        return
    per_second = _PER_SECOND.get(precision) if isinstance(precision, str) else None
    if per_second is None:
        per_second = 10**6 if written >= 10**15 else 10**3 if written >= 10**12 else 1
    with suppress(OverflowError):
        stream[_WRITTEN] = written / per_second
