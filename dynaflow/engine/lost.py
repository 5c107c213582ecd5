"""Items on which a call still works that nobody waits for any more. Pure bookkeeping.

A call is lost when it outlives its deadline: a thread cannot be stopped, and a coroutine can shield
itself from its cancellation. Its result is dropped. Until it has come back, its item does not
start, so that two calls never work on one item.
"""

from __future__ import annotations

import inspect
import threading
from collections import Counter
from collections.abc import Callable, Hashable

__all__ = ["LostCalls", "close_unawaited"]


class LostCalls:
    """Which lanes have a lost call, and who wants to know when it is back. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls = 0
        self._lanes: Counter[Hashable] = Counter()
        self._waiting: dict[Hashable, list[Callable[[], object]]] = {}

    def __len__(self) -> int:
        return self._calls

    def __contains__(self, lane: Hashable) -> bool:
        return lane in self._lanes

    def lose(self, *lanes: Hashable) -> None:
        """Note that a call is lost, and which lanes it works on."""
        with self._lock:
            self._calls += 1
            self._lanes.update(lanes)

    def come_back(self, *lanes: Hashable) -> None:
        """Note that a lost call on these lanes has ended; tell those who wait for them."""
        waiting: list[Callable[[], object]] = []
        with self._lock:
            self._calls -= 1
            self._lanes.subtract(lanes)
            for lane in lanes:
                if self._lanes[lane] == 0:
                    del self._lanes[lane]
                    waiting += self._waiting.pop(lane, [])
        for tell in waiting:
            tell()

    def tell_when_free(self, lane: Hashable, tell: Callable[[], object]) -> None:
        """Call ``tell`` once no lost call works on this lane: now, or later from another thread."""
        with self._lock:
            if lane in self._lanes:
                self._waiting.setdefault(lane, []).append(tell)
                return
        tell()


def close_unawaited(returned: object) -> None:
    """Close a coroutine that nobody will await; Python would warn of it.

    Only a coroutine: another object's ``close()`` might do, or raise, anything.
    """
    if inspect.iscoroutine(returned):
        returned.close()
