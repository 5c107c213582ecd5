"""Which records a batch route is called with next. Pure.

A record is ready once its own routes are done and no earlier record of its lane is left behind.
Ready records go in stream order, chunk after chunk, the route with the lowest one first, so that
the low-water mark advances whichever route is slow.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

from dynaflow._route import Batching
from dynaflow._table import CompiledRoute
from dynaflow.batch import Outcome, Status
from dynaflow.change import Change
from dynaflow.engine.jobs import Job, Lane
from dynaflow.engine.lost import close_unawaited
from dynaflow.record import Record

__all__ = ["Chunk", "Chunks", "Member"]


class Member:
    """One record that a batch route has to do.

    Args:
        lane: where it belongs.
        at: which of the lane's jobs it is.

    ``supersedes`` are earlier records of its item that are done with it (``latest_only``).
    """

    __slots__ = ("at", "lane", "supersedes", "taken")

    def __init__(self, lane: Lane, at: int) -> None:
        self.lane = lane
        self.at = at
        self.supersedes: list[Member] = []
        self.taken = False

    @property
    def job(self) -> Job:
        """The record's job."""
        return self.lane.jobs[self.at]

    @property
    def record(self) -> Record:
        """The record."""
        return self.job.record

    @property
    def first(self) -> Member:
        """The lowest record that is done with this one."""
        return self.supersedes[0] if self.supersedes else self

    @property
    def is_behind_a_failure(self) -> bool:
        """True if a batch route has failed an earlier record of the lane."""
        return self.at > self.lane.broken


class Chunk:
    """The records of one call of a batch route, in stream order.

    ``started`` is when the call began, ``attempt`` which one of its attempts runs; ``changes`` are
    what the handler gets for its members, and ``given`` holds the list that it was called with
    last; ``pending`` is an awaitable that it returned in a thread and that a loop has to await.
    """

    __slots__ = ("attempt", "changes", "given", "members", "pending", "route", "started")

    def __init__(self, route: CompiledRoute, members: Sequence[Member]) -> None:
        self.route = route
        self.members = list(members)
        self.changes: dict[Member, Change[Any]] = {}
        self.given: list[list[Any]] = []
        self.pending: Awaitable[Any] | None = None
        self.started = 0.0
        self.attempt = 1

    @property
    def records(self) -> tuple[Record, ...]:
        """The records of the call."""
        return tuple(member.record for member in self.members)

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """The keys of the lanes that the call works on."""
        return tuple(dict.fromkeys(member.lane.key for member in self.members))

    def outcomes(self, status: Status, error: BaseException | None = None) -> tuple[Outcome, ...]:
        """Return one outcome for each record of the call."""
        return tuple(self.outcome(member, status, error) for member in self.members)

    def outcome(
        self,
        member: Member,
        status: Status,
        error: BaseException | None = None,
        *,
        was_called: bool = True,
    ) -> Outcome:
        """Return the outcome of the call for one of its records."""
        took, attempts = time.perf_counter() - self.started, self.attempt if was_called else 0
        return Outcome(member.record, self.route.name, status, error, took, attempts)

    def drop_pending(self) -> None:
        """Forget the awaitable; a coroutine is closed, because nobody will await it."""
        pending, self.pending = self.pending, None
        close_unawaited(pending)


class Chunks:
    """What batch routes have still to do in one batch.

    Args:
        lanes: all lanes of the batch.
    """

    def __init__(self, lanes: Iterable[Lane]) -> None:
        waiting: dict[CompiledRoute, list[Member]] = {}
        for lane in lanes:
            for at, job in enumerate(lane.jobs):
                for route in job.batch_routes:
                    waiting.setdefault(route, []).append(Member(lane, at))
        routes = sorted(waiting, key=attrgetter("number"))
        self._waiting = {route: sorted(waiting[route], key=_position) for route in routes}
        self._ready: dict[CompiledRoute, deque[Member]] = {}

    @property
    def routes(self) -> tuple[CompiledRoute, ...]:
        """The batch routes that take a record, in order of registration."""
        return tuple(self._waiting)

    @property
    def has_ready(self) -> bool:
        """True if a record was ready at the last look and has not been taken."""
        return any(self._ready.values())

    def refresh(self, ready: Callable[[Lane], int], barrier: float) -> None:
        """Look anew at which records are ready.

        Records that ``latest_only`` leaves out, and whose successor the route does not take, are
        taken from what is to be done here.

        Args:
            ready: returns how many of a lane's jobs, from the first, may be taken.
            barrier: nothing at or above this position starts.
        """
        for route, waiting in self._waiting.items():
            members = [member for member in waiting if not member.taken]
            self._waiting[route] = members
            found = [member for member in members if member.at < ready(member.lane)]
            if _batching(route).latest_only:
                found = sorted(_latest(route, found, ready, barrier), key=_lowest)
            self._ready[route] = deque(found)

    def next(self, is_open: Callable[[Record], bool]) -> Chunk | None:
        """Take the next chunk; None if nothing is ready, or nothing may start.

        Args:
            is_open: whether a record may start now.
        """
        lowest: CompiledRoute | None = None
        for route, ready in self._ready.items():
            if ready and (lowest is None or _lowest(ready[0]) < _lowest(self._ready[lowest][0])):
                lowest = route
        if lowest is None:
            return None
        members = list(_take(lowest, self._ready[lowest], is_open))
        return Chunk(lowest, sorted(members, key=_position)) if members else None


def _latest(
    route: CompiledRoute, members: Sequence[Member], ready: Callable[[Lane], int], barrier: float
) -> Iterator[Member]:
    """Yield the members that are the last ready record of their item, with those before them.

    A record that may not start supersedes nothing: the ones before it would wait for it in vain.
    One that no route takes always does: it never starts.
    """
    members = [member for member in members if member.record.position < barrier]
    last: dict[tuple[int, Hashable], int] = {}  # of lane and item
    for lane in {id(member.lane): member.lane for member in members}.values():
        count = ready(lane)
        for at, job in enumerate(lane.jobs):
            may_start = job.record.position < barrier or route not in job.batch_routes
            if job.is_unmatched or (at < count and may_start):
                last[id(lane), job.item] = at
    superseded: dict[tuple[int, Hashable], list[Member]] = {}
    for member in members:
        item = (id(member.lane), member.job.item)
        if member.at == last[item]:
            member.supersedes = superseded.pop(item, [])
            yield member
        elif route in member.lane.jobs[last[item]].batch_routes:
            superseded.setdefault(item, []).append(member)
        else:  # the item has changed into something that the route does not take
            member.taken = True
            member.job.batch_routes.discard(route)


def _take(
    route: CompiledRoute, ready: deque[Member], is_open: Callable[[Record], bool]
) -> Iterator[Member]:
    batching = _batching(route)
    count = size = 0
    last: Member | None = None
    while ready and count < batching.max_items:
        member = ready[0]
        if last is not None and _are_copies(last, member):  # a call has each record once
            return
        last = member
        size += 0 if batching.max_bytes is None else _size_of(member.record)
        if batching.max_bytes is not None and size > batching.max_bytes and count:
            return
        if not is_open(member.record):
            return
        count += 1
        for taken in (*member.supersedes, member):
            taken.taken = True
        yield member
        ready.popleft()


def _are_copies(one: Member, other: Member) -> bool:
    return one.lane is other.lane and one.record.position == other.record.position


def _batching(route: CompiledRoute) -> Batching:
    return route.batching or Batching()  # only routes that have it come here


def _position(member: Member) -> int:
    return member.record.position


def _lowest(member: Member) -> int:
    return member.first.record.position


def _size_of(record: Record) -> int:
    """Return the bytes of a record as DynamoDB counts them; of its JSON where it does not say."""
    size = record.size_bytes
    return len(json.dumps(record.raw["dynamodb"], default=str)) if size is None else size
