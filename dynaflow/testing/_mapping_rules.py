"""The rules of Lambda's event source mapping for DynamoDB Streams, as pure functions.

Sources: the Lambda API's model of CreateEventSourceMapping; AWS Lambda Developer Guide, "Using AWS
Lambda with Amazon DynamoDB"; and what was recorded of real mappings. Where neither says anything,
the docstring says what this model chose.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from typing import Any

from dynaflow.values import canonical

__all__ = [
    "RETENTION",
    "Options",
    "StreamRecord",
    "cut",
    "first_failed",
    "halves",
    "lane_of",
    "runs_of_expired",
    "wait_before_retry",
]

RETENTION = 24 * 3600.0  # seconds for which a stream keeps a record
_PAYLOAD = 6 * 1024 * 1024  # bytes of a synchronous invocation
_ENVELOPE = len('{"Records": []}')
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """What a mapping is told, in AWS's ranges; -1 means no limit.

    Raises:
        TypeError: something that is no whole number, or no bool.
        ValueError: a value that Lambda refuses.
    """

    batch_size: int
    maximum_batching_window: int
    parallelization_factor: int
    maximum_retry_attempts: int
    maximum_record_age: int
    bisect_batch_on_function_error: bool
    report_batch_item_failures: bool

    def __post_init__(self) -> None:
        _in_range("batch_size", self.batch_size, 1, 10_000)
        _in_range("maximum_batching_window", self.maximum_batching_window, 0, 300)
        _in_range("parallelization_factor", self.parallelization_factor, 1, 10)
        _in_range("maximum_retry_attempts", self.maximum_retry_attempts, -1, 10_000)
        if self.maximum_record_age != -1:
            _in_range("maximum_record_age", self.maximum_record_age, 60, 604_800, "-1, or ")
        for name in ("bisect_batch_on_function_error", "report_batch_item_failures"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(
                    f"{name} is True or False, got {type(getattr(self, name)).__name__}"
                )

    @property
    def longest_age(self) -> float:
        """Seconds after which a record is dropped, by the mapping or by its stream."""
        return RETENTION if self.maximum_record_age == -1 else float(self.maximum_record_age)


@dataclass(frozen=True, slots=True, eq=False)
class StreamRecord:
    """One record of a shard, as the mapping sees it.

    Args:
        text: the raw record's JSON.
        number: its sequence number.
        created: when it was written, in seconds since the epoch.
        lane: which of the shard's concurrent batches it belongs to.
    """

    text: str
    number: str
    created: float
    lane: int


def first_failed(answer: Any, numbers: Sequence[str]) -> int | None:
    """Return the index of the record from which on a batch comes again; None if it is done.

    What the Developer Guide lists as complete success or complete failure is that. An identifier
    counts if it is the text of a sequence number of the batch; of several, the lowest as an integer
    counts. Not verified on AWS, and taken for a complete failure: a list in which some identifiers
    are valid and others are not, an answer or a ``batchItemFailures`` of another type.

    Args:
        answer: what the function's response says, parsed; of a mapping that has
            ReportBatchItemFailures.
        numbers: the batch's sequence numbers, ascending as integers.
    """
    if answer is None or answer in ("", [], {}):
        return None
    if not isinstance(answer, Mapping):
        return 0
    failures = answer.get("batchItemFailures")
    if failures is None or failures == []:
        return None
    if not isinstance(failures, list):
        return 0
    at = {number: index for index, number in enumerate(numbers)}
    identifiers = [_identifier(failure) for failure in failures]
    if any(identifier not in at for identifier in identifiers):
        return 0
    return at[min(identifiers, key=int)]


def cut(queue: Sequence[StreamRecord], at: float, options: Options) -> tuple[int, float]:
    """Return how many of the waiting records are the next batch, and when it is sent.

    A batch is full by BatchSize, or by 6 MB of JSON; one that is not full is sent when the batching
    window closes. A window opens when the last invocation has ended, and again if nothing came.

    Args:
        queue: a lane's records, not empty, in order.
        at: when the lane's last invocation ended, in seconds since the epoch.
        options: the mapping's.
    """
    window = options.maximum_batching_window
    closes = max(at, queue[0].created)
    if window:
        closes = at + window * max(1, math.ceil((queue[0].created - at) / window))
    size, last = _ENVELOPE, at
    for count, record in enumerate(queue):
        if record.created > closes:
            return count, closes
        size += len(record.text.encode()) + 2  # and a comma
        if count and size > _PAYLOAD:
            return count, last
        last = max(last, record.created)
        if count + 1 == options.batch_size:
            return count + 1, last
    return len(queue), closes


def halves(
    records: tuple[StreamRecord, ...],
) -> tuple[tuple[StreamRecord, ...], tuple[StreamRecord, ...]]:
    """Return both halves of a batch of two or more. Where AWS cuts an odd batch is not known."""
    middle = len(records) // 2
    return records[:middle], records[middle:]


def runs_of_expired(
    records: Sequence[StreamRecord], now: float, longest_age: float
) -> tuple[list[tuple[StreamRecord, ...]], tuple[StreamRecord, ...]]:
    """Return the records that are too old, in runs without a gap; and all the others."""
    runs: list[tuple[StreamRecord, ...]] = []
    kept: list[StreamRecord] = []
    in_run = False
    for record in records:
        if now - record.created <= longest_age:
            kept.append(record)
            in_run = False
            continue
        if in_run:
            runs[-1] += (record,)
        else:
            runs.append((record,))
        in_run = True
    return runs, tuple(kept)


def wait_before_retry(failures: int) -> float:
    """Return the seconds before a batch that failed so often in a row is sent again.

    AWS does not tell. Measured once: about eight invocations within a minute. Here: half a second,
    then twice as long each time, at most a minute.
    """
    return float(min(_FIRST_WAIT * 2.0 ** min(failures - 1, 10), _LONGEST_WAIT))


def lane_of(raw: Mapping[str, Any], factor: int, partition_key: str | None) -> int:
    """Return which of a shard's concurrent batches a record belongs to, by its partition key.

    AWS does not document its hash. Here: one that is the same in every process, of the key's value
    by DynamoDB's equality. The sort key plays no part.

    Raises:
        ValueError: the record has two key attributes, and ``partition_key`` names none of them.
    """
    if factor == 1:
        return 0
    keys = raw["dynamodb"]["Keys"]
    if partition_key is None and len(keys) == 1:
        (partition_key,) = keys
    if partition_key not in keys:
        raise ValueError(
            f"records do not tell which of {', '.join(map(repr, sorted(keys)))} is the table's "
            "partition key. Name it: EventSourceMapping(..., partition_key=...)."
        )
    kind, value = canonical(keys[partition_key])
    same = value.as_integer_ratio() if isinstance(value, Decimal) else value  # 1 is 1.0
    digest = blake2b(repr((kind, same)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % factor


def _identifier(failure: Any) -> Any:
    identifier = failure.get("itemIdentifier") if isinstance(failure, Mapping) else None
    return identifier if isinstance(identifier, str) else None


def _in_range(name: str, value: Any, least: int, most: int, before: str = "") -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is a whole number, got {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} is {before}{least} to {most} in Lambda, got {value}")
