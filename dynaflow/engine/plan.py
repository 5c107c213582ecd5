"""A batch → jobs in lanes. Pure: the whole batch is routed here, before anything starts."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Hashable, Sequence
from typing import Any

from dynaflow._table import CompiledRoute, RouteTable
from dynaflow.batch import Batch, Outcome, Status
from dynaflow.engine.fold import Ledger
from dynaflow.engine.lost import close_unawaited
from dynaflow.engine.order import Ordering, item_of
from dynaflow.errors import NonRetryable, OrderUnknown, Unmatched
from dynaflow.record import Record, Undecodable

__all__ = ["Job", "Lane", "Plan", "make_plan"]

_NO_ROUTE = "no route takes this record, and the App has unmatched='fail'"


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
    ``batch_routes`` are those that have it still to do, together with others.
    """

    __slots__ = ("at", "batch_routes", "doomed", "index", "item", "record", "routes")

    def __init__(
        self,
        record: Record,
        index: int,
        routes: Sequence[CompiledRoute],
        *,
        item: Hashable = None,
        doomed: bool = False,
    ) -> None:
        self.record = record
        self.index = index
        self.batch_routes = {route for route in routes if route.batching is not None}
        self.routes = (
            [route for route in routes if route.batching is None] if self.batch_routes else routes
        )
        self.item = item
        self.doomed = doomed
        self.at = 0

    @property
    def is_unmatched(self) -> bool:
        """True if no route takes the record, or has anything left to do for it."""
        return not (self.routes or self.batch_routes or self.doomed)

    @property
    def route(self) -> CompiledRoute:
        """The route whose turn it is."""
        return self.routes[self.at]


class Lane:
    """The jobs of one item, in stream order; strictly one after the other.

    ``cursor`` is the next job; ``settled`` the first one that is not wholly done, batch routes
    included; ``broken`` the first one that a batch route failed, infinite if there is none;
    ``ticket`` counts how often the lane changed hands; ``pending`` is an awaitable that the next
    job's route returned in a thread and that a loop has to await; ``started`` is when the running
    call began; ``begun`` is True from before the next job may start until it has ended, also while
    none of its calls runs: batch routes then keep off the lane.
    """

    __slots__ = (
        "begun",
        "broken",
        "cursor",
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
        self.started = 0.0

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
        return (Outcome(job.record, job.route.name, status, error, took),)

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


class Plan:
    """What a batch comes to before anything runs.

    Args:
        batch: the batch.

    ``ledger`` has the records that no route takes as done; ``lanes`` are those that have something
    to run; ``refused`` are failures that are certain without running anything; nothing at or above
    ``barrier`` may start; ``unmatched`` are the records that no route takes.
    """

    __slots__ = ("barrier", "batch", "lanes", "ledger", "refused", "unmatched")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.ledger = Ledger(batch.records)
        self.lanes: list[Lane] = []
        self.refused: list[Outcome] = []
        self.barrier = math.inf
        self.unmatched: list[Record] = []

    @property
    def has_batch_routes(self) -> bool:
        """True if a batch route takes one of the records."""
        return any(job.batch_routes for lane in self.lanes for job in lane.jobs)


def make_plan(
    table: RouteTable, batch: Batch, ordering: Ordering, *, fail_unmatched: bool = False
) -> Plan:
    """Route every record of the batch and sort the matched ones into lanes.

    Args:
        table: the routes.
        batch: the batch.
        ordering: which records share a lane.
        fail_unmatched: whether a record that no route takes is failed instead of done.
    """
    planner = _Planner(table, batch, ordering, fail_unmatched=fail_unmatched)
    for index, record in enumerate(batch.records):
        if isinstance(record, Undecodable):
            planner.refuse(record)
        else:
            planner.add(record, index)
    return planner.plan


class _Planner:
    """Plans a batch record after record, in stream order."""

    def __init__(
        self, table: RouteTable, batch: Batch, ordering: Ordering, *, fail_unmatched: bool
    ) -> None:
        self.plan = Plan(batch)
        self._fail_unmatched = fail_unmatched
        self._table = table
        self._ordering = ordering
        self._lanes: dict[Hashable, Lane] = {}
        self._closed: set[Hashable] = set()  # lanes in which a record has failed already
        self._lane_of: dict[Hashable, Hashable] = {}  # by item, where a function chooses

    def refuse(self, record: Undecodable) -> None:
        """Plan a record that cannot be read: it has failed, and its lane is closed."""
        self._fail(record, None, record.reason)
        try:
            if record.keys is not None:
                self._closed.add(self._ordering.lane_of(record, record.keys))
                return
        except NonRetryable:
            pass  # where its lane is not known either, all that comes later has to wait
        self._bar(record)

    def add(self, record: Record, index: int) -> None:
        """Plan a record that can be read."""
        routes, unclear = self._table.match(record)
        if not routes and not unclear:
            self.plan.unmatched.append(record)
            if not self._fail_unmatched:
                self._add_unmatched(record, index)
                return
        try:
            key, item = self._find_lane(record)
        except NonRetryable as error:
            self._fail(record, None, error)
            self._bar(record)
            return
        if key in self._closed:
            return
        for route, reason in unclear:
            self._fail(record, route.name, reason)
        if not routes and not unclear:
            self._fail(record, None, Unmatched(_NO_ROUTE))
        if unclear or not routes:
            self._closed.add(key)
        if routes:
            self._append(key, Job(record, index, routes, item=item, doomed=bool(unclear)))

    def _add_unmatched(self, record: Record, index: int) -> None:
        """Plan a record that no route takes: it is done, unless it makes an earlier one stale.

        A batch route with ``latest_only`` must see that its item has changed again, in this
        delivery and, if the earlier record comes again, in that one, too.
        """
        if self._table.has_latest_only:
            try:
                key, item = self._find_lane(record)
            except NonRetryable:
                key = item = None
            if key in self._closed:
                return
            if key in self._lanes:
                self._append(key, Job(record, index, (), item=item))
                return
        self.plan.ledger.done(index)

    def _find_lane(self, record: Record) -> tuple[Hashable, Hashable]:
        """Return a record's lane, and its item where somebody asks for that."""
        ordering, keys = self._ordering, record.keys
        key = ordering.lane_of(record, keys)
        if not (self._table.has_latest_only or ordering.is_chosen):
            return key, None
        item = item_of(record, keys)
        if ordering.is_chosen and self._lane_of.setdefault(item, key) != key:
            raise OrderUnknown(
                "the function in App(order_by=...) gave different lanes to records of one item; "
                "nothing above this record starts"
            )
        return key, item

    def _append(self, key: Hashable, job: Job) -> None:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key)
            self.plan.lanes.append(lane)
        lane.jobs.append(job)

    def _fail(self, record: Record | Undecodable, route: str | None, error: BaseException) -> None:
        self.plan.refused.append(Outcome(record, route, Status.FAILED, error))

    def _bar(self, record: Record | Undecodable) -> None:
        self.plan.barrier = min(self.plan.barrier, record.position)
