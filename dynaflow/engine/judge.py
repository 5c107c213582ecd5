"""What becomes of a call that failed: another attempt, a dead letter, or neither. No waits here."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.engine.jobs import Step
from dynaflow.engine.memory import Memory
from dynaflow.engine.parking import Parking
from dynaflow.errors import InProgress, RetryAfter
from dynaflow.record import Record
from dynaflow.retry import Retry, waits

__all__ = ["Judge", "Verdict"]

_ON_REQUEST = Retry()  # for RetryAfter on a route that has no policy


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a call that failed.

    Args:
        error: what it failed with, as the route's routers see it.
        wait: seconds until the next attempt; None if there is none.
        letters: what is to be put into the sink for it to be done, with the records.
    """

    error: BaseException
    wait: float | None = None
    letters: tuple[tuple[Record, DeadLetterRecord], ...] = ()


class Judge:
    """Judges the calls of one batch.

    Args:
        memory: what became of its records in earlier deliveries.
        parking: where dead letters go; None where there are none.
        chance: returns a random number from 0 to below 1.
    """

    __slots__ = ("_chance", "_memory", "parking")

    def __init__(
        self,
        memory: Memory,
        parking: Parking | None,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.parking = parking
        self._memory = memory
        self._chance = chance

    def wait(
        self, route: Step, error: BaseException, attempt: int, *, left: float | None
    ) -> float | None:
        """Return the seconds until the next attempt; None if there is none.

        Args:
            route: what was called.
            error: what it failed with.
            attempt: how many attempts there have been.
            left: seconds in which something may still start; None for any.
        """
        policy = route.retry
        if isinstance(error, RetryAfter):
            policy, wait = policy or _ON_REQUEST, error.seconds
        elif policy is None or not policy.takes(error) or isinstance(error, InProgress):
            return None
        else:
            wait = policy.wait_after(attempt, self._chance())
        if attempt >= policy.attempts:
            return None
        if not waits():
            wait = 0.0
        return None if left is not None and wait >= left else wait

    def letters(
        self, route: Step, error: BaseException, attempts: int, records: Sequence[Record]
    ) -> tuple[tuple[Record, DeadLetterRecord], ...]:
        """Return the dead letters of records that a call has failed for good, if there are any."""
        parking = self.parking
        if parking is None:
            return ()
        found = []
        for record in records:
            deliveries = self._memory.failures(record, route.name) + 1
            reason = parking.reason(
                record, error, deliveries=deliveries, limit=route.after_deliveries
            )
            if reason is not None:
                letter = parking.letter(
                    record,
                    error,
                    reason=reason,
                    route=route.name,
                    attempts=attempts,
                    deliveries=deliveries,
                )
                found.append((record, letter))
        return tuple(found)
