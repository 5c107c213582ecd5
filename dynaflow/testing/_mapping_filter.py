"""FilterCriteria as Lambda applies them: which records of a stream a function gets.

Written from the rules of event-ruler, the engine behind Lambda's filters (its README and sources),
and the AWS Lambda Developer Guide, "Control which events Lambda sends to your function". It shares
nothing with what compiles filters into patterns, so that each can be held against the other.

A record is flattened: a field's name is the names on the way, joined by dots, and two ways may lead
to one name. Of an array every member is a value; what a pattern wants of the objects of one array
must be in the same object. A field that is not there satisfies nothing but ``{"exists": false}``.
In a list with a text that is an IP address, all that look like one are compared as addresses.
"""

from __future__ import annotations

import ipaddress
import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count, pairwise
from typing import Any, Final, NoReturn, TypeAlias

__all__ = ["filtering"]

Criteria: TypeAlias = Mapping[str, Any]
Test: TypeAlias = Callable[[Any], bool]
Members: TypeAlias = dict[int, int]
"""Which object of each array a value is in, by the array's number."""
Fields: TypeAlias = dict[str, list[tuple[Any, Members]]]
Wanted: TypeAlias = dict[str, tuple[list[Test], bool]]
"""By the field's name: tests of which one must be true of a value, and whether none will do."""

_MOST_PATTERNS: Final = 10
_MOST_LETTERS: Final = 4096
_ADDRESS: Final = re.compile(r"\d+\.\d+\.\d+\.\d+|[\da-fA-F:]*:[\da-fA-F:]*", re.ASCII)
_COMPARED: Final = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    ">=": operator.ge,
    ">": operator.gt,
}


def filtering(criteria: Criteria) -> Callable[[Mapping[str, Any]], bool]:
    """Return a function that says of a raw record whether one of the patterns matches it.

    Args:
        criteria: as ``CreateEventSourceMapping`` takes them. Without a pattern, all records pass.

    Raises:
        ValueError: Lambda would refuse them.
    """
    filters = criteria.get("Filters") or []
    if len(filters) > _MOST_PATTERNS:
        raise ValueError(f"a mapping takes up to {_MOST_PATTERNS} patterns, got {len(filters)}")
    wanted = [want for entry in filters for want in _compiled(entry.get("Pattern", "{}"))]

    def passes(raw: Mapping[str, Any]) -> bool:
        fields: Fields = {}
        _flatten(raw, (), {}, fields, count())
        return not filters or any(_matches(list(want.items()), fields, {}) for want in wanted)

    return passes


def _compiled(text: str) -> list[Wanted]:
    """Return what a pattern wants: alternatives, of which it has several if it says ``$or``."""
    if len(text) > _MOST_LETTERS:
        raise ValueError(f"a pattern has up to {_MOST_LETTERS:,} characters, got {len(text):,}")
    tree = json.loads(text)
    if not isinstance(tree, dict):
        _refuse("a pattern is an object")
    return list(_alternatives(tree, ())) if tree else [{}]


def _alternatives(tree: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[Wanted]:
    if not tree:
        _refuse("an object in a pattern is not empty")
    found: list[Wanted] = [{}]
    for name, inner in tree.items():
        if name == "$or" and _is_choice(inner):
            parts = [want for part in inner for want in _alternatives(part, path)]
        elif isinstance(inner, dict):
            parts = list(_alternatives(inner, (*path, name)))
        elif isinstance(inner, list) and inner:
            parts = [{".".join((*path, name)): _rules(inner)}]
        else:
            _refuse(f"{name} holds an object or a list that is not empty")
        found = [{**want, **part} for want in found for part in parts]
    yield from found


def _is_choice(inner: Any) -> bool:
    return isinstance(inner, list) and len(inner) > 1 and all(isinstance(i, dict) for i in inner)


def _rules(rules: Sequence[Any]) -> tuple[list[Test], bool]:
    missing = any(isinstance(rule, dict) and rule.get("exists") is False for rule in rules)
    tests = [_test(rule) for rule in rules]
    addresses = {_address(rule) for rule in rules} - {None}
    if addresses:
        kept = [_test(r) for r in rules if isinstance(r, dict) and "exists" in r]
        others = any(isinstance(rule, dict) and "anything-but" in rule for rule in rules)
        return [lambda value: _among(value, addresses, tests, kept, others)], missing
    return tests, missing


def _among(
    value: Any, addresses: set[Any], tests: list[Test], kept: list[Test], others: bool
) -> bool:
    """Return whether a value is accepted where addresses are: one is seen as its bytes only."""
    address = _address(value)
    if address is None:
        return any(test(value) for test in tests)
    return address in addresses or others or any(test(value) for test in kept)


def _address(value: Any) -> bytes | None:
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        return None
    try:
        return ipaddress.ip_address(value).packed
    except ValueError:
        return None


def _test(rule: Any) -> Test:
    """Return the test of a value that is there."""
    if not isinstance(rule, dict):
        return lambda value: _is_same(value, rule)
    if len(rule) != 1:
        _refuse("a rule has one name")
    ((kind, wanted),) = rule.items()
    if kind == "exists" and isinstance(wanted, bool):
        return lambda value: wanted
    if kind in ("prefix", "suffix", "equals-ignore-case") and isinstance(wanted, str):
        return lambda value: isinstance(value, str) and _TEXTS[kind](value, wanted)
    if kind == "anything-but":
        return _anything_but(wanted if isinstance(wanted, list) else [wanted])
    if kind == "numeric" and isinstance(wanted, list) and len(wanted) in (2, 4):
        limits = [(_COMPARED[sign], limit) for sign, limit in pairwise(wanted) if sign in _COMPARED]
        return lambda value: _is_number(value) and all(test(value, lim) for test, lim in limits)
    return _refuse(f"Lambda's event source mappings have no rule {kind!r} with such a value")


_TEXTS: Final[dict[str, Callable[[str, str], bool]]] = {
    "prefix": str.startswith,
    "suffix": str.endswith,
    "equals-ignore-case": lambda value, wanted: value.lower() == wanted.lower(),
}


def _anything_but(values: Sequence[Any]) -> Test:
    texts = all(isinstance(value, str) for value in values)
    if not values or not (texts or all(map(_is_number, values))):
        _refuse("anything-but takes texts, or numbers")
    return lambda value: not any(_is_same(value, other) for other in values)


def _is_same(value: Any, other: Any) -> bool:
    if _is_number(value) and _is_number(other):
        return bool(value == other)
    return type(value) is type(other) and bool(value == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _flatten(
    value: Any, path: tuple[str, ...], within: Members, fields: Fields, numbers: Iterator[int]
) -> None:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            _flatten(inner, (*path, name), within, fields, numbers)
    elif isinstance(value, (list, tuple)):
        number = next(numbers)
        for at, inner in enumerate(value):
            is_leaf = not isinstance(inner, (Mapping, list, tuple))
            _flatten(inner, path, within if is_leaf else {**within, number: at}, fields, numbers)
    else:
        fields.setdefault(".".join(path), []).append((value, within))


def _matches(wanted: Sequence[tuple[str, Any]], fields: Fields, within: Members) -> bool:
    """Return True if each field has a value, all of them in the same objects of arrays."""
    if not wanted:
        return True
    (name, (tests, missing)), *rest = wanted
    if name not in fields:
        return missing and _matches(rest, fields, within)
    return any(
        all(within.get(number, at) == at for number, at in members.items())
        and any(test(value) for test in tests)
        and _matches(rest, fields, {**within, **members})
        for value, members in fields[name]
    )


def _refuse(reason: str) -> NoReturn:
    raise ValueError(f"Lambda refuses the filter pattern: {reason}")
