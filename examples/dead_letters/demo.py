"""Bad orders are parked with their reasons, and run again once what was wrong is mended.

Of two changes of an order the earlier one comes first, also out of the dead letters.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import anyio

from dynaflow import App, Record
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.dead_letters import JsonLines
from dynaflow.demo.stage import Stage
from dynaflow.demo.storm import Item

from . import yesterday
from .app import PICKING, PIECES, PRODUCTS, Order, Warehouse, open_warehouse

__all__ = ["BAD", "ORDERS", "Shaky", "play"]

TABLE = "orders"
FILE = "letters.jsonl"
_HERE = "dynaflow.demo.examples.dead_letters"

ORDERS: list[dict[str, Any]] = [
    {"id": "A-101", "version": 1, "product": "lamp", "quantity": 2, "unit": "box"},
    {"id": "A-102", "version": 1, "product": "lamp", "quantity": "a dozen"},
    {"id": "A-103", "version": 1, "product": "sofa", "quantity": 1},
    {"id": "A-104", "version": 1, "product": "lamp", "quantity": 1, "unit": "pallet"},
    {"id": "A-104", "version": 2, "product": "lamp", "quantity": 2, "unit": "pallet"},
    {"id": "A-105", "version": 1, "product": "lamp", "quantity": "half a dozen"},
    {"id": "A-105", "version": 2, "product": "lamp", "quantity": 7},
]
"""What is written by hand. The warehouse knows lamps and no sofas."""

BAD = 5  # of these changes
STUCK = {"A-102", "A-103", "A-104"}  # the orders whose last change is bad


class Shaky(Warehouse):
    """A warehouse that does not answer every fourth call."""

    def __init__(self, dynamodb: Any) -> None:
        super().__init__(dynamodb)
        self.refused = 0
        self._calls = 0

    async def take(self, order: str, *, version: int, product: str, pieces: int) -> None:
        """Take an order over.

        Raises:
            ConnectionError: the warehouse does not answer.
        """
        self._calls += 1
        if self._calls % 4 == 0:
            self.refused += 1
            raise ConnectionError("the warehouse does not answer")
        await super().take(order, version=version, product=product, pieces=pieces)


async def play(stage: Stage) -> bool:
    """Import orders, some of them bad, with yesterday's importer; run the bad ones with today's."""
    await stage.create_table(TABLE)
    await stage.create_table(PRODUCTS, keys=("product",), stream=False)
    await stage.create_table(PICKING, keys=("order",), stream=False)
    await stage.put(PRODUCTS, {"product": "lamp"})
    with TemporaryDirectory() as directory:
        sink = JsonLines(Path(directory) / FILE)
        await import_orders(stage, sink)
        parked = await letters_of(sink)
        stage.say(f"{len(parked)} of them are parked:")
        for letter in parked:
            stage.say(f"  {told(letter)}")
        stage.say("the warehouse gets sofas, and today's importer knows dozens and pallets:")
        await stage.put(PRODUCTS, {"product": "sofa"})
        await redrive(stage, Path(directory))
        left = await letters_of(sink)
    stage.say("of these the warehouse took, in this order:")
    picking = {row["order"]: row for row in await stage.scan(PICKING)}
    for order in sorted({str(letter.raw["dynamodb"]["Keys"]["id"]["S"]) for letter in parked}):
        versions = map(str, picking.get(order, {}).get("taken", ()))
        stage.say(f"  {order} version {', '.join(versions)}")
    missing = await behind(stage)
    return stage.judge(
        len(parked) == BAD and not left and not missing,
        f"{len(left)} changes are parked, and the warehouse has every order as the shop has it: "
        f"{'no' if missing else 'yes'}",
    )


async def import_orders(stage: Stage, sink: JsonLines) -> None:
    """Write good and bad orders, and import them while they are written."""
    shaky: list[Shaky] = []

    async def open_shaky() -> AsyncIterator[Shaky]:
        async with stage.client("dynamodb") as dynamodb:
            shaky.append(Shaky(dynamodb))
            yield shaky[-1]

    importer = App(yesterday.router, dead_letter=sink)
    with importer.overrides({open_warehouse: open_shaky}):
        async with stage.running(importer, TABLE):
            for order in ORDERS:
                await stage.put(TABLE, order)
            written = await stage.storm(TABLE, writes=30, items=6, seed=8, make=change)
            await stage.until(lambda: is_through(stage, sink))
    refused = sum(each.refused for each in shaky)
    stage.say(f"{len(ORDERS) + len(written)} changes of orders; {refused} calls failed once")


async def is_through(stage: Stage, sink: JsonLines) -> bool:
    """Tell whether every change is imported or parked."""
    return len(await letters_of(sink)) >= BAD and await behind(stage) <= STUCK


async def behind(stage: Stage) -> set[str]:
    """Return the orders that the warehouse does not have as the shop has them."""
    picking = {row["order"]: row for row in await stage.scan(PICKING)}
    orders = map(Order.model_validate, await stage.scan(TABLE))
    return {order.id for order in orders if not is_taken(order, picking.get(order.id))}


def is_taken(order: Order, row: Item | None) -> bool:
    """Compare an order with the warehouse's row, which took its versions in ascending order."""
    return (
        row is not None
        and list(row["taken"]) == sorted(row["taken"])
        and (row["version"], row["product"], row["pieces"])
        == (order.version, order.product, order.quantity * PIECES[order.unit])
    )


async def letters_of(sink: JsonLines) -> list[DeadLetterRecord]:
    """Return what is parked, in order of the orders and their versions."""
    letters = [kept.letter async for kept in sink.letters() if kept.letter is not None]
    return sorted(letters, key=told)


def told(letter: DeadLetterRecord) -> str:
    """Return in a line which change it is, why it is parked, and in which of its deliveries."""
    record = letter.record()
    version = record.new["version"] if isinstance(record, Record) and record.new else "?"
    order = record.keys["id"] if record.keys else "?"
    error = letter.error_type.rpartition(".")[2]
    why = f"{error:<12}  {letter.reason:<13}  delivery {letter.deliveries}"
    return f"{order} version {version}  {why}"


async def redrive(stage: Stage, directory: Path) -> None:
    """Run all letters of the file with the command line, and show what it prints, but its log."""
    words = ("dead-letters", "redrive", f"{_HERE}.app:app", FILE, "--all")
    stage.say(f"  $ dynaflow {' '.join(words)}")
    command = [sys.executable, "-m", "dynaflow", *words]
    ended = await anyio.run_process(command, cwd=directory, check=False)
    for line in [*ended.stdout.decode().splitlines(), *ended.stderr.decode().splitlines()[-1:]]:
        stage.say(f"  {line.rstrip()}")


def change(chance: Random, key: Item, old: Item | None) -> Item | None:
    """Make up an order's next version, a good one."""
    return {
        "version": old["version"] + 1 if old else 1,
        "product": "lamp",
        "quantity": chance.randrange(1, 9),
        "unit": chance.choice(["piece", "box"]),
    }
