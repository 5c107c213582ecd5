"""A handler's signature → a Binder, built once per route and never looked at per record.

Kinds and names of parameters are checked at the decorator (``check_signature``); annotations,
which may name things that are defined later, when the App is made (``build_binder``).
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from dynaflow.context import HandlerContext
from dynaflow.errors import ImageMissing, RegistrationError
from dynaflow.record import EventName, Image, Record

__all__ = ["Binder", "build_binder", "check_signature", "handler_name", "is_async", "model_fields"]

Binder: TypeAlias = Callable[[HandlerContext], dict[str, Any]]
Convert: TypeAlias = Callable[[Image], Any]

_IMAGES = ("new", "old", "keys")
_ABSENT_ON = {"new": EventName.REMOVE, "old": EventName.INSERT}
_PLAIN = (inspect.Parameter.empty, Any, object, Image, Mapping)
_DICTS = (dict, dict[str, Any])


def check_signature(handler: Any, *, takes_many: bool = False) -> None:
    """Check what can be seen of a handler without its annotations.

    Raises:
        RegistrationError: not a callable, or a parameter that nothing could be passed for.
    """
    for parameter in _parameters(handler):
        unnamed = parameter.annotation is parameter.empty and parameter.default is parameter.empty
        if parameter.name not in (("changes", "records") if takes_many else _IMAGES) and unnamed:
            raise RegistrationError(_what_is(handler, parameter.name))


def build_binder(
    handler: Callable[..., Any], *, route: str, event_names: frozenset[EventName]
) -> Binder:
    """Return the function that makes a handler's keyword arguments from a call's context.

    Raises:
        RegistrationError: an annotation that does not resolve, that is no model, or that leaves out
            None where the image can be absent.
    """
    readers: list[tuple[str, Callable[[HandlerContext], Any]]] = []
    for parameter in _parameters(handler):
        annotation = _annotation(handler, parameter)
        reader = _reader(handler, parameter, annotation, route, event_names)
        if reader is not None:
            readers.append((parameter.name, reader))

    def bind(context: HandlerContext) -> dict[str, Any]:
        return {name: read(context) for name, read in readers}

    return bind


def model_fields(handler: Callable[..., Any]) -> dict[str, frozenset[str]]:
    """Return the attribute names that a handler's models know, by image, where there is a model."""
    fields = {}
    for parameter in _parameters(handler):
        if parameter.name in _IMAGES:
            inner, _ = _without_none(_annotation(handler, parameter))
            if not _is_plain(inner) and inner not in _DICTS:
                from dynaflow import _models

                fields[parameter.name] = _models.field_names(inner)
    return fields


def is_async(handler: Any) -> bool:
    """Return True if calling the handler makes a coroutine, as far as that can be seen."""
    function = _called(handler)
    return any(map(inspect.iscoroutinefunction, (function, inspect.unwrap(function))))


def handler_name(handler: Any) -> str:
    """Return how error messages name a handler."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    return getattr(handler, "__qualname__", None) or type(handler).__qualname__


def _parameters(handler: Any) -> list[inspect.Parameter]:
    """Return the parameters that something can be passed for, by name."""
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
    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):
        raise RegistrationError(
            f"the parameters of {handler_name(handler)} cannot be read; wrap it in a function"
        ) from None
    for parameter in signature.parameters.values():
        _refuse_nameless(handler, parameter)
    return list(signature.parameters.values())


def _refuse_nameless(handler: Any, parameter: inspect.Parameter) -> None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
        raise RegistrationError(
            f"{handler_name(handler)} takes '{stars}{parameter.name}', so what to pass cannot be "
            "told. Name its parameters; if a decorator wraps it, use functools.wraps there."
        )
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise RegistrationError(
            f"parameter '{parameter.name}' of {handler_name(handler)} is positional-only, and "
            "handlers are called with keywords: remove the '/'"
        )


def _annotation(handler: Any, parameter: inspect.Parameter) -> Any:
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return annotation
    function = _innermost(handler)
    holder = types.SimpleNamespace(__annotations__={parameter.name: annotation})
    try:
        hints = typing.get_type_hints(
            holder, getattr(function, "__globals__", {}), {}, include_extras=True
        )
    except NameError as error:
        raise RegistrationError(
            f"'{parameter.name}: {annotation}' of {handler_name(handler)}: the name {error.name!r} "
            "is not there at run time. Import it outside of `if TYPE_CHECKING:`, and define models "
            "at module level."
        ) from None
    except Exception as error:
        raise RegistrationError(
            f"'{parameter.name}: {annotation}' of {handler_name(handler)} cannot be resolved "
            f"({type(error).__name__}); write a model, dict or Image"
        ) from error
    return hints[parameter.name]


def _called(handler: Any) -> Any:
    """Return the function that runs first when the handler is called."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    return handler if inspect.isroutine(handler) else type(handler).__call__


def _innermost(handler: Any) -> Any:
    """Return the function that the annotations are from, beneath all decorators."""
    while True:
        if isinstance(handler, functools.partial):
            handler = handler.func
        elif hasattr(handler, "__wrapped__"):
            handler = handler.__wrapped__
        else:
            return handler if inspect.isroutine(handler) else type(handler).__call__


def _reader(
    handler: Any,
    parameter: inspect.Parameter,
    annotation: Any,
    route: str,
    event_names: frozenset[EventName],
) -> Callable[[HandlerContext], Any] | None:
    """Return what reads one parameter from a context; None for one that keeps its default."""
    name = parameter.name
    inner, optional = _without_none(annotation)
    if inner is Record and name not in _IMAGES:
        return lambda context: context.record
    if inner is HandlerContext and name not in _IMAGES:
        return lambda context: context
    if name in _IMAGES:
        optional = optional or annotation in (parameter.empty, Any, object)
        if not optional:
            _refuse_absent(handler, name, annotation, event_names)
        convert = _converter(handler, name, inner, route)
        return _image_reader(name, convert, optional=optional)
    if parameter.default is not parameter.empty:
        return None
    raise RegistrationError(_what_is(handler, name, annotation))


def _image_reader(
    name: str, convert: Convert, *, optional: bool
) -> Callable[[HandlerContext], Any]:
    def read(context: HandlerContext) -> Any:
        image: Image | None = getattr(context.record, name)
        if image is not None:
            return convert(image)
        if optional:
            return None
        record = context.record
        raise ImageMissing(
            f"{context.route} needs the {name} image, and this {record.event_name} record has "
            f"none: the stream's view type is {record.view_type or 'not given'}. Enable the stream "
            f"with NEW_AND_OLD_IMAGES, or write '{name}: ... | None'."
        )

    return read


def _converter(handler: Any, name: str, annotation: Any, route: str) -> Convert:
    if _is_plain(annotation):
        return _itself
    if annotation in _DICTS:
        return Image.to_dict
    if annotation in (Record, HandlerContext):
        raise RegistrationError(
            f"parameter '{name}' of {handler_name(handler)} is an image, and a "
            f"{annotation.__name__} is none: call it "
            f"'{'record' if annotation is Record else 'context'}'"
        )
    from dynaflow import _models

    return _models.converter(annotation, name=name, handler=handler_name(handler), route=route)


def _itself(image: Image) -> Image:
    return image


def _is_plain(annotation: Any) -> bool:
    """Return True if the image is passed as it is: without an annotation, as Image, as Mapping."""
    return annotation in _PLAIN or typing.get_origin(annotation) is Mapping


def _refuse_absent(
    handler: Any, name: str, annotation: Any, event_names: frozenset[EventName]
) -> None:
    absent = _ABSENT_ON.get(name)
    if absent not in event_names:
        return
    kind = _shown(annotation)
    other = "old" if name == "new" else "new"
    remedy = f"write '{name}: {kind} | None'"
    if event_names == {absent}:
        remedy = f"take '{other}: {kind}' instead"
    raise RegistrationError(
        f"parameter '{name}: {kind}' of {handler_name(handler)}: {_an(absent)} record has no "
        f"{name} image; {remedy}"
    )


def _an(event_name: EventName | None) -> str:
    return f"an {event_name}" if event_name is EventName.INSERT else f"a {event_name}"


def _without_none(annotation: Any) -> tuple[Any, bool]:
    """Return the annotation without None, and whether None was part of it."""
    if typing.get_origin(annotation) not in (typing.Union, types.UnionType):
        return annotation, False
    members = typing.get_args(annotation)
    rest = tuple(member for member in members if member is not type(None))
    if len(rest) == len(members):
        return annotation, False
    return (rest[0] if len(rest) == 1 else typing.Union[rest]), True  # noqa: UP007 - made at run time


def _what_is(handler: Any, name: str, annotation: Any = None) -> str:
    shown = name if annotation is None else f"{name}: {_shown(annotation)}"
    return (
        f"parameter '{shown}' of {handler_name(handler)}: which image is it? Name it 'new', 'old' "
        "or 'keys', annotate it with Record or HandlerContext, or give it a default."
    )


def _shown(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation)
