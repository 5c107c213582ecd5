"""Where a pattern finds what a filter reads, and how a stream spells the values there."""

from __future__ import annotations

from base64 import b64encode
from decimal import Decimal
from typing import Any, Final

from dynaflow._paths import FIELDS, PathRef
from dynaflow.pushdown.pattern import Field, Pattern
from dynaflow.pushdown.rules import ABSENT, MULTIPLE
from dynaflow.values import Canonical

__all__ = [
    "LEAVES",
    "SINGLE",
    "field_of",
    "is_there",
    "known_value",
    "members",
    "stored_text",
    "unknown_spelling",
    "unreachable",
]

SINGLE: Final = ("S", "N", "B", "BOOL", "NULL")

LEAVES: Final = (*SINGLE, *MULTIPLE)
"""The types whose values are fields; L and M only hold fields."""


def field_of(path: PathRef, kind: str) -> Field:
    inner = (name for segment in path.segments[1:] for name in ("M", str(segment)))
    return ("dynamodb", FIELDS[path.image], str(path.segments[0]), *inner, kind)


def unreachable(path: PathRef) -> str | None:
    """Return why no pattern can name the value at a path; None if one can."""
    if any(isinstance(segment, int) for segment in path.segments):
        return f"patterns cannot name an element of a list, as {path!r} does"
    if "$or" in path.segments:
        return f"in patterns the name $or, which {path!r} has, means something else"
    return None


def is_there(path: PathRef, pattern: Pattern) -> bool:
    """Return True if a pattern matches only where there is a value at the path."""
    start = field_of(path, "")[:-1]
    return any(
        field[: len(start)] == start and len(field) > len(start) and ABSENT not in rules
        for field, rules in pattern.fields.items()
    )


def known_value(path: PathRef, pattern: Pattern) -> Canonical | None:
    """Return the value at a path, as patterns spell it, if a pattern leaves only one."""
    for kind in SINGLE:
        rules = pattern.fields.get(field_of(path, kind))
        if rules is None or len(rules) != 1:
            continue
        (rule,) = rules
        if rule.kind == "is":
            return kind, rule.value
    return None


def stored_text(kind: str, payload: Any) -> str | bool | None:
    """Return how a stream writes a value; None where that is not known."""
    if kind == "B" and isinstance(payload, bytes):
        return b64encode(payload).decode("ascii")
    if kind == "N" and isinstance(payload, Decimal):
        return _number(payload)
    return True if kind == "NULL" else payload


def _number(number: Decimal) -> str | None:
    """Return the text that DynamoDB writes for a number; None where others are conceivable.

    It normalises numbers. How it writes those with long exponents is not documented.
    """
    if not number:
        return "0"
    if not -7 < number.adjusted() <= 20:
        return None
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def unknown_spelling(path: PathRef) -> str:
    return f"how DynamoDB spells the number that {path!r} is compared with is not documented"


def members(payload: Any) -> frozenset[Any]:
    return frozenset(payload)
