"""A small shop's writes: ten orders that live side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import anyio

from dynaflow.demo.ledger import Write
from dynaflow.demo.stage import Stage

__all__ = ["Step", "steps", "write_orders"]

_PAUSE = 0.02  # seconds between two writes


@dataclass(frozen=True, slots=True)
class Step:
    """One write to an order: new values of attributes, or None for a delete."""

    write: Write
    attributes: Mapping[str, Any] | None


_PAID = ("parcel", {"status": "paid"})
_SHIPPED = ("invoice", {"status": "shipped"})
_RAISED = ("thanks", {"total": 120})
_DELETED = ("order", None)

# What happens to an order after it was placed; the ten orders take turns with these lives.
_LIVES: tuple[tuple[tuple[str, Mapping[str, Any] | None], ...], ...] = (
    (_PAID, _SHIPPED),
    (_PAID, _SHIPPED, _DELETED),
    (_RAISED, _PAID, _SHIPPED),
    (_DELETED,),
)


def steps(orders: int = 10) -> list[Step]:
    """Return the writes, the same at every run: mixed over the orders, in order for each."""
    waiting = [_life(number) for number in range(orders)]
    mixed = []
    chance = Random(1)  # noqa: S311 - a seed, so that every run is the same
    while waiting:
        life = chance.choice(waiting)
        mixed.append(life.pop(0))
        if not life:
            waiting.remove(life)
    return mixed


def _life(number: int) -> list[Step]:
    order = f"A-{100 + number}"
    placed = {"status": "open", "total": 20 + 7 * number}
    changes = (("confirmation", placed), *_LIVES[number % len(_LIVES)])
    return [
        Step(Write(order, version, due), None if new is None else {**new, "version": version})
        for version, (due, new) in enumerate(changes, start=1)
    ]


async def write_orders(stage: Stage, table: str, note: Callable[[Write], None]) -> None:
    """Make the writes on a stage, and note each one that was made."""
    for step in steps():
        key = {"id": step.write.item}
        if step.attributes is None:
            await stage.delete(table, key)
        elif step.write.version == 1:
            await stage.put(table, key | dict(step.attributes))
        else:
            await stage.update(table, key, step.attributes)
        note(step.write)
        await anyio.sleep(_PAUSE)
