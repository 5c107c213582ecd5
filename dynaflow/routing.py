"""What the user declares: routers and their routes. Data only; running is elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, TypedDict, TypeVar, Unpack

from dynaflow._binding import check_signature
from dynaflow._checks import (
    Condition,
    checked_conditions,
    checked_events,
    checked_filters,
    checked_middleware,
    checked_name,
    checked_on_invalid,
    checked_table,
    checked_ttl,
    checked_ttl_attribute,
    name_of,
    same_table,
)
from dynaflow.errors import RegistrationError
from dynaflow.filters import Filter
from dynaflow.middleware import Middleware
from dynaflow.record import EventName

__all__ = [
    "Batching",
    "Condition",
    "Match",
    "OnInvalid",
    "Route",
    "RouteOptions",
    "Router",
    "flatten",
]

Match: TypeAlias = Literal["all", "first"]
OnInvalid: TypeAlias = Literal["fail", "skip", "dead_letter"]
H = TypeVar("H", bound=Callable[..., Any])


class RouteOptions(TypedDict, total=False):
    """The options that every verb takes.

    Keys:
        table: the only table whose records the route takes.
        name: the route's identity; import path and qualified name of the handler by default.
        middleware: around its calls, outermost first, inside the router's and the app's.
        on_invalid: what becomes of a record whose image the handler's model does not accept:
            "fail" fails it; "skip" leaves it alone: done, counted apart, with a warning in the log.
            None takes the router's, which is "fail" if none says otherwise.
    """

    table: str | None
    name: str | None
    middleware: Sequence[Middleware]
    on_invalid: OnInvalid | None


@dataclass(frozen=True, slots=True)
class Batching:
    """How the changes of a batch route come together in one call.

    Args:
        max_items: how many changes a call has at most.
        max_bytes: how large they are at most, as DynamoDB counts records; one that is larger comes
            alone. None for any size.
        latest_only: whether only the last record of each item in a batch is passed.
    """

    max_items: int = 100
    max_bytes: int | None = None
    latest_only: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """One handler and the records that it is for.

    Args:
        name: the route's identity.
        event_names: which changes it takes.
        handler: the user's callable, unchanged.
        filters: all of them must be true.
        table: the only table it takes; None for any.
        ttl: True for Time to Live deletes only, False for all but these, None for both.
        ttl_attribute: the attribute that says when an item expires, in seconds since the epoch. A
            REMOVE of an item that had expired is a Time to Live delete, too, even without its mark.
        middleware: around its calls, outermost first.
        on_invalid: "fail" or "skip"; None before its router's is known.
        group: routes that share one are alternatives: only the first that matches is called.
        batching: how changes come together in one call; None for one call with each record.
    """

    name: str
    event_names: frozenset[EventName]
    handler: Callable[..., Any]
    filters: tuple[Filter, ...] = ()
    table: str | None = None
    ttl: bool | None = None
    ttl_attribute: str | None = None
    middleware: tuple[Middleware, ...] = ()
    on_invalid: OnInvalid | None = None
    group: int | None = None
    batching: Batching | None = None


class Router:
    """Collects routes. A decorator appends a route and returns the function unchanged.

    Args:
        when: a filter, or several, that every route of this router has in addition.
        table: the only table whose records these routes take; None for any.
        match: "all" calls every matching route of a record; "first" only the first one in order
            of registration, routes of included routers among them.
        middleware: around the calls of these routes, outermost first.
        on_invalid: as for a route, for those that do not say it themselves; the nearest router
            counts.

    Raises:
        RegistrationError: an option that cannot work.
    """

    def __init__(
        self,
        *,
        when: Condition | Iterable[Condition] = (),
        table: str | None = None,
        match: Match = "all",
        middleware: Sequence[Middleware] = (),
        on_invalid: OnInvalid | None = None,
    ) -> None:
        if match not in ("all", "first"):
            raise RegistrationError(
                f"match={match!r} is unknown: write match='all' or match='first'"
            )
        self._table = checked_table(table, "Router(table=...)")
        self._match = match
        self._when = checked_conditions(when, "Router(when=...)")
        self._middleware = checked_middleware(middleware, "Router(middleware=...)")
        self._on_invalid = checked_on_invalid(on_invalid, "Router(...)")
        self._entries: list[Route | Router] = []
        self._unapplied: dict[object, str] = {}
        self._frozen = False

    def on_insert(self, *filters: Condition, **options: Unpack[RouteOptions]) -> Callable[[H], H]:
        """Register the decorated handler for new items."""
        return self._decorator("on_insert", ("INSERT",), filters, options)

    def on_modify(self, *filters: Condition, **options: Unpack[RouteOptions]) -> Callable[[H], H]:
        """Register the decorated handler for changed items."""
        return self._decorator("on_modify", ("MODIFY",), filters, options)

    def on_remove(
        self,
        *filters: Condition,
        ttl: bool | None = None,
        ttl_attribute: str | None = None,
        **options: Unpack[RouteOptions],
    ) -> Callable[[H], H]:
        """Register the decorated handler for deleted items.

        Args:
            filters: all of them must be true.
            ttl: True for Time to Live deletes only, False for all but these, None for both.
            ttl_attribute: the attribute that says when an item expires, in seconds since the epoch.
                Deletes of items that had expired then count as Time to Live deletes, too: in the
                replicas of a global table these carry no mark.
            options: see ``RouteOptions``.
        """
        expiry = (ttl, ttl_attribute)
        return self._decorator("on_remove", ("REMOVE",), filters, options, expiry=expiry)

    def on_expire(
        self,
        *filters: Condition,
        ttl_attribute: str | None = None,
        **options: Unpack[RouteOptions],
    ) -> Callable[[H], H]:
        """Register the decorated handler for Time to Live deletes (``on_remove(ttl=True)``).

        Args:
            filters: all of them must be true.
            ttl_attribute: as for ``on_remove``.
            options: see ``RouteOptions``.
        """
        expiry = (True, ttl_attribute)
        return self._decorator("on_expire", ("REMOVE",), filters, options, expiry=expiry)

    def on_upsert(self, *filters: Condition, **options: Unpack[RouteOptions]) -> Callable[[H], H]:
        """Register the decorated handler for new and changed items."""
        return self._decorator("on_upsert", ("INSERT", "MODIFY"), filters, options)

    def on_any(self, *filters: Condition, **options: Unpack[RouteOptions]) -> Callable[[H], H]:
        """Register the decorated handler for every change."""
        return self._decorator("on_any", tuple(EventName), filters, options)

    def on(
        self,
        *names: str,
        when: Condition | Iterable[Condition] = (),
        **options: Unpack[RouteOptions],
    ) -> Callable[[H], H]:
        """Register the decorated handler for the named events, e.g. ``on("INSERT", "REMOVE")``.

        Args:
            names: INSERT, MODIFY, REMOVE.
            when: a filter, or several.
            options: see ``RouteOptions``.
        """
        return self._decorator("on", names, checked_conditions(when, "on(when=...)"), options)

    def on_batch(
        self,
        *names: str,
        when: Condition | Iterable[Condition] = (),
        max_items: int = 100,
        max_bytes: int | None = None,
        latest_only: bool = False,
        **options: Unpack[RouteOptions],
    ) -> Callable[[H], H]:
        """Register the decorated handler for many changes in one call.

        It takes ``changes: list[Change[Order]]`` or ``records: list[Record]``. It is called when
        the other routes of the batch are done, in stream order, chunk after chunk; what they failed
        is left out. If it raises, none of the call's records is done; ``PartialFailure`` names
        those that are not.

        Args:
            names: INSERT, MODIFY, REMOVE; all three if none is named.
            when: a filter, or several.
            max_items: how many changes a call has at most.
            max_bytes: how large they are together, at most, as DynamoDB counts the size of records;
                one that is larger comes alone. None for any size.
            latest_only: whether only each item's last record of the batch is passed, if it matches;
                the earlier ones are done with it.
            options: see ``RouteOptions``.
        """
        batching = checked_batching(max_items, max_bytes, latest_only)
        return self._decorator(
            "on_batch",
            names or tuple(EventName),
            checked_conditions(when, "on_batch(when=...)"),
            options,
            batching=batching,
        )

    def add_route(
        self,
        event_names: Iterable[str],
        handler: Callable[..., Any],
        *filters: Condition,
        ttl: bool | None = None,
        ttl_attribute: str | None = None,
        batching: Batching | None = None,
        table: str | None = None,
        name: str | None = None,
        middleware: Sequence[Middleware] = (),
        on_invalid: OnInvalid | None = None,
    ) -> None:
        """Append a route; the same as the decorators, without one.

        Raises:
            RegistrationError: the handler, a filter or an option cannot work, or the router is
                already part of an App.
        """
        self._refuse_if_frozen()
        check_signature(handler, takes_many=batching is not None)
        names, owner = checked_events(event_names), name_of(handler)
        route = Route(
            name=checked_name(name, owner) or owner,
            event_names=names,
            handler=handler,
            filters=checked_conditions(filters, f"a filter of {owner}"),
            table=checked_table(table, f"table= of {owner}"),
            ttl=checked_ttl(ttl, names, owner),
            ttl_attribute=checked_ttl_attribute(ttl_attribute, ttl, owner),
            batching=batching,
            middleware=checked_middleware(middleware, f"middleware= of {owner}"),
            on_invalid=checked_on_invalid(on_invalid, owner),
        )
        self._entries.append(route)

    def include_router(self, router: Router) -> None:
        """Add all routes of another router, those that it gets later among them.

        This router's ``when``, ``table`` and ``middleware`` apply to them, too, outside their own,
        and its ``on_invalid`` to those that have none.

        Raises:
            RegistrationError: not a Router, or one that includes this one.
        """
        self._refuse_if_frozen()
        if not isinstance(router, Router):
            raise RegistrationError(f"include_router() takes a Router, got {type(router).__name__}")
        if router is self or self in router._descendants():
            raise RegistrationError("a router cannot include itself, directly or through others")
        self._entries.append(router)

    def _descendants(self) -> list[Router]:
        children = [entry for entry in self._entries if isinstance(entry, Router)]
        return [router for child in children for router in (child, *child._descendants())]

    def _refuse_if_frozen(self) -> None:
        if self._frozen:
            raise RegistrationError(
                "this router is already part of an App, which would not see the new route. "
                "Register every route before App(...) is called."
            )

    def _decorator(
        self,
        verb: str,
        event_names: Iterable[str],
        filters: Sequence[Condition],
        options: RouteOptions,
        *,
        expiry: tuple[bool | None, str | None] = (None, None),
        batching: Batching | None = None,
    ) -> Callable[[H], H]:
        self._refuse_if_frozen()
        conditions = checked_filters(filters, verb)
        names = checked_events(event_names)
        _refuse_unknown(options, verb)
        checked_on_invalid(options.get("on_invalid"), f"{verb}(...)")
        ttl, ttl_attribute = expiry
        token = object()
        self._unapplied[token] = f"{verb}({', '.join(map(repr, conditions))})"

        def decorate(handler: H) -> H:
            self.add_route(
                names,
                handler,
                *conditions,
                ttl=ttl,
                ttl_attribute=ttl_attribute,
                batching=batching,
                **options,
            )
            self._unapplied.pop(token, None)
            return handler

        return decorate


def checked_batching(max_items: int, max_bytes: int | None, latest_only: bool) -> Batching:
    """Return the options of a batch route."""
    for name, limit in (("max_items", max_items), ("max_bytes", max_bytes)):
        if limit is None and name == "max_bytes":
            continue
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise RegistrationError(f"on_batch({name}=...) is a whole number, at least 1")
    if not isinstance(latest_only, bool):
        raise RegistrationError("on_batch(latest_only=...) is True or False")
    return Batching(max_items, max_bytes, latest_only)


def flatten(routers: Sequence[Router]) -> list[Route]:
    """Return all routes in order of registration, with their routers' options, and freeze these.

    Raises:
        RegistrationError: a decorator that was never applied, or tables that exclude each other.
    """
    routes: list[Route] = []
    for router in routers:
        _collect(router, routes, when=(), table=None, middleware=(), on_invalid="fail", group=None)
    return routes


def _collect(
    router: Router,
    routes: list[Route],
    *,
    when: tuple[Filter, ...],
    table: str | None,
    middleware: tuple[Middleware, ...],
    on_invalid: OnInvalid,
    group: int | None,
) -> None:
    router._frozen = True
    for unapplied in router._unapplied.values():
        raise RegistrationError(
            f"{unapplied} was never applied to a handler. A decorator without filters is written "
            "with parentheses: @router.on_insert()"
        )
    when = (*when, *router._when)
    middleware = (*middleware, *router._middleware)
    table = same_table(table, router._table, "a router")
    on_invalid = router._on_invalid or on_invalid
    if group is None and router._match == "first":
        group = len(routes)  # unique: no other group starts at this index
    for entry in router._entries:
        if isinstance(entry, Router):
            _collect(
                entry,
                routes,
                when=when,
                table=table,
                middleware=middleware,
                on_invalid=on_invalid,
                group=group,
            )
        else:
            route = replace(
                entry,
                filters=(*when, *entry.filters),
                table=same_table(table, entry.table, entry.name),
                middleware=(*middleware, *entry.middleware),
                on_invalid=entry.on_invalid or on_invalid,
                group=group,
            )
            routes.append(route)


def _refuse_unknown(options: Mapping[str, object], verb: str) -> None:
    known = RouteOptions.__annotations__
    for name in options:
        if name not in known:
            raise RegistrationError(
                f"{verb}(...) has no option {name}=: it takes {', '.join(f'{k}=' for k in known)}, "
                "and filters without a name"
            )
