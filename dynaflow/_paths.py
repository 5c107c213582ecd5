"""What a filter reads, paths and constants, and how its operators compare raw values.

As DynamoDB compares them: values of different types are neither equal nor ordered, numbers compare
exactly, and only S, N and B have an order. What is of another type is not decoded.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from keyword import iskeyword
from typing import Any, Final, Literal, TypeAlias

from dynaflow.encoding import encode
from dynaflow.errors import ImageMissing, MalformedValue
from dynaflow.record import EventName, Record
from dynaflow.values import TYPES, Canonical, canonical, type_of

__all__ = [
    "FIELDS",
    "MISSING",
    "OPERATORS",
    "ORDERED",
    "RESERVED",
    "VIEW_TYPES",
    "Constant",
    "ImageName",
    "PathRef",
    "has_image",
    "refuse_if_left_out",
    "view_types_without",
    "written",
]

ImageName: TypeAlias = Literal["new", "old", "keys"]

ORDERED: Final = ("S", "N", "B")
"""The types that have an order."""

MISSING: Final = object()
"""What ``PathRef.find`` returns where there is no value; None would be a malformed one."""

FIELDS: Final = {"new": "NewImage", "old": "OldImage", "keys": "Keys"}
"""What the wire calls the images."""

# Which events have an image, and which view types leave it out (Amazon DynamoDB Developer Guide,
# "Change data capture for DynamoDB Streams": StreamViewType).
_EVENTS: Final = {
    "new": (EventName.INSERT, EventName.MODIFY),
    "old": (EventName.MODIFY, EventName.REMOVE),
    "keys": (),
}
_WITHOUT: Final[dict[ImageName, tuple[str, ...]]] = {
    "new": ("KEYS_ONLY", "OLD_IMAGE"),
    "old": ("KEYS_ONLY", "NEW_IMAGE"),
    "keys": (),
}


VIEW_TYPES: Final = ("NEW_AND_OLD_IMAGES", "NEW_IMAGE", "OLD_IMAGE", "KEYS_ONLY")
"""What a stream can carry beside the keys."""


def has_image(event_name: EventName, image: ImageName) -> bool:
    """Return True if the item has this image at such an event, whatever the stream carries."""
    return image == "keys" or event_name in _EVENTS[image]


def view_types_without(image: ImageName) -> tuple[str, ...]:
    """Return the view types of streams that leave this image out."""
    return _WITHOUT[image]


def refuse_if_left_out(image: ImageName, record: Record, reader: str) -> None:
    """Raise ImageMissing if the event has the image, but the stream's view type leaves it out.

    Args:
        image: which one.
        record: a record that does not carry it.
        reader: who wants it, as the beginning of the message: "the filter ... reads".
    """
    if record.event_name in _EVENTS[image] and record.view_type in _WITHOUT[image]:
        raise ImageMissing(
            f"{reader} the {image} image, which a stream with view type {record.view_type} does "
            f"not carry on {record.event_name}. Use a stream with NEW_AND_OLD_IMAGES; a view type "
            "cannot be changed, so this is a new stream with a new ARN."
        )


@dataclass(frozen=True, slots=True, repr=False)
class PathRef:
    """A path into an image, as a plain value; ``repr`` is how it is written.

    Args:
        image: "new", "old" or "keys".
        segments: attribute names (str) and list indexes (int), outermost first.
        quoted: whether the first name was written in brackets, and so is meant as it is, even if
            a model has a field of a similar name.
    """

    image: ImageName
    segments: tuple[str | int, ...]
    quoted: bool = field(default=False, compare=False)

    def then(self, segment: object, *, quoted: bool = False) -> PathRef:
        """Return the path that goes one step further, into a map (str) or a list (int).

        Raises:
            TypeError: neither a name nor an index from 0, or an index into a whole image.
        """
        if isinstance(segment, str) and segment:
            name = str.__str__(segment)  # an Enum's own __str__ would give its member's name
            quoted = self.quoted if self.segments else quoted
            return PathRef(self.image, (*self.segments, name), quoted)
        if type(segment) is int and segment >= 0 and self.segments:
            return PathRef(self.image, (*self.segments, segment), self.quoted)
        raise TypeError(
            f"{self!r}[...] takes the name of an attribute, which is not empty, or an index from 0 "
            "into a list"
        )

    def find(self, record: Record, asker: object) -> Any:
        """Return the wire value, or ``MISSING``.

        Args:
            record: where to look.
            asker: what an error names as the reader; a filter.

        Raises:
            ImageMissing: the event has the image, but the stream's view type leaves it out.
            MalformedValue: a list or map on the way is not one that DynamoDB writes.
        """
        image = record.raw["dynamodb"].get(FIELDS[self.image])
        if image is None:
            refuse_if_left_out(self.image, record, f"the filter {asker!r} reads")
            return MISSING
        value = image.get(self.segments[0], MISSING)
        for depth in range(1, len(self.segments)):
            if value is MISSING:
                break
            try:
                value = _child(value, self.segments[depth])
            except MalformedValue as error:
                raise self.located(error, depth) from None
        return value

    def read(self, record: Record, asker: object) -> Canonical | None:
        """Return the canonical value, None if it is missing. Raises what ``find`` does."""
        value = self.find(record, asker)
        try:
            return None if value is MISSING else canonical(value)
        except MalformedValue as error:
            raise self.located(error) from None

    def located(self, error: MalformedValue, depth: int | None = None) -> MalformedValue:
        """Return the error as seen from the image, if it arose behind so many of the segments."""
        return MalformedValue(error.reason, (self.image, *self.segments[:depth], *error.path))

    def __repr__(self) -> str:
        return f"F.{self.image}" + "".join(map(written, self.segments))


@dataclass(frozen=True, slots=True, repr=False)
class Constant:
    """A literal of a filter, made canonical once; ``repr`` is how it was written.

    Args:
        value: as ``values.canonical`` gives it; for ``is_in`` a frozenset of these.
        text: how it was written.
    """

    value: Any
    text: str = field(compare=False)

    @classmethod
    def of(cls, value: Any, kinds: tuple[str, ...] = TYPES) -> Constant:
        """Return the constant for a Python value.

        Args:
            value: what ``values.encode`` takes, or a member of an Enum of that.
            kinds: the types that it may have.

        Raises:
            TypeError: a float, another type that DynamoDB does not have, or none of these.
            ValueError: a number or a depth that DynamoDB cannot store.
        """
        if isinstance(value, Enum):
            text = f"{type(value).__name__}.{value.name}"
            return replace(cls.of(value.value, kinds), text=text)
        try:
            constant = cls(canonical(encode(value)), _literal(value))
        except TypeError as error:
            raise TypeError(
                f"{error}. A filter compares with what DynamoDB stores: str, int, Decimal, bytes, "
                "bool, None, set, list or dict."
            ) from None
        if constant.kind not in kinds:
            raise TypeError(f"expected a value of type {' or '.join(kinds)}, got {constant.kind}")
        return constant

    @property
    def kind(self) -> str:
        """The type descriptor."""
        return str(self.value[0])

    def read(self, record: Record, asker: object) -> Any:
        """Return the value, as ``PathRef.read`` does for a path."""
        return self.value

    def __repr__(self) -> str:
        return self.text


def _child(value: Any, segment: str | int) -> Any:
    kind = type_of(value)
    payload = value[kind]
    if isinstance(segment, str):
        if kind != "M":
            return MISSING
        if not isinstance(payload, dict):
            raise MalformedValue(f"M holds {type(payload).__name__}, not a map")
        return payload.get(segment, MISSING)
    if kind != "L":
        return MISSING
    if not isinstance(payload, (list, tuple)):
        raise MalformedValue(f"L holds {type(payload).__name__}, not a list")
    return payload[segment] if segment < len(payload) else MISSING


def written(segment: str | int) -> str:
    """Return a segment as it is written behind others: ``.city``, ``["zip.code"]``, ``[0]``."""
    if isinstance(segment, int):
        return f"[{segment}]"
    # Python normalises identifiers that are not ASCII, so these would not lead back here.
    plain = segment.isascii() and segment.isidentifier() and not iskeyword(segment)
    if plain and segment not in RESERVED and not segment.startswith("__"):
        return f".{segment}"
    return f"[{json.dumps(segment, ensure_ascii=False)}]"


def _equals(value: Any, other: Canonical) -> bool:
    return type_of(value) == other[0] and canonical(value) == other


def _differs(value: Any, other: Canonical) -> bool:
    return not _equals(value, other)


def _ordered(test: Callable[[Any, Any], bool]) -> Callable[[Any, Canonical], bool]:
    def test_payloads(value: Any, other: Canonical) -> bool:
        kind = type_of(value)
        return kind == other[0] and kind in ORDERED and test(canonical(value)[1], other[1])

    return test_payloads


def _is_between(value: Any, low: Canonical, high: Canonical) -> bool:
    return OPERATORS[">="](value, low) and OPERATORS["<="](value, high)


def _contains(value: Any, member: Canonical) -> bool:
    kind = type_of(value)
    if kind not in _HOLDERS.get(member[0], ("L",)):
        return False
    payload: Any = canonical(value)[1]
    return (member if kind == "L" else member[1]) in payload


_HOLDERS: Final = {"S": ("S", "SS", "L"), "N": ("NS", "L"), "B": ("B", "BS", "L")}

OPERATORS: Final[dict[str, Callable[..., bool]]] = {
    "==": _equals,
    "!=": _differs,
    "<": _ordered(operator.lt),
    "<=": _ordered(operator.le),
    ">": _ordered(operator.gt),
    ">=": _ordered(operator.ge),
    "between": _is_between,
    "contains": _contains,
    "endswith": _ordered(lambda text, affix: text.endswith(affix)),
    "exists": lambda value: True,
    "is_in": lambda value, options: canonical(value) in options,
    "is_type": lambda value, kind: type_of(value) == kind[1],
    "startswith": _ordered(lambda text, affix: text.startswith(affix)),
}
"""Operator → test of a wire value that is there, against canonical operands."""

RESERVED: Final = frozenset(filter(str.isidentifier, OPERATORS))
"""Operators that are methods; an attribute of such a name is written ``F.new["exists"]``."""


def _literal(value: Any) -> str:
    """Return a value's ``repr``, the members of a set in an order that every process repeats."""
    if isinstance(value, (set, frozenset)) and value:
        return f"{{{', '.join(sorted(map(repr, value)))}}}"
    return repr(value)
