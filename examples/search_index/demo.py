"""A search index kept equal to a table, while the service refuses some and fails at times.

A backlog of writes goes in with a few bulk requests. The service refuses a part of them with 429,
and whole requests fail. At the end everything is delivered again, in random order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from random import Random
from typing import Any

from dynaflow.demo.history import history, shuffled
from dynaflow.demo.stage import Stage
from dynaflow.testing import TestClient

from .app import app, open_search
from .service import SearchService

__all__ = ["make_product", "play", "replay", "searchable"]

TABLE = "products"
PRODUCTS = 40
WRITES = 240

Item = Mapping[str, Any]


async def play(stage: Stage) -> bool:
    """Index a backlog and live writes; return whether the index equals the table."""
    service = SearchService(busy=0.3, down=(2, 4))
    await stage.create_table(TABLE)
    await stage.storm(TABLE, writes=WRITES, items=PRODUCTS, seed=1, make=make_product)
    stage.say(f"{WRITES} writes to {PRODUCTS} products wait in the stream")
    with app.overrides({open_search: lambda: service}):
        async with stage.running(app, TABLE):
            caught_up = await stage.until(lambda: is_equal(stage, service))
            say_what_it_took(stage, service)
            more = [{"id": f"new-{number}"} for number in range(6)]
            await stage.storm(TABLE, writes=30, items=more, seed=2, make=make_product)
            live = await stage.until(lambda: is_equal(stage, service))
        stage.say(f"30 writes more, live: {'equal' if live else 'NOT equal'}")
        records = await history(stage, TABLE)
        stale = await replay(shuffled(records, seed=3), service)
    again = await is_equal(stage, service)
    stage.say(f"then all {len(records)} changes again, in random order: {stale} stale")
    is_ok = caught_up and live and again
    return stage.judge(
        is_ok,
        f"{len(service.found)} products are found: the index "
        + ("equals" if is_ok else "DOES NOT equal")
        + " the table, and nothing deleted came back",
    )


async def replay(records: Sequence[Mapping[str, Any]], service: SearchService) -> int:
    """Deliver raw records once more, a few at a time; return how many were stale to the service."""
    before = service.stale
    async with TestClient(app) as stream:
        for start in range(0, len(records), 5):
            waiting: Sequence[Mapping[str, Any]] = records[start : start + 5]
            while waiting:
                result = await stream.send(waiting)
                waiting = [record.raw for record in result.not_done]
    return service.stale - before


def say_what_it_took(stage: Stage, service: SearchService) -> None:
    """Say how many requests there were, and what became of them."""
    stage.say(
        f"{len(service.requests)} bulk requests: {service.failed} failed as a whole, "
        f"{service.refused} of {sum(service.requests)} documents were refused (429) and came again"
    )


def make_product(chance: Random, key: Item, old: Item | None) -> Item | None:
    """Make up a product's next state; one in five goes, and may come back."""
    if old is not None and chance.random() < 0.2:
        return None
    return {
        "title": chance.choice(["Lamp", "Chair", "Table", "Shelf"]),
        "price": Decimal(chance.randrange(100, 50_000)) / 100,
        "tags": chance.sample(["new", "oak", "sale"], 2),
        "supplier": f"s-{chance.randrange(5)}",  # not searched
    }


async def is_equal(stage: Stage, service: SearchService) -> bool:
    """Compare what a search finds with what the table has."""
    return service.found == searchable(await stage.scan(TABLE))


def searchable(products: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the documents that a table's items should be."""
    return {
        product["id"]: {
            "title": product["title"],
            "price": str(product["price"]),
            "tags": product["tags"],
        }
        for product in products
    }
