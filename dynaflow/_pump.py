"""One observer behind a bounded queue and a thread of its own, so that it cannot hurt a record.

Whatever an observer does, an event costs the engine no more than an append. At the end of a batch
observers get a moment to see it, because Lambda freezes the process after the answer.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TypeAlias

from dynaflow.observe import CallEnded, CallRetried, Event, Observer, logger, observer_name
from dynaflow.record import Record

__all__ = ["MOMENT", "Pump", "wait_until_seen"]

MOMENT = 0.3  # seconds for observers to see a batch's events, before it is answered

# Events hold their records: an observer that hangs must not fill the memory.
_MOST = 32 * 1024 * 1024  # bytes of records, as DynamoDB counts them, that wait for an observer
_EACH = 512  # bytes for an event and its record beside the item

_IDLE_SECONDS = 10.0  # after which a thread without events ends

Tell: TypeAlias = Callable[[], object]


class Pump:
    """Shows events to one observer, one after the other, in a thread of its own.

    The thread is a daemon; it is started with the first event, and again in a forked process.

    Args:
        observer: whom to show them.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._queues: dict[int, _Queue] = {}

    def __call__(self, event: Event, /) -> None:
        """Let the observer see the event soon; drop it if too many wait already."""
        self._queue.put(event)

    def tell_when_seen(self, tell: Tell) -> bool:
        """Call ``tell`` once the observer has seen all events so far.

        Returns:
            False if there is nothing to wait for, or if the observer was given up and has not
            caught up since. ``tell`` is then not called.
        """
        return self._queue.tell_when_seen(tell)

    def give_up(self) -> None:
        """Note that the observer took too long; it is not waited for until it has caught up."""
        self._queue.give_up()

    @property
    def _queue(self) -> _Queue:
        process = os.getpid()
        queue = self._queues.get(process)
        if queue is None:  # or a fork has copied the queue, but not its thread, maybe locked
            queue = self._queues.setdefault(process, _Queue(self._observer))
            for other in [key for key in self._queues if key != process]:
                self._queues.pop(other, None)
        return queue


class _Queue:
    """The events that wait for an observer in this process."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._changed = threading.Condition()
        self._events: deque[tuple[Event, int]] = deque()
        self._size = 0
        self._put = 0
        self._seen = 0
        self._dropped = 0
        self._raised = 0
        self._has_thread = False
        self._is_late = False
        self._waiting: list[tuple[int, Tell]] = []

    def put(self, event: Event) -> None:
        size = _size_of(event)
        with self._changed:
            if not self._events or self._size + size <= _MOST:
                self._append(event, size)
                return
            self._dropped += 1
            is_first = self._dropped == 1
        if is_first:
            self._warn("is slower than the records; events are dropped until it has caught up")

    def _append(self, event: Event, size: int) -> None:
        if not self._has_thread:
            threading.Thread(target=self._serve, name="dynaflow-observer", daemon=True).start()
            self._has_thread = True
        self._events.append((event, size))
        self._size += size
        self._put += 1
        self._changed.notify()

    def tell_when_seen(self, tell: Tell) -> bool:
        with self._changed:
            if self._is_late or self._seen == self._put:
                return False
            self._waiting.append((self._put, tell))
            return True

    def give_up(self) -> None:
        with self._changed:
            self._is_late = self._seen < self._put

    def _serve(self) -> None:
        while (event := self._next()) is not None:
            try:
                self._observer(event)
            except BaseException as error:  # SystemExit, too, must not end the thread
                self._complain(error)
            del event  # it holds records
            self._note_seen()

    def _next(self) -> Event | None:
        """Return the event whose turn it is, as soon as there is one; None to end the thread."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._events, timeout=_IDLE_SECONDS):
                self._has_thread = False
                return None
            return self._events[0][0]

    def _note_seen(self) -> None:
        with self._changed:
            self._size -= self._events.popleft()[1]
            self._seen += 1
            dropped = 0
            if self._seen == self._put:
                self._is_late = False
                dropped, self._dropped = self._dropped, 0
            told = [tell for target, tell in self._waiting if target <= self._seen]
            self._waiting = [wait for wait in self._waiting if wait[0] > self._seen]
        for tell in told:
            tell()
        if dropped:
            self._warn(f"has caught up; {dropped} events were dropped")

    def _complain(self, error: BaseException) -> None:
        """Log the first error, and then fewer and fewer: it may come with every event."""
        self._raised += 1
        if str(self._raised).strip("0") == "1":  # 1, 10, 100, …
            count = "" if self._raised == 1 else f", the {self._raised}th error of it"
            self._warn(f"raised {type(error).__name__}{count}; the event is dropped")

    def _warn(self, what: str) -> None:
        with suppress(Exception):  # if logging itself is broken, there is no other place to say so
            logger.log(logging.WARNING, "observer %s %s", observer_name(self._observer), what)


def _size_of(event: Event) -> int:
    if isinstance(event, CallRetried):
        return len(event.records)
    outcomes = event.outcomes if isinstance(event, CallEnded) else event.result.outcomes
    return _EACH + sum(
        _EACH + max(0, outcome.record.size_bytes or 0)
        for outcome in outcomes
        if isinstance(outcome.record, Record)
    )


def wait_until_seen(pumps: Iterable[Pump], seconds: float) -> None:
    """Wait, for so many seconds at most, until observers have seen all events so far."""
    ends_at = time.monotonic() + seconds
    waits = []
    for pump in pumps:
        seen = threading.Event()
        if pump.tell_when_seen(seen.set):
            waits.append((pump, seen))
    for pump, seen in waits:
        if not seen.wait(max(0.0, ends_at - time.monotonic())) and seconds >= MOMENT:
            pump.give_up()  # but not because a batch had no time left for it
