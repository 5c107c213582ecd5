"""One event loop that is kept over all invocations, on the invocation's own thread.

A loop that stays keeps clients alive: connections, locks and queues belong to the loop that they
were made on. The App's lifespan is a task of its own on it, so that task groups work in there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from dynaflow._watchdog import Watchdog
from dynaflow.app import App
from dynaflow.errors import DynaflowError
from dynaflow.observe import logger
from dynaflow.record import Batch, BatchResult

if TYPE_CHECKING:
    import asyncio  # at run time only where a loop is made: sync handlers do without it

__all__ = ["Host"]

_T = TypeVar("_T")


class Host:
    """Runs an App's batches from plain functions.

    A batch that only sync handlers take never needs the loop, and none is made for it.

    Args:
        app: what to run.
        contain: whether a handler's KeyboardInterrupt or MemoryError is its record's failure.
    """

    def __init__(self, app: App, *, contain: bool = False) -> None:
        self._app = app
        self._contain = contain
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._lifespan: asyncio.Task[None] | None = None
        self._closing: asyncio.Event | None = None
        self._watchdog = Watchdog(self._report_blocked)

    def open(self) -> None:
        """Open the App's lifespan, unless it is open.

        Raises:
            Exception: what the lifespan raised, now or since it was opened.
        """
        self._forget_unusable_loop()
        lifespan, self._lifespan = self._lifespan, None
        if not self._app.has_lifespan:
            return
        if lifespan is not None and lifespan.done():
            lifespan.result()  # it ended by itself: raises what ended it; the next call opens anew
        self._lifespan = lifespan or self.run(self._open_lifespan)

    def process(self, batch: Batch) -> BatchResult:
        """Run a batch and return what became of it.

        Raises:
            DynaflowError: an event loop is running in this thread already.
            ThreadsExhausted: too many handlers outlived their deadline in worker threads.
        """
        self.open()
        work = self._app.begin(self._app.plan(batch), contain=self._contain)
        try:
            with self._watchdog.watching(work):
                if not work.needs_loop:
                    self._app.run_without_loop(work)
                if work.needs_loop:
                    self.run(lambda: self._app.run_on_loop(work))
        except BaseException:
            work.close()
            raise
        return work.finish()

    def close(self) -> None:
        """Close the lifespan and the loop."""
        if self._loop is None or self._loop.is_closed():
            return
        if self._lifespan is not None and self._closing is not None:
            self._closing.set()
            lifespan, self._lifespan = self._lifespan, None
            self.run(lambda: _wait_for(lifespan))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def run(self, function: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
        """Run an async function on the kept loop and return its result."""
        import asyncio

        if asyncio._get_running_loop() is not None:
            raise DynaflowError(
                "an event loop is running in this thread, so a plain function cannot run another. "
                "Call 'await app.process(batch)', or use 'async with TestClient(app)'."
            )
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        task = self._loop.create_task(function())
        while True:
            try:
                return self._loop.run_until_complete(task)
            except (SystemExit, KeyboardInterrupt, RuntimeError) as error:
                # asyncio lets the first two out of any task, one that a handler spawned, too; who
                # awaits that task gets them as well. The third: a handler has stopped the loop. The
                # batch is still to be answered, and must not run on beside the next one.
                if task.done() or self._loop.is_closed() or self._loop.is_running():
                    raise
                if isinstance(error, KeyboardInterrupt) and not self._contain:
                    self._cancel(task)
                    raise

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        import asyncio

        task.cancel()
        task.get_loop().run_until_complete(asyncio.gather(task, return_exceptions=True))

    def _forget_unusable_loop(self) -> None:
        """Drop a loop that somebody closed, or a fork copied; what was opened on it is gone."""
        if self._loop is not None and (self._loop.is_closed() or self._process != os.getpid()):
            self._loop = self._lifespan = None
        self._process = os.getpid()

    async def _open_lifespan(self) -> asyncio.Task[None]:
        import asyncio

        opened = asyncio.Event()
        self._closing = asyncio.Event()
        task = asyncio.create_task(self._hold_lifespan(opened, self._closing))
        waiter = asyncio.create_task(opened.wait())
        await asyncio.wait((task, waiter), return_when=asyncio.FIRST_COMPLETED)
        if not opened.is_set():
            waiter.cancel()
            task.result()
            raise DynaflowError("the App's lifespan ended before it was opened")
        return task

    async def _hold_lifespan(self, opened: asyncio.Event, closing: asyncio.Event) -> None:
        async with self._app.lifespan():
            opened.set()
            await closing.wait()

    def _report_blocked(self, frame: FrameType | None) -> None:
        """Name the handler that keeps the loop, or the calling thread, from answering in time."""
        codes = {_code_of(route.handler): route.name for route in self._app.routes}
        while frame is not None and frame.f_code not in codes:
            frame = frame.f_back
        if frame is not None:
            logger.error(
                "%s blocks its thread at %s:%d, so it cannot be cut off at the deadline and the "
                "whole batch will come again. Let it await, or make it a plain 'def'.",
                codes[frame.f_code],
                frame.f_code.co_filename,
                frame.f_lineno,
            )


async def _wait_for(task: asyncio.Task[None]) -> None:
    await task


def _code_of(handler: Any) -> Any:
    while hasattr(handler, "func"):
        handler = handler.func
    function = handler if hasattr(handler, "__code__") else type(handler).__call__
    function = getattr(function, "__wrapped__", function)
    return getattr(function, "__code__", None)
