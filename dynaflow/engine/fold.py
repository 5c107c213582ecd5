"""Outcomes → BatchResult and the low-water mark. Pure.

A record is not done until it was proved done. The low-water mark is the end of the longest prefix
of the batch whose records are all done: what may be checkpointed.
"""

from __future__ import annotations

from collections.abc import Sequence

from dynaflow.batch import BatchResult, Outcome
from dynaflow.record import Record, Undecodable

__all__ = ["Ledger"]


class Ledger:
    """Who is done in one batch.

    Args:
        records: the batch, in ascending order of position.
    """

    __slots__ = ("_done", "_mark", "_outcomes", "_records")

    def __init__(self, records: Sequence[Record | Undecodable]) -> None:
        self._records = records
        self._done = bytearray(len(records))
        self._mark = 0
        self._outcomes: list[Outcome] = []

    def enter(self, outcome: Outcome) -> None:
        """Note how one call ended."""
        self._outcomes.append(outcome)

    def done(self, index: int) -> None:
        """Note that all routes of the record at this index of the batch are done."""
        self._done[index] = 1

    def advance(self) -> Record | Undecodable | None:
        """Move the low-water mark; return the last record below it if it moved, else None."""
        end = self._done.find(0, self._mark)
        end = len(self._records) if end < 0 else end
        if end == self._mark:
            return None
        self._mark = end
        return self._records[end - 1]

    def result(self) -> BatchResult:
        """Return what became of the batch so far."""
        records, done = self._records, self._done
        not_done = tuple(records[at] for at in range(len(records)) if not done[at])
        return BatchResult(tuple(self._outcomes), not_done)
