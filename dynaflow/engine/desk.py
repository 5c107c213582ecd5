"""Where every begin and end of a call is entered, for one batch.

Everything that was never entered is not done. Once the desk is closed, nothing more is entered: a
call that outlived the deadline cannot touch an answer that has been given.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Protocol, TypeVar

from dynaflow.batch import Batch, Outcome, Status
from dynaflow.context import HandlerContext
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.engine.jobs import Lane, Step
from dynaflow.engine.judge import Judge, Verdict
from dynaflow.engine.lanes import Gate
from dynaflow.engine.lost import LostCalls
from dynaflow.engine.plan import Plan
from dynaflow.middleware import Call
from dynaflow.observe import CallEnded, CallRetried, Observer, log_event, notify
from dynaflow.record import Record

__all__ = ["Desk", "Ends", "Running"]

R_contra = TypeVar("R_contra", contravariant=True)


class Running(Protocol):
    """What a call works on: the lane of one record, or the records of a batch route's call."""

    started: float
    attempt: int

    @property
    def route(self) -> Step:
        """What is called."""
        ...

    @property
    def records(self) -> tuple[Record, ...]:
        """The records of the call."""
        ...

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """The keys of the lanes that the call works on."""
        ...

    def outcomes(self, status: Status, error: BaseException | None = None) -> tuple[Outcome, ...]:
        """Return one outcome for each record of the call."""
        ...


class Ends(Protocol[R_contra]):
    """Where it is entered how a call of a lane, or of a batch route, ended."""

    def succeeded(self, running: R_contra, /) -> object:
        """Enter that it is done."""
        ...

    def judge(self, running: R_contra, error: BaseException, /, *, final: bool = False) -> Verdict:
        """Return what becomes of a call that failed; if that is final, it has no more attempts."""
        ...

    def try_again(self, running: R_contra, verdict: Verdict, /) -> Call | None:
        """Return the next attempt; None if it is too late for one."""
        ...

    def failed(
        self, running: R_contra, error: BaseException, /, parked: Collection[Record] = ()
    ) -> object:
        """Enter that it failed for good, and which of its records are in a dead letter."""
        ...

    def hand_over_failure(self, running: R_contra, error: BaseException, /) -> object:
        """Give a call that failed for good to the loop, where its dead letter can be put away."""
        ...

    def cut_off(self, running: R_contra, /) -> object:
        """Enter that the engine has cancelled it."""
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
        self.judging = Judge(plan.memory, plan.parking)
        self._ledger = plan.ledger
        self._observers = tuple(observers)
        self._contain = contain
        self._running: set[Running] = set()
        self._closed = False
        self._closing: threading.Event | None = None
        for outcome in plan.refused:
            self.enter(outcome)
            if not outcome.is_done:
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
        running.attempt = 1
        return True

    def weigh(
        self,
        running: Running,
        error: BaseException,
        context: HandlerContext,
        *,
        failed: Sequence[Record],
        left: float | None,
    ) -> Verdict:
        """Return what becomes of a call that failed. Of one that comes too late nothing does.

        Args:
            running: the call.
            error: what it raised.
            context: of the call.
            failed: the records that it failed.
            left: seconds in which another attempt may start; None for any.
        """
        error = running.route.judged(error, context)
        if self._closed:  # its record comes again: a letter would tell of what may yet succeed
            return Verdict(error)
        is_lost = any(key in self.lost for key in running.keys)  # a time-out gave up on a thread
        if not is_lost and self.gate.may_go_on(failed[0]):
            wait = self.judging.wait(running.route, error, running.attempt, left=left)
            if wait is not None:
                return Verdict(error, wait)
        return Verdict(
            error, letters=self.judging.letters(running.route, error, running.attempt, failed)
        )

    def note_retry(self, running: Running, verdict: Verdict) -> None:
        """Enter that a call is tried again."""
        event = CallRetried(
            running.records,
            running.route.name or "",
            verdict.error,
            running.attempt,
            verdict.wait or 0.0,
        )
        running.attempt += 1
        notify((log_event, *self._observers), event)

    @property
    def parks_here(self) -> bool:
        """True if dead letters can be put away without a loop."""
        return self.judging.parking is None or not self.judging.parking.is_async

    def park_here(self, letters: Sequence[tuple[Record, DeadLetterRecord]]) -> list[Record]:
        """Put letters into a sync sink, one after the other; return the records that it took.

        Behind one that it does not take none is tried: a sink that is down keeps nobody waiting.
        Nor is any once the desk is closed: the records come again.
        """
        parking, taken = self.judging.parking, list[Record]()
        if parking is None:
            return taken
        for record, letter in letters:
            if self._closed:
                break
            try:
                parking.put_here(letter)
            except BaseException as error:  # its SystemExit must not end the thread
                parking.report_refusal(letter, error)
                break
            taken.append(record)
        return taken

    def pause(self, seconds: float) -> None:
        """Let a thread wait, until the desk is closed at most."""
        with self.lock:
            if self._closed:
                return
            if self._closing is None:
                self._closing = threading.Event()
            closing = self._closing
        closing.wait(seconds)

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
            if self._closing is not None:
                self._closing.set()
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
