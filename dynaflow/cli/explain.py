"""``dynaflow explain``: why a record is, or is not, for each route."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from dynaflow._explain import Explanation, Finding, RouteExplanation, Verdict
from dynaflow.cli._event import EventFile, read_event
from dynaflow.cli._exit import ExitCode
from dynaflow.cli._options import AppDirectory, AsJson, Target
from dynaflow.cli._output import data_console, print_json, print_lines, prints_to_stderr, talk
from dynaflow.cli._target import load_app
from dynaflow.codec import decode_event
from dynaflow.errors import MalformedValue
from dynaflow.record import Record
from dynaflow.values import printable

__all__ = ["explain"]

_WORDS = {Verdict.RUNS: "runs", Verdict.NOT: "no", Verdict.UNCLEAR: "unclear"}
_STYLES = {"runs": "green", "no": "", "unclear": "red"}


def explain(
    target: Target,
    event_file: EventFile,
    *,
    show_data: Annotated[
        bool, typer.Option("--show-data", help="Show the values that filters found, and keys.")
    ] = False,
    as_json: AsJson = False,
    app_directory: AppDirectory = Path(),
) -> None:
    """Say for each record of an event which routes would run, and why not.

    Nothing runs but filters. Exits with 1 if a record cannot be read, or a
    filter cannot tell: such a record would fail.
    """
    event = read_event(event_file)
    with prints_to_stderr():
        app = load_app(target, app_directory)
        records, _ = decode_event(event)
        explanations = [app.explain(record, show_data=show_data) for record in records]
    if as_json:
        print_json([_report(explanation, show_data) for explanation in explanations])
    else:
        console = data_console()
        for explanation in explanations:
            print_lines(_lines(explanation, show_data), console)
    if not explanations:
        talk("the event has no records")
    if not all(explanation.is_clear for explanation in explanations):
        raise typer.Exit(ExitCode.RECORDS_FAILED)


def _report(explanation: Explanation, show_data: bool) -> dict[str, Any]:
    record = explanation.record
    readable = isinstance(record, Record)
    return {
        "eventName": record.event_name.value if isinstance(record, Record) else None,
        "table": record.table if isinstance(record, Record) else None,
        "sequenceNumber": record.sequence_number,
        **({"keys": _keys(explanation)} if show_data and readable else {}),
        "unreadable": explanation.unreadable,
        "routes": [
            {
                "route": route.route,
                "verdict": route.verdict.value,
                "cause": None if route.cause is None else route.cause.value,
                "reason": route.reason,
                "filters": list(map(_finding, route.filters)),
            }
            for route in explanation.routes
        ],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "filter": finding.text,
        "result": finding.result,
        "found": finding.found or None,
        "error": finding.error,
        "parts": list(map(_finding, finding.parts)),
    }


def _lines(explanation: Explanation, show_data: bool) -> Iterator[Text]:
    record = explanation.record
    name = record.event_name.value if isinstance(record, Record) else "unreadable"
    table = (record.table if isinstance(record, Record) else None) or "?"
    key = f"  {printable(_keys(explanation))}" if show_data else ""
    yield Text(f"{name}  {table}  {record.sequence_number}{key}", "bold")
    if explanation.unreadable is not None:
        yield Text(f"  {explanation.unreadable}", "red")
    width = max((len(route.route) for route in explanation.routes), default=0)
    for route in explanation.routes:
        word = _WORDS[route.verdict]
        yield Text.assemble(
            f"  {route.route:<{width}}  ", (f"{word:<7}", _STYLES[word]), f"  {route.reason}"
        )
        yield from _tree(route)
    if not explanation.routes and explanation.unreadable is None:
        yield Text("  no routes")


def _tree(route: RouteExplanation) -> Iterator[Text]:
    """Yield what the filters said, part by part, where the reason is not all there is to say."""
    if len(route.filters) < 2 and not any(len(finding.parts) > 1 for finding in route.filters):
        return
    rows = [row for finding in route.filters for row in _branch(finding, "    ")]
    width = max(len(text) for text, _, _ in rows)
    for text, said, found in rows:
        yield Text(f"{text:<{width}}  {said:<9}  {found}".rstrip(), "dim")


def _branch(finding: Finding, indent: str) -> Iterator[tuple[str, str, str]]:
    found = finding.found if finding.error is None or finding.parts else finding.error
    yield indent + finding.text, finding.said, found
    for part in finding.parts:
        yield from _branch(part, f"{indent}  ")


def _keys(explanation: Explanation) -> Any:
    """Return the key as plain JSON; None where it cannot be read."""
    keys = explanation.record.keys
    try:
        return None if keys is None else json.loads(keys.to_json())
    except MalformedValue:
        return None
