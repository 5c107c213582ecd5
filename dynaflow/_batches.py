"""A batch route's handler: how the records of a call become what it is called with.

It takes ``changes: list[Change[Order]]``, which are made record by record before the call, so that
an image that is not an Order fails its own record only; or ``records: list[Record]``.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, TypeAlias, TypeVar

from dynaflow._binding import Convert, Reader, fields_of, image_converter, is_model
from dynaflow._signature import annotation_of, handler_name, parameters_of, shown, without_none
from dynaflow.change import Change
from dynaflow.context import HandlerContext
from dynaflow.errors import RegistrationError
from dynaflow.params import BATCH
from dynaflow.record import Image, Record

__all__ = ["Prepare", "batch_reader", "build_prepare", "change_type", "changed_fields"]

Prepare: TypeAlias = Callable[[Record], Change[Any]]

_T = TypeVar("_T")
_LISTS = (list, Sequence, Collection, Iterable)
_EMPTY = inspect.Parameter.empty


def batch_reader(handler: Callable[..., Any]) -> dict[str, Reader]:
    """Return what reads the parameter that gets all of a call: ``changes`` or ``records``.

    Raises:
        RegistrationError: the handler has neither, or both, or with another type.
    """
    named = [p.name for p in parameters_of(handler) if p.name in BATCH]
    if len(named) != 1:
        taken = "both 'changes' and" if named else "neither 'changes' nor"
        raise RegistrationError(
            f"{handler_name(handler)} is a batch route's handler and takes {taken} 'records': "
            "write 'changes: list[Change[Order]]', or 'records: list[Record]'"
        )
    if named == ["changes"]:
        change_type(handler)
        return {"changes": _read_changes}
    _element(handler, "records", Record)
    return {"records": _read_records}


def build_prepare(handler: Callable[..., Any], route: str, *, skip_invalid: bool) -> Prepare | None:
    """Return what makes a record's Change; None for a handler that takes records.

    Raises:
        RegistrationError: an image cannot become what the handler wants.
    """
    if all(parameter.name != "changes" for parameter in parameters_of(handler)):
        return None
    wanted = change_type(handler)
    old, new = (
        image_converter(handler, name, wanted, route, skip_invalid=skip_invalid)
        for name in ("old", "new")
    )
    return functools.partial(_prepare, old, new)


def change_type(handler: Callable[..., Any]) -> Any:
    """Return what the images of a batch route's changes become: ``T`` of ``list[Change[T]]``.

    Raises:
        RegistrationError: ``changes`` is something else.
    """
    change = _element(handler, "changes", Change)
    wanted = typing.get_args(change)
    return without_none(wanted[0])[0] if wanted else Image


def changed_fields(handler: Callable[..., Any]) -> dict[str, frozenset[str]]:
    """Return the attribute names that the model of a batch route's changes knows, by image."""
    if all(parameter.name != "changes" for parameter in parameters_of(handler)):
        return {}
    wanted = change_type(handler)
    return dict.fromkeys(("new", "old"), fields_of(wanted)) if is_model(wanted) else {}


def _element(handler: Callable[..., Any], name: str, expected: type) -> Any:
    """Return the type of the list's members, which must be the expected one."""
    parameter = next(p for p in parameters_of(handler) if p.name == name)
    annotation = annotation_of(handler, parameter)
    if annotation in (_EMPTY, Any, object, *_LISTS):
        return expected
    members = typing.get_args(annotation)
    if typing.get_origin(annotation) in _LISTS and len(members) == 1:
        member = members[0]
        if member is expected or typing.get_origin(member) is expected:
            return member
    write = "list[Record]" if expected is Record else "list[Change[Order]]"
    raise RegistrationError(
        f"'{name}: {shown(annotation)}' of {handler_name(handler)}: write '{name}: {write}'"
    )


def _read_changes(context: HandlerContext) -> list[Change[Any]]:
    return _noted(list(context.changes), context)


def _read_records(context: HandlerContext) -> list[Record]:
    return _noted(list(context.records), context)


def _noted(given: list[_T], context: HandlerContext) -> list[_T]:
    """Return the list; what becomes of it in the handler says whether positions in it are clear."""
    if context.many is not None:
        context.many.given[:] = (given,)
    return given


def _prepare(old: Convert, new: Convert, record: Record) -> Change[Any]:
    before, after = record.old, record.new
    return Change(
        record,
        None if before is None else old(before),
        None if after is None else new(after),
    )
