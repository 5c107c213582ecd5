"""How filters are written: their text, how they combine, and what is refused with a remedy."""

from __future__ import annotations

import asyncio
import functools
import operator
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import FrozenInstanceError
from datetime import datetime, timezone
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any

import pytest

from dynaflow.codec import decode_records
from dynaflow.errors import RegistrationError
from dynaflow.filters import F, Filter, added, as_filter, changed, crossed, removed
from dynaflow.record import Record

NULL = None


class Status(StrEnum):
    PAID = "paid"


class Suit(Enum):
    HEARTS = datetime(2026, 1, 1, tzinfo=timezone.utc)


def is_insert(record: Record) -> bool:
    return record.event_name == "INSERT"


def is_remove(record: Record) -> bool:
    return record.event_name == "REMOVE"


async def is_slow(record: Record) -> bool:
    return is_insert(record)


async def are_slow(record: Record) -> AsyncIterator[bool]:
    yield is_insert(record)


def are_many(record: Record) -> Iterator[bool]:
    yield is_insert(record)


class Named:
    def __call__(self, record: Record) -> bool:
        return is_insert(record)

    def test(self, record: Record) -> bool:
        return is_insert(record)

    async def test_slowly(self, record: Record) -> bool:
        return is_insert(record)


class Slow:
    async def __call__(self, record: Record) -> bool:
        return is_insert(record)


class Many:
    def __call__(self, record: Record) -> Iterator[bool]:
        yield is_insert(record)


INSERT = decode_records(
    [
        {
            "eventName": "INSERT",
            "dynamodb": {
                "Keys": {"a": {"N": "1"}},
                "NewImage": {"a": {"N": "1"}, "b": {"S": "x"}},
                "SequenceNumber": "1",
            },
        }
    ],
    "",
)[0]
assert isinstance(INSERT, Record)
RECORD: Record = INSERT

TRUE, FALSE = F.new.a == 1, F.new.a == 2

WRITTEN: list[tuple[Filter, str]] = [
    (F.new.status == "paid", "F.new.status == 'paid'"),
    (F.old.a != NULL, "F.old.a != None"),
    (F.keys.a <= Decimal("1.50"), "F.keys.a <= Decimal('1.50')"),
    (F.new.a == Status.PAID, "F.new.a == Status.PAID"),
    (F.new.a > F.old.a, "F.new.a > F.old.a"),
    (1 < F.new.a, "F.new.a > 1"),  # noqa: SIM300  # the reflected form
    (F.new.a.b[0]["c.d"] == 1, 'F.new.a.b[0]["c.d"] == 1'),
    (F.new["a"] == 1, "F.new.a == 1"),
    (F.new["exists"].exists(), 'F.new["exists"].exists()'),
    (F.new["class"].exists(), 'F.new["class"].exists()'),
    (F.new["__x"].exists(), 'F.new["__x"].exists()'),
    (F.new["straße"].exists(), 'F.new["straße"].exists()'),
    (F.new['a"b'].exists(), 'F.new["a\\"b"].exists()'),
    (F.new._a.exists(), "F.new._a.exists()"),
    (F.new.a.is_in(["x", 1, Status.PAID]), "F.new.a.is_in(['x', 1, Status.PAID])"),
    (F.new.a.is_in(set("hgfedc")), "F.new.a.is_in(['c', 'd', 'e', 'f', 'g', 'h'])"),
    (F.new.a.between(1, 5), "F.new.a.between(1, 5)"),
    (F.new.a.startswith("x"), "F.new.a.startswith('x')"),
    (F.new.a.endswith(b"x"), "F.new.a.endswith(b'x')"),
    (F.new.a.contains("x"), "F.new.a.contains('x')"),
    (F.new.a.is_type("S"), "F.new.a.is_type('S')"),
    (changed("status", to="paid"), "changed('status', to='paid')"),
    (changed("a.b", was=None, to=Status.PAID), "changed('a.b', was=None, to=Status.PAID)"),
    (changed(F.old.a.b), "changed(F.new.a.b)"),
    (added("a"), "added('a')"),
    (removed(F.new.a[0]), "removed(F.new.a[0])"),
    (crossed("a", above=1), "crossed('a', above=1)"),
    (crossed("a", below="x"), "crossed('a', below='x')"),
    (
        (F.new.a == 1) & ~F.new["weird.name"].exists(),
        '(F.new.a == 1) & ~F.new["weird.name"].exists()',
    ),
    (~(F.new.a == 1), "~(F.new.a == 1)"),
    (~(TRUE & FALSE), "~((F.new.a == 1) & (F.new.a == 2))"),
    (~~added("a"), "~~added('a')"),
    (TRUE & FALSE & added("a"), "(F.new.a == 1) & (F.new.a == 2) & added('a')"),
    (TRUE & (FALSE & added("a")), "(F.new.a == 1) & (F.new.a == 2) & added('a')"),
    (added("a") | removed("a") & TRUE, "added('a') | (removed('a') & (F.new.a == 1))"),
    ((added("a") | removed("a")) & TRUE, "(added('a') | removed('a')) & (F.new.a == 1)"),
    (TRUE & is_insert, "(F.new.a == 1) & is_insert"),
    (is_insert | TRUE, "is_insert | (F.new.a == 1)"),
    (as_filter(functools.partial(is_insert)), "is_insert"),
    (as_filter(Named()), "Named"),
    (as_filter(Named().test), "Named.test"),
]


@pytest.mark.parametrize(("condition", "text"), WRITTEN)
def test_the_text_of_a_filter_is_the_expression(condition: Filter, text: str) -> None:
    assert repr(condition) == text


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (TRUE & TRUE, True),
        (TRUE & FALSE, False),
        (FALSE | TRUE, True),
        (FALSE | FALSE, False),
        (~FALSE, True),
        (~TRUE, False),
        (FALSE & FALSE | TRUE, True),
        (FALSE & (FALSE | TRUE), False),
        (TRUE & is_insert, True),
        (is_insert & TRUE, True),
        (is_remove & TRUE, False),
        (is_remove | FALSE, False),
        (is_insert | FALSE, True),
        (FALSE | Named().test, True),
        (~as_filter(is_insert), False),
        (as_filter(functools.partial(functools.partial(is_insert))), True),
        (as_filter(operator.attrgetter("is_ttl_delete")), False),
        (as_filter(lambda record: record.new), True),  # any object is as true as Python says
        (as_filter(lambda record: record.old), False),
    ],
)
def test_filters_and_functions_combine(condition: Filter, expected: bool) -> None:
    assert condition(RECORD) is expected


def test_what_decides_ends_the_test() -> None:
    def explode(record: Record) -> bool:
        raise AssertionError("this should not have been called")

    assert not (FALSE & explode)(RECORD)
    assert (TRUE | explode)(RECORD)


def test_what_a_function_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        (TRUE & (lambda record: 1 / 0 > 1))(RECORD)


def test_filters_compare_by_value_and_hash() -> None:
    def make() -> list[Filter]:
        return [F.new.a == 1, ~added("a"), TRUE & is_insert, F.new.a.is_in([1, 2]), changed("a")]

    assert make() == make()
    assert len({*make(), *make()}) == len(make())
    assert hash(F.new.a == Decimal("1.0")) == hash(TRUE)
    assert [F.new.a == Decimal("1.0"), changed("a", to=1)] == [
        F.new.a == 1,
        changed(F.old.a, to=Decimal("1.0")),
    ]
    assert TRUE not in [F.new.a == "1", F.old.a == 1, F.new.a != 1, F.new.a >= 1]


def test_a_literal_that_changes_later_does_not_change_the_filter() -> None:
    options = [1]
    condition = F.new.a.is_in(options)
    options[0] = 2

    assert condition(RECORD)


def no(expression: Callable[[], object], *parts: str, kind: type[Exception] = TypeError) -> Any:
    return pytest.param(expression, kind, parts, id=" ".join(parts))


def iterate() -> None:
    for _ in F.new.tags:
        pass


def write(target: Any, name: str) -> Callable[[], None]:
    return lambda: setattr(target, name, 1)


path: Any = F.new.a  # untyped: much of what follows is refused by type checkers already

REFUSED = [
    no(lambda: TRUE and FALSE, "F.new.a == 1", "& | ~", "'and'"),
    no(lambda: TRUE or FALSE, "& | ~", "'or'"),
    no(lambda: not TRUE, "& | ~", "'not'"),
    no(lambda: 1 < path < 5, ".between(low, high)"),
    no(lambda: path in [1, 2], ".is_in([...])"),
    no(lambda: path in {1, 2}, "F.new.a is a path", ".is_in([...])"),
    no(lambda: 1 in F.new.tags, "F.new.tags is a path", ".contains(x)"),
    no(lambda: path and TRUE, "F.new.a is a path", ".exists()", "& | ~"),
    no(lambda: not path, "F.new.a is a path", ".exists()"),
    no(iterate, "F.new.tags is a path"),
    no(lambda: F.new.status.lower() == "x", "F.new.status.lower", "write a function"),
    no(lambda: F.new("a"), "F.new is a path", "write a function"),
    no(lambda: path.exists == "x", "F.new.a.exists is an operator", 'F.new.a["exists"]'),
    no(lambda: F.new.exists != "x", 'F.new["exists"]'),
    no(lambda: F.new.contains > 1, 'F.new["contains"]'),
    no(lambda: F.new.exists.sub, 'F.new["exists"]'),
    no(lambda: path.is_in[0], 'F.new.a["is_in"]'),
    no(lambda: bool(F.new.exists), 'F.new["exists"]'),
    no(lambda: path == F.new.exists, 'F.new["exists"]'),
    no(lambda: F.new == {"a": 1}, "F.new is a whole image", "F.new.status"),
    no(F.old.exists, "F.old is a whole image"),
    no(lambda: path == F.old, "F.old is a whole image"),
    no(lambda: F.new[0], "F.new[...]", "name of an attribute"),
    no(lambda: path[-1], "index from 0"),
    no(lambda: path[True], "index from 0"),
    no(lambda: path[1:2], "index from 0"),
    no(lambda: F.new[""], "not empty"),
    no(lambda: path == 1.5, "float", "Decimal", "an int"),
    no(lambda: path.between(1, 1.5), "float"),
    no(lambda: path == [1.5], "float"),
    no(lambda: path == datetime.now(timezone.utc), "datetime", "what DynamoDB stores"),
    no(lambda: path == Suit.HEARTS, "datetime", "what DynamoDB stores"),
    no(lambda: path == set(), "empty"),
    no(lambda: path == TRUE, "no type for Operation"),
    no(lambda: path == 10**126, "range", kind=ValueError),
    no(lambda: path > True, "S or N or B", "BOOL"),
    no(lambda: path > None, "S or N or B", "NULL"),
    no(lambda: path >= [1], "S or N or B", "L"),
    no(lambda: path < {"a": 1}, "S or N or B", "M"),
    no(lambda: path <= {1}, "S or N or B", "NS"),
    no(lambda: path.is_in("paid"), "is_in takes a list or a set", "str"),
    no(lambda: path.is_in(b"paid"), "bytes"),
    no(lambda: path.is_in({"paid": 1}), "dict"),
    no(lambda: path.is_in(F.old.tags), "Path"),
    no(lambda: path.is_in([]), "at least one", kind=ValueError),
    no(lambda: path.is_in([F.old.a]), "is_in takes a value", "take a path"),
    no(lambda: path.between(1, "5"), "one type"),
    no(lambda: path.between(5, 1), "lower bound first", kind=ValueError),
    no(lambda: path.between(None, None), "S or N or B"),
    no(lambda: path.startswith(1), "S or B", "N"),
    no(lambda: path.endswith(["x"]), "S or B", "L"),
    no(lambda: path.contains(F.old.a), "contains takes a value"),
    no(lambda: path.is_type("str"), "S, N, B, BOOL, NULL, SS, NS, BS, L, M", kind=ValueError),
    no(lambda: changed("a", was=1, to=1), "was equals to", kind=ValueError),
    no(lambda: changed("a", was=1, to=Decimal("1.0")), "was equals to", kind=ValueError),
    no(lambda: changed("a", to=1.5), "float"),
    no(lambda: changed(F.new), "F.new is a whole image"),
    no(lambda: changed(F.keys.id), "F.keys.id never changes"),
    no(lambda: changed(""), "not empty"),
    no(lambda: added(path == 1), "an attribute's name or a path"),
    no(lambda: removed(None), "an attribute's name or a path"),  # type: ignore[arg-type]  # meant
    no(lambda: crossed("a"), "either above= or below="),
    no(lambda: crossed("a", above=1, below=2), "either above= or below="),
    no(lambda: crossed("a", above=True), "S or N or B", "BOOL"),
    no(lambda: crossed("a", below=[1]), "S or N or B"),  # type: ignore[arg-type]  # meant
    no(lambda: path.__wrapped__, 'F.new.a["__wrapped__"]', kind=AttributeError),
    no(lambda: F.status, "F.new.status", kind=AttributeError),  # type: ignore[attr-defined]  # meant
    no(write(path, "b"), "F.new.a cannot be changed", kind=AttributeError),
    no(write(F, "new"), "F cannot be changed", kind=AttributeError),
    no(write(path.exists, "b"), "cannot be changed", kind=AttributeError),
    no(lambda: delattr(path, "b"), "F.new.a cannot be changed", kind=AttributeError),
    no(write(TRUE, "path"), "path", kind=FrozenInstanceError),
]


@pytest.mark.parametrize(("expression", "kind", "parts"), REFUSED)
def test_what_python_would_misread_is_refused_with_a_remedy(
    expression: Callable[[], object], kind: type[Exception], parts: tuple[str, ...]
) -> None:
    with pytest.raises(kind) as caught:
        expression()

    assert [part for part in parts if part not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("condition", "part"),
    [
        (True, "Python compared something"),
        (False, "Python compared something"),
        (F, "F.new.status"),
        (F.new, "F.new is a path"),
        (F.new.a, "F.new.a is a path"),
        (F.new.contains, 'F.new["contains"]'),
        ("paid", "got str"),
        (None, "got NoneType"),
        ({"status": "paid"}, "got dict"),
        (Named, "got the class Named"),
        (is_slow, "is_slow is async"),
        (functools.partial(is_slow), "is_slow is async"),
        (functools.partial(functools.partial(Slow())), "Slow is async"),
        (Slow(), "Slow is async"),
        (Named().test_slowly, "Named.test_slowly is async"),
        (are_slow, "are_slow is async or a generator"),
        (are_many, "are_many is async or a generator"),
        (Many(), "Many is async or a generator"),
    ],
)
def test_what_is_no_filter_is_refused_at_registration(condition: object, part: str) -> None:
    uses: list[Any] = [as_filter, TRUE.__and__, TRUE.__rand__, TRUE.__or__, TRUE.__ror__]
    for use in uses:
        with pytest.raises(RegistrationError) as caught:
            use(condition)
        assert part in str(caught.value)


def wrapped(function: Callable[[Record], Awaitable[bool]]) -> Callable[[Record], Any]:
    @functools.wraps(function)
    def call(record: Record) -> Awaitable[bool]:
        return function(record)

    return call


def test_a_coroutine_that_a_function_returns_is_closed_and_reported() -> None:
    with pytest.raises(TypeError, match=r"is_slow returned an awaitable.*into the handler"):
        as_filter(wrapped(is_slow))(RECORD)  # were it not closed, a warning would fail this test


def test_any_awaitable_that_a_function_returns_is_reported() -> None:
    loop = asyncio.new_event_loop()
    try:
        future: Any = loop.create_future()
        with pytest.raises(TypeError, match="returned an awaitable"):
            as_filter(lambda record: future)(RECORD)
    finally:
        loop.close()


def test_a_filter_that_a_function_returns_is_reported() -> None:
    with pytest.raises(TypeError, match=r"F\.new\.a == 1 is a filter"):
        as_filter(lambda record: F.new.a == 1)(RECORD)
    with pytest.raises(TypeError, match=r"F\.new\.a is a path"):
        as_filter(lambda record: F.new.a)(RECORD)


def test_a_filter_is_itself_as_a_filter() -> None:
    assert as_filter(TRUE) is TRUE
