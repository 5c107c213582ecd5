"""Judges a delivery from outside: what was written, and what came of it. Knows no framework."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Effect", "Verdict", "Write", "judge"]


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that a handler did.

    Args:
        item: the item's id.
        version: the item's version that it was done for, from 1; a delete is a version, too.
        what: what was done.
    """

    item: str
    version: int
    what: str


@dataclass(frozen=True, slots=True)
class Write:
    """A write to the table, and the effect that must come of it."""

    item: str
    version: int
    due: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the writes and the effects agree.

    Args:
        lost: writes whose effect never came.
        out_of_order: items whose effects came in an order that their writes do not explain.
        in_order: all other items that were written.
    """

    lost: tuple[Write, ...]
    out_of_order: tuple[str, ...]
    in_order: tuple[str, ...]

    @property
    def is_ok(self) -> bool:
        """True if nothing was lost or out of order."""
        return not self.lost and not self.out_of_order


def judge(writes: Iterable[Write], effects: Sequence[Effect]) -> Verdict:
    """Compare the effects with the writes, under at-least-once delivery in order per item.

    Args:
        writes: in any order.
        effects: in the order in which they happened. Repeats are allowed.
    """
    writes = list(writes)
    happened = set(effects)
    versions: defaultdict[str, list[int]] = defaultdict(list)
    for effect in effects:
        versions[effect.item].append(effect.version)
    items = dict.fromkeys(write.item for write in writes)
    return Verdict(
        lost=tuple(w for w in writes if Effect(w.item, w.version, w.due) not in happened),
        out_of_order=tuple(item for item in items if not _is_in_order(versions[item])),
        in_order=tuple(item for item in items if _is_in_order(versions[item])),
    )


def _is_in_order(versions: Sequence[int]) -> bool:
    """Return True if an item's versions came one after the other.

    A stretch may come again, but then in its order and to its end: 1 2 1 2 3 is in order; 1 3 2 is
    not, nor is 1 2 1, after which an older effect stands last. What never came at all is lost, not
    out of order.
    """
    place = {version: at for at, version in enumerate(sorted(set(versions)))}
    before = -1
    for version in versions:
        if place[version] > before + 1:
            return False
        before = place[version]
    return before == len(place) - 1
