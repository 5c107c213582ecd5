"""Which images routes ask for, and whether a stream's view type carries them: known beforehand.

It is read from what is declared: the parameters of handlers and of their dependencies, the paths of
filters, of ``ttl_attribute=`` and of the key of ``Idempotent``. What shows only when it runs counts
as no need: a function as a filter, a middleware, and what a handler reads of a Record or a Change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from inspect import Parameter
from typing import Any, Final

from dynaflow._paths import ImageName, PathRef, has_image, view_types_without
from dynaflow._signature import annotation_of, parameters_of, shown
from dynaflow._table import CompiledRoute, RouteTable
from dynaflow.errors import ViewTypeMismatch
from dynaflow.record import EventName, Record, Undecodable, table_of

__all__ = [
    "CheckedViews",
    "ImageNeed",
    "image_needs",
    "least_view_type",
    "leaves_out",
    "refuse_unmet",
]

_LEAST: Final = {
    frozenset[str](): "KEYS_ONLY",
    frozenset({"new"}): "NEW_IMAGE",
    frozenset({"old"}): "OLD_IMAGE",
    frozenset({"new", "old"}): "NEW_AND_OLD_IMAGES",
}


@dataclass(frozen=True, slots=True)
class ImageNeed:
    """That something of a route asks for an image; ``str`` says it in a few words.

    Args:
        route: the route's name.
        table: the only table that the route takes; None for any.
        image: "new" or "old".
        events: on which of the route's events, those on which an item has this image.
        reader: what asks for it: "parameter 'old: Order | None'", "the filter changed('status')".
    """

    route: str
    table: str | None
    image: ImageName
    events: tuple[EventName, ...]
    reader: str

    def is_met_by(self, view_type: str | None) -> bool:
        """Return False if a stream of this view type leaves the image out; None says nothing."""
        return view_type not in view_types_without(self.image)

    def __str__(self) -> str:
        events = ", ".join(self.events)
        return f"{self.route}: {self.reader} reads the {self.image} image on {events}"


class CheckedViews:
    """Asks once about each stream and view type, before the first record of it is run.

    Args:
        refuse: takes a view type and a table, and raises ``ViewTypeMismatch``.
    """

    def __init__(self, refuse: Callable[[str | None, str], None]) -> None:
        self._refuse = refuse
        self._passed: set[tuple[str, str | None]] = set()

    def check(self, source_arn: str, view_type: str | None) -> None:
        """Check what a stream says of itself.

        Raises:
            ViewTypeMismatch: it leaves out what a route asks for; each time anew.
        """
        view = (source_arn, view_type)
        if view not in self._passed:
            # "" is no table's name: without an ARN, only routes for any table are asked.
            self._refuse(view_type, table_of(source_arn) or "")
            self._passed.add(view)

    def check_records(self, records: Sequence[Record | Undecodable]) -> None:
        """Check what the records of one stream say of it; raises what ``check`` does."""
        for record in records:
            if isinstance(record, Record):
                self.check(record.source_arn, record.view_type)
                return


def image_needs(routes: RouteTable, table: str | None = None) -> tuple[ImageNeed, ...]:
    """Return what asks for images, route after route; ``table`` as for ``App.image_needs``."""
    return tuple(
        need
        for compiled in routes.routes
        if compiled.route.is_for(table)
        for need in _needs_of(compiled, routes.middleware)
    )


def leaves_out(view_type: str | None) -> bool:
    """Return True if streams of this view type lack an image; of None nothing is known."""
    return any(view_type in view_types_without(image) for image in ("new", "old"))


def least_view_type(needs: Iterable[ImageNeed]) -> str:
    """Return the view type that has all of these images, and nothing besides."""
    return _LEAST[frozenset(need.image for need in needs)]


def refuse_unmet(needs: Sequence[ImageNeed], view_type: str | None, table: str | None) -> None:
    """Raise ViewTypeMismatch if a stream of this view type leaves out any of these images."""
    unmet = [need for need in needs if not need.is_met_by(view_type)]
    if not unmet:
        return
    whose = f"the stream of table {table!r}" if table else "the stream"
    read = " or ".join(f"record.{image}" for image in sorted({need.image for need in unmet}))
    message = (
        f"{whose} has view type {view_type}, which leaves out images that are asked for. "
        f"{'; '.join(map(str, unmet))}. {least_view_type(needs)} is enough for all of its routes. "
        "A view type cannot be changed: disable the stream and enable a new one, which has a new "
        "ARN; in Lambda, it wants a new event source mapping. Or ask for less: a handler that can "
        f"do without takes 'record: Record' and reads {read}, which may be None."
    )
    if any(need.table is None for need in unmet):
        message += " A route that is not meant for this table says so by table=."
    raise ViewTypeMismatch(message)


def _needs_of(compiled: CompiledRoute, around: Sequence[Any]) -> Iterator[ImageNeed]:
    route = compiled.route
    for image, reader in dict.fromkeys(_asked_for(compiled, (*around, *route.middleware))):
        events = tuple(
            name for name in EventName if name in route.event_names and has_image(name, image)
        )
        if image != "keys" and events:
            yield ImageNeed(route.name, route.table, image, events, reader)


def _asked_for(
    compiled: CompiledRoute, middleware: Sequence[Any]
) -> Iterator[tuple[ImageName, str]]:
    """Yield each image that a route asks for, with who does, repeatedly and on whatever event."""
    for condition in compiled.filters:
        yield from _of_paths(condition.paths(), f"the filter {condition!r}")
    if compiled.route.ttl is not None:
        yield from _of_paths(compiled.ttl_delete.paths(), repr(compiled.ttl_delete))
    for layer in middleware:
        paths = getattr(layer, "image_paths", None)
        if callable(paths):
            yield from _of_paths(paths(), repr(layer))
    yield from _of_parameters(compiled.handler, parameters_of(compiled.handler), "")
    for step in compiled.needs.steps:
        taken = parameters_of(step.function, dependency=True)
        yield from _of_parameters(step.function, taken, f" of the dependency {step.name}")


def _of_paths(paths: Iterable[PathRef], reader: str) -> Iterator[tuple[ImageName, str]]:
    return ((path.image, reader) for path in paths)


def _of_parameters(
    function: Callable[..., Any], parameters: Iterable[Parameter], of_whom: str
) -> Iterator[tuple[ImageName, str]]:
    """Yield the images that a callable takes, whether or not it takes None for one of them."""
    images: tuple[ImageName, ...] = ("new", "old")
    for parameter in parameters:
        for image in images:
            if parameter.name == image:
                annotation = annotation_of(function, parameter)
                bare = annotation is parameter.empty
                written = image if bare else f"{image}: {shown(annotation)}"
                yield image, f"parameter '{written}'{of_whom}"
