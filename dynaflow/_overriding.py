"""The routes of an App, and the same routes with other dependencies while a test wants these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from dynaflow._checks import checked_overrides
from dynaflow._dependencies import AppValues, Overrides
from dynaflow._table import RouteTable

__all__ = ["Overridable"]


class Overridable:
    """Which route table is in use.

    Args:
        declared: the one that is in use while nothing is overridden.
        app_values: says which dependencies of scope "app" are open.
    """

    def __init__(self, declared: RouteTable, app_values: AppValues) -> None:
        self.current = declared
        self._declared = declared
        self._app_values = app_values
        self._active: tuple[Overrides, ...] = ()

    def overriding(
        self, replacements: Mapping[Callable[..., Any], Callable[..., Any]]
    ) -> AbstractContextManager[None]:
        """Return the context in which functions are replaced; see ``App.overrides``."""
        known = {**self._declared.declared, **self.current.declared}
        return self._with(checked_overrides(replacements, known))

    @contextmanager
    def _with(self, overrides: Overrides) -> Iterator[None]:
        active = (*self._active, overrides)
        table = self._overridden(active)
        self._app_values.refuse_unopened(table.shared)
        self._active, self.current = active, table
        try:
            yield
        finally:  # perhaps not the last that was entered: async tests may overlap
            self._active = tuple(other for other in self._active if other is not overrides)
            self.current = self._overridden(self._active)

    def _overridden(self, several: tuple[Overrides, ...]) -> RouteTable:
        return self._declared.overridden({k: v for one in several for k, v in one.items()})
