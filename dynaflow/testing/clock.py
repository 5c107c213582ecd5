"""An asyncio event loop whose time jumps, so that sleeps and time-outs in tests cost nothing.

The clock stands still while anything can run, and jumps to the next timer when nothing can. So a
test of a minute of back-off takes milliseconds, and the times in it are exact.

Work outside of the loop (threads, sockets) takes real time, which this clock cannot know. While a
thread is alive that was started after the loop was made, or a socket is registered, the loop gives
it ``patience`` real seconds before every jump. Within ``loop.outside_work()`` it never jumps.
"""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

__all__ = ["VirtualTimeLoop", "run_virtual"]

_T = TypeVar("_T")


def run_virtual(
    function: Callable[..., Coroutine[Any, Any, _T]], *args: Any, patience: float = 0.01
) -> _T:
    """Run an async function to its end on a fresh ``VirtualTimeLoop`` and return its result.

    Args:
        function: called with ``args``.
        patience: real seconds that work outside of the loop gets before the clock jumps.

    Raises:
        RuntimeError: every task waits for something that nothing is left to bring.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(patience=patience)) as runner:
        return runner.run(function(*args))


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that starts at 0 seconds and never waits for a timer.

    Under anyio's pytest plugin, the fixture ``anyio_backend`` returns
    ``("asyncio", {"loop_factory": VirtualTimeLoop})``; trio has ``trio.testing.MockClock``.

    Args:
        patience: real seconds that work outside of the loop gets before the clock jumps.
    """

    def __init__(self, *, patience: float = 0.01) -> None:
        self._now = 0.0
        self._patience = patience
        self._outside_work = 0
        self._others_threads = frozenset(threading.enumerate())
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    @contextmanager
    def outside_work(self) -> Iterator[None]:
        """Keep the clock from jumping, for as long as a thread or a process works for the loop."""
        self._outside_work += 1
        try:
            yield
        finally:
            self._outside_work -= 1

    def _real_wait(self, sockets: int, until_next_timer: float | None) -> float | None:
        """Return how many real seconds to wait before the jump; None for as long as it takes."""
        if self._outside_work:
            return None
        if sockets or not self._others_threads.issuperset(threading.enumerate()):
            return None if until_next_timer is None else self._patience
        if until_next_timer is None:
            raise RuntimeError(
                "every task waits, and there is no timer, thread or socket that could wake one. "
                "Look for an event that is never set, or a stream that is never closed."
            )
        return 0

    def _jump(self, seconds: float) -> None:
        self._now += seconds


class _JumpingSelector(selectors.DefaultSelector):
    """Asks the loop how long to wait, and makes it jump when nothing came."""

    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or timeout == 0:
            return events
        sockets = len(self.get_map()) - 1  # one is the loop's own, by which other threads wake it
        events = super().select(self._loop._real_wait(sockets, timeout))
        if not events and timeout is not None:
            self._loop._jump(timeout)
        return events
