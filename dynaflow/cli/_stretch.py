"""Reads a stretch of a shard once more: what a message or a letter only points to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from random import random
from typing import TypeAlias, TypeVar

from dynaflow.errors import RecordsTrimmed, ShardGone, SourceError, StreamRefused
from dynaflow.poller.backoff import Backoff
from dynaflow.record import Record, Undecodable
from dynaflow.retry import waits
from dynaflow.source import TRIM_HORIZON, Position, Shard, Source, at

__all__ = ["find_record", "read_stretch"]

T = TypeVar("T")
Records: TypeAlias = tuple[Record | Undecodable, ...]

_RETRIES = 5
_PAUSE = 0.25  # seconds after a page without records; Lambda itself reads a shard so often
_EMPTY_PAGES = 20  # in a row; a sparse shard has some before its next record


async def read_stretch(source: Source, shard_id: str, first: str, last: str) -> Records:
    """Return the records of a shard that the stream still has, between two sequence numbers.

    Args:
        source: the stream.
        shard_id: the shard.
        first: the lowest sequence number.
        last: the highest one, which is part of it.

    Raises:
        SourceError: it could not be read, also when tried again.
        StreamRefused: the stream is not there, or not for these credentials.
    """
    low, high = int(first), int(last)
    try:
        try:
            return await _read(source, shard_id, at(first), low, high)
        except RecordsTrimmed:
            return await _read(source, shard_id, TRIM_HORIZON, low, high)
    except RecordsTrimmed:  # DynamoDB Local says so of a shard in which nothing is left
        return ()
    except ShardGone:
        # The service says the same of a stream that is not there, so the listing is asked.
        listed = await source.shards()
        if any(shard.shard_id == shard_id and not shard.is_closed for shard in listed):
            raise
        return ()


async def find_record(
    source: Source, shards: Iterable[Shard], sequence_number: str
) -> Record | Undecodable | None:
    """Return the record with this sequence number; None if the stream has it no longer.

    Args:
        source: the stream.
        shards: its shards, as it listed them.
        sequence_number: the record's.

    Raises:
        SourceError, StreamRefused: as for ``read_stretch``.
    """
    refused: StreamRefused | None = None
    for shard in shards:
        if not shard.may_have(int(sequence_number)):
            continue
        try:
            found = await read_stretch(source, shard.shard_id, sequence_number, sequence_number)
        except StreamRefused as error:
            refused = error  # perhaps only of the number, which another open shard has
            continue
        if found:
            return found[0]
    if refused is not None:
        raise refused
    return None


async def _read(
    source: Source, shard_id: str, position: Position, first: int, last: int
) -> Records:
    """Read from a position on, until there is nothing more of what is wanted."""
    reader = await _patiently(lambda: source.open(shard_id, position))
    records: list[Record | Undecodable] = []
    empty = 0
    while empty < _EMPTY_PAGES:
        page = await _patiently(reader.next)
        records += (r for r in page.records if first <= r.position <= last)
        if page.ended or (page.records and page.records[-1].position >= last):
            break
        empty = 0 if page.records else empty + 1
        if empty:
            await _sleep(_PAUSE)
    return tuple(records)


async def _patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Call again, a few times, after an error that may pass."""
    backoff = Backoff(base=0.5, cap=8, random=random)
    for _ in range(_RETRIES):
        try:
            return await call()
        except (RecordsTrimmed, ShardGone, StreamRefused):
            raise
        except SourceError:
            await _sleep(backoff.next())
    return await call()


async def _sleep(seconds: float) -> None:
    if waits():
        await asyncio.sleep(seconds)
