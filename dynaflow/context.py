"""What one call of a handler may know beyond its record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dynaflow.batch import Deadline
from dynaflow.record import Record

__all__ = ["HandlerContext"]


@dataclass(frozen=True, slots=True)
class HandlerContext:
    """What one call of a handler may know; handlers ask for it with ``context: HandlerContext``.

    Args:
        record: the record that is handled.
        route: the route's name, as ``dynaflow routes`` prints it.
        attempt: which call of this route for this record it is within one delivery, from 1.
        deadline: when the batch must be answered; None where nothing waits for an answer.
        lambda_context: Lambda's context object; None outside of Lambda.
    """

    record: Record
    route: str
    attempt: int = 1
    deadline: Deadline | None = None
    lambda_context: Any = None
