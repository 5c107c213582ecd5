"""One event loop that is kept over all invocations, on the invocation's own thread.

A loop that stays keeps clients alive: connections, locks and queues belong to the loop that they
were made on. asyncio is imported with the first thing that needs it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from dynaflow.errors import DynaflowError

if TYPE_CHECKING:
    import asyncio

__all__ = ["KeptLoop"]

_T = TypeVar("_T")


class KeptLoop:
    """An asyncio event loop that is made when it is first needed.

    Args:
        contain: whether a KeyboardInterrupt that comes out of a task leaves the loop running.
    """

    def __init__(self, *, contain: bool = False) -> None:
        self._contain = contain
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._left_behind: set[asyncio.Task[Any]] = set()

    @property
    def is_usable(self) -> bool:
        """True if the loop is there, and neither closed by somebody nor copied by a fork."""
        loop = self._loop
        return loop is not None and not loop.is_closed() and self._process == os.getpid()

    def run(
        self, function: Callable[[], Coroutine[Any, Any, _T]], *, limit: float | None = None
    ) -> _T | None:
        """Run an async function and return its result.

        Args:
            function: makes the coroutine to run.
            limit: seconds after which the coroutine is left behind and None returned. It goes on
                whenever the loop runs: a call can shield itself from its cancellation, and an
                answer must not wait for it.

        Raises:
            DynaflowError: an event loop is running in this thread already.
        """
        loop = self._get_loop()
        task = loop.create_task(function())
        late_at = math.inf if limit is None else loop.time() + limit
        stop = None if limit is None else loop.call_at(late_at, loop.stop)
        try:
            while True:
                try:
                    return loop.run_until_complete(task)
                except (SystemExit, KeyboardInterrupt, RuntimeError) as error:
                    # asyncio lets the first two out of any task, one that a handler spawned, too;
                    # who awaits that task gets them as well. The third: the loop was stopped, by
                    # the limit or by a handler. The batch is still to be answered.
                    if task.done() or loop.is_closed() or loop.is_running():
                        raise
                    if isinstance(error, KeyboardInterrupt) and not self._contain:
                        self._cancel(loop, task)
                        raise
                    if loop.time() >= late_at:
                        self._leave_behind(task)
                        return None
        finally:
            if stop is not None:
                stop.cancel()

    def settle(self, seconds: float) -> None:
        """Give what was left behind so many seconds to come to an end."""
        import asyncio

        if self.is_usable and self._left_behind:
            left_behind = tuple(self._left_behind)
            self.run(lambda: asyncio.wait(left_behind, timeout=seconds))

    def close(self) -> None:
        """Close the loop; tasks that are left on it are cancelled."""
        import asyncio

        loop = self._loop
        if loop is None or not self.is_usable:
            return
        try:
            for task in asyncio.all_tasks(loop):
                self._cancel(loop, task)
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def _get_loop(self) -> asyncio.AbstractEventLoop:
        import asyncio

        if asyncio._get_running_loop() is not None:
            raise DynaflowError(
                "an event loop is running in this thread, so a plain function cannot run another. "
                "Call 'await app.process(batch)', or use 'async with TestClient(app)'."
            )
        if self._loop is None or not self.is_usable:
            self._loop = asyncio.new_event_loop()
            self._process = os.getpid()
            self._left_behind.clear()
        return self._loop

    def _leave_behind(self, task: asyncio.Task[Any]) -> None:
        self._left_behind.add(task)  # the loop itself holds tasks only weakly
        task.add_done_callback(self._left_behind.discard)

    def _cancel(self, loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
        import asyncio

        task.cancel()
        loop.run_until_complete(asyncio.wait([task], timeout=1))
