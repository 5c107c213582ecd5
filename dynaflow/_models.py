"""Image → pydantic model, dataclass or TypedDict. Imported only when a route uses one.

pydantic validates in its lax mode, so that a model chooses int, float or Decimal for a number and
list or set for a set. Errors name field path and type; they never quote the value, and none of
pydantic's or of a validator's is chained to them, because these do.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, RootModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from dynaflow._core_schema import CoreSchema
from dynaflow.errors import DynaflowError, InvalidImage, NonRetryable, RegistrationError
from dynaflow.record import Image

__all__ = ["converter", "field_names"]

_SHOWN = 10  # problems of one image that are named
_ERROR_TYPE = re.compile(r"[a-z][a-z_]{0,49}")  # pydantic's own are; others might hold a value


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
                f"{getattr(member, '__name__', member)}; take a pydantic model, a dataclass, a "
                "TypedDict, dict or Image"
            )
    adapter = _adapter(annotation, f"parameter '{name}' of {handler}")
    validate, schema = adapter.validate_python, CoreSchema(adapter.core_schema)

    def convert(image: Image) -> Any:
        values = image.to_dict()
        problem: NonRetryable
        try:
            return validate(values)
        except ValidationError as error:
            problem = InvalidImage(
                f"{route}: the {name} image is not what its model wants "
                f"({_described(error, schema, name)})"
            )
        except (DynaflowError, MemoryError):  # a validator's Skip or NonRetryable is meant
            raise
        except Exception as error:  # a mistake in a validator: not a matter of on_invalid
            problem = NonRetryable(
                f"{route}: a validator of the {name} image's model raised {type(error).__name__}"
                f"{_place_of(error)}"
            )
        # Not within an except block: a chained error would show values wherever it is printed.
        raise problem

    return convert


def field_names(annotation: Any) -> frozenset[str]:
    """Return the attribute names that a model reads; empty if it takes names beyond its fields."""
    return CoreSchema(TypeAdapter(annotation).core_schema).names_read()


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
    except Exception as error:  # of a type's own hooks, or of pydantic's core
        raise RegistrationError(
            f"{where}: pydantic cannot use its type ({type(error).__name__})"
        ) from error
    try:
        adapter.core_schema["type"]
    except PydanticUserError:  # else it would come with the first record
        raise unfinished from None
    return adapter


def _members(annotation: Any) -> tuple[Any, ...]:
    """Return the types that an annotation comes down to: of a union, an alias, a root model."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return tuple(inner for member in typing.get_args(annotation) for inner in _members(member))
    for wrapped in ("__value__", "__supertype__"):  # of `type X = ...` and of NewType
        if hasattr(annotation, wrapped):
            return _members(getattr(annotation, wrapped))
    if isinstance(annotation, type) and issubclass(annotation, RootModel):
        root = annotation.model_fields.get("root")
        return (annotation,) if root is None else _members(root.annotation)
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


def _described(error: ValidationError, schema: CoreSchema, name: str) -> str:
    """Return where an image does not fit, and how, without any of its data."""
    try:
        problems = error.errors(include_url=False, include_context=False, include_input=False)
    except Exception:  # it also makes the texts, of a validator's error for instance
        return f"{error.error_count()} problems"
    lines = [
        f"{schema.shown(problem['loc']) or name}: {_error_type(problem['type'])}"
        for problem in problems[:_SHOWN]
    ]
    more = len(problems) - len(lines)
    return "; ".join(lines) + (f"; and {more} more" if more else "")


def _error_type(kind: str) -> str:
    return kind if _ERROR_TYPE.fullmatch(kind) else "custom_error"


def _place_of(error: BaseException) -> str:
    """Return where a validator raised: the first code that is not pydantic's or ours."""
    trace = error.__traceback__
    while trace is not None:
        module = str(trace.tb_frame.f_globals.get("__name__"))
        if module.partition(".")[0] not in ("dynaflow", "pydantic", "pydantic_core"):
            return f" in {module}.{trace.tb_frame.f_code.co_qualname}, line {trace.tb_lineno}"
        trace = trace.tb_next
    return ""
