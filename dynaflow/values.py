"""Attribute values: DynamoDB's wire form, its Python form, and how two values compare.

On the wire a value is a dict with exactly one member, named by its type: ``{"S": "x"}``.
Binaries are base64 text in a Lambda event and ``bytes`` where botocore has parsed an answer;
both are read here. Numbers are read as exact ``Decimal``, without a decimal context.
"""

from __future__ import annotations

import binascii
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Hashable, Mapping, Set
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeAlias

from dynaflow.errors import MalformedValue

__all__ = [
    "MAX_DEPTH",
    "TYPES",
    "AttributeValue",
    "Canonical",
    "canonical",
    "decode",
    "check_range",
    "harmless",
    "json_default",
    "printable",
    "to_boto",
    "type_of",
]

AttributeValue: TypeAlias = Mapping[str, Any]
Canonical: TypeAlias = tuple[str, Hashable]

TYPES = ("S", "N", "B", "BOOL", "NULL", "SS", "NS", "BS", "L", "M")

MAX_DEPTH = 32
"""How deep lists and maps may nest (DynamoDB: "Nested attributes", 32 levels)."""

_DIGITS = 38  # DynamoDB: numbers have up to 38 significant digits ...
_SMALLEST, _LARGEST = -130, 125  # ... between 1E-130 and 9.99...E+125 in magnitude
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_LONGEST_NUMBER = 1000  # characters; a bound on work, far above what 38 digits need written out


def decode(value: Any, _depth: int = 0) -> Any:
    """Return the Python form of a wire value.

    S → str, N → Decimal, B → bytes, BOOL → bool, NULL → None, SS/NS/BS → set, L → list, M → dict.

    Raises:
        MalformedValue: the value is not one that DynamoDB writes. Its message names path and
            type, never the value.
    """
    kind, payload = _member(value)
    if kind == "S":
        return _string(payload)
    if kind == "N":
        return _number(payload)
    if kind == "M":
        members = _map(payload, _depth)
        return {name: _within(name, member, _depth, decode) for name, member in members}
    if kind == "L":
        return [_within(at, member, _depth, decode) for at, member in _list(payload, _depth)]
    return _SIMPLE[kind](payload)


def canonical(value: Any, _depth: int = 0) -> Canonical:
    """Return (type, payload), equal for two wire values if and only if DynamoDB calls them equal.

    Values of different types differ, numbers compare by value (1 = 1.0), sets without order.
    The payload of S, N and B also orders as DynamoDB orders them. Hashable.

    Raises:
        MalformedValue: the value is not one that DynamoDB writes.
    """
    kind, payload = _member(value)
    if kind == "S":
        return kind, _string(payload)
    if kind == "N":
        return kind, _number(payload)
    if kind == "M":
        members = _map(payload, _depth)
        return kind, frozenset((n, _within(n, member, _depth, canonical)) for n, member in members)
    if kind == "L":
        items = _list(payload, _depth)
        return kind, tuple(_within(at, member, _depth, canonical) for at, member in items)
    decoded = _SIMPLE[kind](payload)
    return kind, frozenset(decoded) if isinstance(decoded, set) else decoded


def to_boto(value: Any, _depth: int = 0) -> dict[str, Any]:
    """Return a wire value as botocore's DynamoDB client takes it: the same, binaries as bytes.

    Raises:
        MalformedValue: the value is not one that DynamoDB writes.
    """
    kind, payload = _member(value)
    if kind == "M":
        members = _map(payload, _depth)
        return {kind: {name: _within(name, member, _depth, to_boto) for name, member in members}}
    if kind == "L":
        items = _list(payload, _depth)
        return {kind: [_within(at, member, _depth, to_boto) for at, member in items]}
    if kind == "B":
        return {kind: _binary(payload)}
    if kind == "BS":
        return {kind: sorted(_set_of(_binary)(payload))}
    decode(value)
    return {kind: list(payload) if kind in ("SS", "NS") else payload}


def type_of(value: Any) -> str:
    """Return the type descriptor of a wire value, one of ``TYPES``.

    Raises:
        MalformedValue: not a dict with exactly one known type descriptor.
    """
    return _member(value)[0]


def json_default(value: Any) -> Any:
    """Return what ``json.dumps(..., default=dynaflow.json_default)`` writes for a decoded value.

    Whole numbers become int; fractions become float where the float prints the same number, else
    text, so that no digit is lost. Bytes become base64 text, sets sorted lists, dates ISO 8601.
    An Image, and any other mapping, becomes a dict.

    Raises:
        TypeError: a type that none of this is true of.
    """
    if isinstance(value, Decimal):
        if not value.is_finite():
            return str(value)
        if value == value.to_integral_value():
            return int(value)
        return float(value) if Decimal(repr(float(value))) == value else str(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b64encode(bytes(value)).decode("ascii")
    if isinstance(value, Set):
        return sorted(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def printable(value: Any) -> str:
    """Return a decoded value as one line of JSON, to be shown on a terminal."""
    return harmless(json.dumps(value, default=json_default, ensure_ascii=False))


def harmless(text: str) -> str:
    """Return the text with escapes for what a terminal would obey, or could not print."""
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _member(value: Any) -> tuple[str, Any]:
    """Return the only member of a wire value."""
    if not isinstance(value, dict):
        raise MalformedValue(f"expected a map with one type descriptor, got {type(value).__name__}")
    if len(value) != 1:
        raise MalformedValue(f"expected exactly one type descriptor, got {len(value)}")
    ((kind, payload),) = value.items()
    if kind not in _KINDS:
        raise MalformedValue("unknown type descriptor")
    return kind, payload


def _within(segment: str | int, member: Any, depth: int, read: Callable[[Any, int], Any]) -> Any:
    try:
        return read(member, depth + 1)
    except MalformedValue as error:
        raise error.inside(segment) from None


def _string(payload: Any) -> str:
    if not isinstance(payload, str):
        raise MalformedValue(f"S holds {type(payload).__name__}, not text")
    return payload


def _number(payload: Any) -> Decimal:
    if not isinstance(payload, str):
        raise MalformedValue(f"N holds {type(payload).__name__}, not text")
    if len(payload) > _LONGEST_NUMBER or not _NUMBER.fullmatch(payload):
        raise MalformedValue("N is not a decimal number")
    number = Decimal(payload)
    if len(payload) > _DIGITS or "e" in payload or "E" in payload:
        check_range(number)
    return number


def check_range(number: Decimal) -> None:
    """Raise MalformedValue if DynamoDB has no such number."""
    digits = "".join(map(str, number.as_tuple().digits)).strip("0")
    if len(digits) > _DIGITS:
        raise MalformedValue(f"N has more than {_DIGITS} significant digits")
    if digits and not _SMALLEST <= number.adjusted() <= _LARGEST:
        raise MalformedValue("N is outside of DynamoDB's range")


def _binary(payload: Any) -> bytes:
    if isinstance(payload, (bytes, bytearray)):
        return bytes(payload)
    if not isinstance(payload, str):
        raise MalformedValue(f"B holds {type(payload).__name__}, not base64 text or bytes")
    try:
        return b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedValue("B is not base64 text") from None


def _boolean(payload: Any) -> bool:
    if not isinstance(payload, bool):
        raise MalformedValue(f"BOOL holds {type(payload).__name__}, not a boolean")
    return payload


def _null(payload: Any) -> None:
    if payload is not True:
        raise MalformedValue("NULL holds something else than true")


def _set_of(read: Callable[[Any], Any]) -> Callable[[Any], set[Any]]:
    def read_set(payload: Any) -> set[Any]:
        if not isinstance(payload, (list, tuple, set, frozenset)):
            raise MalformedValue(f"a set holds {type(payload).__name__}, not a list")
        return {read(member) for member in payload}

    return read_set


def _map(payload: Any, depth: int) -> Any:
    if not isinstance(payload, dict):
        raise MalformedValue(f"M holds {type(payload).__name__}, not a map")
    if depth >= MAX_DEPTH:
        raise MalformedValue(f"nested deeper than {MAX_DEPTH} levels")
    if not all(isinstance(name, str) for name in payload):
        raise MalformedValue("M has an attribute name that is not text")
    return payload.items()


def _list(payload: Any, depth: int) -> Any:
    if not isinstance(payload, (list, tuple)):
        raise MalformedValue(f"L holds {type(payload).__name__}, not a list")
    if depth >= MAX_DEPTH:
        raise MalformedValue(f"nested deeper than {MAX_DEPTH} levels")
    return enumerate(payload)


_SIMPLE: dict[str, Callable[[Any], Any]] = {
    "B": _binary,
    "BOOL": _boolean,
    "NULL": _null,
    "SS": _set_of(_string),
    "NS": _set_of(_number),
    "BS": _set_of(_binary),
}
_KINDS = frozenset(TYPES)
