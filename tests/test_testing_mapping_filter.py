"""Filters of the model of Lambda's mapping: event-ruler's rules, and what filtering changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from dynaflow import App, F, Router, changed
from dynaflow.testing import EventSourceMapping, MappingReport, RecordBuilder
from dynaflow.testing._mapping_filter import filtering

# Rules of a field and values that they accept, then values that they do not. None is no field.
RULES: list[tuple[list[Any], list[Any], list[Any]]] = [
    (["a"], ["a", ["b", "a"]], [None, "A", "ab", ["b"], [], 1]),
    ([""], [""], [None, "a", []]),
    ([True], [True], [None, False, "true", 1]),
    ([None], [[None]], [None, "null", False]),
    ([1], [1, 1.0], [None, "1", True, 2]),
    ([{"prefix": "a"}], ["a", "ab", ["b", "ab"]], [None, "ba", "A", 1]),
    ([{"suffix": "a"}], ["a", "ba"], [None, "ab"]),
    ([{"equals-ignore-case": "Ab"}], ["aB", "ab"], [None, "b"]),
    ([{"anything-but": "a"}], ["b", "", ["a", "b"], 1], [None, "a", ["a"], []]),
    ([{"anything-but": ["a", "b"]}], ["c", ["a", "c"]], [None, "a", "b", ["a", "b"]]),
    ([{"anything-but": [1]}], [2, "1"], [None, 1, 1.0]),
    ([{"exists": True}], ["a", "", ["a"], False], [None, [], {"a": 1}]),
    ([{"exists": False}], [None, [], {"a": 1}], ["a", "", ["a"], False]),
    ([{"anything-but": ["a"]}, {"exists": False}], [None, "b", ["a", "b"]], ["a", ["a"]]),
    (["10.0.0.1", {"prefix": "1"}], ["10.0.0.1", "1", "1a"], [None, "10.0.0.2", "2"]),
    (["::1", {"anything-but": "a"}], ["::1", "0:0:0:0:0:0:0:1", "::2", "b"], [None, "a"]),
    (["12:30"], ["12:30"], ["12:31"]),
    ([{"numeric": [">", 0, "<=", 5]}], [1, 5, 0.5], [None, 0, 6, "1", True]),
    ([{"numeric": ["=", 3]}], [3, 3.0], [None, "3", 2]),
]


@pytest.mark.parametrize(("rules", "accepted", "refused"), RULES, ids=str)
def test_a_rule_accepts_what_event_ruler_says(
    rules: list[Any], accepted: list[Any], refused: list[Any]
) -> None:
    passes = filtering({"Filters": [{"Pattern": json.dumps({"f": rules})}]})
    for value, expected in [*((v, True) for v in accepted), *((v, False) for v in refused)]:
        assert passes({"other": 1} if value is None else {"f": value}) is expected, value


def patterns(*trees: Any) -> Any:
    return filtering({"Filters": [{"Pattern": json.dumps(tree)} for tree in trees]})


def test_names_are_joined_by_dots_and_two_ways_may_lead_to_one_field() -> None:
    assert patterns({"a.b": ["x"]})({"a": {"b": "x"}})
    assert patterns({"a": {"b": ["x"]}})({"a.b": "x"})
    for wanted in "xy":
        assert patterns({"a": {"b": [wanted]}})({"a": {"b": "x"}, "a.b": "y"})


def test_what_is_wanted_of_the_objects_of_an_array_must_be_in_the_same_object() -> None:
    passes = patterns({"a": {"x": [1], "y": [2]}})
    assert passes({"a": [{"x": 1, "y": 2}, {"x": 3}]})
    assert not passes({"a": [{"x": 1}, {"y": 2}]})


def test_one_of_several_patterns_will_do_and_so_will_one_of_an_or() -> None:
    assert patterns({"a": [1]}, {"b": [2]})({"b": 2})
    either = patterns({"c": [3], "$or": [{"a": [1]}, {"b": [2]}]})
    assert either({"c": 3, "b": 2})
    assert not either({"c": 3})
    assert not either({"b": 2})


def test_no_pattern_is_no_filter() -> None:
    assert filtering({})({"a": 1})
    assert filtering({"Filters": []})({"a": 1})


@pytest.mark.parametrize(
    "pattern",
    [
        "[]",
        "{",
        '{"a": "x"}',
        '{"a": []}',
        '{"a": {}}',
        '{"a": [{"exists": "yes"}]}',
        '{"a": [{"anything-but": ["x", 1]}]}',
        '{"a": [{"anything-but": {"prefix": "x"}}]}',
        '{"a": [{"wildcard": "*"}]}',
        '{"a": [{"prefix": 1}]}',
        json.dumps({"a": ["x" * 4096]}),
    ],
)
def test_a_pattern_that_lambda_would_refuse_is_refused(pattern: str) -> None:
    criteria = {"Filters": [{"Pattern": pattern}]}
    with pytest.raises(ValueError, match=r".+"):
        EventSourceMapping(lambda event, context: None, filter_criteria=criteria)


def test_more_than_ten_patterns_are_refused() -> None:
    with pytest.raises(ValueError, match="up to 10 patterns, got 11"):
        filtering({"Filters": [{"Pattern": '{"a": [1]}'}] * 11})


def changes() -> Iterator[dict[str, Any]]:
    """A life of forty items: made, changed a few times, some deleted or expired."""
    build = RecordBuilder(("id",), table="orders")
    for n in range(40):
        order: dict[str, Any] = {"id": str(n), "status": "open", "total": n}
        yield build.insert(order)
        for status in ("open", "paid", "paid", "shipped")[: n % 5]:
            before, order = order, {**order, "status": status}
            yield build.modify(before, order)
        if n % 3 == 0:
            yield (build.remove if n % 2 else build.expire)(order)


def test_with_the_filter_the_effects_are_the_same_and_the_invocations_fewer() -> None:
    raws = list(changes())

    def delivered(filtered: bool) -> tuple[list[Any], MappingReport]:
        effects: list[Any] = []
        left = [2]  # how often one of them fails
        router = Router(table="orders")

        @router.on_modify(changed("status", to="paid"), name="paid")
        def paid(new: dict[str, Any]) -> None:
            if new["id"] == "17" and left[0]:
                left[0] -= 1
                raise ValueError("not yet")
            effects.append(("paid", new["id"]))

        @router.on_insert(F.new.total > 30, name="large")
        def large(new: dict[str, Any]) -> None:
            effects.append(("large", new["id"]))

        @router.on_expire(name="expired")
        def expired(old: dict[str, Any]) -> None:
            effects.append(("expired", old["id"]))

        app = App(router, threads=0)
        mapping = EventSourceMapping(
            app.lambda_handler(report_batch_item_failures=True),
            report_batch_item_failures=True,
            batch_size=5,
            filter_criteria=app.filter_criteria("orders") if filtered else None,
        )
        report = mapping.run(raws)
        return effects, report

    (plain, without), (same, with_filter) = delivered(False), delivered(True)
    assert set(same) == set(plain)
    assert len(with_filter.invocations) < len(without.invocations)
    assert not (with_filter.pending or without.pending or with_filter.given_up)
    assert with_filter.checkpoints == without.checkpoints
    assert len(with_filter.filtered) > 40
    assert not any(with_filter.deliveries[number] for number in with_filter.filtered)
