"""Where a poller reads from: shards, positions in them, pages of records.

A shard is finished only when a page says ``ended``: an empty page is not the end, and neither is an
ending sequence number in a listing (DynamoDB Streams API reference, GetRecords and DescribeStream).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from dynaflow.record import Record, Undecodable

__all__ = [
    "LATEST",
    "TRIM_HORIZON",
    "Page",
    "Position",
    "PositionKind",
    "Reader",
    "Shard",
    "Source",
    "after",
    "at",
]


class PositionKind(StrEnum):
    """The kinds of positions, in the service's words (``ShardIteratorType``)."""

    TRIM_HORIZON = "TRIM_HORIZON"
    LATEST = "LATEST"
    AT_SEQUENCE_NUMBER = "AT_SEQUENCE_NUMBER"
    AFTER_SEQUENCE_NUMBER = "AFTER_SEQUENCE_NUMBER"


@dataclass(frozen=True, slots=True)
class Position:
    """Where reading a shard starts: its oldest record, its newest, at or after a number."""

    kind: PositionKind
    sequence_number: str = ""


TRIM_HORIZON = Position(PositionKind.TRIM_HORIZON)
LATEST = Position(PositionKind.LATEST)


def after(sequence_number: str) -> Position:
    """Return the position just behind the record with this sequence number."""
    return Position(PositionKind.AFTER_SEQUENCE_NUMBER, sequence_number)


def at(sequence_number: str) -> Position:
    """Return the position of the record with this sequence number."""
    return Position(PositionKind.AT_SEQUENCE_NUMBER, sequence_number)


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard as a listing shows it.

    Args:
        shard_id: the service's id.
        parent_id: the shard whose records come before this one's; None for a root. It may name a
            shard that is not listed: trimmed, or only not listed yet.
        is_closed: the listing shows an ending sequence number. A hint, never proof of the end.
        first: the lowest sequence number that its records may have; None if the listing says none.
        last: the highest one; None while the shard is open.
    """

    shard_id: str
    parent_id: str | None = None
    is_closed: bool = False
    first: int | None = None
    last: int | None = None

    def may_have(self, position: int) -> bool:
        """Return True unless the listing says that a record's position is not in this shard."""
        is_below = self.first is not None and position < self.first
        return not is_below and (self.last is None or position <= self.last)


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a shard.

    Args:
        records: in ascending order; often empty.
        ended: nothing will ever come after this page.
        behind: seconds since the last of these records was written; None for an empty page.
    """

    records: tuple[Record | Undecodable, ...] = ()
    ended: bool = False
    behind: float | None = None


class Reader(Protocol):
    """Reads one shard, page after page.

    ``next`` returns the page after the last one that it returned. If it raises, nothing was lost:
    the next call reads the same stretch again. A reader is used by one task at a time.

    Raises (from ``next``):
        SourceError: this read failed and may be tried again: throttled, unreachable, broken.
        ShardGone: the service no longer keeps the shard.
        RecordsTrimmed: the position is older than what the shard still has; open it again at
            TRIM_HORIZON.
        StreamRefused: reading is not allowed, or the stream is not there.
    """

    async def next(self) -> Page:
        """Return the next page."""
        ...


class Source(Protocol):
    """A stream with its shards."""

    @property
    def stream_arn(self) -> str:
        """The stream's ARN."""
        ...

    @property
    def view_type(self) -> str | None:
        """Which images its records carry, in the service's words (``StreamViewType``).

        None if the source does not know; it may know once it has listed the shards.
        """
        ...

    async def shards(self) -> Sequence[Shard]:
        """Return all shards that the service lists now, in any order, perhaps incompletely.

        Raises:
            SourceError: the listing failed and may be tried again.
            StreamRefused: the stream is not there, or not for these credentials.
        """
        ...

    async def open(self, shard_id: str, position: Position) -> Reader:
        """Return a reader that starts at the position.

        Raises:
            SourceError, ShardGone, RecordsTrimmed, StreamRefused: as for ``Reader.next``.
        """
        ...
