"""Runs batches on an event loop, asyncio's or trio's: their deadline, slots, and sync handlers.

Imported when the first batch needs a loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import anyio

from dynaflow.engine.bridge import in_thread, until_back
from dynaflow.engine.crew import Bounds, Crew, current_crew
from dynaflow.engine.lost import LostCalls
from dynaflow.engine.slots import Slots
from dynaflow.engine.threads import Threads
from dynaflow.engine.work import Work
from dynaflow.middleware import Call

__all__ = ["Runner"]


class Runner:
    """Runs an App's batches on an event loop.

    Args:
        concurrency: how many calls may run at a time, over all batches.
        threads: where sync handlers run.
        lost: the App's lost calls.
    """

    def __init__(self, *, concurrency: int, threads: Threads, lost: LostCalls) -> None:
        self.threads = threads
        self._lost = lost
        self.slots = Slots(concurrency)
        self.thread_slots = Slots(max(1, threads.size))
        self._bounds = Bounds(concurrency, threads, self.slots, self.thread_slots)
        self._crews: dict[Crew, Work] = {}

    async def run(self, work: Work, *, shared: bool = False) -> None:
        """Run all lanes of a batch; return when they have ended or the deadline cuts them off.

        Args:
            work: the batch.
            shared: whether other batches may come at the same time; one slot then stays free.
        """
        for left_behind in [crew for crew, other in self._crews.items() if other.closed]:
            self._dismiss(left_behind)
        crew = Crew(self._bounds, work, shared=shared)
        self._crews[crew] = work
        left = work.gate.seconds_until_cut()
        cut_at = math.inf if left is None else anyio.current_time() + left
        try:
            with anyio.CancelScope(deadline=cut_at) as scope:
                await crew.run(scope)
        except ExceptionGroup as group:  # of may_start or on_progress: calls' errors are entered
            raise _first_of(group) from None
        finally:
            work.close()
            self._dismiss(crew)

    async def call_in_thread(
        self, call: Call, function: Callable[[], Any], *, shield: bool = False
    ) -> Any:
        """Call a function in a worker thread on behalf of a call, and return what it returned.

        Args:
            call: whose item no other call may work on while the thread does.
            function: what to call.
            shield: whether it runs, and is waited for, even if the call has been cancelled.
        """
        if self.threads.size == 0:
            return function()
        if shield:
            with anyio.CancelScope(shield=True):
                return await self._call_in_thread(call, function)
        for lane in call.lanes:
            if lane in self._lost:  # from an earlier try that a middleware gave up on
                await until_back(self._lost, lane)
        return await self._call_in_thread(call, function)

    async def _call_in_thread(self, call: Call, function: Callable[[], Any]) -> Any:
        holder = current_crew.get(call)
        await self.thread_slots.acquire(holder)
        try:
            return await in_thread(self.threads, function, left=self._lost_until_back(call))
        finally:
            self.thread_slots.release(holder)

    def _dismiss(self, crew: Crew) -> None:
        """Take back what a batch holds, even if a lost call keeps its crew from ending."""
        self._crews.pop(crew, None)
        self.slots.release_all(crew)
        self.thread_slots.release_all(crew)

    def _lost_until_back(self, call: Call) -> Callable[[Future[Any]], None]:
        """Return what notes that nobody waits any more for a thread that works on a call's item."""

        def left(thread: Future[Any]) -> None:
            self._lost.lose(*call.lanes)
            thread.add_done_callback(lambda _: self._lost.come_back(*call.lanes))

        return left


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
