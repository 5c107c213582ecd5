"""What one call of a handler may know beyond its record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dynaflow.batch import Deadline
from dynaflow.change import Change
from dynaflow.record import Record

__all__ = ["HandlerContext"]


@dataclass(frozen=True, slots=True)
class HandlerContext:
    """What one call of a handler may know; handlers ask for it with ``context: HandlerContext``.

    Args:
        record: the record that is handled; the first one of a batch route's call.
        route: the route's name, as ``dynaflow routes`` prints it.
        attempt: which call of this route for this record it is within one delivery, from 1.
        deadline: when the batch must be answered; None where nothing waits for an answer.
        lambda_context: Lambda's context object; None outside of Lambda.
        members: the records of a batch route's call; empty for a call with one record.
        changes: what such a route's handler is given, if it asks for changes.
        given: holds the list that it was called with last; None for a call with one record.
    """

    record: Record
    route: str
    attempt: int = 1
    deadline: Deadline | None = None
    lambda_context: Any = None
    members: tuple[Record, ...] = field(default=(), repr=False)
    changes: tuple[Change[Any], ...] = field(default=(), repr=False)
    given: list[list[Any]] | None = field(default=None, repr=False, compare=False)

    @property
    def records(self) -> tuple[Record, ...]:
        """All records of the call, in stream order: several for a batch route, else one."""
        return self.members or (self.record,)
