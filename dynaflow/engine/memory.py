"""What became of records in earlier deliveries of a stretch that comes again.

What succeeded is not called again; what did not is counted. To forget costs a repeat, never a
record nor an item's order. Bookkeeping only; the clock is an argument.
"""

from __future__ import annotations

import json
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from dynaflow.batch import BatchResult, Outcome, Status
from dynaflow.engine.jobs import Lane
from dynaflow.record import Record, Undecodable

__all__ = ["Memory"]

_Key: TypeAlias = tuple[str, str, str, str | None]  # ARN, event id, sequence number, route

_LASTS = 900.0  # seconds
_COUNTED_FOR = 86_400.0  # seconds: as long as a stream keeps a record
_SIZE = 20_000


@dataclass(frozen=True, slots=True)
class _Done:
    content: int
    forgotten_at: float
    is_parked: bool


@dataclass(frozen=True, slots=True)
class _Failures:
    count: int
    forgotten_at: float
    was_cut_off: bool = False


_NONE = _Failures(0, 0.0)
_Entry = TypeVar("_Entry", _Done, _Failures)


class Memory:
    """What one process knows of earlier deliveries. For one thread at a time.

    What an answer will bring back is remembered for each route that is done with it. Where other
    processes may have run a part of the stretch in between, as in Lambda, only if its lane has no
    other record of the batch: to skip one of several could leave an older one's effect standing
    last, be it the effect of another route, such as the one for deletes. What is in a dead letter
    is remembered everywhere: it has no effect.

    Args:
        exclusive: whether nobody else runs these records while they are remembered.
        clock: returns seconds.
        lasts: seconds after which a success is forgotten.
        size: how many successes, and how many failures, are remembered.
    """

    def __init__(
        self,
        *,
        exclusive: bool = False,
        clock: Callable[[], float] = time.monotonic,
        lasts: float = _LASTS,
        size: int = _SIZE,
    ) -> None:
        self._exclusive = exclusive
        self._clock = clock
        self._lasts = lasts
        self._size = size
        self._done: OrderedDict[_Key, _Done] = OrderedDict()
        self._failures: OrderedDict[_Key, _Failures] = OrderedDict()
        self._seeded: dict[tuple[str, str | None], int] = {}

    def __bool__(self) -> bool:
        """True if anything is remembered."""
        return bool(self._done or self._failures or self._seeded)

    def has_done(
        self, record: Record | Undecodable, route: str | None, *, parked: bool = False
    ) -> bool:
        """Return True if an earlier delivery is known to have done it.

        Args:
            record: the record.
            route: the route's name.
            parked: whether that counts only if it is in a dead letter, because an earlier record
                runs again. It is forgotten otherwise: later deliveries must not go by it, either.
        """
        key = _key(record, route)
        known = self._done.get(key)
        if known is None:
            return False
        if known.forgotten_at <= self._clock() or (parked and not known.is_parked):
            del self._done[key]
            return False
        return known.content == _content(record)  # events made by hand may share their ids

    def failures(self, record: Record | Undecodable, route: str | None) -> int:
        """Return in how many deliveries the route was called for the record and not done."""
        seeded = self._seeded.get((record.sequence_number, route), 0)
        return seeded + self._failures_of(_key(record, route)).count

    def was_cut_off(self, record: Record | Undecodable, route: str | None) -> bool:
        """Return True if the last delivery did not wait for the end of the call."""
        return self._failures_of(_key(record, route)).was_cut_off

    def seed(self, failures: Mapping[tuple[str, str | None], int]) -> None:
        """Begin with these numbers of failures, by sequence number and route."""
        self._seeded = dict(failures)

    def failures_of(
        self, records: Iterable[Record | Undecodable]
    ) -> dict[tuple[str, str | None], int]:
        """Return the failures of these records by sequence number and route, if there are any."""
        wanted = {record.sequence_number for record in records}
        found: Counter[tuple[str, str | None]] = Counter()
        for (number, route), count in self._seeded.items():
            if number in wanted:
                found[number, route] += count
        for (_, _, number, route), failures in self._failures.items():
            if number in wanted:
                found[number, route] += failures.count
        return dict(found)

    def note(
        self,
        records: Sequence[Record | Undecodable],
        lanes: Sequence[Lane],
        result: BatchResult,
        *,
        all_come_again: bool = False,
    ) -> None:
        """Note what became of a batch.

        Args:
            records: all of it.
            lanes: what there was to do, and in which order.
            result: what became of it.
            all_come_again: whether its failure brings back records below the lowest one, too.
        """
        self._forget_expired()
        failed = result.failed
        if failed is None:
            self._forget_all(records)
            return
        lowest = -1 if all_come_again else failed.position
        self._forget_all(record for record in records if record.position < lowest)
        alone = None if self._exclusive else set(_alone_in_their_lane(lanes))
        for outcome in result.outcomes:
            if outcome.record.position < lowest:
                continue
            if not outcome.is_done:
                self._note_failure(outcome)
            elif alone is None or outcome.status is Status.PARKED or id(outcome.record) in alone:
                self._note_done(outcome)

    def _note_done(self, outcome: Outcome) -> None:
        key = _key(outcome.record, outcome.route)
        self._failures.pop(key, None)
        self._seeded.pop((outcome.record.sequence_number, outcome.route), None)
        is_parked = outcome.status is Status.PARKED
        if is_parked or key not in self._done:  # else it would last for ever
            forgotten_at = self._clock() + self._lasts
            self._done[key] = _Done(_content(outcome.record), forgotten_at, is_parked)
            if len(self._done) > self._size:
                self._done.popitem(last=False)

    def _note_failure(self, outcome: Outcome) -> None:
        if not outcome.attempts:  # it was not called, or is not what kept it from being done
            return
        key = _key(outcome.record, outcome.route)
        self._failures[key] = _Failures(
            self._failures_of(key).count + 1,
            self._clock() + _COUNTED_FOR,
            was_cut_off=outcome.status is Status.NOT_DONE,
        )
        self._failures.move_to_end(key)
        if len(self._failures) > self._size:
            self._failures.popitem(last=False)

    def _failures_of(self, key: _Key) -> _Failures:
        found = self._failures.get(key, _NONE)
        return found if found.forgotten_at > self._clock() else _NONE

    def _forget_expired(self) -> None:
        """Forget what counts no more, or one failure would make every later batch ask for it."""
        now = self._clock()
        _forget_until(now, self._done)
        _forget_until(now, self._failures)

    def _forget_all(self, records: Iterable[Record | Undecodable]) -> None:
        if not self:
            return
        done = {_record_key(record) for record in records}
        for entries in (self._done, self._failures):
            for key in [key for key in entries if key[:3] in done]:
                del entries[key]
        numbers = {number for _, _, number in done}
        for seeded in [seeded for seeded in self._seeded if seeded[0] in numbers]:
            del self._seeded[seeded]


def _forget_until(now: float, entries: OrderedDict[_Key, _Entry]) -> None:
    """Forget what has expired; what came first is over first."""
    while entries and next(iter(entries.values())).forgotten_at <= now:
        entries.popitem(last=False)


def _alone_in_their_lane(lanes: Sequence[Lane]) -> Iterator[int]:
    """Yield the identity of each record that is the only one of its lane that any route takes."""
    for lane in lanes:
        records = [job.record for job in lane.jobs if job.matched]
        if len(records) == 1 and not lane.is_cut_short:
            yield id(records[0])


def _record_key(record: Record | Undecodable) -> tuple[str, str, str]:
    event_id = record.event_id if isinstance(record, Record) else ""
    return record.source_arn, event_id, record.sequence_number


def _content(record: Record | Undecodable) -> int:
    try:
        return hash(json.dumps(record.raw, sort_keys=True, default=repr))
    except (TypeError, ValueError, RecursionError):  # an undecodable record may be anything
        return 0


def _key(record: Record | Undecodable, route: str | None) -> _Key:
    return (*_record_key(record), route)
