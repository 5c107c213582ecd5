"""A batch → jobs in lanes. Pure: the whole batch is routed here, before anything starts."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Hashable, Sequence
from typing import Any

from dynaflow._table import CompiledRoute, RouteTable
from dynaflow.batch import Batch, Outcome, Status
from dynaflow.engine.fold import Ledger
from dynaflow.errors import MalformedRecord, MalformedValue
from dynaflow.record import Image, Record, Undecodable
from dynaflow.values import canonical

__all__ = ["Job", "Lane", "Plan", "item_lane", "make_plan"]


class Job:
    """One record with the routes that match it.

    Args:
        record: the record.
        index: where it stands in its batch.
        routes: in order of registration.
        doomed: True once the record fails whatever the routes that are left do: one has failed, or
            could not tell whether it matches.

    ``at`` is the route whose turn it is.
    """

    __slots__ = ("at", "doomed", "index", "record", "routes")

    def __init__(
        self, record: Record, index: int, routes: Sequence[CompiledRoute], *, doomed: bool
    ) -> None:
        self.record = record
        self.index = index
        self.routes = routes
        self.doomed = doomed
        self.at = 0

    @property
    def route(self) -> CompiledRoute:
        """The route whose turn it is."""
        return self.routes[self.at]


class Lane:
    """The jobs of one item, in stream order; strictly one after the other.

    ``cursor`` is the next job, ``ticket`` counts how often the lane changed hands, ``pending`` is
    an awaitable that the next job's route returned in a thread and that a loop has to await;
    ``started`` is when the running call began.
    """

    __slots__ = ("cursor", "jobs", "key", "pending", "started", "ticket")

    def __init__(self, key: Hashable) -> None:
        self.key = key
        self.jobs: list[Job] = []
        self.cursor = 0
        self.ticket = 0
        self.pending: Awaitable[Any] | None = None
        self.started = 0.0

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

    def drop_pending(self) -> None:
        """Forget the awaitable; a coroutine is closed, because nobody will await it."""
        pending, self.pending = self.pending, None
        if inspect.iscoroutine(pending):  # another object's close() might do, or raise, anything
            pending.close()


class Plan:
    """What a batch comes to before anything runs.

    Args:
        batch: the batch.
        ledger: records that no route takes are already done in it.
        lanes: the lanes that have something to run.
        refused: failures that are certain without running anything.
        barrier: nothing at or above this position may start.
    """

    __slots__ = ("barrier", "batch", "lanes", "ledger", "refused")

    def __init__(
        self,
        batch: Batch,
        ledger: Ledger,
        lanes: list[Lane],
        refused: list[Outcome],
        barrier: float,
    ) -> None:
        self.batch = batch
        self.ledger = ledger
        self.lanes = lanes
        self.refused = refused
        self.barrier = barrier


def make_plan(table: RouteTable, batch: Batch) -> Plan:
    """Route every record of the batch and sort the matched ones into lanes."""
    ledger = Ledger(batch.records)
    lanes: dict[Hashable, Lane] = {}
    closed: set[Hashable] = set()  # lanes in which a record has failed already
    refused: list[Outcome] = []
    barrier = math.inf
    for index, record in enumerate(batch.records):
        if isinstance(record, Undecodable):
            refused.append(Outcome(record, None, Status.FAILED, record.reason))
            if record.keys is None:
                barrier = min(barrier, record.position)
            else:
                closed.add(item_lane(record, record.keys))
            continue
        routes, unclear = table.match(record)
        if not routes and not unclear:
            ledger.done(index)
            continue
        try:
            key = item_lane(record, record.keys)
        except MalformedValue as error:
            refused.append(Outcome(record, None, Status.FAILED, _unreadable_key(error)))
            barrier = min(barrier, record.position)
            continue
        if key in closed:
            continue
        refused.extend(Outcome(record, r.name, Status.FAILED, error) for r, error in unclear)
        if unclear:
            closed.add(key)
        if routes:
            lane = lanes.get(key) or lanes.setdefault(key, Lane(key))
            lane.jobs.append(Job(record, index, routes, doomed=bool(unclear)))
    return Plan(batch, ledger, list(lanes.values()), refused, barrier)


def item_lane(record: Record | Undecodable, keys: Image) -> Hashable:
    """Return what all records of one item share: the stream and the primary key, by value.

    Raises:
        MalformedValue: the key cannot be read.
    """
    parts = []
    for name, value in keys.raw.items():
        try:
            parts.append((name, canonical(value)))
        except MalformedValue as error:
            raise error.inside(name) from None
    return record.source_arn, *sorted(parts, key=_by_name)


def _by_name(part: tuple[str, object]) -> str:
    return part[0]


def _unreadable_key(error: MalformedValue) -> MalformedRecord:
    return MalformedRecord(
        f"dynamodb.Keys cannot be read, so the item's order cannot be kept ({error}); "
        "nothing above this record starts"
    )
