"""What every checkpoint store promises (the contract in dynaflow/checkpoints.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import anyio
import pytest

from dynaflow.checkpoints import Checkpoint, CheckpointStore, Deliveries
from dynaflow.stores import MemoryStore, SqliteStore

pytestmark = pytest.mark.anyio

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
END = Checkpoint("SHARD_END")
SHORT = Checkpoint("9" * 21)
LONG = Checkpoint("1" + "0" * 27)  # larger, though smaller as text

Again: TypeAlias = Callable[[], CheckpointStore]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["memory", "sqlite"])
async def again(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Again]:
    """A function that opens the same store again: from another process, where that can be."""
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            store = MemoryStore()
            yield lambda: store
            return
        opened = []

        def reopen() -> CheckpointStore:
            opened.append(SqliteStore(tmp_path / "checkpoints.db"))
            return opened[-1]

        yield reopen
        for each in opened:
            await stack.enter_async_context(each)


@pytest.fixture
def store(again: Again) -> CheckpointStore:
    return again()


async def test_an_unknown_stream_has_no_checkpoints(store: CheckpointStore) -> None:
    assert await store.load("app", ARN) == {}


async def test_what_was_saved_is_loaded_by_everyone(store: CheckpointStore, again: Again) -> None:
    rows = {"a": LONG, "b": END, "c": Checkpoint("LATEST", 12.5), "d": Checkpoint("TRIM_HORIZON")}
    for shard_id, row in rows.items():
        await store.save("app", ARN, shard_id, row)
    assert await again().load("app", ARN) == rows


async def test_applications_and_streams_are_apart(store: CheckpointStore) -> None:
    await store.save("app", ARN, "a", SHORT)
    assert await store.load("other", ARN) == {}
    assert await store.load("app", f"{ARN}1") == {}


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Checkpoint("LATEST", 1.0), SHORT),
        (Checkpoint("TRIM_HORIZON"), SHORT),
        (SHORT, LONG),
        (LONG, END),
        (Checkpoint("LATEST", 1.0), END),
    ],
)
async def test_a_row_goes_forward_and_never_back(
    store: CheckpointStore, first: Checkpoint, second: Checkpoint
) -> None:
    await store.save("app", ARN, "a", first)
    assert await store.load("app", ARN) == {"a": first}
    await store.save("app", ARN, "a", second)
    assert await store.load("app", ARN) == {"a": second}
    await store.save("app", ARN, "a", first)
    assert await store.load("app", ARN) == {"a": second}


async def test_a_start_does_not_replace_another_start(store: CheckpointStore) -> None:
    await store.save("app", ARN, "a", Checkpoint("LATEST", 1.0))
    await store.save("app", ARN, "a", Checkpoint("LATEST", 2.0))
    assert await store.load("app", ARN) == {"a": Checkpoint("LATEST", 1.0)}


async def test_leading_zeros_stay_as_they_are(store: CheckpointStore) -> None:
    row = Checkpoint("000000000000000000042")
    await store.save("app", ARN, "a", row)
    assert await store.load("app", ARN) == {"a": row}


async def test_the_highest_of_many_writers_stays(store: CheckpointStore, again: Again) -> None:
    stores = [store, again(), again()]
    async with anyio.create_task_group() as tasks:
        for number in range(30):
            row = Checkpoint(str(9 * 10**20 + number * 10**20))
            tasks.start_soon(stores[number % 3].save, "app", ARN, "a", row)
    assert await store.load("app", ARN) == {"a": Checkpoint(str(38 * 10**20))}


COUNTS = {("9" * 22, "shop.ship"): 3, ("9" * 22, None): 1, ("1" + "0" * 25, "Straße \ud800"): 10**6}


async def test_counts_are_kept_with_the_row(store: CheckpointStore, again: Again) -> None:
    rows = {
        "a": Checkpoint(SHORT.position, deliveries=COUNTS),
        "b": Checkpoint("TRIM_HORIZON", deliveries=COUNTS),
        "c": Checkpoint("LATEST", 12.5, COUNTS),
    }
    for shard_id, row in rows.items():
        await store.save("app", ARN, shard_id, row)
    loaded = await again().load("app", ARN)
    assert loaded == rows
    assert loaded["a"].deliveries == COUNTS


@pytest.mark.parametrize("row", [SHORT, Checkpoint("TRIM_HORIZON"), Checkpoint("LATEST", 12.5)])
async def test_other_counts_replace_those_of_the_same_position(
    store: CheckpointStore, row: Checkpoint
) -> None:
    key = "9" * 22, "route"
    changes: list[Deliveries] = [{}, {key: 1}, {key: 2}, {("9" * 23, None): 1}, {key: 1}, {}]
    for counts in changes:
        new = replace(row, deliveries=counts)
        await store.save("app", ARN, "a", new)
        assert await store.load("app", ARN) == {"a": new}


async def test_counts_do_not_bring_a_row_back(store: CheckpointStore) -> None:
    latest = Checkpoint("LATEST", 2.0, COUNTS)
    await store.save("app", ARN, "a", Checkpoint("LATEST", 1.0))
    await store.save("app", ARN, "a", latest)
    await store.save("app", ARN, "a", Checkpoint("TRIM_HORIZON", deliveries=COUNTS))
    assert await store.load("app", ARN) == {"a": Checkpoint("LATEST", 1.0)}
    for first, second in ((SHORT, latest), (LONG, SHORT), (END, SHORT)):
        await store.save("app", ARN, "a", first)
        await store.save("app", ARN, "a", replace(second, deliveries=COUNTS))
        assert await store.load("app", ARN) == {"a": first}


async def test_a_new_position_takes_the_counts_that_come_with_it(store: CheckpointStore) -> None:
    await store.save("app", ARN, "a", Checkpoint(SHORT.position, deliveries=COUNTS))
    await store.save("app", ARN, "a", Checkpoint("9" * 22))
    assert await store.load("app", ARN) == {"a": Checkpoint("9" * 22)}


async def test_a_row_of_all_that_a_checkpoint_may_hold_is_kept(store: CheckpointStore) -> None:
    rows = {}
    for route in ("short", "long" * 250):
        counts: Deliveries = {(str(10**27 + number), route): 1 for number in range(2000)}
        rows[route[:5]] = replace(SHORT, deliveries=counts)
    for shard_id, row in rows.items():
        await store.save("app", ARN, shard_id, row)
    assert await store.load("app", ARN) == rows
