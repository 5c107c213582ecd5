"""What follows from one pattern, or list of rules, for another, against all values there can be.

What a rule means is asked of the matcher of ``dynaflow.testing``, which knows none of this.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dynaflow.pushdown.pattern import Pattern, parsed
from dynaflow.pushdown.rules import ABSENT, PRESENT, Rule, Rules, both, either, is_covered
from dynaflow.record import EventName
from tests.support.matchers import MATCHERS

some = settings(max_examples=100, deadline=None)

TEXTS = ("", "a", "b", "ab", "ba", "aba")
ONE = (None, *TEXTS)
SEVERAL = (None, *([text] for text in TEXTS), *(list(pair) for pair in product("ab", ["ab", "ba"])))

texts = st.sampled_from(TEXTS)
affixes = st.sampled_from(["a", "b", "ab", "ba"])
rules = st.frozensets(
    st.one_of(
        st.builds(Rule, st.just("is"), texts),
        st.builds(Rule, st.sampled_from(["prefix", "suffix"]), affixes),
        st.builds(Rule, st.just("but"), st.frozensets(texts, min_size=1, max_size=3)),
        st.sampled_from([PRESENT, ABSENT]),
    ),
    min_size=1,
    max_size=3,
)
FIELDS = (("dynamodb", "NewImage", "a", "S"), ("dynamodb", "NewImage", "b", "SS"))
events = st.frozensets(st.sampled_from(list(EventName)), min_size=1)
patterns = st.builds(Pattern, events, st.dictionaries(st.sampled_from(FIELDS), rules, max_size=2))


def accepts(rules: Rules, value: Any) -> bool:
    """Return True if one of the rules is true of a field's value; None is a missing field."""
    pattern = json.dumps({"f": [rule.to_json() for rule in rules]})
    return bool(rules) and MATCHERS["ours"]([pattern])({} if value is None else {"f": value})


def matching(pattern: Pattern | None) -> list[bool]:
    """Return which records a pattern matches."""
    if pattern is None:
        return [False] * len(RECORDS)
    if pattern.is_catch_all:
        return [True] * len(RECORDS)
    return list(map(MATCHERS["ours"]([pattern.to_json()]), RECORDS))


def all_records() -> Iterator[dict[str, Any]]:
    for event, one, several in product(EventName, ONE, SEVERAL):
        image = {
            **({} if one is None else {"a": {"S": one}}),
            **({} if several is None else {"b": {"SS": several}}),
        }
        yield {"eventName": event.value, "dynamodb": {"NewImage": image}}


RECORDS = list(all_records())


@some
@given(rules, rules, st.booleans())
def test_both_accept_what_the_one_and_the_other_do(one: Rules, other: Rules, many: bool) -> None:
    met, is_exact = both(one, other, many=many)

    for value in SEVERAL if many else ONE:
        expected = accepts(one, value) and accepts(other, value)
        assert accepts(met, value) or not expected
        assert not is_exact or accepts(met, value) is expected


@some
@given(rules, rules)
def test_either_accepts_what_the_one_or_the_other_does_and_nothing_else(
    one: Rules, other: Rules
) -> None:
    joined = either(one, other)

    for value in (*ONE, *SEVERAL):
        expected = accepts(one, value) or accepts(other, value)
        assert (joined is None or accepts(joined, value)) is expected


@some
@given(rules, rules)
def test_what_covers_rules_accepts_all_that_they_do(narrow: Rules, wide: Rules) -> None:
    if is_covered(narrow, wide):
        for value in (*ONE, *SEVERAL):
            assert accepts(wide, value) or not accepts(narrow, value)


@some
@given(patterns, patterns)
def test_a_pattern_that_covers_another_matches_all_that_it_does(
    wide: Pattern, other: Pattern
) -> None:
    for narrow in (other, wide.narrowed(other.fields)[0]):
        if narrow is not None and wide.covers(narrow):
            pairs = zip(matching(wide), matching(narrow), strict=True)
            assert all(is_wide or not is_narrow for is_wide, is_narrow in pairs)


@some
@given(patterns, patterns)
def test_a_joined_pattern_matches_all_that_its_parts_do(one: Pattern, other: Pattern) -> None:
    found = matching(one.joined(other))
    expected = [a or b for a, b in zip(matching(one), matching(other), strict=True)]

    assert all(f or not e for f, e in zip(found, expected, strict=True))
    assert not one.loses_nothing(other) or found == expected


@some
@given(patterns, patterns)
def test_a_narrowed_pattern_matches_what_has_the_fields_too(one: Pattern, other: Pattern) -> None:
    narrowed, is_exact = one.narrowed(other.fields)
    added = matching(Pattern(frozenset(EventName), other.fields))
    expected = [a and b for a, b in zip(matching(one), added, strict=True)]
    found = matching(narrowed)

    assert all(f or not e for f, e in zip(found, expected, strict=True))
    assert not is_exact or found == expected


@some
@given(patterns)
def test_a_pattern_that_is_read_back_is_the_same(pattern: Pattern) -> None:
    assert parsed(pattern.to_json()) == pattern
