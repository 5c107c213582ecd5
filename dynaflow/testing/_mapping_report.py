"""What a mapping did, as frozen data, and the messages that it sends about what it gave up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, TypeAlias

__all__ = ["Condition", "GivenUp", "Invocation", "MappingReport", "Outcome", "Stretch"]

Outcome: TypeAlias = Literal["done", "partly done", "failed", "function error", "throttled"]
Condition: TypeAlias = Literal["RetryAttemptsExhausted", "RecordAgeExceeded", "Trimmed"]

FUNCTION_ARN = "arn:aws:lambda:us-east-1:123456789012:function:function"


@dataclass(frozen=True, slots=True)
class Invocation:
    """One call of the function.

    Args:
        request_id: what its context had as ``aws_request_id``.
        shard_id: whose records it had.
        lane: which of the shard's concurrent batches it was, from 0.
        numbers: their sequence numbers, in order.
        at: when it began, on the mapping's clock, in seconds since the epoch.
        outcome: how the mapping reads it: "failed" if the answer names the first record, or is
            malformed; "function error" if there was no answer in time; "throttled" if the function
            was never reached.
        answer: what the function answered, after JSON; None without an answer.
        error: what it raised, what kept its answer from being written, or a TimeoutError.
        again: the outcome was lost, so that the same batch came once more; it does not count.
    """

    request_id: str
    shard_id: str
    lane: int
    numbers: tuple[str, ...]
    at: float
    outcome: Outcome
    answer: Any = None
    error: BaseException | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Records that the mapping passed although they are not done.

    Args:
        shard_id: theirs.
        numbers: their sequence numbers, in order.
        condition: as in the message; "Trimmed" if the stream itself no longer had them.
        records: the raw records, which only S3 gets.
        message: the body that SQS and Kafka get, and SNS as its Message; None if trimmed.
        s3_key: the name of the object in S3; None if trimmed.
        delivered: True if the on-failure destination took it.
    """

    shard_id: str
    numbers: tuple[str, ...]
    condition: Condition
    records: tuple[Mapping[str, Any], ...]
    message: Mapping[str, Any] | None = None
    s3_key: str | None = None
    delivered: bool = False

    @property
    def s3_object(self) -> dict[str, Any] | None:
        """The object in S3, which has the records, too; None if trimmed."""
        if self.message is None:
            return None
        return {**self.message, "payload": {"Records": list(self.records)}}


@dataclass(frozen=True, slots=True)
class MappingReport:
    """What came of a run.

    Args:
        invocations: in the order in which they began.
        deliveries: how often the function had each record, by sequence number, in stream order.
        done: the sequence numbers of what it did, in the order in which they were counted as done.
        given_up: what was passed without being done, in the order in which that happened.
        filtered: the sequence numbers of what the filter kept from the function.
        pending: what was left when the run ended early, in stream order.
        checkpoints: by shard, the highest sequence number up to which nothing is pending; None if
            there is none.
    """

    invocations: tuple[Invocation, ...]
    deliveries: Mapping[str, int]
    done: tuple[str, ...]
    given_up: tuple[GivenUp, ...]
    filtered: tuple[str, ...]
    pending: tuple[str, ...]
    checkpoints: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a message says about its batch.

    Args:
        shard_id: its shard.
        stream_arn: its stream.
        first: when its first record was written, in seconds since the epoch.
        last: the same of its last.
        numbers: its sequence numbers.
    """

    shard_id: str
    stream_arn: str
    first: float
    last: float
    numbers: tuple[str, ...]


def message(
    stretch: Stretch,
    condition: Condition,
    *,
    now: float,
    request_id: str,
    invoke_count: int,
    function_error: bool,
) -> dict[str, Any]:
    """Return the message about a batch that is given up, as AWS was recorded to write it.

    ``functionError`` is null if the retries ended with an answer. About records that were too old
    there is no ``responseContext``, and the count is 1 however often the function had them.
    """
    exhausted = condition == "RetryAttemptsExhausted"
    response = {
        "statusCode": 200,
        "executedVersion": "$LATEST",
        "functionError": "Unhandled" if function_error else None,
    }
    body = {
        "requestContext": {
            "requestId": request_id,
            "functionArn": FUNCTION_ARN,
            "condition": condition,
            "approximateInvokeCount": invoke_count if exhausted else 1,
        },
        **({"responseContext": response} if exhausted else {}),
        "version": "1.0",
        "timestamp": _moment(now).isoformat(timespec="milliseconds") + "Z",
        "DDBStreamBatchInfo": {
            "shardId": stretch.shard_id,
            "startSequenceNumber": stretch.numbers[0],
            "endSequenceNumber": stretch.numbers[-1],
            "approximateArrivalOfFirstRecord": _moment(stretch.first).isoformat("T", "seconds")
            + "Z",
            "approximateArrivalOfLastRecord": _moment(stretch.last).isoformat("T", "seconds") + "Z",
            "batchSize": len(stretch.numbers),
            "streamArn": stretch.stream_arn,
        },
    }
    written: dict[str, Any] = json.loads(json.dumps(body))
    return written


def s3_key(mapping_id: str, shard_id: str, now: float, unique: str) -> str:
    """Return the name that a message has in S3: dots in the time, not colons."""
    day, moment = f"{_moment(now):%Y/%m/%d}", f"{_moment(now):%Y-%m-%dT%H.%M.%S}"
    return f"aws/lambda/{mapping_id}/{shard_id}/{day}/{moment}-{unique}"


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc).replace(tzinfo=None)
