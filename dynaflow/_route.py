"""One route: a handler, the records that it is for, and how they reach it. Data only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict

from dynaflow.errors import RegistrationError
from dynaflow.filters import Filter
from dynaflow.middleware import Middleware
from dynaflow.record import EventName

__all__ = [
    "Batching",
    "OnInvalid",
    "Route",
    "RouteOptions",
    "checked_batching",
    "refuse_unknown_options",
]

OnInvalid: TypeAlias = Literal["fail", "skip", "dead_letter"]


class RouteOptions(TypedDict, total=False):
    """The options that every verb takes.

    Attributes:
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


def refuse_unknown_options(options: Mapping[str, object], verb: str) -> None:
    """Refuse options that no verb has; type checkers do, too."""
    known = RouteOptions.__annotations__
    for name in options:
        if name not in known:
            raise RegistrationError(
                f"{verb}(...) has no option {name}=: it takes {', '.join(f'{k}=' for k in known)}, "
                "and filters without a name"
            )
