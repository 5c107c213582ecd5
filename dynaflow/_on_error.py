"""What a router makes of the exceptions of its handlers: ``@router.on_error(KeyError)``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import iscoroutine
from typing import Any

from dynaflow._signature import handler_name, is_async
from dynaflow.context import HandlerContext
from dynaflow.errors import DynaflowError, RegistrationError

__all__ = ["ErrorMap", "checked_error_types", "judged"]

Judge = Callable[..., Any]


class ErrorMap:
    """Which function is asked about which exception."""

    def __init__(self) -> None:
        self._judges: dict[type[BaseException], tuple[Judge, bool]] = {}

    def add(self, kinds: Sequence[type[Exception]], judge: Judge, *, wants_context: bool) -> None:
        """Ask a function about exceptions of these types, and of their subclasses.

        Raises:
            RegistrationError: it cannot be called so, or another is asked about such a type.
        """
        if is_async(judge):
            raise RegistrationError(
                f"{handler_name(judge)} is async, and on_error takes a plain function: it only "
                "says what an exception means, so it has nothing to wait for"
            )
        for kind in kinds:
            if kind in self._judges:
                raise RegistrationError(
                    f"on_error({kind.__name__}) is there already in this router: "
                    f"{handler_name(self._judges[kind][0])}. Make one function of the two"
                )
            self._judges[kind] = (judge, wants_context)

    def find(self, error: BaseException) -> tuple[Judge, bool] | None:
        """Return who is asked about an error: whose type is nearest to the error's own.

        What dynaflow itself raises, and what handlers raise of it, means something already: only a
        function for such a type is asked about it, not one for ``Exception``.
        """
        for kind in type(error).__mro__:
            if isinstance(error, DynaflowError) and not issubclass(kind, DynaflowError):
                return None
            if kind in self._judges:
                return self._judges[kind]
        return None


def judged(
    maps: Sequence[ErrorMap], error: BaseException, context: HandlerContext
) -> BaseException:
    """Return what counts as a call's error: what a router's function made of it, or itself.

    Args:
        maps: those of the route's routers, the nearest first; the first that knows the error's
            type, or one above it, is asked.
        error: what the handler raised.
        context: of the call.
    """
    for errors in maps:
        found = errors.find(error)
        if found is not None:
            return _ask(*found, error, context)
    return error


def checked_error_types(kinds: Sequence[Any]) -> tuple[type[Exception], ...]:
    """Return the exception classes that ``on_error`` is given."""
    if not kinds:
        raise RegistrationError("on_error() names no exception: write on_error(KeyError)")
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, Exception)):
            raise RegistrationError(
                f"on_error(...) takes exception classes such as KeyError, got {kind!r}"
            )
    return tuple(kinds)


def _ask(
    judge: Judge, wants_context: bool, error: BaseException, context: HandlerContext
) -> BaseException:
    try:
        answer: Any = judge(error, context) if wants_context else judge(error)
    except BaseException as raised:  # a SystemExit is the record's failure, as in a handler
        answer = raised
    if answer is None:
        return error
    if iscoroutine(answer):
        answer.close()
    if isinstance(answer, type) and issubclass(answer, BaseException):
        answer = answer()
    if not isinstance(answer, BaseException):
        answer = TypeError(
            f"{handler_name(judge)} is asked what an exception means and returned a "
            f"{type(answer).__name__}: raise or return NonRetryable, Skip or RetryAfter, or return "
            "nothing to leave it as it is"
        )
    if answer is not error and answer.__cause__ is None:
        answer.__cause__ = error
    meaning: BaseException = answer
    return meaning
