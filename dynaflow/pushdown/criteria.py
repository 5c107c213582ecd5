"""Filters → FilterCriteria, so that Lambda is not invoked for records that no route takes.

Sound always: if a route would run for a record, or fail it, one of the patterns matches. They may
match more; what they cannot say, and why, is reported. Limits: AWS Lambda Developer Guide, "Lambda
quotas" and "Control which events Lambda sends to your function".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from dynaflow._conditions import Filter, Not
from dynaflow._paths import VIEW_TYPES, ImageName, has_image, view_types_without
from dynaflow._route import Route, tables_of
from dynaflow._table import ttl_delete
from dynaflow.errors import DynaflowError
from dynaflow.pushdown.alternative import Alternative, merged
from dynaflow.pushdown.compiler import alternatives
from dynaflow.pushdown.fitting import Given, fitted
from dynaflow.pushdown.pattern import Pattern, parsed
from dynaflow.pushdown.rules import Rule
from dynaflow.record import EventName

__all__ = [
    "MOST_PATTERNS",
    "VIEW_TYPE",
    "Pushdown",
    "Pushed",
    "RoutePushdown",
    "push_down",
]

MOST_PATTERNS: Final = 5
"""Patterns that an event source mapping takes; 10 after a request for a higher quota."""

VIEW_TYPE: Final = ("dynamodb", "StreamViewType")
"""The field by which a stream tells which images it carries."""

_MOST_BY_QUOTA: Final = 10
_EVERY: Final = Pattern(frozenset(EventName), {})


class Pushed(StrEnum):
    """How much of a route's filters the patterns say."""

    EXACTLY = "exactly"
    """They match what the route takes, and nothing else for its sake."""
    WIDENED = "widened"
    """They leave out some of what the route does not take."""
    NOT = "not"
    """They leave out nothing that the filters do; at most the event is told."""
    NEVER = "never"
    """The route's filters are never true, so it needs no record."""


@dataclass(frozen=True, slots=True)
class RoutePushdown:
    """What the patterns say of one route.

    Args:
        route: its name.
        pushed: how much of its filters.
        reasons: why not all of it.
        wanted: what it needs by itself, before the routes' patterns come together.
    """

    route: str
    pushed: Pushed
    reasons: tuple[str, ...] = ()
    wanted: tuple[Pattern, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Pushdown:
    """The patterns for an event source mapping, and how exact they are.

    Args:
        given: the patterns; none at all means no filter.
        routes: what they say of each route, in order of registration.
        widenings: what was given up so that they fit, or for somebody who wants every record.
    """

    given: tuple[Pattern, ...]
    routes: tuple[RoutePushdown, ...]
    widenings: tuple[str, ...] = ()

    @property
    def patterns(self) -> list[dict[str, Any]]:
        """The patterns as objects, as FilterCriteria write them."""
        return [pattern.to_dict() for pattern in self.given]

    def filter_criteria(self) -> dict[str, Any]:
        """Return what ``CreateEventSourceMapping`` takes as FilterCriteria; ``{}`` is no filter."""
        if not self.given:
            return {}
        return {"Filters": [{"Pattern": pattern.to_json()} for pattern in self.given]}

    def not_covered_by(self, filter_criteria: Mapping[str, Any] | None) -> list[str]:
        """Return the routes that may miss records if a mapping has these FilterCriteria.

        A route is named, too, if its filters cannot be compared with patterns written by others; a
        pattern that cannot be read covers nothing. Records that fail because their stream lacks an
        image are not asked about.

        Args:
            filter_criteria: as ``GetEventSourceMapping`` returns them; None or empty for no filter.
        """
        filters = (filter_criteria or {}).get("Filters") or []
        if not filters:
            return []
        live = list[Pattern]()
        for entry in filters:
            with suppress(ValueError):
                live.append(parsed(entry.get("Pattern") or "{}"))
        return [route.route for route in self.routes if not _cover(live, route.wanted)]

    def covers(self, live: Iterable[Pattern]) -> bool:
        """Return True if it is certain that what other patterns match, one of these does, too."""
        return _cover(self.given, live)


def _cover(wide: Sequence[Pattern], narrow: Iterable[Pattern]) -> bool:
    """Return True if it is certain that at each event the ones match what the others do."""
    # One that others wrote may not say its events in a way that is understood.
    parts = (part for pattern in narrow for part in (*pattern.by_event(),) or (pattern,))
    return all(any(one.covers(part) for one in wide) for part in parts)


def push_down(
    routes: Iterable[Route],
    *,
    table: str | None = None,
    view_type: str | None = None,
    max_patterns: int = MOST_PATTERNS,
    wants_unmatched: bool = False,
    from_kinesis: bool = False,
) -> Pushdown:
    """Compile the filters of routes; ``App.pushdown`` says more.

    Args:
        routes: as the App calls them.
        table: whose stream; routes of others are left out.
        view_type: what the stream carries; None for any.
        max_patterns: how many patterns the mapping takes.
        wants_unmatched: whether records that no route takes must be seen, too.
        from_kinesis: whether the mapping reads a Kinesis stream.

    Raises:
        DynaflowError: no route takes records of the table, or an argument cannot be.
    """
    if not isinstance(max_patterns, int) or not 1 <= max_patterns <= _MOST_BY_QUOTA:
        raise DynaflowError(
            f"max_patterns={max_patterns!r}: a mapping takes {MOST_PATTERNS} patterns, or up to "
            f"{_MOST_BY_QUOTA} after a request for a higher quota"
        )
    if view_type is not None and view_type not in VIEW_TYPES:
        raise DynaflowError(f"view_type={view_type!r} is unknown: write {', '.join(VIEW_TYPES)}")
    wants = [_want(route, view_type) for route in _of_table(tuple(routes), table)]
    if from_kinesis:
        return _unfiltered(wants, "within a Kinesis record these patterns find nothing")
    if wants_unmatched:
        return _unfiltered(wants, "App(unmatched='fail') has to see what no route takes")
    if not any(want.alternatives for want in wants):
        return _unfiltered(wants, "the filters of all routes are never true")
    wanted = [
        Given(alternative.pattern, frozenset({want.route.name}))
        for want in wants
        for alternative in want.alternatives
    ]
    given = fitted(wanted, None if view_type is not None else _guard(wants), max_patterns)
    catch_all = next((one for one in given if one.pattern.is_catch_all), None)
    if catch_all is not None and not catch_all.texts(max_patterns):
        return _unfiltered(wants, f"{min(catch_all.routes)} has to see every record")
    if catch_all is not None:
        return _unfiltered(wants, f"not even {max_patterns} patterns leave anything out")
    told = tuple(_told(want, given, max_patterns) for want in wants)
    texts = (text for one in given for text in one.texts(max_patterns))
    return Pushdown(tuple(one.pattern for one in given), told, tuple(dict.fromkeys(texts)))


@dataclass(frozen=True, slots=True)
class _Want:
    """What a route wants by itself."""

    route: Route
    alternatives: tuple[Alternative, ...]


def _of_table(routes: Sequence[Route], table: str | None) -> list[Route]:
    chosen = [route for route in routes if route.is_for(table)]
    if not chosen:
        known = sorted(tables_of(routes))
        raise DynaflowError(
            f"no route takes records of table {table!r}: those of the App take {', '.join(known)}"
            if known
            else "the App has no route, so that there is nothing to filter for"
        )
    return chosen


def _want(route: Route, view_type: str | None) -> _Want:
    if route.batching is not None and route.batching.latest_only:
        reason = "latest_only has to see every later change of an item, also those it does not take"
        return _Want(route, (Alternative(_EVERY, (reason,)),))
    found: list[Alternative] = []
    conditions = _conditions(route)
    for event in EventName:
        if event not in route.event_names:
            continue
        missing = [i for i in _images(conditions, event) if view_type in view_types_without(i)]
        if missing:
            reason = f"on {event} the stream does not carry the {missing[0]} image that is read"
            found.append(Alternative(Pattern(frozenset({event}), {}), (reason,)))
        else:
            found.extend(alternatives(conditions, event))
    return _Want(route, tuple(merged(found)))


def _conditions(route: Route) -> tuple[Filter, ...]:
    """Return what is asked about a record, in order, once its event and table are right."""
    if route.ttl is None:
        return route.filters
    ttl = ttl_delete(route)
    return (ttl if route.ttl else Not(ttl), *route.filters)


def _images(conditions: Sequence[Filter], event: EventName) -> list[ImageName]:
    """Return the images that are read and that an item has at the event, keys left out."""
    read = {path.image for condition in conditions for path in condition.paths()}
    return [image for image in ("new", "old") if image in read and has_image(event, image)]


def _guard(wants: Sequence[_Want]) -> Pattern | None:
    """Return the pattern for records that fail because their stream lacks an image.

    They must be seen, so that somebody learns of it. On a stream that has the images it matches
    nothing.
    """
    events, view_types = set[EventName](), set[str]()
    for want in wants:
        conditions = _conditions(want.route)
        for event in want.route.event_names:
            for image in _images(conditions, event):
                events.add(event)
                view_types.update(view_types_without(image))
    if not events:
        return None
    rules = frozenset(Rule("is", view_type) for view_type in view_types)
    return Pattern(frozenset(events), {VIEW_TYPE: rules})


def _unfiltered(wants: Sequence[_Want], reason: str) -> Pushdown:
    """Return that there is no filter, and that no route's filters are told therefore."""
    routes = []
    for want in wants:
        told = _told(want, (), MOST_PATTERNS)
        takes_all = told.pushed is Pushed.EXACTLY and any(p.is_catch_all for p in told.wanted)
        if told.pushed is not Pushed.NEVER and not takes_all:
            told = replace(told, pushed=Pushed.NOT, reasons=(*told.reasons, reason))
        routes.append(told)
    return Pushdown((), tuple(routes), (reason,))


def _told(want: _Want, given: Sequence[Given], most: int) -> RoutePushdown:
    """Say how much of a route's filters its patterns say, and those that the mapping gets."""
    name = want.route.name
    patterns = tuple(alternative.pattern for alternative in want.alternatives)
    if not patterns:
        events = " or ".join(sorted(want.route.event_names))
        return RoutePushdown(name, Pushed.NEVER, (f"its filters are never true on {events}",))
    own = [reason for alternative in want.alternatives for reason in alternative.left_out]
    meant = [one for one in given if name in one.routes]
    widened = [text for one in meant for text in one.texts(most)]
    reasons = tuple(dict.fromkeys((*own, *widened)))
    if not reasons:
        return RoutePushdown(name, Pushed.EXACTLY, (), patterns)
    told = patterns if not widened else [one.pattern for one in meant]
    says_nothing = not any(pattern.fields for pattern in told)
    return RoutePushdown(name, Pushed.NOT if says_nothing else Pushed.WIDENED, reasons, patterns)
