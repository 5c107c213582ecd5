"""Filters against a model: the same comparison on decoded values, types kept apart."""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dynaflow.codec import decode_records
from dynaflow.encoding import encode
from dynaflow.filters import F, Filter, Path, added, changed, crossed, removed
from dynaflow.record import Record
from dynaflow.values import type_of

Item = dict[str, Any]
some = settings(max_examples=100, deadline=None)
ORDERED = ("S", "N", "B")

# Few distinct values, so that equal ones meet often.
texts = st.text("aé\uffff\U0001f600", max_size=2)
numbers = st.one_of(
    st.integers(-2, 2),
    st.sampled_from([Decimal("1.0"), Decimal("1E+1"), Decimal("-0"), Decimal("1E-130")]),
    st.integers(10**38 - 3, 10**38 - 1),
)
binaries = st.binary(max_size=2)
scalars = st.one_of(texts, numbers, binaries, st.booleans(), st.none())
sets = st.one_of(*(st.frozensets(s, min_size=1, max_size=2) for s in (texts, numbers, binaries)))
values = st.recursive(
    st.one_of(scalars, sets),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=4,
)
orderable = st.one_of(texts, numbers, binaries)
items = st.dictionaries(st.sampled_from("ab"), values, max_size=2)
names = st.one_of(
    st.sampled_from(["a", "exists", "class", "__x", "_y", "a.b", "new", "ﬁ", '"', "\n"]),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3),
)
images = st.sampled_from([F.new, F.old, F.keys])


def record(old: Item | None, new: Item | None) -> Record:
    stream: dict[str, Any] = {"Keys": {"id": {"S": "x"}}, "SequenceNumber": "1"}
    if old is not None:
        stream["OldImage"] = {name: encode(value) for name, value in old.items()}
    if new is not None:
        stream["NewImage"] = {name: encode(value) for name, value in new.items()}
    name = "INSERT" if old is None else "REMOVE" if new is None else "MODIFY"
    (decoded,) = decode_records([{"eventName": name, "dynamodb": stream}], "")
    assert isinstance(decoded, Record)
    return decoded


def equal(left: Any, right: Any) -> bool:
    """Return whether two Python values are one DynamoDB value, told from their types."""
    kind = type_of(encode(left))
    if kind != type_of(encode(right)):
        return False
    if kind == "L":
        return len(left) == len(right) and all(map(equal, left, right))
    if kind == "M":
        return left.keys() == right.keys() and all(equal(left[k], right[k]) for k in left)
    return bool(left == right)


@some
@given(values, values)
def test_equality_is_of_type_and_value(value: Any, other: Any) -> None:
    change = record(None, {"a": value, "b": other})
    expected = equal(value, other)

    assert (F.new.a == other)(change) is expected
    assert (F.new.a != other)(change) is not expected
    assert (F.new.a == F.new.b)(change) is expected
    assert (F.new.a != F.new.b)(change) is not expected
    assert F.new.a.is_in([other])(change) is expected
    assert (F.new.a == value)(change)


@pytest.mark.parametrize("compare", [operator.lt, operator.le, operator.gt, operator.ge])
@some
@given(value=values, bound=orderable)
def test_order_is_within_a_type_only(
    compare: Callable[[Any, Any], Any], value: Any, bound: Any
) -> None:
    change = record(None, {"a": value, "b": bound})
    kind = type_of(encode(value))
    same = kind == type_of(encode(bound)) and kind in ORDERED
    # DynamoDB orders text by its UTF-8 bytes.
    left, right = (v.encode() if isinstance(v, str) else v for v in (value, bound))
    expected = same and compare(left, right)

    assert compare(F.new.a, bound)(change) is expected
    assert compare(F.new.a, F.new.b)(change) is expected


@some
@given(values, orderable, orderable)
def test_between_is_both_comparisons(value: Any, low: Any, high: Any) -> None:
    assume(type_of(encode(low)) == type_of(encode(high)) and low <= high)
    change = record(None, {"a": value})

    both = (F.new.a >= low) & (F.new.a <= high)
    assert F.new.a.between(low, high)(change) is both(change)


@some
@given(st.none() | items, st.none() | items, values, orderable)
def test_changes_are_what_old_and_new_say(
    old: Item | None, new: Item | None, value: Any, bound: Any
) -> None:
    assume(old is not None or new is not None)
    change = record(old, new)
    before, after = F.old.a.exists()(change), F.new.a.exists()(change)
    differs = before != after or (before and (F.old.a != F.new.a)(change))

    assert changed("a")(change) is differs
    assert changed("a", to=value)(change) is (differs and (F.new.a == value)(change))
    assert changed("a", was=value)(change) is (differs and (F.old.a == value)(change))
    assert added("a")(change) is (after and not before)
    assert removed("a")(change) is (before and not after)
    above = (F.new.a > bound)(change) and not (F.old.a > bound)(change)
    assert crossed("a", above=bound)(change) is above
    below = (F.new.a < bound)(change) and not (F.old.a < bound)(change)
    assert crossed("a", below=bound)(change) is below


@st.composite
def paths(draw: st.DrawFn) -> Path:
    path = draw(images)[draw(names)]
    for segment in draw(st.lists(names | st.integers(0, 99), max_size=3)):
        path = path[segment]
    return path


leaves = st.one_of(
    st.builds(operator.eq, paths(), values),
    st.builds(operator.gt, paths(), orderable),
    st.builds(operator.le, paths(), paths()),
    st.builds(lambda path, options: path.is_in(options), paths(), st.lists(values, min_size=1)),
    st.builds(lambda path: path.exists(), paths()),
    st.builds(lambda name, to: changed(name, to=to), names, values),
    st.builds(lambda name, bound: crossed(name, below=bound), names, orderable),
)
filters: st.SearchStrategy[Filter] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(operator.and_, inner, inner),
        st.builds(operator.or_, inner, inner),
        st.builds(operator.invert, inner),
    ),
    max_leaves=5,
)


@some
@given(filters)
def test_the_text_of_a_filter_evaluates_to_the_filter(condition: Filter) -> None:
    names = {"F": F, "changed": changed, "crossed": crossed, "Decimal": Decimal}

    written = eval(repr(condition), names)  # noqa: S307  # it is our own text that is tested

    assert written == condition
    assert hash(written) == hash(condition)
