"""Random schedules through the Lambda handler and a mapping: nothing lost, items in order.

Handlers fail for a while or for ever, raise what is no Exception, and their sandbox dies under
them; outcomes are lost on their way. What the mapping counts as done must have had its effects, and
an item's last effect is that of its last record, unless the mapping gave that one up.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynaflow import App, Change, PartialFailure, Record, Router
from dynaflow.errors import RecordsFailed
from dynaflow.testing import EventSourceMapping, MappingReport, RecordBuilder, SandboxDied

ITEMS = "abcd"
ROUTES = ("own", "every", "latest")
FOR_EVER = 10**9

Kind: TypeAlias = Literal["raise", "exit", "cancel", "interrupt", "die"]


@dataclass(frozen=True)
class Fault:
    """How a route fails for one record.

    Args:
        kind: what it does; of batch routes, "part" names the record and does the others.
        times: how often, before it works.
    """

    kind: Kind | Literal["part"]
    times: int


@dataclass(frozen=True)
class Step:
    """One record: whose change, a delete or not, and what goes wrong by route."""

    item: str
    deletes: bool
    faults: tuple[Fault | None, Fault | None, Fault | None]
    pauses: int


class World:
    """A stream, and what handlers made of it; a sandbox that died has no more effects."""

    def __init__(self, steps: Sequence[Step], *, is_async: bool, reports: bool | None) -> None:
        self.steps = steps
        self.is_async = is_async
        self.reports = reports
        build = RecordBuilder(("id",))
        self.raws = [
            (build.remove if step.deletes else build.insert)({"id": step.item, "n": n})
            for n, step in enumerate(steps)
        ]
        self.numbers = [raw["dynamodb"]["SequenceNumber"] for raw in self.raws]
        self.effects: dict[str, list[int]] = {route: [] for route in ROUTES}
        self.copy: dict[str, int] = {}
        self.failed: Counter[tuple[str, int]] = Counter()
        self.running: set[str] = set()
        self.is_dead = False
        self.options: dict[str, Any] = {}
        self.handler: Any = None

    def start(self) -> Any:
        """Start a sandbox, after the end of the one before, and return its function."""
        self.stop()
        router = Router()
        own, every, latest = (
            (self.own, self.every, self.latest)
            if self.is_async
            else (self.own_sync, self.every_sync, self.latest_sync)
        )
        max_items = self.options.get("max_items", 100)
        router.add_route(["INSERT", "REMOVE"], own, name="own")
        router.on_batch(max_items=max_items, name="every")(every)
        router.on_batch("INSERT", max_items=max_items, latest_only=True, name="latest")(latest)
        options = {key: option for key, option in self.options.items() if key != "max_items"}
        app = App(router, **options)
        self.handler = app.lambda_handler(report_batch_item_failures=self.reports)
        self.is_dead = False
        self.running.clear()
        return self.invoke

    def stop(self) -> None:
        if self.handler is not None:  # Lambda never closes a loop; in a test it must not be left
            inspect.getclosurevars(self.handler).nonlocals["host"].close()
            self.handler = None

    def invoke(self, event: Any, context: Any) -> Any:
        try:
            return self.handler(event, context)
        finally:
            if self.is_dead:
                raise SandboxDied

    def number(self, record: Record) -> int:
        image = record.new or record.old
        assert image is not None
        return int(image["n"])

    def fault(self, route: str, n: int) -> Kind | Literal["part"] | None:
        """Return how the route fails for the record this time."""
        fault = self.steps[n].faults[ROUTES.index(route)]
        if fault is None or self.failed[route, n] >= fault.times:
            return None
        self.failed[route, n] += 1
        return fault.kind

    def fail(self, kind: Kind) -> None:
        if kind == "die":
            self.is_dead = True
        errors = {
            "exit": SystemExit,
            "cancel": asyncio.CancelledError,
            "interrupt": KeyboardInterrupt,
        }
        raise errors.get(kind, ValueError)

    def own_sync(self, record: Record) -> None:
        n = self.number(record)
        kind = self.fault("own", n)
        if kind:
            self.fail("raise" if kind == "part" else kind)
        self.note("own", n)

    async def own(self, record: Record) -> None:
        n = self.number(record)
        with self.alone({self.steps[n].item}):
            for _ in range(self.steps[n].pauses):
                await anyio.lowlevel.checkpoint()
            self.own_sync(record)

    def every_sync(self, changes: list[Change[dict[str, Any]]]) -> None:
        self.batch("every", [self.number(change.record) for change in changes])

    async def every(self, records: list[Record]) -> None:
        await self.batch_async("every", records)

    def latest_sync(self, records: list[Record]) -> None:
        self.batch("latest", [self.number(record) for record in records])

    async def latest(self, records: list[Record]) -> None:
        await self.batch_async("latest", records)

    async def batch_async(self, route: str, records: list[Record]) -> None:
        numbers = [self.number(record) for record in records]
        with self.alone({self.steps[n].item for n in numbers}):
            await anyio.lowlevel.checkpoint()
            self.batch(route, numbers)

    def batch(self, route: str, numbers: list[int]) -> None:
        part: list[int] = []
        for at, n in enumerate(numbers):
            kind = self.fault(route, n)
            if kind == "part":
                part.append(at)
            elif kind:
                self.fail(kind)
        for at, n in enumerate(numbers):
            if at not in part:
                self.note(route, n)
        if part:
            raise PartialFailure(part)

    def alone(self, items: set[str]) -> Any:
        return _Alone(self.running, items)

    def note(self, route: str, n: int) -> None:
        """Have an effect, unless the process is no more."""
        if self.is_dead:
            raise ValueError("the process has died")
        self.effects[route].append(n)
        item = self.steps[n].item
        if route == "own" and self.steps[n].deletes:
            self.copy.pop(item, None)
        if route == "latest":
            self.copy[item] = n

    def takes(self, route: str, n: int) -> bool:
        return route != "latest" or not self.steps[n].deletes

    def check(self, report: MappingReport) -> None:
        """Check that what is done has had its effects, and that they ended with the right one."""
        lost = {number for each in report.given_up for number in each.numbers}
        done = set(report.done)
        assert report.pending == ()
        assert not lost & done
        assert lost | done == set(self.numbers), "neither done nor given up"
        for route in ("own", "every"):
            for n, number in enumerate(self.numbers):
                assert number in lost or n in self.effects[route], "lost"
        for route in ROUTES:
            for item in ITEMS:
                self.check_last(route, item, lost)
        for item in ITEMS:
            of_item = [n for n, step in enumerate(self.steps) if step.item == item]
            if of_item and not any(self.numbers[n] in lost for n in of_item):
                last = of_item[-1]
                assert self.copy.get(item) == (None if self.steps[last].deletes else last)

    def check_last(self, route: str, item: str, lost: set[str]) -> None:
        kept = [
            n
            for n, step in enumerate(self.steps)
            if step.item == item and self.takes(route, n) and self.numbers[n] not in lost
        ]
        effects = [n for n in self.effects[route] if self.steps[n].item == item]
        if not kept:
            return
        if route == "latest" and any(
            step.deletes and step.item == item for step in self.steps[kept[-1] :]
        ):
            return  # a delete may have made it stale; the copy says whether that was right
        assert effects, "lost"
        assert effects[-1] >= kept[-1], "an older effect stands last"


class _Alone:
    def __init__(self, running: set[str], items: set[str]) -> None:
        self._running, self._items = running, items

    def __enter__(self) -> None:
        assert not self._running & self._items, "two calls of one item at a time"
        self._running |= self._items

    def __exit__(self, *error: object) -> None:
        self._running -= self._items


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("dynaflow")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


def faults(kinds: Sequence[str], times: Sequence[int]) -> st.SearchStrategy[Fault | None]:
    fault = st.builds(Fault, st.sampled_from(kinds), st.sampled_from(times))
    return st.one_of(st.none(), st.none(), st.none(), st.none(), fault)


def steps(*times: int) -> st.SearchStrategy[list[Step]]:
    kinds: Sequence[Kind] = ("raise", "raise", "exit", "cancel", "interrupt", "die")
    own, batch = faults(kinds, times), faults((*kinds, "part", "part"), times)
    step = st.builds(
        Step,
        item=st.sampled_from(ITEMS),
        deletes=st.sampled_from([False, False, True]),
        faults=st.tuples(own, batch, batch),
        pauses=st.integers(0, 3),
    )
    return st.lists(step, max_size=20)


MAPPINGS = st.fixed_dictionaries(
    {
        "batch_size": st.sampled_from([1, 2, 5, 100]),
        "parallelization_factor": st.sampled_from([1, 1, 3]),
        "bisect_batch_on_function_error": st.booleans(),
        "duplicates": st.sampled_from([0.0, 0.0, 0.3]),
        "seed": st.integers(0, 3),
    }
)
ATTEMPTS = st.sampled_from([0, 1, 3])
APPS = st.fixed_dictionaries(
    {
        "max_items": st.sampled_from([1, 2, 100]),
        "failure_policy": st.sampled_from(["stop_item", "stop"]),
        "concurrency": st.integers(1, 5),
    }
)


def deliver(world: World, app: dict[str, Any], mapping: dict[str, Any]) -> MappingReport:
    world.options = app
    try:
        lambda_ = EventSourceMapping(world.start(), restart=world.start, **mapping)
        report = lambda_.run(world.raws)
    finally:
        world.stop()
    for invocation in report.invocations:
        assert isinstance(invocation.error, (type(None), SandboxDied, RecordsFailed))
    world.check(report)
    return report


@settings(max_examples=100, deadline=None)
@given(steps=steps(1, 2, 4), app=APPS, mapping=MAPPINGS)
def test_on_a_loop_all_that_fails_for_a_while_is_done_in_the_end(
    steps: list[Step], app: dict[str, Any], mapping: dict[str, Any]
) -> None:
    world = World(steps, is_async=True, reports=True)
    report = deliver(world, app, {**mapping, "report_batch_item_failures": True})
    assert report.given_up == ()


@settings(max_examples=60, deadline=None)
@given(steps=steps(1, 2, 4), app=APPS, mapping=MAPPINGS, threads=st.sampled_from([0, 1, 3]))
def test_in_threads_all_that_fails_for_a_while_is_done_in_the_end(
    steps: list[Step], app: dict[str, Any], mapping: dict[str, Any], threads: int
) -> None:
    world = World(steps, is_async=False, reports=True)
    report = deliver(
        world, {**app, "threads": threads}, {**mapping, "report_batch_item_failures": True}
    )
    assert report.given_up == ()


@settings(max_examples=100, deadline=None)
@given(
    steps=steps(1, 3, FOR_EVER), app=APPS, mapping=MAPPINGS, attempts=ATTEMPTS, sync=st.booleans()
)
def test_poison_is_given_up_with_what_its_batch_holds_and_nothing_is_lost_in_silence(
    steps: list[Step], app: dict[str, Any], mapping: dict[str, Any], attempts: int, sync: bool
) -> None:
    world = World(steps, is_async=not sync, reports=True)
    reporting = {"report_batch_item_failures": True, "maximum_retry_attempts": attempts}
    deliver(world, app, {**mapping, **reporting})


@settings(max_examples=60, deadline=None)
@given(
    steps=steps(1, 2, 4),
    app=APPS,
    mapping=MAPPINGS,
    sync=st.booleans(),
    flags=st.tuples(st.sampled_from([False, None]), st.booleans()),
)
def test_a_function_that_was_not_told_of_the_flag_raises_and_nothing_is_lost(
    steps: list[Step],
    app: dict[str, Any],
    mapping: dict[str, Any],
    sync: bool,
    flags: tuple[bool | None, bool],
) -> None:
    reports, is_flagged = flags
    world = World(steps, is_async=not sync, reports=reports)
    report = deliver(world, app, {**mapping, "report_batch_item_failures": is_flagged})
    assert report.given_up == ()
    outcomes = {invocation.outcome for invocation in report.invocations}
    assert outcomes <= {"done", "function error"}
    assert all(
        each.answer == {"batchItemFailures": []}
        for each in report.invocations
        if each.outcome == "done"
    )


def test_a_function_that_reports_to_a_mapping_without_the_flag_loses_what_failed() -> None:
    fault = Fault("raise", 1)
    world = World([Step("a", False, (fault, None, None), 0)], is_async=False, reports=True)
    with pytest.raises(AssertionError, match="lost"):
        deliver(world, {}, {})
