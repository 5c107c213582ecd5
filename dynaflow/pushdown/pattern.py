"""One pattern of FilterCriteria: what fields of a record must be, as a plain value.

All fields of a pattern must match; of the rules of a field one must. A path is the names on the
way, joined by dots, so that an attribute whose name has dots can look like one inside of a map.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeAlias

from dynaflow._paths import FIELDS, written
from dynaflow.pushdown.rules import (
    ABSENT,
    MULTIPLE,
    PRESENT,
    WEIGHTS,
    Rule,
    Rules,
    both,
    either,
    is_address,
    is_covered,
    rank,
    worded,
)
from dynaflow.record import EventName
from dynaflow.values import TYPES

__all__ = ["Field", "Pattern", "parsed", "shown"]

_UNSEEN: Final = ("prefix", "suffix", "equals-ignore-case")
"""Rules that do not find an address where a list has another one written as it is."""

Field: TypeAlias = tuple[str, ...]
"""Where a value is in a record: ("dynamodb", "NewImage", "status", "S")."""


@dataclass(frozen=True)
class Pattern:
    """What a record must be: its event is one of these, and each of these fields has its value.

    Args:
        events: which changes.
        fields: the rules of each field. A field that may have any value, or none, is left out.
    """

    events: frozenset[EventName]
    fields: Mapping[Field, Rules]

    @property
    def is_catch_all(self) -> bool:
        """True if every record matches."""
        return len(self.events) == len(EventName) and not self.fields

    @cached_property
    def selectivity(self) -> float:
        """How much is left out by it, roughly: each field adds to it."""
        told = sum(min(WEIGHTS[rule.kind] for rule in rules) for rules in self.fields.values())
        return told + 2 * (len(EventName) - len(self.events))

    def to_dict(self) -> dict[str, Any]:
        """Return the pattern as FilterCriteria write it, as an object."""
        pattern: dict[str, Any] = {}
        if len(self.events) < len(EventName):
            pattern["eventName"] = [name.value for name in EventName if name in self.events]
        for field, rules in self._sorted():
            level = pattern
            for name in field[:-1]:
                level = level.setdefault(name, {})
            level[field[-1]] = [rule.to_json() for rule in rules]
        return pattern

    def to_json(self) -> str:
        """Return the pattern as the text that FilterCriteria hold; its length is limited."""
        return json.dumps(self.to_dict(), separators=(",", ":"))

    def __str__(self) -> str:
        """Return it in words: ``INSERT or MODIFY, F.new.status is "paid"``.

        Of many values, and of long ones, only a part is shown.
        """
        listed = " or ".join(name.value for name in EventName if name in self.events)
        absent: dict[str, list[str]] = {}
        for field, rules in self.fields.items():
            if rules == {ABSENT}:
                absent.setdefault(shown(field), []).append(field[-1])
        parts = {}
        for field, rules in sorted(self.fields.items()):
            path = shown(field)
            kinds = sorted(absent.get(path, ()))
            if len(kinds) < 2 or rules != {ABSENT}:
                parts[field] = f"{path} {worded(field[-1], rules)}"
            elif field[-1] == kinds[0] and len(kinds) == len(TYPES) - 2:
                parts[field] = f"{path} is missing, or a list or a map"
            elif field[-1] == kinds[0]:
                parts[field] = f"{path} is not of type {', '.join(kinds[:-1])} or {kinds[-1]}"
        return ", ".join([listed, *parts.values()]) if parts else f"any {listed}"

    def _sorted(self) -> list[tuple[Field, list[Rule]]]:
        return [(f, sorted(rules, key=rank)) for f, rules in sorted(self.fields.items())]

    def narrowed(self, fields: Mapping[Field, Rules]) -> tuple[Pattern | None, bool]:
        """Return the pattern that wants these fields, too, and whether it says all of that.

        None: no record can match.
        """
        merged, is_exact = dict(self.fields), True
        for field, rules in fields.items():
            if field not in merged:
                merged[field] = rules
                continue
            met, says_all = both(merged[field], rules, many=field[-1] in MULTIPLE)
            is_exact = is_exact and says_all
            if not met:
                return None, True
            merged[field] = met
        return Pattern(self.events, merged), is_exact

    def joined(self, other: Pattern) -> Pattern:
        """Return the narrowest pattern that matches what either does."""
        fields = {}
        for field in self.fields.keys() & other.fields.keys():
            rules = either(self.fields[field], other.fields[field])
            if rules is not None:
                fields[field] = rules
        return Pattern(self.events | other.events, fields)

    def loses_nothing(self, other: Pattern) -> bool:
        """Return True if what they are joined to matches only what one of them does."""
        if self.covers(other) or other.covers(self):
            return True
        if self.fields == other.fields:
            return True
        if self.events != other.events or self.fields.keys() != other.fields.keys():
            return False
        return sum(other.fields[field] != rules for field, rules in self.fields.items()) == 1

    def by_event(self) -> Iterator[Pattern]:
        """Yield what matches the same, as one pattern for each event."""
        for event in EventName:
            if event in self.events:
                yield Pattern(frozenset({event}), self.fields)

    def covers(self, other: Pattern) -> bool:
        """Return True if it is certain that this one matches all that the other does."""
        return self.events >= other.events and all(
            field in other.fields and is_covered(other.fields[field], rules)
            for field, rules in self.fields.items()
        )


def parsed(text: str) -> Pattern:
    """Read a pattern that a mapping has, whoever wrote it.

    What it says in other ways than these rules covers nothing but itself.

    Raises:
        ValueError: it is not a JSON object, or says something twice, or nests too deep to be read.
    """
    try:
        tree = json.loads(text, object_pairs_hook=_once)
        if not isinstance(tree, dict):
            raise ValueError("a pattern is a JSON object")
        fields = dict(_leaves((), tree))
    except RecursionError:
        raise ValueError("the pattern nests too deep") from None
    names = {rule.value for rule in fields.get(("eventName",), ()) if rule.kind == "is"}
    if ("eventName",) not in fields:
        return Pattern(frozenset(EventName), fields)
    rules = fields.pop(("eventName",))
    if len(names) != len(rules):
        return Pattern(frozenset(), fields)
    return Pattern(frozenset(name for name in EventName if name.value in names), fields)


def _once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(members)
    if len(tree) < len(members):
        raise ValueError("a name stands twice in an object of the pattern")
    return tree


def _leaves(path: Field, tree: Mapping[str, Any]) -> Iterator[tuple[Field, Rules]]:
    if path and not tree:
        yield path, frozenset({Rule("unknown", "{}")})
    for name, inner in tree.items():
        if isinstance(inner, dict):
            yield from _leaves((*path, name), inner)
        else:
            listed = inner if isinstance(inner, list) else [inner]
            yield (*path, name), frozenset(_rule(each, beside=listed) for each in listed)


def _rule(written: Any, *, beside: list[Any]) -> Rule:
    if isinstance(written, (str, bool)):
        return Rule("is", written)
    if isinstance(written, dict) and len(written) == 1:
        ((kind, value),) = written.items()
        if kind == "exists" and isinstance(value, bool):
            return PRESENT if value else ABSENT
        if kind in _UNSEEN and any(map(is_address, beside)):
            return Rule("unknown", json.dumps(written, sort_keys=True))
        if kind == "equals-ignore-case" and is_address(value):
            return Rule("is", value)
        if kind in ("prefix", "suffix") and isinstance(value, str):
            return Rule(kind, value)
        if kind == "anything-but":
            values = value if isinstance(value, list) else [value]
            if all(isinstance(each, str) for each in values):
                return Rule("but", frozenset(values))
    return Rule("unknown", json.dumps(written, sort_keys=True))


def shown(field: Field) -> str:
    """Return a field as filters write its path: ``F.new.status``."""
    images = {wire: image for image, wire in FIELDS.items()}
    if field[0] == "dynamodb" and len(field) > 3 and field[1] in images:
        return f"F.{images[field[1]]}" + "".join(map(written, field[2:-1:2]))
    return ".".join(field)
