"""A table's stream, read through the DynamoDB Streams API.

Shards, positions and ends follow the API reference (DescribeStream, GetShardIterator, GetRecords).
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from random import random
from typing import Any, Self

import anyio

from dynaflow.codec import decode_records
from dynaflow.errors import EventError, MalformedRecord, SourceError, StreamRefused
from dynaflow.record import Record, Undecodable
from dynaflow.source import (
    TRIM_HORIZON,
    Page,
    Position,
    PositionKind,
    Reader,
    Shard,
    after,
)
from dynaflow.sources._client import Clients, IteratorExpired

__all__ = ["DynamoDBSource"]

_log = logging.getLogger("dynaflow.sources.dynamodb")

_ARN = re.compile(r"arn:[^:]+:dynamodb:(?P<region>[^:]*):[^:]*:table/[^/]+(?P<stream>/stream/.+)?")
_DIGITS = re.compile(r"[0-9]{1,99}")
_LOCAL_REGION = "ddblocal"  # DynamoDB Local writes it into ARNs; it is no region to sign for

# DescribeStream: 10 calls a second for everyone who reads streams in the account. So pages of a
# listing come at half a second each, and one that fails is asked for again before all is given up.
_PAUSE = 0.5
_PAGE_RETRIES = 4
_TABLE_RETRIES = 1


class DynamoDBSource:
    """The stream of a DynamoDB table. Needs ``pip install 'dynaflow[aws]'``.

    ``async with DynamoDBSource("orders") as source`` finds the table's newest stream.

    Args:
        table: a table's name, its ARN, or a stream's ARN.
        session: an ``aioboto3.Session``; by default one made from the environment.
        region: by default the ARN's, the session's, or AWS_REGION.
        endpoint_url: where a stand-in for DynamoDB listens; by default AWS_ENDPOINT_URL_DYNAMODB.
        streams_endpoint_url: the same for DynamoDB Streams; by default where DynamoDB is, unless
            that is AWS, or AWS_ENDPOINT_URL_DYNAMODB_STREAMS is set.
        wall_clock: returns seconds since the epoch.

    Raises (when entered):
        StreamRefused: there is no such stream, or it is not for these credentials.
        SourceError: AWS could not be reached.
        ExtraMissing: aioboto3 is not installed.
    """

    def __init__(
        self,
        table: str,
        *,
        session: Any = None,
        region: str | None = None,
        endpoint_url: str | None = None,
        streams_endpoint_url: str | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._table = table
        self._stream_arn = ""
        self._view_type: str | None = None
        self._is_entered = False
        self._wall_clock = wall_clock
        arn = _ARN.fullmatch(table)
        if arn is None and table.startswith("arn:"):
            raise StreamRefused(f"{table!r} is neither a table's ARN nor a stream's. Check it.")
        if arn is not None:
            self._stream_arn = table if arn["stream"] else ""
            region = region or (None if arn["region"] == _LOCAL_REGION else arn["region"])
        self._clients = Clients(session, region, endpoint_url, streams_endpoint_url)

    async def __aenter__(self) -> Self:
        await self._clients.__aenter__()
        try:
            if not self._stream_arn:
                self._stream_arn = await self._find_stream()
        except BaseException:
            await self._clients.__aexit__()
            raise
        self._is_entered = True
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._clients.__aexit__()

    @property
    def stream_arn(self) -> str:
        """The stream's ARN.

        Raises:
            RuntimeError: the source is not entered yet.
        """
        if not self._is_entered:
            raise RuntimeError("not entered: write 'async with DynamoDBSource(...) as source:'")
        return self._stream_arn

    @property
    def view_type(self) -> str | None:
        """Which images its records carry; None before the shards are listed."""
        return self._view_type

    async def shards(self) -> Sequence[Shard]:
        """Return all shards that the service lists now.

        Raises:
            SourceError: the listing failed and may be tried again.
            StreamRefused: the stream is not there, or not for these credentials.
        """
        shards: dict[str, Shard] = {}
        seen: set[str] = set()
        start: str | None = None
        while True:
            page = await _patiently(partial(self._describe, start), retries=_PAGE_RETRIES)
            for raw in page["Shards"]:
                shard = _shard(raw)
                shards[shard.shard_id] = shard
            start = page.get("LastEvaluatedShardId")
            if not start:
                return list(shards.values())
            if start in seen:
                raise SourceError("DescribeStream runs in a circle: it names the same page twice")
            seen.add(start)
            await anyio.sleep(_PAUSE)

    async def open(self, shard_id: str, position: Position) -> Reader:
        """Return a reader that starts at the position.

        Raises:
            SourceError, ShardGone, RecordsTrimmed, StreamRefused: as for ``Reader.next``.
        """
        reader = _ShardReader(
            self._clients, self._stream_arn, shard_id, position, wall_clock=self._wall_clock
        )
        await reader.reopen()
        return reader

    async def _find_stream(self) -> str:
        table = await _patiently(
            lambda: self._clients.describe_table(self._table), retries=_TABLE_RETRIES
        )
        arn = table.get("LatestStreamArn")
        if not arn:
            raise StreamRefused(
                f"table {self._table!r} has no stream. Enable one: aws dynamodb update-table "
                f"--table-name {self._table} --stream-specification "
                "StreamEnabled=true,StreamViewType=NEW_AND_OLD_IMAGES"
            )
        if not table.get("StreamSpecification", {}).get("StreamEnabled"):
            _log.warning(
                "the stream of table %s is disabled: what it still keeps is read, nothing new "
                "will come",
                self._table,
            )
        return str(arn)

    async def _describe(self, start: str | None) -> Mapping[str, Any]:
        """Return one page of the listing."""
        page = await self._clients.describe_stream(self._stream_arn, start)
        if not isinstance(page.get("Shards"), list):
            raise SourceError("DescribeStream gave an answer without 'Shards'")
        view_type = page.get("StreamViewType")
        self._view_type = view_type if isinstance(view_type, str) else None
        return page


async def _patiently(
    call: Callable[[], Awaitable[Mapping[str, Any]]], *, retries: int
) -> Mapping[str, Any]:
    """Call again after an error that may pass, a few times."""
    for attempt in range(retries):
        try:
            return await call()
        except StreamRefused:
            raise
        except SourceError:
            await anyio.sleep(_PAUSE * 2**attempt * (1 + random()))  # noqa: S311 - jitter
    return await call()


class _ShardReader:
    """Reads one shard by iterators."""

    def __init__(
        self,
        clients: Clients,
        stream_arn: str,
        shard_id: str,
        position: Position,
        *,
        wall_clock: Callable[[], float],
    ) -> None:
        self._clients = clients
        self._stream_arn = stream_arn
        self._shard_id = shard_id
        self._position = position  # where a new iterator starts
        self._wall_clock = wall_clock
        self._iterator: str | None = None  # None: at the end of the shard

    async def next(self) -> Page:
        """Return the next page."""
        if self._iterator is None:
            return Page(ended=True)
        try:
            answer = await self._clients.get_records(self._iterator)
        except IteratorExpired:
            await self.reopen()
            answer = await self._get_records_afresh()
        records = self._decode(answer["Records"])
        iterator = answer.get("NextShardIterator")
        if iterator is not None and not (isinstance(iterator, str) and iterator):
            raise SourceError("GetRecords gave an answer with a broken 'NextShardIterator'")
        self._iterator = iterator
        if records:
            self._position = after(records[-1].sequence_number)
        return Page(records, ended=iterator is None, behind=self._behind(records))

    async def reopen(self) -> None:
        """Make a new iterator for the position."""
        options = {"ShardIteratorType": self._position.kind.value}
        if self._position.sequence_number:
            options["SequenceNumber"] = self._position.sequence_number
        self._iterator = await self._clients.get_shard_iterator(
            StreamArn=self._stream_arn, ShardId=self._shard_id, **options
        )
        if self._position.kind is PositionKind.LATEST:
            # A second LATEST would skip what was written since the first: rather repeat.
            self._position = TRIM_HORIZON

    async def _get_records_afresh(self) -> Mapping[str, Any]:
        try:
            return await self._clients.get_records(str(self._iterator))
        except IteratorExpired:
            raise SourceError("GetRecords failed: a fresh iterator had expired already") from None

    def _decode(self, raws: Any) -> tuple[Record | Undecodable, ...]:
        if not isinstance(raws, list):
            raise SourceError("GetRecords gave an answer whose 'Records' is not a list")
        try:
            return decode_records(raws, self._stream_arn)
        except EventError:
            raise SourceError("GetRecords gave a record without a sequence number") from None

    def _behind(self, records: Sequence[Record | Undecodable]) -> float | None:
        if not records or isinstance(records[-1], Undecodable):
            return None
        try:
            created_at = records[-1].created_at
        except MalformedRecord:
            return None
        if created_at is None:
            return None
        return max(0.0, self._wall_clock() - created_at.timestamp())


def _shard(raw: Any) -> Shard:
    """Read a shard of DescribeStream."""
    if not isinstance(raw, Mapping) or not raw.get("ShardId"):
        raise SourceError("DescribeStream gave a shard without 'ShardId'")
    numbers = raw.get("SequenceNumberRange") or {}
    return Shard(
        str(raw["ShardId"]),
        parent_id=raw.get("ParentShardId") or None,
        is_closed=bool(numbers.get("EndingSequenceNumber")),
        first=_number(numbers.get("StartingSequenceNumber")),
        last=_number(numbers.get("EndingSequenceNumber")),
    )


def _number(text: Any) -> int | None:
    return int(text) if isinstance(text, str) and _DIGITS.fullmatch(text) else None
