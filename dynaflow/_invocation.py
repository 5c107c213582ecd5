"""One call of a handler: its dependencies first, then itself, then their clean-up.

A call runs *here*, on the thread that asks for it, if nothing of it is async. Otherwise it runs on
the event loop, and each of its sync parts in a worker thread, because it may block.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any

from dynaflow._attempt import Attempt, InThread
from dynaflow._binding import Reader, ReadParameter
from dynaflow._dependencies import AppValues, Needs, Overrides, find_dependencies
from dynaflow._evaluation import Values, evaluate, needed
from dynaflow._generators import Opened, close_all
from dynaflow._signature import is_async
from dynaflow.middleware import Call

__all__ = ["HandlerCall", "build_call"]


class HandlerCall:
    """Calls a handler with everything that its parameters ask for.

    Args:
        handler: the user's callable.
        needs: what calling it takes.
        in_thread: runs the sync parts of a call that has async ones.

    ``is_sync`` is True if ``here`` will do: neither the handler nor a dependency is async. ``here``
    calls the handler on the calling thread, and may return something to be awaited.
    """

    __slots__ = (
        "_handler",
        "_in_thread",
        "_is_async",
        "_readers",
        "_stages",
        "here",
        "is_sync",
        "needs",
    )

    def __init__(self, handler: Callable[..., Any], needs: Needs, in_thread: InThread) -> None:
        self._handler = handler
        self._in_thread = in_thread
        self._is_async = is_async(handler)
        self._readers = needs.parameters.readers
        # Sync dependencies that follow each other share one way into a thread and back.
        stages = groupby(needs.steps, lambda step: step.kind.is_async)
        self._stages = tuple(tuple(steps) for _, steps in stages)
        self.needs = needs
        self.is_sync = not (self._is_async or any(step.kind.is_async for step in needs.steps))
        self.here: Callable[[Call], Any] = self._with_steps if needs.steps else self._plainly

    async def on_loop(self, call: Call) -> None:
        """Call the handler on the current event loop, and await what it returns."""
        if self.is_sync:
            result = await self._in_thread(call, lambda: self.here(call))
        elif self._stages:
            return await self._in_attempt(call)
        else:
            result = self.here(call)
        if inspect.isawaitable(result):
            await result
        return None

    def _plainly(self, call: Call) -> Any:
        return self._handler(**self._read(call))

    def _read(self, call: Call) -> dict[str, Any]:
        context = call.context
        return {name: read(context) for name, read in self._readers}

    def _with_steps(self, call: Call) -> Any:
        """Call a sync handler with sync dependencies."""
        arguments = self._read(call)  # first: an image that is not valid opens nothing
        values: Values = {}
        opened: list[Opened] = []
        reached = False
        try:
            for step in self.needs.steps:
                evaluate(step, call.context, values, opened)
            arguments.update(needed(self.needs.parameters, values))
            reached = True
            result = self._handler(**arguments)
            if opened and inspect.isawaitable(result):
                opened, left_open = [], opened
                return self._awaited(call, result, left_open)
        except BaseException as error:
            return close_all(opened, error, may_swallow=reached)
        close_all(opened, None, may_swallow=True)
        return result

    async def _awaited(self, call: Call, result: Any, opened: list[Opened]) -> None:
        """Await what a sync handler returned, and only then close its dependencies."""
        attempt = Attempt(call, self._in_thread, opened)
        try:
            await result
        except BaseException as error:
            await attempt.close(error, may_swallow=True)
        else:
            await attempt.close(None, may_swallow=True)

    async def _in_attempt(self, call: Call) -> None:
        """Call a handler of which something is async, or of whose dependencies."""
        arguments = self._read(call)
        values: Values = {}
        attempt = Attempt(call, self._in_thread)
        reached = False
        try:
            for steps in self._stages:
                await attempt.evaluate(steps, values)
            arguments.update(needed(self.needs.parameters, values))
            reached = True
            if self._is_async:
                result = self._handler(**arguments)
            else:
                result = await attempt.call_there(lambda: self._handler(**arguments))
            if inspect.isawaitable(result):
                await result
        except BaseException as error:
            await attempt.close(error, may_swallow=reached)
        else:
            await attempt.close(None, may_swallow=True)


def build_call(
    handler: Callable[..., Any],
    *,
    read: ReadParameter,
    in_thread: InThread,
    app_values: AppValues,
    own: Mapping[str, Reader] | None = None,
    overrides: Overrides | None = None,
) -> HandlerCall:
    """Return what calls a handler; built once per route.

    Args:
        handler: the user's callable.
        read: finds readers of parameters: ``record_reader`` for a call with one record,
            ``context_reader`` for one with many.
        in_thread: runs the sync parts of a call that has async ones.
        app_values: where values of scope "app" are read.
        own: readers of the handler's parameters of these names, whatever their annotations.
        overrides: what to call instead of some dependencies.

    Raises:
        RegistrationError: a parameter that nothing can be passed for, here or in a dependency.
    """
    needs = find_dependencies(
        handler, read=read, own=own or {}, values=app_values, overrides=overrides or {}
    )
    return HandlerCall(handler, needs, in_thread)
