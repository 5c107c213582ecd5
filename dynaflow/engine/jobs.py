"""What there is to do in a batch: jobs, in lanes. Pure bookkeeping."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Hashable, Sequence
from typing import Any, TypeAlias

from dynaflow._table import CompiledRoute
from dynaflow.batch import Outcome, Status
from dynaflow.engine.lost import close_unawaited
from dynaflow.engine.refused import Refused
from dynaflow.record import Record

__all__ = ["Job", "Lane", "Step"]

Step: TypeAlias = CompiledRoute | Refused
"""What a lane's worker has to do for a record, one after the other."""


class Job:
    """One record with the routes that match it.

    Args:
        record: the record.
        index: where it stands in its batch.
        routes: in order of registration, batch routes among them.
        item: what all records of its item share, where a batch route asks for it.
        doomed: True once the record fails whatever the routes that are left do: one has failed, or
            could not tell whether it matches.

    ``routes`` are those that are called with this record alone, ``at`` the one whose turn it is;
    ``batch_routes`` are those that have it still to do, together with others; ``matched`` are all
    of them, those that an earlier delivery has done included.
    """

    __slots__ = ("at", "batch_routes", "doomed", "index", "item", "matched", "record", "routes")

    def __init__(
        self,
        record: Record,
        index: int,
        routes: Sequence[Step],
        *,
        item: Hashable = None,
        doomed: bool = False,
    ) -> None:
        self.record = record
        self.index = index
        self.matched = routes
        self.leave(routes)
        self.item = item
        self.doomed = doomed
        self.at = 0

    def leave(self, routes: Sequence[Step]) -> None:
        """Leave only these routes to be called."""
        self.batch_routes = {
            route
            for route in routes
            if route.batching is not None and isinstance(route, CompiledRoute)
        }
        self.routes = (
            [route for route in routes if route.batching is None] if self.batch_routes else routes
        )

    @property
    def is_unmatched(self) -> bool:
        """True if no route takes the record, or has anything left to do for it."""
        return not (self.routes or self.batch_routes or self.doomed)

    @property
    def route_names(self) -> list[str | None]:
        """The names of all routes that it is for; None for a record that reaches none."""
        return [route.name for route in self.matched]

    @property
    def route(self) -> Step:
        """The route whose turn it is."""
        return self.routes[self.at]


class Lane:
    """The jobs of one item, in stream order; strictly one after the other.

    ``cursor`` is the next job; ``settled`` the first one that is not wholly done, batch routes
    included; ``broken`` the first one that a batch route failed, infinite if there is none;
    ``ticket`` counts how often the lane changed hands; ``pending`` is an awaitable that the next
    job's route returned in a thread and that a loop has to await, ``failure`` what it failed with
    there where a loop has to put it into a dead letter; ``started`` is when the running call began,
    ``attempt`` which one of its attempts runs; ``begun`` is True from before the next job may start
    until it has ended, also while none of its calls runs: batch routes then keep off the lane.
    ``is_cut_short`` is True if the batch has more records of it, behind one that has failed.
    """

    __slots__ = (
        "attempt",
        "begun",
        "broken",
        "cursor",
        "failure",
        "is_cut_short",
        "jobs",
        "key",
        "pending",
        "settled",
        "started",
        "ticket",
    )

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.jobs: list[Job] = []
        self.cursor = 0
        self.settled = 0
        self.broken = math.inf
        self.ticket = 0
        self.begun = False
        self.pending: Awaitable[Any] | None = None
        self.failure: BaseException | None = None
        self.started = 0.0
        self.attempt = 1
        self.is_cut_short = False

    @property
    def is_handed_over(self) -> bool:
        """True if a thread has given the running call up to a loop."""
        return self.pending is not None or self.failure is not None

    @property
    def route(self) -> Step:
        """The route whose turn it is."""
        return self.next_job.route

    @property
    def records(self) -> tuple[Record, ...]:
        """The record whose turn it is."""
        return (self.next_job.record,)

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """The keys of the lanes that the running call works on: this one's."""
        return (self.key,)

    @property
    def next_job(self) -> Job:
        """The job whose turn it is."""
        return self.jobs[self.cursor]

    @property
    def position(self) -> int:
        """The sequence number, as an int, of the record whose turn it is."""
        return self.jobs[self.cursor].record.position

    @property
    def remaining(self) -> int:
        """How many jobs are left."""
        return len(self.jobs) - self.cursor

    @property
    def is_sync(self) -> bool:
        """True if a thread can run all of it without a loop."""
        return all(route.is_sync for job in self.jobs for route in job.routes)

    def outcomes(self, status: Status, error: BaseException | None = None) -> tuple[Outcome, ...]:
        """Return the outcome of the call whose turn it is."""
        job, took = self.next_job, time.perf_counter() - self.started
        return (Outcome(job.record, job.route.name, status, error, took, self.attempt),)

    def skip_idle(self) -> None:
        """Pass over jobs that only batch routes take: a worker has nothing to do for them."""
        jobs, at = self.jobs, self.cursor
        while at < len(jobs) and not jobs[at].routes and not jobs[at].doomed:
            at += 1
        self.cursor = at

    def drop_pending(self) -> None:
        """Forget the awaitable; a coroutine is closed, because nobody will await it."""
        pending, self.pending = self.pending, None
        close_unawaited(pending)
