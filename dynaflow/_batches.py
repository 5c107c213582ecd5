"""A batch route's handler: how records become the changes that it is called with."""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable
from typing import Any, TypeAlias

from dynaflow._binding import (
    Binder,
    Convert,
    _annotation,
    _converter,
    _parameters,
    _without_none,
)
from dynaflow.change import Change
from dynaflow.context import HandlerContext
from dynaflow.record import Image, Record

__all__ = ["Prepare", "build_batch_binder", "build_prepare"]

Prepare: TypeAlias = Callable[[Record], Change[Any]]


def build_batch_binder(handler: Callable[..., Any]) -> Binder:
    name = {p.name for p in _parameters(handler)} & {"changes", "records"}
    ctx = [p.name for p in _parameters(handler) if _annotation(handler, p) is HandlerContext]

    def bind(context: HandlerContext) -> dict[str, Any]:
        kwargs: dict[str, Any] = dict.fromkeys(ctx, context)
        if "changes" in name:
            kwargs["changes"] = list(context.changes)
        if "records" in name:
            kwargs["records"] = list(context.records)
        return kwargs

    return bind


def build_prepare(handler: Callable[..., Any], *, route: str) -> Prepare | None:
    for parameter in _parameters(handler):
        if parameter.name == "changes":
            annotation = _annotation(handler, parameter)
            args = typing.get_args(annotation)
            model = typing.get_args(args[0])[0] if args and typing.get_args(args[0]) else Image
            old = _converter(handler, "old", _without_none(model)[0], route)
            new = _converter(handler, "new", _without_none(model)[0], route)
            return functools.partial(_prepare, old, new)
    return None


def _prepare(old: Convert, new: Convert, record: Record) -> Change[Any]:
    before, after = record.old, record.new
    return Change(
        record,
        None if before is None else old(before),
        None if after is None else new(after),
    )
