"""The poller against Amazon's own DynamoDB Local."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

import aioboto3
import anyio
import pytest

from dynaflow import Record, Router
from dynaflow.poller import Poller, PollerResult
from dynaflow.sources import DynamoDBSource
from dynaflow.stores import SqliteStore

pytestmark = [pytest.mark.anyio, pytest.mark.dynamodb_local]

_tables = itertools.count()
CREDENTIALS = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing"}
REGION = "eu-west-1"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@cache
def make_session() -> Any:
    """One for all tests: a new one reads botocore's models again."""
    return aioboto3.Session(**CREDENTIALS, region_name=REGION)


class Shop:
    """A table with a stream, and a handler that notes what it was given."""

    def __init__(self, url: str, client: Any, checkpoints: Path) -> None:
        self.url = url
        self.client = client
        self.checkpoints = checkpoints
        self.table = f"shop-{os.getpid()}-{next(_tables)}"
        self.seen: defaultdict[str, list[int]] = defaultdict(list)
        """The versions of each item, in the order in which they were handled."""
        self.handle: Callable[[str, int], Awaitable[None]] | None = None
        self._poller: Poller | None = None
        self._wanted = 0
        self.router = Router()
        self.router.on_any()(self._note)

    async def create(self) -> None:
        await self.client.create_table(
            TableName=self.table,
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )

    async def write(self, *items: str, version: int = 1) -> None:
        for item in items:
            image = {"id": {"S": item}, "version": {"N": str(version)}}
            await self.client.put_item(TableName=self.table, Item=image)

    async def disable_stream(self) -> None:
        specification = {"StreamEnabled": False}
        await self.client.update_table(TableName=self.table, StreamSpecification=specification)

    async def run_until(self, records: int, **options: Any) -> PollerResult:
        """Run a poller until so many records were handled in it."""
        self._wanted = records
        with anyio.fail_after(30):
            return await self._run(**options)

    async def run_once(self, **options: Any) -> PollerResult:
        return await self._run(once=True, **options)

    async def rows(self) -> list[str]:
        """Return the checkpoints' positions."""
        async with self._source() as source, SqliteStore(self.checkpoints) as store:
            rows = await store.load("default", source.stream_arn)
        return [row.position for row in rows.values()]

    def _source(self) -> DynamoDBSource:
        return DynamoDBSource(self.table, session=make_session(), endpoint_url=self.url)

    async def _run(self, **options: Any) -> PollerResult:
        async with self._source() as source, SqliteStore(self.checkpoints) as store:
            self._poller = Poller(self.router, source, store, **options)
            return await self._poller.run()

    async def _note(self, record: Record) -> None:
        assert record.new is not None
        item, version = record.new["id"], int(record.new["version"])
        if self.handle is not None:
            await self.handle(item, version)
        self.seen[item].append(version)
        self._wanted -= 1
        if self._wanted == 0 and self._poller is not None:
            self._poller.stop()


@pytest.fixture
async def shop(dynamodb_local_url: str, tmp_path: Path) -> AsyncIterator[Shop]:
    async with make_session().client("dynamodb", endpoint_url=dynamodb_local_url) as client:
        shop = Shop(dynamodb_local_url, client, tmp_path / "checkpoints.db")
        await shop.create()
        yield shop


async def test_every_change_arrives_once_and_in_order_per_item(shop: Shop) -> None:
    items = [f"item-{number}" for number in range(60)]
    for version in range(1, 6):
        await shop.write(*items, version=version)

    async def jitter(item: str, version: int) -> None:
        await anyio.sleep(int(item[5:]) * version % 7 / 1000)

    shop.handle = jitter
    result = await shop.run_until(300)
    assert shop.seen == {item: [1, 2, 3, 4, 5] for item in items}
    assert result == PollerResult(records=300)


async def test_a_restart_goes_on_at_the_checkpoint(shop: Shop) -> None:
    await shop.write("a", "b")
    await shop.run_until(2)
    await shop.write("a", "c", version=2)
    await shop.run_until(2)
    assert shop.seen == {"a": [1, 2], "b": [1], "c": [2]}


async def test_a_disabled_stream_is_read_to_its_end(shop: Shop) -> None:
    await shop.write("a", "b")
    await shop.disable_stream()
    await shop.run_once()
    assert shop.seen == {"a": [1], "b": [1]}
    assert await shop.rows() == ["SHARD_END"]
    await shop.run_once()
    assert shop.seen == {"a": [1], "b": [1]}


async def test_a_deleted_table_is_read_to_its_end(shop: Shop) -> None:
    await shop.write("a")
    async with shop._source() as source, SqliteStore(shop.checkpoints) as store:
        await shop.client.delete_table(TableName=shop.table)
        await Poller(shop.router, source, store, once=True).run()
    assert shop.seen == {"a": [1]}


async def test_latest_leaves_out_the_past_and_a_restart_loses_nothing(shop: Shop) -> None:
    await shop.write("past")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_stop_when_pinned, shop)
        await shop.run_until(1, starting_position="LATEST")
    assert shop.seen == {}
    assert await shop.rows() == ["LATEST"]
    await shop.write("in between")
    # "past" may come, too: it is less than minutes older than the start.
    shop.handle = _stop_at(shop, "in between")
    await shop.run_until(10, starting_position="LATEST")
    assert shop.seen["in between"] == [1]
    shop.seen.clear()
    await shop.write("later")
    await shop.run_until(1, starting_position="LATEST")
    assert shop.seen == {"later": [1]}


async def _stop_when_pinned(shop: Shop) -> None:
    while not shop.checkpoints.exists() or await shop.rows() != ["LATEST"]:
        await anyio.sleep(0.05)
    assert shop._poller is not None
    shop._poller.stop()


def _stop_at(shop: Shop, last: str) -> Callable[[str, int], Awaitable[None]]:
    async def handle(item: str, _: int) -> None:
        if item == last:
            assert shop._poller is not None
            shop._poller.stop()

    return handle


async def test_a_record_that_fails_comes_again_and_holds_back_its_item_only(shop: Shop) -> None:
    await shop.write("a", "b", "c")
    await shop.write("b", version=2)
    tries: list[tuple[str, int]] = []

    async def fail_twice(item: str, version: int) -> None:
        tries.append((item, version))
        if tries.count(("b", 1)) < 3 and item == "b":
            raise RuntimeError("not yet")

    shop.handle = fail_twice
    await shop.run_until(4, random=lambda: 0.01)
    assert shop.seen == {"a": [1], "b": [1, 2], "c": [1]}
    assert tries.count(("b", 1)) == 3
    assert tries.count(("a", 1)) == tries.count(("c", 1)) == tries.count(("b", 2)) == 1


async def test_once_ends_by_itself_and_gives_up_what_fails_for_ever(shop: Shop) -> None:
    await shop.write("good", "poison", "after")

    async def fail(item: str, _: int) -> None:
        if item == "poison":
            raise RuntimeError("never")

    shop.handle = fail
    result = await shop.run_once(random=lambda: 0.01)
    assert shop.seen == {"good": [1], "after": [1]}
    (poison,) = result.not_done
    assert isinstance(poison, Record)
    assert poison.keys["id"] == "poison"
    shop.handle = None
    result = await shop.run_once()
    assert (result.records, result.not_done) == (2, ())
    assert shop.seen == {"good": [1], "poison": [1], "after": [1, 1]}


APP = """
import os

import anyio

from dynaflow import App, Record, Router

router = Router()

@router.on_any()
async def note(record: Record) -> None:
    await anyio.sleep(0.005)
    line = f"{record.keys['id']} {record.new['version']}\\n"
    os.write(1, line.encode())

app = App(router, concurrency=4)
"""

MAIN = """
import asyncio
import sys

from dynaflow.poller import Poller
from dynaflow.sources import DynamoDBSource
from dynaflow.stores import SqliteStore
from shop import app

async def main(table, url, checkpoints):
    async with DynamoDBSource(table, endpoint_url=url) as source, SqliteStore(checkpoints) as store:
        await Poller(app, source, store).run()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_process_loses_nothing_and_keeps_the_order(
    shop: Shop, tmp_path: Path, aws_environment: pytest.MonkeyPatch
) -> None:
    aws_environment.setenv("AWS_REGION", REGION)
    aws_environment.setenv("AWS_ACCESS_KEY_ID", CREDENTIALS["aws_access_key_id"])
    items = [f"item{number}" for number in range(40)]
    for version in range(1, 6):
        await shop.write(*items, version=version)
    (tmp_path / "shop.py").write_text(APP)
    lines: list[str] = []
    for wanted in (30, 60, 200):
        await anyio.to_thread.run_sync(_run_and_kill, shop, tmp_path, lines, wanted)
    versions: defaultdict[str, list[int]] = defaultdict(list)
    for line in lines:
        item, text = line.split()
        if int(text) not in versions[item]:
            versions[item].append(int(text))
    assert versions == {item: [1, 2, 3, 4, 5] for item in items}


def _run_and_kill(shop: Shop, folder: Path, lines: list[str], wanted: int) -> None:
    """Run a poller in a process, and kill it when there are so many different lines."""
    command = [sys.executable, "-c", MAIN, shop.table, shop.url, str(shop.checkpoints)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *sys.path])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if len(set(lines)) >= wanted:
                break
        process.kill()
        lines.extend(process.stdout)
