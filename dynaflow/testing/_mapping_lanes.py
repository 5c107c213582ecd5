"""The shards of a run, in lanes: queues of records, and the batches that are still to be sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from dynaflow.testing._mapping_rules import Options, StreamRecord, cut, lane_of
from dynaflow.values import json_default

__all__ = ["Lane", "Pending", "Reading", "lanes_of", "shards_of"]

_SHARD_ID = "shardId-00000001573689847184-864758bb"  # AWS's sample


@dataclass(frozen=True, slots=True)
class Pending:
    """A batch, or what is left of one.

    Args:
        records: in order, not empty.
        attempts: invocations of just this batch that count.
        failures: how often it could not be passed in a row, counted or not.
        again: it was done before, and nobody knows.
    """

    records: tuple[StreamRecord, ...]
    attempts: int = 0
    failures: int = 0
    again: bool = False

    @property
    def numbers(self) -> tuple[str, ...]:
        """The sequence numbers."""
        return tuple(record.number for record in self.records)

    def only(self, records: tuple[StreamRecord, ...]) -> Pending:
        """Return the batch with these of its records."""
        return replace(self, records=records)

    def once_more(self) -> Pending:
        """Return the batch as it comes after its outcome was lost."""
        return replace(self, again=True)

    def tried_again(self, *, counts: bool) -> Pending:
        """Return the batch after a try that failed."""
        return replace(self, attempts=self.attempts + counts, failures=self.failures + 1)


class Lane:
    """One of a shard's concurrent batches: strictly one invocation after the other.

    Args:
        shard_id: the shard.
        index: which of its lanes.
        records: the lane's, in order.
        start: when it begins, in seconds since the epoch.
    """

    def __init__(
        self, shard_id: str, index: int, records: list[StreamRecord], start: float
    ) -> None:
        self.shard_id = shard_id
        self.index = index
        self.ready = start
        self._queue = records
        self._next = 0
        self._stack: list[Pending] = []

    def prepare(self, options: Options) -> bool:
        """Have a batch ready, to be sent at ``ready``; return False if nothing is left."""
        if self._stack:
            return True
        waiting = self._queue[self._next : self._next + options.batch_size + 1]
        if not waiting:
            return False
        count, self.ready = cut(waiting, self.ready, options)
        self._stack.append(Pending(tuple(waiting[:count])))
        self._next += count
        return True

    def take(self) -> Pending:
        """Take the batch that is next."""
        return self._stack.pop()

    def put(self, pending: Pending) -> None:
        """Put a batch before all others of the lane."""
        self._stack.append(pending)


@dataclass(frozen=True, slots=True)
class Reading:
    """All records of a run.

    Args:
        lanes: of all shards.
        filtered: the sequence numbers of what the function does not get.
        numbers: all sequence numbers, by shard, in order.
    """

    lanes: list[Lane]
    filtered: tuple[str, ...]
    numbers: dict[str, tuple[str, ...]]


def shards_of(
    stream: Mapping[str, Any] | Sequence[Mapping[str, Any]],
) -> dict[str, Sequence[Mapping[str, Any]]]:
    """Return raw records by shard, of an event, of a list, or of what is by shard already."""
    if not isinstance(stream, Mapping):
        return {_SHARD_ID: stream}
    if "Records" in stream:
        return {_SHARD_ID: stream["Records"]}
    return dict(stream)


def lanes_of(
    shards: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    factor: int,
    partition_key: str | None,
    passes: Callable[[Mapping[str, Any]], object] | None,
    start: float | None,
) -> Reading:
    """Return records in lanes: those of each shard, by partition key.

    Raises:
        ValueError: a record without a sequence number, out of order, or there twice.
    """
    received = {shard: [_received(raw) for raw in raws] for shard, raws in shards.items()}
    numbers = {shard: tuple(number for _, number in raws) for shard, raws in received.items()}
    _check_order(numbers)
    times = [_created(raw) for raws in received.values() for raw, _ in raws]
    known = [time for time in times if time is not None]
    if start is None:
        start = max(known, default=0.0)
    lanes: list[Lane] = []
    filtered: list[str] = []
    for shard, raws in received.items():
        queues: list[list[StreamRecord]] = [[] for _ in range(factor)]
        for raw, number in raws:
            text = json.dumps(raw)
            if passes is not None and not passes(json.loads(text)):
                filtered.append(number)
                continue
            created = _created(raw)
            lane = lane_of(raw, factor, partition_key)
            queues[lane].append(
                StreamRecord(text, number, start if created is None else created, lane)
            )
        lanes += [Lane(shard, index, queue, start) for index, queue in enumerate(queues)]
    return Reading(lanes, tuple(filtered), numbers)


def _received(raw: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    record: dict[str, Any] = json.loads(json.dumps(raw, default=json_default))
    stream = record.get("dynamodb")
    number = stream.get("SequenceNumber") if isinstance(stream, dict) else None
    if not (isinstance(number, str) and number.isascii() and number.isdigit()):
        raise ValueError(
            "a record has no dynamodb.SequenceNumber, text of decimal digits: no stream has such "
            "a record. Make records with RecordBuilder, or copy whole ones."
        )
    return record, number


def _check_order(numbers: Mapping[str, Sequence[str]]) -> None:
    for of_shard in numbers.values():
        if any(int(one) >= int(other) for one, other in pairwise(of_shard)):
            raise ValueError(
                "a shard's records are in ascending order of sequence number, each there once. "
                "Make them with one RecordBuilder, in the order in which they are sent."
            )
    everything = [number for of_shard in numbers.values() for number in of_shard]
    if len(set(everything)) < len(everything):
        raise ValueError(
            "a sequence number is in two shards; the report could not tell them apart. Make the "
            "records of all shards with one RecordBuilder."
        )


def _created(raw: Mapping[str, Any]) -> float | None:
    """Return seconds since the epoch; AWS's own samples have numbers, text, or nothing."""
    value = raw["dynamodb"].get("ApproximateCreationDateTime")
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None
