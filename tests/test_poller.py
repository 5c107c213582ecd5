"""The poller on a scripted stream and a virtual clock: minutes of waiting take no time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import anyio
import pytest

from dynaflow import App, Record, Router
from dynaflow.checkpoints import Checkpoint
from dynaflow.codec import decode_records
from dynaflow.errors import (
    RecordsTrimmed,
    ShardGone,
    SourceError,
    StoreError,
    StoreRefused,
    StreamRefused,
)
from dynaflow.poller import Poller, PollerResult, Shutdown, stop_on_signals
from dynaflow.source import Page, Position, PositionKind, Reader
from dynaflow.sources import MemorySource
from dynaflow.stores import MemoryStore
from dynaflow.testing import RecordBuilder
from dynaflow.testing.clock import VirtualTimeLoop

pytestmark = pytest.mark.anyio

ITEM_DATA = "item data that belongs into no log"
Handler: TypeAlias = Callable[[str], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


class Store(MemoryStore):
    """A store that fails when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.save_errors: list[Exception] = []
        self.load_errors: list[Exception] = []
        self.saves: list[tuple[str, str]] = []
        self.save_seconds = 0.0

    async def load(self, application: str, stream_arn: str) -> Any:
        if self.load_errors:
            raise self.load_errors.pop(0)
        return await super().load(application, stream_arn)

    async def save(
        self, application: str, stream_arn: str, shard_id: str, checkpoint: Checkpoint
    ) -> None:
        await anyio.sleep(self.save_seconds)
        if self.save_errors:
            raise self.save_errors.pop(0)
        self.saves.append((shard_id, checkpoint.position))
        await super().save(application, stream_arn, shard_id, checkpoint)


class World:
    """A stream, a store, and an app whose one handler is told an item's name."""

    def __init__(self) -> None:
        self.builder = RecordBuilder(keys=("id",))
        self.source = MemorySource(self.builder.stream_arn)
        self.store = Store()
        self.numbers: dict[str, str] = {}
        """The sequence number of each item's record."""
        self.handled: list[str] = []
        self.times: dict[str, list[float]] = {}
        """When each item's calls began."""
        self.handler: Handler | None = None
        self.lifespans = 0

    def write(self, shard_id: str, *items: str) -> None:
        for item in items:
            raw = self.builder.insert({"id": item, "data": ITEM_DATA})
            (record,) = decode_records([raw], self.builder.stream_arn)
            self.numbers[item] = record.sequence_number
            self.source.append(shard_id, record)

    def app(self, concurrency: int = 64) -> App:
        router = Router()

        @router.on_any()
        async def handle(record: Record) -> None:
            item = record.keys["id"]
            self.times.setdefault(item, []).append(anyio.current_time())
            if self.handler is not None:
                await self.handler(item)
            self.handled.append(item)

        @asynccontextmanager
        async def lifespan(_: App) -> AsyncIterator[None]:
            self.lifespans += 1
            yield

        return App(router, concurrency=concurrency, lifespan=lifespan)

    def poller(self, *, concurrency: int = 64, **options: Any) -> Poller:
        options.setdefault("random", lambda: 0.5)
        return Poller(self.app(concurrency), self.source, self.store, **options)

    async def run_once(self, **options: Any) -> PollerResult:
        return await self.poller(once=True, **options).run()

    async def run_for(self, seconds: float, **options: Any) -> PollerResult:
        """Run a poller, stop it after so many seconds, and wait for its end."""
        poller = self.poller(**options)
        call_later(seconds, poller.stop)
        return await poller.run()

    async def positions(self) -> dict[str, str]:
        rows = await self.store.load("default", self.source.stream_arn)
        return {shard_id: row.position for shard_id, row in rows.items()}

    def opened(self, shard_id: str) -> list[Position | None]:
        return [at for *call, at in self.source.calls if call == ["open", shard_id]]


def call_later(seconds: float, call: Callable[[], object]) -> None:
    asyncio.get_running_loop().call_later(seconds, call)


@pytest.fixture
def world() -> World:
    world = World()
    world.source.add_shard("a")
    return world


def items(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


# Reading


async def test_a_closed_shard_is_read_to_its_end(world: World) -> None:
    world.source = MemorySource(world.builder.stream_arn, page_size=3)
    world.source.add_shard("a")
    world.write("a", *items("i", 10))
    world.source.close("a")
    result = await world.run_once()
    assert sorted(world.handled) == items("i", 10)  # items run side by side
    assert await world.positions() == {"a": "SHARD_END"}
    assert result == PollerResult(records=10)


async def test_an_empty_page_is_not_the_end(world: World) -> None:
    async def write_later() -> None:
        await anyio.sleep(4)
        world.write("a", "late")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write_later)
        await world.run_once()
    assert world.handled == ["late"]
    assert await world.positions() == {"a": world.numbers["late"]}


async def test_once_ends_after_five_seconds_of_empty_pages(world: World) -> None:
    world.write("a", "x")
    await world.run_once()
    assert 5 <= anyio.current_time() < 8


async def test_once_does_not_count_failed_reads_as_empty(world: World) -> None:
    world.source.fail("next", *[SourceError("throttled")] * 8)

    async def write_later() -> None:
        await anyio.sleep(20)
        world.write("a", "late")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write_later)
        await world.run_once(random=lambda: 0.99)
    assert world.handled == ["late"]


async def test_a_shard_is_read_four_times_a_second_at_most_and_once_when_idle(world: World) -> None:
    world.source = MemorySource(world.builder.stream_arn, page_size=1)
    world.source.add_shard("a")
    world.write("a", *items("i", 8))
    await world.run_for(1.9)
    assert len(world.handled) == 8
    assert [times[0] for times in world.times.values()] == [0.25 * n for n in range(8)]
    world.source.calls.clear()
    await world.run_for(600)
    reads = [call for call in world.source.calls if call[0] == "next"]
    assert len(reads) == pytest.approx(600, abs=2)


async def test_an_idle_stream_is_listed_once_a_minute(world: World) -> None:
    await world.run_for(3600)
    listings = [call for call in world.source.calls if call[0] == "shards"]
    assert 60 <= len(listings) <= 68


async def test_failed_reads_are_tried_again_with_growing_waits(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.write("a", "x")
    world.source.fail("next", *[SourceError("throttled")] * 100)
    await world.run_for(60)
    assert world.handled == []
    reads = [call for call in world.source.calls if call[0] == "next"]
    assert 10 <= len(reads) <= 20
    assert "shard a could not be read and is tried again: throttled" in caplog.text
    await world.run_for(600)
    assert world.handled == ["x"]


async def test_a_shard_that_cannot_be_read_does_not_hold_up_another(world: World) -> None:
    world.source.add_shard("b")
    world.source.fail("next", *[SourceError("throttled")] * 100, shard_id="a")
    world.write("b", *items("b", 5))
    await world.run_for(30)
    assert sorted(world.handled) == items("b", 5)  # items run side by side


async def test_trimmed_records_are_reported_and_reading_goes_on(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.write("a", *items("i", 6))
    await world.store.save("default", world.source.stream_arn, "a", Checkpoint(world.numbers["i1"]))
    world.source.trim("a", 4)
    await world.run_once()
    assert world.handled == ["i4", "i5"]
    (loss,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert f"those after sequence number {world.numbers['i1']} are lost" in loss.getMessage()


async def test_a_wholly_trimmed_open_shard_is_tried_again_without_haste(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.source.fail("next", *[RecordsTrimmed("all of it")] * 1000)
    await world.run_for(60)
    assert len(world.opened("a")) < 20
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_shard_that_is_gone_is_reported_and_its_child_starts(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.write("a", "lost")
    world.source.close("a")
    world.source.add_shard("b", "a")
    world.write("b", "x")
    world.source.fail("next", ShardGone("trimmed"), shard_id="a")
    await world.run_once()
    assert world.handled == ["x"]
    assert (await world.positions())["a"] == "SHARD_END"
    assert "those after the shard's start are lost" in caplog.text


async def test_a_shard_that_is_listed_as_open_is_not_believed_to_be_gone(world: World) -> None:
    world.write("a", "x")
    world.source.fail("open", ShardGone("not everywhere yet"), shard_id="a")
    await world.run_once()
    assert world.handled == ["x"]


# Lineage


async def test_a_child_starts_after_all_records_of_its_parent_are_done(world: World) -> None:
    async def slow(item: str) -> None:
        await anyio.sleep(30 if item.startswith("p") else 0)

    world.handler = slow
    world.source.add_shard("b", "a")
    world.source.add_shard("c", "a")
    world.write("a", "p0", "p1")
    world.write("b", "b0")
    world.write("c", "c0")
    world.source.close("a", is_listed_as_closed=False)
    await world.run_once()
    assert sorted(world.handled[:2]) == ["p0", "p1"]
    assert sorted(world.handled[2:]) == ["b0", "c0"]
    assert world.times["b0"][0] < 32


async def test_the_end_of_a_parent_is_saved_before_its_child_is_read(world: World) -> None:
    world.source.add_shard("b", "a")
    world.write("a", "p")
    world.write("b", "c")
    world.source.close("a")
    world.source.close("b")
    await world.run_once()
    assert [shard for shard, _ in world.store.saves] == ["a", "b"]


async def test_a_child_does_not_start_while_a_record_of_its_parent_fails(world: World) -> None:
    async def fail(item: str) -> None:
        if item == "poison":
            raise RuntimeError("no")

    world.handler = fail
    world.source.add_shard("b", "a")
    world.write("a", "poison")
    world.write("b", "child")
    world.source.close("a")
    await world.run_for(3600)
    assert world.handled == []


async def test_a_child_that_is_listed_later_is_found_soon_after_its_parent_ended(
    world: World,
) -> None:
    world.source.close("a")

    async def split_later() -> None:
        await anyio.sleep(2.5)
        world.source.add_shard("b", "a")
        world.write("b", "x")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(split_later)
        await world.run_for(20)
    assert world.times["x"][0] < 10


async def test_a_parent_that_is_not_listed_but_kept_is_read_first(world: World) -> None:
    world.source.add_shard("b", "a")
    world.write("a", "parent")
    world.write("b", "child")
    world.source.close("a")
    world.source.hide("a")
    await world.run_once()
    assert world.handled == ["parent", "child"]


async def test_a_hidden_parent_that_appears_takes_its_place_in_the_line(world: World) -> None:
    world.source.add_shard("b", "a")
    world.source.add_shard("c", "b")
    for shard in "abc":
        world.write(shard, shard * 2)
    world.source.close("a")
    world.source.close("b")
    world.source.hide("b")
    world.handler = lambda item: anyio.sleep(10 if item == "aa" else 0)
    call_later(0.5, lambda: world.source.hide("b", is_hidden=False))
    await world.run_once()
    assert world.handled == ["aa", "bb", "cc"]


async def test_a_parent_that_is_gone_counts_as_ended(world: World) -> None:
    world.source.add_shard("b", "trimmed long ago")
    world.write("b", "x")
    await world.run_once()
    assert world.times["x"] == [0]
    assert (await world.positions())["trimmed long ago"] == "SHARD_END"


async def test_a_shard_with_a_checkpoint_is_read_on_though_it_is_not_listed(world: World) -> None:
    world.write("a", "i0", "i1")
    await world.store.save("default", world.source.stream_arn, "a", Checkpoint(world.numbers["i0"]))
    world.source.hide("a")
    await world.run_once()
    assert world.handled == ["i1"]


async def test_a_listing_that_fails_later_is_tried_again(world: World) -> None:
    world.source.close("a")
    poller = world.poller()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(poller.run)
        await anyio.sleep(0.5)
        world.source.fail("shards", SourceError("throttled"), StreamRefused("a moment's 403"))
        world.source.add_shard("b", "a")
        world.write("b", "x")
        await anyio.sleep(30)
        poller.stop()
    assert world.handled == ["x"]


# Failures and checkpoints


async def test_the_checkpoint_is_just_below_the_lowest_record_that_is_not_done(
    world: World,
) -> None:
    async def fail(item: str) -> None:
        if item in ("i3", "i6"):
            raise RuntimeError("no")

    world.handler = fail
    world.write("a", *items("i", 9))
    result = await world.run_once()
    assert await world.positions() == {"a": world.numbers["i2"]}
    assert [record.sequence_number for record in result.not_done] == [
        world.numbers["i3"],
        world.numbers["i6"],
    ]


async def test_what_is_done_does_not_come_again_with_what_failed(world: World) -> None:
    async def fail_twice(item: str) -> None:
        if item == "i1" and len(world.times["i1"]) < 3:
            raise RuntimeError("not yet")

    world.handler = fail_twice
    world.write("a", *items("i", 4))
    result = await world.run_once()
    assert world.handled == ["i0", "i2", "i3", "i1"]
    assert await world.positions() == {"a": world.numbers["i3"]}
    assert result == PollerResult(records=4)


async def test_sequence_numbers_order_as_integers(world: World) -> None:
    """The numbers go from 21 to 28 digits here, and grow while the text falls."""
    world.handler = None
    world.source = MemorySource(world.builder.stream_arn, page_size=2)
    world.source.add_shard("a")
    world.write("a", *items("i", 6))
    assert len(world.numbers["i0"]) < len(world.numbers["i5"])
    await world.run_once()
    assert await world.positions() == {"a": world.numbers["i5"]}
    await world.run_once()
    assert sorted(world.handled) == items("i", 6)  # items run side by side


async def test_a_poison_record_is_delivered_for_ever_with_growing_waits(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(item: str) -> None:
        if item == "poison":
            raise RuntimeError("no")

    world.handler = fail
    world.source.add_shard("b")
    world.write("a", "good", "poison", "after")
    poller = world.poller(random=lambda: 0.999)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(poller.run)
        await anyio.sleep(1000)
        world.write("b", "elsewhere")
        await anyio.sleep(2600)
        poller.stop()
    waits = [b - a for a, b in zip(world.times["poison"], world.times["poison"][1:], strict=False)]
    assert waits[:4] == pytest.approx([1, 2, 4, 8], rel=0.01)
    assert max(waits) == pytest.approx(60, rel=0.01)
    assert len(waits) > 60
    assert world.handled == ["good", "after", "elsewhere"]
    assert (await world.positions())["a"] == world.numbers["good"]
    warning = next(r.getMessage() for r in caplog.records if "deliveries" in r.getMessage())
    assert f"shard a: record {world.numbers['poison']} is not done after 1 deliveries" in warning
    assert ".handle" in warning
    assert ITEM_DATA not in caplog.text


async def test_once_gives_a_record_up_after_three_deliveries(world: World) -> None:
    async def fail(item: str) -> None:
        if item == "poison":
            raise RuntimeError("no")

    world.handler = fail
    world.source.add_shard("b")
    world.write("a", "poison", "after")
    world.write("b", "elsewhere")
    result = await world.run_once()
    assert len(world.times["poison"]) == 3
    assert sorted(world.handled) == ["after", "elsewhere"]
    assert result.records == 2
    assert [record.sequence_number for record in result.not_done] == [world.numbers["poison"]]


async def test_a_restart_goes_on_where_the_last_run_ended(world: World) -> None:
    world.write("a", *items("i", 3))
    await world.run_once()
    world.write("a", "i3", "i4")
    await world.run_once()
    assert sorted(world.handled) == items("i", 5)  # items run side by side


async def test_two_applications_read_the_same_stream_independently(world: World) -> None:
    world.write("a", "x")
    await world.run_once(application="one")
    await world.run_once(application="two")
    await world.run_once(application="two")
    assert world.handled == ["x", "x"]


async def test_progress_is_saved_while_a_page_still_runs(world: World) -> None:
    world.handler = lambda item: anyio.sleep(1 if item < "i5" else math.inf)
    world.write("a", *items("i", 8))
    poller = world.poller(grace=0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(poller.run)
        await anyio.sleep(6)
        assert await world.positions() == {"a": world.numbers["i4"]}
        poller.stop()


async def test_a_checkpoint_is_saved_again_until_it_is(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.write("a", "x")
    world.store.save_errors = [StoreError("locked")] * 20
    await world.run_for(300)
    assert await world.positions() == {"a": world.numbers["x"]}
    assert world.handled == ["x"]
    assert "its checkpoint is not saved" in caplog.text


async def test_an_error_of_the_store_leaves_the_position_and_not_the_record(world: World) -> None:
    world.write("a", "x")
    world.store.save_errors = [StoreError("locked")] * 1000
    await world.run_for(30)
    world.store.save_errors.clear()
    assert await world.positions() == {}
    await world.run_once()
    assert world.handled == ["x", "x"]


async def test_a_store_that_cannot_be_trusted_ends_the_run(world: World) -> None:
    world.write("a", "x")
    world.store.save_errors = [StoreRefused("damaged")] * 2
    with pytest.raises(StoreRefused):
        await world.run_for(30)


async def test_an_error_that_is_no_records_failure_ends_the_run_with_it(world: World) -> None:
    async def out_of_memory(item: str) -> None:
        if item == "i2":
            raise MemoryError

    world.handler = out_of_memory
    world.source.add_shard("b")
    world.write("b", "other")
    world.write("a", *items("i", 4))
    with pytest.raises(MemoryError):
        await world.run_for(30)
    positions = await world.positions()
    assert positions.get("a") in (None, world.numbers["i0"], world.numbers["i1"])


# Starting


async def test_a_refused_store_ends_the_run_before_anything_is_read(world: World) -> None:
    world.store.load_errors = [StoreRefused("not ours")]
    with pytest.raises(StoreRefused):
        await world.run_for(30)
    assert world.source.calls == []
    assert world.lifespans == 0


async def test_a_refused_stream_ends_the_run_before_anything_is_read(world: World) -> None:
    world.source.fail("shards", StreamRefused("no such stream"))
    with pytest.raises(StreamRefused):
        await world.run_for(30)
    assert [call[0] for call in world.source.calls] == ["shards"]
    assert world.lifespans == 0


async def test_a_stream_that_cannot_be_reached_at_the_start_is_waited_for(world: World) -> None:
    world.write("a", "x")
    world.store.load_errors = [StoreError("locked")] * 2
    world.source.fail("shards", *[SourceError("unreachable")] * 5)
    await world.run_for(60)
    assert world.handled == ["x"]


async def test_once_ends_when_the_stream_is_refused_later_on(world: World) -> None:
    world.source.fail("next", StreamRefused("the role is gone"))
    with pytest.raises(StreamRefused):
        await world.run_once()


@pytest.mark.parametrize("options", [{"starting_position": "latest"}, {"application": ""}])
async def test_options_that_are_none_are_refused(world: World, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        world.poller(**options)


async def test_a_router_is_taken_where_an_app_is(world: World) -> None:
    router, seen = Router(), []

    @router.on_insert()
    async def handle(record: Record) -> None:
        seen.append(record.sequence_number)

    world.write("a", "x")
    await Poller(router, world.source, world.store, once=True).run()
    assert seen == [world.numbers["x"]]


# LATEST. The builder's records are written one second after the other from START on.

START = 1_767_225_600.0
LATER = START + 24 * 3600


def latest(now: float = LATER) -> dict[str, Any]:
    return {"starting_position": "LATEST", "wall_clock": lambda: now}


async def test_a_start_at_latest_leaves_out_only_what_was_written_before(world: World) -> None:
    """Here the poller's clock is a day ahead, which makes the new record look old."""
    world.write("a", "old")

    async def write_later() -> None:
        await anyio.sleep(3)
        world.write("a", "new")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write_later)
        await world.run_once(**latest())
    assert world.handled == ["new"]


async def test_a_restart_under_latest_loses_nothing_that_was_written_in_between(
    world: World,
) -> None:
    started = START + 1000
    world.write("a", "old")
    await world.run_once(**latest(started))
    assert await world.positions() == {"a": "LATEST"}
    world.builder._count += 1000
    world.write("a", "in between")
    await world.run_once(**latest(started + 60))
    assert world.handled == ["in between"]
    assert await world.positions() == {"a": world.numbers["in between"]}


async def test_a_clock_that_is_ahead_loses_nothing_under_latest(world: World) -> None:
    ahead = START + 300
    await world.run_once(**latest(ahead))
    world.write("a", "in between")
    await world.run_once(**latest(ahead))
    assert world.handled == ["in between"]


async def test_what_is_older_than_a_start_at_latest_counts_as_done(world: World) -> None:
    world.write("a", *items("old", 3))
    await world.run_once(**latest())
    await world.run_once(**latest())
    assert world.handled == []
    assert await world.positions() == {"a": world.numbers["old2"]}


async def test_a_first_read_that_fails_under_latest_loses_nothing(world: World) -> None:
    async def write_later() -> None:
        await anyio.sleep(0.1)
        world.write("a", "x")

    world.source.fail("open", SourceError("throttled"))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write_later)
        await world.run_once(**latest(START))
    assert world.handled == ["x"]


async def test_only_shards_of_the_first_listing_start_at_latest(world: World) -> None:
    world.source.add_shard("closed")
    world.write("closed", "old")
    world.source.close("closed")
    world.source.add_shard("orphan", "not listed")
    poller = world.poller(**latest())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(poller.run)
        await anyio.sleep(0.5)
        world.source.close("a")
        world.source.add_shard("b", "a")
        world.write("b", "new")
        await anyio.sleep(30)
        poller.stop()
    assert world.handled == ["new"]
    assert world.opened("b") == [Position(PositionKind.TRIM_HORIZON)]
    assert await world.positions() == {
        "a": "SHARD_END",
        "closed": "SHARD_END",
        "not listed": "SHARD_END",
        "orphan": "LATEST",
        "b": world.numbers["new"],
    }


async def test_a_child_below_an_open_parent_starts_at_its_oldest_record(world: World) -> None:
    world.source.add_shard("b", "a")
    poller = world.poller(**latest(START))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(poller.run)
        await anyio.sleep(1)
        world.write("b", "first of the child")
        world.source.close("a")
        await anyio.sleep(10)
        poller.stop()
    assert world.handled == ["first of the child"]


# Stopping


async def test_calls_in_flight_may_end_and_no_other_starts(world: World) -> None:
    world.handler = lambda _: anyio.sleep(5)
    world.write("a", *items("i", 6))
    result = await world.run_for(7, concurrency=2)
    assert sorted(world.handled) == items("i", 4)
    assert set(world.times) == set(items("i", 4))
    assert anyio.current_time() == pytest.approx(10)
    assert await world.positions() == {"a": world.numbers["i3"]}
    assert result == PollerResult(records=4)


async def test_what_outlives_the_grace_is_cancelled_and_the_prefix_is_saved(world: World) -> None:
    world.handler = lambda item: anyio.sleep(math.inf if item == "i2" else 1)
    world.write("a", *items("i", 4))
    await world.run_for(3, grace=10)
    assert anyio.current_time() == pytest.approx(13)
    assert sorted(world.handled) == ["i0", "i1", "i3"]
    assert await world.positions() == {"a": world.numbers["i1"]}


async def test_a_stop_during_the_wait_for_a_delivery_is_at_once(world: World) -> None:
    async def fail(_: str) -> None:
        raise RuntimeError("no")

    world.handler = fail
    world.write("a", "x")
    await world.run_for(100.5, random=lambda: 0.999)
    assert anyio.current_time() == pytest.approx(100.5)


class Hanging:
    """A source of one shard that never answers."""

    def __init__(self, operation: str) -> None:
        self.stream_arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/t/stream/s"
        self.view_type = None
        self._operation = operation
        self._memory = MemorySource(self.stream_arn)
        self._memory.add_shard("a")

    async def shards(self) -> Any:
        if self._operation == "shards":
            await anyio.sleep_forever()
        return await self._memory.shards()

    async def open(self, shard_id: str, position: Position) -> Reader:
        if self._operation == "open":
            await anyio.sleep_forever()
        return self

    async def next(self) -> Page:
        await anyio.sleep_forever()
        raise AssertionError


@pytest.mark.parametrize("operation", ["shards", "open", "next"])
async def test_a_stop_while_the_stream_does_not_answer_is_at_once(operation: str) -> None:
    poller = Poller(Router(), Hanging(operation), MemoryStore())
    call_later(3, poller.stop)
    assert await poller.run() == PollerResult()
    assert anyio.current_time() == pytest.approx(3)


async def test_a_stop_before_the_start_reads_nothing(world: World) -> None:
    poller = world.poller()
    poller.stop()
    assert await poller.run() == PollerResult()
    assert world.source.calls == []


async def test_a_stop_while_the_lifespan_opens_is_at_once(world: World) -> None:
    closed = []

    @asynccontextmanager
    async def lifespan(_: App) -> AsyncIterator[None]:
        try:
            await anyio.sleep(1000)
            yield
        finally:
            closed.append(anyio.current_time())

    poller = Poller(App(lifespan=lifespan), world.source, world.store)
    call_later(2, poller.stop)
    await poller.run()
    assert closed == [2]


async def test_a_lifespan_may_take_its_time_to_close(world: World) -> None:
    closed = []

    @asynccontextmanager
    async def lifespan(_: App) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep_forever)
            yield
            tasks.cancel_scope.cancel()
        await anyio.sleep(60)
        closed.append(True)

    poller = Poller(App(lifespan=lifespan), world.source, world.store)
    call_later(2, poller.stop)
    await poller.run()
    assert closed == [True]


async def test_a_checkpoint_that_cannot_be_saved_does_not_hold_up_the_end(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.write("a", "x")
    world.store.save_errors = [StoreError("locked")] * 1000
    await world.run_for(5)
    assert anyio.current_time() == pytest.approx(5)
    assert "a restart would repeat records" in caplog.text


async def test_the_progress_is_saved_when_the_run_is_cancelled_from_outside(world: World) -> None:
    world.handler = lambda item: anyio.sleep(math.inf if item == "i2" else 1)
    world.write("a", *items("i", 4))
    world.store.save_seconds = 0.5
    with anyio.move_on_after(3):
        await world.poller().run()
    assert await world.positions() == {"a": world.numbers["i1"]}


async def test_a_store_that_never_answers_does_not_hold_up_the_end_for_long(world: World) -> None:
    world.write("a", "x")
    world.store.save_seconds = math.inf
    await world.run_for(5)
    assert anyio.current_time() < 60


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_first_signal_stops_and_the_second_ends_the_process(
    world: World, number: signal.Signals
) -> None:
    before = signal.getsignal(number)
    exits: list[int] = []
    world.handler = lambda _: anyio.sleep(5)
    world.write("a", "x")
    with stop_on_signals(exit_now=exits.append) as shutdown:
        call_later(1, lambda: signal.raise_signal(number))
        await world.poller(shutdown=shutdown).run()
        assert anyio.current_time() == pytest.approx(5)
        assert exits == []
        signal.raise_signal(number)
        assert exits == [128 + number]
    assert signal.getsignal(number) is before
    assert await world.positions() == {"a": world.numbers["x"]}


async def test_a_signal_cuts_the_start_short() -> None:
    with stop_on_signals(exit_now=lambda _: None) as shutdown:
        call_later(1, lambda: signal.raise_signal(signal.SIGTERM))
        with shutdown.interruptible():
            await anyio.sleep_forever()
        assert shutdown.is_requested
    assert anyio.current_time() == pytest.approx(1)


async def test_after_a_request_nothing_more_is_waited_for() -> None:
    shutdown = Shutdown()
    shutdown.request()
    shutdown.request()
    with shutdown.interruptible():
        await anyio.sleep(100)
    with shutdown.interruptible(grace=3):
        await anyio.sleep(100)
    assert anyio.current_time() == pytest.approx(3)


BLOCKED = """
import asyncio, sys, time
from dynaflow.poller import stop_on_signals

async def main():
    with stop_on_signals():
        print("ready", flush=True)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:  # a handler that never lets the loop run
            pass

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_process_whose_loop_is_blocked(number: signal.Signals) -> None:
    command = [sys.executable, "-c", BLOCKED]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while process.poll() is None:  # two that come at once may count as one
            process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
        assert process.returncode == 128 + number
