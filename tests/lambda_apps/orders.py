"""An app whose items say what their handlers do: INSERT calls an async one, MODIFY a sync one."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
from typing import Any, NoReturn

from dynaflow import App, HandlerContext, Router
from tests.lambda_apps.effects import note

__all__ = ["app", "handler"]

# What REPORT says is what the function's code would say; not set: nothing is said.
_REPORT = {"yes": True, "no": False}.get(os.environ.get("REPORT", ""))
_ERRORS: dict[str, type[BaseException]] = {
    "raise": ValueError,
    "exit": SystemExit,
    "interrupt": KeyboardInterrupt,
    "generator exit": GeneratorExit,
    "cancelled": asyncio.CancelledError,
    "out of memory": MemoryError,
}
_released = threading.Event()

router = Router(table="orders")


@router.on_insert()
async def reserve(new: dict[str, Any], context: HandlerContext) -> None:
    note(f"start {new['id']}")
    await _act_async(new["do"], context)
    note(f"done {new['id']}")


@router.on_modify()
def ship(new: dict[str, Any], context: HandlerContext) -> None:
    note(f"start {new['id']}")
    _act(new["do"], context)
    note(f"done {new['id']}")


app = App(router, threads=int(os.environ.get("THREADS", "16")))
handler = app.lambda_handler(report_batch_item_failures=_REPORT)


async def _act_async(what: str, context: HandlerContext) -> None:
    match what:
        case "hang":
            await asyncio.Event().wait()
        case "yield":
            await asyncio.sleep(0)
        case "pause":
            await asyncio.sleep(0.02)
        case "task exits":
            await asyncio.create_task(_leave())
        case "group exits":
            async with asyncio.TaskGroup() as group:
                group.create_task(_leave())
        case "lost task exits":
            _lost.append(asyncio.create_task(_leave()))
            await asyncio.sleep(0.01)
        case "cancel own task":
            task = asyncio.current_task()
            if task is not None:
                task.cancel()
            await asyncio.sleep(0)
        case "cancel all tasks":
            for each in asyncio.all_tasks():
                each.cancel()
            await asyncio.sleep(0)
        case "stop loop":
            asyncio.get_running_loop().stop()
            await asyncio.sleep(0.01)
        case _:
            _act(what, context)


def _act(what: str, context: HandlerContext) -> None:
    if what in _ERRORS:
        raise _ERRORS[what]
    match what:
        case "hang":
            _released.wait()
        case "release":
            _released.set()
        case "block":
            time.sleep(60)
        case "die":
            os._exit(1)
        case "break logging":
            logging.getLogger().addHandler(_BrokenHandler())
            raise ValueError
        case "close stdout":
            sys.stdout.close()
            raise ValueError
        case "say context":
            _say_context(context)


def _say_context(context: HandlerContext) -> None:
    left = context.deadline.remaining() if context.deadline else 0.0
    note(f"{context.lambda_context.aws_request_id} {context.record.table} {left:.1f}")


_lost: list[asyncio.Task[NoReturn]] = []


async def _leave() -> NoReturn:
    raise SystemExit(5)


class _BrokenHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise OSError
