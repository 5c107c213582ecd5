"""Random schedules of success, failure, cancellation and hang, against a model."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynaflow import App, Batch, BatchResult, Deadline, Record, Router
from dynaflow._host import Host
from dynaflow.codec import decode_records
from dynaflow.testing import RecordBuilder
from dynaflow.testing.clock import run_virtual


class Fate(Enum):
    """What becomes of one record."""

    OK = "its handler returns"
    FAILS = "its handler raises"
    EXITS = "its handler raises SystemExit"
    CANCELLED = "its handler raises a cancellation of its own"
    CANCELS = "its handler cancels its task and then awaits"
    HITS_NEXT = "its handler cancels its task and returns, which must not hit the next call"
    HANGS = "its handler never returns"
    UNMATCHED = "no route takes it"
    UNCLEAR = "a filter raises"
    SPOILED = "it cannot be decoded, but its key can be read"
    KEYLESS = "it cannot be decoded, and has no key"


ASYNCIO = (Fate.HANGS, Fate.CANCELLED, Fate.CANCELS, Fate.HITS_NEXT)
TIMELESS = [fate for fate in Fate if fate not in ASYNCIO]


@dataclass(frozen=True)
class Step:
    item: str
    fate: Fate
    seconds: float


def schedules(fates: Sequence[Fate]) -> st.SearchStrategy[list[Step]]:
    usual = st.just(Fate.OK)
    step = st.builds(
        Step,
        item=st.sampled_from("abcdef"),
        fate=st.one_of(usual, usual, usual, st.sampled_from(fates)),
        seconds=st.sampled_from([0.0, 0.0, 0.1, 0.5]),
    )
    return st.lists(step, max_size=40)


def expected(steps: list[Step], *, stop: bool) -> tuple[list[int], list[int]]:
    """Return which steps are called and which are not done: the model."""
    barrier = next((n for n, step in enumerate(steps) if step.fate is Fate.KEYLESS), len(steps))
    known = (Fate.UNCLEAR, Fate.SPOILED, Fate.KEYLESS)
    if stop:  # what cannot be run has failed before anything starts
        barrier = next((n for n, step in enumerate(steps) if step.fate in known), len(steps))
    called, not_done, closed = [], [], set()
    for n, step in enumerate(steps):
        if step.fate is Fate.UNMATCHED:
            continue
        if n >= barrier or step.item in closed or step.fate in known:
            not_done.append(n)
            if step.fate is not Fate.KEYLESS:
                closed.add(step.item)
            continue
        called.append(n)
        if step.fate not in (Fate.OK, Fate.HITS_NEXT):
            not_done.append(n)
            closed.add(step.item)
            barrier = min(barrier, n) if stop else barrier
    return called, not_done


class World:
    """The handlers, filters and records of a schedule, and what was called in which order."""

    def __init__(self, steps: list[Step]) -> None:
        self.steps = steps
        self.called: list[int] = []
        self.running: set[str] = set()
        build = RecordBuilder(keys=("id",))
        raws = [build.insert({"id": step.item, "n": n}) for n, step in enumerate(steps)]
        for raw, step in zip(raws, steps, strict=True):
            if step.fate in (Fate.SPOILED, Fate.KEYLESS):
                raw["eventName"] = "RENAME"
            if step.fate is Fate.KEYLESS:
                del raw["dynamodb"]["Keys"]
        self.records = decode_records(raws, build.stream_arn)

    def app(self, handler: Callable[..., Any], **options: Any) -> App:
        router = Router()
        router.add_route(["INSERT"], handler, self.matches, name="handler")
        return App(router, **options)

    def number_of(self, record: Any) -> int:
        return next(n for n, known in enumerate(self.records) if known is record)

    def matches(self, record: Record) -> bool:
        fate = self.steps[self.number_of(record)].fate
        if fate is Fate.UNCLEAR:
            raise LookupError("cannot tell")
        return fate is not Fate.UNMATCHED

    def sync_handler(self, record: Record) -> None:
        n = self.number_of(record)
        step = self.steps[n]
        assert step.item not in self.running, "two calls of one item at a time"
        self.running.add(step.item)
        self.called.append(n)
        self.running.discard(step.item)
        if step.fate is Fate.FAILS:
            raise ValueError("no")
        if step.fate is Fate.EXITS:
            raise SystemExit(1)

    async def handler(self, record: Record) -> None:
        n = self.number_of(record)
        step = self.steps[n]
        assert step.item not in self.running, "two calls of one item at a time"
        self.running.add(step.item)
        self.called.append(n)
        try:
            await self._live(step)
        finally:
            self.running.discard(step.item)

    async def _live(self, step: Step) -> None:
        if step.seconds:
            await anyio.sleep(step.seconds)
        match step.fate:
            case Fate.FAILS:
                raise ValueError("no")
            case Fate.EXITS:
                raise SystemExit(1)
            case Fate.CANCELLED:
                raise asyncio.CancelledError
            case Fate.CANCELS:
                _cancel_this_task()
                await asyncio.Event().wait()
            case Fate.HITS_NEXT:
                _cancel_this_task()
            case Fate.HANGS:
                await asyncio.Event().wait()

    def check(self, result: BatchResult, *, stop: bool) -> None:
        called, not_done = expected(self.steps, stop=stop)
        assert [self.number_of(record) for record in result.not_done] == not_done
        assert sorted(self.called) == called
        for item in "abcdef":
            numbers = [n for n in self.called if self.steps[n].item == item]
            assert numbers == sorted(numbers)
        lowest = result.failed
        assert (None if lowest is None else self.number_of(lowest)) == next(iter(not_done), None)


def _cancel_this_task() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("dynaflow")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


@settings(max_examples=300, deadline=None)
@given(steps=schedules(list(Fate)), extra=st.integers(0, 20))
def test_with_a_deadline_exactly_what_the_model_says_is_not_done(
    steps: list[Step], extra: int
) -> None:
    world = World(steps)
    told: list[int] = []

    async def main() -> BatchResult:
        # More workers than items: what hangs takes no turn from what does not. Far more time than
        # the longest lane wants, so that only what hangs meets the deadline.
        app = world.app(world.handler, concurrency=6 + extra)
        batch = Batch(world.records, "arn", Deadline(200, anyio.current_time))
        return await app.process(batch, on_progress=lambda r: told.append(world.number_of(r)))

    result = run_virtual(main, patience=0)
    world.check(result, stop=False)
    assert told == sorted(set(told))
    _, not_done = expected(steps, stop=False)
    end = not_done[0] if not_done else len(steps)
    assert (told[-1] + 1 if told else 0) == end


@settings(max_examples=200, deadline=None)
@given(
    steps=schedules([fate for fate in Fate if fate is not Fate.HANGS]),
    concurrency=st.integers(1, 8),
)
def test_with_any_concurrency_exactly_what_the_model_says_is_not_done(
    steps: list[Step], concurrency: int
) -> None:
    world = World(steps)
    app = world.app(world.handler, concurrency=concurrency)
    world.check(run_virtual(app.process, Batch(world.records), patience=0), stop=False)


@settings(max_examples=150, deadline=None)
@given(steps=schedules([fate for fate in Fate if fate is not Fate.HANGS]))
def test_the_policy_stop_starts_nothing_above_a_failure(steps: list[Step]) -> None:
    world = World(steps)
    app = world.app(world.handler, concurrency=1, failure_policy="stop")
    world.check(run_virtual(app.process, Batch(world.records), patience=0), stop=True)


@settings(max_examples=100, deadline=None)
@given(steps=schedules(TIMELESS), threads=st.sampled_from([0, 1, 3, 8]))
def test_in_threads_exactly_what_the_model_says_is_not_done(
    steps: list[Step], threads: int
) -> None:
    world = World(steps)
    app = world.app(world.sync_handler, threads=threads)
    world.check(Host(app).process(Batch(world.records)), stop=False)


@settings(max_examples=20, deadline=None)
@given(steps=schedules(TIMELESS), threads=st.sampled_from([0, 1, 3]))
def test_sync_and_async_routes_together_do_what_the_model_says(
    steps: list[Step], threads: int
) -> None:
    world = World(steps)
    router = Router(when=world.matches)
    router.add_route(["INSERT"], world.sync_handler, lambda r: r.keys["id"] < "d", name="sync")
    router.add_route(["INSERT"], world.handler, lambda r: r.keys["id"] >= "d", name="async")
    app = App(router, threads=threads, concurrency=4)
    world.check(anyio.run(app.process, Batch(world.records)), stop=False)
