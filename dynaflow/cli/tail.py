"""``dynaflow tail``: a table's changes, as they come."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

import typer
from rich.text import Text

from dynaflow.batch import Batch, BatchResult
from dynaflow.cli._exit import ExitCode, refuse
from dynaflow.cli._grammar import parse_changed, parse_condition, parse_event_name, parse_key
from dynaflow.cli._options import EndpointUrl, Region
from dynaflow.cli._output import data_console, logs_to_stderr, print_lines, talk
from dynaflow.cli.run import Start, poll
from dynaflow.diff import AttributePath
from dynaflow.errors import ImageMissing, MalformedRecord, NonRetryable
from dynaflow.filters import Filter
from dynaflow.poller import Poller, Shutdown
from dynaflow.record import EventName, Image, Record, Undecodable
from dynaflow.sources import DynamoDBSource
from dynaflow.stores import MemoryStore
from dynaflow.values import harmless, json_default, printable

__all__ = ["Viewer", "show_lines", "tail"]

T = TypeVar("T")

_STYLES = {"INSERT": "bold green", "MODIFY": "bold yellow", "REMOVE": "bold red"}
_SIGNS = {"+": "green", "-": "red", " ": "yellow"}


def tail(
    table: Annotated[
        str,
        typer.Argument(metavar="TABLE", help="The table's name or ARN, or its stream's ARN."),
    ],
    *,
    start: Annotated[
        Start | None,
        typer.Option(
            "--from",
            help="At the oldest record that is kept (24 hours), or at what is written from now "
            "on: the default, but with --once.",
        ),
    ] = None,
    events: Annotated[
        list[str] | None,
        typer.Option("--event", help="Only insert, modify or remove; may be repeated."),
    ] = None,
    conditions: Annotated[
        list[str] | None,
        typer.Option(
            "--where",
            metavar="PATH=VALUE",
            help="Only items of which this is true: status=paid, 'total>100'; repeated: all.",
        ),
    ] = None,
    keys: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="NAME=VALUE", help="Only items with this key: id=A-1."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--changed", metavar="PATH", help="Only records in which this changed."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="End after so many records were shown.")
    ] = None,
    once: Annotated[
        bool,
        typer.Option("--once", "--no-follow", help="End when the stream is read up."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each record as one line of JSON.")
    ] = False,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
) -> None:
    """Show a table's changes as they come, each with what it changed.

    It shows items' data, keeps no checkpoint, and runs no handler.
    """
    wanted = _wanted(events or (), conditions or (), keys or (), changes or ())
    starting = start or (Start.TRIM_HORIZON if once else Start.LATEST)
    source = DynamoDBSource(table, region=region, endpoint_url=endpoint_url)
    show = _show_json if as_json else show_lines
    talk(f"tailing {table} from {starting}")
    viewer, store = Viewer(wanted, show, limit), MemoryStore()

    def make_poller(shutdown: Shutdown) -> Poller:
        viewer.stop = shutdown.request
        position: Any = "LATEST" if starting is Start.LATEST else "TRIM_HORIZON"
        return Poller(
            viewer,
            source,
            store,
            starting_position=position,
            once=once,
            shutdown=shutdown,
        )

    with logs_to_stderr(level=logging.WARNING):
        asyncio.run(poll(source, store, make_poller))
    if viewer.has_lost_its_reader:
        raise BrokenPipeError
    talk(f"{viewer.shown} of {viewer.seen} records shown")


class Viewer:
    """What a poller takes for an App: it shows records, strictly in the order of their shard.

    A handler in an App would never get to see a record that cannot be read, and each of these would
    be delivered again and again.

    Args:
        wanted: says whether a record is to be shown.
        show: prints one.
        limit: after how many to stop; None for no end.
    """

    def __init__(
        self,
        wanted: Callable[[Record], bool],
        show: Callable[[Record | Undecodable], None],
        limit: int | None,
    ) -> None:
        self._wanted = wanted
        self._show = show
        self._limit = limit
        self.stop: Callable[[], None] = lambda: None
        self.seen = 0
        self.shown = 0
        self.has_lost_its_reader = False

    def refuse_view_type(self, view_type: str | None, table: str | None = None) -> None:
        """Refuse none: what there is, is shown."""

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """There is nothing to open."""
        yield

    async def process(self, batch: Batch, **_: object) -> BatchResult:
        """Show the records of a batch, and call all of them done."""
        for record in batch.records:
            if self.has_lost_its_reader or self.shown == self._limit:
                break
            self.seen += 1
            if self._is_wanted(record):
                self._show_one(record)
        return BatchResult()

    def _is_wanted(self, record: Record | Undecodable) -> bool:
        if isinstance(record, Undecodable):
            return True  # whether it is meant cannot be told
        try:
            return self._wanted(record)
        except NonRetryable as error:
            talk(f"dynaflow: record {record.sequence_number} is left out: {error}")
            return False

    def _show_one(self, record: Record | Undecodable) -> None:
        try:
            self._show(record)
            sys.stdout.flush()
        except BrokenPipeError:
            self.has_lost_its_reader = True
            self.stop()
            return
        self.shown += 1
        if self.shown == self._limit:
            self.stop()


def _wanted(
    events: Sequence[str], conditions: Sequence[str], keys: Sequence[str], changes: Sequence[str]
) -> Callable[[Record], bool]:
    names = frozenset(_parsed("--event", events, parse_event_name) or EventName)
    filters: list[Filter] = [
        *_parsed("--key", keys, parse_key),
        *_parsed("--where", conditions, parse_condition),
        *_parsed("--changed", changes, parse_changed),
    ]

    def is_wanted(record: Record) -> bool:
        return record.event_name in names and all(condition(record) for condition in filters)

    return is_wanted


def _parsed(option: str, texts: Sequence[str], parse: Callable[[str], T]) -> list[T]:
    parsed = []
    for text in texts:
        try:
            parsed.append(parse(text))
        except ValueError as error:
            refuse(f"{option} {text!r}: {error}", ExitCode.USAGE)
    return parsed


def show_lines(record: Record | Undecodable) -> None:
    """Print a record for a reader."""
    print_lines(_lines(record), data_console())


def _lines(record: Record | Undecodable) -> Iterator[Text]:
    if isinstance(record, Undecodable):
        yield Text(f"unreadable  {record.sequence_number}  {record.reason}", "bold red")
        return
    name = record.event_name.value
    when = _time(record) or "?"
    by = "  by Time to Live" if record.is_ttl_delete else ""
    yield Text.assemble(
        (name, _STYLES[name]), f"  {_key(record)}  {when}  {record.sequence_number}{by}"
    )
    try:
        yield from (Text(f"  {sign} {text}", _SIGNS[sign]) for sign, text in _changes(record))
    except NonRetryable as error:
        yield Text(f"  {error}", "red")


def _changes(record: Record) -> Iterator[tuple[str, str]]:
    """Yield a sign and a text for each path that differs; the key is said already."""
    try:
        diff = record.diff
    except ImageMissing:
        for image, which in ((record.old, "was"), (record.new, "is")):
            if image is not None:
                yield from ((" ", f"{_name(n)} {which} {printable(v)}") for n, v in image.items())
        return
    keys = {(name,) for name in record.keys}
    for path in diff.paths:
        if path in diff.changed:
            change = diff.changed[path]
            texts = printable(change.old), printable(change.new)
            yield " ", "{}: {} -> {}".format(harmless(str(path)), *texts)
        elif path not in keys:
            sign, values = ("+", diff.added) if path in diff.added else ("-", diff.removed)
            yield sign, f"{harmless(str(path))}: {printable(values[path])}"


def _key(record: Record) -> str:
    try:
        return " ".join(f"{_name(n)}={printable(v)}" for n, v in record.keys.items())
    except NonRetryable as error:
        return f"({error})"


def _name(name: str) -> str:
    return harmless(str(AttributePath((name,))))


def _time(record: Record) -> str | None:
    try:
        created_at = record.created_at
    except MalformedRecord:
        return None
    return None if created_at is None else f"{created_at:%Y-%m-%dT%H:%M:%SZ}"


def _show_json(record: Record | Undecodable) -> None:
    sys.stdout.write(json.dumps(_report(record), default=json_default) + "\n")


def _report(record: Record | Undecodable) -> dict[str, Any]:
    if isinstance(record, Undecodable):
        reason = str(record.reason)
        return {"event": None, "sequenceNumber": record.sequence_number, "unreadable": reason}
    report: dict[str, Any] = {
        "event": record.event_name.value,
        "table": record.table,
        "sequenceNumber": record.sequence_number,
        "eventID": record.event_id,
        "time": _time(record),
        "ttl": record.is_ttl_delete,
    }
    try:
        return report | {
            "keys": _image(record.keys),
            "old": _image(record.old),
            "new": _image(record.new),
            "diff": _diff(record),
        }
    except NonRetryable as error:
        return report | {"unreadable": str(error)}


def _image(image: Image | None) -> dict[str, Any] | None:
    return None if image is None else image.to_dict()


def _diff(record: Record) -> Mapping[str, Any] | None:
    try:
        diff = record.diff
    except ImageMissing:
        return None
    return {
        "added": {str(path): value for path, value in diff.added.items()},
        "removed": {str(path): value for path, value in diff.removed.items()},
        "changed": {
            str(path): {"old": change.old, "new": change.new}
            for path, change in diff.changed.items()
        },
    }
