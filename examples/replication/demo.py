"""A table kept equal in a second region, through stale and repeated changes.

A storm of writes is replicated while it rages. Then every change is delivered again, in random
order: worse than what any stream does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from random import Random
from typing import Any

from dynaflow import Status
from dynaflow.demo.history import history, shuffled
from dynaflow.demo.stage import Stage
from dynaflow.testing import TestClient

from .app import POSITIONS, REGION, REPLICA, app

__all__ = ["KEYS", "TABLE", "make_order", "make_tables", "play", "replay"]

TABLE = "orders"
KEYS = ("customer", "number")
ORDERS = [{"customer": f"customer-{n % 7}", "number": f"{n:04d}"} for n in range(20)]
WRITES = 100

Item = Mapping[str, Any]
Keys = tuple[str, ...]


async def play(stage: Stage) -> bool:
    """Replicate a storm, then replay it shuffled; return whether the tables are equal."""
    await make_tables(stage)
    stage.say(f"{TABLE} in {stage.region}, its replica in {REGION}")
    async with stage.running(app, TABLE):
        await stage.storm(TABLE, writes=WRITES, items=ORDERS, seed=1, make=make_order)
        records = await history(stage, TABLE)
        await stage.until(lambda: is_caught_up(stage, records))
    live = await is_equal(stage)
    stage.say(f"{WRITES} writes to {len(ORDERS)} orders at the same time: {said(live)}")

    shuffle = shuffled(records, seed=2)
    skipped = await replay(shuffle)
    stale = await is_equal(stage)
    stage.say(f"delivered again, in random order: {skipped} skipped, {said(stale)}")
    wrong = differing(as_written_down(records), as_written_down(shuffle))
    stage.say(f"without the guard, {wrong} of {len(ORDERS)} orders would be wrong now")

    standing = len(await stage.scan(REPLICA, region=REGION))
    is_ok = live and stale
    return stage.judge(
        is_ok,
        f"{standing} orders stand and {len(ORDERS) - standing} are deleted: "
        + ("both regions agree on every one" if is_ok else "the regions do not agree"),
    )


async def make_tables(stage: Stage) -> None:
    """Create the table here, and in the other region its replica and the positions."""
    await stage.create_table(TABLE, keys=KEYS)
    await stage.create_table(REPLICA, keys=KEYS, region=REGION, stream=False)
    await stage.create_table(
        POSITIONS, keys=KEYS, region=REGION, ttl_attribute="expires_at", stream=False
    )


def make_order(chance: Random, key: Item, old: Item | None) -> Item | None:
    """Make up an order's next state, with what a careless copy gets wrong; one in five goes."""
    if old is not None and chance.random() < 0.2:
        return None
    return {
        "status": chance.choice(["open", "paid", "shipped"]),
        "total": Decimal(chance.randrange(10**38)).scaleb(-2),  # all 38 digits that there are
        "signature": chance.randbytes(8),
        "tags": set(chance.sample(["gift", "express", "fragile", ""], 2)),
        "note": chance.choice(["", "ring twice"]),
        "lines": [{"sku": f"sku-{chance.randrange(9)}", "discount": None}],
    }


async def is_caught_up(stage: Stage, records: Iterable[dict[str, Any]]) -> bool:
    """Compare each order's place in the replica with its last change in the stream."""
    last = {_keys_of(record): record["dynamodb"]["SequenceNumber"] for record in records}
    places = await stage.scan(POSITIONS, region=REGION)
    arrived = {tuple(place[name] for name in KEYS): place["position"] for place in places}
    return last.keys() == arrived.keys() and all(
        arrived[keys].endswith(f"/{int(number):040d}") for keys, number in last.items()
    )


async def is_equal(stage: Stage) -> bool:
    """Compare the two tables, item for item and value for value."""
    return await stage.scan(TABLE) == await stage.scan(REPLICA, region=REGION)


async def replay(records: Iterable[dict[str, Any]]) -> int:
    """Deliver raw records once more, each by itself; return how many were skipped as stale."""
    skipped = 0
    async with TestClient(app, keys=KEYS) as stream:
        for record in records:
            result = await stream.send(record)
            skipped += result.outcomes[0].status is Status.SKIPPED
    return skipped


def as_written_down(records: Iterable[dict[str, Any]]) -> dict[Keys, Any]:
    """Return what each order would be if every delivery were simply written; None is deleted."""
    return {_keys_of(record): record["dynamodb"].get("NewImage") for record in records}


def differing(one: Mapping[Keys, Any], other: Mapping[Keys, Any]) -> int:
    """Return how many items differ."""
    return sum(one[key] != other[key] for key in one)


def said(is_fine: bool) -> str:
    """Say how a comparison ended."""
    return "equal" if is_fine else "NOT equal"


def _keys_of(record: dict[str, Any]) -> Keys:
    return tuple(record["dynamodb"]["Keys"][name]["S"] for name in KEYS)
