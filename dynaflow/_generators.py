"""Generators with one yield: what they yield is a value, what stands behind it is its clean-up.

The rules are those of ``contextlib.contextmanager``: an error of what ran in between is raised at
the yield, and the generator may let it pass, raise another, or swallow it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from typing import Any, NoReturn

from dynaflow.change import PartialFailure
from dynaflow.errors import DynaflowError, Skip

__all__ = ["Ending", "Opened", "close", "close_all", "close_async", "start", "start_async"]


@dataclass(frozen=True, slots=True)
class Opened:
    """A generator that stands at its yield.

    Args:
        generator: sync or async.
        name: what it is called in errors.
        is_async: which of them it is.
    """

    generator: Any
    name: str
    is_async: bool = False


class Ending:
    """What is left of an error while generators are closed, one after the other.

    Args:
        error: with which their use ended; None if it went well.
        may_swallow: whether a generator may make a success of it. Of what is no ``Exception``, such
            as a cancellation, none ever may.

    What may not be swallowed may not become a ``Skip`` or a ``PartialFailure`` either: these say of
    records that they are done.
    """

    def __init__(self, error: BaseException | None, *, may_swallow: bool) -> None:
        if isinstance(error, PartialFailure) and not may_swallow:
            error = _refused_part(error)
        self.error = error
        self._may_swallow = may_swallow
        self._kept = None if isinstance(error, Exception) and may_swallow else error

    def swallow(self) -> None:
        """Note that a generator swallowed the error."""
        self.error = self._kept

    def replace(self, error: BaseException) -> None:
        """Note that a generator raised another error."""
        self.error = error
        if self._kept is None and not (self._may_swallow and isinstance(error, Exception)):
            self._kept = error

    def settle(self) -> None:
        """Raise what is left."""
        if self._kept is not None and isinstance(self.error, (Skip, PartialFailure)):
            raise self._kept
        if self.error is not None:
            raise self.error


def start(generator: Generator[Any, None, Any], name: str) -> Any:
    """Run a generator to its yield and return what it yields."""
    try:
        return next(generator)
    except StopIteration:
        _refuse_without_yield(name)


async def start_async(generator: AsyncGenerator[Any, None], name: str) -> Any:
    """Run an async generator to its yield and return what it yields."""
    try:
        return await anext(generator)
    except StopAsyncIteration:
        _refuse_without_yield(name)


def close(opened: Opened, ending: Ending) -> None:
    """Run the clean-up of a sync generator, and enter what it did to the error."""
    generator, error = opened.generator, ending.error
    try:
        if error is None:
            next(generator)
        else:
            traceback = error.__traceback__
            generator.throw(error)
    except StopIteration as stop:
        if error is not None and stop is not error:
            ending.swallow()
        return
    except BaseException as raised:
        if error is None or not _is_same(raised, error, StopIteration):
            ending.replace(raised)
        else:
            error.__traceback__ = traceback
        return
    try:
        generator.close()
        ending.replace(_yields_again(opened.name))
    except BaseException as raised:
        ending.replace(raised)


async def close_async(opened: Opened, ending: Ending) -> None:
    """Run the clean-up of an async generator, and enter what it did to the error."""
    generator, error = opened.generator, ending.error
    try:
        if error is None:
            await anext(generator)
        else:
            traceback = error.__traceback__
            await generator.athrow(error)
    except StopAsyncIteration as stop:
        if error is not None and stop is not error:
            ending.swallow()
        return
    except BaseException as raised:
        if error is None or not _is_same(raised, error, StopAsyncIteration):
            ending.replace(raised)
        else:
            error.__traceback__ = traceback
        return
    try:
        await generator.aclose()
        ending.replace(_yields_again(opened.name))
    except BaseException as raised:
        ending.replace(raised)


def close_all(opened: list[Opened], error: BaseException | None, *, may_swallow: bool) -> None:
    """Close sync generators, the last one first; raise what is left of the error."""
    ending = Ending(error, may_swallow=may_swallow)
    while opened:
        close(opened.pop(), ending)
    ending.settle()


def _is_same(
    raised: BaseException, error: BaseException, stop: type[StopIteration | StopAsyncIteration]
) -> bool:
    """Return True if a generator let the error pass; Python changes an error that ends one."""
    return raised is error or (
        isinstance(error, stop) and isinstance(raised, RuntimeError) and raised.__cause__ is error
    )


def _refused_part(error: PartialFailure) -> DynaflowError:
    refused = DynaflowError(
        "a dependency raised PartialFailure before the handler was called, so nothing of the call "
        "is done: raise it in the handler, or behind the yield"
    )
    refused.__cause__ = error
    return refused


def _refuse_without_yield(name: str) -> NoReturn:
    raise DynaflowError(
        f"the dependency {name} ended without a yield, so it has no value: every way through it "
        "yields once, or raises"
    ) from None


def _yields_again(name: str) -> DynaflowError:
    return DynaflowError(
        f"the dependency {name} yields more than once: what it yields first is its value, and "
        "what stands behind is its clean-up"
    )
