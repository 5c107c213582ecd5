"""A thread that speaks up when a batch's own thread is blocked past the point of cutting it off."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from dynaflow.engine.work import Work

__all__ = ["Watchdog"]


class Watchdog:
    """Reports the frame in which a thread is stuck; it cannot do more about it.

    The thread is started with the first deadline and kept: one per invocation would cost more than
    many batches do.

    Args:
        report: called, in the watchdog's thread, with the innermost frame of the watched thread.
    """

    def __init__(self, report: Callable[[FrameType | None], None]) -> None:
        self._report = report
        self._changed = threading.Condition()
        self._bites_at: float | None = None
        self._watched: int | None = None
        self._thread: threading.Thread | None = None

    @contextmanager
    def watching(self, work: Work) -> Iterator[None]:
        """Watch the calling thread while it runs this work; without a deadline, do nothing."""
        left = work.gate.seconds_until_silent()
        if left is None:
            yield
            return
        self._arm(time.monotonic() + left)
        try:
            yield
        finally:
            self._arm(None)

    def _arm(self, bites_at: float | None) -> None:
        with self._changed:
            self._bites_at = bites_at
            self._watched = threading.get_ident()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._watch, name="dynaflow-watchdog", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def _watch(self) -> None:
        while True:
            with self._changed:
                if self._bites_at is None:
                    self._changed.wait()
                    continue
                left = self._bites_at - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
                self._bites_at, watched = None, self._watched
            self._report(sys._current_frames().get(watched or 0))
