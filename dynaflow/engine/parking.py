"""Which failures go into a dead letter, and where that is. No event loop here."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from inspect import isawaitable
from typing import Any

from dynaflow._signature import is_async
from dynaflow.dead_letter import DeadLetter, DeadLetterRecord, Reason
from dynaflow.engine.lost import close_unawaited
from dynaflow.errors import DeadLetterError, InProgress, NonRetryable, Skip
from dynaflow.observe import logger, observer_name
from dynaflow.record import Record, Undecodable

__all__ = ["Parking"]


class Parking:
    """An App's dead letters.

    Args:
        sink: takes each; see ``DeadLetter``.
        clock: returns seconds since the epoch.
    """

    def __init__(self, sink: DeadLetter, *, clock: Callable[[], float] = time.time) -> None:
        self.sink = sink
        self.name = observer_name(sink)
        known = getattr(sink, "is_async", None)
        self.is_async: bool = known if isinstance(known, bool) else is_async(sink)
        self._clock = clock

    def reason(
        self,
        record: Record | Undecodable,
        error: BaseException,
        *,
        deliveries: int,
        limit: int | None,
    ) -> Reason | None:
        """Return why a failure is to be parked; None if it is not, in this delivery.

        Args:
            record: the record.
            error: what it failed with.
            deliveries: how many there have been in which it was called and not done, with this.
            limit: the route's ``after_deliveries``.
        """
        if isinstance(error, (KeyboardInterrupt, MemoryError, InProgress, Skip)):
            return None  # what was skipped has not failed
        if isinstance(record, Undecodable):
            return "undecodable"
        if isinstance(error, NonRetryable):
            return "non_retryable"
        return "deliveries" if limit is not None and deliveries >= limit else None

    def letter(
        self,
        record: Record | Undecodable,
        error: BaseException,
        *,
        reason: Reason,
        route: str | None,
        attempts: int,
        deliveries: int,
    ) -> DeadLetterRecord:
        """Return the dead letter of a failure."""
        return DeadLetterRecord.of(
            record,
            route=route,
            error=error,
            reason=reason,
            attempts=attempts,
            deliveries=deliveries,
            parked_at=self._clock(),
        )

    def put_here(self, letter: DeadLetterRecord) -> None:
        """Put a letter into a sink that is sync.

        Raises:
            Exception: the sink did not take it.
        """
        returned: Any = self.sink(letter)
        if isawaitable(returned):
            close_unawaited(returned)
            raise DeadLetterError(
                f"the dead letter sink {self.name} is a plain function and returned something "
                "to be awaited, and nobody does: make it an 'async def', or give it is_async = True"
            )

    def report_refusal(self, letter: DeadLetterRecord, error: BaseException) -> None:
        """Log that the sink did not take a letter."""
        with suppress(Exception):  # logging that fails must not hurt the batch
            logger.error(
                "the dead letter sink %s did not take record %s of %s for %s (%s); the record is "
                "not done and comes again",
                self.name,
                letter.sequence_number,
                letter.source_arn or "unknown stream",
                letter.route or "no route",
                error if isinstance(error, DeadLetterError) else type(error).__name__,
            )
