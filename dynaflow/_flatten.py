"""Routers that include routers → one list of routes, each with what its routers add to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dynaflow._checks import same_table
from dynaflow._on_error import ErrorMap
from dynaflow._route import Defaults, Route
from dynaflow._signature import is_async
from dynaflow.errors import RegistrationError
from dynaflow.filters import Filter
from dynaflow.middleware import Middleware
from dynaflow.routing import Router

__all__ = ["flatten"]


def flatten(routers: Sequence[Router], defaults: Defaults) -> list[Route]:
    """Return all routes in order of registration, with their routers' options, and freeze these.

    Args:
        routers: the App's.
        defaults: what routes have where neither they nor their routers say it.

    Raises:
        RegistrationError: a decorator that was never applied, or tables that exclude each other.
    """
    routes: list[Route] = []
    for router in routers:
        _collect(
            router,
            routes,
            when=(),
            table=None,
            middleware=(),
            defaults=defaults,
            on_error=(),
            group=None,
        )
    return routes


def _collect(
    router: Router,
    routes: list[Route],
    *,
    when: tuple[Filter, ...],
    table: str | None,
    middleware: tuple[Middleware, ...],
    defaults: Defaults,
    on_error: tuple[ErrorMap, ...],
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
    defaults = router._defaults.within(defaults)
    on_error = (router._on_error, *on_error)
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
                defaults=defaults,
                on_error=on_error,
                group=group,
            )
        else:
            route = replace(
                entry,
                filters=(*when, *entry.filters),
                table=same_table(table, entry.table, entry.name),
                middleware=(*middleware, *entry.middleware),
                on_error=on_error,
                group=group,
            )
            routes.append(defaults.applied_to(route, is_async=is_async(entry.handler)))
