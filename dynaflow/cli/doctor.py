"""``dynaflow doctor``: what is wrong with what is deployed, and what mends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from dynaflow.cli._exit import ExitCode, refuse
from dynaflow.cli._options import AppDirectory, AsJson, EndpointUrl, Region, Target
from dynaflow.cli._output import print_json, print_lines, prints_to_stderr, talk
from dynaflow.cli._target import load_app
from dynaflow.deploy.doctor.examination import Finding, Report, Severity, Wanted, examine, summary
from dynaflow.deploy.doctor.reading import Reading, make_client

__all__ = ["doctor"]

_STYLES = {Severity.ERROR: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}
_ORDER = tuple(Severity)
_WIDTH = 9  # the longest severity, and two spaces


def doctor(
    target: Target,
    *,
    table: Annotated[
        str | None,
        typer.Option(
            help="The table's name or ARN, or its stream's ARN; by default those that routes name."
        ),
    ] = None,
    function: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="The function; by default whichever reads the stream."),
    ] = None,
    mapping: Annotated[
        str | None, typer.Option(metavar="UUID", help="The event source mapping.")
    ] = None,
    as_json: AsJson = False,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    app_directory: AppDirectory = Path(),
) -> None:
    """Say what is wrong with an App's table, stream, mapping and function.

    For each thing: what was found, what it leads to, what mends it. AWS is only
    asked, nothing is changed, and no item is read. Exits with 1 if there is an
    error, and with 4 if AWS could not be asked.
    """
    if function is not None and mapping is not None:
        refuse("--mapping names its function, too: leave out --function", ExitCode.USAGE)
    with prints_to_stderr():
        app = load_app(target, app_directory)

    def make() -> Reading:
        client, chosen, source = make_client(_region(table, region), endpoint_url)
        return Reading(client, chosen, source)

    wanted = Wanted(table=table, function=function, mapping=mapping)
    report = examine(app, target.partition(":")[0], wanted, make)
    if as_json:
        print_json(_document(report))
    else:
        print_lines(_lines(report))
    talk(summary(report))
    if not report.is_answered:
        raise typer.Exit(ExitCode.AWS_REFUSED)
    if report.count(Severity.ERROR):
        raise typer.Exit(ExitCode.RECORDS_FAILED)  # or would be lost, or would not arrive


def _region(table: str | None, region: str | None) -> str | None:
    """Return the region that is asked for, by the option or by the table's ARN."""
    if region is None and table is not None and table.startswith("arn:"):
        return [*table.split(":"), "", "", ""][3] or None
    return region


def _document(report: Report) -> dict[str, Any]:
    return {
        "findings": [asdict(finding) for finding in report.findings],
        "checked": [asdict(checked) for checked in report.checked],
    }


def _lines(report: Report) -> Iterator[Text]:
    """Yield what was looked at, subject by subject, with what is worst first."""
    subjects = [checked.subject for checked in report.checked]
    subjects += [finding.subject for finding in report.findings]
    for subject in dict.fromkeys(subjects):
        yield Text(subject, "bold")
        for checked in report.checked:
            if checked.subject == subject:
                yield _line("checked", checked.fact, "green")
        findings = [finding for finding in report.findings if finding.subject == subject]
        for finding in sorted(findings, key=lambda f: _ORDER.index(f.severity)):
            yield from _told(finding)


def _told(finding: Finding) -> Iterator[Text]:
    style = _STYLES[finding.severity]
    yield _line(finding.severity, f"{finding.fact} [{finding.rule}]", style)
    yield _line("", f"so: {finding.consequence}")
    yield _line("", f"do: {finding.remedy}")


def _line(word: str, text: str, style: str = "") -> Text:
    return Text.assemble("  ", (word.ljust(_WIDTH), style), text)
