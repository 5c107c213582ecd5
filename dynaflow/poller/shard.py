"""Follows one shard: a page is read, run, checkpointed, and so on until the shard has ended."""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeAlias

import anyio

from dynaflow._needs import CheckedViews
from dynaflow.batch import Batch, BatchResult, Status
from dynaflow.checkpoints import Checkpoint
from dynaflow.engine.memory import Memory
from dynaflow.errors import MalformedRecord
from dynaflow.poller.backoff import Backoff
from dynaflow.poller.pages import Pages
from dynaflow.poller.progress import Progress
from dynaflow.poller.shutdown import Shutdown
from dynaflow.record import Record, Undecodable
from dynaflow.source import LATEST, TRIM_HORIZON, Position, Source, after

__all__ = ["Application", "Finish", "Options", "ShardPoller", "start_position"]

_log = logging.getLogger("dynaflow.poller")

Records: TypeAlias = Sequence[Record | Undecodable]

_AFTER_RECORDS = 0.25  # seconds until the next read: at most four a second, like Lambda's pollers
_AFTER_NOTHING = 1.0
_ONCE_EMPTY = 5.0  # seconds of empty pages after which a shard is read up, under once
_ONCE_DELIVERIES = 3  # of the same lowest record, after which a shard is given up, under once

# A restart under LATEST reads from the oldest record and leaves out what was created before the
# first start. Creation times are cut off to a minute at worst (DynamoDB Local), and the clocks may
# be five minutes apart (beyond that AWS refuses signatures): rather repeat than lose.
_PIN_SLACK = 360.0


class Application(Protocol):
    """What a poller needs of an App."""

    def refuse_view_type(self, view_type: str | None, table: str | None = None) -> None:
        """Raise ViewTypeMismatch if a stream of this view type leaves out what handlers need."""
        ...

    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """Open what handlers need, for as long as the context lasts."""
        ...

    async def process(
        self,
        batch: Batch,
        *,
        may_start: Callable[[], bool] | None = None,
        on_progress: Callable[[Record | Undecodable], None] | None = None,
        shared: bool = False,
        memory: Memory | None = None,
    ) -> BatchResult:
        """Run a batch and return what became of it."""
        ...


class Finish(Enum):
    """Why a shard is followed no more."""

    ENDED = "ended"
    STOPPED = "stopped"
    EMPTY = "empty"
    GIVEN_UP = "given up"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is the same for all shards of a poller.

    Args:
        app: runs the batches.
        source: where the records come from.
        views: refuses a view type that records tell.
        shutdown: whether to stop.
        grace: seconds that calls in flight have to end after a request to stop.
        once: whether to end when a shard gives only empty pages, or fails again and again.
        random: returns a number from 0 to below 1.
        is_shared: whether other shards are followed at the same time.
    """

    app: Application
    source: Source
    views: CheckedViews
    shutdown: Shutdown
    grace: float
    once: bool
    random: Callable[[], float]
    is_shared: Callable[[], bool]


class ShardPoller:
    """Follows one shard.

    Args:
        shard_id: the shard.
        pages: the shard's pages.
        progress: the shard's checkpoint from now on.
        options: what is the same for all shards.
        pinned_at: when reading the stream first started at LATEST, in seconds since the epoch, if
            nothing is done yet in this shard; records that are clearly older count as done.
    """

    def __init__(
        self,
        shard_id: str,
        pages: Pages,
        progress: Progress,
        options: Options,
        *,
        pinned_at: float | None = None,
    ) -> None:
        self.progress = progress
        self.records_done = 0
        self.not_done: Records = ()
        """The records that were given up."""
        self._shard_id = shard_id
        self._pages = pages
        self._options = options
        self._shutdown = options.shutdown
        self._memory = Memory(exclusive=True)
        self._memory.seed(progress.deliveries)
        self._pinned_at = pinned_at
        self._backoff = Backoff(base=1, cap=60, random=options.random)

    async def run(self) -> Finish:
        """Follow the shard until it has ended or a stop is requested.

        Raises:
            StoreRefused: the store cannot be trusted any more.
            StreamRefused: the service refuses the stream, under once.
            ViewTypeMismatch: its records lack an image that a route asks for; none of them is run.
            Exception: whatever ``process`` raises; a failed record is none of it.
        """
        try:
            return await self._follow()
        finally:
            await self.progress.try_save()

    async def _follow(self) -> Finish:
        while (page := await self._pages.next()) is not None:
            self._options.views.check_records(page.records)
            if not await self._deliver(self._unhandled(page.records)):
                return Finish.STOPPED if self._shutdown.is_requested else Finish.GIVEN_UP
            if page.ended:
                self.progress.end()
            await self.progress.save()
            if page.ended:
                return Finish.ENDED
            if self._options.once and self._pages.empty_for >= _ONCE_EMPTY:
                return Finish.EMPTY
            await self._sleep(_AFTER_RECORDS if page.records else _AFTER_NOTHING)
        return Finish.STOPPED

    def _unhandled(self, records: Records) -> Records:
        """Leave out what is done already, and what is older than a first start at LATEST."""
        records = records[bisect_right(records, self.progress.position, key=_position_of) :]
        if self._pinned_at is None or self._pages.is_from_latest:
            return records
        oldest = self._pinned_at - _PIN_SLACK
        skipped = 0
        while skipped < len(records) and _was_created_before(records[skipped], oldest):
            skipped += 1
        self._note_done(records, skipped)
        if skipped < len(records):
            self._pinned_at = None
        return records[skipped:]

    async def _deliver(self, records: Records) -> bool:
        """Run records until all are done; return False if they are left at that.

        What is not done comes again, without what is done above it, after a growing wait.
        """
        self._backoff.reset()
        pending, lowest, deliveries = records, None, 0
        while pending:
            result = await self._process(records, pending)
            pending = result.not_done
            self._note_done(records, _count_below(records, pending))
            if not pending:
                break
            if pending[0] is not lowest:
                lowest, deliveries = pending[0], 0
                self._backoff.reset()
            deliveries += 1
            if self._options.once and deliveries >= _ONCE_DELIVERIES:
                self.not_done = pending
            else:
                await self._wait(result, deliveries)
            if self.not_done or self._shutdown.is_requested:
                break
        self.records_done += len(records) - len(pending)
        return not pending

    async def _process(self, records: Records, pending: Records) -> BatchResult:
        def on_progress(done: Record | Undecodable) -> None:
            open_from = bisect_right(pending, done.position, key=_position_of)
            self._note_done(records, _count_below(records, pending[open_from : open_from + 1]))

        options, not_done = self._options, pending
        try:
            with self._shutdown.interruptible(grace=options.grace):
                result = await options.app.process(
                    Batch(tuple(pending), options.source.stream_arn, shard_id=self._shard_id),
                    may_start=lambda: not self._shutdown.is_requested,
                    on_progress=on_progress,
                    shared=options.is_shared(),
                    memory=self._memory,
                )
                not_done = result.not_done
                return result
        finally:
            self.progress.count(pending, self._memory.failures_of(not_done))
        return BatchResult(not_done=tuple(pending))  # cut off; what is done was told as progress

    async def _wait(self, result: BatchResult, deliveries: int) -> None:
        """Save what is done, say what is not, and wait for the next delivery."""
        if self._shutdown.is_requested:
            return
        lowest, *others = result.not_done
        failed = [
            outcome.route
            for outcome in result.outcomes
            if outcome.record is lowest and outcome.status is Status.FAILED
        ]
        counts = [self._memory.failures(lowest, route) for route in failed]  # over restarts
        wait = self._backoff.next()
        _log.warning(
            "shard %s: record %s is not done after %d deliveries (%s), nor are %d later records of "
            "its page; next delivery in %.1f s",
            self._shard_id,
            lowest.sequence_number,
            max([deliveries, *counts]),
            ", ".join(route or "no route" for route in failed) or "it was not started",
            len(others),
            wait,
        )
        await self.progress.save()
        await self._sleep(wait)

    def _note_done(self, records: Records, count: int) -> None:
        """Note that the first so many records of a page are done."""
        if count:
            self.progress.advance(records[count - 1].sequence_number)

    async def _sleep(self, seconds: float) -> None:
        with self._shutdown.interruptible():
            await anyio.sleep(seconds)


def start_position(checkpoint: Checkpoint | None, *, is_first_start: bool) -> Position:
    """Return where reading a shard starts.

    Args:
        checkpoint: the shard's row, not SHARD_END; None if there is none.
        is_first_start: whether the row was made just now. A LATEST of an earlier start would skip
            what was written since then.
    """
    if checkpoint is not None and checkpoint.sequence_number is not None:
        return after(checkpoint.sequence_number)
    if checkpoint is not None and checkpoint.position == "LATEST" and is_first_start:
        return LATEST
    return TRIM_HORIZON


def _position_of(record: Record | Undecodable) -> int:
    return record.position


def _count_below(records: Records, not_done: Records) -> int:
    """Return how many records of a page are below the lowest that is not done."""
    if not not_done:
        return len(records)
    return bisect_left(records, not_done[0].position, key=_position_of)


def _was_created_before(record: Record | Undecodable, moment: float) -> bool:
    """Return True if the record says so; a moment is in seconds since the epoch."""
    try:
        created_at = record.created_at if isinstance(record, Record) else None
    except MalformedRecord:
        return False
    return created_at is not None and created_at.timestamp() < moment
