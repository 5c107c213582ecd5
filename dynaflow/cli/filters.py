"""``dynaflow filters``: what Lambda's event source mapping can leave out by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from dynaflow._route import tables_of
from dynaflow.app import App
from dynaflow.cli._exit import ExitCode, refuse
from dynaflow.cli._options import AppDirectory, AsJson, MaxPatterns, Target, ViewType
from dynaflow.cli._output import print_json, print_lines, prints_to_stderr
from dynaflow.cli._target import load_app
from dynaflow.errors import DynaflowError
from dynaflow.pushdown import MOST_PATTERNS, VIEW_TYPE, Pushdown, Pushed

__all__ = ["filters"]

_STYLES = {Pushed.EXACTLY: "green", Pushed.WIDENED: "yellow", Pushed.NOT: "yellow"}


def filters(
    target: Target,
    *,
    table: Annotated[
        str | None,
        typer.Option(help="Whose stream the mapping reads; by default the table of the routes."),
    ] = None,
    view_type: ViewType = None,
    max_patterns: MaxPatterns = MOST_PATTERNS,
    as_json: AsJson = False,
    app_directory: AppDirectory = Path(),
) -> None:
    """Print the FilterCriteria for the app's event source mapping.

    They never leave out a record that a route takes. What they cannot say,
    and why, is said route by route.
    """
    with prints_to_stderr():
        app = load_app(target, app_directory)
    try:
        pushdown = app.pushdown(
            table or _only_table(app), view_type=view_type, max_patterns=max_patterns
        )
    except DynaflowError as error:
        refuse(str(error), ExitCode.USAGE)
    if as_json:
        print_json(_report(pushdown))
    else:
        print_lines(_lines(pushdown))


def _only_table(app: App) -> str | None:
    tables = sorted(tables_of(app.routes))
    if len(tables) > 1:
        refuse(
            f"the routes are for the tables {', '.join(tables)}, and a mapping reads the stream of "
            f"one: say which, as in --table {tables[0]}",
            ExitCode.USAGE,
        )
    return tables[0] if tables else None


def _report(pushdown: Pushdown) -> dict[str, Any]:
    return {
        "FilterCriteria": pushdown.filter_criteria(),
        "patterns": pushdown.patterns,
        "routes": [
            {"route": route.route, "pushed": route.pushed.value, "reasons": list(route.reasons)}
            for route in pushdown.routes
        ],
        "widenings": list(pushdown.widenings),
    }


def _lines(pushdown: Pushdown) -> Iterator[Text]:
    for number, pattern in enumerate(pushdown.given, 1):
        yield Text(f"{number}. {pattern}", "bold")
        yield Text(f"   {pattern.to_json()}")
        if pattern.fields.keys() == {VIEW_TYPE}:
            yield Text("   so that a stream without the images that filters read is noticed", "dim")
    if not pushdown.given:
        yield Text("No filter: Lambda is to send every record.", "bold")
    yield Text()
    width = max(len(route.route) for route in pushdown.routes)
    for route in pushdown.routes:
        reasons = route.reasons or ("",)
        for index, reason in enumerate(reasons):
            name, pushed = (route.route, route.pushed) if index == 0 else ("", "")
            style = _STYLES.get(route.pushed, "red")
            line = Text.assemble(f"{name:<{width}}  ", (f"{pushed:<7}", style), f"  {reason}")
            line.rstrip()
            yield line
    for text in pushdown.widenings:
        yield Text(f"wider: {text}", "dim")
