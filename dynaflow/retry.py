"""How often a call is tried within one delivery, and the waits in between. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from dynaflow.errors import NonRetryable, RegistrationError, Skip

__all__ = ["Retry", "waits", "without_waits"]

_waits = ContextVar("dynaflow_waits", default=True)


@dataclass(frozen=True, slots=True)
class Retry:
    """Calls a handler again when it fails, within one delivery and before its item goes on.

    The waits grow from ``wait_initial`` to ``wait_max``, doubled after each attempt. No attempt is
    made that would begin too late for the deadline. ``NonRetryable`` and ``Skip`` are never tried
    again, ``RetryAfter`` always is.

    Args:
        attempts: how many calls there are, the first one included.
        on: the exceptions, one or several, after which there is another.
        wait_initial: seconds before the second attempt, at most.
        wait_max: seconds before any attempt, at most.
        jitter: which share of each wait, 0 to 1, is left to chance: with 1 a wait is anything
            between nothing and the whole of it, so that calls that failed together do not come
            again together.

    Raises:
        RegistrationError: a value that cannot work.
    """

    attempts: int = 3
    on: type[Exception] | tuple[type[Exception], ...] = (Exception,)
    wait_initial: float = 0.1
    wait_max: float = 5.0
    jitter: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.attempts, int) or isinstance(self.attempts, bool):
            raise RegistrationError("Retry(attempts=...) is a whole number, at least 1")
        if self.attempts < 1:
            raise RegistrationError(
                f"Retry(attempts={self.attempts}) would never call anything: the first call is an "
                "attempt, too. Write 1 for no retry"
            )
        types = self.on if isinstance(self.on, tuple) else (self.on,)
        for kind in types:
            if not (isinstance(kind, type) and issubclass(kind, Exception)):
                raise RegistrationError(
                    f"Retry(on=...) takes exception classes such as TimeoutError, got {kind!r}"
                )
        if not types:
            raise RegistrationError("Retry(on=()) tries nothing again: name exception classes")
        for name in ("wait_initial", "wait_max"):
            if not (_is_number(getattr(self, name)) and 0 <= getattr(self, name) < 86_400):
                raise RegistrationError(f"Retry({name}=...) is a number of seconds, 0 or more")
        if not (_is_number(self.jitter) and 0 <= self.jitter <= 1):
            raise RegistrationError("Retry(jitter=...) is a share, from 0 to 1")
        object.__setattr__(self, "on", types)

    def takes(self, error: BaseException) -> bool:
        """Return True if another attempt may help after this error."""
        return isinstance(error, self.on) and not isinstance(error, (NonRetryable, Skip))

    def wait_after(self, attempt: int, chance: float) -> float:
        """Return the seconds between an attempt and the next.

        Args:
            attempt: how many there have been, from 1.
            chance: a random number from 0 to below 1.
        """
        longest = min(self.wait_max, self.wait_initial * 2.0 ** min(attempt - 1, 60))
        return longest * (1 - self.jitter * chance)


def waits() -> bool:
    """Return True unless this runs within ``without_waits``."""
    return _waits.get()


@contextmanager
def without_waits() -> Iterator[None]:
    """Let nothing that dynaflow waits for on purpose take time: for tests.

    Attempts follow each other at once, and a mark that another delivery holds is not waited for.
    It counts for what is called from within the context.
    """
    token = _waits.set(False)
    try:
        yield
    finally:
        _waits.reset(token)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
