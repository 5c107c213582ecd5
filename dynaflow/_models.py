"""Image → pydantic model, dataclass or TypedDict. Imported only when a route uses one.

pydantic validates in its lax mode, so that a model chooses int, float or Decimal for a number and
list or set for a set. Errors name field path and type; they never quote the value.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from dynaflow.errors import InvalidImage, RegistrationError
from dynaflow.record import Image

__all__ = ["converter", "field_names"]


def converter(annotation: Any, *, name: str, handler: str, route: str) -> Callable[[Image], Any]:
    """Return the function that makes the annotated type from an image.

    Args:
        annotation: a pydantic model, dataclass, TypedDict, or a union of them.
        name: which parameter it is for.
        handler: the handler's name, for errors at registration.
        route: the route's name, for errors at run time.

    Raises:
        RegistrationError: not a type that an image can become.
    """
    for member in _members(annotation):
        if not _is_model(member):
            raise RegistrationError(
                f"parameter '{name}' of {handler}: an image cannot become "
                f"{getattr(member, '__name__', member)}; take a pydantic model, a dataclass, dict "
                "or Image"
            )
    validate = _adapter(annotation, f"parameter '{name}' of {handler}").validate_python

    def convert(image: Image) -> Any:
        values = image.to_dict()
        try:
            return validate(values)
        except ValidationError as error:
            # Its own text quotes values, and a chained traceback would show them.
            raise InvalidImage(_described(error, name=name, route=route)) from None

    return convert


def _adapter(annotation: Any, where: str) -> TypeAdapter[Any]:
    unfinished = RegistrationError(
        f"{where}: its model refers to a type that is not there. Define that one at module level, "
        "before App(...) is called."
    )
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    except NameError:  # before pydantic 2.10
        raise unfinished from None
    except (PydanticUserError, TypeError) as error:
        text = str(error).splitlines()[0]  # the other lines are a link
        raise RegistrationError(f"{where}: pydantic cannot use its type: {text}") from None
    try:
        adapter.core_schema["type"]
    except PydanticUserError:  # else it would come with the first record
        raise unfinished from None
    return adapter


def field_names(annotation: Any) -> frozenset[str]:
    """Return the attribute names that a model reads; empty if it takes names beyond its fields."""
    names: set[str] = set()
    for member in _members(annotation):
        if isinstance(member, type) and issubclass(member, BaseModel):
            if member.model_config.get("extra") == "allow":
                return frozenset()
            for field, info in member.model_fields.items():
                aliases = (info.validation_alias, info.alias)
                names |= {field, *(alias for alias in aliases if isinstance(alias, str))}
        elif dataclasses.is_dataclass(member):
            names |= {field.name for field in dataclasses.fields(member)}
        else:
            names |= set(getattr(member, "__annotations__", {}))
    return frozenset(names)


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return the types that a union, an Annotated or a plain annotation consists of."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return tuple(inner for member in typing.get_args(annotation) for inner in _members(member))
    return (annotation,)


def _is_model(member: Any) -> bool:
    origin = typing.get_origin(member) or member
    if origin is dict:
        return True
    if not isinstance(origin, type):
        return False
    return (
        issubclass(origin, BaseModel)
        or dataclasses.is_dataclass(origin)
        or (issubclass(origin, dict) and hasattr(origin, "__total__"))
    )


def _described(error: ValidationError, *, name: str, route: str) -> str:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [
        f"{'.'.join(map(str, problem['loc'])) or name}: {problem['type']}" for problem in problems
    ]
    return f"{route}: the {name} image is not what its model wants ({'; '.join(lines)})"
