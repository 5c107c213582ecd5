"""Worker threads of our own, which run whole lanes of sync routes. No event loop here.

They are daemons: a handler that hangs cannot keep a process from ending. A thread whose handler
outlived its deadline is *lost*: its result is dropped, another thread takes its place, and its
item's lane does not start until it has come back.
"""

from __future__ import annotations

import contextvars
import inspect
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from dynaflow.engine.plan import Lane
from dynaflow.engine.work import Work
from dynaflow.errors import ThreadsExhausted

__all__ = ["Drain", "ThreadCall", "Threads", "run_in_threads"]


class ThreadCall:
    """A worker thread's stay at one item."""

    __slots__ = ("lane", "left", "lost")

    def __init__(self, lane: Hashable) -> None:
        self.lane = lane
        self.left = False
        self.lost = False


class Threads:
    """Daemon threads that are started when there is work and none is idle.

    Args:
        size: how many of them work for handlers at a time; lost ones come on top.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._idle = 0
        self._process = os.getpid()
        self._lost: Counter[Hashable] = Counter()

    def start(self, work: Callable[[], object]) -> None:
        """Run the function in a worker thread, with the caller's context variables.

        Raises:
            ThreadsExhausted: as many threads are lost as there may be at a time.
        """
        self.check()
        context = contextvars.copy_context()
        with self._lock:
            if self._process != os.getpid():  # a fork copies this object, but none of the threads
                self._process, self._idle = os.getpid(), 0
                self._lost.clear()
            if self._idle:
                self._idle -= 1
            else:
                threading.Thread(target=self._serve, name="dynaflow", daemon=True).start()
        self._work.put(partial(context.run, work))

    def check(self) -> None:
        """Raise ThreadsExhausted if as many threads are lost as there may be at a time."""
        if self._lost and self._lost.total() >= self.size:
            raise ThreadsExhausted(
                f"{self._lost.total()} sync handlers outlived their deadline and still run in "
                "worker threads; this process has to be restarted. Give what they wait for a "
                "time-out."
            )

    def leave(self, call: ThreadCall) -> None:
        """Note that a thread has left the item that it worked on."""
        with self._lock:
            if call.lost:
                self._lost[call.lane] -= 1
                self._lost += Counter()  # drops what has come to zero
            call.left = True

    def lose(self, call: ThreadCall) -> None:
        """Note that a thread outlived its deadline, unless it has left its item by now."""
        with self._lock:
            if not call.left and not call.lost:
                call.lost = True
                self._lost[call.lane] += 1

    def is_lost(self, lane: Hashable) -> bool:
        """Return True if a lost thread still works on this item."""
        return lane in self._lost

    def _serve(self) -> None:
        while True:
            self._work.get()()
            with self._lock:
                self._idle += 1


class Drain:
    """Runs the lanes of one batch that threads can run, each lane whole in one thread."""

    def __init__(self, work: Work, threads: Threads) -> None:
        self._work = work
        self._threads = threads
        self._calls: list[ThreadCall] = []

    def run(self, *, lowest: bool, leave_early: Callable[[], bool] | None = None) -> None:
        """Run lane after lane until none waits; between two lanes, leave early if asked to."""
        work = self._work
        while not work.closed:
            with work.lock:
                lane = work.in_threads.take(lowest=lowest)
            if lane is None:
                return
            call = ThreadCall(lane.key)
            self._calls.append(call)
            try:
                self._run_lane(lane)
            finally:
                self._threads.leave(call)
            if leave_early is not None and leave_early():
                return

    def lose(self) -> None:
        """Note that the threads that are still at an item have outlived the deadline."""
        for call in self._calls:
            self._threads.lose(call)

    def _run_lane(self, lane: Lane) -> None:
        work = self._work
        while lane.remaining and not work.closed:
            job = lane.next_job
            if not work.gate.is_open(job.record):
                return
            while job.at < len(job.routes):
                if not self._run_route(lane):
                    return
                job.at += 1
            if not work.job_ended(job):
                return
            lane.cursor += 1

    def _run_route(self, lane: Lane) -> bool:
        """Call the handler whose turn it is; return False if this thread has to leave the lane."""
        work, job = self._work, lane.next_job
        route = job.routes[job.at]
        call = work.call_of(lane, job)
        started = time.perf_counter()
        try:
            result: Any = contextvars.copy_context().run(route.call, call)
        except BaseException as error:  # SystemExit and the like must not end the thread
            return work.failed(job, error, started)
        if not inspect.isawaitable(result):
            return work.succeeded(job, started)
        if not work.closed:
            work.hand_over(lane, route, result)
        return False


def run_in_threads(work: Work, threads: Threads, *, workers: int) -> None:
    """Run all sync lanes of a batch and return when they have ended or the deadline cuts them off.

    Args:
        work: the batch. What is left in ``work.on_loop`` afterwards wants a loop.
        threads: where to run; with a size of 0, the calling thread.
        workers: how many calls may run at a time, at most.
    """
    drain = Drain(work, threads)
    if threads.size == 0:
        drain.run(lowest=True)
        work.adopt_handed_over()
        return
    ended: queue.SimpleQueue[None] = queue.SimpleQueue()

    def one(lowest: bool) -> None:
        try:
            drain.run(lowest=lowest)
        finally:
            ended.put(None)

    count = min(threads.size, workers, work.in_threads.waiting)
    try:
        for number in range(count):
            threads.start(partial(one, number % 2 == 0))
        for _ in range(count):
            left = work.gate.seconds_until_cut()
            ended.get(timeout=None if left is None else max(0.0, left))
    except queue.Empty:
        work.close()
    except BaseException:
        work.close()
        raise
    finally:
        drain.lose()
    work.adopt_handed_over()
