"""What an App writes to, by what it says that it needs: tables, queues, topics, buckets. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from dynaflow.app import App
from dynaflow.deploy.doctor.rules import Finding, found
from dynaflow.deploy.live import Target
from dynaflow.permissions import TableNeeds, table_arn
from dynaflow.record import table_of

__all__ = ["check_targets", "table_needs_of", "targets_of"]

_SUBJECT = "what the App writes to"


def targets_of(app: App) -> list[tuple[str, str]]:
    """Return the ARNs of what the App writes to, each once, with what needs it."""
    targets: dict[str, str] = {}
    for permission in app.permissions():
        for arn in permission.resources:
            service = [*arn.split(":"), "", ""][2]
            whole = arn if service != "s3" else arn.partition("/")[0]
            if service in ("dynamodb", "sqs", "sns", "s3") and "*" not in whole:
                targets.setdefault(whole, permission.reason)
    known = {table_of(arn) for arn in targets}
    for needs in table_needs_of(app):
        if (table_of(needs.table) or needs.table) not in known:
            targets[table_arn(needs.table)] = needs.reader
    return list(targets.items())


def table_needs_of(app: App) -> list[TableNeeds]:
    """Return what stores in the App need of their tables, each once."""
    holders = [*app.layers, *(function for function, _ in app.called)]
    needs: dict[TableNeeds, None] = {}
    for holder in holders:
        ask: Any = getattr(holder, "table_needs", None)
        if callable(ask) and not isinstance(holder, type):
            told: Any = ask()
            needs.update(dict.fromkeys(told))
    return list(needs)


def check_targets(app: App, targets: Sequence[Target]) -> Iterator[Finding]:
    """Check that what the App writes to is there, and that tables of marks can take marks."""
    for target in targets:
        if target.exists is False:
            yield found("target-missing", _SUBJECT, arn=target.arn, reason=target.reason)
    by_table = {table_of(target.arn): target for target in targets if target.exists}
    for needs in table_needs_of(app):
        table = table_of(needs.table) or needs.table
        there = by_table.get(table)
        if there is None:
            continue
        expected = tuple((name, "S") for name in needs.key)
        if there.key != expected:
            yield found(
                "marks-key",
                _SUBJECT,
                table=table,
                key=_shown(there.key),
                expected=_shown(expected),
                reader=needs.reader,
            )
        if there.is_ttl_known and there.ttl != needs.expiry:
            yield found("marks-kept", _SUBJECT, table=table, attribute=needs.expiry)


def _shown(key: Sequence[tuple[str, str]]) -> str:
    return " and ".join(f"{name} ({kind})" for name, kind in key)
