"""Under which key a store keeps the mark of a record and a route.

A key says which application and which route it is for, and hides the rest in a hash: what an item
holds is not for other stores. Values are told apart as DynamoDB does: 1 is 1.0, True is not 1, and
"1" is neither.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypeAlias

from dynaflow._checks import name_of, takes
from dynaflow._conditions import Filter
from dynaflow._paths import FIELDS, PathRef, refuse_if_left_out
from dynaflow._signature import is_async
from dynaflow.encoding import encode
from dynaflow.errors import DynaflowError, MalformedValue, NonRetryable, RegistrationError
from dynaflow.filters import Path
from dynaflow.record import Record
from dynaflow.values import Canonical, canonical

__all__ = ["Key", "MarkKeys"]

Key: TypeAlias = Path | Callable[[Record], Any]

_READABLE = 100  # characters of each name: a sort key in DynamoDB has 1024 bytes at most


class MarkKeys:
    """Makes keys: ``dynaflow#ROUTE#`` and a SHA-256, or ``dynaflow#APPLICATION#ROUTE#`` and it.

    Args:
        key: which records are the same to their route: a path such as ``F.new.order_id``, or a
            function of the record. None for the record itself: its ``identity``.
        application: keeps applications apart that share a store.

    Raises:
        RegistrationError: a key that cannot work.
    """

    def __init__(self, key: Key | None, application: str) -> None:
        self._key = _checked(key)
        if not isinstance(application, str) or "#" in application:
            raise RegistrationError("Idempotent(application=...) is a text without '#'")
        self._application = application

    @property
    def path(self) -> PathRef | None:
        """The path that is the key; None if it is a function, or the record itself."""
        return self._key if isinstance(self._key, PathRef) else None

    def of(self, record: Record, route: str) -> str:
        """Return the key of a record and a route.

        Raises:
            NonRetryable: nothing identifies the record, so that it could be taken for another one.
        """
        kind, value = self._identity(record, route)
        told = json.dumps([self._application, route, kind, value], separators=(",", ":"))
        names = ("dynaflow", self._application[:_READABLE], route[:_READABLE])
        name = "#".join(filter(None, names))
        return f"{name}#{hashlib.sha256(told.encode()).hexdigest()}"

    def _identity(self, record: Record, route: str) -> tuple[str, Any]:
        if self._key is not None:
            return "key", _stable(self._read(self._key, record, route))
        if not (record.source_arn or record.event_id):
            raise NonRetryable(
                f"{record!r} has neither a stream's ARN nor an event id, so Idempotent cannot tell "
                f"it from records of other streams (route {route}). Name what does: "
                "Idempotent(store, key=...)"
            )
        return "record", record.identity

    def _read(
        self, key: PathRef | Callable[[Record], Any], record: Record, route: str
    ) -> Canonical:
        value = _at(key, record) if isinstance(key, PathRef) else _returned_by(key, record, route)
        if value is not None and value[0] != "BOOL" and not _is_empty(value):
            return value
        shown = repr(key) if isinstance(key, PathRef) else name_of(key)
        is_bool = value is not None and value[0] == "BOOL"
        what = "is only true or false for" if is_bool else "finds nothing, or an empty part, in"
        raise NonRetryable(
            f"Idempotent(key={shown}) of {route} {what} {record!r}: it would be the same for all "
            "such records, and only the first would be handled. Let a filter keep them from the "
            "route, or choose another key"
        )


def _checked(key: Key | None) -> PathRef | Callable[[Record], Any] | None:
    if key is None:
        return None
    if isinstance(key, Path):
        if not key.__ref__.segments:
            raise RegistrationError(
                f"Idempotent(key={key!r}) is a whole image: name an attribute, such as F.new.id"
            )
        return key.__ref__
    if isinstance(key, Filter):
        raise RegistrationError(
            f"Idempotent(key={key!r}) is a filter, which is only true or false: all records would "
            "share two marks. Name a path, such as F.new.id"
        )
    if not callable(key) or not takes(key, 1):
        raise RegistrationError(
            "Idempotent(key=...) is a path, such as F.new.order_id, or a function of the record, "
            f"got {type(key).__name__}"
        )
    if is_async(key):
        raise RegistrationError(
            f"Idempotent(key={name_of(key)}) is async, and a key is read from the record alone: "
            "make it a plain 'def'"
        )
    return key


def _at(path: PathRef, record: Record) -> Canonical | None:
    if record.raw["dynamodb"].get(FIELDS[path.image]) is None:
        refuse_if_left_out(path.image, record, f"Idempotent(key={path!r}) reads")
    return path.read(record, path)


def _returned_by(function: Callable[[Record], Any], record: Record, route: str) -> Canonical:
    what = f"Idempotent(key={name_of(function)}) of {route}"
    try:
        value = function(record)
    except DynaflowError:
        raise
    except Exception as error:
        raise NonRetryable(
            f"{what} raised {type(error).__name__} for {record!r}. Let a filter keep records "
            "without a key from the route, or choose another key"
        ) from error
    try:
        return canonical(encode(value))
    except (TypeError, ValueError, MalformedValue):  # not quoted: an error may hold the value
        raise NonRetryable(
            f"{what} returned a {type(value).__name__} for {record!r} that cannot be a key. "
            "Return str, int, Decimal, bytes, or a tuple of these"
        ) from None


def _is_empty(value: Canonical) -> bool:
    """Return True for what identifies nothing; in a list, one such part is enough."""
    payload: Any
    kind, payload = value
    if kind == "L":
        return not payload or any(map(_is_empty, payload))
    return kind == "NULL" or (kind in ("S", "B", "M") and not payload)


def _stable(value: Canonical) -> list[Any]:
    """Return a canonical value as what JSON writes in one way only."""
    payload: Any
    kind, payload = value
    if kind in ("SS", "NS", "BS"):
        return [kind, sorted(map(_text, payload))]
    if kind == "L":
        return [kind, [_stable(member) for member in payload]]
    if kind == "M":
        return [kind, sorted([name, _stable(member)] for name, member in payload)]
    return [kind, payload if kind in ("BOOL", "NULL") else _text(payload)]


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if not isinstance(value, Decimal):
        return str(value)
    sign, digits, exponent = value.as_tuple()  # not normalize(), which rounds to 28 digits
    plain = "".join(map(str, digits)).lstrip("0")
    short = plain.rstrip("0")
    if not short:
        return "0"
    return f"{'-' if sign else ''}{short}e{int(exponent) + len(plain) - len(short)}"
