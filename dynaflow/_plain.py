"""Raw records → what JSON can say, without ever failing; and what is left where room is short."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Mapping, Set
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

from dynaflow.values import json_default

__all__ = ["FEWEST", "MOST", "Plain", "as_in_lambda", "bare"]

_MAX_DEPTH = 100  # DynamoDB nests 32 levels, two of JSON for each
_MAX_VALUES = 2_000_000  # a bound on work: two images of 400 KB, all empty texts, have fewer
_MAX_TEXT = 1000  # characters that stand for something that JSON cannot say
_MAX_BITS = 10_000  # of an int: Python writes no more than 4,300 digits
_MAX_EXPONENT = 300

# What stays of a record that is too large: who it is, and what happened to it.
_HEAD = (
    *("eventID", "eventName", "eventVersion", "eventSource", "awsRegion", "eventSourceARN"),
    "tableName",  # of what came through Kinesis
)
MOST = ("ApproximateCreationDateTime", "Keys", "SequenceNumber", "SizeBytes", "StreamViewType")
FEWEST = ("SequenceNumber",)
_IMAGES = ("NewImage", "OldImage")


class Plain:
    """Copies one value into dicts, lists, texts and numbers.

    Binaries become base64 text and times seconds since the epoch, as in Lambda's events. What JSON
    has nothing for becomes a text such as ``<builtins.object ...>``, and ``is_exact`` False.

    Args:
        most: how many values are copied.
    """

    def __init__(self, most: float = _MAX_VALUES) -> None:
        self.is_exact = True
        """True if all could be said in JSON."""
        self._left = most
        self._around: set[int] = set()  # the containers that the present value is in

    def of(self, value: Any) -> Any:
        """Return the copy."""
        self._left -= 1
        if self._left < 0:
            return self._instead_of(value, "left out: too many values")
        try:
            return self._copy(value)
        except Exception:  # whatever the methods of a foreign object do
            return self._instead_of(value, "unreadable")

    def _copy(self, value: Any) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int) and value.bit_length() <= _MAX_BITS:
            return int(value)
        if isinstance(value, float) and math.isfinite(value):
            return float(value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return b64encode(bytes(value)).decode("ascii")
        if isinstance(value, datetime):
            aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
            return aware.timestamp()
        if isinstance(value, Decimal) and value.is_finite() and _is_short(value):
            return json_default(value)
        if isinstance(value, (Mapping, list, tuple, Set)):
            return self._copy_container(value)
        return self._instead_of(value, _shown(value))

    def _copy_container(self, value: Any) -> Any:
        if id(value) in self._around or len(self._around) >= _MAX_DEPTH:
            return self._instead_of(value, "left out: nested too deeply")
        self._around.add(id(value))
        try:
            if isinstance(value, Mapping):
                return {self._name(name): self.of(member) for name, member in value.items()}
            members = [self.of(member) for member in value]
            return sorted(members, key=str) if isinstance(value, Set) else members
        finally:
            self._around.discard(id(value))

    def _name(self, name: Any) -> str:
        if isinstance(name, str):
            return str.__str__(name)
        return self._instead_of(name, _shown(name))

    def _instead_of(self, value: Any, what: str) -> str:
        self.is_exact = False
        kind = type(value)
        return f"<{kind.__module__}.{kind.__qualname__} {what}>"[:_MAX_TEXT]


def _is_short(value: Decimal) -> bool:
    return -_MAX_EXPONENT < value.adjusted() < _MAX_EXPONENT and len(value.as_tuple().digits) < 1000


def _shown(value: Any) -> str:
    try:
        return repr(value)[:_MAX_TEXT]
    except Exception:  # as above
        return "unreadable"


def as_in_lambda(raw: Any, source_arn: str) -> Any:
    """Return the raw record of a GetRecords page in the form that Lambda hands over."""
    if not isinstance(raw, dict):
        return raw
    if source_arn:
        raw.setdefault("eventSourceARN", source_arn)
    identity = raw.get("userIdentity")
    if isinstance(identity, dict):
        names = {"Type": "type", "PrincipalId": "principalId"}
        raw["userIdentity"] = {names.get(name, name): value for name, value in identity.items()}
    return raw


def bare(raw: Any, stream_names: tuple[str, ...]) -> tuple[Any, dict[str, int]]:
    """Return what is left of a record, and how many bytes of what are not."""
    if not isinstance(raw, dict):
        return None, {"other": _size(raw)}
    kept: dict[str, Any] = {name: raw[name] for name in _HEAD if isinstance(raw.get(name), str)}
    left_out: dict[str, int] = {}
    stream = raw.get("dynamodb")
    if isinstance(stream, dict):
        left_out = {name: _size(stream[name]) for name in _IMAGES if name in stream}
        kept["dynamodb"] = {name: stream[name] for name in stream_names if name in stream}
    identity = raw.get("userIdentity")
    if isinstance(identity, dict):
        known = {name: identity[name] for name in ("type", "principalId") if name in identity}
        kept["userIdentity"] = known
    # Each part that is counted by name has a name, a colon and a comma besides.
    named = sum(size + len(f'"{name}":,') for name, size in left_out.items())
    if (other := _size(raw) - _size(kept) - named) > len(","):
        left_out["other"] = other
    return kept, left_out


def _size(value: Any) -> int:
    return len(json.dumps(value, separators=(",", ":")))
