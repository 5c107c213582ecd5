"""A batch of records, by when it must be answered, and what became of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from dynaflow.record import Record, Undecodable

__all__ = ["Batch", "BatchResult", "Deadline", "Outcome", "Status", "margin_of"]


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point in time on a clock.

    Args:
        at: seconds on ``clock``.
        clock: returns seconds; monotonic by default.
    """

    at: float
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def after(cls, seconds: float, clock: Callable[[], float] = time.monotonic) -> Deadline:
        """Return the deadline that is so many seconds away."""
        return cls(clock() + seconds, clock)

    def remaining(self) -> float:
        """Return the seconds that are left; negative once it has passed."""
        return self.at - self.clock()


def margin_of(left: float) -> float:
    """Return the seconds before a deadline at which running calls are cancelled.

    Args:
        left: seconds until the deadline, at entry.
    """
    return min(max(0.5, 0.1 * left), 0.25 * max(0.0, left))


@dataclass(frozen=True, slots=True)
class Batch:
    """One invocation's or one page's records: one shard's, in ascending order of position.

    Args:
        records: in stream order.
        source_arn: the ARN of the stream that all of them come from.
        deadline: when an answer must have been given; None where nothing waits for one.
        invocation: Lambda's context object, None in the poller.
        shard_id: the shard, in the poller, so that a record can be found again in the stream;
            empty in Lambda, whose events do not name it.
    """

    records: tuple[Record | Undecodable, ...]
    source_arn: str = ""
    deadline: Deadline | None = None
    invocation: Any = None
    shard_id: str = ""


class Status(Enum):
    """How a call of one route for one record ended."""

    DONE = "done"
    FAILED = "failed"
    NOT_DONE = "not done"
    """Not started, or cut off: by the deadline, a shutdown, or an earlier record's failure."""
    SKIPPED = "skipped"
    """Done, and counted apart: the handler raised ``Skip``, or its model does not accept the image
    and the route has ``on_invalid="skip"``."""
    PARKED = "parked"
    """Failed, and done with: the whole record is in a dead letter."""
    REPEATED = "repeated"
    """Done by an earlier delivery, so it was not called again."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one route ended for one record.

    Args:
        record: the record.
        route: the route's name; None where no route was reached (an undecodable record, or one
            that no route takes).
        status: done, failed, not done, skipped, parked or repeated.
        error: why it failed, was parked, or was skipped (``Skip`` or ``InvalidImage``); None
            otherwise.
        duration: seconds that the call took, with all of its attempts and the waits between them.
        attempts: how often it was called; 0 where it was not.
    """

    record: Record | Undecodable
    route: str | None
    status: Status
    error: BaseException | None = None
    duration: float = 0.0
    attempts: int = 1

    @property
    def is_done(self) -> bool:
        """True if the route has nothing more to do for the record."""
        return self.status is not Status.FAILED and self.status is not Status.NOT_DONE


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of a batch. A record is not done until it was proved done.

    Args:
        outcomes: one for each call that was started or refused, in the order in which they ended.
        not_done: the records that have to come again, ascending. Records below the first of them
            are done; above it some are done and some are not.
    """

    outcomes: tuple[Outcome, ...] = ()
    not_done: tuple[Record | Undecodable, ...] = ()

    @property
    def failed(self) -> Record | Undecodable | None:
        """The lowest record that is not done; None if the whole batch is."""
        return self.not_done[0] if self.not_done else None

    @property
    def handled_by(self) -> list[str]:
        """The routes that did their work, one entry a call, in the order in which they ended."""
        return self._routes_with(Status.DONE)

    @property
    def skipped_by(self) -> list[str]:
        """The routes that left their record alone, in the order in which they ended."""
        return self._routes_with(Status.SKIPPED)

    @property
    def parked_by(self) -> list[str | None]:
        """The routes whose record is in a dead letter; None for one that reached no route."""
        return [o.route for o in self.outcomes if o.status is Status.PARKED]

    @property
    def repeated_by(self) -> list[str]:
        """The routes that an earlier delivery had done, in the order in which that was found."""
        return self._routes_with(Status.REPEATED)

    @property
    def errors(self) -> list[BaseException]:
        """What the failed calls raised, in the order in which they ended."""
        return [
            outcome.error
            for outcome in self.outcomes
            if outcome.error is not None and not outcome.is_done
        ]

    def _routes_with(self, status: Status) -> list[str]:
        return [o.route for o in self.outcomes if o.status is status and o.route is not None]
