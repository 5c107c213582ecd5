"""How far a poller has come in each shard, and where that is kept. Pure: no clocks, no I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

__all__ = [
    "SHARD_END",
    "Checkpoint",
    "CheckpointStore",
    "Deliveries",
    "deliveries_from_json",
    "deliveries_to_json",
    "supersedes",
]

SHARD_END = "SHARD_END"
_STARTS = ("TRIM_HORIZON", "LATEST")

# What a row may hold of deliveries. A DynamoDB item, which a row may become, has 400 KB at most.
_MOST_COUNTS = 1000
_MOST_BYTES = 64 * 1024

Deliveries: TypeAlias = Mapping[tuple[str, str | None], int]
"""By sequence number and route, in how many deliveries the route was called and not done."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far one shard is done. The words are those of the Kinesis Client Library's lease table.

    Args:
        position: a sequence number (all records up to and including it are done), ``SHARD_END``
            (all records are done and the shard has ended), or ``TRIM_HORIZON`` or ``LATEST``
            (where reading started; nothing is done yet).
        pinned_at: for ``LATEST``: when reading started, in seconds since the epoch, so that a
            restart does not skip what was written in between.
        deliveries: in how many deliveries a route was called for a record and not done, by
            sequence number and route's name (None for a record that reaches no route). Only
            records above ``position`` count: others are left out. So are, from the highest record
            down, those beyond 1,000 entries or 64 KB of JSON: a count that is too low parks its
            record later.
    """

    position: str
    pinned_at: float | None = None
    deliveries: Deliveries = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "deliveries", self._kept(self.deliveries))

    @property
    def is_end(self) -> bool:
        """True if the shard has ended and all its records are done."""
        return self.position == SHARD_END

    @property
    def sequence_number(self) -> str | None:
        """The last sequence number that is done; None at a start or at the end."""
        return None if self.is_end or self.position in _STARTS else self.position

    def _kept(self, deliveries: Deliveries) -> Deliveries:
        """Return what a row may hold of these counts, lowest records first."""
        if not deliveries or self.is_end:
            return {}
        done = -1 if self.sequence_number is None else int(self.sequence_number)
        above = [key for key in deliveries if int(key[0]) > done]
        above.sort(key=lambda key: (int(key[0]), key[1] or ""))
        kept: dict[tuple[str, str | None], int] = {}
        size = 2
        for key in above[:_MOST_COUNTS]:
            size += len(deliveries_to_json({key: deliveries[key]})) - 1
            if size > _MOST_BYTES:
                break
            kept[key] = deliveries[key]
        return kept


def deliveries_to_json(deliveries: Deliveries) -> str:
    """Return counts as ASCII JSON: ``[["<sequence number>", "<route>" or null, <count>], …]``."""
    entries = [[number, route, count] for (number, route), count in deliveries.items()]
    return json.dumps(entries, separators=(",", ":"))


def deliveries_from_json(text: str) -> Deliveries:
    """Return the counts that ``deliveries_to_json`` wrote.

    Raises:
        ValueError: it did not write that.
    """
    try:
        entries = json.loads(text)
    except RecursionError as error:
        raise ValueError("these are no counts of deliveries") from error
    if not isinstance(entries, list) or not all(map(_is_entry, entries)):
        raise ValueError("these are no counts of deliveries")
    return {(number, route): count for number, route, count in entries}


def _is_entry(entry: object) -> bool:
    match entry:
        case [str(number), str() | None, int(count)] if not isinstance(count, bool):
            return number.isascii() and number.isdigit() and count > 0
    return False


def supersedes(new: Checkpoint, old: Checkpoint | None) -> bool:
    """Return True if ``new`` is to replace ``old``: it is further, or as far with other counts.

    A checkpoint never goes back. Sequence numbers compare as integers: as text, those of 21 and of
    28 digits order wrongly.
    """
    if old is None:
        return True
    if old.is_end or new.is_end:
        return not old.is_end
    if (new.position, new.pinned_at) == (old.position, old.pinned_at):
        return new.deliveries != old.deliveries
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
    * The counts of deliveries are a part of the row and replaced with it: a ``save`` with the
      row's own position and other counts replaces them. What a ``Checkpoint`` holds of them, at
      most 1,000 entries and 64 KB as ``deliveries_to_json`` writes them, has to fit.
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
