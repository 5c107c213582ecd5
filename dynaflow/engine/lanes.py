"""Which lane next, and who may still start. Pure: the clock is an argument.

Half of the workers take the lane with the lowest open sequence number, so that the low-water mark
advances before every deadline; the others take the longest lane, so that the batch ends early.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable
from typing import TypeAlias

from dynaflow.batch import Deadline, margin_of
from dynaflow.engine.jobs import Lane
from dynaflow.record import Record

__all__ = ["Gate", "Lanes"]


_Entry: TypeAlias = tuple[int, int, int, int, Lane]  # two ranks, then what keeps them apart


class Lanes:
    """The lanes that wait for a worker.

    Two heaps hold the same lanes in two orders. An entry is stale, and skipped, once its lane has
    been taken: the lane's ticket has moved on.
    """

    __slots__ = ("_longest", "_lowest", "waiting")

    def __init__(self, lanes: Iterable[Lane] = ()) -> None:
        self._lowest: list[_Entry] = []
        self._longest: list[_Entry] = []
        self.waiting = 0
        for lane in lanes:
            self.add(lane)

    def add(self, lane: Lane) -> None:
        """Let a lane with at least one job left wait for a worker."""
        lane.ticket += 1
        position, unique = lane.position, id(lane)
        heapq.heappush(self._lowest, (position, 0, unique, lane.ticket, lane))
        heapq.heappush(self._longest, (-lane.remaining, position, unique, lane.ticket, lane))
        self.waiting += 1

    def take(self, *, lowest: bool) -> Lane | None:
        """Take the lane with the lowest open sequence number, or the longest; None if none is."""
        lane = self._first(lowest=lowest)
        if lane is not None:
            lane.ticket += 1
            self.waiting -= 1
        return lane

    def exchange(self, lane: Lane, *, lowest: bool) -> Lane:
        """Return the lane to go on with: this one, or a better one that waits, in exchange."""
        best = self._first(lowest=lowest)
        if best is None or not _is_better(best, lane, lowest=lowest):
            return lane
        taken = self.take(lowest=lowest)
        self.add(lane)
        return taken or lane

    def _first(self, *, lowest: bool) -> Lane | None:
        heap = self._lowest if lowest else self._longest
        while heap:
            *_, ticket, lane = heap[0]
            if ticket == lane.ticket:
                return lane
            heapq.heappop(heap)
        return None


def _is_better(waiting: Lane, lane: Lane, *, lowest: bool) -> bool:
    if lowest:
        return waiting.position < lane.position
    return waiting.remaining > lane.remaining


class Gate:
    """Who may still start, and when running calls are cut off.

    Nothing starts at twice the margin before the deadline; calls are cancelled at the margin:
    500 ms or 10 % of the time left at entry, whichever is more, but never above a quarter of it.
    Where batch routes come after the lanes, lanes start nothing in the second half of the time in
    which anything may start.

    Args:
        barrier: nothing at or above this position starts.
        deadline: when the batch must be answered; None where nothing waits.
        stop_on_failure: after a failure, nothing above it starts (``failure_policy="stop"``).
        may_start: asked before each record, too; None for yes.
        halved: whether batch routes come after the lanes.
    """

    __slots__ = (
        "_deadline",
        "_lanes_close",
        "_margin",
        "_may_start",
        "barrier",
        "stop_on_failure",
        "stopped",
    )

    def __init__(
        self,
        *,
        barrier: float = math.inf,
        deadline: Deadline | None = None,
        stop_on_failure: bool = False,
        may_start: Callable[[], bool] | None = None,
        halved: bool = False,
    ) -> None:
        self.barrier = barrier
        self.stop_on_failure = stop_on_failure
        self.stopped = False
        self._may_start = may_start
        left = math.inf if deadline is None else deadline.remaining()
        self._deadline = None if left == math.inf else deadline
        self._margin = 0.0 if left == math.inf else margin_of(left)
        self._lanes_close = 2 * self._margin
        if halved and self._deadline is not None:
            self._lanes_close += (left - 2 * self._margin) / 2

    def is_open(self, record: Record) -> bool:
        """Return True if a lane may start this record now."""
        return self._is_open(record, self._lanes_close)

    def is_open_to_batches(self, record: Record) -> bool:
        """Return True if a batch route may start with this record now."""
        return self._is_open(record, 2 * self._margin)

    def seconds_open(self) -> float | None:
        """Return the seconds until lanes start nothing more; None if there is no deadline."""
        return None if self._deadline is None else self._deadline.remaining() - self._lanes_close

    def close_to_lanes(self) -> None:
        """Let lanes start nothing more, even if their clock says that there is time."""
        self._lanes_close = math.inf

    def bars(self, record: Record) -> bool:
        """Return True if a failure keeps this record from starting, however much time is left."""
        return self.stopped or record.position >= self.barrier

    def may_go_on(self, record: Record) -> bool:
        """Return True if a call of this record may be tried again, however much time is left."""
        return not self.bars(record) and (self._may_start is None or self._may_start())

    def seconds_open_to_batches(self) -> float | None:
        """Return the seconds until batch routes start nothing more; None if they always may."""
        return None if self._deadline is None else self._deadline.remaining() - 2 * self._margin

    def _is_open(self, record: Record, closes: float) -> bool:
        if self.bars(record):
            return False
        if self._deadline is not None and self._deadline.remaining() <= closes:
            return False
        return self._may_start is None or self._may_start()

    def failed(self, position: int) -> None:
        """Note that the record at this position has failed."""
        if self.stop_on_failure:
            self.barrier = min(self.barrier, position)

    def seconds_until_cut(self) -> float | None:
        """Return the seconds until running calls are cancelled; None if they never are."""
        return None if self._deadline is None else self._deadline.remaining() - self._margin

    def seconds_until_silent(self) -> float | None:
        """Return the seconds until halfway between the cut and the deadline, when all is over."""
        return None if self._deadline is None else self._deadline.remaining() - self._margin / 2
