"""Watching, and only watching: frozen events for observers, and the observer that logs.

Item data is never in a log line: ids, route, status and times are. A handler's own exception is
logged with its traceback, because nobody can mend what he cannot see.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from dynaflow.batch import BatchResult, Outcome, Status
from dynaflow.errors import Skip
from dynaflow.record import Record

__all__ = [
    "BatchEnded",
    "CallEnded",
    "Event",
    "Observer",
    "log_event",
    "notify",
    "warn_of_unmatched",
]

logger = logging.getLogger("dynaflow")
logger.addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call of a route has ended, or was refused before it began.

    Args:
        outcomes: record, route, status, error, seconds: one for each record of the call. Only a
            batch route's call has several.
    """

    outcomes: tuple[Outcome, ...]

    @property
    def outcome(self) -> Outcome:
        """The outcome for the call's first record."""
        return self.outcomes[0]


@dataclass(frozen=True, slots=True)
class BatchEnded:
    """A batch has been answered.

    Args:
        result: what became of it.
        records: how many records it had.
    """

    result: BatchResult
    records: int


Event: TypeAlias = CallEnded | BatchEnded


class Observer(Protocol):
    """Sees every event. What it raises is dropped: watching never hurts a record.

    It may be called from worker threads, and from several at once.
    """

    def __call__(self, event: Event, /) -> None:
        """Take notice of the event."""
        ...


def notify(observers: Sequence[Observer], event: Event) -> None:
    """Show the event to every observer; none of them can hurt the caller or another observer."""
    for observer in observers:
        try:
            observer(event)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # watching must never hurt a record
            _complain(observer, error)


def log_event(event: Event) -> None:
    """Log failed, cut-off and skipped calls; the observer that every App has."""
    if not isinstance(event, CallEnded):
        return
    bad = [outcome for outcome in event.outcomes if outcome.status is not Status.DONE]
    if bad:
        _log_outcome(bad[0])


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


def _log_outcome(outcome: Outcome) -> None:
    record, error = outcome.record, outcome.error
    where = (
        outcome.route or "no route",
        record.sequence_number,
        record.source_arn or "unknown stream",
    )
    if outcome.status is Status.FAILED:
        logger.error(
            "%s failed for record %s of %s (%s); the record is not done and comes again",
            *where,
            type(error).__name__,
            exc_info=error,
        )
    elif outcome.status is Status.SKIPPED:
        is_deliberate = isinstance(error, Skip)
        level = logging.INFO if is_deliberate else logging.WARNING
        logger.log(level, "%s skipped record %s of %s: %s", *where, error)
    elif outcome.route is not None:
        logger.warning(
            "%s was cut off for record %s of %s; the record is not done and comes again", *where
        )
    else:
        logger.warning(
            "record %s of %s was held back, because a call for its item that outlived an earlier "
            "deadline still runs; the record is not done and comes again",
            *where[1:],
        )


def _complain(observer: Observer, error: BaseException) -> None:
    with suppress(Exception):  # if logging itself is broken, there is no other place to say so
        logger.warning(
            "observer %r raised %s; the event is dropped", observer, type(error).__name__
        )
