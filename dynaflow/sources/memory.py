"""A scripted stream in memory: shards that grow, close and vanish, and calls that fail on order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from dynaflow.errors import RecordsTrimmed, ShardGone, SourceError
from dynaflow.record import Record, Undecodable
from dynaflow.source import Page, Position, PositionKind, Reader, Shard

__all__ = ["MemorySource", "Operation"]

Operation: TypeAlias = Literal["shards", "open", "next"]

_ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/memory/stream/2026-01-01T00:00:00.000"


@dataclass(slots=True)
class _Shard:
    listed: Shard
    is_closed: bool = False
    records: list[Record | Undecodable] = field(default_factory=list)
    first_kept: int = 0  # index of the oldest record that is not trimmed
    is_hidden: bool = False
    is_gone: bool = False


class MemorySource:
    """A stream in memory.

    Args:
        stream_arn: the stream's ARN.
        page_size: how many records a page has at most.
        view_type: what it says of the images that its records carry; None for nothing. It may be
            set later on.
    """

    def __init__(
        self, stream_arn: str = _ARN, *, page_size: int = 1000, view_type: str | None = None
    ) -> None:
        self.view_type = view_type
        self._stream_arn = stream_arn
        self._page_size = page_size
        self._shards: dict[str, _Shard] = {}
        self._errors: defaultdict[tuple[str, str | None], list[Exception]] = defaultdict(list)
        self.calls: list[tuple[Operation, str | None, Position | None]] = []
        """Every call so far: the operation, its shard and, for "open", the position."""

    @property
    def stream_arn(self) -> str:
        """The stream's ARN."""
        return self._stream_arn

    def add_shard(self, shard_id: str, parent_id: str | None = None) -> None:
        """Add an open, empty shard. The parent need not exist."""
        self._shards[shard_id] = _Shard(Shard(shard_id, parent_id))

    def append(self, shard_id: str, *records: Record | Undecodable) -> None:
        """Write records at a shard's end."""
        self._shards[shard_id].records.extend(records)

    def close(self, shard_id: str, *, is_listed_as_closed: bool = True) -> None:
        """Close a shard: its readers come to an end after its last record."""
        shard = self._shards[shard_id]
        shard.is_closed = True
        shard.listed = replace(shard.listed, is_closed=is_listed_as_closed)

    def hide(self, shard_id: str, *, is_hidden: bool = True) -> None:
        """Leave a shard out of listings, though it is there, or show it again."""
        self._shards[shard_id].is_hidden = is_hidden

    def trim(self, shard_id: str, count: int) -> None:
        """Drop a shard's oldest records, up to ``count`` of all that were ever written to it."""
        self._shards[shard_id].first_kept = count

    def remove(self, shard_id: str) -> None:
        """Drop a shard as the service does after 24 hours: not listed, and gone for readers."""
        self._shards[shard_id].is_gone = True

    def fail(self, operation: Operation, *errors: Exception, shard_id: str | None = None) -> None:
        """Let the next calls of an operation (of one shard, or of any) raise these errors."""
        self._errors[operation, shard_id].extend(errors)

    async def shards(self) -> Sequence[Shard]:
        """Return the shards that are neither hidden nor gone."""
        self._record_call("shards")
        return [s.listed for s in self._shards.values() if not s.is_hidden and not s.is_gone]

    async def open(self, shard_id: str, position: Position) -> Reader:
        """Return a reader that starts at the position."""
        self._record_call("open", shard_id, position)
        shard = self._shard(shard_id)
        return _Reader(self, shard_id, _index(shard, position))

    def read(self, shard_id: str, index: int) -> tuple[Page, int]:
        """Return the page that starts at an index, and the index behind it."""
        self._record_call("next", shard_id)
        shard = self._shard(shard_id)
        if index < shard.first_kept:
            raise RecordsTrimmed(f"shard {shard_id} no longer keeps the records at this position")
        end = min(index + self._page_size, len(shard.records))
        ended = shard.is_closed and end == len(shard.records)
        return Page(tuple(shard.records[index:end]), ended=ended), end

    def _shard(self, shard_id: str) -> _Shard:
        shard = self._shards.get(shard_id)
        if shard is None or shard.is_gone:
            raise ShardGone(f"shard {shard_id} is no longer kept")
        return shard

    def _record_call(
        self, operation: Operation, shard_id: str | None = None, position: Position | None = None
    ) -> None:
        self.calls.append((operation, shard_id, position))
        for errors in (self._errors[operation, shard_id], self._errors[operation, None]):
            if errors:
                raise errors.pop(0)


class _Reader:
    """Reads a shard of a MemorySource by index."""

    def __init__(self, source: MemorySource, shard_id: str, index: int) -> None:
        self._source = source
        self._shard_id = shard_id
        self._index = index

    async def next(self) -> Page:
        """Return the next page."""
        page, self._index = self._source.read(self._shard_id, self._index)
        return page


def _index(shard: _Shard, position: Position) -> int:
    if position.kind is PositionKind.TRIM_HORIZON:
        return shard.first_kept
    if position.kind is PositionKind.LATEST:
        return len(shard.records)
    if not position.sequence_number.isdigit():
        raise SourceError("the position has no sequence number")
    start = int(position.sequence_number)
    if position.kind is PositionKind.AT_SEQUENCE_NUMBER:
        start -= 1
    return sum(record.position <= start for record in shard.records)
