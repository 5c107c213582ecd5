"""Worker threads of our own, which run whole lanes of sync routes. No event loop here.

They are daemons: a handler that hangs cannot keep a process from ending. A thread whose handler
outlived its deadline goes on, but its result is dropped and another thread takes its place.
"""

from __future__ import annotations

import contextvars
import inspect
import os
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from dynaflow.engine.batching import BatchRoutes
from dynaflow.engine.desk import Desk, Ends
from dynaflow.engine.jobs import Lane, Step
from dynaflow.engine.work import Work
from dynaflow.middleware import Call

__all__ = ["Threads", "drain", "run_in_threads"]

_T = TypeVar("_T")

_IDLE_SECONDS = 10.0  # after which a thread without work ends


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

    def start(self, work: Callable[[], object]) -> None:
        """Run the function in a worker thread, with the caller's context variables."""
        context = contextvars.copy_context()
        with self._lock:
            if self._process != os.getpid():  # a fork copies this object, but none of the threads
                self._process, self._idle = os.getpid(), 0
            if self._idle:
                self._idle -= 1
            else:
                threading.Thread(target=self._serve, name="dynaflow", daemon=True).start()
        self._work.put(partial(context.run, work))

    def _serve(self) -> None:
        while True:
            try:
                work = self._work.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                with self._lock:
                    if self._idle:  # else work is on its way, and counts on this thread
                        self._idle -= 1
                        return
                continue
            work()
            del work  # it holds the batch
            with self._lock:
                self._idle += 1


def drain(work: Work, *, lowest: bool, leave_early: Callable[[], bool] | None = None) -> bool:
    """Run sync lanes, each to its end, until none waits; return True if it left before that.

    Args:
        work: the batch.
        lowest: whether to take the lane with the lowest open sequence number, or the longest.
        leave_early: asked between two lanes; None for never.
    """
    while not work.closed:
        with work.lock:
            lane = work.in_threads.take(lowest=lowest)
        if lane is None:
            break
        _run_lane(work, lane)
        if leave_early is not None and leave_early():
            return True
    return False


def run_in_threads(work: Work, threads: Threads, *, workers: int) -> None:
    """Run all sync lanes of a batch and return when they have ended or the deadline cuts them off.

    Batch routes come after them, if all of them are sync. What is left then wants a loop.

    Args:
        work: the batch.
        threads: where to run; with a size of 0, the calling thread.
        workers: how many calls may run at a time, at most.
    """
    if work.waits_for_first:
        _run_waiting(work, threads, workers)
        if work.needs_loop:
            return
        work.open_lanes()
    _run_waiting(work, threads, workers)
    for lane in tuple(work.held):
        free = threading.Event()
        work.lost.tell_when_free(lane.key, free.set)
        left = work.gate.seconds_open()
        if free.wait(None if left is None else max(0.0, left)):
            work.release(lane)
    _run_waiting(work, threads, workers)
    if work.batch_routes is not None and not work.needs_loop:
        _run_batch_routes(work, threads, work.batch_routes)


def _run_waiting(work: Work, threads: Threads, workers: int) -> None:
    if threads.size == 0:
        drain(work, lowest=True)
    else:
        _share_out(work, threads, workers)
    work.adopt_handed_over()


def _share_out(work: Work, threads: Threads, workers: int) -> None:
    """Let several threads drain the lanes; close the work if the deadline comes first."""
    team, gate = _Team(threads), work.gate
    workers = min(threads.size, workers)
    try:
        for number in range(min(workers, work.in_threads.waiting)):
            team.start(partial(drain, work, lowest=number % 2 == 0))
        if work.batch_routes is not None and work.batch_routes.is_sync:
            team.wait(gate.seconds_open)
            while team.busy:  # with calls that began before lanes had to stop
                if team.busy < workers:
                    _run_batch_routes(work, threads, work.batch_routes)
                if not team.wait(gate.seconds_until_cut, busy=team.busy - 1):
                    break
        if not team.wait(gate.seconds_until_cut):
            work.close()
    except BaseException:
        work.close()
        raise


def _run_batch_routes(work: Work, threads: Threads, routes: BatchRoutes) -> None:
    """Run batch routes over what is ready; close the work if the deadline comes first."""
    routes.refresh()
    if threads.size == 0:
        _drain_batch_routes(routes)
        return
    team = _Team(threads)
    team.start(partial(_drain_batch_routes, routes))
    if not team.wait(work.gate.seconds_until_cut):
        work.close()


class _Team:
    """Worker threads that one thread waits for; ``busy`` says how many have not ended yet."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._ended: queue.SimpleQueue[None] = queue.SimpleQueue()
        self.busy = 0

    def start(self, function: Callable[[], object]) -> None:
        """Run a function in a thread."""
        self.busy += 1
        self._threads.start(partial(self._run, function))

    def wait(self, seconds: Callable[[], float | None], *, busy: int = 0) -> bool:
        """Wait until no more than so many threads are busy; return False if time is up first."""
        while self.busy > busy:
            left = seconds()
            try:
                self._ended.get(timeout=None if left is None else max(0.0, left))
            except queue.Empty:
                return False
            self.busy -= 1
        return True

    def _run(self, function: Callable[[], object]) -> None:
        try:
            function()
        finally:
            self._ended.put(None)


def _drain_batch_routes(routes: BatchRoutes) -> None:
    """Call batch routes, chunk after chunk, until one of them wants a loop or nothing is ready."""
    while routes.is_sync and (chunk := routes.next()) is not None:
        for member, error in routes.prepare(chunk):
            letters = routes.letter_of(chunk, member, error)
            routes.refuse(chunk, member, error, parked=bool(routes.desk.park_here(letters)))
        call = routes.begin(chunk)
        if call is None:
            continue
        pending = _run(routes.desk, routes, chunk, chunk.route, call)
        if pending is not None:
            routes.hand_over(chunk, pending)


def _run_lane(work: Work, lane: Lane) -> None:
    while lane.remaining and work.begin_job(lane):
        job = lane.next_job
        while job.at < len(job.routes):
            if not _run_route(work, lane):
                return
            job.at += 1
        if not work.job_ended(lane):
            return


def _run_route(work: Work, lane: Lane) -> bool:
    """Call the handler whose turn it is; return False if this thread has to leave the lane."""
    call = work.begin(lane)
    if call is None:
        return False
    pending = _run(work, work, lane, lane.route, call)
    if pending is not None:
        work.hand_over(lane, pending)
    return not (work.closed or lane.is_handed_over)


def _run(desk: Desk, ends: Ends[_T], running: _T, route: Step, call: Call) -> Any:
    """Run a call and the attempts that follow, and enter what became of it.

    Returns:
        What a loop has to await; then nothing has been entered yet.
    """
    attempt: Call | None = call
    while attempt is not None:
        try:
            result: Any = contextvars.copy_context().run(route.call, attempt)
            is_pending = inspect.isawaitable(result)  # looks at __class__, which may be computed
        except BaseException as error:  # SystemExit and the like must not end the thread
            attempt = _after(error, desk, ends, running)
        else:
            if is_pending:
                return result
            ends.succeeded(running)
            return None
    return None


def _after(error: BaseException, desk: Desk, ends: Ends[_T], running: _T) -> Call | None:
    """Return the next attempt of a call that failed; None once that it failed is entered."""
    verdict = ends.judge(running, error)
    if verdict.wait is not None:
        desk.pause(verdict.wait)
        call = ends.try_again(running, verdict)
        if call is not None:
            return call
        verdict = ends.judge(running, error, final=True)
    if verdict.letters and not desk.parks_here:
        ends.hand_over_failure(running, error)
    else:
        ends.failed(running, verdict.error, desk.park_here(verdict.letters))
    return None
