"""Plays the shop: traffic on one side, the poller on the other, a ledger between them."""

from __future__ import annotations

import time

from dynaflow.app import App
from dynaflow.demo.ledger import Write, judge
from dynaflow.demo.shop import router, services
from dynaflow.demo.show import Show
from dynaflow.demo.stage import Stage
from dynaflow.demo.traffic import write_orders

__all__ = ["play"]

_TABLE = "orders"


async def play(stage: Stage) -> bool:
    """Write a small shop's orders, let the poller deliver the changes, and judge the delivery.

    The ledger is asked what is still missing, not the poller.
    """
    services.restart()
    started = time.monotonic()
    show, writes = Show(stage.console), list[Write]()
    await stage.create_table(_TABLE)
    show.begin()
    async with stage.running(App(router, observers=[show]), _TABLE):
        await write_orders(stage, _TABLE, writes.append)
        await stage.until(lambda: not judge(writes, tuple(services.effects)).lost)
    verdict = judge(writes, services.effects)
    show.end(verdict, time.monotonic() - started)
    return verdict.is_ok
