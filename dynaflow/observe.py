"""Watching, and only watching: frozen events for observers, and the observer that logs.

Item data is never in a log line: ids, route, status and times are. A handler's own exception is
logged with its traceback, because nobody can mend what he cannot see.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from dynaflow.batch import Batch, BatchResult, Outcome, Status
from dynaflow.errors import InProgress, InvalidImage, NonRetryable, Skip
from dynaflow.record import Record

__all__ = [
    "BatchEnded",
    "CallEnded",
    "CallRetried",
    "Event",
    "Observer",
    "batch_ended",
    "log_event",
    "notify",
    "observer_name",
    "warn_of_unmatched",
]

logger = logging.getLogger("dynaflow")
logger.addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call of a route has ended, or was refused before it began.

    Args:
        outcomes: one for each record of the call: record, route, status, error, seconds. A call
            of a batch route has many, any other call one.
    """

    outcomes: tuple[Outcome, ...]

    @property
    def outcome(self) -> Outcome:
        """The outcome of the call's first record."""
        return self.outcomes[0]


@dataclass(frozen=True, slots=True)
class BatchEnded:
    """A batch is about to be answered.

    Args:
        result: what became of it.
        records: how many records it had.
        duration: seconds that it took.
        source_arn: the ARN of its stream; empty if nothing named it.
        iterator_age: how far behind the stream it was when it began: the seconds since its last
            record was written (DynamoDB rounds that down to the second); None if no record says.
    """

    result: BatchResult
    records: int
    duration: float = 0.0
    source_arn: str = ""
    iterator_age: float | None = None


@dataclass(frozen=True, slots=True)
class CallRetried:
    """An attempt of a call has failed, and there will be another; ``CallEnded`` comes at the end.

    Args:
        records: those of the call.
        route: the route's name.
        error: what the attempt raised.
        attempt: which one it was, from 1.
        wait: seconds until the next.
    """

    records: tuple[Record, ...]
    route: str
    error: BaseException
    attempt: int
    wait: float


Event: TypeAlias = CallEnded | CallRetried | BatchEnded


class Observer(Protocol):
    """Sees every event: the calls of an item in order, and a batch after its calls.

    It cannot hurt a record. It is called in a thread of its own, with one event at a time. What it
    raises is dropped, and so are events that find too many waiting; both are logged.
    """

    def __call__(self, event: Event, /) -> None:
        """Take notice of the event."""
        ...


def batch_ended(batch: Batch, result: BatchResult, duration: float) -> BatchEnded:
    """Return the event of a batch that has taken so many seconds."""
    created_at = _last_creation(batch)
    age = None if created_at is None else max(0.0, time.time() - duration - created_at)
    return BatchEnded(result, len(batch.records), duration, batch.source_arn, age)


def _last_creation(batch: Batch) -> float | None:
    for record in reversed(batch.records):
        if isinstance(record, Record):
            with suppress(NonRetryable):  # it is not a time
                created_at = record.created_at
                return None if created_at is None else created_at.timestamp()
    return None


def notify(observers: Sequence[Observer], event: Event) -> None:
    """Show the event to every observer; none of them can hurt the caller or another observer."""
    for observer in observers:
        try:
            observer(event)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # watching must never hurt a record
            with suppress(Exception):  # if logging itself is broken, there is no other place
                logger.warning(
                    "observer %s raised %s; the event is dropped",
                    observer_name(observer),
                    type(error).__name__,
                )


def observer_name(observer: Any) -> str:
    """Return a function's qualified name, or that of an object's class; never its ``repr``."""
    named = observer if hasattr(observer, "__qualname__") else type(observer)
    return f"{named.__module__}.{named.__qualname__}"


def log_event(event: Event) -> None:
    """Log a call whose records are not all done, in one entry; the observer of every App."""
    if isinstance(event, CallRetried):
        _log_retry(event)
        return
    if not isinstance(event, CallEnded):
        return
    for status in _TEXTS:
        outcomes = [outcome for outcome in event.outcomes if outcome.status is status]
        if outcomes:
            _log(outcomes, len(event.outcomes))
            return


def warn_of_unmatched(records: Sequence[Record]) -> None:
    """Log once for a batch that no route takes some of its records; they count as done."""
    if not records:
        return
    with suppress(Exception):  # logging that fails must not hurt the batch
        logger.warning(
            "no route takes %d records of %s, the lowest is %s; they count as done",
            len(records),
            records[0].source_arn or "unknown stream",
            records[0].sequence_number,
        )


# What became of one record, and of several records of one call; the worst first.
_TEXTS = {
    Status.FAILED: (
        "%s failed for record %s of %s (%s); the record is not done and comes again",
        "%s failed for %d of %d records of %s, the lowest is %s (%s); they are not done and come "
        "again",
    ),
    Status.PARKED: (
        "%s failed for record %s of %s (%s); the record is in a dead letter and does not come "
        "again",
        "%s failed for %d of %d records of %s, the lowest is %s (%s); they are in dead letters "
        "and do not come again",
    ),
    Status.NOT_DONE: (
        "%s was cut off for record %s of %s; the record is not done and comes again",
        "%s was cut off for %d of %d records of %s, the lowest is %s; they are not done and come "
        "again",
    ),
    Status.SKIPPED: (
        "%s skipped record %s of %s%s",
        "%s skipped %d of %d records of %s, the lowest is %s%s",
    ),
    Status.REPEATED: (
        "%s had done record %s of %s before; it is not called again",
        "%s had done %d of %d records of %s before, the lowest is %s; it is not called again for "
        "them",
    ),
}
_IN_PROGRESS = (
    "%s is at work on record %s of %s in another delivery; here it is not done and comes again",
    "%s is at work on some of %d of %d records of %s in another delivery, the lowest is %s; here "
    "they are not done and come again",
)


def _log(outcomes: Sequence[Outcome], total: int) -> None:
    """Log the outcomes of one status, other than done, in a call of so many records."""
    lowest = min(outcomes, key=lambda outcome: outcome.record.position)
    status, record, error = lowest.status, lowest.record, lowest.error
    route, number = lowest.route or "no route", record.sequence_number
    stream = record.source_arn or "unknown stream"
    is_one = total == 1
    is_elsewhere = status is Status.NOT_DONE and isinstance(error, InProgress)
    text = (_IN_PROGRESS if is_elsewhere else _TEXTS[status])[0 if is_one else 1]
    where: tuple[Any, ...] = (
        (route, number, stream) if is_one else (route, len(outcomes), total, stream, number)
    )
    if status in (Status.FAILED, Status.PARKED):
        logger.error(text, *where, type(error).__name__, exc_info=error)
    elif status is Status.SKIPPED:
        logger.log(_level_of_skipped(error), text, *where, _why(error))
    elif status is Status.REPEATED:
        logger.info(text, *where)
    elif lowest.route is not None:
        logger.warning(text, *where)
    else:
        logger.warning(
            "record %s of %s was held back, because a call for its item that outlived an earlier "
            "deadline still runs; the record is not done and comes again",
            number,
            stream,
        )


def _log_retry(event: CallRetried) -> None:
    record = event.records[0]
    with suppress(Exception):  # logging that fails must not hurt the batch
        logger.warning(
            "%s failed for record %s of %s (%s) in attempt %d; the next is in %.1f s",
            event.route,
            record.sequence_number,
            record.source_arn or "unknown stream",
            type(event.error).__name__,
            event.attempt,
            event.wait,
        )


def _level_of_skipped(error: BaseException | None) -> int:
    """Return the level: that a handler skips is its business, a wrong image an operator's."""
    return logging.WARNING if isinstance(error, NonRetryable) else logging.INFO


def _why(error: BaseException | None) -> str:
    """Return the reason in words of a handler's Skip or of our own; of other errors the type."""
    if error is None:
        return ""
    return f": {error}" if isinstance(error, (Skip, InvalidImage)) else f" ({type(error).__name__})"
