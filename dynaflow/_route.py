"""One route: a handler, the records that it is for, and how they reach it. Data only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, TypedDict

from dynaflow._checks import (
    checked_after_deliveries,
    checked_on_invalid,
    checked_retry,
    checked_timeout,
)
from dynaflow._on_error import ErrorMap
from dynaflow.errors import RegistrationError
from dynaflow.filters import Filter
from dynaflow.middleware import Middleware
from dynaflow.record import EventName
from dynaflow.retry import Retry

__all__ = [
    "Batching",
    "Defaults",
    "OnInvalid",
    "Route",
    "RouteOptions",
    "checked_batching",
    "checked_defaults",
    "refuse_unknown_options",
    "tables_of",
]

OnInvalid: TypeAlias = Literal["fail", "skip", "dead_letter"]


class RouteOptions(TypedDict, total=False):
    """The options that every verb takes.

    Attributes:
        table: the only table whose records the route takes.
        name: the route's identity; import path and qualified name of the handler by default.
        middleware: around its calls, outermost first, inside the router's and the app's.
        on_invalid: what becomes of a record whose image the handler's model does not accept:
            "fail" fails it, and where there are dead letters it is parked, as whatever cannot
            succeed later; "dead_letter" does the same, and needs these; "skip" leaves it alone:
            done, counted apart, with a warning in the log. None takes the router's, which is
            "fail" if none says otherwise.
        retry: how often a call is tried within one delivery; None takes the router's, which is
            once if none says otherwise.
        timeout: seconds after which an attempt is cancelled and has failed with TimeoutError; only
            for async handlers. None takes the router's.
        after_deliveries: after how many deliveries in which it was called for a record and not
            done this record goes into a dead letter; None takes the router's, or never.
    """

    table: str | None
    name: str | None
    middleware: Sequence[Middleware]
    on_invalid: OnInvalid | None
    retry: Retry | None
    timeout: float | None
    after_deliveries: int | None


@dataclass(frozen=True, slots=True)
class Defaults:
    """What routes have of their routers and their App where they do not say it themselves.

    Args:
        on_invalid: see ``RouteOptions``, and so on.
        retry: how often a call is tried.
        timeout: seconds of an attempt; only async handlers have it.
        after_deliveries: when a record is parked.
    """

    on_invalid: OnInvalid | None = None
    retry: Retry | None = None
    timeout: float | None = None
    after_deliveries: int | None = None

    def within(self, outer: Defaults) -> Defaults:
        """Return these, and the outer ones where these are silent."""
        return Defaults(
            on_invalid=self.on_invalid or outer.on_invalid,
            retry=self.retry or outer.retry,
            timeout=self.timeout or outer.timeout,
            after_deliveries=self.after_deliveries or outer.after_deliveries,
        )

    def applied_to(self, route: Route, *, is_async: bool) -> Route:
        """Return the route with these where it is silent."""
        return replace(
            route,
            on_invalid=route.on_invalid or self.on_invalid or "fail",
            retry=route.retry or self.retry,
            timeout=route.timeout or (self.timeout if is_async else None),
            after_deliveries=route.after_deliveries or self.after_deliveries,
        )


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
        on_invalid: "fail", "skip" or "dead_letter"; None before its router's is known.
        retry: how often a call is tried within one delivery; None for once.
        timeout: seconds of an attempt; None for any.
        after_deliveries: after how many deliveries a record that it fails is parked; None: never.
        on_error: what its routers make of errors, the nearest first.
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
    retry: Retry | None = None
    timeout: float | None = None
    after_deliveries: int | None = None
    on_error: tuple[ErrorMap, ...] = ()
    group: int | None = None
    batching: Batching | None = None

    def is_for(self, table: str | None) -> bool:
        """Return True if it takes records of a table, or if no table is asked for."""
        return table is None or self.table in (None, table)


def tables_of(routes: Iterable[Route]) -> tuple[str, ...]:
    """Return the tables that routes name, in order of registration."""
    return tuple(dict.fromkeys(route.table for route in routes if route.table is not None))


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


def checked_defaults(
    where: str, on_invalid: Any, retry: Any, timeout: Any, after_deliveries: Any
) -> Defaults:
    """Return what routes have where they are silent."""
    return Defaults(
        on_invalid=checked_on_invalid(on_invalid, where),
        retry=checked_retry(retry, where),
        timeout=checked_timeout(timeout, where),
        after_deliveries=checked_after_deliveries(after_deliveries, where),
    )


def refuse_unknown_options(options: Mapping[str, object], verb: str) -> None:
    """Refuse options that no verb has; type checkers do, too."""
    known = RouteOptions.__annotations__
    for name in options:
        if name not in known:
            raise RegistrationError(
                f"{verb}(...) has no option {name}=: it takes {', '.join(f'{k}=' for k in known)}, "
                "and filters without a name"
            )
