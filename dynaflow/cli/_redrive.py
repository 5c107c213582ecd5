"""Runs dead letters again: each for its route, an item's in order, and only what is done goes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import TypeAlias

from dynaflow._kinesis import is_of_kinesis
from dynaflow.app import App
from dynaflow.batch import BatchResult
from dynaflow.cli._letters import Letter, Sink, short
from dynaflow.cli._stretch import find_record
from dynaflow.engine.order import item_of
from dynaflow.errors import (
    DeadLetterError,
    DynaflowError,
    MalformedRecord,
    SourceError,
    ThreadsExhausted,
)
from dynaflow.record import Record, Undecodable
from dynaflow.source import Shard, Source

__all__ = ["Redrive", "Run", "unfit", "unknown_route"]

_GONE = (
    "its images were too large for the sink, and the stream, which keeps records for 24 hours, has "
    "it no longer"
)

_IN_KINESIS = (
    "its images were too large for the sink, and the stream that has them is one of Kinesis, which "
    "dynaflow does not read by itself"
)

OpenSource: TypeAlias = Callable[[str], AbstractAsyncContextManager[Source]]


@dataclass(frozen=True, slots=True)
class Run:
    """What became of a letter.

    Args:
        letter: it.
        result: what its route came to; None if it was not run.
        problem: why it was not run; None if it was.
    """

    letter: Letter
    result: BatchResult | None = None
    problem: str | None = None

    @property
    def is_done(self) -> bool:
        """True if its route has done the record."""
        return self.result is not None and self.result.failed is None


class Redrive:
    """Runs letters of a sink, one after the other.

    Args:
        app: whose routes run.
        sink: where the letters are.
        open_source: opens a stream, for records that were too large for their letters.
    """

    def __init__(self, app: App, sink: Sink, open_source: OpenSource) -> None:
        self.runs: list[Run] = []
        """What became of each letter so far."""
        self._app = app
        self._sink = sink
        self._open_source = open_source
        self._stack = AsyncExitStack()
        self._streams: dict[str, tuple[Source, Sequence[Shard]] | SourceError] = {}
        self._failed: dict[Hashable, list[Letter]] = {}  # by item

    async def run(self, letters: Iterable[Letter]) -> None:
        """Run letters that are in the order of their streams.

        Cancelled, it has removed what is done by then, and nothing else.

        Raises:
            DeadLetterError: what is done could not be removed; the letters behind it are not run.
        """
        async with self._stack, self._app.lifespan():
            for letter in letters:
                run = await self._run(letter)
                self.runs.append(run)
                if run.is_done:
                    await self._remove(letter)

    def plan(self, letters: Iterable[Letter]) -> None:
        """Note what could not be run, and run nothing."""
        self.runs += (Run(letter, problem=unfit(self._app, letter)) for letter in letters)

    async def _run(self, letter: Letter) -> Run:
        if (problem := unfit(self._app, letter)) is not None:
            return Run(letter, problem=problem)
        try:
            record = await self._whole(letter)
        except SourceError as error:
            self._hold(letter, letter.record)
            return Run(letter, problem=f"it has no images, and the stream is not read: {error}")
        if record is None:
            return Run(letter, problem=_GONE)
        if (first := self._earlier(letter, record)) is not None:
            return Run(letter, problem=f"letter {short(first.id)} of the same item comes before it")
        try:
            run = Run(letter, await self._app.redrive(record, letter.letter.route))
        except ThreadsExhausted:
            raise
        except DynaflowError as error:  # the route takes no such record any more
            return Run(letter, problem=str(error))
        if not run.is_done:
            self._hold(letter, record)
        return run

    def _earlier(self, letter: Letter, record: Record | Undecodable) -> Letter | None:
        """Return an earlier letter of the item and the route that is not done."""
        route = letter.letter.route
        for other in self._failed.get(_item(record), ()):
            if route is None or other.letter.route in (route, None):
                return other
        return None

    def _hold(self, letter: Letter, record: Record | Undecodable) -> None:
        item = _item(record)
        if item is not None:
            self._failed.setdefault(item, []).append(letter)

    async def _whole(self, letter: Letter) -> Record | Undecodable | None:
        """Return a letter's record with its images; None if neither it nor the stream has them.

        Raises:
            SourceError: the stream could not be read.
        """
        pointer = letter.letter.pointer
        if pointer is None:
            return letter.record
        if not pointer.stream_arn:
            return None
        source, shards = await self._stream(pointer.stream_arn)
        found = await find_record(source, shards, pointer.sequence_number)
        if isinstance(found, Record) and pointer.event_id and found.event_id != pointer.event_id:
            return None  # a stand-in counts from the same number for every table
        return found

    async def _stream(self, arn: str) -> tuple[Source, Sequence[Shard]]:
        """Return a stream and its shards; one that fails is not asked again."""
        if arn not in self._streams:
            try:
                source = await self._stack.enter_async_context(self._open_source(arn))
                self._streams[arn] = source, await source.shards()
            except SourceError as error:
                self._streams[arn] = error
        stream = self._streams[arn]
        if isinstance(stream, SourceError):
            raise stream
        return stream

    async def _remove(self, letter: Letter) -> None:
        """Remove a letter that is done, also if a signal ends all of this meanwhile."""
        removal = asyncio.ensure_future(self._remove_all(letter))
        try:
            await asyncio.shield(removal)
        except asyncio.CancelledError:
            await removal
            raise

    async def _remove_all(self, letter: Letter) -> None:
        try:
            for kept in letter.kept:
                await self._sink.remove(kept)
        except DeadLetterError as error:
            raise DeadLetterError(
                f"letter {letter.id} was run and is done, but is still there: {error} Remove it "
                "by hand, or its record runs once more; no further letter was run."
            ) from error


def unfit(app: App, letter: Letter) -> str | None:
    """Return why an App cannot run a letter; None if it can."""
    pointer = letter.letter.pointer
    if pointer is not None and is_of_kinesis(pointer.stream_arn):
        return _IN_KINESIS
    if letter.letter.route is not None:
        return unknown_route(app, letter.letter.route)
    table = letter.record.table
    if any(route.table in (None, table) for route in app.routes):
        return None
    return f"the App has no route for table {table}, so nothing would be run"


def unknown_route(app: App, route: str) -> str | None:
    """Return what routes an App has instead of one; None if it has this one."""
    names = [known.name for known in app.routes]
    if route in names:
        return None
    return f"the App has no route {route!r}. It has: {', '.join(names) or 'none'}"


def _item(record: Record | Undecodable) -> Hashable:
    """Return what the records of an item share; None if that cannot be told."""
    keys = record.keys
    try:
        return None if keys is None else item_of(record, keys)
    except MalformedRecord:
        return None
