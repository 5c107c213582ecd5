"""Which shards there are, which of them are ended, and which may start."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import Literal, TypeAlias, TypeVar

import anyio

from dynaflow._needs import CheckedViews
from dynaflow.checkpoints import SHARD_END, Checkpoint
from dynaflow.errors import (
    RecordsTrimmed,
    ShardGone,
    SourceError,
    StoreError,
    StoreRefused,
    StreamRefused,
)
from dynaflow.lineage import latest_checkpoints, startable, unlisted_parents
from dynaflow.poller.backoff import Backoff
from dynaflow.poller.progress import Checkpoints
from dynaflow.poller.shutdown import Shutdown
from dynaflow.source import TRIM_HORIZON, Shard, Source

__all__ = ["Discovery", "StartingPosition"]

_log = logging.getLogger("dynaflow.poller")
_T = TypeVar("_T")

StartingPosition: TypeAlias = Literal["TRIM_HORIZON", "LATEST"]

# How many listings may leave out a shard that the service does keep, before it is read without
# knowing its own parent.
_PATIENCE = 5


class Discovery:
    """The shards of a stream, over all listings so far.

    Args:
        source: what is listed.
        checkpoints: the rows of its shards.
        views: refuses a view type that a listing tells.
        shutdown: ends the waiting.
        random: returns a number from 0 to below 1.
        once: whether a stream that is refused later on is an error, too.
    """

    def __init__(
        self,
        source: Source,
        checkpoints: Checkpoints,
        views: CheckedViews,
        *,
        shutdown: Shutdown,
        random: Callable[[], float],
        once: bool,
    ) -> None:
        self._source = source
        self._checkpoints = checkpoints
        self._views = views
        self._shutdown = shutdown
        self._random = random
        self._once = once
        self._rows: dict[str, Checkpoint] = {}
        self._known: dict[str, Shard] = {}
        self._listed_open: AbstractSet[str] = frozenset()
        self._found_hidden: Counter[str] = Counter()
        self._ended: set[str] = set()
        self._pinned_now: set[str] = set()

    async def start(self, starting_position: StartingPosition, now: float) -> None:
        """Load the rows and list the stream for the first time.

        Args:
            starting_position: where to start if there is no row yet.
            now: seconds since the epoch.

        Raises:
            StoreRefused: the store cannot be trusted.
            StreamRefused: the stream is not there, or not for these credentials.
            ViewTypeMismatch: the stream leaves out an image that a route asks for.
        """
        rows = await self._retry(self._checkpoints.load)
        shards = await self._retry(self._list)
        if rows is None or shards is None:
            return
        if not rows and starting_position == "LATEST":
            await self._start_at_latest(shards, now)
        for shard_id, row in rows.items():
            self._rows[shard_id] = row
            if row.is_end:
                self._ended.add(shard_id)
            else:
                self._known[shard_id] = Shard(shard_id)
        await self._take(shards)

    async def list_again(self) -> bool:
        """List the stream once more; return True if there was anything new.

        Raises:
            StreamRefused: under once.
            ViewTypeMismatch: as for ``start``.
        """
        shards = await self._retry(self._list, is_final=self._once)
        return shards is not None and await self._take(shards)

    def startable(self, started: AbstractSet[str]) -> list[str]:
        """Return the ids of the shards that may start now."""
        return startable(self._known.values(), ended=self._ended, started=started)

    @property
    def is_complete(self) -> bool:
        """False while a parent is named that is neither known nor found to be gone."""
        return not unlisted_parents(self._known.values(), ended=self._ended)

    def is_listed_open(self, shard_id: str) -> bool:
        """Return True if the last listing shows this shard as open."""
        return shard_id in self._listed_open

    def row(self, shard_id: str) -> Checkpoint | None:
        """Return a shard's row as it was at the start; None if there was none."""
        return self._rows.get(shard_id)

    def is_pinned_now(self, shard_id: str) -> bool:
        """Return True if the shard's row is a LATEST of this very start."""
        return shard_id in self._pinned_now

    def end(self, shard_id: str) -> None:
        """Note that a shard has ended, so that its children may start."""
        self._ended.add(shard_id)

    async def _list(self) -> Sequence[Shard]:
        shards = await self._source.shards()
        self._views.check(self._source.stream_arn, self._source.view_type)
        return shards

    async def _start_at_latest(self, shards: Sequence[Shard], now: float) -> None:
        for shard_id, row in latest_checkpoints(shards, now).items():
            if not await self._save(shard_id, row):
                return
            self._rows[shard_id] = row
            (self._ended if row.is_end else self._pinned_now).add(shard_id)

    async def _take(self, shards: Sequence[Shard]) -> bool:
        before = len(self._known) + len(self._ended)
        self._known.update({shard.shard_id: shard for shard in shards})
        self._listed_open = {shard.shard_id for shard in shards if not shard.is_closed}
        for parent_id in unlisted_parents(self._known.values(), ended=self._ended):
            await self._ask_for(parent_id)
        return len(self._known) + len(self._ended) > before

    async def _ask_for(self, shard_id: str) -> None:
        """Find out whether a parent that is not listed is gone, or only hidden."""
        with self._shutdown.interruptible():
            try:
                await self._source.open(shard_id, TRIM_HORIZON)
            except ShardGone:
                _log.info("shard %s is no longer kept; its children start", shard_id)
                if await self._save(shard_id, Checkpoint(SHARD_END)):
                    self._ended.add(shard_id)
                return
            except RecordsTrimmed:
                pass  # it is there, though empty
            except SourceError as error:
                _log.warning("shard %s is not listed, and asking failed: %s", shard_id, error)
                return
            self._found_hidden[shard_id] += 1
            if self._found_hidden[shard_id] >= _PATIENCE:
                self._known[shard_id] = Shard(shard_id)

    async def _save(self, shard_id: str, row: Checkpoint) -> bool:
        async def save() -> bool:
            await self._checkpoints.save(shard_id, row)
            return True

        return bool(await self._retry(save))

    async def _retry(
        self, call: Callable[[], Awaitable[_T]], *, is_final: bool = True
    ) -> _T | None:
        """Call until it works; return None if a stop is requested first.

        Raises:
            StoreRefused, StreamRefused: the latter only if it ``is_final``.
        """
        backoff = Backoff(base=0.5, cap=60, random=self._random)
        while not self._shutdown.is_requested:
            with self._shutdown.interruptible():
                try:
                    return await call()
                except StoreRefused:
                    raise
                except (SourceError, StoreError) as error:
                    if is_final and isinstance(error, StreamRefused):
                        raise
                    _log.warning("trying again: %s", error)
                await anyio.sleep(backoff.next())
        return None
