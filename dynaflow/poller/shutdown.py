"""How a poller is asked to stop, by code or by a signal."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import anyio

__all__ = ["Shutdown", "stop_on_signals"]


class Shutdown:
    """Whether a stop was requested, and what it cuts short.

    Not for other threads: ``request`` runs on the event loop.
    """

    def __init__(self) -> None:
        self._is_requested = False
        self._scopes: dict[anyio.CancelScope, float] = {}

    @property
    def is_requested(self) -> bool:
        """True from the first request on."""
        return self._is_requested

    def request(self) -> None:
        """Ask everything to come to an end. Further requests change nothing."""
        if self._is_requested:
            return
        self._is_requested = True
        for scope, grace in self._scopes.items():
            _cut(scope, grace)

    def attach(self, scope: anyio.CancelScope, *, grace: float = 0.0) -> None:
        """Cancel a scope so many seconds after the request; at once if that has been made."""
        self._scopes[scope] = grace
        if self._is_requested:
            _cut(scope, grace)

    def detach(self, scope: anyio.CancelScope) -> None:
        """Cancel this scope no more when a request comes."""
        self._scopes.pop(scope, None)

    @contextmanager
    def interruptible(self, *, grace: float = 0.0) -> Iterator[None]:
        """Cut short what stands inside, so many seconds after the request.

        It is left without an error; ``is_requested`` tells why.
        """
        with anyio.CancelScope() as scope:
            self.attach(scope, grace=grace)
            try:
                yield
            finally:
                self.detach(scope)


@contextmanager
def stop_on_signals(
    signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT),
    *,
    exit_now: Callable[[int], object] = os._exit,
) -> Iterator[Shutdown]:
    """Turn the first signal into a request to stop; at the second the process is gone at once.

    Start-up may be cut short, too::

        with stop_on_signals() as shutdown:
            async with AsyncExitStack() as stack:
                with shutdown.interruptible():
                    source = await stack.enter_async_context(DynamoDBSource(table))
                if not shutdown.is_requested:
                    await Poller(app, source, store, shutdown=shutdown).run()

    On a running asyncio loop in the main thread only. The second signal saves nothing, so nothing
    is marked as done that is not, and it works while a handler blocks the loop.

    Args:
        signals: which ones.
        exit_now: ends the process with 128 + the signal's number (130 for SIGINT, 143 for SIGTERM).
    """
    shutdown = Shutdown()
    loop = asyncio.get_running_loop()
    is_first = True

    def receive(number: int, _: FrameType | None) -> None:
        nonlocal is_first
        if is_first:
            is_first = False
            loop.call_soon_threadsafe(shutdown.request)
            return
        with suppress(Exception):  # the signal may have come in the middle of a print
            sys.stdout.flush()
        exit_now(128 + number)

    # signal.signal, not loop.add_signal_handler: that one waits until the loop is free.
    before = {number: signal.signal(number, receive) for number in signals}
    try:
        yield shutdown
    finally:
        for number, handler in before.items():
            # None: it was not set from Python, and cannot be.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _cut(scope: anyio.CancelScope, grace: float) -> None:
    if grace <= 0:
        scope.cancel()
    elif not math.isinf(grace):
        scope.deadline = min(scope.deadline, _now() + grace)


def _now() -> float:
    """Return the loop's time, in a callback of its own, too, such as a signal's.

    There no task runs, by which sniffio, where it is installed, tells anyio what loop this is.
    """
    try:
        return anyio.current_time()
    except RuntimeError:
        return asyncio.get_running_loop().time()
