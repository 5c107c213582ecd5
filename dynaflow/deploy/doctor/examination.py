"""An App, its table, its event source mapping and its function → what is wrong with them.

AWS is only asked, never changed; no item and no record is read, and of a function's variables one
is looked at.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from dynaflow._route import tables_of
from dynaflow.app import App
from dynaflow.deploy.doctor.app_facts import check_app, facts_of
from dynaflow.deploy.doctor.checks_mapping import CHECKS, Case
from dynaflow.deploy.doctor.checks_stream import check_readers, check_stream, chosen
from dynaflow.deploy.doctor.gathering import Gathering
from dynaflow.deploy.doctor.reading import Reading, Unanswered
from dynaflow.deploy.doctor.rules import Finding, Severity, found
from dynaflow.deploy.doctor.targets import check_targets
from dynaflow.deploy.live import LiveMapping, Stream
from dynaflow.record import table_of

__all__ = ["Checked", "Finding", "Report", "Severity", "Wanted", "examine", "summary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be looked at.

    Args:
        table: the table's name, or its or its stream's ARN; None for all that routes name.
        function: the function's name or ARN; None for whichever reads the stream.
        mapping: the id of an event source mapping; None for those of the stream.
    """

    table: str | None = None
    function: str | None = None
    mapping: str | None = None


@dataclass(frozen=True, slots=True)
class Checked:
    """Something that was looked at.

    Args:
        subject: as for a Finding.
        fact: what was seen.
    """

    subject: str
    fact: str


@dataclass(frozen=True, slots=True)
class Report:
    """What was looked at, and what is wrong with it.

    Args:
        findings: what is wrong, in the order of looking.
        checked: what was looked at.
        is_answered: whether AWS answered at all.
    """

    findings: tuple[Finding, ...]
    checked: tuple[Checked, ...]
    is_answered: bool = True

    def count(self, severity: Severity) -> int:
        """Return how many findings are of a severity."""
        return sum(finding.severity is severity for finding in self.findings)


def examine(app: App, module: str, wanted: Wanted, make: Callable[[], Reading]) -> Report:
    """Look at an App and at what is deployed for it.

    Args:
        app: the App, of which nothing is opened or called.
        module: the module that it is in, by which its function is recognised.
        wanted: what to look at.
        make: makes what asks AWS.

    Raises:
        ExtraMissing: boto3 is not installed.
    """
    doctor = _Doctor(app, module, wanted)
    is_answered = True
    doctor.look_at_app()
    try:
        reading = make()
        try:
            doctor.look_at_aws(reading)
        finally:
            doctor.findings += reading.findings
    except Unanswered as unanswered:
        is_answered = False
        doctor.findings.append(unanswered.finding)
    return Report(tuple(dict.fromkeys(doctor.findings)), tuple(doctor.checked), is_answered)


class _Doctor:
    """Goes from the App to the stream, its mappings and their functions."""

    def __init__(self, app: App, module: str, wanted: Wanted) -> None:
        self._app = app
        self._module = module
        self._wanted = wanted
        self._table = None if wanted.table is None else table_of(wanted.table) or wanted.table
        self.findings: list[Finding] = []
        self.checked: list[Checked] = []

    def look_at_app(self) -> None:
        self.findings += check_app(self._app, self._table)
        count = len(self._app.routes)
        self._saw("app", f"{count} {'route' if count == 1 else 'routes'}, and their filters")

    def look_at_aws(self, reading: Reading) -> None:
        gathering = Gathering(reading)
        self._look_at_place(reading)
        if self._wanted.mapping is None:
            for table in (
                [self._wanted.table] if self._wanted.table else tables_of(self._app.routes)
            ):
                gathering.stream(table)  # DynamoDB first: a stand-in need not know Lambda
        mappings = self._mappings(gathering)
        tables = self._tables(mappings)
        if not tables and self._wanted.mapping is None:
            self.findings.append(found("table-unknown", "app"))
        for table in tables:
            self._look_at_table(gathering, table, mappings)
        targets = gathering.targets(self._app)
        self.findings += check_targets(self._app, targets)
        for target in targets:
            if target.exists:
                self._saw("what the App writes to", f"{target.arn} is there")

    def _look_at_place(self, reading: Reading) -> None:
        self._saw("AWS", f"region {reading.region}, credentials from {reading.source}")
        if not reading.is_aws:
            self.findings.append(found("stand-in", "AWS", endpoint=reading.endpoint))
        other = os.environ.get("AWS_DEFAULT_REGION")
        own = os.environ.get("AWS_REGION")
        if own and other and own != other and reading.region == own:
            self.findings.append(found("regions-differ", "AWS", region=own, other=other))

    def _mappings(self, gathering: Gathering) -> list[LiveMapping]:
        """Return all mappings of the region, or the one that is wanted; none if that is missing."""
        uuid = self._wanted.mapping
        if uuid is None:
            return gathering.all_mappings()
        mapping = gathering.mapping(uuid)
        if mapping is None:
            return []
        table = table_of(mapping.source) if ":dynamodb:" in mapping.source else None
        if table is not None and self._table in (None, table):
            return [mapping]
        self.findings.append(
            found(
                "mapping-elsewhere",
                f"mapping {uuid}",
                uuid=uuid,
                source=mapping.source or "nothing",
                whose="a DynamoDB table" if self._table is None else f"table {self._table}",
            )
        )
        return []

    def _tables(self, mappings: Sequence[LiveMapping]) -> list[str]:
        if self._wanted.table is not None:
            return [self._wanted.table]
        if self._wanted.mapping is not None or (
            self._wanted.function is not None and not tables_of(self._app.routes)
        ):
            sources = (table_of(mapping.source) for mapping in self._of_function(mappings))
            return list(dict.fromkeys(name for name in sources if name))
        return list(tables_of(self._app.routes))

    def _of_function(self, mappings: Iterable[LiveMapping]) -> list[LiveMapping]:
        """Leave out what another function has than the one that is wanted."""
        name = self._wanted.function
        if name is None:
            return list(mappings)
        bare = name.split(":")[6] if name.startswith("arn:") else name.partition(":")[0]
        return [mapping for mapping in mappings if mapping.function_name == bare]

    def _look_at_table(
        self, gathering: Gathering, named: str, mappings: Sequence[LiveMapping]
    ) -> None:
        table = table_of(named) or named
        stream = gathering.stream(named)
        app = facts_of(self._app, self._module, table, None if stream is None else stream.view_type)
        of_table = [mapping for mapping in mappings if table_of(mapping.source) == table]
        if stream is not None:
            self.findings += check_stream(stream, app)
            self._saw(f"table {table}", _told(stream))
            if self._wanted.mapping is None and gathering.knows_mappings:
                self.findings += check_readers(stream, of_table)
        ours = self._ours(gathering, table, of_table)
        current = {m.function for m in ours if stream is not None and m.source == stream.arn}
        for mapping in ours:
            function = gathering.function(mapping)
            case = Case(
                mapping=mapping,
                stream=stream,
                function=function,
                app=app,
                has_successor=mapping.function in current,
            )
            for check in CHECKS:
                self.findings += check(case)
            self.findings += gathering.missing_destination(case.subject, mapping)
            self._saw(case.subject, f"its settings and patterns; it is {mapping.state}")
            if function is not None:
                subject = f"function {function.name}"
                self._saw(subject, f"{function.timeout} s, {function.memory_size} MB")

    def _ours(
        self, gathering: Gathering, table: str, mappings: Sequence[LiveMapping]
    ) -> list[LiveMapping]:
        if self._wanted.function is not None:
            named = self._of_function(mappings)
            if not named and gathering.knows_mappings:
                function = self._wanted.function
                subject = f"function {function}"
                self.findings.append(
                    found("mapping-none-of-function", subject, table=table, function=function)
                )
            return named
        if len(names := {mapping.function_name for mapping in mappings}) <= 1:
            return list(mappings)
        functions = [gathering.function(mapping) for mapping in mappings]
        known = [function for function in functions if function is not None]
        ours = chosen(mappings, known, self._module)
        if ours is None:
            self.findings.append(
                found(
                    "mapping-which",
                    f"table {table}",
                    functions=" and ".join(sorted(names)),
                    table=table,
                    module=self._module,
                )
            )
        return ours or []

    def _saw(self, subject: str, fact: str) -> None:
        self.checked.append(Checked(subject, fact))


def _told(stream: Stream) -> str:
    if not stream.is_enabled:
        return f"it is {stream.status}"
    shards = "" if stream.open_shards is None else f", open shards: {stream.open_shards}"
    return f"its stream is enabled with {stream.view_type}{shards}"


def summary(report: Report) -> str:
    """Return how much was found, in one line."""
    counts = Counter(finding.severity for finding in report.findings)
    told = [f"{counts[s]} {s}{'' if counts[s] == 1 else 's'}" for s in Severity if counts[s]]
    return ", ".join(told) or "nothing is wrong"
