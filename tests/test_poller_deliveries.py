"""What the poller keeps of deliveries that failed: in memory, and in the store's row."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from dynaflow import App, NonRetryable, Record, Router
from dynaflow.batch import Batch, BatchResult, Outcome, Status
from dynaflow.checkpoints import Checkpoint, CheckpointStore, Deliveries
from dynaflow.codec import decode_records
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.engine.memory import Memory
from dynaflow.errors import StoreError
from dynaflow.poller import Poller, PollerResult
from dynaflow.record import Undecodable
from dynaflow.sources import MemorySource
from dynaflow.stores import MemoryStore, SqliteStore
from dynaflow.testing import RecordBuilder
from dynaflow.testing.clock import VirtualTimeLoop

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


class Store(MemoryStore):
    """A store that fails when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[Exception] = []

    async def save(
        self, application: str, stream_arn: str, shard_id: str, checkpoint: Checkpoint
    ) -> None:
        if self.errors:
            raise self.errors.pop(0)
        await super().save(application, stream_arn, shard_id, checkpoint)


class World:
    """A stream with the shard "a", and an app with the routes "ship" and "tell"."""

    def __init__(self) -> None:
        self.builder = RecordBuilder(keys=("id",))
        self.source = MemorySource(self.builder.stream_arn)
        self.source.add_shard("a")
        self.store: CheckpointStore = Store()
        self.numbers: dict[str, str] = {}
        """The sequence number of each item's record."""
        self.called: list[str] = []
        """Route and item of each call, in the order of their ends."""
        self.failing = {"ship": {"poison"}, "tell": set[str]()}
        self.slow: dict[str, float] = {}
        """How many seconds a call takes, by item."""
        self.letters: list[DeadLetterRecord] = []
        self.sink_errors: list[Exception] = []

    def write(self, *items: str, shard_id: str = "a") -> None:
        for item in items:
            raw = self.builder.insert({"id": item})
            (record,) = decode_records([raw], self.builder.stream_arn)
            self.numbers[item] = record.sequence_number
            self.source.append(shard_id, record)

    async def park(self, letter: DeadLetterRecord) -> None:
        if self.sink_errors:
            raise self.sink_errors.pop(0)
        self.letters.append(letter)

    async def call(self, route: str, record: Record) -> None:
        item = record.keys["id"]
        await anyio.sleep(self.slow.get(item, 0))
        self.called.append(f"{route} {item}")
        if item in self.failing[route]:
            raise RuntimeError("no")

    def app(self, **options: Any) -> App:
        router = Router()

        @router.on_any(name="ship")
        async def ship(record: Record) -> None:
            await self.call("ship", record)

        @router.on_any(name="tell")
        async def tell(record: Record) -> None:
            await self.call("tell", record)

        return App(router, **options)

    def parking(self, after: int) -> App:
        return self.app(dead_letter=self.park, after_deliveries=after)

    def poller(self, app: App | None = None, **options: Any) -> Poller:
        options.setdefault("random", lambda: 0.5)
        return Poller(app or self.app(), self.source, self.store, **options)

    async def run_once(self, app: App | None = None, **options: Any) -> PollerResult:
        return await self.poller(app, once=True, **options).run()

    async def run_for(self, seconds: float, app: App | None = None, **options: Any) -> PollerResult:
        poller = self.poller(app, **options)
        asyncio.get_running_loop().call_later(seconds, poller.stop)
        return await poller.run()

    async def row(self) -> Checkpoint | None:
        return (await self.store.load("default", self.source.stream_arn)).get("a")

    def counts(self, **of_items: int) -> Deliveries:
        """Counts of the route "ship", by item."""
        return {(self.numbers[item], "ship"): count for item, count in of_items.items()}


@pytest.fixture
def world() -> World:
    return World()


async def test_the_row_says_how_often_what_is_not_done_was_delivered(world: World) -> None:
    world.write("good", "poison", "after")
    await world.run_once()
    position = world.numbers["good"]
    assert await world.row() == Checkpoint(position, deliveries=world.counts(poison=3))


@pytest.mark.parametrize("start", ["TRIM_HORIZON", "LATEST"])
async def test_it_says_so_before_anything_is_done(world: World, start: Any) -> None:
    options = {"starting_position": start, "wall_clock": lambda: 1_767_225_600.0}
    if start == "LATEST":
        await world.run_once(**options)
    world.write("poison")
    await world.run_once(**options)
    row = await world.row()
    assert row is not None
    assert (row.position, row.deliveries) == (start, world.counts(poison=3))
    assert (row.pinned_at is None) == (start == "TRIM_HORIZON")
    world.failing["ship"].clear()
    await world.run_once(**options)
    assert await world.row() == Checkpoint(world.numbers["poison"])
    assert world.called.count("ship poison") == 4


async def test_counting_goes_on_after_a_restart(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.write("good", "poison")
    for runs in range(1, 4):
        await world.run_once()
        row = await world.row()
        assert row is not None
        assert row.deliveries == world.counts(poison=3 * runs)
    number = world.numbers["poison"]
    for deliveries in (1, 2, 4, 5, 7, 8):  # the third of a run is its last, and not told of
        assert f"{number} is not done after {deliveries} deliveries (ship)" in caplog.text


async def test_a_delivery_is_counted_in_the_row_before_the_next_one(world: World) -> None:
    seen: list[Deliveries] = []
    world.write("poison")

    class Recorded(MemoryStore):
        async def save(self, *args: Any) -> None:
            await super().save(*args)
            seen.append(args[-1].deliveries)
            assert world.called.count("ship poison") == len(seen), "saved too late"

    world.store = Recorded()
    await world.run_once()
    assert seen == [world.counts(poison=count) for count in (1, 2, 3)]


async def test_the_next_delivery_waits_until_the_last_one_is_counted(world: World) -> None:
    world.write("poison")
    store = Store()
    store.errors = [StoreError("locked")] * 1000
    world.store = store
    await world.run_for(20)
    assert world.called.count("ship poison") == 1
    store.errors.clear()
    await world.run_for(600)
    row = await world.row()
    assert row is not None
    assert row.deliveries == world.counts(poison=world.called.count("ship poison") - 1)


async def test_a_stop_between_deliveries_loses_no_count(world: World) -> None:
    world.write("poison")
    await world.run_for(100.5)
    row = await world.row()
    assert row is not None
    assert row.deliveries == world.counts(poison=world.called.count("ship poison"))


async def test_a_stop_during_a_delivery_counts_what_failed_in_it(world: World) -> None:
    world.write("poison", "other")
    world.slow = {"poison": 5, "other": 5}
    await world.run_for(3)
    assert "ship poison" in world.called
    row = await world.row()
    assert row is not None
    assert row.deliveries == world.counts(poison=1)


async def test_a_call_that_a_stop_cuts_off_is_not_counted(world: World) -> None:
    """A handler that takes longer than the grace would be parked after so many deployments."""
    world.write("good", "slow")
    world.slow["slow"] = 60
    for _ in range(3):
        await world.run_for(30, grace=5)
        assert world.called == ["ship good", "tell good"]
        assert await world.row() == Checkpoint(world.numbers["good"])


async def test_what_is_done_is_counted_no_more(world: World) -> None:
    world.failing["ship"] = {"i1", "i3", "i4"}
    world.write("i0", "i1", "i2", "i3", "i4")
    await world.run_once()
    world.failing["ship"] = {"i3"}
    await world.run_once()
    row = await world.row()
    assert row is not None
    assert row.position == world.numbers["i2"]
    assert row.deliveries == world.counts(i3=6)
    world.failing["ship"] = {"i4"}
    await world.run_once()
    row = await world.row()
    assert row is not None
    assert row.position == world.numbers["i3"]


async def test_counts_of_a_later_page_stay_until_it_comes(world: World) -> None:
    world.write("poison", "between", "late")
    world.failing["ship"] = {"poison", "late"}
    await world.run_once()
    world.source = MemorySource(world.builder.stream_arn, page_size=1)
    world.source.add_shard("a")
    world.builder = RecordBuilder(keys=("id",))
    world.write("poison", "between", "late")
    await world.run_once()
    row = await world.row()
    assert row is not None
    assert row.deliveries == world.counts(poison=6, late=3)
    world.failing["ship"] = {"late"}
    await world.run_once()
    row = await world.row()
    assert row is not None
    assert row.deliveries == world.counts(late=6)


class OneRoute:
    """What a poller needs of an App, and all it gives: a memory and the shard."""

    def __init__(self, status: Status = Status.FAILED) -> None:
        self.status = status
        self.batches: list[Batch] = []
        self.failures: list[int] = []

    def refuse_view_type(self, view_type: str | None, table: str | None = None) -> None:
        """Refuse none."""

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        yield

    async def process(
        self,
        batch: Batch,
        *,
        may_start: Callable[[], bool] | None = None,
        on_progress: Callable[[Record | Undecodable], None] | None = None,
        shared: bool = False,
        memory: Memory | None = None,
    ) -> BatchResult:
        assert memory is not None
        self.batches.append(batch)
        self.failures.append(memory.failures(batch.records[0], "ship"))
        outcomes = [Outcome(record, "ship", self.status) for record in batch.records]
        return BatchResult(tuple(outcomes), batch.records)


async def test_a_batch_says_which_shard_it_is_from_and_each_shard_has_its_memory(
    world: World,
) -> None:
    world.source.add_shard("b")
    world.write("x", shard_id="a")
    world.write("y", shard_id="b")
    stream = "default", world.source.stream_arn
    await world.store.save(*stream, "a", Checkpoint("TRIM_HORIZON", deliveries=world.counts(x=7)))
    app = OneRoute()
    await Poller(app, world.source, world.store, once=True, random=lambda: 0.5).run()
    first = {batch.shard_id: batch.records[0].sequence_number for batch in app.batches}
    assert first == {"a": world.numbers["x"], "b": world.numbers["y"]}
    by_shard = dict(zip([batch.shard_id for batch in app.batches[:2]], app.failures, strict=False))
    assert by_shard == {"a": 7, "b": 0}


async def test_a_record_that_did_not_start_comes_again_too(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.write("x")
    app = OneRoute(Status.NOT_DONE)
    await Poller(app, world.source, world.store, once=True, random=lambda: 0.5).run()
    assert len(app.batches) == 3
    assert "not done after 2 deliveries (it was not started)" in caplog.text


# With the engine's memory, and with dead letters


async def test_a_route_that_is_done_is_not_called_again_with_one_that_failed(world: World) -> None:
    world.write("good", "poison", "after")
    result = await world.run_once()
    assert world.called.count("tell poison") == 1
    assert world.called.count("ship poison") == 3
    assert result.records == 2


async def test_a_record_is_parked_once_after_so_many_deliveries_over_restarts(
    world: World, tmp_path: Path
) -> None:
    world.write("good", "poison", "after")
    for _ in range(4):
        async with SqliteStore(tmp_path / "checkpoints.db") as store:
            world.store = store
            await world.run_once(world.parking(5))
    assert world.called.count("ship poison") == 5
    (letter,) = world.letters
    assert (letter.route, letter.reason, letter.deliveries) == ("ship", "deliveries", 5)
    assert letter.sequence_number == world.numbers["poison"]
    async with SqliteStore(tmp_path / "checkpoints.db") as world.store:
        assert await world.row() == Checkpoint(world.numbers["after"])


async def test_a_shard_goes_on_and_its_children_start_once_a_record_is_parked(world: World) -> None:
    world.source.add_shard("b", "a")
    world.write("poison")
    world.source.close("a")
    world.write("child", shard_id="b")
    result = await world.run_once(world.parking(2))
    assert [letter.deliveries for letter in world.letters] == [2]
    assert "ship child" in world.called
    assert await world.row() == Checkpoint("SHARD_END")
    assert result == PollerResult(records=2)


async def test_a_record_that_no_try_would_help_is_parked_at_once(world: World) -> None:
    router = Router()

    @router.on_any(name="ship")
    async def ship(record: Record) -> None:
        raise NonRetryable("never")

    world.write("x", "y")
    result = await world.run_once(App(router, dead_letter=world.park))
    assert [letter.reason for letter in world.letters] == ["non_retryable"] * 2
    assert result == PollerResult(records=2)
    assert await world.row() == Checkpoint(world.numbers["y"])


async def test_a_sink_that_fails_leaves_the_record_to_come_again(world: World) -> None:
    world.write("good", "poison", "after")
    world.sink_errors = [RuntimeError("full")] * 4
    letters_at_first = []
    asyncio.get_running_loop().call_later(1, lambda: letters_at_first.append(len(world.letters)))
    await world.run_for(30, world.parking(2))
    assert letters_at_first == [0]
    (letter,) = world.letters
    assert letter.deliveries >= 2
    assert await world.row() == Checkpoint(world.numbers["after"])
    assert world.called.count("tell after") == 1


# Processes


KILLED = """
import asyncio, os, signal, sys
from dynaflow import App, Record, Router
from dynaflow.codec import decode_records
from dynaflow.poller import Poller
from dynaflow.sources import MemorySource
from dynaflow.stores import SqliteStore
from dynaflow.testing import RecordBuilder

router, calls = Router(), 0

@router.on_any(name="ship")
async def ship(record: Record) -> None:
    global calls
    calls += 1
    if calls == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    raise RuntimeError("no")

async def main():
    builder = RecordBuilder(keys=("id",))
    source = MemorySource(builder.stream_arn)
    source.add_shard("a")
    source.append("a", *decode_records([builder.insert({"id": "poison"})], builder.stream_arn))
    async with SqliteStore(sys.argv[1]) as store:
        await Poller(App(router), source, store, random=lambda: 0.0).run()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_counts_outlive_a_process_that_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints.db"

    async def counts() -> list[int]:
        async with SqliteStore(path) as store:
            (row,) = (await store.load("default", RecordBuilder().stream_arn)).values()
            return list(row.deliveries.values())

    for runs in (1, 2):
        killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
        assert killed.returncode == -signal.SIGKILL
        assert anyio.run(counts) == [2 * runs]
