"""The one task group: runs a batch's lanes on an event loop, on asyncio or trio.

Imported when the first batch needs a loop. Few long-lived workers are started, only while lanes
wait; none of them is the host task, so that a cancellation from outside and one that a handler
made itself can be told apart.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import ContextVar
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from dynaflow.engine.batching import BatchRoutes
from dynaflow.engine.bridge import asyncio_task, in_thread, until_back
from dynaflow.engine.chunks import Chunk
from dynaflow.engine.lanes import Lanes
from dynaflow.engine.lost import LostCalls
from dynaflow.engine.plan import Lane
from dynaflow.engine.slots import Slots
from dynaflow.engine.threads import Threads, drain
from dynaflow.engine.work import Work
from dynaflow.middleware import Call

__all__ = ["Runner"]

Kind: TypeAlias = Literal["loop", "thread"]
_T = TypeVar("_T")
R_contra = TypeVar("R_contra", contravariant=True)

_BREATH = 0.02  # seconds of calls that never suspend, after which other tasks get a turn
_AHEAD = 2  # workers of a kind that may be starting at a time: their number doubles

_crew: ContextVar[object] = ContextVar("dynaflow_crew")


class Ends(Protocol[R_contra]):
    """Where it is entered how a call of a lane, or of a batch route, ended."""

    def succeeded(self, running: R_contra, /) -> object:
        """Enter that it is done."""
        ...

    def failed(self, running: R_contra, error: BaseException, /) -> object:
        """Enter that it failed."""
        ...

    def cut_off(self, running: R_contra, /) -> object:
        """Enter that the engine has cancelled it."""
        ...


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
        self.concurrency = concurrency
        self.slots = Slots(concurrency)
        self.thread_slots = Slots(max(1, threads.size))
        self._crews: dict[_Crew, Work] = {}

    async def run(self, work: Work, *, shared: bool = False) -> None:
        """Run all lanes of a batch; return when they have ended or the deadline cuts them off.

        Args:
            work: the batch.
            shared: whether other batches may come at the same time; one slot then stays free.
        """
        for left_behind in [crew for crew, other in self._crews.items() if other.closed]:
            self._dismiss(left_behind)
        crew = _Crew(self, work, shared=shared)
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
        holder = _crew.get(call)
        await self.thread_slots.acquire(holder)
        try:
            return await in_thread(self.threads, function, left=self._lost_until_back(call))
        finally:
            self.thread_slots.release(holder)

    def _dismiss(self, crew: _Crew) -> None:
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


class _Crew:
    """The workers of one batch."""

    def __init__(self, runner: Runner, work: Work, *, shared: bool) -> None:
        self._runner = runner
        self._work = work
        self._shared = shared
        self._starting: dict[Kind, int] = {"loop": 0, "thread": 0}
        self._alive: dict[Kind, int] = {"loop": 0, "thread": 0}
        self._hired: dict[Kind, int] = {"loop": 0, "thread": 0}
        self._thread_leaves = False
        self._worker_ended = anyio.Event()

    async def run(self, scope: anyio.CancelScope) -> None:
        """Run workers until no lane waits and all have ended, and batch routes after them."""
        self._scope = scope
        batch_routes = self._work.batch_routes
        async with anyio.create_task_group() as later:
            lanes_ended = anyio.Event()
            if batch_routes is not None:
                later.start_soon(self._run_batch_routes, batch_routes, lanes_ended)
            async with anyio.create_task_group() as self._group:
                self._hire_first()
                for lane in tuple(self._work.held):
                    self._group.start_soon(self._await_lost_call, lane)
            lanes_ended.set()
            self._worker_ended.set()

    async def _run_batch_routes(self, routes: BatchRoutes, lanes_ended: anyio.Event) -> None:
        """Run batch routes once lanes have ended, or start nothing more because of a deadline."""
        _crew.set(self)
        with anyio.move_on_after(self._work.gate.seconds_open()):
            await lanes_ended.wait()
        while True:
            is_last_round = lanes_ended.is_set()
            self._worker_ended = anyio.Event()
            routes.refresh()
            await self._run_chunks(routes)
            if is_last_round:
                break
            await self._worker_ended.wait()
        while routes.held is not None and not self._work.gate.stopped:
            with anyio.move_on_after(self._work.gate.seconds_open_to_batches()) as in_time:
                await until_back(self._work.lost, routes.held)
            if in_time.cancelled_caught:
                return
            routes.refresh()
            await self._run_chunks(routes)

    async def _run_chunks(self, routes: BatchRoutes) -> None:
        own_task, slots = asyncio_task(), self._runner.slots
        while routes.has_ready:  # else it would wait for a slot that it does not need
            await slots.acquire(self)
            try:
                chunk = routes.next()
                if chunk is None:
                    return
                await self._run_chunk(routes, chunk)
            finally:
                slots.release(self)
            self._work.progress()
            if own_task is not None and own_task.cancelling():
                await self._absorb_stray_cancellation(own_task)
            await checkpoint()

    async def _run_chunk(self, routes: BatchRoutes, chunk: Chunk) -> None:
        process: Awaitable[object] | None
        if chunk.pending is None:
            call = routes.begin(chunk)
            process = None if call is None else chunk.route.process(call)
        else:
            process = routes.resume(chunk)
        if process is not None:
            await self._finish(process, routes, chunk)
            if any(lane in self._work.lost for lane in chunk.keys):  # a middleware gave up on it
                routes.refresh()
        self._heed_interrupt()  # of a model's validator, which is asked before the call

    async def _await_lost_call(self, lane: Lane) -> None:
        """Let a held lane start once the lost call on its item is back, if that is in time."""
        with anyio.move_on_after(self._work.gate.seconds_open()) as in_time:
            await until_back(self._work.lost, lane.key)
        if not in_time.cancelled_caught:
            self._work.release(lane)
            self._hire_first()

    def _hire_first(self) -> None:
        """Start one worker for each kind of lane that waits; it starts the others.

        Both get their slots before any other: behind lanes of one kind that take all the time, the
        lowest record would wait in vain in a lane of the other.
        """
        runner, work = self._runner, self._work
        if runner.threads.size == 0 or (runner.concurrency == 1 and work.on_loop.waiting):
            work.keep_on_loop()
        if work.on_loop.waiting:
            self._hire("loop", self._loop_worker, holds=self._try_acquire("loop"))
        if work.in_threads.waiting:
            self._hire("thread", self._thread_worker, holds=self._try_acquire("thread"))

    def _hire(self, kind: Kind, worker: Callable[..., Any], *, holds: bool) -> None:
        self._starting[kind] += 1
        self._hired[kind] += 1
        self._group.start_soon(partial(worker, lowest=self._hired[kind] % 2 == 1, holds=holds))

    def _hire_more(self, kind: Kind, lanes: Lanes, worker: Callable[..., Any]) -> None:
        """Start workers while lanes wait for one; every starting worker does the same."""
        starting = self._starting
        while lanes.waiting > starting[kind] < _AHEAD and self._try_acquire(kind):
            self._hire(kind, worker, holds=True)

    def _try_acquire(self, kind: Kind) -> bool:
        runner = self._runner
        if not runner.slots.try_acquire(self, spare=self._shared):
            return False
        if kind == "loop" or runner.thread_slots.try_acquire(self, spare=self._shared):
            return True
        runner.slots.release(self)
        return False

    async def _loop_worker(self, *, lowest: bool, holds: bool) -> None:
        slots = self._runner.slots
        if not holds:
            await slots.acquire(self)
        self._starting["loop"] -= 1
        self._alive["loop"] += 1
        try:
            await self._run_lanes(lowest=lowest)
        finally:
            self._alive["loop"] -= 1
            slots.release(self)
            self._worker_ended.set()

    async def _thread_worker(self, *, lowest: bool, holds: bool) -> None:
        runner = self._runner
        if not holds:
            await runner.slots.acquire(self)
            await runner.thread_slots.acquire(self)
        self._starting["thread"] -= 1
        try:
            await self._drain(lowest=lowest)
            self._work.adopt_handed_over()
            await self._run_lanes(lowest=lowest)
        finally:
            runner.slots.release(self)
            self._worker_ended.set()

    async def _drain(self, *, lowest: bool) -> None:
        """Let a worker thread run lanes until none waits; give its slot back afterwards."""
        work, left = self._work, False
        with work.lock:
            self._alive["thread"] += 1
        try:
            self._hire_more("thread", work.in_threads, self._thread_worker)
            function = partial(drain, work, lowest=lowest, leave_early=self._leaves_early)
            left = await in_thread(self._runner.threads, function)
        finally:
            with work.lock:
                if left:
                    self._thread_leaves = False
                else:
                    self._alive["thread"] -= 1
            self._runner.thread_slots.release(self)

    def _leaves_early(self) -> bool:
        """Let one of several threads go to a batch that has none; asked in these threads."""
        with self._work.lock:  # else all of them might go at the same time
            if self._thread_leaves or self._alive["thread"] < 2:
                return False
            if not self._runner.thread_slots.is_wanted(self):
                return False
            self._thread_leaves = True
            self._alive["thread"] -= 1
            return True

    async def _run_lanes(self, *, lowest: bool) -> None:
        """Run one record after the other, of whichever lane is best next, until none waits."""
        lanes, slots = self._work.on_loop, self._runner.slots
        _crew.set(self)
        own_task = asyncio_task()
        rested = time.perf_counter()
        lane = lanes.take(lowest=lowest)
        while lane is not None:
            self._hire_more("loop", lanes, self._loop_worker)
            goes_on = await self._run_job(lane)
            self._work.progress()
            if own_task is not None and own_task.cancelling():
                await self._absorb_stray_cancellation(own_task)
            if self._alive["loop"] > 1 and slots.is_wanted(self):
                if goes_on:
                    lanes.add(lane)
                return
            lane = lanes.exchange(lane, lowest=lowest) if goes_on else lanes.take(lowest=lowest)
            if time.perf_counter() - rested > _BREATH:
                await checkpoint()
                rested = time.perf_counter()

    async def _run_job(self, lane: Lane) -> bool:
        """Run the record whose turn it is in a lane; return whether the lane goes on."""
        work, job = self._work, lane.next_job
        if not work.begin_job(lane):
            return False
        while job.at < len(job.routes):
            if lane.key in work.lost:  # a middleware gave up on a thread that still works
                work.held.append(lane)
                self._group.start_soon(self._await_lost_call, lane)
                return False
            await self._run_route(lane)
            job.at += 1
        return work.job_ended(lane) and lane.remaining > 0

    async def _run_route(self, lane: Lane) -> None:
        work = self._work
        call = work.begin(lane)
        if call is None:
            return
        pending, lane.pending = lane.pending, None
        await self._finish(
            lane.next_job.route.process(call) if pending is None else pending, work, lane
        )

    async def _finish(self, process: Awaitable[object], desk: Ends[_T], running: _T) -> None:
        """Await a call, and enter what became of it."""
        try:
            await process
        except BaseException as error:  # a handler's SystemExit is its record's failure, no more
            if _is_engines_own(error):
                desk.cut_off(running)
                raise
            desk.failed(running, error)
            self._heed_interrupt()
            if _is_cancelled():  # and the handler made another error of it
                await checkpoint()
        else:
            desk.succeeded(running)

    def _heed_interrupt(self) -> None:
        """Cut off what runs if a handler's KeyboardInterrupt is to end the batch."""
        if isinstance(self._work.fatal, KeyboardInterrupt):
            self._scope.cancel()

    async def _absorb_stray_cancellation(self, task: Any) -> None:
        """Take back a cancellation that a handler asked for itself, so that the next is not hit."""
        while task.cancelling() and not _is_cancelled():
            try:
                await checkpoint()
            except anyio.get_cancelled_exc_class():
                if _is_cancelled():
                    raise
            task.uncancel()


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _is_engines_own(error: BaseException) -> bool:
    return isinstance(error, anyio.get_cancelled_exc_class()) and _is_cancelled()


def _is_cancelled() -> bool:
    """Return True if a scope around the current task is cancelled, not just the task itself."""
    return anyio.current_effective_deadline() == -math.inf
