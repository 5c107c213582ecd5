"""The end of a call on an event loop: what it raised, and whose cancellation that was."""

from __future__ import annotations

import math
from collections.abc import Awaitable
from typing import Any, Protocol, TypeVar

import anyio
from anyio.lowlevel import checkpoint

from dynaflow.engine.work import Work

__all__ = ["Finisher", "absorb_stray_cancellation"]

_T = TypeVar("_T")
R_contra = TypeVar("R_contra", contravariant=True)


class Ends(Protocol[R_contra]):
    """Where it is entered how a call of a lane, or of a batch route, ended."""

    def succeeded(self, running: R_contra, /) -> object:
        """Enter that it is done."""
        ...

    def failed(self, running: R_contra, error: BaseException, /) -> object:
        """Enter that it failed."""
        ...

    def cut_off(self, running: R_contra, /) -> object:
        """Enter that the engine has cancelled it."""
        ...


class Finisher:
    """Awaits the calls of one batch.

    Args:
        work: the batch.
        scope: around all of its calls.
    """

    def __init__(self, work: Work, scope: anyio.CancelScope) -> None:
        self._work = work
        self._scope = scope

    async def finish(self, process: Awaitable[object], desk: Ends[_T], running: _T) -> None:
        """Await a call, and enter what became of it."""
        try:
            await process
        except BaseException as error:  # a handler's SystemExit is its record's failure, no more
            if _is_engines_own(error):
                desk.cut_off(running)
                raise
            desk.failed(running, error)
            self.heed_interrupt()
            if _is_cancelled():  # and the handler made another error of it
                await checkpoint()
        else:
            desk.succeeded(running)

    def heed_interrupt(self) -> None:
        """Cut off what runs if a handler's KeyboardInterrupt is to end the batch."""
        if isinstance(self._work.fatal, KeyboardInterrupt):
            self._scope.cancel()


async def absorb_stray_cancellation(task: Any) -> None:
    """Take back a cancellation that a handler asked for itself, so that the next is not hit."""
    while task.cancelling() and not _is_cancelled():
        try:
            await checkpoint()
        except anyio.get_cancelled_exc_class():
            if _is_cancelled():
                raise
        task.uncancel()


def _is_engines_own(error: BaseException) -> bool:
    return isinstance(error, anyio.get_cancelled_exc_class()) and _is_cancelled()


def _is_cancelled() -> bool:
    """Return True if a scope around the current task is cancelled, not just the task itself."""
    return anyio.current_effective_deadline() == -math.inf
