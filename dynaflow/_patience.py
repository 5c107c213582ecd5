"""How long a call waits for marks that others hold, and how it asks a store about many of them."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import TypeVar

from dynaflow._marks import Mark
from dynaflow.batch import Deadline, margin_of
from dynaflow.errors import StoreError
from dynaflow.retry import waits

__all__ = ["SKEW", "Patience", "each"]

_T = TypeVar("_T")

SKEW = 1.0
"""Seconds that a mark is given beyond its time, for clocks that do not agree."""

_AT_A_TIME = 16  # marks of one call
_BEFORE_NEXT_TRY = 0.1  # seconds
_SHORTEST, _LONGEST = 0.1, 1.0  # seconds between two looks at a mark that is held


class Patience:
    """How long a call waits for marks that others hold, and how often it looks.

    It is made where the call begins: in a task, whose own end counts, too, such as a time-out's.

    Args:
        deadline: the call's.
        clock: returns seconds since the epoch.
        chance: returns a random number from 0 to below 1.
    """

    def __init__(
        self,
        deadline: Deadline | None,
        *,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._deadline = deadline
        self._reserve = 0.0 if deadline is None else 2 * margin_of(deadline.remaining())
        left = _until_cancelled()
        self._task_reserve = 0.0 if left == math.inf else margin_of(left)
        self._pause = _SHORTEST
        self._ends_at: float | None = None

    async def waited(self, held: Iterable[Mark]) -> bool:
        """Wait a little; return False if there is no time for that.

        Where there is no deadline, it is over once the marks expire that are held at first, whether
        or not they have been renewed.
        """
        import anyio

        expires_at = max(mark.expires_at for mark in held)
        if self._ends_at is None:
            self._ends_at = expires_at
        left = self._left()
        if left <= 0 or not waits():
            return False
        pause = self._pause * (1 - 0.5 * self._chance())
        self._pause = min(2 * self._pause, _LONGEST)
        until_expired = max(0.0, expires_at - self._clock()) + 0.01  # it counts up to its end
        await anyio.sleep(min(pause, until_expired, left))
        return True

    def _left(self) -> float:
        """Return for how many seconds there is time."""
        left = _until_cancelled() - self._task_reserve
        if self._deadline is not None:
            return min(left, self._deadline.remaining() - self._reserve)
        is_over = self._ends_at is not None and self._clock() > self._ends_at + SKEW
        return 0.0 if is_over else left


def _until_cancelled() -> float:
    """Return the seconds until the current task is cancelled, infinite if nothing is to do so."""
    import anyio

    return anyio.current_effective_deadline() - anyio.current_time()


async def each(
    function: Callable[[str], Awaitable[_T]], keys: Iterable[str], *, tries: int = 1
) -> dict[str, _T]:
    """Call a function with each key, several at a time; raise the first error at the end.

    Args:
        function: asks the store.
        keys: what about.
        tries: how often it is called with a key for which the store fails.
    """
    keys = tuple(keys)
    if len(keys) < 2:
        return {key: await _tried(function, key, tries) for key in keys}
    import anyio

    waiting = iter(keys)
    results: dict[str, _T] = {}
    errors: list[Exception] = []

    async def work() -> None:
        for key in waiting:
            try:
                results[key] = await _tried(function, key, tries)
            except Exception as error:
                errors.append(error)
                return  # and the others go on: a store that is away is soon asked for nothing

    async with anyio.create_task_group() as tasks:
        for _ in range(min(_AT_A_TIME, len(keys))):
            tasks.start_soon(work)
    if errors:
        raise errors[0]
    return results


async def _tried(function: Callable[[str], Awaitable[_T]], key: str, tries: int) -> _T:
    import anyio

    for _ in range(tries - 1):
        with suppress(StoreError):
            return await function(key)
        await anyio.sleep(_BEFORE_NEXT_TRY if waits() else 0)
    return await function(key)
