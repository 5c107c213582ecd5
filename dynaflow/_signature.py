"""What can be seen of a callable without calling it: its kind, its parameters and their types."""

from __future__ import annotations

import functools
import inspect
import sys
import types
import typing
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from enum import Enum
from typing import Any

from dynaflow.errors import RegistrationError

__all__ = [
    "Kind",
    "annotation_of",
    "handler_name",
    "identity",
    "is_async",
    "kind_of",
    "parameters_of",
    "shown",
    "without_none",
]


class Kind(Enum):
    """What calling a function gives."""

    VALUE = "value"
    COROUTINE = "coroutine"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async generator"

    @property
    def is_async(self) -> bool:
        """True if it needs an event loop."""
        return self in (Kind.COROUTINE, Kind.ASYNC_GENERATOR)


_KINDS: tuple[tuple[Callable[[Any], bool], Kind], ...] = (
    (inspect.iscoroutinefunction, Kind.COROUTINE),
    (inspect.isasyncgenfunction, Kind.ASYNC_GENERATOR),
    (inspect.isgeneratorfunction, Kind.GENERATOR),
)


def _plain() -> Iterator[None]:
    yield


async def _plain_async() -> AsyncIterator[None]:
    yield


# What these decorators return runs one and the same code, whatever they decorate.
_CONTEXT_MANAGERS: dict[Any, str] = {
    getattr(contextmanager(_plain), "__code__", None): "contextmanager",
    getattr(asynccontextmanager(_plain_async), "__code__", None): "asynccontextmanager",
}


def kind_of(function: Any) -> Kind:
    """Return what calling it gives, as far as that can be seen, also beneath a plain wrapper."""
    called = _called(function)
    if inspect.isclass(called):
        return Kind.VALUE
    for candidate in (called, inspect.unwrap(called)):
        for is_kind, kind in _KINDS:
            if is_kind(candidate):
                return kind
    return Kind.VALUE


def is_async(handler: Any) -> bool:
    """Return True if calling the handler makes a coroutine, as far as that can be seen."""
    return kind_of(handler) is Kind.COROUTINE


def identity(function: Any) -> Hashable:
    """Return what is equal for one and the same function; a bound method is made anew each time."""
    if isinstance(function, types.MethodType):
        return id(function.__self__), id(function.__func__)
    if isinstance(function, types.BuiltinMethodType):
        return id(function.__self__), function.__name__
    return id(function)


def handler_name(handler: Any) -> str:
    """Return how error messages name a handler."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    return getattr(handler, "__qualname__", None) or type(handler).__qualname__


def parameters_of(function: Any, *, dependency: bool = False) -> list[inspect.Parameter]:
    """Return the parameters that something can be passed for, by name.

    Args:
        function: a handler, or a dependency.
        dependency: which of them it is; only a dependency may be a class or a generator function.

    Raises:
        RegistrationError: neither of both, or a parameter that cannot be passed by name.
    """
    if dependency:
        _refuse_context_manager(function)
    else:
        _refuse_no_handler(function)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise RegistrationError(
            f"the parameters of {handler_name(function)} cannot be read; wrap it in a function"
        ) from None
    role = "dependencies" if dependency else "handlers"
    for parameter in signature.parameters.values():
        _refuse_nameless(function, parameter, role)
    return list(signature.parameters.values())


def annotation_of(function: Any, parameter: inspect.Parameter) -> Any:
    """Return the annotation of a parameter, evaluated; ``Parameter.empty`` if there is none.

    Raises:
        RegistrationError: it cannot be evaluated.
    """
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return annotation
    holder = types.SimpleNamespace(__annotations__={parameter.name: annotation})
    where = f"'{parameter.name}: {annotation}' of {handler_name(function)}"
    try:
        hints = typing.get_type_hints(holder, _globals_of(function), {}, include_extras=True)
    except NameError as error:
        raise RegistrationError(
            f"{where}: the name {error.name!r} "
            "is not there at run time. Import it outside of `if TYPE_CHECKING:`, and define models "
            "and dependencies at module level."
        ) from None
    except RegistrationError as error:  # of Depends(...)
        raise RegistrationError(f"{where}: {error}") from None
    except Exception as error:
        raise RegistrationError(
            f"{where} cannot be resolved ({type(error).__name__}); write a model, dict or Image"
        ) from error
    hint = hints[parameter.name]
    while type(hint).__name__ == "TypeAliasType":  # type X = ..., of Python 3.12
        hint = hint.__value__
    return hint


def without_none(annotation: Any) -> tuple[Any, bool]:
    """Return the annotation without None, and whether None was part of it."""
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return annotation, False
    members = typing.get_args(annotation)
    rest = tuple(member for member in members if member is not type(None))
    if len(rest) == len(members):
        return annotation, False
    return (rest[0] if len(rest) == 1 else typing.Union[rest]), True  # noqa: UP007 - made at run time


def shown(annotation: Any) -> str:
    """Return an annotation as its author writes it, without the names of modules."""
    origin, members = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return f"Annotated[{', '.join((shown(members[0]), *map(repr, members[1:])))}]"
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(shown, members))
    if origin is typing.Literal:
        return f"Literal[{', '.join(map(repr, members))}]"
    if members:
        name = getattr(annotation, "__name__", None) or getattr(origin, "__name__", str(origin))
        return f"{name}[{', '.join(map(shown, members))}]"
    if isinstance(annotation, list):  # the parameters of a Callable
        return f"[{', '.join(map(shown, annotation))}]"
    if annotation in (..., type(None)):
        return "..." if annotation is ... else "None"
    return getattr(annotation, "__name__", None) or str(annotation).replace("typing.", "")


def _refuse_no_handler(handler: Any) -> None:
    if inspect.isclass(handler) or not callable(handler):
        is_class = inspect.isclass(handler)
        what = f"the class {handler.__name__}" if is_class else type(handler).__name__
        raise RegistrationError(f"a handler is a function or a callable object, got {what}")
    function = _called(handler)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise RegistrationError(
            f"{handler_name(handler)} contains 'yield', so that calling it runs nothing. "
            "A handler is a plain function or an 'async def' without yield."
        )


def _refuse_context_manager(dependency: Any) -> None:
    code = getattr(_called(dependency), "__code__", None)
    if code is not None and code in _CONTEXT_MANAGERS:
        raise RegistrationError(
            f"the dependency {handler_name(dependency)} is decorated with "
            f"@{_CONTEXT_MANAGERS[code]}, so that its value would be a context manager that nobody "
            "enters. Remove the decorator: a function with 'yield' is all that Depends needs."
        )


def _refuse_nameless(function: Any, parameter: inspect.Parameter, role: str) -> None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
        raise RegistrationError(
            f"{handler_name(function)} takes '{stars}{parameter.name}', so what to pass cannot be "
            "told. Name its parameters; if a decorator wraps it, use functools.wraps there."
        )
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise RegistrationError(
            f"parameter '{parameter.name}' of {handler_name(function)} is positional-only, and "
            f"{role} are called with keywords: remove the '/'"
        )


def _called(function: Any) -> Any:
    """Return what runs first when it is called; a class is returned as it is."""
    while isinstance(function, functools.partial):
        function = function.func
    if inspect.isclass(function) or inspect.isroutine(function):
        return function
    return type(function).__call__


def _globals_of(function: Any) -> dict[str, Any]:
    """Return the names that the annotations may use: those where the innermost function is from."""
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        else:
            break
    if inspect.isclass(function):
        made_by = getattr(function.__init__, "__globals__", None)
        return made_by or vars(sys.modules.get(function.__module__, types))
    function = function if inspect.isroutine(function) else type(function).__call__
    names: dict[str, Any] = getattr(function, "__globals__", {})
    return names
