"""Runs an App's batches from plain functions: opens its lifespan, keeps its loop, keeps time.

What Lambda's door and the test client have in common.
"""

from __future__ import annotations

from contextlib import ExitStack
from types import FrameType
from typing import TYPE_CHECKING, Any

from dynaflow._loop import KeptLoop
from dynaflow._needs import CheckedViews
from dynaflow._watchdog import Watchdog
from dynaflow.app import App
from dynaflow.batch import Batch, BatchResult
from dynaflow.engine.memory import Memory
from dynaflow.engine.plan import Plan
from dynaflow.engine.work import Work
from dynaflow.errors import DynaflowError, ThreadsExhausted
from dynaflow.observe import logger

if TYPE_CHECKING:
    import asyncio

__all__ = ["Host"]

_MOMENT = 0.5  # seconds for lost calls to end, before the process is given up because of them


class Host:
    """Runs an App's batches on the calling thread.

    A batch that only sync handlers take never needs the loop, and none is made for it.

    Args:
        app: what to run.
        contain: whether a handler's KeyboardInterrupt or MemoryError is its record's failure.
        memory: what is known of earlier deliveries; None for what the App remembers.
    """

    def __init__(self, app: App, *, contain: bool = False, memory: Memory | None = None) -> None:
        self._app = app
        self._memory = memory
        self._views = CheckedViews(app.refuse_view_type)
        self._contain = contain
        self._loop = KeptLoop(contain=contain)
        self._lifespan: asyncio.Task[None] | None = None
        self._closing: asyncio.Event | None = None
        self._open_here: ExitStack | None = None
        self._watchdog = Watchdog(self._report_blocked)

    def open(self) -> None:
        """Open the App's lifespan, unless it is open.

        Raises:
            Exception: what the lifespan raised, now or since it was opened.
        """
        if not self._app.has_lifespan or self._open_here is not None:
            return
        if self._lifespan is None and self._app.opens_without_loop:
            opened = ExitStack()
            opened.enter_context(self._app.lifespan_without_loop())
            self._open_here = opened
            return
        lifespan, self._lifespan = self._lifespan, None
        if not self._loop.is_usable:
            lifespan = None  # it went with its loop
        if lifespan is not None and lifespan.done():
            lifespan.result()  # it ended by itself: raises what ended it; the next call opens anew
        self._lifespan = lifespan or self._loop.run(self._open_lifespan)

    def process(self, batch: Batch, *, all_come_again: bool = False) -> BatchResult:
        """Run a batch and return what became of it.

        Args:
            batch: the batch.
            all_come_again: whether a failure brings back the whole batch.

        Raises:
            ViewTypeMismatch: the stream leaves out an image that a route asks for.
            DynaflowError: an event loop is running in this thread already.
            ThreadsExhausted: too many calls outlived their deadline and still run.
        """
        self._views.check_records(batch.records)
        self.open()
        work = self._begin(self._app.plan(batch, memory=self._memory))
        try:
            with self._watchdog.watching(work):
                self._run(work)
        except BaseException:
            work.close()
            raise
        result = work.finish(all_come_again=all_come_again)
        self._app.flush(work)
        return result

    def close(self) -> None:
        """Close the lifespan and the loop.

        Raises:
            Exception: what the lifespan raised.
        """
        lifespan, self._lifespan = self._lifespan, None
        try:
            if lifespan is not None and self._closing is not None and self._loop.is_usable:
                self._closing.set()
                self._loop.run(lambda: _wait_for(lifespan))
        finally:
            with self._open_here or ExitStack():
                self._open_here = None
                self._loop.close()

    def _begin(self, plan: Plan) -> Work:
        try:
            return self._app.begin(plan, contain=self._contain)
        except ThreadsExhausted:
            self._loop.settle(_MOMENT)  # calls that are lost on the loop end only while it runs
            return self._app.begin(plan, contain=self._contain)

    def _run(self, work: Work) -> None:
        # A lost call may live on the loop; then only the loop can bring it back. Which lanes it
        # holds is not known while they wait for a first one.
        may_be_held = bool(work.held) or work.waits_for_first
        loop_first = work.needs_loop or (may_be_held and self._loop.is_usable)
        if not loop_first:
            self._app.run_without_loop(work)
        if loop_first or work.needs_loop:
            limit = work.gate.seconds_until_silent()
            self._loop.run(lambda: self._app.run_on_loop(work), limit=limit)

    async def _open_lifespan(self) -> asyncio.Task[None]:
        """Open the lifespan in a task of its own, so that task groups work in there."""
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
        """Name the handler that keeps its thread from answering in time."""
        codes = {_code_of(function): name for function, name in self._app.called}
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
