"""Random values and records: few names and values, so that they meet often.

Records are as DynamoDB writes them: numbers normalised, in a spelling that is not documented for
those with long exponents, sets in any order, images as the stream's view type has them.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

from hypothesis import strategies as st

from dynaflow import App
from dynaflow._conditions import Combined, Not, Operation, Shorthand
from dynaflow._paths import Constant
from dynaflow.filters import Filter

__all__ = [
    "VIEW_TYPES",
    "binaries",
    "has_dots",
    "hints_of",
    "names",
    "numbers",
    "raw_records",
    "scalars",
    "texts",
    "values",
]

VIEW_TYPES = ("NEW_AND_OLD_IMAGES", "NEW_IMAGE", "OLD_IMAGE", "KEYS_ONLY")
ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/{}/stream/2026-01-01T00:00:00.000"
HAS = {
    "INSERT": {"NewImage": ("NEW_AND_OLD_IMAGES", "NEW_IMAGE")},
    "MODIFY": {
        "NewImage": ("NEW_AND_OLD_IMAGES", "NEW_IMAGE"),
        "OldImage": ("NEW_AND_OLD_IMAGES", "OLD_IMAGE"),
    },
    "REMOVE": {"OldImage": ("NEW_AND_OLD_IMAGES", "OLD_IMAGE")},
}

NAMES = ["a", "a", "a", "b", "b", "c", "S", "M", "L", "exists", "NewImage", "eventName", 'ü"\\']
ODD_NAMES = ["$or", "a.M.b", "."]
names = st.sampled_from([*NAMES, *NAMES, *NAMES, *ODD_NAMES])

TEXTS = [
    "",
    "a",
    "ab",
    "ba",
    "aa",
    'q"\\',
    "ü😀",
    "10.0.0.1",
    "10.0.0.2",
    "1",
    "1:f",
    "true",
    "null",
    "Service",
    "a*",
]
NUMBERS = [0, 1, -1, 2, 10, Decimal("1.5"), Decimal("0.000001"), Decimal("-0.00000125"), 10**20]
ODD_NUMBERS = [10**21, Decimal("1E-7"), Decimal("1E+100"), Decimal("1." + "3" * 37), 10**38 - 1]
BINARIES = [b"", b"a", b"abc", b"abcd", b"abcdef", b"\xff\xfe"]

texts = st.sampled_from(TEXTS)
numbers = st.sampled_from([*NUMBERS, *NUMBERS, *ODD_NUMBERS, Decimal("1.0"), Decimal("-0")])
binaries = st.sampled_from(BINARIES)
scalars = st.one_of(texts, texts, numbers, binaries, st.booleans(), st.none())
sets = st.one_of(*(st.frozensets(s, min_size=1, max_size=2) for s in (texts, numbers, binaries)))
values = st.one_of(
    scalars,
    scalars,
    sets,
    st.recursive(
        st.one_of(st.lists(scalars, max_size=2), st.dictionaries(names, scalars, max_size=2)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=2),
            st.dictionaries(names, st.one_of(inner, scalars), max_size=2),
        ),
        max_leaves=3,
    ),
)


@st.composite
def stored(draw: st.DrawFn, value: Any) -> dict[str, Any]:
    """A value as the stream writes it, told from its Python type by nothing of dynaflow's."""
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case int() | Decimal():
            return {"N": draw(spelt(Decimal(value)))}
        case str():
            return {"S": value}
        case bytes():
            return {"B": b64encode(value).decode()}
        case list():
            return {"L": [draw(stored(member)) for member in value]}
        case dict():
            return {"M": {name: draw(stored(member)) for name, member in value.items()}}
    members = [draw(stored(member)) for member in draw(st.permutations(sorted(value)))]
    (kind,) = {kind for member in members for kind in member}
    return {kind + "S": [member[kind] for member in members]}


@st.composite
def spelt(draw: st.DrawFn, number: Decimal) -> str:
    """A number without zeros that say nothing; with a long exponent in any spelling."""
    if not number:
        return "0"
    plain = f"{number:f}"
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    if -7 < number.adjusted() <= 20:
        return plain
    return draw(st.sampled_from([plain, f"{number.normalize()}", f"{number.normalize():E}"]))


items = st.dictionaries(names, values, max_size=4)


Hint: TypeAlias = tuple[str, tuple[str | int, ...], Any]
"""An image, a path in it, and a value that a filter asks for there."""


@st.composite
def raw_records(
    draw: st.DrawFn, view_type: str | None = None, hints: Sequence[Hint] = ()
) -> dict[str, Any]:
    """A record of table t, with what a stream of the view type has, and some of the hints."""
    event = draw(st.sampled_from(["INSERT", "MODIFY", "MODIFY", "REMOVE"]))
    view_type = view_type or draw(st.sampled_from([*VIEW_TYPES[:1] * 6, *VIEW_TYPES]))
    image = draw(items)
    images = {
        "NewImage": image,
        "OldImage": {**image, **draw(items)} if draw(st.booleans()) else {},
    }
    keys = {"id": draw(st.sampled_from(["a", 1, b"abc"]))}
    places = {"new": images["NewImage"], "old": images["OldImage"], "keys": keys}
    for where, path, value in draw(st.lists(st.sampled_from(hints), max_size=4)) if hints else ():
        if where != "keys" or path == ("id",):
            _set(places[where], path, value)
    stream: dict[str, Any] = {
        "ApproximateCreationDateTime": draw(st.sampled_from([1, 1.0, 2.0])),
        "Keys": {name: draw(stored(value)) for name, value in keys.items()},
        "SequenceNumber": "111",
        "SizeBytes": 26,
        "StreamViewType": view_type,
    }
    for name, view_types in HAS[event].items():
        if view_type in view_types:
            held = {k: draw(stored(v)) for k, v in images[name].items()}
            stream[name] = {**stream["Keys"], **held}
    raw: dict[str, Any] = {
        "eventID": "1",
        "eventName": event,
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "eu-west-1",
        "eventSourceARN": ARN.format("t"),
        "dynamodb": stream,
    }
    if event == "REMOVE" and draw(st.booleans()):
        raw["userIdentity"] = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
    return raw


def _set(item: dict[str, Any], path: Sequence[str | int], value: Any) -> None:
    """Put a value at a path, into maps that are there or new; into lists only as the first."""
    name, *rest = path
    if not rest:
        item[str(name)] = value
    elif rest == [0]:
        item[str(name)] = [value]
    elif isinstance(rest[0], str):
        held = item.get(str(name))
        item[str(name)] = inner = dict(held) if isinstance(held, dict) else {}
        _set(inner, rest, value)


def hints_of(app: App) -> list[Hint]:
    """Return what the filters of an App ask for, so that records may have it."""
    return [hint for route in app.routes for f in route.filters for hint in _hints(f)]


def _hints(condition: Filter) -> Iterator[Hint]:
    if isinstance(condition, Shorthand):
        yield from _hints(condition.condition)
    elif isinstance(condition, Not):
        yield from _hints(condition.part)
    elif isinstance(condition, Combined):
        for part in condition.parts:
            yield from _hints(part)
    elif isinstance(condition, Operation):
        where, path = condition.path.image, condition.path.segments
        for operand in condition.operands:
            if isinstance(operand, Constant):
                wanted = operand.value if condition.operator == "is_in" else [operand.value]
                yield from ((where, path, _python(value)) for value in wanted)


def _python(canonical: Any) -> Any:
    kind, payload = canonical
    if kind == "L":
        return [_python(member) for member in payload]
    return {name: _python(member) for name, member in payload} if kind == "M" else payload


def has_dots(tree: Any) -> bool:
    """Return True if a name in a wire value has dots, so that two ways may lead to one field."""
    if isinstance(tree, dict):
        return any("." in name or has_dots(inner) for name, inner in tree.items())
    return isinstance(tree, list) and any(map(has_dots, tree))
