"""One batch at work: what both ways of running it, on a loop and in threads, have in common.

Whatever a call does, it is entered here: done, failed, or cut off. Everything that was never
entered is not done. Once the work is closed, nothing more is entered: a call that outlived the
deadline cannot touch an answer that has been given.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from dynaflow.batch import BatchResult, Outcome, Status
from dynaflow.context import HandlerContext
from dynaflow.engine.lanes import Gate, Lanes
from dynaflow.engine.lost import LostCalls
from dynaflow.engine.plan import Lane, Plan
from dynaflow.middleware import Call
from dynaflow.observe import BatchEnded, CallEnded, Observer, log_event, notify
from dynaflow.record import Record, Undecodable

__all__ = ["OnProgress", "Work"]

OnProgress = Callable[[Record | Undecodable], None]


class Work:
    """One batch at work.

    ``on_loop`` and ``in_threads`` are the lanes that wait for a worker, ``held`` those on whose
    item a lost call of an earlier batch still works.

    Args:
        plan: the routed batch.
        lost: the App's lost calls.
        observers: see every call end.
        stop_on_failure: after a failure, nothing above it starts.
        may_start: asked before each record; None for yes.
        on_progress: told the last record below the low-water mark whenever that moved.
        contain: whether a handler's KeyboardInterrupt or MemoryError is only its record's failure.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        lost: LostCalls,
        observers: Sequence[Observer] = (),
        stop_on_failure: bool = False,
        may_start: Callable[[], bool] | None = None,
        on_progress: OnProgress | None = None,
        contain: bool = False,
    ) -> None:
        self.gate = Gate(
            barrier=plan.barrier,
            deadline=plan.batch.deadline,
            stop_on_failure=stop_on_failure,
            may_start=may_start,
        )
        self.on_loop = Lanes()
        self.in_threads = Lanes()
        self.held: list[Lane] = []
        self.lost = lost
        self.lock = threading.Lock()
        self.fatal: BaseException | None = None
        self._running: set[Lane] = set()
        self._handed_over: list[Lane] = []
        self._plan = plan
        self._ledger = plan.ledger
        self._observers = tuple(observers)
        self._on_progress = on_progress
        self._contain = contain
        self._closed = False
        for outcome in plan.refused:
            self._enter(outcome)
            self.gate.failed(outcome.record.position)
        for lane in plan.lanes:
            if lane.key in lost:
                self.held.append(lane)
            else:
                self.add(lane)

    @property
    def needs_loop(self) -> bool:
        """True if a lane waits that only an event loop can run."""
        return self.on_loop.waiting > 0 and not self._closed

    @property
    def closed(self) -> bool:
        """True once nothing more is entered."""
        return self._closed

    def add(self, lane: Lane) -> None:
        """Let a lane wait for a worker of its kind."""
        (self.in_threads if lane.is_sync else self.on_loop).add(lane)

    def release(self, lane: Lane) -> None:
        """Let a held lane wait for a worker, because its lost call has come back."""
        self.held.remove(lane)
        with self.lock:  # threads take lanes at the same time
            self.add(lane)

    def hand_over(self, lane: Lane, pending: Awaitable[Any]) -> None:
        """Give a lane to the loop, because its sync route returned something to await."""
        lane.next_job.route.is_sync = False
        lane.pending = pending
        with self.lock:
            too_late = self._leave(lane)
            self._handed_over.append(lane)
        if too_late:
            lane.drop_pending()

    def adopt_handed_over(self) -> None:
        """Let the lanes that threads gave up wait for the loop; for the loop's own thread."""
        while self._handed_over:
            self.on_loop.add(self._handed_over.pop())

    def keep_on_loop(self) -> None:
        """Let the loop run the lanes that were for threads, because they would get no turn."""
        with self.lock:
            while (lane := self.in_threads.take(lowest=True)) is not None:
                self.on_loop.add(lane)

    def begin(self, lane: Lane) -> Call | None:
        """Note that the lane's next route is called now; return the call, or None if too late."""
        job, batch = lane.next_job, self._plan.batch
        with self.lock:  # a call that began unseen by close() could meet the next one of its item
            if self._closed:
                return None
            self._running.add(lane)
        lane.started = time.perf_counter()
        context = HandlerContext(
            record=job.record,
            route=job.route.name,
            deadline=batch.deadline,
            lambda_context=batch.invocation,
        )
        return Call(context, lane.key)

    def succeeded(self, lane: Lane) -> bool:
        """Enter that the route whose turn it was is done; return False if it is too late."""
        return self._ended(lane, Status.DONE)

    def failed(self, lane: Lane, error: BaseException) -> bool:
        """Enter that the route whose turn it was has failed; return False if it is too late."""
        if isinstance(error, (KeyboardInterrupt, MemoryError)):
            self._survive(error)
        lane.next_job.doomed = True
        return self._ended(lane, Status.FAILED, error)

    def cut_off(self, lane: Lane) -> None:
        """Enter that the route whose turn it was has been cancelled by the engine."""
        self._ended(lane, Status.NOT_DONE)

    def job_ended(self, lane: Lane) -> bool:
        """Settle a record whose routes have all been tried; return True if it is done."""
        job = lane.next_job
        with self.lock:
            if self._closed:
                return False
            if job.doomed:
                self.gate.failed(job.record.position)
            else:
                self._ledger.done(job.index)
        return not job.doomed

    def progress(self) -> None:
        """Tell how far the low-water mark has come, if it moved."""
        last = self._ledger.advance()
        if last is not None and self._on_progress is not None:
            self._on_progress(last)

    def close(self) -> None:
        """Enter nothing more: calls that still run are cut off, and lost to this batch."""
        with self.lock:
            if self._closed:
                return
            self._closed = True
            running = tuple(self._running)
            for lane in running:
                self.lost.lose(lane.key)
        for lane in running:
            self._enter(_outcome(lane, Status.NOT_DONE))
        for lane in self.held:
            self._enter(Outcome(lane.next_job.record, None, Status.NOT_DONE))
        for lane in self._plan.lanes:
            lane.drop_pending()

    def finish(self) -> BatchResult:
        """Close the work and return what became of the batch.

        Raises:
            KeyboardInterrupt, MemoryError: a handler's, where they are not contained.
        """
        self.close()
        self.progress()
        if self.fatal is not None:
            raise self.fatal
        result = self._ledger.result()
        notify(self._watchers, BatchEnded(result, len(self._plan.batch.records)))
        return result

    @property
    def _watchers(self) -> tuple[Observer, ...]:
        return (log_event, *self._observers)

    def _ended(self, lane: Lane, status: Status, error: BaseException | None = None) -> bool:
        outcome = _outcome(lane, status, error)
        with self.lock:
            if self._leave(lane):
                return False
            self._ledger.enter(outcome)
        self._show(outcome)
        return True

    def _leave(self, lane: Lane) -> bool:
        """Note that the lane's call has ended, and return whether that comes too late."""
        self._running.discard(lane)
        if self._closed:
            self.lost.come_back(lane.key)
        return self._closed

    def _enter(self, outcome: Outcome) -> None:
        self._ledger.enter(outcome)
        self._show(outcome)

    def _show(self, outcome: Outcome) -> None:
        if self._observers or outcome.status is not Status.DONE:
            notify(self._watchers, CallEnded(outcome))

    def _survive(self, error: BaseException) -> None:
        """Stop starting after the two errors that a process should not simply go on from."""
        if isinstance(error, MemoryError) or not self._contain:
            self.gate.stopped = True
        if not self._contain:
            self.fatal = error


def _outcome(lane: Lane, status: Status, error: BaseException | None = None) -> Outcome:
    job = lane.next_job
    duration = time.perf_counter() - lane.started
    return Outcome(job.record, job.route.name, status, error, duration)
