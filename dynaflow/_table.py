"""Routes, compiled: frozen, in order of registration, sorted by event name."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from dynaflow._attempt import InThread
from dynaflow._batches import Prepare, batch_reader, build_prepare
from dynaflow._binding import context_reader, record_reader
from dynaflow._dependencies import AppValues, Dependency, Needs, Overrides, shared_by
from dynaflow._expiry import TTLDelete
from dynaflow._invocation import HandlerCall, build_call
from dynaflow._on_error import judged
from dynaflow._paths import PathRef
from dynaflow._route import Batching
from dynaflow._signature import handler_name
from dynaflow.context import HandlerContext
from dynaflow.errors import MalformedRecord, RegistrationError
from dynaflow.middleware import Call, Middleware, Process, compose
from dynaflow.record import EventName, Record
from dynaflow.routing import Route

__all__ = ["CompileContext", "CompiledRoute", "RouteTable", "ttl_delete"]


@dataclass(frozen=True, slots=True)
class CompileContext:
    """What compiled routes have of their App.

    Args:
        middleware: around all of them, outermost first.
        in_thread: runs what is sync in a call that has async parts.
        app_values: where dependencies of scope "app" are read.
    """

    middleware: Sequence[Middleware]
    in_thread: InThread
    app_values: AppValues


class CompiledRoute:
    """A route with everything that can be worked out before its first record.

    ``process`` is the composed chain: middleware around the handler and its dependencies. A route
    is sync, and may run in a worker thread without a loop, if its handler and all of its
    dependencies are and no middleware wraps it; ``call`` then runs it. One that returns an
    awaitable nevertheless is known as async from then on.
    """

    __slots__ = (
        "after_deliveries",
        "batching",
        "call",
        "filters",
        "group",
        "handler",
        "is_sync",
        "name",
        "needs",
        "number",
        "prepare",
        "process",
        "retry",
        "route",
        "timeout",
        "ttl_delete",
    )

    def __init__(
        self, route: Route, number: int, context: CompileContext, overrides: Overrides
    ) -> None:
        self.number = number
        self.name = route.name
        self.group = route.group
        self.retry = route.retry
        self.timeout = route.timeout
        self.after_deliveries = route.after_deliveries
        self.filters = route.filters
        self.ttl_delete = ttl_delete(route)
        self.handler = route.handler
        handler_call = _handler_call(route, context, overrides)
        chain = (*context.middleware, *route.middleware)
        self.needs: Needs = handler_call.needs
        _refuse_second(route, self.needs)
        self.batching = _batching(route, self.needs)
        self.route = replace(route, batching=self.batching)
        self.is_sync = handler_call.is_sync and not chain
        self.call: Callable[[Call], Any] = handler_call.here
        self.process: Process = compose(chain, handler_call.on_loop)
        self.prepare = None if route.batching is None else _prepare(route)

    def judged(self, error: BaseException, context: HandlerContext) -> BaseException:
        """Return what counts as the call's error, as the route's routers see it."""
        maps = self.route.on_error
        return judged(maps, error, context) if maps else error

    def matches(self, record: Record) -> bool:
        """Return True if the record is for this route.

        Raises:
            NonRetryable: a value or an image that a filter reads cannot be read.
            Exception: whatever a callable filter raises.
        """
        return self.excluded_by(record) is None and all(
            condition(record) for condition in self.filters
        )

    def excluded_by(self, record: Record) -> Literal["table", "ttl"] | None:
        """Return which option says no to the record, before any filter is asked; None if none does.

        Raises:
            NonRetryable: the record does not say of which table it is, or when it was to expire
                cannot be read.
        """
        route = self.route
        if route.table is not None and route.table != record.table:
            if record.table is None:
                raise MalformedRecord(
                    "the record has no eventSourceARN, so whether it is of table "
                    f"{route.table!r} cannot be told"
                )
            return "table"
        if route.ttl is not None and route.ttl != self.ttl_delete(record):
            return "ttl"
        return None


def _batching(route: Route, needs: Needs) -> Batching | None:
    """Return how changes come together in one call, of which a dependency may limit the number."""
    if route.batching is None:
        return None
    limits = (getattr(step.function, "max_records", None) for step in needs.steps)
    most = min((route.batching.max_items, *(limit for limit in limits if isinstance(limit, int))))
    return replace(route.batching, max_items=most)


def _refuse_second(route: Route, needs: Needs) -> None:
    """Refuse two dependencies of which a call can have one only."""
    seen = set[str]()
    for step in needs.steps:
        what = getattr(step.function, "one_per_call", None)
        if not isinstance(what, str):
            continue
        if what in seen:
            raise RegistrationError(
                f"{handler_name(route.handler)} and its dependencies ask for {what} twice, from "
                f"two {step.name}(...), and a call has one. Give it a name, and use that "
                "everywhere: Tx = Annotated[Transaction, Depends(transactions)]"
            )
        seen.add(what)


def _prepare(route: Route) -> Prepare | None:
    return build_prepare(route.handler, route.name, skip_invalid=route.on_invalid == "skip")


def _handler_call(route: Route, context: CompileContext, overrides: Overrides) -> HandlerCall:
    if route.batching is None:
        read = record_reader(
            route=route.name,
            event_names=route.event_names,
            skip_invalid=route.on_invalid == "skip",
        )
        own = None
    else:
        read, own = context_reader, batch_reader(route.handler)
    return build_call(
        route.handler,
        read=read,
        in_thread=context.in_thread,
        app_values=context.app_values,
        own=own,
        overrides=overrides,
    )


class RouteTable:
    """All compiled routes; says which of them a record is for.

    ``shared`` are their dependencies of scope "app", in the order in which they open.
    """

    def __init__(self, routes: Sequence[CompiledRoute], context: CompileContext) -> None:
        self.routes = tuple(routes)
        self._context = context
        self.shared: tuple[Dependency, ...] = shared_by(route.needs for route in routes)
        self._by_event: dict[EventName, tuple[CompiledRoute, ...]] = {
            name: tuple(r for r in routes if name in r.route.event_names) for name in EventName
        }
        self.has_latest_only = any(
            route.batching is not None and route.batching.latest_only for route in routes
        )

    @property
    def middleware(self) -> Sequence[Middleware]:
        """What is around all of them, outermost first."""
        return self._context.middleware

    @property
    def declared(self) -> dict[Hashable, Callable[..., Any]]:
        """Every function that ``Depends`` names, by identity."""
        return {
            key: depends.dependency
            for route in self.routes
            for key, depends in route.needs.declared.items()
        }

    def overridden(self, overrides: Overrides) -> RouteTable:
        """Return the same routes with other functions in place of some dependencies.

        Raises:
            RegistrationError: a replacement that cannot work.
        """
        if not overrides:
            return self
        routes = [
            route
            if route.needs.declared.keys().isdisjoint(overrides)
            else CompiledRoute(route.route, route.number, self._context, overrides)
            for route in self.routes
        ]
        return RouteTable(routes, self._context)

    def named(self, name: str, event_name: EventName) -> CompiledRoute | None:
        """Return the route of this name that takes such an event; None if there is none."""
        for route in self._by_event[event_name]:
            if route.name == name:
                return route
        return None

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


def ttl_delete(route: Route) -> TTLDelete:
    """Return the filter that knows the Time to Live deletes of a route."""
    attribute = route.ttl_attribute
    return TTLDelete(None if attribute is None else PathRef("old", (attribute,)))
