"""A storm of writes: many changes of few items at the same time, the same at every run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias

__all__ = ["Item", "Make", "Written", "standing", "storm_of"]

Item: TypeAlias = Mapping[str, Any]

Make: TypeAlias = Callable[[Random, Item, Item | None], Item | None]
"""Makes up the next state of an item: of chance, its key, and what it is now; None deletes it.

What it returns are the item's attributes, none of them None; the key is added.
"""


@dataclass(frozen=True, slots=True)
class Written:
    """One write that changed something, and so the one record that must come of it.

    Args:
        key: the item's key.
        old: the whole item before, None if there was none.
        new: the whole item after, None if it was deleted.
    """

    key: Item
    old: Item | None
    new: Item | None

    @property
    def event_name(self) -> str:
        """INSERT, MODIFY or REMOVE."""
        if self.old is None:
            return "INSERT"
        return "REMOVE" if self.new is None else "MODIFY"


def storm_of(
    *, writes: int, items: int | Sequence[Item], seed: int, make: Make
) -> list[list[Written]]:
    """Return so many writes, those of each item in a list of their own, in order.

    Every item has at least one write, as long as there are enough.

    Args:
        writes: how many.
        items: how many items, with the keys ``{"id": "item-0"}`` and so on, or their keys.
        seed: of the chance.
        make: makes up an item's next state.

    Raises:
        ValueError: ``make`` does not come up with a change.
    """
    keys = [{"id": f"item-{n}"} for n in range(items)] if isinstance(items, int) else items
    chance = Random(seed)  # noqa: S311 - a seed, so that every run is the same
    lives: list[list[Written]] = [[] for _ in keys]
    for number in range(writes):
        at = number if number < len(keys) else chance.randrange(len(keys))
        old = lives[at][-1].new if lives[at] else None
        lives[at].append(Written(keys[at], old, _next_state(make, chance, keys[at], old)))
    return lives


def standing(written: Iterable[Written]) -> list[Item]:
    """Return the items that are there after these writes, in order of their keys."""
    last = {_order(write.key): write.new for write in written}
    return [last[key] for key in sorted(last) if last[key] is not None]  # type: ignore[misc]


_TRIES = 100


def _next_state(make: Make, chance: Random, key: Item, old: Item | None) -> Item | None:
    """Return a state that differs, because a write that changes nothing has no record."""
    for _ in range(_TRIES):
        attributes = make(chance, key, old)
        new = None if attributes is None else {**attributes, **key}
        if new != old:
            return new
    raise ValueError(f"make() came up with the same state {_TRIES} times")


def _order(key: Item) -> tuple[str, ...]:
    return tuple(repr(key[name]) for name in sorted(key))
