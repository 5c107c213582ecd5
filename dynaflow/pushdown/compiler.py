"""Filters → the patterns that are true wherever they are, event by event.

A pattern may match more than its filter, never less. What it cannot say is left out, with the
reason; that is sound in a conjunction only, so a negation is first carried down to the operators,
and each of them is asked for both answers.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import reduce
from itertools import product
from typing import Any, Final

from dynaflow._conditions import Combined, Differs, Filter, Not, Operation, Predicate, Shorthand
from dynaflow._expiry import TTLDelete
from dynaflow._paths import Constant, PathRef, has_image
from dynaflow.pushdown.alternative import Alternative, Alternatives, left_out, merged
from dynaflow.pushdown.fields import (
    LEAVES,
    SINGLE,
    field_of,
    is_there,
    known_value,
    members,
    stored_text,
    unknown_spelling,
    unreachable,
)
from dynaflow.pushdown.pattern import Field, Pattern
from dynaflow.pushdown.rules import ABSENT, MULTIPLE, PRESENT, Rule, Rules, is_address
from dynaflow.record import EventName
from dynaflow.values import Canonical

__all__ = ["alternatives"]

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
        if isinstance(condition, (Operation, Differs)):
            always = condition.without_image(self._event)
            if always is not None:
                return self._constant(always is wanted)
            if isinstance(condition, Operation):
                return self._operation(condition, wanted)
            return self._differs(condition, wanted)
        if isinstance(condition, TTLDelete):
            return self._ttl(condition, wanted)
        if isinstance(condition, Predicate):
            return self._unknown(
                f"{condition!r} is a function, which only Python can ask; patterns can be made of F"
            )
        return self._unknown(f"{condition!r} is a filter of another kind than dynaflow's own")

    def all(self, conditions: Iterable[Filter], wanted: bool) -> Alternatives:
        """Return the alternatives in which all of them say what is wanted, or one raises."""
        found = [Alternative(self._any)]
        function = None
        for condition in conditions:
            if function is not None:
                reason = f"{condition!r} is asked after {function!r}, which may raise: put it first"
                return [left_out(alternative, reason) for alternative in found]
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
            if not is_there(path, alternative.pattern):
                alternative = left_out(
                    alternative,
                    f"{path!r} may hold a list or a map, whose presence no pattern can test",
                )
        return replace(alternative, there=frozenset(), differing=frozenset())

    def _each(self, parts: Iterable[Alternatives]) -> Alternatives:
        return reduce(self._both, parts, [Alternative(self._any)])

    def _both(self, one: Alternatives, other: Alternatives) -> Alternatives:
        if min(len(one), len(other)) > 1 and len(one) * len(other) > _MOST:
            reason = f"its filters have more than {_MOST} combinations, so not all of them are told"
            return [left_out(alternative, reason) for alternative in min(one, other, key=len)]
        met = [left.and_(right) for left, right in product(one, other)]
        return merged([alternative for alternative in met if alternative is not None])

    def _settled_difference(
        self, alternative: Alternative, path: PathRef, other: PathRef
    ) -> Alternative | None:
        """Say that two values differ, which can be said where one of them is known."""
        for known, unknown in ((path, other), (other, path)):
            constant = known_value(known, alternative.pattern)
            if constant is None:
                continue
            (differs,) = self._unequal(unknown, constant)
            return alternative.and_(differs)
        return left_out(
            alternative, f"patterns do not compare {path!r} with {other!r}, only with constants"
        )

    def _operation(self, node: Operation, wanted: bool) -> Alternatives:
        if any(isinstance(part, PathRef) for part in node.operands):
            return self._unknown(f"{node!r} compares two values of a record, and patterns do not")
        reason = unreachable(node.path)
        if reason is not None:
            return self._unknown(reason)
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
            return self._unknown(
                f"{node!r} may be about a part of a text or an element of a list, which patterns "
                "do not find"
            )
        return self._ordered(node, values[0])

    def _equal(self, path: PathRef, value: Canonical) -> Alternatives:
        kind, payload = value
        if kind in MULTIPLE:
            found = (stored_text(kind[0], member) for member in members(payload))
            texts = sorted(str(text) for text in found if text is not None)
            if not texts:
                return self._typed(path, kind, PRESENT, left_out=unknown_spelling(path))
            reason = f"patterns look for a member of a set, not for a whole set as {path!r}"
            if len(members(payload)) == 1:
                reason = f"patterns do not see whether {path!r} has other members, too"
            return self._typed(path, kind, Rule("is", texts[0]), left_out=reason)
        if kind in ("L", "M"):
            return self._unknown(f"patterns do not compare lists and maps, as {path!r} is")
        text = stored_text(kind, payload)
        if text is None:
            return self._typed(path, kind, PRESENT, left_out=unknown_spelling(path))
        return self._typed(path, kind, Rule("is", text))

    def _unequal(self, path: PathRef, value: Canonical) -> Alternatives:
        kind, payload = value
        if kind in (*MULTIPLE, "L", "M"):
            return self._unknown(f"patterns do not compare sets, lists and maps, as {path!r} is")
        text = stored_text(kind, payload)
        if text is None:
            return self._unknown(unknown_spelling(path))
        if kind == "NULL":
            return self._absent(path, kind)
        others = Rule("is", not text) if kind == "BOOL" else Rule("but", frozenset({text}))
        return self._absent(path, kind, others)

    def _is_in(self, path: PathRef, options: frozenset[Canonical], wanted: bool) -> Alternatives:
        ordered = sorted(options, key=repr)
        if not wanted:
            return self._each(self._unequal(path, option) for option in ordered)
        rules: dict[str, set[Rule]] = {}
        others: Alternatives = []
        for kind, payload in ordered:
            text = stored_text(kind, payload) if kind in SINGLE else None
            if text is None:
                others += self._equal(path, (kind, payload))
            else:
                rules.setdefault(kind, set()).add(Rule("is", text))
        found = [self._typed(path, kind, *ones) for kind, ones in rules.items()]
        return merged([*(a for each in found for a in each), *others])

    def _exists(self, path: PathRef, wanted: bool) -> Alternatives:
        if wanted:
            return [Alternative(self._any, there=frozenset({path}))]
        reason = f"{path!r} may hold a list or a map, whose absence no pattern can test"
        absent = self._each(self._absent(path, kind) for kind in LEAVES)
        return [left_out(alternative, reason) for alternative in absent]

    def _is_type(self, path: PathRef, kind: str, wanted: bool) -> Alternatives:
        if kind not in LEAVES:
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
            return self._typed(path, "B", PRESENT, left_out=reason if affix else None)
        whole = len(affix) // 3 * 3
        untold = reason if whole < len(affix) else None
        if not whole:
            return self._typed(path, "B", PRESENT, left_out=untold)
        start = Rule("prefix", b64encode(affix[:whole]).decode("ascii"))
        return self._typed(path, "B", start, left_out=untold)

    def _ordered(self, node: Operation, value: Canonical) -> Alternatives:
        kind = value[0]
        reason = (
            f"{node!r} orders numbers, which patterns see as text"
            if kind == "N"
            else f"{node!r} asks for an order, which patterns do not have"
        )
        return self._typed(node.path, kind, PRESENT, left_out=reason)

    def _differs(self, node: Differs, wanted: bool) -> Alternatives:
        there = [path for path in node.paths() if has_image(self._event, path.image)]
        if len(there) == 1:
            (path,) = there
            reason = unreachable(path)
            return self._unknown(reason) if reason else self._exists(path, wanted)
        reason = unreachable(node.path)
        if reason is not None:
            return self._unknown(reason)
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
            return [left_out(mark, reason)]
        if (unnamed := unreachable(node.path)) is not None:
            return self._unknown(unnamed)
        return [mark, *self._typed(node.path, "N", PRESENT, left_out=reason)]

    def _typed(
        self, path: PathRef, kind: str, *rules: Rule, left_out: str | None = None
    ) -> Alternatives:
        """Return that there is a value of a type, and that one of the rules is true of it."""
        if any(is_address(r.value) and r.value.lower() != r.value.upper() for r in rules):
            left_out = f"a text like an IP address, as {path!r} is, is compared in either case"
        pattern = replace(self._any, fields={field_of(path, kind): frozenset(rules)})
        return [Alternative(pattern, (left_out,) if left_out else ())]

    def _absent(self, path: PathRef, kind: str, *others: Rule) -> Alternatives:
        """Return that there is no value of a type, or only some."""
        if len(path.segments) > 1 or "." in str(path.segments[0]):
            return self._unknown(
                f"an attribute whose name has dots could be taken for {path!r}, so patterns cannot "
                "test what it is not"
            )
        pattern = replace(self._any, fields={field_of(path, kind): frozenset({ABSENT, *others})})
        return [Alternative(pattern)]

    def _constant(self, is_true: bool) -> Alternatives:
        return [Alternative(self._any)] if is_true else []

    def _unknown(self, reason: str) -> Alternatives:
        return [Alternative(self._any, (reason,))]


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
