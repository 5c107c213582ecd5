"""Routes → their table, once, when an App is made; and every mistake that shows only there."""

from __future__ import annotations

from collections.abc import Sequence

from dynaflow._attempt import InThread
from dynaflow._batches import changed_fields
from dynaflow._binding import model_fields
from dynaflow._conditions import Combined, Differs, Filter, Not, Operation, Shorthand
from dynaflow._dependencies import AppValues
from dynaflow._expiry import TTLDelete
from dynaflow._route import Route
from dynaflow._signature import handler_name
from dynaflow._table import CompileContext, CompiledRoute, RouteTable, ttl_delete
from dynaflow.errors import RegistrationError
from dynaflow.middleware import Middleware
from dynaflow.record import EventName

__all__ = ["compile_routes", "edits"]


def compile_routes(
    routes: Sequence[Route],
    *,
    middleware: Sequence[Middleware],
    in_thread: InThread,
    app_values: AppValues,
    has_dead_letters: bool,
) -> RouteTable:
    """Compile routes for an App; see ``CompileContext``.

    Raises:
        RegistrationError: two routes that could not be told apart, a handler or a dependency whose
            annotations cannot work, a filter that names an attribute the handler's model does not
            have, or filters that read an image which no item has at the route's events.
    """
    _refuse_equal_names(routes)
    if not has_dead_letters:
        _refuse_dead_letters(routes)
    context = CompileContext(middleware, in_thread, app_values)
    compiled: list[CompiledRoute] = []
    for route in routes:
        compiled.append(CompiledRoute(route, len(compiled), context, {}))
        _refuse_misspelt(route)
        _refuse_never_true(route)
    return RouteTable(compiled, context)


def _refuse_equal_names(routes: Sequence[Route]) -> None:
    seen: dict[str, list[Route]] = {}
    for route in routes:
        for other in seen.setdefault(route.name, []):
            if _overlap(route, other):
                raise RegistrationError(
                    f"two routes are named {route.name!r} and take the same events. A name is an "
                    "identity: give one of them another with name=..., or remove the repeated one."
                )
        seen[route.name].append(route)


def _refuse_dead_letters(routes: Sequence[Route]) -> None:
    for route in routes:
        if route.on_invalid == "dead_letter":
            raise RegistrationError(
                f"on_invalid='dead_letter' of {route.name} needs a place where dead letters go: "
                "write App(dead_letter=...), for example dead_letter=JsonLines('given-up.jsonl')"
            )
        if route.after_deliveries is not None:
            raise RegistrationError(
                f"after_deliveries={route.after_deliveries} of {route.name} says when a record "
                "goes into a dead letter, and there is no place for it: write "
                "App(dead_letter=...), for example dead_letter=JsonLines('given-up.jsonl')"
            )


def _overlap(one: Route, other: Route) -> bool:
    """Return True if there may be a record that both routes take, whatever their filters say."""
    tables = {one.table, other.table}
    return (
        not one.event_names.isdisjoint(other.event_names)
        and (len(tables) == 1 or None in tables)
        and not _are_complements(one, other)
    )


def _are_complements(one: Route, other: Route) -> bool:
    """Return True if what one takes as Time to Live deletes, the other leaves out."""
    if {one.ttl, other.ttl} != {True, False}:
        return False
    expired, rest = (one, other) if one.ttl else (other, one)
    return expired.ttl_attribute in (None, rest.ttl_attribute)


def _refuse_misspelt(route: Route) -> None:
    fields = (
        model_fields(route.handler) if route.batching is None else changed_fields(route.handler)
    )
    known = frozenset().union(*fields.values())
    for condition in (*route.filters, ttl_delete(route)):
        _check_spelling(condition, known, route)


def _check_spelling(condition: Filter, known: frozenset[str], route: Route) -> None:
    is_ttl = isinstance(condition, TTLDelete)
    for path in condition.paths():
        name = path.segments[0] if path.segments else None
        if not isinstance(name, str) or name in known or path.quoted:
            continue
        for field in sorted(known):
            if edits(name, field) <= min(2, (len(field) - 1) // 2):
                remedy = (
                    "An attribute that the model leaves out has to be a field of it here."
                    if is_ttl
                    else f"An attribute that the model leaves out is written "
                    f"F.{path.image}[{name!r}]."
                )
                raise RegistrationError(
                    f"the filter {condition!r} of {handler_name(route.handler)} reads {name!r}, "
                    f"and its model has no such field. Did you mean {field!r}? {remedy}"
                )


def _refuse_never_true(route: Route) -> None:
    """Refuse filters that are false at each of the route's events, whatever the item holds."""
    false = {
        event: next((f for f in route.filters if _constant(f, event) is False), None)
        for event in sorted(route.event_names)
    }
    if None in false.values():
        return
    raise RegistrationError(
        f"the filter {next(iter(false.values()))!r} of {handler_name(route.handler)} is never true "
        f"on {' or '.join(false)}: {_MISSING[tuple(false)]}"
    )


_MISSING = {
    ("INSERT",): "a new item has no old image. Read F.new, or register the handler for MODIFY or "
    "REMOVE, which have one.",
    ("REMOVE",): "a deleted item has no new image. Read F.old, or register the handler for INSERT "
    "or MODIFY, which have one.",
    ("INSERT", "REMOVE"): "a new item has no old image, and a deleted one no new one. Register the "
    "handler for MODIFY, which has both.",
}
"""Why, and what to write instead, by the events at which a filter is false."""


def _constant(condition: Filter | None, event: EventName) -> bool | None:
    """Return what a filter always is at an event, for want of an image; None if it depends."""
    if isinstance(condition, Shorthand):
        return _constant(condition.condition, event)
    if isinstance(condition, Not):
        part = _constant(condition.part, event)
        return None if part is None else not part
    if isinstance(condition, Combined):
        parts = {_constant(part, event) for part in condition.parts}
        decides = condition.operator == "|"
        return decides if decides in parts else None if None in parts else not decides
    return condition.without_image(event) if isinstance(condition, (Operation, Differs)) else None


def edits(a: str, b: str) -> int:
    """Return how many letters must be inserted, deleted or replaced to make one text the other."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]
