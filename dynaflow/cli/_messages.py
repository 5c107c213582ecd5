"""What Lambda notes about records that it gave up, in whatever the note came wrapped.

The message is that of AWS Lambda's developer guide, "Retain discarded records from DynamoDB"; in S3
it carries the records, too. People have it as it is, as ``aws sqs receive-message`` prints it, as a
topic's notification, or as the event of a function that reads the queue.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from dynaflow.codec import decode_event, decode_records
from dynaflow.errors import EventError
from dynaflow.record import Record, Undecodable
from dynaflow.values import harmless

__all__ = ["Foreign", "Stretch", "stretches_in"]

_INFO = "DDBStreamBatchInfo"
_WRAPPINGS = ("Messages", "Records", "Message", "Body", "body", "Sns")
_DEPTH = 20  # wrappings in each other; three of them and their lists are usual
_STREAM = re.compile(r"arn:[\w-]+:dynamodb:[\w-]*:\w*:table/[\w.-]+/stream/[\w.:-]+", re.ASCII)
_SHARD = re.compile(r"[\w-]+", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,99}")


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of a shard that Lambda gave up.

    Args:
        stream_arn: its stream.
        shard_id: its shard.
        first: the sequence number of its first record.
        last: that of its last one.
        size: how many of its records were for the function, after the mapping's filters.
        condition: why Lambda gave up, in its words.
        deliveries: how often it had delivered them, about.
        arrived: when the first record was written; None if it is not said.
        records: in stream order, as S3 has them; None where they have to be read.
    """

    stream_arn: str
    shard_id: str
    first: str
    last: str
    size: int
    condition: str
    deliveries: int
    arrived: str | None = None
    records: tuple[Record | Undecodable, ...] | None = None

    def __str__(self) -> str:
        return f"{self.shard_id} from {self.first} to {self.last}"


@dataclass(frozen=True, slots=True)
class Foreign:
    """Something in a file that is no such message.

    Args:
        where: the way to it from the top, as in ``Messages[0].Body``.
        reason: what is wrong with it.
    """

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}" if self.where else self.reason


def stretches_in(value: Any) -> Iterator[Stretch | Foreign]:
    """Yield what the messages in a JSON value are about, in their order."""
    return _walk(value, "", 0)


def _walk(value: Any, where: str, depth: int) -> Iterator[Stretch | Foreign]:
    if depth > _DEPTH:
        yield Foreign(where, "it is wrapped too often")
    elif isinstance(value, str):
        try:
            inner = json.loads(value)
        except (ValueError, RecursionError):
            yield Foreign(where, "it is text that is not JSON")
        else:
            yield from _walk(inner, where, depth + 1)
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from _walk(entry, f"{where}[{index}]", depth + 1)
    elif not isinstance(value, Mapping):
        yield Foreign(where, "it is neither an object nor a list")
    elif isinstance(value.get(_INFO), Mapping):
        yield _stretch(value, value[_INFO], where)
    elif (reason := _foreign(value)) is not None:
        yield Foreign(where, reason)
    else:
        name = next(name for name in _WRAPPINGS if name in value)
        yield from _walk(value[name], f"{where}.{name}".lstrip("."), depth + 1)


def _foreign(value: Mapping[str, Any]) -> str | None:
    """Return why this is no message and has none in it; None if it may have."""
    if "dynamodb" in value:
        return "it is a record, not a message about records: run the event with dynaflow invoke"
    if "KinesisBatchInfo" in value:
        return "it is about a Kinesis stream, which dynaflow recover does not read"
    if "s3" in value:
        return "it tells of an object in S3: fetch that with aws s3 cp, it has the message"
    if any(name in value for name in _WRAPPINGS):
        return None
    return f"it is no message of Lambda about records that it gave up: it has no {_INFO}"


def _stretch(message: Mapping[str, Any], info: Mapping[str, Any], where: str) -> Stretch | Foreign:
    arn, shard_id, size = info.get("streamArn"), info.get("shardId"), info.get("batchSize")
    first, last = info.get("startSequenceNumber"), info.get("endSequenceNumber")
    if not (isinstance(arn, str) and _STREAM.fullmatch(arn)):
        return Foreign(where, f"{_INFO}.streamArn is not the ARN of a DynamoDB stream")
    if not (isinstance(shard_id, str) and _SHARD.fullmatch(shard_id)):
        return Foreign(where, f"{_INFO}.shardId is missing, or no shard's id")
    if not (_is_number(first) and _is_number(last) and int(first) <= int(last)):
        return Foreign(where, f"{_INFO} does not say from which sequence number to which")
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        return Foreign(where, f"{_INFO}.batchSize is not a number of records")
    context = message.get("requestContext")
    context = context if isinstance(context, Mapping) else {}
    count, arrived = (
        context.get("approximateInvokeCount"),
        info.get("approximateArrivalOfFirstRecord"),
    )
    try:
        records = _payload(message, arn)
    except EventError as error:
        return Foreign(where, f"payload: {error}")
    return Stretch(
        arn,
        shard_id,
        first,
        last,
        size,
        condition=str(context.get("condition") or "given up"),
        deliveries=count if isinstance(count, int) and count > 0 else 1,
        arrived=arrived if isinstance(arrived, str) else None,
        records=records,
    )


def _payload(message: Mapping[str, Any], arn: str) -> tuple[Record | Undecodable, ...] | None:
    """Return the records that a message in S3 has; None for one that has none.

    Raises:
        EventError: what it has is not a DynamoDB Streams event, or of another stream.
    """
    payload = message.get("payload")
    if isinstance(payload, str):
        try:
            payload = json.loads(payload)
        except (ValueError, RecursionError):
            raise EventError("the text is not JSON") from None
    if payload is None:
        return None
    records, named = decode_event(payload)
    if named not in ("", arn):
        raise EventError(f"the records are of another stream than the message: {harmless(named)}")
    return records if named else decode_records([record.raw for record in records], arn)


def _is_number(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and _NUMBER.fullmatch(value) is not None
