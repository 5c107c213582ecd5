"""One batch at work: what both ways of running it, on a loop and in threads, have in common."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace

from dynaflow.batch import BatchResult, Outcome, Status
from dynaflow.context import HandlerContext
from dynaflow.engine.batching import BatchRoutes
from dynaflow.engine.desk import Desk
from dynaflow.engine.jobs import Lane
from dynaflow.engine.judge import Verdict
from dynaflow.engine.lanes import Lanes
from dynaflow.engine.lost import LostCalls
from dynaflow.engine.plan import Plan
from dynaflow.engine.refused import Refused
from dynaflow.errors import AlreadyDone, InProgress, Skip
from dynaflow.middleware import Call
from dynaflow.observe import Observer, batch_ended, notify
from dynaflow.record import Record, Undecodable

__all__ = ["OnProgress", "Work"]

OnProgress = Callable[[Record | Undecodable], None]


class Work(Desk):
    """One batch at work.

    ``on_loop`` and ``in_threads`` are the lanes that wait for a worker, ``held`` those on whose
    item a lost call of an earlier batch still works; ``batch_routes`` come after them, None if no
    batch route takes a record.

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
        self._began = time.perf_counter()
        super().__init__(
            plan,
            lost=lost,
            observers=observers,
            stop_on_failure=stop_on_failure,
            may_start=may_start,
            contain=contain,
        )
        self.on_loop = Lanes()
        self.in_threads = Lanes()
        self.held: list[Lane] = []
        self.batch_routes = BatchRoutes(self) if plan.has_batch_routes else None
        self._handed_over: list[Lane] = []
        self._on_progress = on_progress
        self._plan = plan
        self._first = plan.first
        if plan.first is None:
            self.open_lanes()
        else:
            self.add(plan.first)

    @property
    def waits_for_first(self) -> bool:
        """True while all lanes wait for records to be parked above which nothing may start."""
        return self._first is not None

    def open_lanes(self) -> None:
        """Let all lanes wait for workers, or for the lost calls on their items."""
        first, self._first = self._first, None
        if first is not None and first.remaining:  # the sink did not take it
            self.gate.barrier = min(self.gate.barrier, first.position)
        for lane in self._plan.lanes:
            if lane is first:
                continue
            if lane.key in self.lost:
                self.held.append(lane)
            else:
                self.add(lane)

    @property
    def needs_loop(self) -> bool:
        """True if something waits that only an event loop can run."""
        if self.closed:
            return False
        return self.on_loop.waiting > 0 or not (
            self.batch_routes is None or self.batch_routes.is_sync
        )

    def add(self, lane: Lane) -> None:
        """Let a lane wait for a worker of its kind, if there is something to do for one."""
        lane.skip_idle()
        self.settle(lane)
        if lane.remaining:
            (self.in_threads if lane.is_sync else self.on_loop).add(lane)

    def release(self, lane: Lane) -> None:
        """Let a held lane wait for a worker, because its lost call has come back."""
        self.held.remove(lane)
        with self.lock:  # threads take lanes at the same time
            self.add(lane)

    def hand_over(self, lane: Lane, pending: Awaitable[object]) -> None:
        """Give a lane to the loop, because its sync route returned something to await."""
        lane.next_job.route.is_sync = False
        lane.pending = pending
        if self.leave(lane):
            lane.drop_pending()
        self._handed_over.append(lane)

    def hand_over_failure(self, lane: Lane, error: BaseException) -> None:
        """Give a lane to the loop, because only there its record can be put into a dead letter."""
        lane.failure = error
        self.leave(lane)
        self._handed_over.append(lane)

    def take_up(self, lane: Lane) -> bool:
        """Note that the loop goes on with a call that a thread has given up to it.

        Returns:
            False if it is too late.
        """
        started, attempt = lane.started, lane.attempt
        if not self.start(lane):
            return False
        lane.started, lane.attempt = started, attempt
        return True

    def adopt_handed_over(self) -> None:
        """Let the lanes that threads gave up wait for the loop; for the loop's own thread."""
        while self._handed_over:
            self.on_loop.add(self._handed_over.pop())

    def keep_on_loop(self) -> None:
        """Let the loop run the lanes that were for threads, because they would get no turn."""
        with self.lock:
            while (lane := self.in_threads.take(lowest=True)) is not None:
                self.on_loop.add(lane)

    def begin_job(self, lane: Lane) -> bool:
        """Note that the lane's next record begins; return False if it may not."""
        if self.batch_routes is None:  # then nobody asks what has begun
            return not self.closed and (
                lane.is_handed_over or self.gate.is_open(lane.next_job.record)
            )
        with self.lock:  # before the gate is asked: see BatchRoutes.refresh
            is_known = lane.is_handed_over  # it began in a thread, which handed it over
            lane.begun = True
        if self.closed or not (is_known or self.gate.is_open(lane.next_job.record)):
            lane.begun, self.moved = False, True
        return lane.begun

    def begin(self, lane: Lane) -> Call | None:
        """Note that the lane's next route is called now; return the call, or None if too late."""
        if not self.start(lane):
            return None
        if isinstance(lane.route, Refused):
            lane.attempt = 0
        return self._call(lane)

    def _call(self, lane: Lane) -> Call:
        job = lane.next_job
        context = HandlerContext(
            record=job.record,
            route=job.route.name or "",
            attempt=lane.attempt,
            deadline=self.batch.deadline,
            lambda_context=self.batch.invocation,
        )
        return Call(context, lane.keys, self.lost, job.route.judged)

    def succeeded(self, lane: Lane) -> bool:
        """Enter that the route whose turn it was is done; return False if it is too late."""
        return self.end(lane, lane.outcomes(Status.DONE))

    def judge(self, lane: Lane, error: BaseException, *, final: bool = False) -> Verdict:
        """Return what becomes of the record whose turn it is, after its route has raised."""
        left = 0.0 if final else self.gate.seconds_open()
        context = self._call(lane).context
        return self.weigh(lane, error, context, failed=lane.records, left=left)

    def try_again(self, lane: Lane, verdict: Verdict) -> Call | None:
        """Return the next attempt of the route whose turn it is; None if it is too late."""
        if self.closed or not self.gate.is_open(lane.next_job.record):
            return None
        self.note_retry(lane, verdict)
        return self._call(lane)

    def failed(self, lane: Lane, error: BaseException, parked: Collection[Record] = ()) -> bool:
        """Enter that the route whose turn it was has failed, or was left out by ``Skip``.

        Returns:
            False if it is too late.
        """
        if isinstance(error, AlreadyDone):
            return self.end(lane, lane.outcomes(Status.REPEATED))
        if isinstance(error, Skip):
            return self.end(lane, lane.outcomes(Status.SKIPPED, error.because))
        self.survive(error)
        if parked:
            return self.end(lane, lane.outcomes(Status.PARKED, error))
        lane.next_job.doomed = True
        if isinstance(error, InProgress):
            (outcome,) = lane.outcomes(Status.NOT_DONE, error)
            return self.end(lane, (replace(outcome, attempts=0),))  # it was not what failed
        return self.end(lane, lane.outcomes(Status.FAILED, error))

    def cut_off(self, lane: Lane) -> None:
        """Enter that the route whose turn it was has been cancelled by the engine."""
        self.end(lane, lane.outcomes(Status.NOT_DONE))

    def job_ended(self, lane: Lane) -> bool:
        """Settle a record whose routes have all been tried; return True if it has not failed."""
        job = lane.next_job
        with self.lock:
            lane.begun, self.moved = False, True
            if self.closed:
                return False
            if job.doomed:
                self.gate.failed(job.record.position)
                return False
            lane.cursor += 1
            lane.skip_idle()
            self.settle(lane)
        return True

    def progress(self) -> None:
        """Tell how far the low-water mark has come, if it moved."""
        last = self._ledger.advance()
        if last is not None and self._on_progress is not None:
            self._on_progress(last)

    def close(self) -> bool:
        """Enter nothing more: calls that still run are cut off, and lost to this batch."""
        if not super().close():
            return False
        for lane in self.held:
            self.enter(Outcome(lane.next_job.record, None, Status.NOT_DONE, attempts=0))
        for lane in self.lanes:
            lane.drop_pending()
        if self.batch_routes is not None:
            self.batch_routes.close()
        return True

    def finish(self, *, all_come_again: bool = False) -> BatchResult:
        """Close the work and return what became of the batch.

        Args:
            all_come_again: whether a failure brings back records below the lowest one, too.

        Raises:
            KeyboardInterrupt, MemoryError: a handler's, where they are not contained.
        """
        self.close()
        self.progress()
        if self.fatal is not None:
            raise self.fatal
        result = self._ledger.result()
        self._plan.memory.note(
            self.batch.records, self.lanes, result, all_come_again=all_come_again
        )
        if self._observers:
            took = time.perf_counter() - self._began
            notify(self._observers, batch_ended(self.batch, result, took))
        return result
