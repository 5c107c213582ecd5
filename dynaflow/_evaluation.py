"""One dependency evaluated, and those of scope "app" opened one after the other."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, NoReturn, TypeAlias

from dynaflow._dependencies import Dependency, Key, Parameters
from dynaflow._generators import Ending, Opened, close, close_all, close_async, start, start_async
from dynaflow._signature import Kind
from dynaflow.context import HandlerContext
from dynaflow.errors import DynaflowError

__all__ = ["Values", "evaluate", "evaluate_async", "needed", "open_here", "open_on_loop"]

_UNFINISHED = (CoroutineType, GeneratorType, AsyncGeneratorType)

Values: TypeAlias = dict[Key, Any]


def needed(parameters: Parameters, values: Values) -> dict[str, Any]:
    """Return the keyword arguments that come from dependencies."""
    return {name: values[key] for name, key in parameters.needs}


def evaluate(
    dependency: Dependency, context: HandlerContext | None, values: Values, opened: list[Opened]
) -> None:
    """Evaluate a sync dependency.

    Args:
        dependency: what is called.
        context: the call's; None for scope "app".
        values: what it needs is in there, and its own value is put there.
        opened: it is put there if it has a clean-up.
    """
    result = _called(dependency, context, values)
    if dependency.kind is Kind.GENERATOR and hasattr(result, "throw"):
        value = start(result, dependency.name)
        opened.append(Opened(result, dependency.name))
    else:
        if isinstance(result, _UNFINISHED):
            _refuse_unfinished(result, dependency.name)
        value = result
    values[dependency.key] = value


async def evaluate_async(
    dependency: Dependency, context: HandlerContext | None, values: Values, opened: list[Opened]
) -> None:
    """Evaluate an async dependency; see ``evaluate``."""
    value = _called(dependency, context, values)
    if dependency.kind is Kind.ASYNC_GENERATOR and hasattr(value, "athrow"):
        generator = value
        value = await start_async(generator, dependency.name)
        opened.append(Opened(generator, dependency.name, is_async=True))
    elif dependency.kind is Kind.COROUTINE and inspect.isawaitable(value):
        value = await value
    values[dependency.key] = value


@contextmanager
def open_here(dependencies: Iterable[Dependency]) -> Iterator[Values]:
    """Open dependencies of scope "app", all of them sync, and close them in reverse order.

    Raises:
        Exception: of an opening, once those before it are closed; or of a clean-up.
    """
    values: Values = {}
    opened: list[Opened] = []
    try:
        for dependency in dependencies:
            evaluate(dependency, None, values, opened)
        yield values
    except BaseException as error:
        close_all(opened, error, may_swallow=False)
    else:
        close_all(opened, None, may_swallow=False)


@asynccontextmanager
async def open_on_loop(dependencies: Iterable[Dependency]) -> AsyncIterator[Values]:
    """Open dependencies of scope "app" on the current event loop; see ``open_here``."""
    values: Values = {}
    opened: list[Opened] = []
    try:
        for dependency in dependencies:
            if dependency.kind.is_async:
                await evaluate_async(dependency, None, values, opened)
            else:
                evaluate(dependency, None, values, opened)
        yield values
    except BaseException as error:
        await _close_all(opened, error)
    else:
        await _close_all(opened, None)


async def _close_all(opened: list[Opened], error: BaseException | None) -> None:
    ending = Ending(error, may_swallow=False)
    while opened:
        last = opened.pop()
        if last.is_async:
            await close_async(last, ending)
        else:
            close(last, ending)
    ending.settle()


def _called(dependency: Dependency, context: HandlerContext | None, values: Values) -> Any:
    arguments = needed(dependency.parameters, values)
    if context is not None:
        for name, read in dependency.parameters.readers:
            arguments[name] = read(context)
    return dependency.function(**arguments)


def _refuse_unfinished(value: Any, name: str) -> NoReturn:
    if inspect.iscoroutine(value):
        value.close()
        raise DynaflowError(
            f"the dependency {name} is a plain function and returned a coroutine, which nobody "
            "awaits: make it an 'async def' that awaits it and returns what comes of it"
        )
    raise DynaflowError(
        f"the dependency {name} is a plain function and returned a generator, whose code nobody "
        "runs: name the generator function itself, or write 'yield from'. If values are meant, "
        "return a list of them"
    )
