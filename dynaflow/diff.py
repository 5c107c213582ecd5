"""What a change changed: the old and the new image compared, path by path.

Values are equal when DynamoDB calls them equal: 1 and 1.0 are, True and 1 are not, a set has no
order. Paths go into maps by name and into lists by index, as filters' paths do: whatever is found
at a path here, the filter ``changed(F.new...)`` of that path is true of.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from dynaflow._paths import FIELDS, MISSING, ImageName, has_image, refuse_if_left_out, written
from dynaflow.errors import ImageMissing, MalformedValue
from dynaflow.record import Record
from dynaflow.values import MAX_DEPTH, canonical, decode, type_of

__all__ = ["AttributePath", "Diff", "ValueChange", "Values"]

_NESTED: Final = ("M", "L")
Pair: TypeAlias = tuple[Any, Any]  # wire values, old and new; MISSING where there is none


class AttributePath(tuple[str | int, ...]):
    """A path into an image: attribute names (str) and list indexes (int), outermost first.

    It equals, and hashes as, the plain tuple. ``str`` is how filters write it behind ``F.new``:
    ``address["zip.code"]``, ``lines[0].sku``.
    """

    __slots__ = ()

    def __str__(self) -> str:
        return "".join(map(written, self)).removeprefix(".")

    def __repr__(self) -> str:
        return f"<AttributePath {self}>"


@dataclass(frozen=True, slots=True, repr=False)
class ValueChange:
    """A value that is another one than before; ``repr`` shows no data.

    Args:
        old: what it was.
        new: what it is.
    """

    old: Any
    new: Any

    def __repr__(self) -> str:
        return f"<ValueChange from {type(self.old).__name__} to {type(self.new).__name__}>"


PathLike: TypeAlias = AttributePath | tuple[str | int, ...] | str


class Values(Mapping[PathLike, Any]):
    """The values at some paths, each decoded when it is read.

    Read-only, and decoded afresh at every read, as an ``Image`` is. Where a path is asked for, a
    text stands for the attribute of that name, dots being part of it: ``changed["status"]``.
    """

    __slots__ = ("_pairs", "_read")

    def __init__(
        self, pairs: Mapping[AttributePath, Pair], read: Callable[[AttributePath, Pair], Any]
    ) -> None:
        self._pairs = pairs
        self._read = read

    def __getitem__(self, path: PathLike) -> Any:
        found = AttributePath(_segments(path))
        return self._read(found, self._pairs[found])

    def __contains__(self, path: object) -> bool:
        return _segments(path) in self._pairs

    def __iter__(self) -> Iterator[AttributePath]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    # As Mapping's own, but what they yield is known: an AttributePath, whatever may be asked for.
    def keys(self) -> KeysView[AttributePath]:
        """Return the paths."""
        return self._pairs.keys()

    def items(self) -> ItemsView[AttributePath, Any]:
        """Return the paths with their values."""
        return ItemsView(self)

    def __repr__(self) -> str:
        return f"<Values at {len(self._pairs)} paths>"


class Diff:
    """How an item's new image differs from its old one. Nothing is compared before it is read.

    A value that is a map, or a list, on both sides is followed; anything else is compared as a
    whole, sets among it. An item that was inserted is added attribute by attribute, one that was
    removed is removed so. Lists are compared index by index: whatever stands behind an element that
    was put in front has another index now, and counts as changed. It is true if anything differs;
    ``repr`` shows no data.

    Reading may raise ``MalformedValue``: a value that DynamoDB could not have written.

    Args:
        record: the change.

    Raises:
        ImageMissing: an image that the event has, and the record does not carry.
    """

    __slots__ = ("_found", "_new", "_old")

    def __init__(self, record: Record) -> None:
        self._old = _image(record, "old")
        self._new = _image(record, "new")
        self._found: dict[AttributePath, Pair] | None = None

    @property
    def added(self) -> Values:
        """Path → new value, where there was none."""
        return Values(self._where(lambda old, new: old is MISSING), _read_new)

    @property
    def removed(self) -> Values:
        """Path → old value, where there is none any more."""
        return Values(self._where(lambda old, new: new is MISSING), _read_old)

    @property
    def changed(self) -> Values:
        """Path → ``ValueChange``, where there were two values that are not equal."""
        return Values(
            self._where(lambda old, new: old is not MISSING and new is not MISSING), _read_both
        )

    @property
    def paths(self) -> tuple[AttributePath, ...]:
        """All paths that differ: those of the new image in its order, then those it lost."""
        return tuple(self._pairs())

    def __bool__(self) -> bool:
        return bool(self._pairs())

    def __repr__(self) -> str:
        try:
            counts = (len(self.added), len(self.removed), len(self.changed))
        except MalformedValue:
            return "<Diff of a malformed image>"
        return "<Diff {} added, {} removed, {} changed>".format(*counts)

    def _pairs(self) -> Mapping[AttributePath, Pair]:
        if self._found is None:
            self._found = dict(_differences(self._old, self._new))
        return self._found

    def _where(self, wanted: Callable[[Any, Any], bool]) -> dict[AttributePath, Pair]:
        return {path: pair for path, pair in self._pairs().items() if wanted(*pair)}


def _image(record: Record, name: ImageName) -> Mapping[str, Any]:
    """Return an image's raw attributes; none where the event has no such image."""
    if not has_image(record.event_name, name):
        return {}
    image: Mapping[str, Any] | None = record.raw["dynamodb"].get(FIELDS[name])
    if image is None:
        refuse_if_left_out(name, record, "record.diff compares")
        raise ImageMissing(
            f"record.diff compares the {name} image, which this record of {record.event_name} does "
            "not carry. Read a stream with NEW_AND_OLD_IMAGES."
        )
    return image


def _differences(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[tuple[AttributePath, Pair]]:
    """Yield what differs, depth first, without recursion: a path is its own stack."""
    waiting = [
        (AttributePath((name,)), *pair)
        for name, *pair in reversed(_attributes(old, new))
        if not _same_text(*pair)
    ]
    while waiting:
        path, before, after = waiting.pop()
        kind = None if MISSING in (before, after) else _common_type(path, before, after)
        if kind in _NESTED:
            inner = _members(path, "old", before), _members(path, "new", after)
            parts = _attributes(*inner) if kind == "M" else _elements(*inner)
            waiting += [(AttributePath((*path, at)), *pair) for at, *pair in reversed(parts)]
        elif kind is None or _differ(path, before, after):
            yield path, (before, after)


def _attributes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    kept = [(name, old.get(name, MISSING), value) for name, value in new.items()]
    return kept + [(name, value, MISSING) for name, value in old.items() if name not in new]


def _elements(old: Any, new: Any) -> list[tuple[int, Any, Any]]:
    sizes = len(old), len(new)
    return [
        (at, old[at] if at < sizes[0] else MISSING, new[at] if at < sizes[1] else MISSING)
        for at in range(max(sizes))
    ]


def _same_text(before: Any, after: Any) -> bool:
    """Return True if both are written alike on the wire; False says nothing."""
    try:
        return bool(before == after)
    except RecursionError:  # deeper than DynamoDB nests: the way down will say so
        return False


def _common_type(path: AttributePath, before: Any, after: Any) -> str | None:
    """Return the type of both values; None if they are of two."""
    kinds = _located(path, "old", before, type_of), _located(path, "new", after, type_of)
    return kinds[0] if kinds[0] == kinds[1] else None


def _differ(path: AttributePath, before: Any, after: Any) -> bool:
    if before == after:
        return False
    old, new = _located(path, "old", before, canonical), _located(path, "new", after, canonical)
    return bool(old != new)


def _members(path: AttributePath, image: ImageName, value: Any) -> Any:
    """Return what is in a map or a list, without reading it."""
    ((kind, payload),) = value.items()
    if len(path) > MAX_DEPTH:
        reason = f"nested deeper than {MAX_DEPTH} levels"
    elif not isinstance(payload, dict if kind == "M" else (list, tuple)):
        reason = f"{kind} holds {type(payload).__name__}, not a {'map' if kind == 'M' else 'list'}"
    else:
        return payload
    raise MalformedValue(reason, (image, *path))


def _located(path: AttributePath, image: ImageName, value: Any, read: Callable[[Any], Any]) -> Any:
    try:
        return read(value)
    except MalformedValue as error:
        raise MalformedValue(error.reason, (image, *path, *error.path)) from None


def _read_old(path: AttributePath, pair: Pair) -> Any:
    return _located(path, "old", pair[0], decode)


def _read_new(path: AttributePath, pair: Pair) -> Any:
    return _located(path, "new", pair[1], decode)


def _read_both(path: AttributePath, pair: Pair) -> ValueChange:
    return ValueChange(_read_old(path, pair), _read_new(path, pair))


def _segments(path: object) -> tuple[Any, ...]:
    return (path,) if isinstance(path, str) else path if isinstance(path, tuple) else ((),)
