"""``app.explain``: for each route, whether it would run and why, as routing decides it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from dynaflow import App, Batch, F, Record, Router, added, changed, crossed
from dynaflow._explain import Cause, Explanation, Finding, RouteExplanation, Verdict
from dynaflow.codec import decode_event
from dynaflow.errors import ImageMissing, MalformedRecord, RegistrationError
from dynaflow.filters import Filter, as_filter
from dynaflow.record import Undecodable
from dynaflow.testing import RecordBuilder

Item = Mapping[str, Any]
ORDER = {"id": "1", "status": "open", "total": 20}
BUILD = RecordBuilder(table="orders")
NEVER = F.new.id == "never"


def record_of(raw: dict[str, Any]) -> Record:
    (record,), _ = decode_event({"Records": [raw]})
    assert isinstance(record, Record)
    return record


def modified(**new: Any) -> Record:
    """Return the record of an order in which these attributes changed."""
    return record_of(BUILD.modify(ORDER, {**ORDER, **new}))


def nothing() -> None:
    """Handle any record."""


def route_with(*conditions: Any, record: Record, show_data: bool = False) -> RouteExplanation:
    """Return the explanation of a route of any event with these filters."""
    router = Router()
    router.on_any(*conditions)(nothing)
    (route,) = App(router).explain(record, show_data=show_data).routes
    return route


def why(condition: Any, record: Record, *, show_data: bool = False) -> str:
    """Return why a filter keeps a route from running."""
    route = route_with(condition, record=record, show_data=show_data)
    assert (route.verdict, route.cause) == (Verdict.NOT, Cause.FILTER)
    return route.reason


def test_each_route_has_its_verdict_and_its_cause_in_order() -> None:
    router = Router(table="orders")
    router.on_insert(name="insert")(nothing)
    router.on_modify(name="plain")(nothing)
    router.on_modify(changed("status", to="paid"), name="paid")(nothing)
    router.on_modify(F.new.total > 100, name="big")(nothing)
    other = Router(table="customers")
    other.on_any(name="other")(nothing)
    explanation = App(router, other).explain(modified(status="paid"))
    assert [(r.route, r.verdict, r.cause, r.reason) for r in explanation.routes] == [
        ("insert", Verdict.NOT, Cause.EVENT, "it takes INSERT"),
        ("plain", Verdict.RUNS, None, "it has no filter"),
        ("paid", Verdict.RUNS, None, "all its filters are true"),
        ("big", Verdict.NOT, Cause.FILTER, "F.new.total > 100 is false: F.new.total is N"),
        ("other", Verdict.NOT, Cause.TABLE, "it takes table 'customers', not 'orders'"),
    ]
    assert explanation.runs == ["plain", "paid"]
    assert explanation.is_clear


def test_it_can_be_read() -> None:
    router = Router()
    router.on_upsert(F.new.total > 100, name="big")(nothing)
    record = modified(status="paid")
    assert str(App(router).explain(record)) == (
        f"<Record MODIFY orders {record.sequence_number}>\n"
        "  big: not: F.new.total > 100 is false: F.new.total is N"
    )
    assert str(App().explain(record)).endswith("\n  no routes")


def test_a_time_to_live_delete_is_told_from_another() -> None:
    router = Router()
    router.on_expire(name="expired")(nothing)
    router.on_remove(ttl=False, name="removed")(nothing)
    app = App(router)
    for raw, name, reason in (
        (BUILD.remove(ORDER), "expired", "it takes only deletes by Time to Live"),
        (BUILD.expire(ORDER), "removed", "it takes no deletes by Time to Live"),
    ):
        (route,) = [r for r in app.explain(record_of(raw)).routes if r.route == name]
        assert (route.verdict, route.cause, route.reason) == (Verdict.NOT, Cause.TTL, reason)


def test_of_an_expiry_by_an_attribute_it_is_said_what_was_found() -> None:
    router = Router()
    router.on_expire(ttl_attribute="expires_at", name="expired")(nothing)
    app = App(router)
    record = record_of(BUILD.remove({**ORDER, "expires_at": "soon"}))
    (route,) = app.explain(record).routes
    assert (route.verdict, route.cause) == (Verdict.NOT, Cause.TTL)
    assert route.reason == "it takes only deletes by Time to Live: F.old.expires_at is S"
    (route,) = app.explain(record_of(BUILD.expire(ORDER))).routes
    assert route.verdict is Verdict.RUNS
    keys_only = RecordBuilder(view_type="KEYS_ONLY")
    (route,) = app.explain(record_of(keys_only.remove(ORDER))).routes
    assert (route.verdict, route.cause) == (Verdict.UNCLEAR, Cause.TTL)
    assert isinstance(route.error, ImageMissing)
    assert "NEW_AND_OLD_IMAGES" in route.reason


def test_the_mark_of_an_expiry_says_it_without_the_image() -> None:
    router = Router()
    router.on_remove(ttl=False, ttl_attribute="expires_at", name="removed")(nothing)
    for build in (BUILD, RecordBuilder(view_type="KEYS_ONLY")):
        (route,) = App(router).explain(record_of(build.expire(ORDER))).routes
        assert (route.verdict, route.cause) == (Verdict.NOT, Cause.TTL)
        assert route.reason == "it takes no deletes by Time to Live"


def test_of_alternatives_the_one_that_was_chosen_is_named() -> None:
    router = Router(match="first")
    router.on_any(NEVER, name="never")(nothing)
    router.on_any(name="first")(nothing)
    router.on_any(name="second")(nothing)
    routes = App(router).explain(modified(total=1)).routes
    assert [(r.verdict, r.cause) for r in routes] == [
        (Verdict.NOT, Cause.FILTER),
        (Verdict.RUNS, None),
        (Verdict.NOT, Cause.GROUP),
    ]
    assert routes[2].reason == "only the first match is called, and first was chosen"


def test_an_alternative_that_cannot_tell_keeps_those_behind_it_from_running() -> None:
    router = Router(match="first")
    router.on_any(lambda record: 1 / 0 > 0, name="broken")(nothing)
    router.on_any(name="second")(nothing)
    explanation = App(router).explain(modified(total=1))
    first, second = explanation.routes
    assert (first.verdict, first.cause) == (Verdict.UNCLEAR, Cause.FILTER)
    assert isinstance(first.error, ZeroDivisionError)
    assert (second.verdict, second.cause) == (Verdict.NOT, Cause.GROUP)
    assert second.reason == "only the first match is called, and broken might be meant"
    assert not explanation.is_clear


def is_urgent(record: Record) -> bool:
    return False


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (F.new.total > 100, "F.new.total > 100 is false: F.new.total is N"),
        (F.new.note == "x", "F.new.note == 'x' is false: F.new.note is missing"),
        (F.new.total == "20", "F.new.total == '20' is false: F.new.total is N, not S"),
        (
            F.new.status.is_in([1, b"x"]),
            "F.new.status.is_in([1, b'x']) is false: F.new.status is S, not B or N",
        ),
        (
            F.new.total > F.new.status,
            "F.new.total > F.new.status is false: F.new.total is N, F.new.status is S",
        ),
        (
            changed("status"),
            "changed('status') is false: F.old.status is S, F.new.status is S",
        ),
        (
            changed("total", to=9),
            "changed('total', to=9) is false: F.new.total == 9 is false: F.new.total is N",
        ),
        (
            added("total"),
            "added('total') is false: F.old.total.exists() is true: F.old.total is N",
        ),
        (
            crossed("total", above=100),
            "crossed('total', above=100) is false: F.new.total > 100 is false: F.new.total is N",
        ),
        (
            (F.new.total > 5) & changed("status"),
            "changed('status') is false: F.old.status is S, F.new.status is S",
        ),
        (
            (F.new.total > 100) | (F.new.note == "x"),
            "F.new.total > 100 is false: F.new.total is N and "
            "F.new.note == 'x' is false: F.new.note is missing",
        ),
        (~F.new.status.exists(), "F.new.status.exists() is true: F.new.status is S"),
        (
            ~((F.new.total > 100) | F.new.status.exists()),
            "F.new.status.exists() is true: F.new.status is S",
        ),
        (
            ~((F.new.total > 5) & F.new.status.exists()),
            "F.new.total > 5 is true: F.new.total is N and "
            "F.new.status.exists() is true: F.new.status is S",
        ),
        (is_urgent, "is_urgent is false"),
    ],
)
def test_the_part_that_said_no_is_named_with_the_types_that_it_found(
    condition: Any, reason: str
) -> None:
    assert why(condition, modified(total=8)) == reason


def test_what_was_not_asked_is_told_apart_from_what_was_false() -> None:
    condition = (F.new.total > 100) & changed("status") & is_urgent
    route = route_with(F.new.id.exists(), condition, is_urgent, record=modified(total=8))
    first, second, third = route.filters
    assert [finding.said for finding in route.filters] == ["true", "false", "not asked"]
    assert [part.said for part in second.parts] == ["false", "not asked", "not asked"]
    assert [part.text for part in second.parts] == [
        "F.new.total > 100",
        "changed('status')",
        "is_urgent",
    ]
    assert (first.text, third.text) == ("F.new.id.exists()", "is_urgent")


def test_an_image_that_the_event_has_not_is_told_apart_from_a_missing_attribute() -> None:
    record = record_of(BUILD.insert(ORDER))
    assert why(F.old.status == "x", record) == (
        "F.old.status == 'x' is false: F.old.status is missing: INSERT has no old image"
    )


def test_values_are_shown_only_on_request() -> None:
    record = modified(status="secret", tags={"b", "a"})
    for condition in (F.new.status == "x", changed("id"), F.new.tags.contains("z")):
        assert "secret" not in why(condition, record)
    assert why(F.new.status == "x", record, show_data=True).endswith('F.new.status is S "secret"')
    shown = why(F.new.tags.contains("x"), record, show_data=True)
    assert shown.endswith('F.new.tags is SS ["a", "b"]')
    assert why(changed("total"), record, show_data=True) == (
        "changed('total') is false: F.old.total is N 20, F.new.total is N 20"
    )


def raises_with_data(record: Record) -> bool:
    raise ValueError(f"no such status: {record.new and record.new['status']}")


def test_what_a_function_raises_is_named_and_quoted_only_on_request() -> None:
    record = modified(status="secret")
    route = route_with(F.new.id.exists() & raises_with_data, record=record)
    assert route.verdict is Verdict.UNCLEAR
    assert route.reason == "raises_with_data raised ValueError"
    assert "secret" not in repr(route)
    shown = route_with(raises_with_data, record=record, show_data=True)
    assert shown.reason == "raises_with_data raised ValueError: no such status: secret"


def test_a_value_that_cannot_be_read_makes_a_route_unclear() -> None:
    record = modified(total=8)
    record.raw["dynamodb"]["NewImage"]["total"] = {"N": "many"}
    route = route_with(F.new.total > 1, record=record)
    assert route.verdict is Verdict.UNCLEAR
    assert "N is not a decimal number" in route.reason
    assert "many" not in route.reason


def test_a_malformed_value_that_a_filter_looks_past_is_no_error() -> None:
    record = modified(total=8)
    record.raw["dynamodb"]["NewImage"]["total"] = {"N": "many"}
    record.raw["dynamodb"]["NewImage"]["odd"] = {"X": 1}
    assert why(~F.new.odd.exists(), record, show_data=True).endswith(
        "F.new.odd is malformed (unknown type descriptor)"
    )
    assert why(F.new.total == "x", record, show_data=True).endswith(
        "F.new.total is N (N is not a decimal number), not S"
    )


def test_an_image_that_the_view_type_leaves_out_is_named_with_the_remedy() -> None:
    record = record_of(RecordBuilder(view_type="KEYS_ONLY").insert(ORDER))
    route = route_with(F.new.total > 1, record=record)
    assert (route.verdict, route.cause) == (Verdict.UNCLEAR, Cause.FILTER)
    assert isinstance(route.error, ImageMissing)
    assert "NEW_AND_OLD_IMAGES" in route.reason


def test_a_record_that_names_no_table_is_unclear_for_a_route_that_wants_one() -> None:
    raw = BUILD.insert(ORDER)
    del raw["eventSourceARN"]
    router = Router(table="orders")
    router.on_any()(nothing)
    (route,) = App(router).explain(record_of(raw)).routes
    assert (route.verdict, route.cause) == (Verdict.UNCLEAR, Cause.TABLE)
    assert isinstance(route.error, MalformedRecord)
    assert "eventSourceARN" in route.reason


def test_a_record_that_cannot_be_read_says_why() -> None:
    raw = BUILD.insert(ORDER)
    del raw["dynamodb"]["Keys"]
    (record,), _ = decode_event({"Records": [raw]})
    assert isinstance(record, Undecodable)
    router = Router()
    router.on_any()(nothing)
    explanation = App(router).explain(record)
    assert explanation == Explanation(record, (), "dynamodb.Keys is missing or empty")
    assert not explanation.is_clear
    assert explanation.runs == []
    assert "dynamodb.Keys is missing or empty" in str(explanation)


def test_a_record_whose_key_cannot_be_read_fails_if_a_route_takes_it() -> None:
    raw = BUILD.insert(ORDER)
    raw["dynamodb"]["Keys"] = {"id": {"N": "many"}}
    router = Router()
    router.on_insert(name="insert")(nothing)
    explanation = App(router).explain(record_of(raw))
    assert "dynamodb.Keys cannot be read" in str(explanation)
    assert not explanation.is_clear
    assert explanation.runs == []
    assert [route.verdict for route in explanation.routes] == [Verdict.RUNS]
    assert App().explain(record_of(raw)).is_clear


def test_a_batch_route_says_that_it_may_take_a_later_record_instead() -> None:
    router = Router()

    @router.on_batch("MODIFY", latest_only=True)
    def index(records: list[Record]) -> None: ...

    (route,) = App(router).explain(modified(total=8)).routes
    assert route.verdict is Verdict.RUNS
    assert "a later record of the item" in route.reason


def test_a_filter_that_does_not_always_say_the_same_is_found_out() -> None:
    answers = iter([False, True])
    route = route_with(lambda record: next(answers), record=modified(total=8))
    assert route.verdict is Verdict.NOT
    assert "does not always say the same" in route.reason


def test_nothing_runs() -> None:
    router, calls = Router(), []
    router.on_any()(lambda: calls.append(1))
    App(router).explain(modified(total=8))
    assert calls == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_what_routing_lets_through_is_let_through(error: type[BaseException]) -> None:
    def interrupted(record: Record) -> bool:
        raise error

    with pytest.raises(error):
        route_with(interrupted, record=modified(total=8))


def raises(record: Record) -> bool:
    raise SystemExit("no")


LEAVES = st.sampled_from(
    [
        F.new.a > 1,
        F.new.a == "x",
        F.old.a != F.new.a,
        F.new.b.c.exists(),
        F.new.a.is_in([1, 2]),
        changed("a", to=2),
        crossed("a", above=1),
        added("b"),
        lambda record: record.event_name == "MODIFY",
        raises,
    ]
)
FILTERS = st.recursive(
    LEAVES.map(as_filter),
    lambda inner: st.one_of(
        inner.map(lambda part: ~part),
        st.tuples(inner, inner).map(lambda pair: pair[0] & pair[1]),
        st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1]),
    ),
    max_leaves=8,
)
VALUES = st.sampled_from([1, 2, 3, "x", None, {"c": 1}])
ITEMS = st.dictionaries(st.sampled_from(["a", "b"]), VALUES)


@given(
    st.lists(st.tuples(FILTERS, st.sampled_from([("INSERT",), ("MODIFY",), ("INSERT", "MODIFY")]))),
    st.sampled_from(["all", "first"]),
    ITEMS,
    st.none() | ITEMS,
)
def test_its_verdicts_are_those_of_routing(
    routes: list[tuple[Filter, tuple[str, ...]]], match: Any, new: Item, old: Item | None
) -> None:
    router = Router(match=match)
    for at, (condition, names) in enumerate(routes):
        router.add_route(names, nothing, condition, name=f"r{at}")
    try:
        app = App(router)
    except RegistrationError as error:
        assert "is never true on INSERT" in str(error)
        reject()
    key = {"id": "1"}
    raw = BUILD.insert({**key, **new})
    if old is not None:
        raw = BUILD.modify({**key, **old}, {**key, **new})
    record = record_of(raw)
    explanation = app.explain(record)
    plan = app.plan(Batch((record,)))
    jobs = [job for lane in plan.lanes for job in lane.jobs]
    assert explanation.runs == [route.name for job in jobs for route in job.routes]
    unclear = [r.route for r in explanation.routes if r.verdict is Verdict.UNCLEAR]
    assert unclear == [outcome.route for outcome in plan.refused]
    for route, (condition, _) in zip(explanation.routes, routes, strict=True):
        for finding in route.filters:
            assert finding.result == outcome_of(condition, record)
            assert _is_told(route.reason, finding)


def outcome_of(condition: Filter, record: Record) -> bool | None:
    try:
        return condition(record)
    except SystemExit:
        return None


def _is_told(reason: str, finding: Finding) -> bool:
    """Return True if the reason names a part of the filter that has no further parts."""
    if not finding.parts:
        return finding.text in reason
    return any(_is_told(reason, part) for part in finding.parts)
