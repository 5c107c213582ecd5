"""One attempt of a call on the event loop: sync parts in worker threads, async ones here.

What a worker thread still does when the call is cancelled cannot be stopped. The generators that it
uses are then closed in that thread, once it is through.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Mapping
from enum import Enum
from functools import partial
from typing import Any, Protocol

from dynaflow._dependencies import Dependency
from dynaflow._evaluation import Values, evaluate, evaluate_async
from dynaflow._generators import Ending, Opened, close, close_all, close_async
from dynaflow.middleware import Call
from dynaflow.observe import logger

__all__ = ["Attempt", "Errand", "InThread"]

_MISSING = object()
_Tokens = dict[contextvars.ContextVar[Any], contextvars.Token[Any]]


class InThread(Protocol):
    """Calls a function in a worker thread on behalf of a call, and returns what it returned.

    With ``shield`` it is called, and waited for, even where the call has been cancelled.
    """

    async def __call__(
        self, call: Call, function: Callable[[], Any], *, shield: bool = False
    ) -> Any:
        """Call the function."""
        ...


class Attempt:
    """Opens dependencies on behalf of a call, and closes them.

    All sync parts of an attempt see the same context variables; what they set, the async parts see,
    and the other way round.

    Args:
        call: the call.
        in_thread: where sync parts run.
        opened: generators that are open already.
    """

    def __init__(self, call: Call, in_thread: InThread, opened: list[Opened] | None = None) -> None:
        self._call = call
        self._in_thread = in_thread
        self._opened = [] if opened is None else opened
        self._there = contextvars.copy_context()
        self._set_here: _Tokens = {}
        self._set_there: _Tokens = {}

    async def evaluate(self, steps: tuple[Dependency, ...], values: Values) -> None:
        """Evaluate dependencies in order, all of them async or all of them sync."""
        context = self._call.context
        if not steps[0].kind.is_async:

            def evaluate_all(opened: list[Opened]) -> None:
                for step in steps:
                    evaluate(step, context, values, opened)

            await self._run_there(evaluate_all)
            return
        for step in steps:
            await evaluate_async(step, context, values, self._opened)

    async def call_there(self, function: Callable[[], Any]) -> Any:
        """Call a sync handler in a worker thread."""
        return await self._run_there(lambda _: function())

    async def close(self, error: BaseException | None, *, may_swallow: bool) -> None:
        """Close what is open, in reverse order; raise what is left of the error."""
        ending = Ending(error, may_swallow=may_swallow)
        while self._opened:
            if self._opened[-1].is_async:
                await close_async(self._opened.pop(), ending)
                continue
            several = []
            while self._opened and not self._opened[-1].is_async:
                several.append(self._opened.pop())
            await self._close_there(several, ending)
        for variable, token in self._set_here.items():
            variable.reset(token)
        ending.settle()

    async def _run_there(self, function: Callable[[list[Opened]], Any]) -> Any:
        opened: list[Opened] = []
        errand = Errand(self._in_context(partial(function, opened)))
        try:
            result = await self._in_thread(self._call, errand.run)
        except BaseException as error:
            in_use = [other for other in self._opened if not other.is_async]
            if errand.leave(partial(self._close_left, in_use, opened, error)):
                self._opened = [other for other in self._opened if other.is_async]
            else:
                self._opened += opened
            raise
        self._opened += opened
        _carry(self._there, self._set_here)
        return result

    async def _close_there(self, several: list[Opened], ending: Ending) -> None:
        def close_several() -> None:
            for opened in several:
                close(opened, ending)

        try:
            await self._in_thread(self._call, self._in_context(close_several), shield=True)
        except BaseException as error:
            ending.replace(error)
        else:
            _carry(self._there, self._set_here)

    def _in_context(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """Return the function to be run with the context variables that are set at present."""
        here = contextvars.copy_context()

        def run() -> Any:
            _carry(here, self._set_there)
            return function()

        return partial(self._there.run, run)

    def _close_left(self, in_use: list[Opened], opened: list[Opened], error: BaseException) -> None:
        """Close generators in the thread that has used them, when nobody waits for it any more."""
        try:
            self._there.run(partial(close_all, in_use + opened, error, may_swallow=False))
        except BaseException as raised:
            if raised is not error:
                logger.error(
                    "%s was cut off, and then its clean-up failed",
                    self._call.context.route,
                    exc_info=raised,
                )


class _State(Enum):
    WAITING = 0
    REVOKED = 1
    RUNNING = 2
    ENDED = 3


class Errand:
    """A function that a thread runs while somebody waits, perhaps not until its end.

    Args:
        function: what to run.
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._state = _State.WAITING
        self._afterwards: Callable[[], object] | None = None

    def run(self) -> Any:
        """Run the function, unless nobody waits for it; for the thread."""
        with self._lock:
            if self._state is _State.REVOKED:
                return None
            self._state = _State.RUNNING
        try:
            return self._function()
        finally:
            with self._lock:
                self._state = _State.ENDED
            if self._afterwards is not None:
                self._afterwards()

    def leave(self, afterwards: Callable[[], object]) -> bool:
        """Stop waiting; return True if the function runs, and ``afterwards`` will run behind it."""
        with self._lock:
            if self._state is _State.WAITING:
                self._state = _State.REVOKED
            if self._state is not _State.RUNNING:
                return False
            self._afterwards = afterwards
            return True


def _carry(source: Mapping[contextvars.ContextVar[Any], Any], tokens: _Tokens) -> None:
    """Set context variables as they are in another context; ``tokens`` undo it."""
    for variable, value in source.items():
        if variable.get(_MISSING) is not value:
            tokens.setdefault(variable, variable.set(value))
    for variable in [variable for variable in tokens if variable not in source]:
        variable.reset(tokens.pop(variable))
