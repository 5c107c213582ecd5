"""The batch routes of one batch at work: which call comes next, and what became of its records."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Collection, Hashable, Sequence

from dynaflow._table import CompiledRoute
from dynaflow.batch import Status
from dynaflow.context import HandlerContext, Many
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.engine.chunks import Chunk, Chunks, Member
from dynaflow.engine.desk import Desk
from dynaflow.engine.jobs import Lane
from dynaflow.engine.judge import Verdict
from dynaflow.engine.named import done_before, failed_by, lowest_of, misnamed_by
from dynaflow.errors import AlreadyDone, InProgress, Skip
from dynaflow.middleware import Call
from dynaflow.record import Record

__all__ = ["BatchRoutes"]

_SUCCESS = (Status.DONE, Status.REPEATED)


class BatchRoutes:
    """What batch routes do with the records of one batch, once lanes are done with them.

    Args:
        desk: the batch.

    ``held`` is a lane that was passed over at the last look, because a lost call works on it.
    """

    def __init__(self, desk: Desk) -> None:
        self.held: Hashable | None = None
        self.desk = desk
        self._chunks = Chunks(desk.lanes)
        self._handed_over: Chunk | None = None

    @property
    def is_sync(self) -> bool:
        """True if no event loop is needed."""
        parking = self.desk.judging.parking
        if parking is not None and parking.is_async:
            return False
        return all(route.is_sync for route in self._chunks.routes)

    def refresh(self) -> None:
        """Look anew at which records are ready: those of lanes in which no record has begun.

        From now on none begins.
        """
        desk = self.desk

        def ready(lane: Lane) -> int:
            if lane.key in desk.lost:
                self.held = lane.key
                return 0
            return 0 if lane.begun else lane.cursor

        self.held = None
        with desk.lock:
            desk.moved = False
            desk.gate.close_to_lanes()
            self._chunks.refresh(ready, desk.gate.barrier)
            for lane in desk.lanes:
                desk.settle(lane)

    @property
    def has_ready(self) -> bool:
        """True if there may be a next chunk."""
        return self._handed_over is not None or self._chunks.has_ready

    def next(self) -> Chunk | None:
        """Take the chunk whose turn it is; None if none may start."""
        chunk, self._handed_over = self._handed_over, None
        if chunk is not None:
            return chunk
        if self.desk.moved:  # perhaps to the lowest record, which comes first
            self.refresh()
        with self.desk.lock:
            return self._chunks.next(self.desk.gate.is_open_to_batches)

    def prepare(self, chunk: Chunk) -> list[tuple[Member, BaseException]]:
        """Make what the handler gets for each record; return those for which that cannot be had.

        They have failed: ``refuse`` has to be told of each before the others are called.
        """
        refused: list[tuple[Member, BaseException]] = []
        make_change = chunk.route.prepare
        chunk.changes = {}
        if make_change is None:
            return refused
        for member in chunk.members:
            if self.desk.closed:
                break
            if self._is_barred(member):
                continue
            try:
                chunk.changes[member] = make_change(member.record)
            except Skip as skip:
                self._enter(chunk, member, Status.SKIPPED, skip.because)
            except BaseException as error:  # a validator's SystemExit fails this record only
                self.desk.survive(error)
                refused.append((member, error))
        return refused

    def letter_of(
        self, chunk: Chunk, member: Member, error: BaseException
    ) -> tuple[tuple[Record, DeadLetterRecord], ...]:
        """Return the dead letter of a record that was refused; nothing if there is none."""
        return self.desk.judging.letters(chunk.route, error, 0, [member.record])

    def refuse(self, chunk: Chunk, member: Member, error: BaseException, *, parked: bool) -> None:
        """Enter that a record was refused, and whether it is in a dead letter now."""
        if not parked:
            self._break(member)
        self._enter(chunk, member, Status.PARKED if parked else Status.FAILED, error)

    def begin(self, chunk: Chunk) -> Call | None:
        """Note that a call begins, and return it; None if there is nothing to call.

        Records that were refused take no part, nor do later ones of their lanes, nor what a failure
        keeps from starting.
        """
        self._leave_out_barred(chunk)
        if not chunk.members or self.desk.gate.stopped or not self.desk.start(chunk):
            return None
        return self._call(chunk)

    def _leave_out_barred(self, chunk: Chunk) -> None:
        chunk.members = [
            member
            for member in chunk.members
            if not self._is_barred(member)
            and (chunk.route.prepare is None or member in chunk.changes)
        ]

    def _is_barred(self, member: Member) -> bool:
        return member.is_behind_a_failure or self.desk.gate.bars(member.record)

    def _call(self, chunk: Chunk) -> Call:
        changes = tuple(chunk.changes[m] for m in chunk.members if m in chunk.changes)
        batch, records = self.desk.batch, chunk.records
        context = HandlerContext(
            record=records[0],
            route=chunk.route.name,
            attempt=chunk.attempt,
            deadline=batch.deadline,
            lambda_context=batch.invocation,
            many=Many(records, changes, chunk.given),
        )
        lanes = tuple(member.lane.key for member in chunk.members)
        return Call(context, lanes, self.desk.lost, chunk.route.judged)

    def resume(self, chunk: Chunk) -> Awaitable[object] | None:
        """Return what a call that a thread has handed over awaits; None if it is too late."""
        pending, chunk.pending = chunk.pending, None
        return pending if self.desk.start(chunk) else None

    def hand_over(self, chunk: Chunk, pending: Awaitable[object]) -> None:
        """Give a chunk to the loop, because its sync route returned something to await."""
        chunk.route.is_sync = False
        chunk.pending = pending
        if self.desk.leave(chunk):
            chunk.drop_pending()
        else:
            self._handed_over = chunk

    def succeeded(self, chunk: Chunk) -> None:
        """Enter that all records of a call are done."""
        self._end(chunk, [Status.DONE] * len(chunk.members))

    def judge(self, chunk: Chunk, error: BaseException, *, final: bool = False) -> Verdict:
        """Return what becomes of a call that has raised."""
        desk = self.desk
        if not chunk.members:
            return Verdict(error)
        error = misnamed_by(error, chunk) or error
        if isinstance(error, AlreadyDone):
            has_others = len(done_before(error, chunk)) < len(chunk.members)
            return Verdict(error, 0.0 if has_others and not final else None)
        failed = failed_by(error, chunk)
        return desk.weigh(
            chunk,
            error,
            self._call(chunk).context,
            failed=[member.record for member in chunk.members if member in failed],
            left=0.0 if final else desk.gate.seconds_open_to_batches(),
        )

    def try_again(self, chunk: Chunk, verdict: Verdict) -> Call | None:
        """Return a call with those records that the last one has not done; None if it is too late.

        The others are done, unless it is.
        """
        desk, error = self.desk, verdict.error
        first = chunk.members[0].record
        if desk.closed or not desk.gate.is_open_to_batches(first):
            return None
        if isinstance(error, AlreadyDone):
            done, status = done_before(error, chunk), Status.REPEATED
        else:
            lowest = lowest_of(failed_by(error, chunk))
            done = {m for m in chunk.members if m.at < lowest.get(m.lane, math.inf)}
            status = Status.DONE
        for member in chunk.members:
            if member in done:
                self._enter(chunk, member, status)
        chunk.members = [member for member in chunk.members if member not in done]
        if status is Status.DONE:
            desk.note_retry(chunk, verdict)
        return self._again(chunk)

    def _again(self, chunk: Chunk) -> Call | None:
        """Return another call of the same chunk, with images as they were before the last one."""
        for member, error in self.prepare(chunk):  # a validator that minds only now
            self.refuse(chunk, member, error, parked=False)
        self._leave_out_barred(chunk)
        return self._call(chunk) if chunk.members else None

    def failed(self, chunk: Chunk, error: BaseException, parked: Collection[Record] = ()) -> None:
        """Enter that a call has failed, for all of its records or those that it names; or Skip.

        Args:
            chunk: the call.
            error: what it raised.
            parked: the records of it that are in a dead letter now.
        """
        if isinstance(error, AlreadyDone):
            done = done_before(error, chunk)
            self._end(
                chunk, [Status.REPEATED if m in done else Status.NOT_DONE for m in chunk.members]
            )
            return
        if isinstance(error, Skip):
            self._end(chunk, [Status.SKIPPED] * len(chunk.members), error.because)
            return
        self.desk.survive(error)
        if isinstance(error, InProgress):
            self._end(chunk, [Status.NOT_DONE] * len(chunk.members), error)
            return
        in_letter = {id(record) for record in parked}
        failed = failed_by(error, chunk)
        lowest = lowest_of(failed)

        def judged(member: Member) -> Status:
            if member in failed:
                return Status.PARKED if id(member.record) in in_letter else Status.FAILED
            is_behind = member.at > lowest.get(member.lane, math.inf)
            return Status.NOT_DONE if is_behind else Status.DONE

        self._end(chunk, [judged(member) for member in chunk.members], error)

    def hand_over_failure(self, chunk: Chunk, error: BaseException) -> None:
        """Enter that a call failed; batch routes run on a loop where the sink wants one."""
        self.failed(chunk, error)

    def cut_off(self, chunk: Chunk) -> None:
        """Enter that a call has been cancelled by the engine."""
        self._end(chunk, [Status.NOT_DONE] * len(chunk.members), were_called=True)

    def close(self) -> None:
        """Forget what nobody will await."""
        if self._handed_over is not None:
            self._handed_over.drop_pending()

    def _enter(
        self, chunk: Chunk, member: Member, status: Status, error: BaseException | None = None
    ) -> None:
        """Enter what became of one record before, or beside, the call."""
        self.desk.enter(chunk.outcome(member, status, error))
        if status not in (Status.FAILED, Status.NOT_DONE):
            with self.desk.lock:
                self._settle(member, chunk.route)

    def _break(self, member: Member) -> None:
        """Leave later records of the lane to the next delivery."""
        lane = member.lane
        lane.broken = min(lane.broken, member.first.at)
        self.desk.gate.failed(member.record.position)

    def _end(
        self,
        chunk: Chunk,
        statuses: Sequence[Status],
        error: BaseException | None = None,
        *,
        were_called: bool = False,
    ) -> None:
        """Enter the outcomes, and that records are done: unless it is too late.

        Args:
            chunk: the call.
            statuses: what became of its records.
            error: what it raised.
            were_called: whether records that are not done may be the reason for that themselves.
        """
        for member, status in zip(chunk.members, statuses, strict=True):
            if status in (Status.FAILED, Status.NOT_DONE):
                self._break(member)
        # What waits behind a failure has none of its own.
        without_error = _SUCCESS if isinstance(error, InProgress) else (*_SUCCESS, Status.NOT_DONE)
        outcomes = tuple(
            chunk.outcome(
                member,
                status,
                None if status in without_error else error,
                was_called=were_called or status is not Status.NOT_DONE,
            )
            for member, status in zip(chunk.members, statuses, strict=True)
        )
        if not self.desk.end(chunk, outcomes):
            return
        with self.desk.lock:
            for member, outcome in zip(chunk.members, outcomes, strict=True):
                if outcome.is_done:
                    self._settle(member, chunk.route)

    def _settle(self, member: Member, route: CompiledRoute) -> None:
        """Enter that a route is done with a record, and with those that it supersedes."""
        for done in (*member.supersedes, member):
            done.job.batch_routes.discard(route)
        self.desk.settle(member.lane)
