"""How long to wait before the next try."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Backoff"]

_MOST_DOUBLINGS = 30


class Backoff:
    """Exponential back-off with full jitter (AWS Architecture Blog: "Exponential Backoff").

    Args:
        base: the longest first wait, in seconds; it doubles with every further one.
        cap: the longest wait of all, in seconds.
        random: returns a number from 0 to below 1.
    """

    def __init__(self, *, base: float, cap: float, random: Callable[[], float]) -> None:
        self._base = base
        self._cap = cap
        self._random = random
        self._waits = 0

    def next(self) -> float:
        """Return the seconds to wait now."""
        longest = min(self._cap, self._base * 2.0**self._waits)
        self._waits = min(self._waits + 1, _MOST_DOUBLINGS)
        return self._random() * longest

    def reset(self) -> None:
        """Begin again with the shortest wait."""
        self._waits = 0
