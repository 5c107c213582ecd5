"""Checks of a table's stream, and of who reads it. Pure: facts → findings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dynaflow.deploy.doctor.app_facts import AppFacts
from dynaflow.deploy.doctor.rules import Finding, found
from dynaflow.deploy.live import Function, LiveMapping, Stream

__all__ = ["check_readers", "check_stream", "chosen"]


def check_stream(stream: Stream, app: AppFacts) -> Iterator[Finding]:
    """Check that changes are recorded, with the images that are asked for."""
    subject = f"table {stream.table}"
    if stream.status not in ("ACTIVE", "UPDATING"):
        yield found("table-not-active", subject, table=stream.table, status=stream.status)
    if not stream.is_enabled:
        rule = "stream-never" if stream.arn is None else "stream-disabled"
        yield found(rule, subject, table=stream.table, view_type=app.least)
    elif app.unmet:
        yield found(
            "view-type",
            subject,
            table=stream.table,
            view_type=stream.view_type,
            needs="; ".join(app.unmet),
            least=app.least,
        )
    if stream.replicas:
        regions = ", ".join(stream.replicas)
        yield found("replicas", subject, table=stream.table, regions=regions)


def check_readers(stream: Stream, mappings: Sequence[LiveMapping]) -> Iterator[Finding]:
    """Check how many read the stream; of the mappings those that are enabled count.

    At most two readers of a shard, of a global table one (Amazon DynamoDB Developer Guide,
    "Quotas": simultaneous readers of a shard).
    """
    subject = f"table {stream.table}"
    readers = [m for m in mappings if m.source == stream.arn and not m.state.startswith("Disab")]
    most = 1 if stream.replicas else 2
    if stream.is_enabled and not mappings:
        yield found("mapping-none", subject, table=stream.table)
    elif len(readers) > most:
        names = ", ".join(sorted(mapping.function_name for mapping in readers))
        yield found(
            "readers", subject, table=stream.table, count=len(readers), most=most, readers=names
        )


def chosen(
    mappings: Sequence[LiveMapping], functions: Sequence[Function], module: str
) -> list[LiveMapping] | None:
    """Return those mappings that are this App's; None if that cannot be told.

    One that is alone is. Of several, those of functions whose handler is in the App's module.
    """
    if len({mapping.function_name for mapping in mappings}) <= 1:
        return list(mappings)
    names = {f.name for f in functions if f.handler and _is_in(f.handler, module)}
    ours = [mapping for mapping in mappings if mapping.function_name in names]
    return ours or None


def _is_in(handler: str, module: str) -> bool:
    """Return True for a handler of the module: "shop.handler", "src/shop.handler"."""
    path = handler.rpartition(".")[0].replace("/", ".")
    return f".{path}".endswith(f".{module}")
