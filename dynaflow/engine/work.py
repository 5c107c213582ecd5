"""One batch at work: what both ways of running it, on a loop and in threads, have in common.

Whatever a call does, it is entered here: done, failed, or cut off. Everything that was never
entered is not done. Once the work is closed, nothing more is entered: a thread that outlived the
deadline cannot touch an answer that has been given.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any

from dynaflow._table import CompiledRoute
from dynaflow.context import HandlerContext
from dynaflow.engine.lanes import Gate, Lanes
from dynaflow.engine.plan import Job, Lane, Plan
from dynaflow.middleware import Call
from dynaflow.observe import BatchEnded, CallEnded, Observer, log_event, notify
from dynaflow.record import BatchResult, Outcome, Record, Status, Undecodable

__all__ = ["OnProgress", "Work"]

OnProgress = Callable[[Record | Undecodable], None]


class Work:
    """One batch at work.

    Args:
        plan: the routed batch.
        held_back: items whose handler still runs in a thread that outlived an earlier deadline;
            their lanes do not start.
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
        held_back: Callable[[Hashable], bool],
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
        self.lock = threading.Lock()
        self.fatal: BaseException | None = None
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
            if held_back(lane.key):
                self._enter(Outcome(lane.next_job.record, None, Status.NOT_DONE))
            else:
                (self.in_threads if lane.is_sync else self.on_loop).add(lane)

    @property
    def needs_loop(self) -> bool:
        """True if a lane waits that only an event loop can run."""
        return self.on_loop.waiting > 0 and not self._closed

    def call_of(self, lane: Lane, job: Job) -> Call:
        """Return the call of the route whose turn it is."""
        batch = self._plan.batch
        return Call(
            HandlerContext(
                record=job.record,
                route=job.routes[job.at].name,
                deadline=batch.deadline,
                lambda_context=batch.invocation,
            ),
            lane.key,
        )

    def hand_over(self, lane: Lane, route: CompiledRoute, pending: Awaitable[Any]) -> None:
        """Give a lane to the loop, because its sync route returned something to await."""
        route.is_sync = False
        lane.pending = pending
        self._handed_over.append(lane)

    def adopt_handed_over(self) -> None:
        """Let the lanes that threads gave up wait for the loop; for the loop's own thread."""
        while self._handed_over:
            self.on_loop.add(self._handed_over.pop())

    def keep_on_loop(self) -> None:
        """Let the loop run the lanes that were for threads, because there are none."""
        while (lane := self.in_threads.take(lowest=True)) is not None:
            self.on_loop.add(lane)

    def succeeded(self, job: Job, started: float) -> bool:
        """Enter that the route whose turn it was is done; return False if it is too late."""
        return self._ended(job, Status.DONE, None, started)

    def failed(self, job: Job, error: BaseException, started: float) -> bool:
        """Enter that the route whose turn it was has failed; return False if it is too late."""
        if isinstance(error, (KeyboardInterrupt, MemoryError)):
            self._survive(error)
        job.doomed = True
        return self._ended(job, Status.FAILED, error, started)

    def cut_off(self, job: Job, started: float) -> None:
        """Enter that the route whose turn it was has been cancelled by the engine."""
        self._ended(job, Status.NOT_DONE, None, started)

    def job_ended(self, job: Job) -> bool:
        """Settle a record whose routes have all been tried; return True if it is done."""
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

    @property
    def closed(self) -> bool:
        """True once nothing more is entered."""
        return self._closed

    def close(self) -> None:
        """Enter nothing more: whoever still works on this batch comes too late."""
        with self.lock:
            self._closed = True

    def abandon(self) -> None:
        """Close the work, whatever ended it, and tell the last progress."""
        self.close()
        self._drop_pending()
        self.progress()

    def finish(self) -> BatchResult:
        """Close the work, tell the last progress, and return what became of the batch.

        Raises:
            KeyboardInterrupt, MemoryError: a handler's, where they are not contained.
        """
        self.abandon()
        if self.fatal is not None:
            raise self.fatal
        result = self._ledger.result()
        notify(self._watchers, BatchEnded(result, len(self._plan.batch.records)))
        return result

    @property
    def _watchers(self) -> tuple[Observer, ...]:
        return (log_event, *self._observers)

    def _ended(self, job: Job, status: Status, error: BaseException | None, started: float) -> bool:
        outcome = Outcome(
            job.record, job.routes[job.at].name, status, error, time.perf_counter() - started
        )
        with self.lock:
            if self._closed:
                return False
            self._ledger.enter(outcome)
        self._show(outcome)
        return True

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

    def _drop_pending(self) -> None:
        for lane in self._plan.lanes:
            close = getattr(lane.pending, "close", None)
            lane.pending = None
            if close is not None:
                close()  # a coroutine that nobody will await
