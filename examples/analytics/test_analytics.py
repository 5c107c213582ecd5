"""Totals are right after every change, and a change that comes again is not counted again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError

from dynaflow.demo.history import history, shuffled
from dynaflow.demo.stage import Stage
from dynaflow.testing import AsyncStream, TestClient
from examples.analytics.app import COUNTED, app, open_client
from examples.analytics.demo import (
    TABLE,
    Unsteady,
    is_right,
    make_order,
    make_tables,
    recount,
    replay,
    totals,
)

pytestmark = pytest.mark.asyncio

ORDER = {
    "id": "A-1",
    "customer": "ada",
    "status": "open",
    "amount": Decimal("19.90"),
    "placed_at": "2026-01-01T09:00:30+00:00",
}
PAID = {**ORDER, "status": "paid"}


@pytest_asyncio.fixture
async def stream(stage: Stage) -> AsyncIterator[AsyncStream]:
    await make_tables(stage)
    async with TestClient(app) as stream:
        yield stream


@pytest.mark.parametrize(
    "now",
    [
        pytest.param({**PAID, "amount": Decimal("25.10")}, id="dearer"),
        pytest.param({**PAID, "status": "shipped"}, id="shipped"),
        pytest.param({**PAID, "status": "cancelled"}, id="cancelled"),
        pytest.param({**PAID, "customer": "eve"}, id="another customer"),
        pytest.param({**PAID, "placed_at": "2026-01-01T09:07:00+00:00"}, id="another minute"),
        pytest.param(
            {**PAID, "customer": "eve", "placed_at": "2026-01-01T09:07:00+00:00", "amount": 1},
            id="all of it",
        ),
    ],
)
async def test_totals_are_those_of_the_order_as_it_is_now(
    stage: Stage, stream: AsyncStream, now: dict[str, Any]
) -> None:
    await stream.insert(ORDER)
    assert await totals(stage) == {}
    await stream.modify(old=ORDER, new=PAID)
    assert await totals(stage) == recount([PAID])
    await stream.modify(old=PAID, new=now)
    assert await totals(stage) == recount([now])
    await stream.remove(now)
    assert await totals(stage) == {}


async def test_minutes_are_those_of_utc(stage: Stage, stream: AsyncStream) -> None:
    await stream.insert({**PAID, "placed_at": "2026-01-01T23:59:59+01:00"})
    assert ("minute", "2026-01-01T22:59Z") in await totals(stage)


async def test_a_batch_that_comes_again_is_not_counted_again(
    stage: Stage, stream: AsyncStream
) -> None:
    batch = [stream.records.insert({**PAID, "id": f"A-{number}"}) for number in range(30)]
    for records in (batch, batch, batch[7:], batch[:25]):
        assert (await stream.send(records)).failed is None
    assert (await totals(stage))["customer", "ada"] == (30, Decimal("597.00"))


async def test_what_comes_again_together_with_news_leaves_the_news_counted(
    stage: Stage, stream: AsyncStream
) -> None:
    batch = [stream.records.insert({**PAID, "id": f"A-{number}"}) for number in range(10)]
    await stream.send(batch[2:5])
    await stream.send(batch)
    assert (await totals(stage))["customer", "ada"] == (10, Decimal("199.00"))


async def test_changes_that_cancel_each_other_out_are_marked_too(
    stage: Stage, stream: AsyncStream
) -> None:
    paid, cancelled = stream.records.insert(PAID), stream.records.remove(PAID)
    await stream.send([paid, cancelled])
    await stream.send(cancelled)
    await stream.send(paid)
    assert await totals(stage) == {}


async def test_a_change_that_moves_nothing_costs_nothing(stage: Stage, stream: AsyncStream) -> None:
    await stream.modify(old=PAID, new={**PAID, "status": "shipped", "note": "gift"})
    assert await stage.scan(COUNTED) == []


async def test_an_answer_that_is_lost_after_the_commit_counts_nothing_twice(stage: Stage) -> None:
    await make_tables(stage)
    async with stage.client("dynamodb") as client:
        unsteady = Unsteady(client, every=1)
        async with TestClient(app, overrides={open_client: lambda: unsteady}) as stream:
            change = stream.records.insert(PAID)
            assert (await stream.send(change)).failed is not None
            assert (await stream.send(change)).failed is None
    assert (unsteady.committed, unsteady.lost, unsteady.refused) == (1, 1, 1)
    assert await totals(stage) == recount([PAID])


async def test_the_largest_call_fits_into_one_transaction(
    stage: Stage, stream: AsyncStream
) -> None:
    orders = [
        {
            **PAID,
            "id": f"A-{number}",
            "customer": f"before-{number}",
            "placed_at": f"2026-01-01T09:{number:02d}:00+00:00",
        }
        for number in range(40)
    ]
    moved = [
        {
            **order,
            "customer": f"after-{number}",
            "placed_at": f"2026-01-01T10:{number:02d}:00+00:00",
        }
        for number, order in enumerate(orders)
    ]
    await stream.send([stream.records.insert(order) for order in orders])
    changes = zip(orders, moved, strict=True)
    result = await stream.send([stream.records.modify(old, new) for old, new in changes])
    assert result.errors == []
    assert await totals(stage) == recount(moved)


@pytest.mark.parametrize("view_type", ["KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE"])
async def test_a_stream_that_does_not_say_both_is_refused(stage: Stage, view_type: str) -> None:
    await make_tables(stage)
    async with TestClient(app, view_type=view_type) as stream:
        result = await stream.modify(old=PAID, new={**PAID, "amount": 5})
    assert result.failed is not None
    assert await totals(stage) == {}


class Busy:
    """A client that says that somebody else writes to the same row."""

    async def transact_write_items(self, *, TransactItems: list[Any]) -> Any:  # noqa: N803 - AWS's
        reasons = [{"Code": "None"}] * (len(TransactItems) - 1) + [{"Code": "TransactionConflict"}]
        answer = {
            "Error": {"Code": "TransactionCanceledException"},
            "CancellationReasons": reasons,
        }
        raise ClientError(answer, "TransactWriteItems")


async def test_a_row_that_somebody_else_writes_to_makes_the_changes_come_again() -> None:
    async with TestClient(app, overrides={open_client: Busy}) as stream:
        result = await stream.insert(PAID)
    assert result.failed is not None


async def test_after_a_storm_with_lost_answers_totals_equal_a_recount(stage: Stage) -> None:
    await make_tables(stage)
    async with stage.client("dynamodb") as client:
        unsteady = Unsteady(client, every=2)
        with app.overrides({open_client: lambda: unsteady}):
            async with stage.running(app, TABLE):
                await stage.storm(TABLE, writes=90, items=10, seed=5, make=make_order)
                assert await stage.until(lambda: is_right(stage))
            records = await history(stage, TABLE)
            await replay(shuffled(records, seed=6), size=11)
    assert len(records) == 90
    assert unsteady.lost > 0
    assert unsteady.refused > 0
    assert await is_right(stage)
