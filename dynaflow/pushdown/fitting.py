"""Patterns made to fit the limits of a mapping: joined, and shortened, until there is room for all.

What is joined matches all that its parts do, and maybe more; the texts say what was given up.
Limits: AWS Lambda Developer Guide, "Lambda quotas" and "Control which events Lambda sends to your
function".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Final

from dynaflow.pushdown.pattern import Pattern, shown
from dynaflow.pushdown.rules import ABSENT, PRESENT, Rule, Rules

__all__ = ["MOST_LETTERS", "Given", "fitted", "listed"]

MOST_LETTERS: Final = 4096
"""Characters of one pattern."""

_LONG: Final = 200  # characters of a text, of which the beginning will do
_AT_ONCE: Final = 48  # patterns among which the best pair is looked for
_NAMES: Final = 5  # routes that a text names


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """A pattern, and the routes that it is for.

    Args:
        pattern: what the mapping gets.
        routes: their names; none for a pattern that is for records which fail.
        parts: how many patterns became this one, which matches more than they; 0 for none.
        shortened: what it no longer says, because it was too long.
    """

    pattern: Pattern
    routes: frozenset[str]
    parts: int = 0
    shortened: tuple[str, ...] = ()

    def joined(self, other: Given, *, loses: bool) -> Given:
        """Return one for both; whether it matches more than they do is known."""
        is_wider = loses or self.parts or other.parts
        return Given(
            self.pattern.joined(other.pattern),
            self.routes | other.routes,
            max(1, self.parts) + max(1, other.parts) if is_wider else 0,
            tuple(dict.fromkeys((*self.shortened, *other.shortened))),
        )

    def texts(self, most: int) -> tuple[str, ...]:
        """Return what was given up, for a mapping that takes so many patterns."""
        if not self.parts:
            return self.shortened
        text = (
            f"a mapping takes {most} pattern{'s' * (most > 1)}, so {self.parts} became one, for "
            f"{listed(self.routes)}, which matches {self.pattern}"
        )
        return (*self.shortened, text)


def fitted(given: Iterable[Given], guard: Pattern | None, most: int) -> tuple[Given, ...]:
    """Return patterns that match all that the given ones do, and are not too many, nor too long.

    Args:
        given: what routes want.
        guard: one that is never joined with another, if two fit: it matches nothing on most
            streams, and whatever it is joined with would match more on all of them.
        most: how many patterns there may be.
    """
    found = _without_loss([_short(one) for one in given])
    if guard is None or any(one.pattern.covers(guard) for one in found):
        return tuple(_fewer(found, most))
    apart = Given(guard, frozenset())
    if most == 1:
        return tuple(_fewer([*found, apart], most))
    return (*_fewer(found, most - 1), apart)


def listed(names: Iterable[str]) -> str:
    """Return names as a text says them, the first few of many."""
    ordered = sorted(names)
    if len(ordered) > _NAMES:
        ordered[_NAMES - 1 :] = [f"{len(ordered) - _NAMES + 1} more"]
    return " and ".join(filter(None, (", ".join(ordered[:-1]), ordered[-1]))) if ordered else ""


def _without_loss(given: Iterable[Given]) -> list[Given]:
    """Join what can be joined without matching more."""
    kept: list[Given] = []
    for one in given:
        _put(kept, one)
    return kept


def _put(kept: list[Given], one: Given) -> None:
    """Put a pattern among others, and join it with those with which it loses nothing."""
    while True:
        other = next((k for k in kept if k.pattern.loses_nothing(one.pattern)), None)
        if other is None:
            break
        joined = other.joined(one, loses=False)
        if len(joined.pattern.to_json()) > MOST_LETTERS:
            break
        kept.remove(other)
        one = joined
    kept.append(one)


def _fewer(given: Sequence[Given], room: int) -> list[Given]:
    """Join those patterns by which the least is lost, until there is room for all."""
    kept, waiting = list(given[:_AT_ONCE]), list(given[_AT_ONCE:])
    losses: dict[tuple[Given, Given], float] = {}

    def loss(pair: tuple[Given, Given]) -> float:
        if pair not in losses:
            losses[pair] = _loss(*pair)
        return losses[pair]

    while waiting or len(kept) > room:
        if waiting and len(kept) < _AT_ONCE:
            _put(kept, waiting.pop(0))
            continue
        one, other = min(combinations(kept, 2), key=loss)
        kept.remove(one)
        kept.remove(other)
        _put(kept, _short(one.joined(other, loses=True)))
    return kept


def _loss(one: Given, other: Given) -> float:
    kept = one.pattern.joined(other.pattern).selectivity
    return one.pattern.selectivity + other.pattern.selectivity - 2 * kept


def _short(given: Given) -> Given:
    """Say less of what takes the most letters until the pattern is short enough."""
    pattern, texts = given.pattern, list(given.shortened)
    while len(pattern.to_json()) > MOST_LETTERS:
        longest = max(
            pattern.fields, key=lambda f: len(json.dumps(f)) + _letters(pattern.fields[f])
        )
        fields = dict(pattern.fields)
        rules = fields.pop(longest)
        shorter = frozenset(map(_beginning, rules))
        if shorter != rules:
            fields[longest], less = shorter, f"{shown(longest)} only how long texts begin or end"
        elif not rules & {ABSENT, PRESENT}:
            fields[longest], less = frozenset({PRESENT}), f"{shown(longest)} only its type"
        else:
            less = f"{shown(longest)} nothing"
        pattern = Pattern(pattern.events, fields)
        texts.append(f"a pattern has at most {MOST_LETTERS:,} characters, so it says of {less}")
    return replace(given, pattern=pattern, shortened=tuple(dict.fromkeys(texts)))


def _letters(rules: Rules) -> int:
    return sum(len(json.dumps(rule.to_json())) for rule in rules)


def _beginning(rule: Rule) -> Rule:
    """Return a rule for a part of a long text."""
    if rule.kind not in ("is", "prefix", "suffix") or len(str(rule.value)) <= _LONG:
        return rule
    if rule.kind == "suffix":
        return Rule("suffix", rule.value[-_LONG:])
    return Rule("prefix", rule.value[:_LONG])
