"""What one call of a handler may know beyond its record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dynaflow.batch import Deadline
from dynaflow.change import Change
from dynaflow.record import Record

__all__ = ["HandlerContext", "Many"]


@dataclass(frozen=True, slots=True)
class Many:
    """What a batch route's call is about.

    Args:
        records: in stream order.
        changes: the same records as changes, if the handler asks for these.
        given: holds the list that the handler was called with last.
    """

    records: tuple[Record, ...]
    changes: tuple[Change[Any], ...]
    given: list[list[Any]] = field(compare=False)


# One field for what only batch routes have: this is made for every call.
@dataclass(frozen=True, slots=True)
class HandlerContext:
    """What one call of a handler may know; handlers ask for it with ``context: HandlerContext``.

    Args:
        record: the record that is handled; the first one of a batch route's call.
        route: the route's name, as ``dynaflow routes`` prints it.
        attempt: which call of this route for this record it is within one delivery, from 1.
        deadline: when the batch must be answered; None where nothing waits for an answer.
        lambda_context: Lambda's context object; None outside of Lambda.
        many: what a batch route's call is about; None for a call with one record.
    """

    record: Record
    route: str
    attempt: int = 1
    deadline: Deadline | None = None
    lambda_context: Any = None
    many: Many | None = field(default=None, repr=False)

    @property
    def records(self) -> tuple[Record, ...]:
        """All records of the call, in stream order: several for a batch route, else one."""
        return (self.record,) if self.many is None else self.many.records

    @property
    def changes(self) -> tuple[Change[Any], ...]:
        """What a batch route's handler is given if it asks for changes; empty otherwise."""
        return () if self.many is None else self.many.changes
