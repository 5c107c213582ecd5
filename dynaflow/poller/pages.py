"""One shard's pages, however long each takes: opening, back-off, and what was lost."""

from __future__ import annotations

import logging
from collections.abc import Callable

import anyio

from dynaflow.errors import RecordsTrimmed, ShardGone, SourceError, StreamRefused
from dynaflow.poller.backoff import Backoff
from dynaflow.poller.shutdown import Shutdown
from dynaflow.source import LATEST, TRIM_HORIZON, Page, Position, Reader, Source

__all__ = ["Pages"]

_log = logging.getLogger("dynaflow.poller")


class Pages:
    """Reads a shard; an error never loses the position, only time.

    Args:
        source: where the shard is.
        shard_id: the shard.
        position: where to start.
        shutdown: ends the waiting.
        backoff: waits between tries.
        is_listed_open: whether the last listing shows the shard as open; such a shard is not gone,
            whatever a call says.
        fail_when_refused: whether a StreamRefused is raised instead of tried again.
    """

    def __init__(
        self,
        source: Source,
        shard_id: str,
        position: Position,
        *,
        shutdown: Shutdown,
        backoff: Backoff,
        is_listed_open: Callable[[], bool],
        fail_when_refused: bool,
    ) -> None:
        self._source = source
        self._shard_id = shard_id
        self._position = position
        self._shutdown = shutdown
        self._backoff = backoff
        self._is_listed_open = is_listed_open
        self._fail_when_refused = fail_when_refused
        self.is_from_latest = False
        """True while the pages come from a start at LATEST, so that none is older than it."""
        self._reader: Reader | None = None
        self._last_read: str | None = position.sequence_number or None
        self._empty_since: float | None = None

    @property
    def empty_for(self) -> float:
        """For how many seconds all reads have succeeded and brought no record."""
        return 0 if self._empty_since is None else anyio.current_time() - self._empty_since

    async def next(self) -> Page | None:
        """Return the next page; None if a stop is requested before there is one.

        Raises:
            StreamRefused: the service refuses the stream, and ``fail_when_refused``.
        """
        while not self._shutdown.is_requested:
            with self._shutdown.interruptible():
                try:
                    page = await self._read()
                except SourceError as error:
                    self._empty_since = None
                    ended = self._take(error)
                    if ended is not None:
                        return ended
                else:
                    self._note(page)
                    return page
                await anyio.sleep(self._backoff.next())
        return None

    async def _read(self) -> Page:
        if self._reader is None:
            position = self._position
            if position == LATEST:
                # A later try would skip what was written since this one: rather repeat.
                self._position = TRIM_HORIZON
            self._reader = await self._source.open(self._shard_id, position)
            self.is_from_latest = position == LATEST
        return await self._reader.next()

    def _note(self, page: Page) -> None:
        self._backoff.reset()
        if page.records:
            self._last_read = page.records[-1].sequence_number
            self._empty_since = None
        elif self._empty_since is None:
            self._empty_since = anyio.current_time()

    def _take(self, error: SourceError) -> Page | None:
        """Prepare the next try; return the last page if there is none."""
        if isinstance(error, ShardGone) and not self._is_listed_open():
            self._report_loss(error, "Going on with its children.")
            return Page(ended=True)
        if isinstance(error, StreamRefused) and self._fail_when_refused:
            raise error
        if isinstance(error, RecordsTrimmed):
            self._reader = None
            if self._position != TRIM_HORIZON or self._last_read is not None:
                self._report_loss(error, "Going on with the oldest record that is kept.")
                self._position, self._last_read = TRIM_HORIZON, None
                return None
            # Else it was the oldest position already: an open shard of DynamoDB Local says so when
            # all its records are trimmed, until the next write.
        level = logging.ERROR if isinstance(error, StreamRefused) else logging.WARNING
        _log.log(level, "shard %s could not be read and is tried again: %s", self._shard_id, error)
        return None

    def _report_loss(self, error: SourceError, what_next: str) -> None:
        _log.error(
            "shard %s: the service dropped records before they were read; those after %s are lost "
            "(%s). %s",
            self._shard_id,
            f"sequence number {self._last_read}" if self._last_read else "the shard's start",
            error,
            what_next,
        )
