"""What every source promises (the contract in dynaflow/source.py)."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import aioboto3
import pytest

from dynaflow import Record
from dynaflow.codec import decode_records
from dynaflow.errors import ShardGone
from dynaflow.source import LATEST, TRIM_HORIZON, Position, Reader, Source, after, at
from dynaflow.sources import DynamoDBSource, MemorySource
from dynaflow.testing import RecordBuilder

pytestmark = pytest.mark.anyio

_tables = itertools.count()


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream of one open shard, and how to write to it."""

    source: Source
    put: Callable[[str], Awaitable[None]]
    close: Callable[[], Awaitable[None]] | None = None
    """Closes the shard; None where that cannot be."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["memory", "moto", pytest.param("local", marks=pytest.mark.dynamodb_local)])
async def stream(request: pytest.FixtureRequest) -> AsyncIterator[Stream]:
    if request.param == "memory":
        yield memory_stream()
        return
    url = request.getfixturevalue("moto_url" if request.param == "moto" else "dynamodb_local_url")
    session = make_session()
    table = f"contract-{next(_tables)}"
    async with session.client("dynamodb", endpoint_url=url) as client:
        await create_table(client, table)

        async def put(item: str) -> None:
            await client.put_item(TableName=table, Item={"id": {"S": item}, "data": {"B": b"\xff"}})

        async def close() -> None:
            specification = {"StreamEnabled": False}
            await client.update_table(TableName=table, StreamSpecification=specification)

        async with DynamoDBSource(table, session=session, endpoint_url=url) as source:
            yield Stream(source, put, close if request.param == "local" else None)


@cache
def make_session() -> Any:
    """One for all tests: a new one reads botocore's models again."""
    return aioboto3.Session(
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",  # noqa: S106 - the stand-ins take any
        region_name="eu-west-1",
    )


def memory_stream() -> Stream:
    builder = RecordBuilder(keys=("id",))
    source = MemorySource(builder.stream_arn)
    source.add_shard("shardId-00000000000000000000-00000000")

    async def put(item: str) -> None:
        raw = builder.insert({"id": item, "data": b"\xff"})
        (shard,) = await source.shards()
        source.append(shard.shard_id, *decode_records([raw], source.stream_arn))

    async def close() -> None:
        (shard,) = await source.shards()
        source.close(shard.shard_id)

    return Stream(source, put, close)


async def create_table(client: Any, name: str) -> None:
    await client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )


async def open_at(stream: Stream, position: Position) -> Reader:
    (shard,) = await stream.source.shards()
    return await stream.source.open(shard.shard_id, position)


async def read(reader: Reader, pages: int = 2) -> list[Record]:
    records: list[Record] = []
    for _ in range(pages):
        page = await reader.next()
        records += [record for record in page.records if isinstance(record, Record)]
    return records


def names(records: list[Record]) -> list[str]:
    return [record.keys["id"] for record in records]


async def test_an_open_shard_without_a_parent_is_listed(stream: Stream) -> None:
    (shard,) = await stream.source.shards()
    assert shard.parent_id is None
    assert not shard.is_closed


async def test_records_come_whole_and_in_order(stream: Stream) -> None:
    for item in "abc":
        await stream.put(item)
    records = await read(await open_at(stream, TRIM_HORIZON))
    assert names(records) == ["a", "b", "c"]
    assert {record.source_arn for record in records} == {stream.source.stream_arn}
    assert records[0].new is not None
    assert records[0].new["data"] == b"\xff"
    assert records == sorted(records, key=lambda record: record.position)


async def test_a_reader_goes_on_where_it_was(stream: Stream) -> None:
    reader = await open_at(stream, TRIM_HORIZON)
    await stream.put("a")
    assert names(await read(reader)) == ["a"]
    await stream.put("b")
    assert names(await read(reader)) == ["b"]


async def test_an_empty_page_of_an_open_shard_is_not_its_end(stream: Stream) -> None:
    reader = await open_at(stream, TRIM_HORIZON)
    for _ in range(3):
        page = await reader.next()
        assert page.records == ()
        assert page.behind is None
        assert not page.ended


async def test_latest_leaves_out_what_is_older_than_the_reader(stream: Stream) -> None:
    await stream.put("old")
    reader = await open_at(stream, LATEST)
    await stream.put("new")
    assert names(await read(reader)) == ["new"]


async def test_reading_after_a_number_leaves_out_its_record(stream: Stream) -> None:
    for item in "abc":
        await stream.put(item)
    first, second, _ = await read(await open_at(stream, TRIM_HORIZON))
    assert names(await read(await open_at(stream, after(first.sequence_number)))) == ["b", "c"]
    assert names(await read(await open_at(stream, after(second.sequence_number)))) == ["c"]


async def test_reading_at_a_number_begins_with_its_record(stream: Stream) -> None:
    for item in "abc":
        await stream.put(item)
    first, second, _ = await read(await open_at(stream, TRIM_HORIZON))
    assert names(await read(await open_at(stream, at(first.sequence_number)))) == ["a", "b", "c"]
    assert names(await read(await open_at(stream, at(second.sequence_number)))) == ["b", "c"]


async def test_a_listing_says_that_a_shard_may_have_its_own_records(stream: Stream) -> None:
    await stream.put("a")
    (record,) = await read(await open_at(stream, TRIM_HORIZON))
    (shard,) = await stream.source.shards()
    assert shard.may_have(record.position)


async def test_a_closed_shard_ends_after_its_last_record_and_stays_ended(stream: Stream) -> None:
    if stream.close is None:
        pytest.skip("moto never closes a shard")
    reader = await open_at(stream, TRIM_HORIZON)
    await stream.put("a")
    await stream.close()
    (shard,) = await stream.source.shards()
    assert shard.is_closed
    seen: list[str] = []
    ended = False
    while not ended:
        page = await reader.next()
        seen += names([record for record in page.records if isinstance(record, Record)])
        ended = page.ended
    assert seen == ["a"]
    assert (await reader.next()).ended


async def test_a_shard_that_is_not_kept_is_gone(stream: Stream) -> None:
    if stream.close is None:
        pytest.skip("moto fails with a server error")
    with pytest.raises(ShardGone):
        await stream.source.open("shardId-00000000000000000009-00000009", TRIM_HORIZON)
