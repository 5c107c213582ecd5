"""Live revenue per minute and per customer, exact although changes are delivered twice.

Answers are lost after their transaction was committed, so that the app has to count again what it
has counted; then everything is delivered again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from random import Random
from typing import Any

from botocore.exceptions import ClientError

from dynaflow.demo.history import history
from dynaflow.demo.stage import Stage
from dynaflow.testing import TestClient

from .app import COUNTED, TOTALS, app, open_client

__all__ = ["Unsteady", "make_order", "make_tables", "play", "recount", "replay", "totals"]

TABLE = "orders"
ROUNDS = 3
ORDERS = 8  # in each round
WRITES = 40  # in each round
_LINE = "{:<8}  {:<17}  {:>6}  {:>8}  {}"
_MORNING = datetime(2026, 1, 1, 9, 0, tzinfo=timezone.utc)

Item = Mapping[str, Any]
Row = tuple[str, str]


class Unsteady:
    """A client whose answer is lost now and then, although the transaction was committed.

    Args:
        client: the client of DynamoDB.
        every: of so many answers the first is lost.
    """

    def __init__(self, client: Any, *, every: int = 3) -> None:
        self.committed = 0
        self.lost = 0
        self.refused = 0
        self._client = client
        self._every = every

    async def transact_write_items(self, **request: Any) -> Any:
        """Write, and answer if all goes well.

        Raises:
            ConnectionError: it was written, but the answer is lost.
        """
        try:
            answer = await self._client.transact_write_items(**request)
        except ClientError:
            self.refused += 1
            raise
        self.committed += 1
        if self.committed % self._every == 1 % self._every:
            self.lost += 1
            raise ConnectionError("the answer was lost")
        return answer


async def play(stage: Stage) -> bool:
    """Count a storm live, with lost answers, then again; return whether the totals are right."""
    await make_tables(stage)
    async with stage.client("dynamodb") as client:
        unsteady = Unsteady(client)
        with app.overrides({open_client: lambda: unsteady}):
            live = await count_live(stage)
            stage.say(
                f"{unsteady.committed} transactions; the answers to {unsteady.lost} were lost, and "
                "their changes came again"
            )
            records = await history(stage, TABLE)
            await replay(records)
            again = await is_right(stage)
            stage.say(f"then all {len(records)} changes were delivered again")
    rows = await totals(stage)
    show(stage, rows)
    orders = sum(count for (kind, _), (count, _) in rows.items() if kind == "minute")
    return stage.judge(
        live and again,
        f"{orders} orders counted: the totals "
        + ("equal" if live and again else "DO NOT equal")
        + " a recount of the table, to the cent",
    )


async def count_live(stage: Stage) -> bool:
    """Let the app count while orders change; say now and then who leads."""
    is_fine = True
    async with stage.running(app, TABLE):
        for number in range(ROUNDS):
            orders = [{"id": f"A-{number}{at:02d}"} for at in range(ORDERS)]
            await stage.storm(TABLE, writes=WRITES, items=orders, seed=number, make=make_order)
            is_fine = await stage.until(lambda: is_right(stage)) and is_fine
            rows = await totals(stage)
            best = max((row for row in rows if row[0] == "customer"), key=lambda row: rows[row][1])
            stage.say(f"{WRITES} writes: {best[1]} leads with {rows[best][1]:.2f}")
    return is_fine


async def replay(records: Sequence[Mapping[str, Any]], *, size: int = 70) -> None:
    """Deliver raw records once more, in batches of this size."""
    async with TestClient(app) as stream:
        for start in range(0, len(records), size):
            waiting: Sequence[Mapping[str, Any]] = records[start : start + size]
            while waiting:
                result = await stream.send(waiting)
                waiting = [record.raw for record in result.not_done]


async def make_tables(stage: Stage) -> None:
    """Create the orders, the totals, and the marks of what has been counted."""
    await stage.create_table(TABLE)
    await stage.create_table(TOTALS, keys=("kind", "name"), stream=False)
    await stage.create_table(COUNTED, keys=("change",), ttl_attribute="expires_at", stream=False)


def make_order(chance: Random, key: Item, old: Item | None) -> Item | None:
    """Make up an order's next state: paid, cancelled, dearer, moved, or deleted."""
    if old is not None and chance.random() < 0.1:
        return None
    placed_at = _MORNING + timedelta(seconds=chance.randrange(5 * 60))
    return {
        "customer": chance.choice(["ada", "bob", "eve", "kim"]),
        "status": chance.choice(["open", "paid", "paid", "shipped", "cancelled"]),
        "amount": Decimal(chance.randrange(1, 50_000)) / 100,
        "placed_at": placed_at.isoformat(),
    }


async def is_right(stage: Stage) -> bool:
    """Compare the totals with a recount of the orders that are there now."""
    return await totals(stage) == recount(await stage.scan(TABLE))


async def totals(stage: Stage) -> dict[Row, tuple[int, Decimal]]:
    """Return what the app has counted; rows that went back to nothing are left out."""
    return {
        (item["kind"], item["name"]): (int(item["orders"]), item["revenue"])
        for item in await stage.scan(TOTALS)
        if item["orders"] or item["revenue"]
    }


def recount(orders: Iterable[Item]) -> dict[Row, tuple[int, Decimal]]:
    """Count all orders anew, as one would without a stream."""
    counted: dict[Row, tuple[int, Decimal]] = defaultdict(lambda: (0, Decimal(0)))
    for order in orders:
        if order["status"] in ("paid", "shipped"):
            for row in (("minute", f"{order['placed_at'][:16]}Z"), ("customer", order["customer"])):
                count, revenue = counted[row]
                counted[row] = (count + 1, revenue + order["amount"])
    return dict(counted)


def show(stage: Stage, rows: Mapping[Row, tuple[int, Decimal]]) -> None:
    """Print the totals, with a bar for each."""
    longest = max(revenue for _, revenue in rows.values())
    stage.say(_LINE.format("kind", "name", "orders", "revenue", "").rstrip(), style="bold")
    for kind, name in sorted(rows, key=lambda row: (row[0] == "customer", row)):
        orders, revenue = rows[kind, name]
        bar = "#" * int(30 * revenue / longest)
        stage.say(_LINE.format(kind, name, orders, f"{revenue:.2f}", bar))
