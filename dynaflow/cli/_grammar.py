"""The little languages of ``tail`` and ``trigger``: values, assignments, conditions.

A *value* is a number if it looks like one (as JSON writes numbers, so 007 is text), else text; in
quotes it is text in any case. ``:=`` takes JSON. A *path* is written as in a filter, behind
``F.new``: ``status``, ``address.city``, ``lines[0].sku``, ``["zip.code"]``. A condition is a path,
one of ``= == != < <= > >= :=``, and a value.

Everything here raises ``ValueError`` with what is wrong and what to write.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from dynaflow.filters import F, Filter, Path, as_filter, changed
from dynaflow.record import EventName, Record

__all__ = [
    "parse_assignment",
    "parse_changed",
    "parse_condition",
    "parse_event_name",
    "parse_key",
    "parse_value",
]

_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_LONGEST_NUMBER = 200  # characters; DynamoDB's numbers have 38 digits
_IMAGE = re.compile(r"F\.(?P<image>new|old|keys)\b")
_TEXT = r'"(?:[^"\\]|\\.)*"'
_STEP = re.compile(rf"\.?(?P<name>[^\s.\[\]\"'=!<>:]+)|\[(?P<at>\d{{1,6}})\]|\[(?P<text>{_TEXT})\]")
_OPERATORS: Final[dict[str, Callable[[Any, Any], Any]]] = {
    ":=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_OPERATOR = re.compile("|".join(_OPERATORS))  # in this order: the longer ones first


def parse_value(text: str) -> Any:
    """Return the number or the text that a value stands for."""
    if text[:1] in ('"', "'"):
        if len(text) < 2 or text[-1] != text[0]:
            raise ValueError(f"the quote {text[0]} is not closed. Close it, or leave it out")
        return _json(text) if text[0] == '"' else text[1:-1]
    if len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text):
        return Decimal(text)
    return text


def parse_assignment(text: str) -> tuple[str, Any]:
    """Return the attribute and the value of ``name=value`` or ``name:=JSON``."""
    name, found, value = text.partition("=")
    is_json = name.endswith(":")
    name = name.removesuffix(":")
    if not found or not name:
        raise ValueError("write name=value, or name:=JSON as in tags:='[\"gift\"]'")
    return name, _json(value) if is_json else parse_value(value)


def parse_condition(text: str) -> Filter:
    """Return the filter for a condition such as ``status=paid`` or ``F.old.total>100``.

    Without ``F.new`` or ``F.old`` it is about the item as it is now; for one that was removed, as
    it was.
    """
    image, steps, rest = _split_path(text)
    found = _OPERATOR.match(rest := rest.lstrip())
    if not steps or found is None:
        raise ValueError(
            "write a path, one of = != < <= > >= :=, and a value, as in total>100 or "
            "address.city=Oslo"
        )
    written = rest[found.end() :].strip()
    value = _json(written) if found[0] == ":=" else parse_value(written)

    def compare(name: str) -> Filter:
        try:
            compared: Filter = _OPERATORS[found[0]](_path(name, steps), value)
        except TypeError as error:
            raise ValueError(str(error)) from None
        return compared

    if image is not None:
        return compare(image)
    is_removed = as_filter(_is_removed)
    return (is_removed & compare("old")) | (~is_removed & compare("new"))


def parse_key(text: str) -> Filter:
    """Return the filter for ``name=value`` of the key; a number also stands for its text."""
    name, value = parse_assignment(text)
    path = F.keys[name]
    if isinstance(value, Decimal):
        return path.is_in([value, text.partition("=")[2]])
    try:
        condition: Filter = path == value
        return condition
    except TypeError as error:
        raise ValueError(str(error)) from None


def parse_changed(text: str) -> Filter:
    """Return the filter that is true if the value at a path is another one than before."""
    image, steps, rest = _split_path(text)
    if not steps or rest.strip() or image == "keys":
        raise ValueError("write a path, as in status or address.city")
    return changed(_path("new", steps))


def parse_event_name(text: str) -> EventName:
    """Return the event of this name, in whatever case."""
    try:
        return EventName(text.upper())
    except ValueError:
        raise ValueError("write insert, modify or remove") from None


def _split_path(text: str) -> tuple[str | None, list[str | int], str]:
    """Return the image, if one is named, the path's segments, and what stands behind them."""
    text = text.strip()
    image = _IMAGE.match(text)
    at = image.end() if image else 0
    steps: list[str | int] = []
    while (step := _STEP.match(text, at)) is not None:
        is_first = not steps and image is None
        if step["name"] and (text[at] == ".") is is_first:
            break  # ".name" at the beginning, or a name right behind a bracket
        steps.append(_segment(step))
        at = step.end()
    return image["image"] if image else None, steps, text[at:]


def _segment(step: re.Match[str]) -> str | int:
    if step["at"]:
        return int(step["at"])
    return str(_json(step["text"])) if step["text"] else step["name"]


def _path(image: str, steps: list[str | int]) -> Path:
    path: Path = {"new": F.new, "old": F.old, "keys": F.keys}[image]
    for step in steps:
        try:
            path = path[step]
        except TypeError as error:
            raise ValueError(str(error)) from None
    return path


def _json(text: str) -> Any:
    try:
        return json.loads(
            text, parse_float=Decimal, parse_int=Decimal, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it is not JSON: {error}") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number that DynamoDB has")


def _is_removed(record: Record) -> bool:
    return record.event_name is EventName.REMOVE
