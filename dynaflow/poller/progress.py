"""How far shards are done, and the writing of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import anyio

from dynaflow.checkpoints import SHARD_END, Checkpoint, CheckpointStore, Deliveries, supersedes
from dynaflow.errors import StoreError, StoreRefused
from dynaflow.poller.backoff import Backoff
from dynaflow.poller.shutdown import Shutdown
from dynaflow.record import Record, Undecodable

__all__ = ["Checkpoints", "Progress"]

_log = logging.getLogger("dynaflow.poller")

_SAVE_TIMEOUT = 15.0  # seconds; longer than a store's own time-outs


class Checkpoints:
    """The rows of one application and one stream in a store.

    Args:
        store: where they are.
        application: whose they are.
        stream_arn: of which stream.
    """

    def __init__(self, store: CheckpointStore, application: str, stream_arn: str) -> None:
        self._store = store
        self._application = application
        self._stream_arn = stream_arn

    async def load(self) -> Mapping[str, Checkpoint]:
        """Return all rows by shard id.

        Raises:
            StoreError, StoreRefused: as for ``CheckpointStore``.
        """
        return await self._store.load(self._application, self._stream_arn)

    async def save(self, shard_id: str, checkpoint: Checkpoint) -> None:
        """Write a row, even while the task is being cancelled.

        Raises:
            StoreError: it was not written, or not within the time-out.
            StoreRefused: as for ``CheckpointStore``.
        """
        with anyio.move_on_after(_SAVE_TIMEOUT, shield=True) as scope:
            await self._store.save(self._application, self._stream_arn, shard_id, checkpoint)
        if scope.cancelled_caught:
            raise StoreError(f"the store gave no answer within {_SAVE_TIMEOUT:.0f} s")


class Progress:
    """One shard's checkpoint: what it is now, and what the store has of it.

    ``deliveries`` are the counts of what is not done, those of the saved row at first.

    Args:
        checkpoints: where it is written.
        shard_id: the shard.
        saved: the row as it is; None if there is none.
        shutdown: ends the tries to write.
        backoff: waits between tries to write.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        shard_id: str,
        saved: Checkpoint | None,
        *,
        shutdown: Shutdown,
        backoff: Backoff,
    ) -> None:
        self._checkpoints = checkpoints
        self._shard_id = shard_id
        self._saved = saved
        self._current = saved
        self.deliveries: Deliveries = {} if saved is None else saved.deliveries
        self._shutdown = shutdown
        self._backoff = backoff

    @property
    def position(self) -> int:
        """The last sequence number that is done, as an int; -1 if none is."""
        number = self._current.sequence_number if self._current is not None else None
        return -1 if number is None else int(number)

    def advance(self, sequence_number: str) -> None:
        """Note that all records up to and including this one are done. It never goes back."""
        checkpoint = Checkpoint(sequence_number)
        if supersedes(checkpoint, self._current):
            self._current = checkpoint

    def count(self, delivered: Sequence[Record | Undecodable], deliveries: Deliveries) -> None:
        """Note in how many deliveries routes were called and not done.

        Args:
            delivered: the records of the last delivery, ascending. What was counted for later
                records stays.
            deliveries: what is to be kept for these.
        """
        last = delivered[-1].position
        later = {key: count for key, count in self.deliveries.items() if int(key[0]) > last}
        self.deliveries = {**deliveries, **later}

    def end(self) -> None:
        """Note that the shard has ended and that all its records are done."""
        self._current = Checkpoint(SHARD_END)

    async def save(self) -> None:
        """Write the checkpoint; try until it is written, or a stop is requested.

        Raises:
            StoreRefused: the store cannot be trusted any more.
        """
        while not await self.try_save() and not self._shutdown.is_requested:
            with self._shutdown.interruptible():
                await anyio.sleep(self._backoff.next())
        self._backoff.reset()

    async def try_save(self) -> bool:
        """Write the checkpoint once, if it is not written; return whether it is. Not cancelled.

        Raises:
            StoreRefused: the store cannot be trusted any more.
        """
        current = self._row()
        if current is None or current == self._saved:
            return True
        try:
            await self._checkpoints.save(self._shard_id, current)
        except StoreRefused:
            raise
        except StoreError as error:
            _log.warning(
                "shard %s: its checkpoint is not saved, and a restart would repeat records: %s",
                self._shard_id,
                error,
            )
            return False
        self._saved = current
        return True

    def _row(self) -> Checkpoint | None:
        """Return what the row should be; None while there is nothing to write."""
        if self._current is not None:
            return replace(self._current, deliveries=self.deliveries)
        return Checkpoint("TRIM_HORIZON", deliveries=self.deliveries) if self.deliveries else None
