"""What an example is played on: an embedded AWS, tables with streams, and a poller."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from inspect import isawaitable
from typing import Any

import anyio
from rich.console import Console
from rich.text import Text

from dynaflow.app import App
from dynaflow.demo.emulator import REGION, aws_at, emulator, forget
from dynaflow.demo.storm import Item, Make, Written, storm_of
from dynaflow.encoding import encode
from dynaflow.poller import Poller
from dynaflow.record import Image
from dynaflow.sources import DynamoDBSource
from dynaflow.stores import MemoryStore
from dynaflow.values import to_boto

__all__ = ["Stage", "open_stage"]

_STREAM = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
_LOOK_AGAIN = 0.1  # seconds
_JITTER = 0.05  # in place of a random part of each wait, from 0 to 1: a show has no time


@asynccontextmanager
async def open_stage(console: Console, *, patience: float = 15.0) -> AsyncIterator[Stage]:
    """Run an emulator, and point the process's AWS settings at it. On asyncio only.

    At the end everything that the emulator kept is gone.

    Args:
        console: where ``Stage.say`` writes to.
        patience: seconds for which ``Stage.until`` waits by default.

    Raises:
        ExtraMissing: what the demo needs is not installed.
    """
    with emulator() as url, aws_at(url):
        try:
            async with AsyncExitStack() as clients:
                yield Stage(url, console, patience=patience, clients=clients)
        finally:
            forget(url)


class Stage:
    """An embedded AWS, and hands to play an example on it.

    Items are mappings of Python values, as handlers see them. While the stage is open, clients that
    are made from the environment alone, such as ``boto3.client("s3")``, are the emulator's.
    """

    def __init__(
        self, url: str, console: Console, *, patience: float, clients: AsyncExitStack
    ) -> None:
        self.url = url
        """Where all services are."""
        self.region = REGION
        self.console = console
        self.patience = patience
        self._clients = clients
        self._databases: dict[str, Any] = {}

    def client(
        self, service: str, *, region: str | None = None
    ) -> AbstractAsyncContextManager[Any]:
        """Return an async context manager of an aioboto3 client."""
        import aioboto3

        client: AbstractAsyncContextManager[Any] = aioboto3.Session().client(
            service, endpoint_url=self.url, region_name=region or self.region
        )
        return client

    def boto3(self, service: str, *, region: str | None = None) -> Any:
        """Return a boto3 client; the caller closes it."""
        import boto3

        return boto3.client(service, endpoint_url=self.url, region_name=region or self.region)

    def say(self, line: str, *, style: str = "") -> None:
        """Print one line."""
        self.console.print(Text(line, style), soft_wrap=True)

    def judge(self, is_ok: bool, line: str) -> bool:
        """Print the last line of a show, the verdict, and return whether all is well."""
        self.say(line, style="bold" if is_ok else "bold red")
        return is_ok

    async def create_table(
        self,
        name: str,
        *,
        keys: Sequence[str] = ("id",),
        region: str | None = None,
        ttl_attribute: str | None = None,
        stream: bool = True,
    ) -> None:
        """Create a table, with a stream of new and old images.

        Args:
            name: the table's.
            keys: the names of the partition key and, if there is one, the sort key; both are text.
            region: where; the stage's by default.
            ttl_attribute: which attribute says when an item expires. The emulator deletes nothing
                by itself.
            stream: False for a table that is only written to. The emulator copies a table with its
                stream at every transaction, which makes a table with a stream slow.
        """
        database = await self._database(region)
        kinds = ("HASH", "RANGE")
        await database.create_table(
            TableName=name,
            KeySchema=[
                {"AttributeName": key, "KeyType": kind}
                for key, kind in zip(keys, kinds, strict=False)
            ],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
            BillingMode="PAY_PER_REQUEST",
            **({"StreamSpecification": _STREAM} if stream else {}),
        )
        if ttl_attribute is not None:
            await database.update_time_to_live(
                TableName=name,
                TimeToLiveSpecification={"Enabled": True, "AttributeName": ttl_attribute},
            )

    async def put(self, table: str, item: Item, *, region: str | None = None) -> None:
        """Write a whole item."""
        database = await self._database(region)
        await database.put_item(TableName=table, Item=_typed(item))

    async def update(
        self, table: str, key: Item, changes: Item, *, region: str | None = None
    ) -> None:
        """Set some of an item's attributes, and remove those that are None."""
        database = await self._database(region)
        await database.update_item(TableName=table, Key=_typed(key), **_update(changes))

    async def delete(self, table: str, key: Item, *, region: str | None = None) -> None:
        """Delete an item."""
        database = await self._database(region)
        await database.delete_item(TableName=table, Key=_typed(key))

    async def scan(self, table: str, *, region: str | None = None) -> list[dict[str, Any]]:
        """Return all items of a table, in order of their keys, as ``standing`` has them."""
        database = await self._database(region)
        description = await database.describe_table(TableName=table)
        keys = sorted(key["AttributeName"] for key in description["Table"]["KeySchema"])
        items: list[dict[str, Any]] = []
        start: dict[str, Any] = {}
        while True:
            page = await database.scan(TableName=table, ConsistentRead=True, **start)
            items += [Image(item).to_dict() for item in page["Items"]]
            if "LastEvaluatedKey" not in page:
                return sorted(items, key=lambda item: [repr(item[key]) for key in keys])
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    @asynccontextmanager
    async def running(
        self, app: App, table: str, *, region: str | None = None
    ) -> AsyncIterator[None]:
        """Run the App on a table's stream, read from its beginning, for as long as this lasts.

        There are no checkpoints from an earlier time: whoever runs an App again delivers
        everything again. What has failed comes again, after shorter waits than in production.
        """
        async with DynamoDBSource(
            table, region=region or self.region, endpoint_url=self.url
        ) as source:
            poller = Poller(app, source, MemoryStore(), grace=2, random=lambda: _JITTER)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(poller.run)
                try:
                    yield
                finally:
                    poller.stop()

    async def until(
        self,
        condition: Callable[[], bool | Awaitable[bool]],
        *,
        patience: float | None = None,
    ) -> bool:
        """Wait until a condition holds; return False if it does not in time.

        Args:
            condition: a function, sync or async, that is asked again and again.
            patience: seconds; the stage's by default.
        """
        give_up = anyio.current_time() + (self.patience if patience is None else patience)
        while True:
            answer = condition()
            if await answer if isawaitable(answer) else answer:
                return True
            if anyio.current_time() >= give_up:
                return False
            await anyio.sleep(_LOOK_AGAIN)

    async def storm(
        self,
        table: str,
        *,
        writes: int,
        items: int | Sequence[Item],
        seed: int,
        make: Make,
        region: str | None = None,
    ) -> list[Written]:
        """Make many writes to few items, those of one item in order, all items at the same time.

        Args:
            table: where to.
            writes: how many.
            items: how many items, with the keys ``{"id": "item-0"}`` and so on, or their keys.
            seed: of the chance; the same seed writes the same.
            make: makes up an item's next state; see ``dynaflow.demo.storm.Make``.
            region: where; the stage's by default.

        Returns:
            What was written, item after item; ``dynaflow.demo.storm.standing`` says what is left.
        """
        lives = storm_of(writes=writes, items=items, seed=seed, make=make)

        async def live(life: Sequence[Written]) -> None:
            for write in life:
                await self._write(table, write, region)

        async with anyio.create_task_group() as tasks:
            for life in lives:
                tasks.start_soon(live, life)
        return [write for life in lives for write in life]

    async def _write(self, table: str, write: Written, region: str | None) -> None:
        if write.new is None:
            await self.delete(table, write.key, region=region)
        elif write.old is None:
            await self.put(table, write.new, region=region)
        else:
            changes = {
                name: write.new.get(name)
                for name in write.old.keys() | write.new.keys()
                if write.old.get(name) != write.new.get(name)
            }
            await self.update(table, write.key, changes, region=region)

    async def _database(self, region: str | None) -> Any:
        region = region or self.region
        if region not in self._databases:
            client = self.client("dynamodb", region=region)
            self._databases[region] = await self._clients.enter_async_context(client)
        return self._databases[region]


def _typed(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: to_boto(encode(value)) for name, value in item.items()}


def _update(changes: Item) -> dict[str, Any]:
    """Return what update_item takes; names go by number, so that they may be any text."""
    numbers = {name: number for number, name in enumerate(changes)}
    kept = {name: value for name, value in changes.items() if value is not None}
    removed = [name for name in changes if name not in kept]
    parts = []
    if kept:
        parts.append("SET " + ", ".join(f"#{numbers[name]} = :{numbers[name]}" for name in kept))
    if removed:
        parts.append("REMOVE " + ", ".join(f"#{numbers[name]}" for name in removed))
    update: dict[str, Any] = {
        "UpdateExpression": " ".join(parts),
        "ExpressionAttributeNames": {f"#{number}": name for name, number in numbers.items()},
    }
    if kept:
        values = {f":{numbers[name]}": value for name, value in _typed(kept).items()}
        update["ExpressionAttributeValues"] = values
    return update
