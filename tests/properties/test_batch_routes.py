"""Random schedules with batch routes beside per-record ones, delivered until everything is done."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynaflow import (
    App,
    Batch,
    BatchResult,
    Change,
    PartialFailure,
    Record,
    Router,
    Status,
    Undecodable,
)
from dynaflow._host import Host
from dynaflow.codec import decode_records
from dynaflow.testing import RecordBuilder
from dynaflow.testing.clock import run_virtual


@dataclass(frozen=True)
class Step:
    """One record, and what goes wrong the first time that each of its routes has it.

    Args:
        item: whose change it is.
        kind: "put" and "delete" are taken by routes, "other" is not.
        own: the route that takes one record at a time fails.
        every: the batch route that takes every change fails: for this record, or as a whole.
        latest: the same for the batch route that takes an item's last put.
        seconds: how long the route of one record takes.
    """

    item: str
    kind: Literal["put", "delete", "other"]
    own: bool
    every: Literal["", "part", "whole"]
    latest: Literal["", "part", "whole"]
    seconds: float


_rarely = st.sampled_from([False] * 7 + [True])
_fault: st.SearchStrategy[Any] = st.sampled_from([""] * 8 + ["part", "whole"])
STEPS = st.lists(
    st.builds(
        Step,
        item=st.sampled_from("abcd"),
        kind=st.sampled_from(["put", "put", "put", "delete", "other"]),
        own=_rarely,
        every=_fault,
        latest=_fault,
        seconds=st.sampled_from([0.0, 0.0, 0.1, 0.5]),
    ),
    max_size=24,
)
LIMITS = st.sampled_from([1, 2, 3, 100])


class World:
    """A table's changes, and what handlers make of them: a copy of the table among it."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = steps
        build = RecordBuilder(keys=("id",))
        raws = [
            build.remove({"id": s.item, "n": n, "kind": s.kind})
            if s.kind == "delete"
            else build.insert({"id": s.item, "n": n, "kind": s.kind})
            for n, s in enumerate(steps)
        ]
        self.records = decode_records(raws, build.stream_arn)
        self.number = {id(record): n for n, record in enumerate(self.records)}
        self.copy: dict[str, int] = {}
        self.done: dict[str, list[int]] = {"own": [], "every": [], "latest": []}
        self.called: dict[str, list[int]] = {"own": [], "every": [], "latest": []}
        self.calls: dict[str, list[list[int]]] = {"own": [], "every": [], "latest": []}
        self.failed: set[tuple[str, int]] = set()
        self.running: set[str] = set()

    def app(self, *, is_async: bool, max_items: int, **options: Any) -> App:
        router = Router()
        own, every, latest = (
            (self.own, self.every, self.latest)
            if is_async
            else (self.own_sync, self.every_sync, self.latest_sync)
        )
        known: Any = lambda record: self.steps[self.number[id(record)]].kind != "other"  # noqa: E731 - it is told to three routes
        router.add_route(["INSERT", "REMOVE"], own, known, name="own")
        router.on_batch(when=known, max_items=max_items, name="every")(every)
        router.on_batch("INSERT", when=known, max_items=max_items, latest_only=True, name="latest")(
            latest
        )
        return App(router, **options)

    def enter(self, items: set[str]) -> None:
        assert not self.running & items, "two calls of one item at a time"
        self.running |= items

    def own_sync(self, record: Record) -> None:
        n = self.number[id(record)]
        step = self.steps[n]
        self.called["own"].append(n)
        if step.own and self.fails_first("own", n):
            raise ValueError("no")
        if step.kind == "delete":
            self.copy.pop(step.item, None)
        self.done["own"].append(n)

    async def own(self, record: Record) -> None:
        step = self.steps[self.number[id(record)]]
        self.enter({step.item})
        try:
            if step.seconds:
                await anyio.sleep(step.seconds)
            self.own_sync(record)
        finally:
            self.running -= {step.item}

    def every_sync(self, changes: list[Change[dict[str, Any]]]) -> None:
        self.batch_call("every", [self.number[id(change.record)] for change in changes])

    async def every(self, records: list[Record]) -> None:
        await self.batch_call_async("every", records)

    def latest_sync(self, records: list[Record]) -> None:
        self.batch_call("latest", [self.number[id(record)] for record in records])

    async def latest(self, records: list[Record]) -> None:
        await self.batch_call_async("latest", records)

    async def batch_call_async(self, route: str, records: list[Record]) -> None:
        numbers = [self.number[id(record)] for record in records]
        items = {self.steps[n].item for n in numbers}
        self.enter(items)
        try:
            await anyio.sleep(0.1)
            self.batch_call(route, numbers)
        finally:
            self.running -= items

    def batch_call(self, route: str, numbers: list[int]) -> None:
        self.called[route] += numbers
        self.calls[route].append(numbers)
        faults = {n: getattr(self.steps[n], route) for n in numbers}
        faults = {n: fault for n, fault in faults.items() if fault and self.fails_first(route, n)}
        if "whole" in faults.values():
            raise ValueError("no")
        for n in numbers:
            if n not in faults:
                self.done[route].append(n)
                if route == "latest":
                    self.copy[self.steps[n].item] = n
        if faults:
            raise PartialFailure([numbers.index(n) for n in faults])

    def fails_first(self, route: str, n: int) -> bool:
        is_first = (route, n) not in self.failed
        self.failed.add((route, n))
        return is_first

    def check(self, batch: Batch, result: BatchResult) -> None:
        """Check one delivery, after which ``called`` and ``done`` hold what it did."""
        left = {self.number[id(record)] for record in result.not_done}
        done = {route: set(numbers) for route, numbers in self.done.items()}
        for outcome in result.outcomes:
            if outcome.status is Status.REPEATED and outcome.route is not None:
                done[outcome.route].add(self.number[id(outcome.record)])
        for called in self.called.values():
            for item in "abcd":
                of_item = [n for n in called if self.steps[n].item == item]
                assert of_item == sorted(of_item), "out of order"
        numbers = self.batch_numbers(batch)
        for route in ("every", "latest"):
            assert set(self.called[route]) <= done["own"], "before its own routes"
            self.check_calls(route)
        for n in self.called["latest"]:
            item = self.steps[n].item
            rest = [m for m in numbers - left if m > n and self.steps[m].item == item]
            assert not rest or {self.steps[m].kind for m in rest} != {"other"}, "stale"
        for n in numbers:
            step = self.steps[n]
            if n in left:
                continue
            assert step.kind == "other" or n in done["own"]
            assert step.kind == "other" or n in done["every"]
            if step.kind == "put" and n not in done["latest"]:
                assert any(m > n and self.steps[m].item == step.item for m in numbers), "lost"
        for n in left:  # what comes later of the item comes again with it
            for m in (m for m in numbers if m > n):
                if self.steps[m].item == self.steps[n].item and self.steps[m].kind != "other":
                    assert m in left, "it would come again behind a later change"

    def check_calls(self, route: str) -> None:
        failed: set[str] = set()
        for call in self.calls[route]:
            items = [self.steps[n].item for n in call]
            assert not failed & set(items), "behind a failure"
            failed |= {self.steps[n].item for n in call if n not in self.done[route]}

    def batch_numbers(self, batch: Batch) -> set[int]:
        return {self.number[id(record)] for record in batch.records}

    def check_end(self) -> None:
        """Check what everything comes to once nothing is left to deliver."""
        last = {step.item: n for n, step in enumerate(self.steps)}
        puts = {step.item: n for n, step in enumerate(self.steps) if step.kind == "put"}
        deletes = {step.item: n for n, step in enumerate(self.steps) if step.kind == "delete"}
        for item, at in last.items():
            if self.steps[at].kind != "other":
                assert self.copy.get(item) == (at if puts.get(item) == at else None)
            if deletes.get(item, -1) > puts.get(item, -1):
                assert item not in self.copy, "resurrected"
        for route in ("own", "every"):
            for item in last:
                matched = [
                    n for n, s in enumerate(self.steps) if s.item == item and s.kind != "other"
                ]
                effects = [n for n in self.everything[route] if self.steps[n].item == item]
                assert set(effects) == set(matched), "lost"
                assert effects[-1:] == matched[-1:], "an older effect stands last"

    def deliver_until_done(self, process: Any, *, again: Literal["from lowest", "left"]) -> None:
        """Deliver as Lambda does, from the lowest record on, or as the poller does."""
        self.everything: dict[str, list[int]] = {"own": [], "every": [], "latest": []}
        records: tuple[Record | Undecodable, ...] = self.records
        for _ in range(4 * len(self.steps) + 2):
            for route in ("own", "every", "latest"):
                self.called[route].clear()
                self.done[route].clear()
                self.calls[route].clear()
            batch = Batch(records)
            result = process(batch)
            self.check(batch, result)
            for route, numbers in self.done.items():
                self.everything[route] += numbers
            if not result.not_done:
                self.check_end()
                return
            at = records.index(result.not_done[0])
            records = records[at:] if again == "from lowest" else result.not_done
        raise AssertionError("it never ends")


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("dynaflow")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    yield
    logger.setLevel(before)


AGAIN = st.sampled_from(["from lowest", "left"])
OPTIONS = st.fixed_dictionaries(
    {
        "concurrency": st.integers(1, 5),
        "order_by": st.sampled_from(
            ["item", "item", "shard", lambda record: record.keys["id"] in "ab"]
        ),
        "failure_policy": st.sampled_from(["stop_item", "stop"]),
    }
)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, max_items=LIMITS, options=OPTIONS, again=AGAIN)
def test_on_a_loop_everything_is_done_in_order_and_nothing_resurrects(
    steps: list[Step], max_items: int, options: dict[str, Any], again: Any
) -> None:
    world = World(steps)
    app = world.app(is_async=True, max_items=max_items, **options)
    world.deliver_until_done(lambda batch: run_virtual(app.process, batch, patience=0), again=again)


@settings(max_examples=75, deadline=None)
@given(steps=STEPS, max_items=LIMITS, threads=st.sampled_from([0, 1, 3]), again=AGAIN)
def test_in_threads_everything_is_done_in_order_and_nothing_resurrects(
    steps: list[Step], max_items: int, threads: int, again: Any
) -> None:
    world = World(steps)
    host = Host(world.app(is_async=False, max_items=max_items, threads=threads))
    try:
        world.deliver_until_done(host.process, again=again)
    finally:
        host.close()
