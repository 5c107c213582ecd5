"""One pattern of FilterCriteria: what fields of a record must be, as a plain value.

Rules of patterns: AWS Lambda Developer Guide, "Control which events Lambda sends to your function",
and the README of event-ruler, the engine behind it. All fields of a pattern must match; of the
rules of a field one must. A path is the names on the way, joined by dots, so that an attribute
whose name has dots can look like one inside of a map.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from dynaflow._paths import FIELDS, written
from dynaflow.record import EventName
from dynaflow.values import TYPES

__all__ = [
    "ABSENT",
    "MULTIPLE",
    "PRESENT",
    "Field",
    "Pattern",
    "Rule",
    "Rules",
    "both",
    "either",
    "is_covered",
    "parsed",
    "shown",
]

Field: TypeAlias = tuple[str, ...]
"""Where a value is in a record: ("dynamodb", "NewImage", "status", "S")."""


class Rule(NamedTuple):
    """One thing that a field's value may be.

    Args:
        kind: "is" a value; has a "prefix" or "suffix"; is there and is anything "but" some values;
            is "present", whatever it is; is "absent"; "unknown" is what others wrote.
        value: text or a boolean; for "but" a frozenset of texts.
    """

    kind: Literal["is", "prefix", "suffix", "but", "present", "absent", "unknown"]
    value: Any = None

    def accepts(self, value: str | bool) -> bool:
        """Return True if a value that is there is what the rule wants."""
        if self.kind == "is":
            return type(value) is type(self.value) and bool(value == self.value)
        if self.kind == "but":
            return value not in self.value
        if self.kind in ("prefix", "suffix"):
            test = str.startswith if self.kind == "prefix" else str.endswith
            return isinstance(value, str) and test(value, self.value)
        return self.kind == "present"

    def to_json(self) -> Any:
        """Return the rule as FilterCriteria write it."""
        if self.kind == "is":
            return self.value
        if self.kind == "but":
            return {"anything-but": sorted(self.value)}
        if self.kind in ("present", "absent"):
            return {"exists": self.kind == "present"}
        return {self.kind: self.value}


Rules: TypeAlias = frozenset[Rule]

PRESENT: Final = Rule("present")
ABSENT: Final = Rule("absent")

MULTIPLE: Final = ("SS", "NS", "BS")
"""The types with several values, of which one has to be what a rule wants."""

_ORDER: Final = ("is", "prefix", "suffix", "but", "present", "absent", "unknown")
_WEIGHTS: Final = {"is": 8, "prefix": 6, "suffix": 6, "present": 3, "but": 1, "absent": 1}


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

    @property
    def selectivity(self) -> float:
        """How much is left out by it, roughly: each field adds to it."""
        told = sum(min(_WEIGHTS[rule.kind] for rule in rules) for rules in self.fields.values())
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
        """Return it in words: ``INSERT or MODIFY, F.new.status is "paid"``."""
        listed = " or ".join(name.value for name in EventName if name in self.events)
        parts = [f"{shown(field)} {_worded(field, rules)}" for field, rules in self._sorted()]
        return ", ".join([listed, *parts])

    def _sorted(self) -> list[tuple[Field, list[Rule]]]:
        return [(f, sorted(rules, key=_rank)) for f, rules in sorted(self.fields.items())]

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


def both(one: Rules, other: Rules, *, many: bool = False) -> tuple[Rules, bool]:
    """Return rules for values that both accept, and whether they accept nothing else.

    Args:
        one: rules of a field.
        other: rules of the same field.
        many: whether it may have several values.
    """
    met, is_exact = set[Rule](), True
    for left in one:
        for right in other:
            rule, says_all = _meet(left, right, many)
            is_exact = is_exact and says_all
            if rule is not None:
                met.add(rule)
    return frozenset(met), is_exact


def either(one: Rules, other: Rules) -> Rules | None:
    """Return rules for values that one of both accepts; None if that is every value, or none."""
    rules = one | other
    if PRESENT in rules:
        return None if ABSENT in rules else frozenset({PRESENT})
    buts = [rule.value for rule in rules if rule.kind == "but"]
    if not buts:
        return rules
    left = frozenset.intersection(*buts)
    plain = frozenset(rule for rule in rules if rule.kind not in ("but", "absent"))
    left = frozenset(value for value in left if not any(rule.accepts(value) for rule in plain))
    if not left:
        return None if ABSENT in rules else frozenset({PRESENT})
    return frozenset({Rule("but", left)}) | (rules & {ABSENT})


def is_covered(rules: Rules, by: Rules) -> bool:
    """Return True if it is certain that what some rules accept, the others do, too."""
    return all(any(_implies(rule, wider) for wider in by) for rule in rules)


def _implies(rule: Rule, wider: Rule) -> bool:
    if rule == wider:
        return True
    if wider.kind == "present":
        return rule.kind != "absent"
    if rule.kind == "is":
        return wider.accepts(rule.value)
    if rule.kind == "but":
        return wider.kind == "but" and rule.value >= wider.value
    if rule.kind in ("prefix", "suffix"):
        if wider.kind == "but":
            return not any(rule.accepts(value) for value in wider.value)
        return wider.kind == rule.kind and wider.accepts(rule.value)
    return False


def _meet(one: Rule, other: Rule, many: bool) -> tuple[Rule | None, bool]:
    """Return a rule for values that both accept, if there are any, and whether it is exact."""
    if one.kind == "absent" or other.kind == "absent":
        return (one if one == other else None), True
    if _implies(one, other):
        return one, True
    if _implies(other, one):
        return other, True
    if many:
        return one, False  # one member is what the first wants, another what the second does
    for rule, value in ((other, one), (one, other)):
        if value.kind == "is":
            return (value if rule.accepts(value.value) else None), True
    if one.kind == other.kind == "but":
        return Rule("but", one.value | other.value), True
    if one.kind == other.kind:
        return None, True  # two prefixes of which none begins with the other
    return min(one, other, key=_rank), False  # a prefix of a suffix, or of anything but a value


def _worded(field: Field, rules: Sequence[Rule]) -> str:
    """Return what a field's value may be, in words."""
    kind = field[-1] if field[-1] in TYPES else "value"
    words = {
        "is": "is {}",
        "prefix": "starts with {}",
        "suffix": "ends with {}",
        "but": "is not {}",
        "present": f"has a value of type {kind}",
        "absent": f"has no value of type {kind}",
        "unknown": "{}",
    }
    texts = []
    for rule in rules:
        values = sorted(rule.value) if rule.kind == "but" else [rule.value]
        spelt = " or ".join(json.dumps(value, ensure_ascii=False) for value in values)
        texts.append(words[rule.kind].format(spelt))
    return " or ".join(texts)


def _rank(rule: Rule) -> tuple[int, str]:
    value = sorted(rule.value) if rule.kind == "but" else rule.value
    return _ORDER.index(rule.kind), str(value)


def parsed(text: str) -> Pattern:
    """Read a pattern that a mapping has, whoever wrote it.

    What it says in other ways than these rules covers nothing but itself.

    Raises:
        ValueError: it is not a JSON object.
    """
    tree = json.loads(text)
    if not isinstance(tree, dict):
        raise ValueError("a pattern is a JSON object")
    fields = dict(_leaves((), tree))
    names = {rule.value for rule in fields.get(("eventName",), ()) if rule.kind == "is"}
    if ("eventName",) not in fields:
        return Pattern(frozenset(EventName), fields)
    rules = fields.pop(("eventName",))
    if len(names) != len(rules):
        return Pattern(frozenset(), fields)
    return Pattern(frozenset(name for name in EventName if name.value in names), fields)


def _leaves(path: Field, tree: Mapping[str, Any]) -> Iterator[tuple[Field, Rules]]:
    for name, inner in tree.items():
        if isinstance(inner, dict):
            yield from _leaves((*path, name), inner)
        else:
            listed = inner if isinstance(inner, list) else [inner]
            yield (*path, name), frozenset(map(_rule, listed))


def _rule(written: Any) -> Rule:
    if isinstance(written, (str, bool)):
        return Rule("is", written)
    if isinstance(written, dict) and len(written) == 1:
        ((kind, value),) = written.items()
        if kind == "exists" and isinstance(value, bool):
            return PRESENT if value else ABSENT
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
