"""Marks in memory: for tests, and for an application that is one process."""

from __future__ import annotations

import threading

from dynaflow._marks import Mark

__all__ = ["MemoryMarks"]


class MemoryMarks:
    """A store of marks that forgets everything with the process. Several loops may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._marks: dict[str, Mark] = {}
        self._swept_at = 100

    def __len__(self) -> int:
        return len(self._marks)

    async def begin(self, key: str, token: str, *, now: float, until: float) -> Mark | None:
        """Take a key that has no mark, or an expired one, or one in progress with this token."""
        with self._lock:
            mark = self._marks.get(key)
            if mark is not None and mark.keeps_out(token, now):
                return mark
            self._marks[key] = Mark(token, is_completed=False, expires_at=until)
            self._sweep(now)
        return None

    async def renew(self, key: str, token: str, *, until: float) -> bool:
        """Move the end of a mark in progress; return False if there is none with this token."""
        with self._lock:
            is_ours = self._is_in_progress(key, token)
            if is_ours:
                self._marks[key] = Mark(token, is_completed=False, expires_at=until)
        return is_ours

    async def complete(self, key: str, token: str, *, until: float) -> bool:
        """Enter that the key is done; return False if the mark is another token's."""
        with self._lock:
            mark = self._marks.get(key)
            if mark is not None and mark.token != token:
                return False
            self._marks[key] = Mark(token, is_completed=True, expires_at=until)
        return True

    async def release(self, key: str, token: str) -> bool:
        """Remove a mark in progress; return False if it is another token's, or completed."""
        with self._lock:
            if self._is_in_progress(key, token):
                del self._marks[key]
            return key not in self._marks

    def _is_in_progress(self, key: str, token: str) -> bool:
        mark = self._marks.get(key)
        return mark is not None and mark.token == token and not mark.is_completed

    def _sweep(self, now: float) -> None:
        """Remove what has expired, each time when there is twice as much as was left before."""
        if len(self._marks) < self._swept_at:
            return
        self._marks = {key: mark for key, mark in self._marks.items() if mark.expires_at >= now}
        self._swept_at = max(100, 2 * len(self._marks))
