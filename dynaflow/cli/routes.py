"""``dynaflow routes``: what an App listens to."""

from __future__ import annotations

import inspect
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dynaflow._signature import is_async, shown
from dynaflow.cli._options import AppDirectory, AsJson, Target
from dynaflow.cli._output import print_json, print_table, prints_to_stderr
from dynaflow.cli._target import load_app
from dynaflow.pushdown import RoutePushdown, push_down
from dynaflow.record import EventName
from dynaflow.routing import Route

__all__ = ["routes"]

_COLUMNS = ("route", "events", "table", "filters", "parameters", "kind", "pushed down")


def routes(
    target: Target, *, as_json: AsJson = False, app_directory: AppDirectory = Path()
) -> None:
    """Print the routes of an App, in the order in which they are called."""
    with prints_to_stderr():
        app = load_app(target, app_directory)
    described = [_described(route, _pushed(route)) for route in app.routes]
    if as_json:
        print_json(described)
    else:
        print_table(_COLUMNS, [_row(route) for route in described])


def _pushed(route: Route) -> RoutePushdown:
    """Return what patterns say of a route if a mapping is for it alone."""
    return push_down([route]).routes[0]


def _described(route: Route, pushed: RoutePushdown) -> dict[str, Any]:
    parameters = inspect.signature(route.handler).parameters.values()
    return {
        "name": route.name,
        "events": [name.value for name in EventName if name in route.event_names],
        "table": route.table,
        "ttl": route.ttl,
        "ttl_attribute": route.ttl_attribute,
        "filters": [repr(condition) for condition in route.filters],
        "parameters": {p.name: _annotation(p.annotation) for p in parameters},
        "on_invalid": route.on_invalid,
        "async": is_async(route.handler),
        "batch": None if route.batching is None else asdict(route.batching),
        "pushed_down": {"pushed": pushed.pushed.value, "reasons": list(pushed.reasons)},
    }


def _row(route: dict[str, Any]) -> tuple[str, ...]:
    ttl = {True: " (TTL only)", False: " (not TTL)", None: ""}[route["ttl"]]
    if route["ttl_attribute"] is not None:
        ttl = ttl.replace(")", f", by {route['ttl_attribute']})")
    parameters = route["parameters"].items()
    pushed = route["pushed_down"]
    return (
        route["name"],
        " ".join(route["events"]) + ttl,
        route["table"] or "any",
        ", ".join(route["filters"]) or "none",
        ", ".join(f"{name}: {kind}" if kind else name for name, kind in parameters),
        ("async" if route["async"] else "sync") + _batch(route["batch"]),
        ": ".join(filter(None, (pushed["pushed"], "; ".join(pushed["reasons"])))),
    )


def _batch(batching: dict[str, Any] | None) -> str:
    if batching is None:
        return ""
    limits = [f"up to {batching['max_items']}"]
    if batching["max_bytes"] is not None:
        limits.append(f"{batching['max_bytes']} bytes")
    if batching["latest_only"]:
        limits.append("latest only")
    return f", batch ({', '.join(limits)})"


def _annotation(annotation: Any) -> str | None:
    """Return an annotation as it is written; None if there is none."""
    if annotation is inspect.Parameter.empty:
        return None
    return annotation if isinstance(annotation, str) else shown(annotation)
