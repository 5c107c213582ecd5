"""Routers that include routers → one list of routes, each with what its routers add to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
    outermost = _Inherited(defaults=defaults)
    for router in routers:
        _collect(router, routes, outermost)
    return routes


@dataclass(frozen=True, slots=True)
class _Inherited:
    """What the routers around it add to a route, outermost first; ``on_error`` innermost first."""

    defaults: Defaults
    when: tuple[Filter, ...] = ()
    table: str | None = None
    middleware: tuple[Middleware, ...] = ()
    on_error: tuple[ErrorMap, ...] = ()
    group: int | None = None

    def within(self, router: Router, new_group: int) -> _Inherited:
        """Return the same with what one more router adds; groups are told apart by a number."""
        starts_group = self.group is None and router._match == "first"
        return _Inherited(
            defaults=router._defaults.within(self.defaults),
            when=(*self.when, *router._when),
            table=same_table(self.table, router._table, "a router"),
            middleware=(*self.middleware, *router._middleware),
            on_error=(router._on_error, *self.on_error),
            group=new_group if starts_group else self.group,
        )

    def added_to(self, route: Route) -> Route:
        """Return the route with all of it."""
        whole = replace(
            route,
            filters=(*self.when, *route.filters),
            table=same_table(self.table, route.table, route.name),
            middleware=(*self.middleware, *route.middleware),
            on_error=self.on_error,
            group=self.group,
        )
        return self.defaults.applied_to(whole, is_async=is_async(route.handler))


def _collect(router: Router, routes: list[Route], around: _Inherited) -> None:
    router._frozen = True
    for unapplied in router._unapplied.values():
        raise RegistrationError(
            f"{unapplied} was never applied to a handler. A decorator without filters is written "
            "with parentheses: @router.on_insert()"
        )
    inherited = around.within(router, len(routes))  # no other group starts at this index
    for entry in router._entries:
        if isinstance(entry, Router):
            _collect(entry, routes, inherited)
        else:
            routes.append(inherited.added_to(entry))
