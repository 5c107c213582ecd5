"""Filters → FilterCriteria of Lambda's event source mapping, never narrower than the filters."""

from __future__ import annotations

from dynaflow.pushdown.criteria import (
    MOST_PATTERNS,
    VIEW_TYPE,
    Pushdown,
    Pushed,
    RoutePushdown,
    push_down,
)

__all__ = ["MOST_PATTERNS", "VIEW_TYPE", "Pushdown", "Pushed", "RoutePushdown", "push_down"]
