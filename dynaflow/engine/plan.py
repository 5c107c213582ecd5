"""A batch → jobs in lanes. Pure: the whole batch is routed here, before anything starts."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import cast

from dynaflow._table import CompiledRoute, RouteTable
from dynaflow.batch import Batch, Outcome, Status
from dynaflow.engine.fold import Ledger
from dynaflow.engine.jobs import Job, Lane, Step
from dynaflow.engine.memory import Memory
from dynaflow.engine.order import Ordering, item_of
from dynaflow.engine.parking import Parking
from dynaflow.engine.refused import Refused
from dynaflow.errors import DynaflowError, NonRetryable, OrderUnknown, Unmatched
from dynaflow.record import Record, Undecodable

__all__ = ["Plan", "make_plan", "plan_one"]

_NO_ROUTE = "no route takes this record, and the App has unmatched='fail'"


class Plan:
    """What a batch comes to before anything runs.

    Args:
        batch: the batch.
        memory: what became of its records in earlier deliveries.
        parking: where dead letters go; None where there are none.

    ``ledger`` has the records that no route takes as done; ``lanes`` are those that have something
    to run; ``refused`` are outcomes that are certain without running anything; nothing at or above
    ``barrier`` may start; ``first`` is a lane of records to be parked before any other starts,
    because nothing may start above them; ``unmatched`` are the records that no route takes.
    """

    __slots__ = (
        "barrier",
        "batch",
        "first",
        "lanes",
        "ledger",
        "memory",
        "parking",
        "refused",
        "unmatched",
    )

    def __init__(self, batch: Batch, memory: Memory, parking: Parking | None = None) -> None:
        self.batch = batch
        self.memory = memory
        self.parking = parking
        self.first: Lane | None = None
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
    table: RouteTable,
    batch: Batch,
    ordering: Ordering,
    *,
    memory: Memory,
    parking: Parking | None = None,
    fail_unmatched: bool = False,
) -> Plan:
    """Route every record of the batch and sort the matched ones into lanes.

    Args:
        table: the routes.
        batch: the batch.
        ordering: which records share a lane.
        memory: what became of records in earlier deliveries.
        parking: where dead letters go; None where there are none.
        fail_unmatched: whether a record that no route takes is failed instead of done.
    """
    plan = Plan(batch, memory, parking)
    planner = _Planner(table, plan, ordering, fail_unmatched=fail_unmatched)
    for index, record in enumerate(batch.records):
        if isinstance(record, Undecodable):
            planner.refuse(record, index)
        else:
            planner.add(record, index)
    if memory:
        for lane in plan.lanes:
            _recall(lane, plan)
    return plan


def plan_one(table: RouteTable, batch: Batch, route: str) -> Plan:
    """Plan that a batch of one record is given to the route of this name, whatever filters say.

    Raises:
        DynaflowError: there is no such route for such a record.
    """
    plan = Plan(batch, Memory())
    (record,) = batch.records
    if isinstance(record, Undecodable):
        plan.refused.append(Outcome(record, route, Status.FAILED, record.reason, attempts=0))
        return plan
    found = table.named(route, record.event_name)
    if found is None:
        names = sorted(r.name for r in table.routes if record.event_name in r.route.event_names)
        raise DynaflowError(
            f"no route named {route!r} takes {record.event_name} records. Those that do: "
            f"{', '.join(names) or 'none'}. A renamed route can keep its old name: name=..."
        )
    lane = Lane((record.source_arn,))
    lane.jobs.append(Job(record, 0, [found]))
    plan.lanes.append(lane)
    return plan


def _recall(lane: Lane, plan: Plan) -> None:
    """Leave out what an earlier delivery has done, and park what it never got done in many.

    A route is left out for a record only while no earlier one of the lane runs again, on whichever
    route: the item's last effect has to be that of its last record. Where only batch routes run
    again, only those do so behind them: they come after the others anyway. What was parked has no
    effect, so that it is left out in any case: there is one letter of it, however often its stretch
    comes.
    """
    memory, parking = plan.memory, plan.parking
    own_again = batch_again = False
    for job in lane.jobs:
        left: list[Step] = []
        for route in job.matched:
            is_behind = isinstance(route, CompiledRoute) and (
                own_again or (batch_again and route.batching is not None)
            )
            if memory.has_done(job.record, route.name, parked=is_behind):
                plan.refused.append(Outcome(job.record, route.name, Status.REPEATED, attempts=0))
                continue
            limit = route.after_deliveries
            failures = 0 if limit is None else memory.failures(job.record, route.name)
            if (
                parking is not None
                and limit is not None
                and failures >= limit
                and memory.was_cut_off(job.record, route.name)
                and isinstance(route, CompiledRoute)
            ):
                left.append(Refused(route, _never_done(route.name, failures)))
            else:
                left.append(route)
        job.leave(left)
        called = [route for route in left if isinstance(route, CompiledRoute)]
        own_again = own_again or any(route.batching is None for route in called)
        batch_again = batch_again or any(route.batching is not None for route in called)


def _never_done(route: str, deliveries: int) -> DynaflowError:
    return DynaflowError(
        f"{route} was called in {deliveries} deliveries and came to no end in the last of them, "
        "which was cut off by its deadline"
    )


class _Planner:
    """Plans a batch record after record, in stream order."""

    def __init__(
        self, table: RouteTable, plan: Plan, ordering: Ordering, *, fail_unmatched: bool
    ) -> None:
        self.plan = plan
        self._fail_unmatched = fail_unmatched
        self._table = table
        self._ordering = ordering
        self._lanes: dict[Hashable, Lane] = {}
        self._closed: set[Hashable] = set()  # lanes in which a record has failed already
        self._lane_of: dict[Hashable, Hashable] = {}  # by item, where a function chooses

    def refuse(self, undecodable: Undecodable, index: int) -> None:
        """Plan a record that cannot be read: it is parked in its lane's order, or closes it."""
        # It has the parts of a Record that a failure is about; no handler ever sees it.
        record = cast("Record", undecodable)
        try:
            key = None
            if undecodable.keys is not None:
                key = self._ordering.lane_of(undecodable, undecodable.keys)
        except NonRetryable:
            pass  # where its lane is not known either, all that comes later has to wait
        is_behind = key is not None and key in self._closed
        if is_behind or not self._park(record, index, [(None, undecodable.reason)], key):
            self._fail(undecodable, None, undecodable.reason)
            self._close(record, key)

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
            if not self._park(record, index, [(None, error)], None):
                self._fail(record, None, error)
                self._close(record, None)
            return
        if key in self._closed:
            self._cut_short(key)
            return
        refusals: list[tuple[CompiledRoute | None, BaseException]] = [*unclear]
        if not routes and not unclear:
            refusals = [(None, Unmatched(_NO_ROUTE))]
        if not refusals:
            self._append(key, Job(record, index, routes, item=item))
        elif not self._park(record, index, refusals, key, routes=routes, item=item):
            for route, reason in refusals:
                self._fail(record, None if route is None else route.name, reason)
            if routes:
                self._append(key, Job(record, index, routes, item=item, doomed=True))
            self._closed.add(key)
            self._cut_short(key)

    def _park(
        self,
        record: Record,
        index: int,
        refusals: Sequence[tuple[CompiledRoute | None, BaseException]],
        key: Hashable | None,
        *,
        routes: Sequence[CompiledRoute] = (),
        item: Hashable = None,
    ) -> bool:
        """Plan that failures are parked, in the lane of this key; return False if they are not.

        Without a key it is done before anything else: nothing may start above such a record.
        """
        if not all(self._is_parked(record, *refusal) for refusal in refusals):
            return False
        steps: list[Step] = [Refused(route, error) for route, error in refusals]
        job = Job(record, index, [*steps, *routes], item=item)
        if key is not None:
            self._append(key, job)
            return True
        if self.plan.first is None:
            self.plan.first = Lane(object())
            self.plan.lanes.append(self.plan.first)
        self.plan.first.jobs.append(job)
        return True

    def _is_parked(self, record: Record, route: CompiledRoute | None, error: BaseException) -> bool:
        parking = self.plan.parking
        if parking is None:
            return False
        limit = None if route is None else route.after_deliveries
        failures = self.plan.memory.failures(record, None if route is None else route.name)
        return parking.reason(record, error, deliveries=failures + 1, limit=limit) is not None

    def _close(self, record: Record, key: Hashable | None) -> None:
        """Start nothing behind a failed record: in its lane, or nowhere if that is not known."""
        if key is None:
            self.plan.barrier = min(self.plan.barrier, record.position)
        else:
            self._closed.add(key)
            self._cut_short(key)

    def _cut_short(self, key: Hashable) -> None:
        if key in self._lanes:
            self._lanes[key].is_cut_short = True

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
