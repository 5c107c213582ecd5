"""Python values → attribute values: literals in filters, and items in test records."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Set
from decimal import Decimal
from typing import Any

from dynaflow.errors import MalformedValue
from dynaflow.values import MAX_DEPTH, check_range, type_of

__all__ = ["encode"]


def encode(value: Any, _depth: int = 0) -> dict[str, Any]:
    """Return the wire form of a Python value, binaries as base64 text.

    str → S, int and Decimal → N, bytes → B, bool → BOOL, None → NULL, set → SS/NS/BS,
    list and tuple → L, mappings with str keys → M.

    Raises:
        TypeError: a float (write Decimal or int: a float is not the number you see), an empty or
            mixed set, or a type that DynamoDB does not have.
        ValueError: a number that DynamoDB cannot store, or more than ``MAX_DEPTH`` nested levels.
    """
    if isinstance(value, bool):
        return {"BOOL": value}
    if isinstance(value, str):
        return {"S": str.__str__(value)}  # an Enum's own __str__ would write its member's name
    if value is None:
        return {"NULL": True}
    if isinstance(value, (int, Decimal)):
        return {"N": _number_text(value)}
    if isinstance(value, float):
        raise TypeError("a float is not exact: write Decimal('0.1') or an int")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"B": b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, (Mapping, list, tuple)) and _depth >= MAX_DEPTH:
        raise ValueError(f"DynamoDB nests lists and maps at most {MAX_DEPTH} levels deep")
    if isinstance(value, Mapping):
        members = value.items()
        return {
            "M": {_attribute_name(name): encode(member, _depth + 1) for name, member in members}
        }
    if isinstance(value, (list, tuple)):
        return {"L": [encode(member, _depth + 1) for member in value]}
    if isinstance(value, Set):
        return _encode_set(value)
    raise TypeError(f"DynamoDB has no type for {type(value).__name__}")


def _number_text(value: int | Decimal) -> str:
    number = Decimal(value)
    if not number.is_finite():
        raise ValueError("DynamoDB has no NaN and no infinity")
    try:
        check_range(number)
    except MalformedValue as error:
        raise ValueError(error.reason) from None
    return str(number) if number else "0"  # a zero may carry any exponent, and a sign


def _attribute_name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"attribute names are text, got {type(name).__name__}")
    return name


def _encode_set(value: Set[Any]) -> dict[str, Any]:
    members = [encode(member) for member in value]
    kinds = {type_of(member) for member in members}
    if len(kinds) != 1 or not kinds <= {"S", "N", "B"}:
        raise TypeError(
            "a DynamoDB set is not empty and holds only text, only numbers or only binaries"
        )
    (kind,) = kinds
    return {f"{kind}S": sorted(member[kind] for member in members)}
