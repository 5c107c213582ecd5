"""Transactions without DynamoDB: what handlers write is there to be looked at."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock

from dynaflow._commit import MAX_RECORDS, already_done, collecting, mark_of
from dynaflow.context import HandlerContext
from dynaflow.transaction import Transaction, Write

__all__ = ["MemoryTransactions"]


class MemoryTransactions:
    """Takes the place of ``Transactions`` in tests: ``overrides={transactions: memory}``.

    It has the same rules: nothing is written if the handler raises, the writes of a call are
    committed together, and once for each record. It does not know what tables hold, so it evaluates
    no expressions, and conditions count as true.

    ``commits`` are the writes of each call that was committed, in order; ``writes`` are all of
    them.
    """

    max_records = MAX_RECORDS
    one_per_call = "a Transaction"

    def __init__(self) -> None:
        self.commits: list[tuple[Write, ...]] = []
        self._marks: set[str] = set()
        self._lock = Lock()

    @property
    def writes(self) -> list[Write]:
        """All writes that were committed, in order."""
        return [write for commit in self.commits for write in commit]

    def __call__(self, context: HandlerContext) -> Iterator[Transaction]:
        """Give a call its Transaction, and commit it when the handler has returned."""
        with collecting(context) as tx:
            yield tx
        if not tx.writes:
            return
        marks = [mark_of(record, context.route) for record in context.records]
        with self._lock:
            done = [mark in self._marks for mark in marks]
            if any(done):
                raise already_done(context, done)
            self._marks.update(marks)
            self.commits.append(tx.writes)
