"""How many calls may run at a time, shared fairly between the batches of one App."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Hashable

import anyio

__all__ = ["Slots"]


class Slots:
    """A bound on concurrent calls that no batch can hold alone while another has none.

    A batch's first slot is waited for, in turn. Further ones are taken only while nobody waits and,
    where ``spare`` is asked for, only down to one slot that stays free for a newcomer.

    Args:
        total: how many slots there are.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._held: Counter[Hashable] = Counter()
        self._free = total
        self._waiting: deque[tuple[Hashable, anyio.Event]] = deque()

    async def acquire(self, holder: Hashable) -> None:
        """Take a slot as soon as one is free."""
        if self._free:  # then nobody waits: a slot that comes free is handed on at once
            self._take(holder)
            return
        turn = anyio.Event()
        self._waiting.append((holder, turn))
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self.release(holder)
            else:
                self._waiting.remove((holder, turn))
            raise

    def try_acquire(self, holder: Hashable, *, spare: bool) -> bool:
        """Take a further slot if one is to be had at once; return whether it was."""
        keep = 1 if spare and self._total > 1 and self._held[holder] else 0
        if self._free <= keep:
            return False
        self._take(holder)
        return True

    def release(self, holder: Hashable) -> None:
        """Give a slot back; whoever has waited longest gets it."""
        if not self._held[holder]:  # taken back already: a lost call does not keep its slot
            return
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]
        self._free += 1
        if self._waiting:
            waiter, turn = self._waiting.popleft()
            self._take(waiter)
            turn.set()

    def release_all(self, holder: Hashable) -> None:
        """Give back whatever this batch still holds."""
        while self._held[holder]:
            self.release(holder)

    def is_wanted(self, holder: Hashable) -> bool:
        """Return True if this batch holds several slots while another waits for its first."""
        if not self._waiting or self._held[holder] < 2:
            return False
        return any(not self._held[waiter] for waiter, _ in tuple(self._waiting))

    def _take(self, holder: Hashable) -> None:
        self._free -= 1
        self._held[holder] += 1
