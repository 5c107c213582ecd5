"""What a field of a record may be: the rules of patterns, and what two lists of them say together.

Rules of patterns: AWS Lambda Developer Guide, "Control which events Lambda sends to your function",
and the README of event-ruler, the engine behind it. Of the rules of a field one must be true.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from itertools import chain, product
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from dynaflow.values import TYPES, harmless

__all__ = [
    "ABSENT",
    "MULTIPLE",
    "PRESENT",
    "WEIGHTS",
    "Rule",
    "Rules",
    "both",
    "either",
    "is_address",
    "is_covered",
    "rank",
    "worded",
]


# What event-ruler takes for an IP address (its CIDR.java, Constants.java, ByteMachine.java): a list
# with such a text compares all values that look so as addresses, and no prefix there finds them.
_ADDRESS: Final = re.compile(r"[0-9]+(\.[0-9]+){3}|[0-9a-fA-F:]*:[0-9a-fA-F:]*")


def is_address(text: object) -> bool:
    """Return True if a text must not be written as it is, because it looks like an IP address."""
    return isinstance(text, str) and _ADDRESS.fullmatch(text) is not None


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
            caseless = {"equals-ignore-case": self.value}
            return caseless if is_address(self.value) else self.value
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
WEIGHTS: Final = {"is": 8, "prefix": 6, "suffix": 6, "present": 3, "but": 1, "absent": 1}
"""How much a rule of a field leaves out, roughly."""


def both(one: Rules, other: Rules, *, many: bool = False) -> tuple[Rules, bool]:
    """Return rules for values that both accept, and whether they accept nothing else.

    Args:
        one: rules of a field.
        other: rules of the same field.
        many: whether it may have several values.
    """
    # There may be thousands of values, so these are compared as sets, and not each with each.
    ones, others = _values(one), _values(other)
    met = set(ones if many and others else ones & others)
    is_exact = not (many and ones and others) or len(ones | others) == 1
    for left, right in chain(product(one - ones, other), product(ones, other - others)):
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
    left -= {rule.value for rule in _values(rules)}
    affixes = [rule for rule in rules if rule.kind in ("prefix", "suffix")]
    left = frozenset(value for value in left if not any(rule.accepts(value) for rule in affixes))
    if not left:
        return None if ABSENT in rules else frozenset({PRESENT})
    return frozenset({Rule("but", left)}) | (rules & {ABSENT})


def is_covered(rules: Rules, by: Rules) -> bool:
    """Return True if it is certain that what some rules accept, the others do, too."""
    wide = by - _values(by)
    return all(rule in by or any(_implies(rule, wider) for wider in wide) for rule in rules)


def _values(rules: Rules) -> Rules:
    return frozenset(rule for rule in rules if rule.kind == "is")


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
    if "is" in (one.kind, other.kind):
        return None, True  # a value that the other does not accept
    if one.kind == other.kind == "but":
        return Rule("but", one.value | other.value), True
    if one.kind == other.kind:
        return None, True  # two prefixes of which none begins with the other
    return min(one, other, key=rank), False  # a prefix of a suffix, or of anything but a value


def rank(rule: Rule) -> tuple[int, str]:
    value = sorted(rule.value) if rule.kind == "but" else rule.value
    return _ORDER.index(rule.kind), str(value)


_SHOWN: Final = 4  # values of a list in words
_LETTERS: Final = 60  # characters of a value in words


def worded(kind: str, rules: Rules) -> str:
    """Return what a field's value may be, in words; a filter's ``!=`` is "is not".

    Args:
        kind: the DynamoDB type, or another field's name.
        rules: of that field.
    """
    typed = f"of type {kind}" if kind in TYPES else "there"
    values = [_spelt(kind, rule.value) for rule in sorted(rules, key=rank) if rule.kind == "is"]
    texts = [f"{'has' if kind in MULTIPLE else 'is'} {_either_of(values)}"] if values else []
    for rule in sorted(rules, key=rank):
        if rule.kind in ("prefix", "suffix"):
            verb = "starts" if rule.kind == "prefix" else "ends"
            texts.append(f"{verb} with {_spelt(kind, rule.value)}")
        elif rule.kind == "but":
            others = _either_of([_spelt(kind, value) for value in sorted(rule.value)])
            there = "is not" if ABSENT in rules else f"is {typed}, but not"
            texts.append(f"{there} {others}")
        elif rule.kind == "present":
            texts.append(f"is {typed}")
        elif rule.kind == "unknown":
            texts.append(f"is {rule.value}")
    if ABSENT in rules and not any(rule.kind == "but" for rule in rules):
        texts.append(f"is not {typed}")
    return " or ".join(texts)


def _either_of(values: Iterable[str]) -> str:
    shown = list(values)
    if len(shown) > _SHOWN + 1:
        shown[_SHOWN:] = [f"{len(shown) - _SHOWN} more"]
    return " or ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))


def _spelt(kind: str, value: str | bool) -> str:
    if isinstance(value, bool):
        return "null" if kind == "NULL" else json.dumps(value)
    if len(value) > _LETTERS:
        value = value[:_LETTERS] + "…"
    if kind in ("N", "NS"):
        return value
    text = harmless(json.dumps(value, ensure_ascii=False))
    return f"base64 {text}" if kind in ("B", "BS") else text
