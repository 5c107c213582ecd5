"""``dynaflow recover``: what Lambda gave up is read from the stream again, and run or parked."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from dynaflow._needs import CheckedViews
from dynaflow.app import App
from dynaflow.batch import Batch, Status
from dynaflow.cli._event import read_documents
from dynaflow.cli._exit import ExitCode, refuse
from dynaflow.cli._letters import open_letters
from dynaflow.cli._messages import Foreign, Stretch, stretches_in
from dynaflow.cli._options import AppDirectory, AsJson, EndpointUrl, Region
from dynaflow.cli._output import logs_to_stderr, print_json, print_table, prints_to_stderr, talk
from dynaflow.cli._stretch import read_stretch
from dynaflow.cli._target import load_app
from dynaflow.cli.invoke import COLUMNS, reports, rows
from dynaflow.dead_letter import DeadLetter, DeadLetterRecord, Reason
from dynaflow.engine.memory import Memory
from dynaflow.errors import DynaflowError, MalformedRecord
from dynaflow.record import Record, Undecodable, table_of
from dynaflow.source import Source
from dynaflow.sources import DynamoDBSource
from dynaflow.values import harmless

__all__ = ["recover"]

Entry: TypeAlias = dict[str, Any]
OpenSource: TypeAlias = Callable[[str], AbstractAsyncContextManager[Source]]

_LISTED = ("event", "table", "sequence number", "written")
_NOBODYS = "that no route takes"
_READ = "read"  # of a record that was neither run nor parked


@dataclass(frozen=True, slots=True)
class Found:
    """The records of one stream that messages are about.

    Args:
        batch: they, in the stream's order.
        stretches: for each of them, what it was given up with.
        gone: how many there were besides them.
    """

    batch: Batch
    stretches: Sequence[Stretch]
    gone: int


def recover(
    message_file: Annotated[
        Path,
        typer.Argument(
            metavar="MESSAGE.json",
            help="Lambda's message about records it gave up, one or many, as a queue, a topic or "
            "a bucket has it; - reads it from stdin.",
        ),
    ],
    *,
    target: Annotated[
        str | None,
        typer.Option("--app", metavar="MODULE:APP", help="Run the records through this App."),
    ] = None,
    park: Annotated[
        str | None,
        typer.Option("--park", metavar="ADDRESS", help="Put the records into this dead letter."),
    ] = None,
    as_json: AsJson = False,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    app_directory: AppDirectory = Path(),
) -> None:
    """Read records that Lambda gave up from their stream again, and run or park them.

    The stream keeps them for 24 hours; a message in S3 has them itself. Without
    --app and --park they are only listed. Exits with 1 if a record is not done,
    or is gone.
    """
    if target is not None and park is not None:
        refuse("--app runs the records, --park keeps them: leave one of them out", ExitCode.USAGE)
    stretches, is_whole = _stretches(message_file)
    open_source = partial(DynamoDBSource, region=region, endpoint_url=endpoint_url)
    entries: list[Entry] = []
    with prints_to_stderr(), logs_to_stderr():
        app = None if target is None else load_app(target, app_directory)
        sink = None if park is None else open_letters(park)
        found = asyncio.run(read_all(stretches, open_source))
        try:
            if app is not None:
                asyncio.run(_run(app, found, entries))
            elif sink is not None:
                asyncio.run(_park(sink, found, entries))
            else:
                entries += (_listed(record) for part in found for record in part.batch.records)
        finally:
            talk(_summary(found, entries))
    _print(entries, as_json=as_json, gone=sum(part.gone for part in found))
    if not is_whole or any(part.gone for part in found) or not all(map(_is_fine, entries)):
        raise typer.Exit(ExitCode.RECORDS_FAILED)


def _stretches(path: Path) -> tuple[list[Stretch], bool]:
    """Return what the messages in a file are about, and whether there is nothing else in it."""
    found = [entry for document in read_documents(path) for entry in stretches_in(document)]
    foreign = [entry for entry in found if isinstance(entry, Foreign)]
    stretches = [entry for entry in found if isinstance(entry, Stretch)]
    if not stretches:
        name = "stdin" if str(path) == "-" else str(path)
        why = foreign[0] if foreign else "it is empty"
        refuse(f"{name} has no message of Lambda about records it gave up: {why}", ExitCode.USAGE)
    for entry in foreign:
        talk(f"dynaflow: left out: {entry}")
    return stretches, not foreign


async def read_all(stretches: Iterable[Stretch], open_source: OpenSource) -> list[Found]:
    """Read everything before anything is run, so that a stream that refuses changes nothing.

    Raises:
        SourceError, StreamRefused: a stream could not be read.
    """
    ordered = sorted(stretches, key=lambda stretch: (stretch.stream_arn, int(stretch.first)))
    return [
        await _read(arn, group, open_source)
        for arn, group in groupby(ordered, key=lambda stretch: stretch.stream_arn)
    ]


async def _read(arn: str, stretches: Iterable[Stretch], open_source: OpenSource) -> Found:
    """Read the stretches of one stream. What two of them share is there once."""
    by_place: dict[tuple[int, str], tuple[Record | Undecodable, Stretch]] = {}
    gone = 0
    async with AsyncExitStack() as stack:
        source: Source | None = None
        for stretch in stretches:
            records = stretch.records
            if records is None:
                if source is None:
                    source = await stack.enter_async_context(open_source(arn))
                records = await read_stretch(source, stretch.shard_id, stretch.first, stretch.last)
            gone += _missing(stretch, records)
            for record in records:
                place = record.position, stretch.shard_id  # a number is one shard's own
                by_place.setdefault(place, (record, stretch))
    found = [by_place[place] for place in sorted(by_place)]
    records = tuple(record for record, _ in found)
    return Found(Batch(records, arn), [stretch for _, stretch in found], gone)


def _missing(stretch: Stretch, records: Sequence[Record | Undecodable]) -> int:
    """Return how many records are gone, at least, and say so."""
    ends = {record.position for record in records} & {int(stretch.first), int(stretch.last)}
    is_cut = ends != {int(stretch.first), int(stretch.last)}
    gone = max(stretch.size - len(records), int(is_cut))
    if gone:
        count = f"at least {gone} of" if records else "all"
        since = f", and these were written from {stretch.arrived} on" if stretch.arrived else ""
        why = f"a stream keeps its records for 24 hours{since}"
        talk(harmless(f"{stretch}: {count} {stretch.size} records are gone: {why}"))
    elif len(records) > stretch.size:
        talk(
            harmless(f"{stretch}: {len(records)} records, of which {stretch.size} were for the ")
            + "function: filters of its mapping left the others out. All are taken now"
        )
    return gone


async def _run(app: App, found: Sequence[Found], entries: list[Entry]) -> None:
    views = CheckedViews(app.refuse_view_type)
    for part in found:
        views.check_records(part.batch.records)
    async with app.lifespan():
        for part in found:
            result = await app.process(part.batch, memory=_memory(app, part))
            entries += reports(part.batch, result)


def _memory(app: App, found: Found) -> Memory:
    """Return a memory of how often Lambda delivered the records, so that they can be parked.

    It says at least one less than ``after_deliveries``: what failed as often is not called again.
    """
    limits = {route.name: route.after_deliveries for route in app.routes}
    memory = Memory(exclusive=True)
    memory.seed(
        {
            (record.sequence_number, name): min(stretch.deliveries, limit - 1)
            for record, stretch in zip(found.batch.records, found.stretches, strict=True)
            for name, limit in limits.items()
            if limit is not None
        }
    )
    return memory


async def _park(sink: DeadLetter, found: Iterable[Found], entries: list[Entry]) -> None:
    for part in found:
        for record, stretch in zip(part.batch.records, part.stretches, strict=True):
            taken = sink(_letter(record, stretch))
            if inspect.isawaitable(taken):
                await taken
            entries.append({**_listed(record), "status": Status.PARKED.value})


def _letter(record: Record | Undecodable, stretch: Stretch) -> DeadLetterRecord:
    """Return the letter of a record that Lambda gave up; no route is known."""
    error: BaseException = DynaflowError(f"Lambda gave the record up: {stretch.condition}")
    reason: Reason = "over_age" if stretch.condition == "RecordAgeExceeded" else "deliveries"
    if isinstance(record, Undecodable):
        error, reason = record.reason, "undecodable"
    letter = DeadLetterRecord.of(
        record,
        route=None,
        error=error,
        reason=reason,
        attempts=0,
        deliveries=stretch.deliveries,
        parked_at=time.time(),
    )
    return letter if reason == "undecodable" else replace(letter, error_type=stretch.condition)


def _print(entries: Sequence[Entry], *, gone: int, as_json: bool) -> None:
    """Print the records: all of them as JSON, or listed; else those that are not simply done."""
    if as_json:
        print_json({"records": entries, "gone": gone})
        return
    listed = [entry for entry in entries if entry["status"] == _READ]
    if listed:
        print_table(_LISTED, [_row(entry) for entry in listed])
    done = (Status.DONE.value, _NOBODYS)
    told = [entry for entry in entries if "calls" in entry and _end(entry) not in done]
    if told:
        print_table(COLUMNS, [row for entry in told for row in rows(entry)])


def _row(entry: Entry) -> tuple[str, ...]:
    name, table = entry["eventName"] or "unreadable", entry["table"] or ""
    return name, harmless(table), entry["sequenceNumber"], entry["written"] or ""


def _listed(record: Record | Undecodable) -> Entry:
    name = record.event_name.value if isinstance(record, Record) else None
    written = None
    if isinstance(record, Record):
        with suppress(MalformedRecord):
            written = record.created_at
    return {
        "eventName": name,
        "table": table_of(record.source_arn),
        "sequenceNumber": record.sequence_number,
        "written": None if written is None else f"{written:%Y-%m-%dT%H:%M:%SZ}",
        "status": _READ,
    }


def _end(entry: Entry) -> str:
    """Return what became of a record: its status, but that a parked one is not simply done."""
    if entry["status"] != Status.DONE.value or "calls" not in entry:
        return str(entry["status"])
    if not entry["calls"]:
        return _NOBODYS
    is_parked = any(call["status"] == Status.PARKED.value for call in entry["calls"])
    return Status.PARKED.value if is_parked else Status.DONE.value


def _is_fine(entry: Entry) -> bool:
    return _end(entry) in (Status.DONE.value, Status.PARKED.value, _NOBODYS, _READ)


def _summary(found: Sequence[Found], entries: Sequence[Entry]) -> str:
    read = sum(len(part.batch.records) for part in found)
    gone = sum(part.gone for part in found)
    ends = Counter(map(_end, entries))
    told = ", ".join(f"{count} {end}" for end, count in ends.items() if end != _READ)
    return (
        f"{read} records read"
        + (f": {told}" if told else "")
        + (f"; {gone} are gone" if gone else "")
    )
