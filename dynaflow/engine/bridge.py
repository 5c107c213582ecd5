"""Between an event loop and worker threads, on asyncio and trio."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import current_token

from dynaflow._pump import MOMENT, Pump
from dynaflow.engine.lost import LostCalls, close_unawaited
from dynaflow.engine.threads import Threads

__all__ = ["asyncio_task", "in_thread", "until_back", "until_seen"]

_T = TypeVar("_T")


async def in_thread(
    threads: Threads,
    function: Callable[[], _T],
    *,
    left: Callable[[Future[_T]], None] | None = None,
) -> _T:
    """Run a function in a worker thread; if this wait is cancelled, its result is dropped.

    Args:
        threads: where to run it.
        function: what to run.
        left: told that the wait was cancelled while the function runs.
    """
    tell = _teller()
    ended = anyio.Event()
    thread: Future[_T] = Future()

    def run() -> None:
        try:
            thread.set_result(function())
        except BaseException as error:  # raised again below, where the function was called
            thread.set_exception(error)
        tell(ended.set)

    threads.start(run)
    try:
        await ended.wait()
    except anyio.get_cancelled_exc_class():
        if left is not None:
            left(thread)
        thread.add_done_callback(_drop_result)
        raise
    return thread.result()


def _drop_result(thread: Future[Any]) -> None:
    """Close a coroutine that nobody will await, because nobody waits for its thread any more."""
    if thread.exception() is None:
        close_unawaited(thread.result())


async def until_back(lost: LostCalls, lane: Hashable) -> None:
    """Wait until no lost call works on a lane any more."""
    free = anyio.Event()
    lost.tell_when_free(lane, partial(_teller(), free.set))
    await free.wait()


async def until_seen(pumps: Iterable[Pump], seconds: float) -> None:
    """Wait, for so many seconds at most, until observers have seen all events so far."""
    tell = _teller()
    waits = []
    for pump in pumps:
        seen = anyio.Event()
        if pump.tell_when_seen(partial(tell, seen.set)):
            waits.append((pump, seen))
    with anyio.move_on_after(seconds):
        for _, seen in waits:
            await seen.wait()
    for pump, seen in waits:
        if seconds >= MOMENT and not seen.is_set():  # else the batch had no time left for it
            pump.give_up()


def asyncio_task() -> Any:
    """Return the current task on asyncio; None on trio."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _teller() -> Callable[[Callable[[], object]], None]:
    """Return what makes the current loop call something, safe to use from other threads."""
    loop: Any = current_token().native_token
    soon = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon  # asyncio or trio

    def tell(function: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop has been closed: nobody waits
            soon(function)

    return tell
