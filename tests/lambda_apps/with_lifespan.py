"""An app that holds asyncio's own objects for as long as the process lives."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import snapshot_restore_py

from dynaflow import App, Router
from tests.lambda_apps.effects import note

__all__ = ["app", "handler"]

snapshot_restore_py.register_before_snapshot(note, "snapshot")
snapshot_restore_py.register_after_restore(note, "restored")

router = Router()


class _Mailer:
    """A client as users have them: a lock, a queue, and a task that empties it."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._queue: asyncio.Queue[tuple[str, asyncio.Future[None]]] = asyncio.Queue()

    async def send(self, item: str) -> None:
        async with self._lock:
            sent = asyncio.get_running_loop().create_future()
            await self._queue.put((item, sent))
            await sent

    async def run(self) -> None:
        while True:
            item, sent = await self._queue.get()
            sent.set_result(None)
            if item == "poison":
                raise ConnectionError
            note(f"sent {item}")


_mailers: list[_Mailer] = []


@asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[None]:
    note("opened")
    if os.environ.get("LIFESPAN") == "fails":
        raise ConnectionError("no route to the mail server")
    mailer = _Mailer()
    async with asyncio.TaskGroup() as group:
        group.create_task(mailer.run())
        _mailers.append(mailer)
        yield
    note("closed")


@router.on_insert()
async def announce(new: dict[str, Any]) -> None:
    await _mailers[-1].send(new["id"])


app = App(router, lifespan=lifespan)
handler = app.lambda_handler(report_batch_item_failures=True)
