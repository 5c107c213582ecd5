"""The end of a call on an event loop: more attempts, a dead letter, whose a cancellation was."""

from __future__ import annotations

import math
from collections.abc import Awaitable
from concurrent.futures import Future
from typing import Any, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.engine.bridge import asyncio_task, in_thread
from dynaflow.engine.desk import Ends
from dynaflow.engine.jobs import Step
from dynaflow.engine.judge import Verdict
from dynaflow.engine.parking import Parking
from dynaflow.engine.threads import Threads
from dynaflow.engine.work import Work
from dynaflow.middleware import Call
from dynaflow.record import Record

__all__ = ["Finisher", "absorb_stray_cancellation", "attempt"]

_T = TypeVar("_T")

_SINK_TIMEOUT = 30.0  # seconds for an async sink to take a letter


class Finisher:
    """Awaits the calls of one batch.

    Args:
        work: the batch.
        scope: around all of its calls.
        threads: where sinks run that are sync.
    """

    def __init__(self, work: Work, scope: anyio.CancelScope, threads: Threads) -> None:
        self._work = work
        self._scope = scope
        self._threads = threads

    async def finish(
        self, process: Awaitable[object], desk: Ends[_T], running: _T, route: Step
    ) -> None:
        """Await a call, and whatever attempts follow; enter what became of it."""
        attempts: Awaitable[object] | None = process
        while attempts is not None:
            failure: BaseException | None = None
            try:
                await attempts
            except BaseException as error:  # a SystemExit is its record's failure, no more
                if _is_engines_own(error):
                    desk.cut_off(running)
                    raise
                failure = error
            if failure is None:
                desk.succeeded(running)
                return
            attempts = await self._after(failure, desk, running, route)
        self.heed_interrupt()
        if _is_cancelled():  # and the handler made another error of it
            await checkpoint()

    async def settle(self, error: BaseException, desk: Ends[_T], running: _T) -> None:
        """Park what a call has failed for good, and enter what became of it."""
        await self._settle(desk.judge(running, error, final=True), desk, running)

    async def park(
        self, letters: tuple[tuple[Record, DeadLetterRecord], ...], taken: list[Record]
    ) -> None:
        """Put letters into the sink, one after the other.

        Behind one that it does not take none is tried: a sink that is down keeps nobody waiting.

        Args:
            letters: with their records.
            taken: gets the records whose letter the sink took, also if the engine cuts this off.
        """
        parking = self._work.judging.parking
        if parking is None:
            return
        for record, letter in letters:
            try:
                await self._put(parking, letter)
            except BaseException as error:
                if _is_engines_own(error):
                    raise
                parking.report_refusal(letter, error)
                break
            taken.append(record)

    def heed_interrupt(self) -> None:
        """Cut off what runs if a handler's KeyboardInterrupt is to end the batch."""
        if isinstance(self._work.fatal, KeyboardInterrupt):
            self._scope.cancel()

    async def _after(
        self, error: BaseException, desk: Ends[_T], running: _T, route: Step
    ) -> Awaitable[object] | None:
        """Return the next attempt of a call that failed; None once that it failed is entered."""
        verdict = desk.judge(running, error)
        if verdict.wait is not None:
            own_task = asyncio_task()
            try:
                if own_task is not None and own_task.cancelling():
                    await absorb_stray_cancellation(own_task)
                await anyio.sleep(verdict.wait)
            except BaseException:
                desk.failed(running, verdict.error)
                raise
            call = desk.try_again(running, verdict)
            if call is not None:
                return attempt(route, call)
            verdict = desk.judge(running, error, final=True)
        await self._settle(verdict, desk, running)
        return None

    async def _settle(self, verdict: Verdict, desk: Ends[_T], running: _T) -> None:
        parked: list[Record] = []
        try:
            await self.park(verdict.letters, parked)
        finally:
            desk.failed(running, verdict.error, parked)

    async def _put(self, parking: Parking, letter: DeadLetterRecord) -> None:
        if not parking.is_async:
            if self._threads.size == 0:
                parking.put_here(letter)
            else:
                await in_thread(
                    self._threads, lambda: parking.put_here(letter), left=self._lose_sink
                )
            return
        with anyio.fail_after(_SINK_TIMEOUT):
            taken: Any = parking.sink(letter)
            await taken

    def _lose_sink(self, thread: Future[None]) -> None:
        """Note that a sink hangs in a thread that nobody waits for any more; it holds no item."""
        lost = self._work.lost
        lost.lose()
        thread.add_done_callback(lambda _: lost.come_back())


def attempt(route: Step, call: Call) -> Awaitable[object]:
    """Return what calls a route, within its time-out."""
    process = route.process(call)
    return process if route.timeout is None else _limited(process, route.timeout, route.name)


async def absorb_stray_cancellation(task: Any) -> None:
    """Take back a cancellation that a handler asked for itself, so that the next is not hit."""
    while task.cancelling() and not _is_cancelled():
        try:
            await checkpoint()
        except anyio.get_cancelled_exc_class():
            if _is_cancelled():
                raise
        task.uncancel()


async def _limited(process: Awaitable[object], seconds: float, name: str | None) -> None:
    with anyio.move_on_after(seconds) as scope:
        await process
    if scope.cancelled_caught:
        raise TimeoutError(f"an attempt of {name} did not end within its timeout of {seconds:g} s")


def _is_engines_own(error: BaseException) -> bool:
    return isinstance(error, anyio.get_cancelled_exc_class()) and _is_cancelled()


def _is_cancelled() -> bool:
    """Return True if a scope around the current task is cancelled, not just the task itself."""
    return anyio.current_effective_deadline() == -math.inf
