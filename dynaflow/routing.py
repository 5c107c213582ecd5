"""What the user declares: routers, which collect routes. Data only; running is elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, TypeAlias, TypeVar, Unpack

from dynaflow._binding import check_signature
from dynaflow._checks import (
    Condition,
    checked_after_deliveries,
    checked_conditions,
    checked_events,
    checked_filters,
    checked_middleware,
    checked_name,
    checked_on_invalid,
    checked_retry,
    checked_table,
    checked_timeout,
    checked_ttl,
    checked_ttl_attribute,
    name_of,
    takes,
)
from dynaflow._on_error import ErrorMap, checked_error_types
from dynaflow._route import (
    Batching,
    OnInvalid,
    Route,
    RouteOptions,
    checked_batching,
    checked_defaults,
    refuse_unknown_options,
)
from dynaflow.errors import RegistrationError
from dynaflow.middleware import Middleware
from dynaflow.record import EventName
from dynaflow.retry import Retry

__all__ = [
    "Batching",
    "Condition",
    "Match",
    "OnInvalid",
    "Route",
    "RouteOptions",
    "Router",
]

Match: TypeAlias = Literal["all", "first"]
H = TypeVar("H", bound=Callable[..., Any])


class Router:
    """Collects routes. A decorator appends a route and returns the function unchanged.

    Args:
        when: a filter, or several, that every route of this router has in addition.
        table: the only table whose records these routes take; None for any.
        match: "all" calls every matching route of a record; "first" only the first one in order
            of registration, routes of included routers among them.
        middleware: around the calls of these routes, outermost first.
        on_invalid: as for a route, for those that do not say it themselves; the nearest router
            counts. So it is with the others:
        retry: see ``RouteOptions``.
        timeout: see there; it is for the async handlers among them.
        after_deliveries: see there.

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
        retry: Retry | None = None,
        timeout: float | None = None,
        after_deliveries: int | None = None,
    ) -> None:
        if match not in ("all", "first"):
            raise RegistrationError(
                f"match={match!r} is unknown: write match='all' or match='first'"
            )
        self._table = checked_table(table, "Router(table=...)")
        self._match = match
        self._when = checked_conditions(when, "Router(when=...)")
        self._middleware = checked_middleware(middleware, "Router(middleware=...)")
        self._defaults = checked_defaults(
            "Router(...)", on_invalid, retry, timeout, after_deliveries
        )
        self._on_error = ErrorMap()
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
        retry: Retry | None = None,
        timeout: float | None = None,
        after_deliveries: int | None = None,
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
            retry=checked_retry(retry, owner),
            timeout=checked_timeout(timeout, owner, handler),
            after_deliveries=checked_after_deliveries(after_deliveries, owner),
        )
        self._entries.append(route)

    def on_error(self, *kinds: type[Exception]) -> Callable[[H], H]:
        """Register the decorated function to say what such an exception of a handler means.

        It is called with the exception, or with that and the call's HandlerContext, and raises or
        returns ``NonRetryable``, ``Skip`` or ``RetryAfter``; if it returns nothing, the exception
        stays what it is. The nearest router's function is asked, in that the one for the nearest
        type. What handlers raise of dynaflow's own is left alone.

        Args:
            kinds: exception classes; their subclasses are meant, too.

        Raises:
            RegistrationError: no exception class, one that another function is asked about, or an
                async function.
        """
        self._refuse_if_frozen()
        checked = checked_error_types(kinds)

        def decorate(judge: H) -> H:
            self._refuse_if_frozen()
            if not (takes(judge, 1) or takes(judge, 2)):
                raise RegistrationError(
                    f"{name_of(judge)} cannot be called with an exception, nor with that and a "
                    "context: write 'def meaning(error: KeyError) -> None'"
                )
            self._on_error.add(checked, judge, wants_context=not takes(judge, 1))
            return judge

        return decorate

    def include_router(self, router: Router) -> None:
        """Add all routes of another router, those that it gets later among them.

        This router's ``when``, ``table`` and ``middleware`` apply to them, too, outside their own;
        its other options and its ``on_error`` where they have none.

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
        refuse_unknown_options(options, verb)
        checked_defaults(
            f"{verb}(...)",
            options.get("on_invalid"),
            options.get("retry"),
            options.get("timeout"),
            options.get("after_deliveries"),
        )
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
