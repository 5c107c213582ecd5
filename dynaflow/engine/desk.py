"""Where every begin and end of a call is entered, for one batch.

Everything that was never entered is not done. Once the desk is closed, nothing more is entered: a
call that outlived the deadline cannot touch an answer that has been given.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from typing import Protocol

from dynaflow.batch import Batch, Outcome, Status
from dynaflow.engine.lanes import Gate
from dynaflow.engine.lost import LostCalls
from dynaflow.engine.plan import Lane, Plan
from dynaflow.observe import CallEnded, Observer, log_event, notify

__all__ = ["Desk", "Running"]


class Running(Protocol):
    """What a call works on: the lane of one record, or the records of a batch route's call."""

    started: float

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """The keys of the lanes that the call works on."""
        ...

    def outcomes(self, status: Status, error: BaseException | None = None) -> tuple[Outcome, ...]:
        """Return one outcome for each record of the call."""
        ...


class Desk:
    """Where every begin and end of a call is entered, for one batch. Thread-safe.

    Args:
        plan: the routed batch.
        lost: the App's lost calls.
        observers: see every call end.
        stop_on_failure: after a failure, nothing above it starts.
        may_start: asked before each record; None for yes.
        contain: whether a handler's KeyboardInterrupt or MemoryError is only its record's failure.

    ``fatal`` is such an error that is to be raised at the end; ``moved`` is set when a record has
    ended in a lane, so that batch routes look again at what is ready.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        lost: LostCalls,
        observers: Sequence[Observer] = (),
        stop_on_failure: bool = False,
        may_start: Callable[[], bool] | None = None,
        contain: bool = False,
    ) -> None:
        self.batch: Batch = plan.batch
        self.lanes = plan.lanes
        self.gate = Gate(
            barrier=plan.barrier,
            deadline=plan.batch.deadline,
            stop_on_failure=stop_on_failure,
            may_start=may_start,
            halved=plan.has_batch_routes,
        )
        self.lost = lost
        self.lock = threading.Lock()
        self.fatal: BaseException | None = None
        self.moved = False
        self._ledger = plan.ledger
        self._observers = tuple(observers)
        self._contain = contain
        self._running: set[Running] = set()
        self._closed = False
        for outcome in plan.refused:
            self.enter(outcome)
            self.gate.failed(outcome.record.position)

    @property
    def closed(self) -> bool:
        """True once nothing more is entered."""
        return self._closed

    def start(self, running: Running) -> bool:
        """Enter that a call begins; return False if it is too late for one."""
        with self.lock:  # a call that began unseen by close() could meet the next one of its item
            if self._closed:
                return False
            self._running.add(running)
        running.started = time.perf_counter()
        return True

    def end(self, running: Running, outcomes: tuple[Outcome, ...]) -> bool:
        """Enter what became of a call; return False if it is too late."""
        with self.lock:
            if self._leave(running):
                return False
            for outcome in outcomes:
                self._ledger.enter(outcome)
        self._show(outcomes)
        return True

    def leave(self, running: Running) -> bool:
        """Enter that a thread has given a call up to the loop; return whether it is too late."""
        with self.lock:
            return self._leave(running)

    def enter(self, outcome: Outcome) -> None:
        """Enter what became of a record without a call."""
        with self.lock:
            self._ledger.enter(outcome)
        self._show((outcome,))

    def settle(self, lane: Lane) -> None:
        """Enter the lane's records as done, up to the first that is not, batch routes included."""
        at, jobs = lane.settled, lane.jobs
        while at < lane.cursor and not jobs[at].batch_routes:
            self._ledger.done(jobs[at].index)
            at += 1
        lane.settled = at

    def survive(self, error: BaseException) -> None:
        """Stop starting after the two errors that a process should not simply go on from."""
        if not isinstance(error, (KeyboardInterrupt, MemoryError)):
            return
        if isinstance(error, MemoryError) or not self._contain:
            self.gate.stopped = True
        if not self._contain:
            self.fatal = error

    def close(self) -> bool:
        """Enter nothing more: calls that still run are cut off, and lost to this batch.

        Returns:
            False if it was closed already.
        """
        with self.lock:
            if self._closed:
                return False
            self._closed = True
            running = tuple(self._running)
            for cut_off in running:
                self.lost.lose(*cut_off.keys)
        for cut_off in running:
            outcomes = cut_off.outcomes(Status.NOT_DONE)
            for outcome in outcomes:
                self._ledger.enter(outcome)
            self._show(outcomes)
        return True

    def _leave(self, running: Running) -> bool:
        """Note that a call has ended, and return whether that comes too late."""
        self._running.discard(running)
        if self._closed:
            self.lost.come_back(*running.keys)
        return self._closed

    def _show(self, outcomes: tuple[Outcome, ...]) -> None:
        if not self._observers:
            for outcome in outcomes:  # any() would take as long as all the rest, for most calls
                if outcome.status is not Status.DONE:
                    break
            else:
                return
        notify((log_event, *self._observers), CallEnded(outcomes))
