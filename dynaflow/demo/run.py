"""Plays the demo: traffic on one side, the poller on the other, a ledger between them."""

from __future__ import annotations

import time

import anyio
from rich.console import Console

from dynaflow.app import App
from dynaflow.demo.emulator import create_table, make_session
from dynaflow.demo.ledger import Verdict, Write, judge
from dynaflow.demo.shop import router, services
from dynaflow.demo.show import Show
from dynaflow.demo.traffic import write_orders
from dynaflow.poller import Poller
from dynaflow.sources import DynamoDBSource
from dynaflow.stores import MemoryStore

__all__ = ["play"]

_TABLE = "orders"


async def play(url: str, console: Console, *, patience: float) -> Verdict:
    """Write a small shop's orders, let the poller deliver the changes, and judge the delivery.

    Args:
        url: where DynamoDB and its streams are.
        console: where each call of a handler, and a summary, is shown.
        patience: seconds after the last write until what has not arrived is lost.
    """
    services.restart()
    started = time.monotonic()
    show, session, writes = Show(console), make_session(), list[Write]()
    async with session.client("dynamodb", endpoint_url=url) as client:
        await create_table(client, _TABLE)
        async with DynamoDBSource(_TABLE, session=session, endpoint_url=url) as source:
            poller = Poller(App(router, observers=[show]), source, MemoryStore(), grace=2)
            show.begin()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(poller.run)
                await write_orders(client, _TABLE, writes.append)
                await _wait_for_effects(writes, patience)
                poller.stop()
        await client.delete_table(TableName=_TABLE)
    verdict = judge(writes, services.effects)
    show.end(verdict, time.monotonic() - started)
    return verdict


async def _wait_for_effects(writes: list[Write], patience: float) -> None:
    """Wait until nothing is missing, or patience ends. The ledger is asked, not the poller."""
    with anyio.move_on_after(patience):
        while judge(writes, tuple(services.effects)).lost:  # noqa: ASYNC110 - threads have effects
            await anyio.sleep(0.05)
