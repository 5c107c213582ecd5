"""The workers of one batch: they run its lanes on an event loop, and batch routes after them.

Few long-lived workers are started, only while lanes wait; none of them is the host task, so that a
cancellation from outside and one that a handler made itself can be told apart.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import anyio
from anyio.lowlevel import checkpoint

from dynaflow.engine.batching import BatchRoutes
from dynaflow.engine.bridge import asyncio_task, in_thread, until_back
from dynaflow.engine.chunks import Chunk
from dynaflow.engine.finish import Finisher, absorb_stray_cancellation, attempt
from dynaflow.engine.jobs import Lane
from dynaflow.engine.lanes import Lanes
from dynaflow.engine.slots import Slots
from dynaflow.engine.threads import Threads, drain
from dynaflow.engine.work import Work
from dynaflow.record import Record

__all__ = ["Bounds", "Crew", "current_crew"]

Kind: TypeAlias = Literal["loop", "thread"]

_BREATH = 0.02  # seconds of calls that never suspend, after which other tasks get a turn
_AHEAD = 2  # workers of a kind that may be starting at a time: their number doubles

current_crew: ContextVar[object] = ContextVar("dynaflow_crew")


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many calls may run at a time, over all batches of an App.

    Args:
        concurrency: how many calls.
        threads: where sync handlers run.
        slots: one for each call.
        thread_slots: one for each worker thread.
    """

    concurrency: int
    threads: Threads
    slots: Slots
    thread_slots: Slots


class Crew:
    """The workers of one batch.

    Args:
        bounds: what all batches of the App share.
        work: the batch.
        shared: whether other batches may come at the same time; one slot then stays free.
    """

    def __init__(self, bounds: Bounds, work: Work, *, shared: bool) -> None:
        self._bounds = bounds
        self._work = work
        self._shared = shared
        self._starting: dict[Kind, int] = {"loop": 0, "thread": 0}
        self._alive: dict[Kind, int] = {"loop": 0, "thread": 0}
        self._hired: dict[Kind, int] = {"loop": 0, "thread": 0}
        self._thread_leaves = False
        self._worker_ended = anyio.Event()

    async def run(self, scope: anyio.CancelScope) -> None:
        """Run workers until no lane waits and all have ended, and batch routes after them."""
        self._finisher = Finisher(self._work, scope, self._bounds.threads)
        batch_routes = self._work.batch_routes
        if self._work.waits_for_first:
            async with anyio.create_task_group() as self._group:
                self._hire_first()
            self._work.open_lanes()
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
        current_crew.set(self)
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
        own_task, slots = asyncio_task(), self._bounds.slots
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
                await absorb_stray_cancellation(own_task)
            await checkpoint()

    async def _run_chunk(self, routes: BatchRoutes, chunk: Chunk) -> None:
        process: Awaitable[object] | None
        if chunk.pending is None:
            for member, error in routes.prepare(chunk):
                parked: list[Record] = []
                await self._finisher.park(routes.letter_of(chunk, member, error), parked)
                routes.refuse(chunk, member, error, parked=bool(parked))
            call = routes.begin(chunk)
            process = None if call is None else attempt(chunk.route, call)
        else:
            process = routes.resume(chunk)
        if process is not None:
            await self._finisher.finish(process, routes, chunk, chunk.route)
            if any(lane in self._work.lost for lane in chunk.keys):  # a middleware gave up on it
                routes.refresh()
        self._finisher.heed_interrupt()  # of a model's validator, which is asked before the call

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
        bounds, work = self._bounds, self._work
        if bounds.threads.size == 0 or (bounds.concurrency == 1 and work.on_loop.waiting):
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
        bounds = self._bounds
        if not bounds.slots.try_acquire(self, spare=self._shared):
            return False
        if kind == "loop" or bounds.thread_slots.try_acquire(self, spare=self._shared):
            return True
        bounds.slots.release(self)
        return False

    async def _loop_worker(self, *, lowest: bool, holds: bool) -> None:
        slots = self._bounds.slots
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
        bounds = self._bounds
        if not holds:
            await bounds.slots.acquire(self)
            await bounds.thread_slots.acquire(self)
        self._starting["thread"] -= 1
        try:
            await self._drain(lowest=lowest)
            self._work.adopt_handed_over()
            await self._run_lanes(lowest=lowest)
        finally:
            bounds.slots.release(self)
            self._worker_ended.set()

    async def _drain(self, *, lowest: bool) -> None:
        """Let a worker thread run lanes until none waits; give its slot back afterwards."""
        work, left = self._work, False
        with work.lock:
            self._alive["thread"] += 1
        try:
            self._hire_more("thread", work.in_threads, self._thread_worker)
            function = partial(drain, work, lowest=lowest, leave_early=self._leaves_early)
            left = await in_thread(self._bounds.threads, function)
        finally:
            with work.lock:
                if left:
                    self._thread_leaves = False
                else:
                    self._alive["thread"] -= 1
            self._bounds.thread_slots.release(self)

    def _leaves_early(self) -> bool:
        """Let one of several threads go to a batch that has none; asked in these threads."""
        with self._work.lock:  # else all of them might go at the same time
            if self._thread_leaves or self._alive["thread"] < 2:
                return False
            if not self._bounds.thread_slots.is_wanted(self):
                return False
            self._thread_leaves = True
            self._alive["thread"] -= 1
            return True

    async def _run_lanes(self, *, lowest: bool) -> None:
        """Run one record after the other, of whichever lane is best next, until none waits."""
        lanes, slots = self._work.on_loop, self._bounds.slots
        current_crew.set(self)
        own_task = asyncio_task()
        rested = time.perf_counter()
        lane = lanes.take(lowest=lowest)
        while lane is not None:
            self._hire_more("loop", lanes, self._loop_worker)
            goes_on = await self._run_job(lane)
            self._work.progress()
            if own_task is not None and own_task.cancelling():
                await absorb_stray_cancellation(own_task)
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
        work, failure = self._work, lane.failure
        if failure is not None:
            lane.failure = None
            if work.take_up(lane):
                await self._finisher.settle(failure, work, lane)
            return
        call = work.begin(lane)
        if call is None:
            return
        pending, lane.pending = lane.pending, None
        process = attempt(lane.route, call) if pending is None else pending
        await self._finisher.finish(process, work, lane, lane.route)
