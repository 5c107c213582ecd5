"""One way in which a filter can be true: a pattern, and what the pattern cannot say yet."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

from dynaflow._paths import PathRef
from dynaflow.pushdown.pattern import Pattern

__all__ = ["Alternative", "Alternatives", "left_out", "merged"]


@dataclass(frozen=True)
class Alternative:
    """One way in which a filter can be true.

    Args:
        pattern: what the record is then.
        left_out: why the pattern says less than the filter; empty if it says all.
        there: paths that have a value then, of any type.
        differing: pairs of paths whose values differ then.
    """

    pattern: Pattern
    left_out: tuple[str, ...] = ()
    there: frozenset[PathRef] = field(default=frozenset())
    differing: frozenset[tuple[PathRef, PathRef]] = field(default=frozenset())

    def and_(self, other: Alternative) -> Alternative | None:
        """Return the alternative in which both are true; None if there is none."""
        pattern, is_exact = self.pattern.narrowed(other.pattern.fields)
        if pattern is None:
            return None
        reasons = (*self.left_out, *other.left_out)
        if not is_exact:
            reasons = (*reasons, "a pattern has one list of values for an attribute, not two")
        return Alternative(
            pattern,
            tuple(dict.fromkeys(reasons)),
            self.there | other.there,
            self.differing | other.differing,
        )


Alternatives: TypeAlias = list[Alternative]


def merged(found: Alternatives) -> Alternatives:
    """Join alternatives where that changes nothing."""
    kept: Alternatives = []
    for alternative in found:
        current, at = alternative, 0
        while at < len(kept):
            joined = _join(kept[at], current)
            if joined is None:
                at += 1
            else:
                del kept[at]
                current, at = joined, 0
        kept.append(current)
    return kept


def _join(one: Alternative, other: Alternative) -> Alternative | None:
    """Return one alternative for both; None if it would match more than they do."""
    if (one.there, one.differing) != (other.there, other.differing):
        return None
    if one.pattern.covers(other.pattern):
        return one
    if other.pattern.covers(one.pattern):
        return other
    if not one.pattern.loses_nothing(other.pattern):
        return None
    reasons = tuple(dict.fromkeys((*one.left_out, *other.left_out)))
    return Alternative(one.pattern.joined(other.pattern), reasons, one.there, one.differing)


def left_out(alternative: Alternative, reason: str) -> Alternative:
    if reason in alternative.left_out:
        return alternative
    return replace(alternative, left_out=(*alternative.left_out, reason))
