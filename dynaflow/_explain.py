"""Why a record is, or is not, for a route.

Whether a route would run is what the table says that routes records. Only where it says no, the
filters' nodes are asked one by one. Texts name paths and types, and values only on request.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dynaflow._conditions import Combined, Differs, Filter, Not, Operation, Shorthand
from dynaflow._paths import MISSING, Constant, PathRef, has_image
from dynaflow._table import CompiledRoute, RouteTable
from dynaflow.errors import ImageMissing, MalformedRecord, MalformedValue, NonRetryable
from dynaflow.record import Image, Record, Undecodable
from dynaflow.values import decode, printable, type_of

__all__ = ["Cause", "Explanation", "Finding", "RouteExplanation", "Verdict", "explain"]

_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=", "between", "startswith", "endswith")
_WITHOUT_DATA = (ImageMissing, MalformedRecord, MalformedValue)  # what others say may quote values


class Verdict(StrEnum):
    """Whether a route would run for a record."""

    RUNS = "runs"
    NOT = "not"
    UNCLEAR = "unclear"
    """It cannot be told, so the record would fail."""


class Cause(StrEnum):
    """What decided against a route, or kept it from being decided."""

    EVENT = "event"
    TABLE = "table"
    TTL = "ttl"
    GROUP = "group"
    """Under ``match="first"`` an earlier route was chosen, or might have been meant."""
    FILTER = "filter"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one filter, or one part of a filter, said.

    Args:
        text: the filter as it is written.
        result: what it said; None if it was not asked, or raised.
        found: what it read: "F.new.total is N".
        parts: what its parts said, in order.
        error: what it raised.
    """

    text: str
    result: bool | None = None
    found: str = ""
    parts: tuple[Finding, ...] = ()
    error: str | None = None

    @property
    def said(self) -> str:
        """The result in a word or two."""
        if self.error is not None:
            return "raised"
        return {True: "true", False: "false", None: "not asked"}[self.result]


@dataclass(frozen=True, slots=True)
class RouteExplanation:
    """Whether one route would run for a record, and why.

    Args:
        route: its name.
        verdict: runs, not, or unclear.
        cause: what decided; None if it runs.
        reason: the same as a sentence.
        filters: what its filters said, as far as they were asked, if the cause is one of them.
        error: what was raised, if it is unclear.
    """

    route: str
    verdict: Verdict
    cause: Cause | None
    reason: str
    filters: tuple[Finding, ...] = ()
    error: BaseException | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which routes would run for a record, and why the others would not; ``str`` is to be read.

    Args:
        record: the record.
        routes: one entry for each route of the App, in order of registration; none if the record
            cannot be decoded.
        unreadable: why the record fails whatever its routes say: it, or its order, cannot be read;
            None if it can.
    """

    record: Record | Undecodable
    routes: tuple[RouteExplanation, ...] = ()
    unreadable: str | None = None

    @property
    def runs(self) -> list[str]:
        """The names of the routes that would run, in order."""
        if self.unreadable is not None:
            return []
        return [route.route for route in self.routes if route.verdict is Verdict.RUNS]

    @property
    def is_clear(self) -> bool:
        """False if the record would fail before any handler is asked."""
        clear = all(route.verdict is not Verdict.UNCLEAR for route in self.routes)
        return self.unreadable is None and clear

    def __str__(self) -> str:
        lines = [f"{route.route}: {route.verdict}: {route.reason}" for route in self.routes]
        if self.unreadable is not None:
            lines = [f"it fails: {self.unreadable}", *lines]
        return "\n".join([repr(self.record), *(f"  {line}" for line in lines or ["no routes"])])


def explain(
    table: RouteTable,
    record: Record | Undecodable,
    *,
    lane_of: Callable[[Record, Image], Hashable],
    show_data: bool = False,
) -> Explanation:
    """Explain what the table says about a record; ``App.explain`` has the other arguments.

    Args:
        lane_of: returns the lane of a record that some route takes; raises NonRetryable if none can
            be told, which fails the record.
    """
    if isinstance(record, Undecodable):
        return Explanation(record, unreadable=str(record.reason))
    routes = tuple(_Explainer(table, record, show_data).routes())
    if all(route.verdict is Verdict.NOT for route in routes):
        return Explanation(record, routes)
    try:
        lane_of(record, record.keys)
    except NonRetryable as error:
        return Explanation(record, routes, str(error))
    return Explanation(record, routes)


class _Explainer:
    """Explains one record."""

    def __init__(self, table: RouteTable, record: Record, show_data: bool) -> None:
        self._table = table
        self._record = record
        self._show_data = show_data
        matching, unclear = table.match(record)
        self._matching = set(matching)
        self._unclear = dict(unclear)
        self._first: dict[int, CompiledRoute] = {}  # group → the route that decided it

    def routes(self) -> Iterator[RouteExplanation]:
        for compiled in self._table.routes:
            yield self._route(compiled)
            is_first = compiled in self._matching or compiled in self._unclear
            if compiled.group is not None and is_first:
                self._first[compiled.group] = compiled

    def _route(self, compiled: CompiledRoute) -> RouteExplanation:
        if compiled in self._matching:
            reason = "all its filters are true" if compiled.filters else "it has no filter"
            if compiled.batching is not None and compiled.batching.latest_only:
                reason += "; a later record of the item in the same batch would supersede this one"
            return RouteExplanation(compiled.name, Verdict.RUNS, None, reason)
        error = self._unclear.get(compiled)
        verdict = Verdict.NOT if error is None else Verdict.UNCLEAR
        cause, reason, filters = self._against(compiled)
        return RouteExplanation(compiled.name, verdict, cause, reason, filters, error)

    def _against(self, compiled: CompiledRoute) -> tuple[Cause, str, tuple[Finding, ...]]:
        """Return what keeps a route that does not run from running."""
        route, record = compiled.route, self._record
        if record.event_name not in route.event_names:
            return Cause.EVENT, f"it takes {_listed(route.event_names)}", ()
        first = self._first.get(-1 if compiled.group is None else compiled.group)
        if first is not None:
            said = "was chosen" if first in self._matching else "might be meant"
            return Cause.GROUP, f"only the first match is called, and {first.name} {said}", ()
        try:
            option = compiled.excluded_by(record)
        except NonRetryable as error:
            cause = Cause.TABLE if route.table not in (None, record.table) else Cause.TTL
            return cause, str(error), ()
        if option == "table":
            return Cause.TABLE, f"it takes table {route.table!r}, not {record.table!r}", ()
        if option == "ttl":
            only = "only deletes" if route.ttl else "no deletes"
            path = None if record.is_ttl_delete else compiled.ttl_delete.path  # the mark will do
            found = "" if path is None else f": {self._value(path, compiled.ttl_delete)}"
            return Cause.TTL, f"it takes {only} by Time to Live{found}", ()
        filters = tuple(self._all(compiled.filters))
        return Cause.FILTER, _reason(filters), filters

    def _all(self, conditions: tuple[Filter, ...]) -> Iterator[Finding]:
        """Ask filters in order, until one does not say yes; the others are not asked."""
        is_decided = False
        for condition in conditions:
            finding = Finding(repr(condition)) if is_decided else self._ask(condition)
            yield finding
            is_decided = is_decided or finding.result is not True

    def _ask(self, node: Filter) -> Finding:
        text = repr(node)
        if isinstance(node, Combined):
            return self._combined(node, text)
        if isinstance(node, (Not, Shorthand)):
            inner = self._ask(node.part if isinstance(node, Not) else node.condition)
            same = inner.result if isinstance(node, Shorthand) else _inverted(inner.result)
            return Finding(text, same, parts=(inner,), error=inner.error)
        try:
            return Finding(text, node(self._record), self._found(node))
        except (KeyboardInterrupt, MemoryError):
            raise
        except BaseException as error:  # as the router does: a failure of this record only
            return Finding(text, error=self._told(error))

    def _combined(self, node: Combined, text: str) -> Finding:
        decisive = node.operator == "|"
        parts: list[Finding] = []
        end: Finding | None = None
        for part in node.parts:
            parts.append(Finding(repr(part)) if end else self._ask(part))
            if end is None and parts[-1].result in (decisive, None):
                end = parts[-1]
        result = not decisive if end is None else end.result
        return Finding(text, result, parts=tuple(parts), error=end.error if end else None)

    def _found(self, node: Filter) -> str:
        """Say what a filter read that has no parts."""
        if isinstance(node, Differs):
            return f"{self._value(node.other, node)}, {self._value(node.path, node)}"
        if not isinstance(node, Operation):
            return ""
        paths = [part for part in node.operands if isinstance(part, PathRef)]
        told = ", ".join(self._value(path, node) for path in (node.path, *paths))
        kind, kinds = _type_of(node.path.find(self._record, node)), sorted(_kinds(node))
        return told if not kinds or kind in (None, *kinds) else f"{told}, not {' or '.join(kinds)}"

    def _value(self, path: PathRef, node: Filter) -> str:
        value = path.find(self._record, node)
        if value is not MISSING:
            shown = f" {_shown(value)}" if self._show_data else ""
            return f"{path!r} is {_type_of(value) or 'malformed'}{shown}"
        if has_image(self._record.event_name, path.image):
            return f"{path!r} is missing"
        return f"{path!r} is missing: {self._record.event_name} has no {path.image} image"

    def _told(self, error: BaseException) -> str:
        if isinstance(error, _WITHOUT_DATA):
            return str(error)
        name = type(error).__name__
        return f"{name}: {error}".rstrip(": ") if self._show_data else name


def _kinds(node: Operation) -> set[str]:
    """Return the types of the values that an operator compares with; none where any will do."""
    constants = [part for part in node.operands if isinstance(part, Constant)]
    if node.operator in _COMPARISONS:
        return {constant.kind for constant in constants}
    if node.operator == "is_in":
        return {kind for constant in constants for kind, _ in constant.value}
    return set()


def _reason(filters: tuple[Finding, ...]) -> str:
    for finding in filters:
        if finding.result is not True:
            return _why(finding)
    return "its filters are true now, and were not: one of them does not always say the same"


def _why(finding: Finding) -> str:
    """Say what made a filter say what it said, by the smallest part that did."""
    if finding.error is not None:
        inner = next((part for part in finding.parts if part.error is not None), None)
        return _why(inner) if inner else f"{finding.text} raised {finding.error}"
    said = f"{finding.text} is {finding.said}"
    if not finding.parts:
        return f"{said}: {finding.found}" if finding.found else said
    asked = [part for part in finding.parts if part.result is not None]
    if len(finding.parts) > 1:  # combined: the last one decided, or all of them did together
        agreeing = [part for part in asked if part.result is finding.result]
        return " and ".join(map(_why, agreeing if len(agreeing) == len(asked) else asked[-1:]))
    (inner,) = finding.parts
    if inner.result is not finding.result:
        return _why(inner)  # ~(...)
    return f"{said}: {inner.found or _why(inner)}"


def _inverted(result: bool | None) -> bool | None:
    return None if result is None else not result


def _listed(names: frozenset[Any]) -> str:
    return " or ".join(sorted(names))


def _type_of(value: Any) -> str | None:
    """Return a value's type; None if there is no value, or one that DynamoDB does not have."""
    try:
        return None if value is MISSING else type_of(value)
    except MalformedValue:  # a filter may look past it: F.new.a.exists()
        return None


def _shown(value: Any) -> str:
    try:
        return printable(decode(value))
    except MalformedValue as error:
        return f"({error.reason})"
