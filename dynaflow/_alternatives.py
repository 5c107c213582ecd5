"""Filters → the patterns that are true wherever they are, event by event.

A pattern may match more than its filter, never less. What it cannot say is left out, with the
reason; that is sound in a conjunction only, so a negation is first carried down to the operators,
and each of them is asked for both answers.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import reduce
from itertools import product
from typing import Any, Final, TypeAlias

from dynaflow._conditions import Combined, Differs, Filter, Not, Operation, Predicate, Shorthand
from dynaflow._expiry import TTLDelete
from dynaflow._paths import FIELDS, Constant, PathRef, has_image
from dynaflow._pattern import ABSENT, MULTIPLE, PRESENT, Field, Pattern, Rule, Rules
from dynaflow.record import EventName
from dynaflow.values import Canonical

__all__ = ["Alternative", "alternatives", "merged"]

_LEAVES: Final = ("S", "N", "B", "BOOL", "NULL", *MULTIPLE)
"""The types whose values are fields; L and M only hold fields."""

_MOST: Final = 64  # alternatives of one filter; with more, a part of it is left out

_TTL: Final[Mapping[Field, Rules]] = {
    ("userIdentity", "type"): frozenset({Rule("is", "Service")}),
    ("userIdentity", "principalId"): frozenset({Rule("is", "dynamodb.amazonaws.com")}),
}
# DynamoDB writes userIdentity for its own deletes only, so one of the two fields will do.
_NOT_TTL: Final[Mapping[Field, Rules]] = {
    ("userIdentity", "principalId"): frozenset(
        {Rule("but", frozenset({"dynamodb.amazonaws.com"})), ABSENT}
    )
}


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


def alternatives(conditions: Iterable[Filter], event: EventName) -> Alternatives:
    """Return patterns of which one matches wherever all conditions are true, for one event.

    The same holds wherever one of them raises: they are asked in order, as the router does, and a
    function may raise. None at all if they are never true. It is taken for granted that the stream
    carries the images that they read; where it does not, they raise, too.
    """
    compiler = _Compiler(event)
    found = compiler.all(conditions, True)
    settled = [compiler.settled(alternative) for alternative in found]
    return merged([alternative for alternative in settled if alternative is not None])


class _Compiler:
    """Compiles filters for the records of one event."""

    def __init__(self, event: EventName) -> None:
        self._event = event
        self._any = Pattern(frozenset({event}), {})

    def when(self, condition: Filter, wanted: bool) -> Alternatives:
        """Return the alternatives in which a filter says what is wanted."""
        if isinstance(condition, Shorthand):
            return self.when(condition.condition, wanted)
        if isinstance(condition, Not):
            return self.when(condition.part, not wanted)
        if isinstance(condition, Combined):
            if (condition.operator == "&") is wanted:
                return self.all(condition.parts, wanted)
            return merged([a for part in condition.parts for a in self.when(part, wanted)])
        if isinstance(condition, Operation):
            return self._operation(condition, wanted)
        if isinstance(condition, Differs):
            return self._differs(condition, wanted)
        if isinstance(condition, TTLDelete):
            return self._ttl(condition, wanted)
        if isinstance(condition, Predicate):
            return self._unknown(f"{condition!r} is a function, which only Python can ask")
        return self._unknown(f"{condition!r} is a filter of another kind than dynaflow's own")

    def all(self, conditions: Iterable[Filter], wanted: bool) -> Alternatives:
        """Return the alternatives in which all of them say what is wanted, or one raises."""
        found = [Alternative(self._any)]
        function = None
        for condition in conditions:
            if function is not None:
                reason = f"{condition!r} is asked after {function!r}, which may raise: put it first"
                return [_left_out(alternative, reason) for alternative in found]
            found = self._both(found, self.when(condition, wanted))
            function = _may_raise(condition)
        return found

    def settled(self, alternative: Alternative) -> Alternative | None:
        """Return the alternative with what was open until all of it was known."""
        for path, other in sorted(alternative.differing, key=repr):
            narrower = self._settled_difference(alternative, path, other)
            if narrower is None:
                return None
            alternative = narrower
        for path in sorted(alternative.there, key=repr):
            if not _is_there(path, alternative.pattern):
                alternative = _left_out(
                    alternative,
                    f"{path!r} may hold a list or a map, whose presence no pattern can test",
                )
        return replace(alternative, there=frozenset(), differing=frozenset())

    def _each(self, parts: Iterable[Alternatives]) -> Alternatives:
        return reduce(self._both, parts, [Alternative(self._any)])

    def _both(self, one: Alternatives, other: Alternatives) -> Alternatives:
        if len(one) * len(other) > _MOST:
            reason = f"it has more than {_MOST} combinations"
            return [_left_out(alternative, reason) for alternative in min(one, other, key=len)]
        met = [left.and_(right) for left, right in product(one, other)]
        return merged([alternative for alternative in met if alternative is not None])

    def _settled_difference(
        self, alternative: Alternative, path: PathRef, other: PathRef
    ) -> Alternative | None:
        """Say that two values differ, which can be said where one of them is known."""
        for known, unknown in ((path, other), (other, path)):
            constant = _known(known, alternative.pattern)
            if constant is None:
                continue
            (differs,) = self._unequal(unknown, constant)
            return alternative.and_(differs)
        return _left_out(
            alternative, f"patterns do not compare {path!r} with {other!r}, only with constants"
        )

    def _operation(self, node: Operation, wanted: bool) -> Alternatives:
        paths = (node.path, *(part for part in node.operands if isinstance(part, PathRef)))
        if not all(has_image(self._event, path.image) for path in paths):
            return self._constant((node.operator == "!=") is wanted)
        if len(paths) > 1:
            return self._unknown(f"{node!r} compares two values of a record, and patterns do not")
        unreachable = _unreachable(node.path)
        if unreachable is not None:
            return self._unknown(unreachable)
        values = [part.value for part in node.operands if isinstance(part, Constant)]
        if node.operator in ("==", "!="):
            is_equal = (node.operator == "==") is wanted
            return (self._equal if is_equal else self._unequal)(node.path, values[0])
        if node.operator == "is_in":
            return self._is_in(node.path, values[0], wanted)
        if node.operator == "exists":
            return self._exists(node.path, wanted)
        if node.operator == "is_type":
            return self._is_type(node.path, values[0][1], wanted)
        if not wanted:
            return self._unknown(f"patterns cannot say that {node!r} is not true")
        if node.operator in ("startswith", "endswith"):
            return self._affix(node.path, node.operator, values[0])
        if node.operator == "contains":
            return self._contains(node, values[0])
        return self._ordered(node, values[0])

    def _equal(self, path: PathRef, value: Canonical) -> Alternatives:
        kind, payload = value
        if kind in MULTIPLE:
            found = (_text(kind[0], member) for member in _members(payload))
            texts = sorted(str(text) for text in found if text is not None)
            if not texts:
                return self._typed(path, kind, PRESENT, _number_spelt(path))
            reason = f"patterns look for a member of a set, not for a whole set as {path!r}"
            if len(_members(payload)) == 1:
                reason = f"patterns do not see whether {path!r} has other members, too"
            return self._typed(path, kind, Rule("is", texts[0]), reason)
        if kind in ("L", "M"):
            return self._unknown(f"patterns do not compare lists and maps, as {path!r} is")
        text = _text(kind, payload)
        if text is None:
            return self._typed(path, kind, PRESENT, _number_spelt(path))
        return self._typed(path, kind, Rule("is", text))

    def _unequal(self, path: PathRef, value: Canonical) -> Alternatives:
        kind, payload = value
        if kind in (*MULTIPLE, "L", "M"):
            return self._unknown(f"patterns do not compare sets, lists and maps, as {path!r} is")
        text = _text(kind, payload)
        if text is None:
            return self._unknown(_number_spelt(path))
        if kind == "NULL":
            return self._absent(path, kind)
        others = Rule("is", not text) if kind == "BOOL" else Rule("but", frozenset({text}))
        return self._absent(path, kind, others)

    def _is_in(self, path: PathRef, options: frozenset[Canonical], wanted: bool) -> Alternatives:
        ordered = sorted(options, key=repr)
        if not wanted:
            return self._each(self._unequal(path, option) for option in ordered)
        return merged([a for option in ordered for a in self._equal(path, option)])

    def _exists(self, path: PathRef, wanted: bool) -> Alternatives:
        if wanted:
            return [Alternative(self._any, there=frozenset({path}))]
        reason = f"{path!r} may hold a list or a map, whose absence no pattern can test"
        absent = self._each(self._absent(path, kind) for kind in _LEAVES)
        return [_left_out(alternative, reason) for alternative in absent]

    def _is_type(self, path: PathRef, kind: str, wanted: bool) -> Alternatives:
        if kind not in _LEAVES:
            return self._unknown(f"patterns cannot test whether {path!r} is of type {kind}")
        return self._typed(path, kind, PRESENT) if wanted else self._absent(path, kind)

    def _affix(self, path: PathRef, operator: str, value: tuple[str, Any]) -> Alternatives:
        kind, affix = value
        if kind == "B":
            return self._binary_affix(path, operator, affix)
        if not affix:
            return self._typed(path, kind, PRESENT)
        rule = Rule("prefix" if operator == "startswith" else "suffix", affix)
        return self._typed(path, kind, rule)

    def _binary_affix(self, path: PathRef, operator: str, affix: Any) -> Alternatives:
        """Translate to base64, in which three bytes are four letters."""
        reason = f"patterns see {path!r} as base64 text, in which not every ending or start shows"
        if operator == "endswith":
            return self._typed(path, "B", PRESENT, reason if affix else None)
        whole = len(affix) // 3 * 3
        left_out = reason if whole < len(affix) else None
        if not whole:
            return self._typed(path, "B", PRESENT, left_out)
        start = Rule("prefix", b64encode(affix[:whole]).decode("ascii"))
        return self._typed(path, "B", start, left_out)

    def _contains(self, node: Operation, member: Canonical) -> Alternatives:
        return self._unknown(
            f"{node!r} may be about a part of a text or an element of a list, which patterns do "
            "not find"
        )

    def _ordered(self, node: Operation, value: Canonical) -> Alternatives:
        kind = value[0]
        reason = (
            f"{node!r} orders numbers, which patterns see as text"
            if kind == "N"
            else f"patterns have no order, which {node!r} asks for"
        )
        return self._typed(node.path, kind, PRESENT, reason)

    def _differs(self, node: Differs, wanted: bool) -> Alternatives:
        there = [p for p in (node.path, node.other) if has_image(self._event, p.image)]
        if not there:
            return self._constant(not wanted)
        if len(there) == 1:
            (path,) = there
            unreachable = _unreachable(path)
            return self._unknown(unreachable) if unreachable else self._exists(path, wanted)
        unreachable = _unreachable(node.path)
        if unreachable is not None:
            return self._unknown(unreachable)
        if wanted:
            return [Alternative(self._any, differing=frozenset({(node.path, node.other)}))]
        return self._unknown(f"patterns do not compare {node.path!r} with {node.other!r}")

    def _ttl(self, node: TTLDelete, wanted: bool) -> Alternatives:
        if self._event is not EventName.REMOVE:
            return self._constant(not wanted)
        mark = Alternative(replace(self._any, fields=_TTL if wanted else _NOT_TTL))
        if node.path is None:
            return [mark]
        reason = f"{node!r} compares times, which patterns cannot"
        if not wanted:
            return [_left_out(mark, reason)]
        return [mark, *self._typed(node.path, "N", PRESENT, reason)]

    def _typed(
        self, path: PathRef, kind: str, rule: Rule, left_out: str | None = None
    ) -> Alternatives:
        pattern = replace(self._any, fields={_field(path, kind): frozenset({rule})})
        return [Alternative(pattern, (left_out,) if left_out else ())]

    def _absent(self, path: PathRef, kind: str, *others: Rule) -> Alternatives:
        """Return that there is no value of a type, or only some."""
        if len(path.segments) > 1 or "." in str(path.segments[0]):
            return self._unknown(
                f"an attribute whose name has dots could be taken for {path!r}, so patterns cannot "
                "test what it is not"
            )
        pattern = replace(self._any, fields={_field(path, kind): frozenset({ABSENT, *others})})
        return [Alternative(pattern)]

    def _constant(self, is_true: bool) -> Alternatives:
        return [Alternative(self._any)] if is_true else []

    def _unknown(self, reason: str) -> Alternatives:
        return [Alternative(self._any, (reason,))]


def merged(found: Alternatives) -> Alternatives:
    """Join alternatives where that changes nothing."""
    kept: Alternatives = []
    for alternative in found:
        current = alternative
        while True:
            other = next((a for a in kept if _join(a, current) is not None), None)
            if other is None:
                break
            kept.remove(other)
            current = _join(other, current) or current
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


def _left_out(alternative: Alternative, reason: str) -> Alternative:
    if reason in alternative.left_out:
        return alternative
    return replace(alternative, left_out=(*alternative.left_out, reason))


def _field(path: PathRef, kind: str) -> Field:
    inner = (name for segment in path.segments[1:] for name in ("M", str(segment)))
    return ("dynamodb", FIELDS[path.image], str(path.segments[0]), *inner, kind)


def _unreachable(path: PathRef) -> str | None:
    """Return why no pattern can name the value at a path; None if one can."""
    if any(isinstance(segment, int) for segment in path.segments):
        return f"patterns cannot name an element of a list, as {path!r} does"
    if "$or" in path.segments:
        return f"in patterns the name $or, which {path!r} has, means something else"
    return None


def _is_there(path: PathRef, pattern: Pattern) -> bool:
    """Return True if a pattern matches only where there is a value at the path."""
    start = _field(path, "")[:-1]
    return any(
        field[: len(start)] == start and len(field) > len(start) and ABSENT not in rules
        for field, rules in pattern.fields.items()
    )


def _known(path: PathRef, pattern: Pattern) -> Canonical | None:
    """Return the value at a path, as patterns spell it, if a pattern leaves only one."""
    for kind in ("S", "N", "B", "BOOL", "NULL"):
        rules = pattern.fields.get(_field(path, kind))
        if rules is None or len(rules) != 1:
            continue
        (rule,) = rules
        if rule.kind == "is":
            return kind, rule.value
    return None


def _may_raise(condition: Filter) -> Filter | None:
    """Return a function in a filter: where it raises, its record fails, and must not be missed."""
    parts: tuple[Filter, ...]
    if isinstance(condition, Shorthand):
        parts = (condition.condition,)
    elif isinstance(condition, Not):
        parts = (condition.part,)
    elif isinstance(condition, Combined):
        parts = condition.parts
    else:
        return None if isinstance(condition, (Operation, Differs, TTLDelete)) else condition
    return next((found for part in parts if (found := _may_raise(part)) is not None), None)


def _text(kind: str, payload: Any) -> str | bool | None:
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


def _number_spelt(path: PathRef) -> str:
    return f"how DynamoDB spells the number that {path!r} is compared with is not documented"


def _members(payload: Any) -> frozenset[Any]:
    return frozenset(payload)
