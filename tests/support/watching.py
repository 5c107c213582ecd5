"""Observers for tests: one that notes events, one that hangs until it is let go."""

from __future__ import annotations

import threading

from dynaflow.observe import BatchEnded, CallEnded, Event

__all__ = ["WAIT", "Hanging", "Noting"]

WAIT = 20.0  # seconds after which a test has failed


class Noting:
    """An observer that keeps the events that it sees, and in which threads it sees them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.threads: set[str] = set()

    def __call__(self, event: Event, /) -> None:
        self.events.append(event)
        self.threads.add(threading.current_thread().name)

    @property
    def calls(self) -> list[CallEnded]:
        return [event for event in self.events if isinstance(event, CallEnded)]

    @property
    def batches(self) -> list[BatchEnded]:
        return [event for event in self.events if isinstance(event, BatchEnded)]


class Hanging(Noting):
    """An observer that hangs in its first event until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()
        self.caught_up = threading.Event()
        self.wanted = 0

    def __call__(self, event: Event, /) -> None:
        assert self.let_go.wait(WAIT)
        super().__call__(event)
        if len(self.events) == self.wanted:
            self.caught_up.set()
