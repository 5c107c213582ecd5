"""Whatever fails, and whenever the poller dies: nothing is lost, and nothing comes too early."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st

from dynaflow import App, Record, Router
from dynaflow.checkpoints import Checkpoint
from dynaflow.codec import decode_records
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.errors import SourceError, StoreError
from dynaflow.poller import Poller
from dynaflow.sources import MemorySource
from dynaflow.sources.memory import Operation
from dynaflow.stores import MemoryStore
from dynaflow.testing import RecordBuilder
from dynaflow.testing.clock import run_virtual

AFTER = 3  # deliveries a record is parked
NEVER = 99


@dataclass(frozen=True)
class Change:
    """One record: whose it is, how often it fails, how many seconds a call takes."""

    item: str
    failures: int
    seconds: float


@dataclass(frozen=True)
class Plan:
    """A stream, and what goes wrong."""

    parents: list[int | None]  # of each shard; always an earlier one
    changes: list[list[Change]]  # of each shard
    hidden: list[float]  # for how many seconds each shard is left out of listings
    page_size: int
    source_errors: list[tuple[Operation, int]]
    store_errors: int
    sink_errors: int
    deaths: list[tuple[float, bool]]  # after how many seconds; True for an orderly stop


changes = st.builds(
    Change,
    item=st.sampled_from("abc"),
    failures=st.sampled_from([0, 0, 0, 1, 2, NEVER]),
    seconds=st.sampled_from([0, 0.1, 3]),
)


OPERATIONS: tuple[Operation, ...] = ("shards", "open", "next")
source_errors = st.tuples(st.sampled_from(OPERATIONS), st.integers(1, 3))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    count = draw(st.integers(1, 4))
    return Plan(
        parents=[draw(st.sampled_from([None, *range(shard)])) for shard in range(count)],
        changes=[draw(st.lists(changes, max_size=6)) for _ in range(count)],
        hidden=[draw(st.sampled_from([0.0, 0.0, 1.5])) for _ in range(count)],
        page_size=draw(st.integers(1, 4)),
        source_errors=draw(st.lists(source_errors, max_size=3)),
        store_errors=draw(st.integers(0, 3)),
        sink_errors=draw(st.integers(0, 2)),
        deaths=draw(st.lists(st.tuples(st.floats(0, 12), st.booleans()), max_size=3)),
    )


class Run:
    """Runs a plan to its end, through all its deaths, and checks every step."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.builder = RecordBuilder(keys=("id",))
        self.source = MemorySource(self.builder.stream_arn, page_size=plan.page_size)
        self.store = CheckingStore(self)
        self.by_number: dict[str, tuple[str, Change]] = {}
        self.of_shard: defaultdict[str, list[str]] = defaultdict(list)
        self.tries: defaultdict[str, int] = defaultdict(int)
        self.failures: defaultdict[str, int] = defaultdict(int)
        self.until_parked: defaultdict[str, int] = defaultdict(
            int
        )  # failures before the first time
        self.done: set[str] = set()  # numbers, those of parked records included
        self.sink_errors_left = plan.sink_errors
        self.wrongs: list[str] = []  # a handler cannot raise them: that would be a failed record
        self.parent_of: dict[str, str | None] = {}
        for shard, parent in enumerate(plan.parents):
            self._add_shard(shard, parent)

    def _add_shard(self, shard: int, parent: int | None) -> None:
        shard_id = f"shard{shard}"
        self.parent_of[shard_id] = None if parent is None else f"shard{parent}"
        self.source.add_shard(shard_id, self.parent_of[shard_id])
        for change in self.plan.changes[shard]:
            (record,) = decode_records(
                [self.builder.insert({"id": change.item})], self.builder.stream_arn
            )
            self.source.append(shard_id, record)
            self.of_shard[shard_id].append(record.sequence_number)
            self.by_number[record.sequence_number] = shard_id, change
        # Its listing may still show a closed shard as open.
        self.source.close(shard_id, is_listed_as_closed=shard % 2 == 0)

    async def handle(self, record: Record) -> None:
        number = record.sequence_number
        shard_id, change = self.by_number[number]
        parent = self.parent_of[shard_id]
        if parent is not None and not self.done >= set(self.of_shard[parent]):
            self.wrongs.append("a child before its parent")
        for earlier in self.of_shard[shard_id][: self.of_shard[shard_id].index(number)]:
            if earlier not in self.done and self.by_number[earlier][1].item == change.item:
                self.wrongs.append("an item's changes out of order")
        self.tries[number] += 1
        await anyio.sleep(change.seconds)
        if self.tries[number] <= change.failures:
            self.failures[number] += 1
            self.until_parked[number] += number not in self.done
            raise RuntimeError("not yet")
        self.done.add(number)

    async def park(self, letter: DeadLetterRecord) -> None:
        number = letter.sequence_number
        if self.sink_errors_left:
            self.sink_errors_left -= 1
            raise RuntimeError("full")
        if letter.deliveries < AFTER or self.failures[number] < AFTER:
            self.wrongs.append("parked too early")
        self.done.add(number)

    async def run(self) -> None:
        for operation, count in self.plan.source_errors:
            self.source.fail(operation, *[SourceError("throttled")] * count)
        self.store.errors_left = self.plan.store_errors
        loop = asyncio.get_running_loop()
        for shard, seconds in enumerate(self.plan.hidden):
            if seconds:
                self.source.hide(f"shard{shard}")
                loop.call_later(seconds, self._show, f"shard{shard}")
        for after, is_orderly in self.plan.deaths:
            await self._run_until_death(after, is_orderly=is_orderly)
        await anyio.sleep(5)
        poller = self._poller()
        loop.call_later(600, poller.stop)
        await poller.run()
        assert self.done == set(self.by_number), "lost"
        # A death may cost the count of the delivery that it ended.
        most = AFTER + len(self.plan.deaths) + self.plan.sink_errors
        assert all(count <= most for count in self.until_parked.values()), "counting began anew"
        assert self.wrongs == []
        rows = await self.store.load("default", self.source.stream_arn)
        assert rows == dict.fromkeys(self.parent_of, Checkpoint("SHARD_END"))

    def _show(self, shard_id: str) -> None:
        self.source.hide(shard_id, is_hidden=False)

    async def _run_until_death(self, after: float, *, is_orderly: bool) -> None:
        poller = self._poller()
        if is_orderly:
            asyncio.get_running_loop().call_later(after, poller.stop)
            await poller.run()
            return
        with anyio.CancelScope() as scope:
            asyncio.get_running_loop().call_later(after, self._kill, scope)
            await poller.run()
        self.store.is_dead = False

    def _kill(self, scope: anyio.CancelScope) -> None:
        self.store.is_dead = True
        scope.cancel()

    def _poller(self) -> Poller:
        router = Router()
        router.on_any()(self.handle)
        # Without threads, in which time would be real.
        app = App(router, threads=0, dead_letter=self.park, after_deliveries=AFTER)
        return Poller(app, self.source, self.store, random=lambda: 0.5, grace=2)


class CheckingStore(MemoryStore):
    """Fails now and then, and refuses to hear that something is done that is not."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run
        self.errors_left = 0
        self.is_dead = False

    async def save(
        self, application: str, stream_arn: str, shard_id: str, checkpoint: Checkpoint
    ) -> None:
        if self.is_dead:
            raise StoreError("the process was killed before this")
        numbers = self._run.of_shard[shard_id]
        if not checkpoint.is_end:
            done = checkpoint.sequence_number
            numbers = numbers[: 0 if done is None else numbers.index(done) + 1]
        assert all(number in self._run.done for number in numbers), "saved before done"
        for (number, _), count in checkpoint.deliveries.items():
            assert number not in numbers, "counted below the position"
            # A delivery in which only the sink failed may count, too.
            failures = self._run.failures[number] + self._run.plan.sink_errors
            assert count <= failures, "counted more often than it failed"
        if self.errors_left:
            self.errors_left -= 1
            raise StoreError("locked")
        await super().save(application, stream_arn, shard_id, checkpoint)


@settings(max_examples=100, deadline=None)
@given(plans())
def test_nothing_is_lost_nor_early_whatever_fails_and_dies(plan: Plan) -> None:
    run_virtual(Run(plan).run)
