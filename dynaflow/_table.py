"""Routes, compiled: frozen, in order of registration, sorted by event name."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from dynaflow._batches import Prepare, build_batch_binder, build_prepare
from dynaflow._binding import Binder, build_binder, handler_name, is_async, model_fields
from dynaflow.errors import MalformedRecord, RegistrationError
from dynaflow.filters import Filter
from dynaflow.middleware import Call, Middleware, Process, compose
from dynaflow.record import EventName, Record
from dynaflow.routing import Route

__all__ = ["CompiledRoute", "InThread", "RouteTable", "compile_routes"]

InThread: TypeAlias = Callable[[Call, Callable[[], Any]], Awaitable[Any]]
"""Calls a function in a worker thread on behalf of a call, and returns what it returned."""


class CompiledRoute:
    """A route with everything that can be worked out before its first record.

    ``process`` is the composed chain: middleware around binder and handler. A route is sync, and
    may run in a worker thread without a loop, if its handler is and no middleware wraps it; one
    that returns an awaitable nevertheless is known as async from then on.
    """

    __slots__ = (
        "batching",
        "binder",
        "filters",
        "group",
        "handler",
        "is_sync",
        "name",
        "number",
        "prepare",
        "process",
        "route",
    )

    def __init__(
        self, route: Route, number: int, middleware: Sequence[Middleware], in_thread: InThread
    ) -> None:
        self.route = route
        self.number = number
        self.batching = route.batching
        self.name = route.name
        self.group = route.group
        self.filters = route.filters
        self.handler = route.handler
        if route.batching is None:
            self.prepare: Prepare | None = None
            self.binder: Binder = build_binder(
                route.handler, route=route.name, event_names=route.event_names
            )
        else:
            self.prepare = build_prepare(route.handler, route=route.name)
            self.binder = build_batch_binder(route.handler)
        chain = (*middleware, *route.middleware)
        self.is_sync = not is_async(route.handler) and not chain
        self.process: Process = compose(chain, self._endpoint(in_thread))

    def call(self, call: Call) -> Any:
        """Call the handler here and now; return what it returned."""
        return self.handler(**self.binder(call.context))

    def matches(self, record: Record) -> bool:
        """Return True if the record is for this route.

        Raises:
            NonRetryable: a value or an image that a filter reads cannot be read.
            Exception: whatever a callable filter raises.
        """
        route = self.route
        if route.table is not None and route.table != record.table:
            if record.table is None:
                raise MalformedRecord(
                    "the record has no eventSourceARN, so whether it is of table "
                    f"{route.table!r} cannot be told"
                )
            return False
        if route.ttl is not None and route.ttl != record.is_ttl_delete:
            return False
        return all(condition(record) for condition in self.filters)

    def _endpoint(self, in_thread: InThread) -> Process:
        if is_async(self.handler):

            async def endpoint(call: Call) -> None:
                result = self.call(call)
                if inspect.isawaitable(result):
                    await result

        else:

            async def endpoint(call: Call) -> None:
                result = await in_thread(call, lambda: self.call(call))
                if inspect.isawaitable(result):
                    await result

        return endpoint


class RouteTable:
    """All compiled routes; says which of them a record is for."""

    def __init__(self, routes: Sequence[CompiledRoute]) -> None:
        self.routes = tuple(routes)
        self._by_event: dict[EventName, tuple[CompiledRoute, ...]] = {
            name: tuple(r for r in routes if name in r.route.event_names) for name in EventName
        }
        self.has_latest_only = any(
            route.batching is not None and route.batching.latest_only for route in routes
        )

    def match(
        self, record: Record
    ) -> tuple[list[CompiledRoute], list[tuple[CompiledRoute, BaseException]]]:
        """Return the routes for a record in order of registration, and those that could not tell.

        Of alternatives (``match="first"``) only the first is returned; where one of them could not
        tell, those behind it are left out, because they might not be meant.
        """
        matching: list[CompiledRoute] = []
        unclear: list[tuple[CompiledRoute, BaseException]] = []
        decided: set[int] = set()
        for route in self._by_event[record.event_name]:
            if route.group is not None and route.group in decided:
                continue
            try:
                if not route.matches(record):
                    continue
                matching.append(route)
            except (KeyboardInterrupt, MemoryError):
                raise
            except BaseException as error:  # a filter's SystemExit is a failure of this record only
                unclear.append((route, error))
            if route.group is not None:
                decided.add(route.group)
        return matching, unclear


def compile_routes(
    routes: Sequence[Route], *, middleware: Sequence[Middleware], in_thread: InThread
) -> RouteTable:
    """Compile routes for an App whose middleware stands around all of them.

    Raises:
        RegistrationError: two routes that could not be told apart, a handler whose annotations
            cannot work, or a filter that names an attribute the handler's model does not have.
    """
    _refuse_equal_names(routes)
    compiled: list[CompiledRoute] = []
    for route in routes:
        compiled.append(CompiledRoute(route, len(compiled), middleware, in_thread))
        _refuse_misspelt(route)
    return RouteTable(compiled)


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


def _overlap(one: Route, other: Route) -> bool:
    """Return True if there may be a record that both routes take, whatever their filters say."""
    tables = {one.table, other.table}
    return (
        not one.event_names.isdisjoint(other.event_names)
        and (len(tables) == 1 or None in tables)
        and {one.ttl, other.ttl} != {True, False}
    )


def _refuse_misspelt(route: Route) -> None:
    fields = model_fields(route.handler)
    known = frozenset().union(*fields.values())
    for condition in route.filters:
        _check_spelling(condition, known, route)


def _check_spelling(condition: Filter, known: frozenset[str], route: Route) -> None:
    for path in condition.paths():
        name = path.segments[0] if path.segments else None
        if not isinstance(name, str) or name in known or path.quoted:
            continue
        for field in sorted(known):
            if _edits(name, field) <= min(2, (len(field) - 1) // 2):
                raise RegistrationError(
                    f"the filter {condition!r} of {handler_name(route.handler)} reads {name!r}, "
                    f"and its model has no such field. Did you mean {field!r}? "
                    f"An attribute that the model leaves out is written F.{path.image}[{name!r}]."
                )


def _edits(a: str, b: str) -> int:
    """Return how many letters must be inserted, deleted or replaced to make one text the other."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]
