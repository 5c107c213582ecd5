"""Patterns against routes: whatever a route would run or fail for, a pattern matches.

The patterns are read by three matchers that know nothing of how they came about, the records are
as DynamoDB writes them, and the routes are asked as they are in production.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dynaflow import App
from dynaflow.codec import decode_records
from dynaflow.errors import DynaflowError
from dynaflow.pushdown import Pushdown, Pushed
from dynaflow.record import Record
from tests.support.matchers import MATCHERS, matched_by
from tests.support.random_records import VIEW_TYPES, has_dots, hints_of, raw_records
from tests.support.random_routes import apps

some = settings(max_examples=40, deadline=None)
view_types = st.sampled_from([None, None, *VIEW_TYPES[:1] * 4, *VIEW_TYPES])


def decoded(raw: Mapping[str, Any]) -> Record:
    (record,) = decode_records([raw], raw["eventSourceARN"])
    assert isinstance(record, Record)
    return record


def wanted_by(app: App, raw: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the routes that would run for a record, and those that would fail it."""
    matching, unclear = app._table.match(decoded(raw))
    return [route.name for route in matching], [route.name for route, _ in unclear]


def is_sound(app: App, pushdown: Pushdown, raw: Mapping[str, Any], matcher: str) -> None:
    runs, fails = wanted_by(app, raw)
    if runs or fails:
        assert matched_by(matcher, pushdown.filter_criteria())(raw), (runs, fails)


def plain(app: App) -> st.SearchStrategy[dict[str, Any]]:
    """Records with all images, where each name is one way only."""
    records = raw_records(VIEW_TYPES[0], hints_of(app))
    return records.filter(lambda raw: not has_dots(raw))


@st.composite
def pushed(draw: st.DrawFn) -> tuple[App, Pushdown, str | None]:
    app = draw(apps())
    view_type = draw(view_types)
    try:
        pushdown = app.pushdown(
            draw(st.sampled_from([None, "t"])),
            view_type=view_type,
            max_patterns=draw(st.sampled_from([1, 2, 3, 5, 5, 10])),
        )
    except DynaflowError as error:
        assert "no route takes records of table" in str(error)
        assume(False)
        raise
    return app, pushdown, view_type


@some
@given(st.data(), pushed())
def test_what_a_route_would_run_or_fail_for_matches(
    data: st.DataObject, given_: tuple[App, Pushdown, str | None]
) -> None:
    app, pushdown, view_type = given_
    for _ in range(5):
        raw = data.draw(raw_records(view_type, hints_of(app)))
        is_sound(app, pushdown, raw, "ours")
        if not has_dots(raw):
            is_sound(app, pushdown, raw, "moto")
            is_sound(app, pushdown, raw, "localstack")


@some
@given(st.data(), apps())
def test_patterns_that_are_exact_match_what_the_route_takes_and_nothing_else(
    data: st.DataObject, app: App
) -> None:
    told = {route.route: route for route in app.pushdown("t", view_type=VIEW_TYPES[0]).routes}
    for _ in range(5):
        raw = data.draw(plain(app))
        record = decoded(raw)
        for compiled in app._table.routes:
            route = told.get(compiled.name)
            if route is None or route.pushed in (Pushed.WIDENED, Pushed.NOT):
                continue
            takes = record.event_name in compiled.route.event_names and compiled.matches(record)
            for matches in MATCHERS.values():
                found = (p.is_catch_all or matches([p.to_json()])(raw) for p in route.wanted)
                assert any(found) is takes, route


@some
@given(pushed())
def test_a_mapping_takes_the_patterns(given_: tuple[App, Pushdown, str | None]) -> None:
    _, pushdown, _ = given_
    filters = pushdown.filter_criteria().get("Filters", [])

    assert len(filters) <= 10
    assert all(len(entry["Pattern"]) <= 4096 for entry in filters)
    assert [json.loads(entry["Pattern"]) for entry in filters] == pushdown.patterns
    assert all(pattern for pattern in pushdown.patterns)
    assert pushdown.not_covered_by(pushdown.filter_criteria()) == []


@st.composite
def mangled(draw: st.DrawFn, criteria: Mapping[str, Any]) -> dict[str, Any]:
    """FilterCriteria that somebody changed by hand, as Lambda would still take them."""
    patterns = [json.loads(entry["Pattern"]) for entry in criteria.get("Filters", [])]
    if len(patterns) > 1 and draw(st.booleans()):
        patterns.pop(draw(st.integers(0, len(patterns) - 1)))
    for pattern in draw(st.lists(st.sampled_from(patterns), max_size=3)) if patterns else ():
        holders = list(_lists(pattern))
        holder, name = draw(st.sampled_from(holders)) if holders else ({}, "eventName")
        rules = copy.deepcopy(holder.get(name, []))
        change = draw(st.sampled_from(["drop", "value", "rule", "more", "unset", "dots"]))
        if change == "drop" and len(rules) > 1:
            rules.pop(draw(st.integers(0, len(rules) - 1)))
        elif change == "value":
            rules = [draw(st.sampled_from(["a", "1", "INSERT", True, "KEYS_ONLY"]))]
        elif change == "rule":
            rules = [draw(st.sampled_from(MANGLED_RULES))]
        elif change == "more":
            rules = [*rules, draw(st.sampled_from(["b", None, 5, *MANGLED_RULES]))]
        elif change == "unset" and len(pattern) > 1:
            pattern.pop(draw(st.sampled_from(sorted(pattern))))
            continue
        elif change == "dots":
            pattern["dynamodb.NewImage.a.S"] = [{"exists": True}]
        holder[name] = rules or ["INSERT"]
    return {"Filters": [{"Pattern": json.dumps(pattern)} for pattern in patterns]}


MANGLED_RULES: list[Any] = [
    {"exists": True},
    {"exists": False},
    {"prefix": "a"},
    {"suffix": "b"},
    {"anything-but": "a"},
    {"anything-but": ["a", "REMOVE"]},
    {"anything-but": [1]},
    {"equals-ignore-case": "A"},
    {"numeric": [">", 0]},
]


def _lists(tree: dict[str, Any]) -> Any:
    for name, inner in tree.items():
        if isinstance(inner, dict):
            yield from _lists(inner)
        else:
            yield tree, name


@some
@given(st.data(), apps(), apps())
def test_routes_that_a_live_filter_is_said_to_cover_miss_nothing(
    data: st.DataObject, app: App, other: App
) -> None:
    source = data.draw(st.sampled_from([app, app, other]))
    live = data.draw(mangled(source.filter_criteria(view_type=VIEW_TYPES[0])))
    pushdown = app.pushdown("t", view_type=VIEW_TYPES[0])
    told = {route.route for route in pushdown.routes}
    missed = set(pushdown.not_covered_by(live))

    for _ in range(5):
        raw = data.draw(plain(app))
        runs, fails = wanted_by(app, raw)
        if {*runs, *fails} & told - missed:
            assert matched_by("ours", live)(raw), (runs, fails, missed)
