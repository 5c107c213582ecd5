"""An App → what its stream, mapping and function have to be like. Needs no AWS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dynaflow._route import tables_of
from dynaflow.app import App
from dynaflow.deploy.doctor.rules import Finding, found
from dynaflow.errors import DynaflowError
from dynaflow.idempotency import Idempotent
from dynaflow.pushdown import Pushdown, Pushed

__all__ = ["AppFacts", "check_app", "facts_of"]

_SUBJECT = "app"
_PUSHED = {
    Pushed.NEVER: "route-never",
    Pushed.WIDENED: "route-widened",
    Pushed.NOT: "route-not-pushed",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AppFacts:
    """What an App asks of the stream of one table, and of who reads it.

    Args:
        module: the module that it is in.
        pushdown: the patterns for this stream; None if no route takes its records.
        unmet: what asks for images that the stream leaves out.
        least: the smallest view type that has all images that are asked for.
        orders_shard: whether all records of a shard run one after the other.
        chooses_lanes: whether a function chooses what runs one after the other.
        workers: how many records run at a time, at most.
        told: what each ``lambda_handler(report_batch_item_failures=...)`` was told.
        fails_unmatched: whether records that no route takes are to fail.
        has_marks: whether Idempotent is around its calls.
        slowest: the route with the longest ``timeout=``, and its seconds.
    """

    module: str = "app"
    pushdown: Pushdown | None = None
    unmet: tuple[str, ...] = ()
    least: str = "NEW_AND_OLD_IMAGES"
    orders_shard: bool = False
    chooses_lanes: bool = False
    workers: int = 64
    told: tuple[bool | None, ...] = ()
    fails_unmatched: bool = False
    has_marks: bool = False
    slowest: tuple[str, float] | None = None


def facts_of(app: App, module: str, table: str | None, view_type: str | None) -> AppFacts:
    """Return what an App asks for.

    Args:
        app: the App.
        module: the module that it is in.
        table: the table's name; None for any.
        view_type: its stream's; None if that is not known.
    """
    try:
        pushdown = app.pushdown(table, view_type=view_type)
    except DynaflowError:
        pushdown = None
    routes = [route for route in app.routes if route.is_for(table)]
    orders_shard = app.order_by == "shard"
    workers = min(app.concurrency, app.threads) if app.opens_without_loop else app.concurrency
    timeouts = [(route.timeout, route.name) for route in routes if route.timeout is not None]
    slowest = max(timeouts, default=None)
    return AppFacts(
        module=module,
        pushdown=pushdown,
        unmet=tuple(str(need) for need in app.image_needs(table) if not need.is_met_by(view_type)),
        least=app.least_view_type(table),
        orders_shard=orders_shard,
        chooses_lanes=callable(app.order_by),
        workers=1 if orders_shard else max(1, workers),
        told=app.told_to_report,
        fails_unmatched=app.fails_unmatched,
        has_marks=any(isinstance(layer, Idempotent) for layer in app.layers),
        slowest=None if slowest is None else (slowest[1], slowest[0]),
    )


def check_app(app: App, table: str | None) -> Iterator[Finding]:
    """Check what needs no AWS; of routes for other tables only that there are some."""
    if not app.routes:
        yield found("no-routes", _SUBJECT)
        return
    tables = tables_of(app.routes)
    if not any(route.is_for(table) for route in app.routes):
        yield found("table-not-routed", _SUBJECT, table=table, tables=", ".join(tables))
        return
    if len(tables) > 1:
        yield found("several-tables", _SUBJECT, tables=", ".join(tables))
    for route in app.pushdown(table).routes:
        if route.pushed in _PUSHED:
            reasons = "; ".join(route.reasons)
            yield found(_PUSHED[route.pushed], _SUBJECT, route=route.route, reasons=reasons)
