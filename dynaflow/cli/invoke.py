"""``dynaflow invoke``: run one event as AWS Lambda would."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import typer

from dynaflow._host import Host
from dynaflow.app import App
from dynaflow.batch import Batch, BatchResult, Outcome, Status
from dynaflow.cli._event import EventFile, read_event
from dynaflow.cli._exit import ExitCode
from dynaflow.cli._options import AppDirectory, AsJson, Target
from dynaflow.cli._output import logs_to_stderr, print_json, print_table, prints_to_stderr
from dynaflow.cli._target import load_app
from dynaflow.codec import decode_event
from dynaflow.errors import Skip
from dynaflow.record import Record, Undecodable

__all__ = ["COLUMNS", "invoke", "reports", "rows"]

COLUMNS = ("event", "sequence number", "route", "outcome", "ms")


def invoke(
    target: Target,
    event_file: EventFile,
    *,
    as_json: AsJson = False,
    app_directory: AppDirectory = Path(),
) -> None:
    """Run an event through an App, and print what Lambda would be answered.

    The handlers really run. The answer is that under ReportBatchItemFailures.
    Exits with 1 if a record is not done.
    """
    event = read_event(event_file)
    with prints_to_stderr():
        app = load_app(target, app_directory)
        batch = Batch(*decode_event(event))
        with logs_to_stderr():
            result = _process(app, batch)
    report = reports(batch, result)
    if as_json:
        print_json({"records": report, "answer": _answer(result)})
    else:
        print_table(COLUMNS, [row for entry in report for row in rows(entry)])
        sys.stdout.write(json.dumps(_answer(result)) + "\n")
    if result.failed is not None:
        raise typer.Exit(ExitCode.RECORDS_FAILED)


def _process(app: App, batch: Batch) -> BatchResult:
    host = Host(app)
    try:
        return host.process(batch)
    finally:
        host.close()


def _answer(result: BatchResult) -> dict[str, Any]:
    if result.failed is None:
        return {"batchItemFailures": []}
    return {"batchItemFailures": [{"itemIdentifier": result.failed.sequence_number}]}


def reports(batch: Batch, result: BatchResult) -> list[dict[str, Any]]:
    """Return what became of each record of a batch and of its calls, as JSON may have it."""
    calls: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for outcome in result.outcomes:
        calls[id(outcome.record)].append(_call(outcome))
    not_done = set(map(id, result.not_done))
    return [
        _report(record, calls[id(record)], is_done=id(record) not in not_done)
        for record in batch.records
    ]


def _report(
    record: Record | Undecodable, calls: list[dict[str, Any]], *, is_done: bool
) -> dict[str, Any]:
    failed = any(call["status"] == Status.FAILED.value for call in calls)
    status = Status.DONE if is_done else Status.FAILED if failed else Status.NOT_DONE
    return {
        "eventName": record.event_name.value if isinstance(record, Record) else None,
        "sequenceNumber": record.sequence_number,
        "status": status.value,
        "calls": calls,
    }


def _call(outcome: Outcome) -> dict[str, Any]:
    error = outcome.error
    return {
        "route": outcome.route,
        "status": outcome.status.value,
        "error": None if error is None or isinstance(error, Skip) else type(error).__name__,
        "milliseconds": round(outcome.duration * 1000, 1),
    }


def rows(entry: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return one row per call of a record; one for a record that nothing was called for."""
    start = (entry["eventName"] or "unreadable", entry["sequenceNumber"])
    if not entry["calls"]:
        return [(*start, "none matches" if entry["status"] == "done" else "", entry["status"], "")]
    return [
        (
            *start,
            call["route"] or "",
            call["status"] + (f": {call['error']}" if call["error"] else ""),
            f"{call['milliseconds']:.1f}",
        )
        for call in entry["calls"]
    ]
