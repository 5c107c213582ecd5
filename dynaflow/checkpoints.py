"""How far a poller has come in each shard, and where that is kept. Pure: no clocks, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

__all__ = ["SHARD_END", "Checkpoint", "CheckpointStore", "supersedes"]

SHARD_END = "SHARD_END"
_STARTS = ("TRIM_HORIZON", "LATEST")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far one shard is done. The words are those of the Kinesis Client Library's lease table.

    Args:
        position: a sequence number (all records up to and including it are done), ``SHARD_END``
            (all records are done and the shard has ended), or ``TRIM_HORIZON`` or ``LATEST``
            (where reading started; nothing is done yet).
        pinned_at: for ``LATEST``: when reading started, in seconds since the epoch, so that a
            restart does not skip what was written in between.
    """

    position: str
    pinned_at: float | None = None

    @property
    def is_end(self) -> bool:
        """True if the shard has ended and all its records are done."""
        return self.position == SHARD_END

    @property
    def sequence_number(self) -> str | None:
        """The last sequence number that is done; None at a start or at the end."""
        return None if self.is_end or self.position in _STARTS else self.position


def supersedes(new: Checkpoint, old: Checkpoint | None) -> bool:
    """Return True if ``new`` is further than ``old``. A checkpoint never goes back.

    Sequence numbers compare as integers: as text, those of 21 and of 28 digits order wrongly.
    """
    if old is None:
        return True
    if old.is_end or new.is_end:
        return not old.is_end
    if new.sequence_number is None or old.sequence_number is None:
        return old.sequence_number is None and new.sequence_number is not None
    return int(new.sequence_number) > int(old.sequence_number)


class CheckpointStore(Protocol):
    """Keeps checkpoints: one row per application, stream and shard.

    The stream's ARN contains its label, so a stream that was disabled and enabled again has other
    rows. Several tasks may call a store at once.

    Contract, for every implementation (tests/contracts/test_checkpoint_store.py):

    * ``save`` returns after the checkpoint is durable, as far as the medium can be, or raises.
    * A row never goes back: a ``save`` that does not supersede the row changes nothing, silently.
    * ``load`` returns what was saved, by any process, under the same application and stream only.

    Raises:
        StoreError: this read or write failed and may be tried again.
        StoreRefused: the store cannot be trusted (corrupt, foreign, newer than this version);
            nothing may be handled with it, and it is never replaced by an empty one.
    """

    async def load(self, application: str, stream_arn: str) -> Mapping[str, Checkpoint]:
        """Return the checkpoints of one stream by shard id; empty if there are none."""
        ...

    async def save(
        self, application: str, stream_arn: str, shard_id: str, checkpoint: Checkpoint
    ) -> None:
        """Write one shard's checkpoint."""
        ...
