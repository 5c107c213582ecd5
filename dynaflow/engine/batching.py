"""The batch routes of one batch at work: which call comes next, and what became of its records."""

from __future__ import annotations

from collections.abc import Awaitable, Hashable, Iterable
from typing import Any

from dynaflow._table import CompiledRoute
from dynaflow.batch import Outcome, Status
from dynaflow.change import Change, PartialFailure
from dynaflow.context import HandlerContext, Many
from dynaflow.engine.chunks import Chunk, Chunks, Member
from dynaflow.engine.desk import Desk
from dynaflow.engine.plan import Lane
from dynaflow.errors import Skip
from dynaflow.middleware import Call
from dynaflow.record import Record

__all__ = ["BatchRoutes"]


class BatchRoutes:
    """What batch routes do with the records of one batch, once lanes are done with them.

    Args:
        desk: the batch.

    ``held`` is a lane that was passed over at the last look, because a lost call works on it.
    """

    def __init__(self, desk: Desk) -> None:
        self.held: Hashable | None = None
        self._desk = desk
        self._chunks = Chunks(desk.lanes)
        self._handed_over: Chunk | None = None

    @property
    def is_sync(self) -> bool:
        """True if no event loop is needed."""
        return all(route.is_sync for route in self._chunks.routes)

    def refresh(self) -> None:
        """Look anew at which records are ready: those of lanes in which no record has begun.

        From now on none begins.
        """
        desk = self._desk

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
        if self._desk.moved:  # perhaps to the lowest record, which comes first
            self.refresh()
        with self._desk.lock:
            return self._chunks.next(self._desk.gate.is_open_to_batches)

    def begin(self, chunk: Chunk) -> Call | None:
        """Note that a call begins, and return it; None if there is nothing to call.

        Records whose images are not what the handler wants have failed; later ones of their lanes
        take no part, nor does what such a failure keeps from starting.
        """
        changes = self._sort_out(chunk)
        if not chunk.members or self._desk.gate.stopped or not self._desk.start(chunk):
            return None
        records = tuple(member.record for member in chunk.members)
        batch = self._desk.batch
        context = HandlerContext(
            record=records[0],
            route=chunk.route.name,
            deadline=batch.deadline,
            lambda_context=batch.invocation,
            many=Many(records, tuple(changes), chunk.given),
        )
        return Call(context, chunk.keys)

    def resume(self, chunk: Chunk) -> Awaitable[object] | None:
        """Return what a call that a thread has handed over awaits; None if it is too late."""
        pending, chunk.pending = chunk.pending, None
        return pending if self._desk.start(chunk) else None

    def hand_over(self, chunk: Chunk, pending: Awaitable[object]) -> None:
        """Give a chunk to the loop, because its sync route returned something to await."""
        chunk.route.is_sync = False
        chunk.pending = pending
        if self._desk.leave(chunk):
            chunk.drop_pending()
        else:
            self._handed_over = chunk

    def succeeded(self, chunk: Chunk) -> None:
        """Enter that all records of a call are done."""
        self._end(chunk, chunk.outcomes(Status.DONE))

    def failed(self, chunk: Chunk, error: BaseException) -> None:
        """Enter that a call has failed, for all of its records or those that it names; or Skip."""
        if isinstance(error, Skip):
            self._end(chunk, chunk.outcomes(Status.SKIPPED, error.because))
            return
        self._desk.survive(error)
        if not isinstance(error, PartialFailure):
            self._end(chunk, chunk.outcomes(Status.FAILED, error))
            return
        failed = _named_by(error, chunk)
        if not failed:
            misnamed = ValueError(
                f"{chunk.route.name} raised PartialFailure for a change that is not of its call, "
                "or for a position in a list that it has changed, so all of them count as failed. "
                "Name the changes or records themselves, or their positions in the list as given."
            )
            misnamed.__cause__ = error
            self._end(chunk, chunk.outcomes(Status.FAILED, misnamed))
            return
        for member in failed:
            self._break(member)
        self._end(chunk, tuple(_judged(chunk, failed, error)))

    def cut_off(self, chunk: Chunk) -> None:
        """Enter that a call has been cancelled by the engine."""
        self._end(chunk, chunk.outcomes(Status.NOT_DONE))

    def close(self) -> None:
        """Forget what nobody will await."""
        if self._handed_over is not None:
            self._handed_over.drop_pending()

    def _sort_out(self, chunk: Chunk) -> list[Change[Any]]:
        """Return what the handler gets for each record; leave out those that cannot be had."""
        route, changes, members = chunk.route, list[Change[Any]](), list[Member]()
        for member in chunk.members:
            if self._desk.closed:
                break
            if member.is_behind_a_failure or self._desk.gate.bars(member.record):
                continue
            try:
                if route.prepare is not None:
                    changes.append(route.prepare(member.record))
                members.append(member)
            except Skip as skip:
                outcome = Outcome(member.record, route.name, Status.SKIPPED, skip.because)
                self._desk.enter(outcome)
                with self._desk.lock:
                    self._settle(member, route)
            except BaseException as error:  # a validator's SystemExit fails this record only
                self._desk.survive(error)
                self._break(member)
                self._desk.enter(Outcome(member.record, route.name, Status.FAILED, error))
        chunk.members = members
        return changes

    def _break(self, member: Member) -> None:
        """Leave later records of the lane to the next delivery."""
        lane = member.lane
        lane.broken = min(lane.broken, member.first.at)
        self._desk.gate.failed(member.record.position)

    def _end(self, chunk: Chunk, outcomes: tuple[Outcome, ...]) -> None:
        """Enter the outcomes, and that records are done: unless it is too late."""
        if not self._desk.end(chunk, outcomes):
            return
        with self._desk.lock:
            for member, outcome in zip(chunk.members, outcomes, strict=True):
                if outcome.status is Status.FAILED:
                    self._break(member)
                elif outcome.status in (Status.DONE, Status.SKIPPED):
                    self._settle(member, chunk.route)

    def _settle(self, member: Member, route: CompiledRoute) -> None:
        """Enter that a route is done with a record, and with those that it supersedes."""
        for done in (*member.supersedes, member):
            done.job.batch_routes.discard(route)
        self._desk.settle(member.lane)


def _named_by(error: PartialFailure, chunk: Chunk) -> set[Member] | None:
    """Return the members that a PartialFailure names; None if that is not clear."""
    members = chunk.members
    by_record = {id(member.record): member for member in members}
    positions = range(len(members)) if _is_as_given(chunk) else range(0)
    named: set[Member] = set()
    for failed in getattr(error, "failed", ()):  # a subclass may have forgotten it
        record = failed.record if isinstance(failed, Change) else failed
        if type(failed) is int and failed in positions:  # no bool: it would be position 0 or 1
            named.add(members[failed])
        elif isinstance(record, Record) and id(record) in by_record:
            named.add(by_record[id(record)])
        else:
            return None
    return named


def _is_as_given(chunk: Chunk) -> bool:
    """Return True if the handler has left its list as it was, so that positions in it are clear."""
    given = chunk.given[0] if chunk.given else [member.record for member in chunk.members]
    records = [one.record if isinstance(one, Change) else one for one in given]
    return len(records) == len(chunk.members) and all(
        record is member.record for record, member in zip(records, chunk.members, strict=True)
    )


def _judged(chunk: Chunk, failed: set[Member], error: BaseException) -> Iterable[Outcome]:
    """Yield the outcomes of a call that failed for some of its records."""
    failures = iter(chunk.outcomes(Status.FAILED, error))
    held_back = iter(chunk.outcomes(Status.NOT_DONE))
    done = iter(chunk.outcomes(Status.DONE))
    for member, *candidates in zip(chunk.members, failures, held_back, done, strict=True):
        if member in failed:
            yield candidates[0]
        else:
            yield candidates[1 if member.is_behind_a_failure else 2]
