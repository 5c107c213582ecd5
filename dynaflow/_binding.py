"""One parameter of a handler → what reads it from a call's context, worked out once per route.

Kinds and names of parameters are checked at the decorator (``check_signature``); annotations,
which may name things that are defined later, when the App is made (``record_reader``).
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from dynaflow._signature import annotation_of, handler_name, parameters_of, shown, without_none
from dynaflow.context import HandlerContext
from dynaflow.errors import ImageMissing, InvalidImage, RegistrationError, Skip
from dynaflow.params import BATCH, IMAGES, Depends, Scope
from dynaflow.record import EventName, Image, Record

__all__ = [
    "Convert",
    "ReadParameter",
    "Reader",
    "check_signature",
    "context_reader",
    "depends_of",
    "fields_of",
    "image_converter",
    "is_model",
    "model_fields",
    "record_reader",
    "what_is",
]

Reader: TypeAlias = Callable[[HandlerContext], Any]
ReadParameter: TypeAlias = Callable[[Any, inspect.Parameter, Any], Reader | None]
"""Callable, parameter, annotation → what reads it; None for a parameter that keeps its default."""

Convert: TypeAlias = Callable[[Image], Any]

_ABSENT_ON = {"new": EventName.REMOVE, "old": EventName.INSERT}
_PLAIN = (inspect.Parameter.empty, Any, object, Image, Mapping)
_DICTS = (dict, dict[str, Any])


def check_signature(handler: Any, *, takes_many: bool = False) -> None:
    """Check what can be seen of a handler without its annotations.

    Raises:
        RegistrationError: not a callable, or a parameter that nothing could be passed for.
    """
    for parameter in parameters_of(handler):
        if not isinstance(parameter.annotation, str):
            depends_of(handler, parameter, parameter.annotation)
        unnamed = parameter.annotation is parameter.empty and parameter.default is parameter.empty
        if parameter.name not in (BATCH if takes_many else IMAGES) and unnamed:
            raise RegistrationError(what_is(handler, parameter.name))


def model_fields(handler: Callable[..., Any]) -> dict[str, frozenset[str]]:
    """Return the attribute names that a handler's models know, by image, where there is a model."""
    fields = {}
    for parameter in parameters_of(handler):
        if parameter.name in IMAGES:
            inner, _ = without_none(annotation_of(handler, parameter))
            if is_model(inner):
                fields[parameter.name] = fields_of(inner)
    return fields


def is_model(annotation: Any) -> bool:
    """Return True if an image has to be validated to become this."""
    return not _is_plain(annotation) and annotation not in _DICTS


def fields_of(model: Any) -> frozenset[str]:
    """Return the attribute names that a model knows."""
    from dynaflow import _models

    return _models.field_names(model)


def record_reader(
    *, route: str, event_names: frozenset[EventName], skip_invalid: bool
) -> ReadParameter:
    """Return what finds the readers of a route whose calls have one record each.

    Raises:
        RegistrationError: (the returned function) an annotation that is no model, or that leaves
            out None where the image can be absent.
    """

    def reader(function: Any, parameter: inspect.Parameter, annotation: Any) -> Reader | None:
        name = parameter.name
        inner, optional = without_none(annotation)
        if name in IMAGES:
            optional = optional or annotation in (parameter.empty, Any, object)
            if not optional:
                _refuse_absent(function, name, annotation, event_names)
            convert = image_converter(function, name, inner, route, skip_invalid=skip_invalid)
            return _image_reader(name, convert, optional=optional)
        if inner is Record:
            return lambda context: context.record
        return context_reader(function, parameter, annotation)

    return reader


def context_reader(function: Any, parameter: inspect.Parameter, annotation: Any) -> Reader | None:
    """Return what reads a parameter that is not of any record; None for one with a default.

    It finds the readers of a call with many records: dependencies get its HandlerContext.
    """
    if parameter.name in IMAGES or without_none(annotation)[0] is Record:
        raise RegistrationError(
            f"parameter '{parameter.name}' of {handler_name(function)} is of one record, and this "
            "call has many: take 'context: HandlerContext', which has them all"
        )
    if without_none(annotation)[0] is HandlerContext:
        return lambda context: context
    if parameter.default is not parameter.empty:
        return None
    raise RegistrationError(what_is(function, parameter.name, annotation))


def depends_of(function: Any, parameter: inspect.Parameter, annotation: Any) -> Depends | None:
    """Return the Depends of a parameter, if it has one.

    Raises:
        RegistrationError: it is not where it belongs.
    """
    where = f"parameter '{parameter.name}' of {handler_name(function)}"
    write = f"write '{parameter.name}: Annotated[TheType, Depends(...)]'"
    if isinstance(parameter.default, Depends):
        raise RegistrationError(f"{where} has Depends(...) as its default value: {write}")
    if isinstance(annotation, Depends) or annotation is Depends:
        raise RegistrationError(f"{where} has Depends(...) for its type: {write}")
    if typing.get_origin(annotation) is not typing.Annotated:
        if any(_has_depends(member) for member in typing.get_args(annotation)):
            raise RegistrationError(
                f"{where}: Depends(...) is inside of another type. Put Annotated outermost: "
                f"'{parameter.name}: Annotated[TheType | None, Depends(...)]'"
            )
        return None
    found = [extra for extra in annotation.__metadata__ if isinstance(extra, Depends)]
    if Depends in annotation.__metadata__:
        raise RegistrationError(f"{where} has Depends without what to call: write Depends(f)")
    if not found and parameter.name not in (*IMAGES, *BATCH):
        bare = next((extra for extra in annotation.__metadata__ if inspect.isroutine(extra)), None)
        if bare is not None and parameter.default is parameter.empty:
            raise RegistrationError(
                f"{where} has a function in its Annotated: what makes its value is written "
                f"Depends({handler_name(bare)})"
            )
    if len(found) > 1:
        raise RegistrationError(f"{where} has {len(found)} Depends(...): leave one of them")
    if found and parameter.name in (*IMAGES, *BATCH):
        raise RegistrationError(
            f"{where} has Depends(...), and that name stands for what the call is about: "
            "give it another"
        )
    return found[0] if found else None


def _has_depends(annotation: Any) -> bool:
    if typing.get_origin(annotation) is typing.Annotated:
        return any(isinstance(extra, Depends) for extra in annotation.__metadata__)
    return any(map(_has_depends, typing.get_args(annotation)))


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


def image_converter(
    handler: Any, name: str, annotation: Any, route: str, *, skip_invalid: bool
) -> Convert:
    """Return what makes the annotated type from an image.

    Args:
        handler: whose parameter it is.
        name: which image it is.
        annotation: what it becomes.
        route: the route's name.
        skip_invalid: whether an image that the model does not accept raises ``Skip`` from the
            ``InvalidImage``, instead of that itself.

    Raises:
        RegistrationError: an image cannot become that.
    """
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

    convert = _models.converter(annotation, name=name, handler=handler_name(handler), route=route)
    return _skipping(convert) if skip_invalid else convert


def _skipping(convert: Convert) -> Convert:
    def convert_or_skip(image: Image) -> Any:
        try:
            return convert(image)
        except InvalidImage as error:
            raise Skip(str(error)) from error

    return convert_or_skip


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
    kind = shown(annotation)
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


def what_is(function: Any, name: str, annotation: Any = None, *, scope: Scope = "call") -> str:
    """Return the error for a parameter that nothing is known for."""
    bare = annotation in (None, inspect.Parameter.empty)
    text = name if bare else f"{name}: {shown(annotation)}"
    where = f"parameter '{text}' of {handler_name(function)}"
    if name in BATCH:
        return (
            f"{where}: '{name}' is for on_batch(...), whose handlers are called with many changes; "
            "this one is called with a single record"
        )
    if scope == "app":
        return (
            f"{where}: what is it? Annotate it with Annotated[..., Depends(..., scope='app')], or "
            "give it a default."
        )
    return (
        f"{where}: which image is it? Name it 'new', 'old' or 'keys', annotate it with Record, "
        "HandlerContext or Annotated[..., Depends(...)], or give it a default."
    )
