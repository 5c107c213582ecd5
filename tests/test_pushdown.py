"""Filters as patterns: what each expression becomes, and that no wanted record is left out.

Every filter of the grid is asked about every record of the grid, by three matchers.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import product
from typing import Any

import pytest

from dynaflow import App, F, Record, Router, added, changed, crossed, removed
from dynaflow.codec import decode_records
from dynaflow.errors import DynaflowError
from dynaflow.filters import as_filter
from dynaflow.pushdown import Pushdown, Pushed
from dynaflow.testing import RecordBuilder
from tests.support.matchers import MATCHERS, matched_by
from tests.support.routers import nothing

EVENTS = ("INSERT", "MODIFY", "REMOVE")
ALL_IMAGES = "NEW_AND_OLD_IMAGES"


def pushed(*filters: Any, events: Sequence[str] = EVENTS, **options: Any) -> Pushdown:
    """Return what becomes of one route's filters, on a stream with all images."""
    router = Router()
    router.on(*events, when=filters, name="r")(nothing)
    return App(router).pushdown(**{"view_type": ALL_IMAGES, **options})


def is_true(record: Record) -> bool:
    return True


# Filter, what the pattern says on MODIFY, and how much of the filter that is.
TOLD: list[tuple[Any, str, Pushed]] = [
    (F.new.a == "x", 'MODIFY, F.new.a is "x"', Pushed.EXACTLY),
    (F.new.a == 1, "MODIFY, F.new.a is 1", Pushed.EXACTLY),
    (F.new.a == Decimal("1.50"), "MODIFY, F.new.a is 1.5", Pushed.EXACTLY),
    (F.new.a == Decimal("1E+2"), "MODIFY, F.new.a is 100", Pushed.EXACTLY),
    (F.new.a == 0 * Decimal(-1), "MODIFY, F.new.a is 0", Pushed.EXACTLY),
    (F.new.a == 10**21, "MODIFY, F.new.a is of type N", Pushed.WIDENED),
    (F.new.a == b"ab", 'MODIFY, F.new.a is base64 "YWI="', Pushed.EXACTLY),
    (F.new.a == True, "MODIFY, F.new.a is true", Pushed.EXACTLY),  # noqa: E712  # makes a filter
    (F.new.a == None, "MODIFY, F.new.a is null", Pushed.EXACTLY),  # noqa: E711  # makes a filter
    (F.new.a == {"x", "y"}, 'MODIFY, F.new.a has "x"', Pushed.WIDENED),
    (F.new.a == [1], "any MODIFY", Pushed.NOT),
    (F.new.a == "10.0.0.1", 'MODIFY, F.new.a is "10.0.0.1"', Pushed.EXACTLY),
    (F.new.a == "a:b", 'MODIFY, F.new.a is "a:b"', Pushed.WIDENED),
    (F.new.a != "x", 'MODIFY, F.new.a is not "x"', Pushed.EXACTLY),
    (F.new.a != True, "MODIFY, F.new.a is false or is not of type BOOL", Pushed.EXACTLY),  # noqa: E712  # makes a filter
    (F.new.a != None, "MODIFY, F.new.a is not of type NULL", Pushed.EXACTLY),  # noqa: E711  # makes a filter
    (F.new.a.is_in(["x", "y"]), 'MODIFY, F.new.a is "x" or "y"', Pushed.EXACTLY),
    (F.new.a.is_in(["x", 1]), 'MODIFY, F.new.a is 1 | MODIFY, F.new.a is "x"', Pushed.EXACTLY),
    (~F.new.a.is_in(["x", "y"]), 'MODIFY, F.new.a is not "x" or "y"', Pushed.EXACTLY),
    (F.new.a > 5, "MODIFY, F.new.a is of type N", Pushed.WIDENED),
    (F.new.a.between("a", "b"), "MODIFY, F.new.a is of type S", Pushed.WIDENED),
    (F.new.a > F.old.a, "any MODIFY", Pushed.NOT),
    (F.new.a.startswith("x"), 'MODIFY, F.new.a starts with "x"', Pushed.EXACTLY),
    (F.new.a.endswith("x"), 'MODIFY, F.new.a ends with "x"', Pushed.EXACTLY),
    (F.new.a.startswith(""), "MODIFY, F.new.a is of type S", Pushed.EXACTLY),
    (F.new.a.startswith(b"abcd"), 'MODIFY, F.new.a starts with base64 "YWJj"', Pushed.WIDENED),
    (F.new.a.contains("x"), "any MODIFY", Pushed.NOT),
    (F.new.a.exists(), "any MODIFY", Pushed.NOT),
    (~F.new.a.exists(), "MODIFY, F.new.a is missing, or a list or a map", Pushed.WIDENED),
    (F.new.a.is_type("SS"), "MODIFY, F.new.a is of type SS", Pushed.EXACTLY),
    (F.new.a.is_type("M"), "any MODIFY", Pushed.NOT),
    (changed("a"), "any MODIFY", Pushed.NOT),
    (changed("a", to="x"), 'MODIFY, F.new.a is "x", F.old.a is not "x"', Pushed.EXACTLY),
    (changed("a", was=1, to=2), "MODIFY, F.new.a is 2, F.old.a is 1", Pushed.EXACTLY),
    (added("a"), "MODIFY, F.old.a is missing, or a list or a map", Pushed.WIDENED),
    (crossed("a", above=5), "MODIFY, F.new.a is of type N", Pushed.WIDENED),
    (F.new.m.a == "x", 'MODIFY, F.new.m.a is "x"', Pushed.EXACTLY),
    (F.new.m.a != "x", "any MODIFY", Pushed.NOT),
    (F.new["a.b"] == "x", 'MODIFY, F.new["a.b"] is "x"', Pushed.EXACTLY),
    (F.new.a[0] == "x", "any MODIFY", Pushed.NOT),
    (F.new["$or"] == "x", "any MODIFY", Pushed.NOT),
    (is_true, "any MODIFY", Pushed.NOT),
]


@pytest.mark.parametrize(
    ("condition", "text", "how"),
    TOLD,
    ids=lambda value: getattr(value, "__name__", repr(value))[:60],
)
def test_what_a_filter_becomes(condition: Any, text: str, how: Pushed) -> None:
    pushdown = pushed(condition, events=["MODIFY"])

    assert " | ".join(map(str, pushdown.given)) == text
    assert pushdown.routes[0].pushed is how
    assert bool(pushdown.routes[0].reasons) is (how is not Pushed.EXACTLY)


VALUES: list[Any] = [
    *("", "x", "xy", "yx", "1", "YWI=", 'q"', "ü😀", "true", "z" * 300, "z" * 5000),
    *("10.0.0.1", "10.0.0.2", "a:b", "A:B"),
    *(0, 1, 2, -1, 6, Decimal("1.5"), 100, 10**21, Decimal("1E-7"), 10**38 - 1),
    *(b"", b"ab", b"abc", b"abcd", True, False, None),
    *({"x"}, {"x", "y"}, {1, 2}, {b"ab"}, [], ["x"], [1], {}, {"a": "x"}, {"a": {"a": "x"}}),
]
NO_VALUE = object()


def records() -> Iterator[dict[str, Any]]:
    """One record for each pair of some values, and for each value alone, at each event."""
    build = RecordBuilder(("id",), table="t")
    few = [NO_VALUE, "x", "y", 1, 2, 6, True, {"a": "x"}]
    for value in [NO_VALUE, *VALUES]:
        yield build.insert(item(value))
        yield build.remove(item(value))
        yield build.expire(item(value))
        yield build.modify(item(value, n=1), item(value, n=2))
    for before, after in product(few, few):
        yield build.modify(item(before, n=1), item(after, n=2))


def item(value: Any, **others: Any) -> dict[str, Any]:
    held = {} if value is NO_VALUE else {"a": value, "m": value, "$or": value}
    return {"id": "1", **held, **others}


RAWS = list(records())
RECORDS: list[Any] = [decode_records([raw], raw["eventSourceARN"])[0] for raw in RAWS]


def variants() -> Iterator[Any]:
    """The filters of the table, on both images, and some of them combined."""
    conditions = [condition for condition, _, _ in TOLD if condition is not is_true]
    for condition in conditions:
        yield condition
        yield ~condition
    old = [F.old.a == "x", F.old.a != 1, F.old.a != True, ~F.old.a.exists(), F.old.a.is_in([1, 2])]  # noqa: E712  # makes a filter
    for one, other in product(old, [*conditions[:3], *conditions[11:17], is_true]):
        yield one & other
        yield ~one | other
    yield F.new.a.is_in(["x", 1, True, None, b"ab", {"x"}, 10**21])
    yield ~F.new.a.is_in(["x", 1, True, b"ab"])
    yield (F.new.a == "10.0.0.1") | F.new.a.startswith("10.")
    yield (F.new.a == "10.0.0.1") | F.new.a.endswith(".2") | F.new.a.is_type("N")
    yield F.new.a.is_in(["10.0.0.1", "a:b", "x"])
    yield (F.new.a != "xy") | F.new.a.startswith("x")
    yield (F.new.a != "xy") | F.new.a.endswith("y")
    yield removed("a")
    yield changed("a", was="x")
    yield changed(F.new.m.a, to="x")
    yield crossed("a", below="x")
    yield (F.new.a == "x") & changed("a") & (F.old.a != "y")
    yield (F.new.a == "z" * 5000) | (F.new.a == "x")
    yield F.new.a.startswith("z" * 5000) & F.new.a.is_type("S")


@pytest.mark.parametrize("most", [1, 5])
def test_no_filter_of_the_grid_leaves_out_a_record_of_the_grid_that_it_is_true_of(
    most: int,
) -> None:
    for condition in variants():
        router = Router()
        router.on_any(condition, name="r")(nothing)
        app = App(router)
        pushdown = app.pushdown(view_type=ALL_IMAGES, max_patterns=most)
        criteria = pushdown.filter_criteria()
        is_exact = pushdown.routes[0].pushed is Pushed.EXACTLY and criteria
        runs = [bool(app._table.match(record)[0]) for record in RECORDS]
        for matcher in MATCHERS if most > 1 else ["ours"]:
            passes = matched_by(matcher, criteria)
            for raw, wanted in zip(RAWS, runs, strict=True):
                if wanted or is_exact:
                    assert passes(raw) is wanted, (condition, raw)


@pytest.mark.parametrize("ttl", [True, False])
@pytest.mark.parametrize("attribute", [None, "a"])
def test_deletes_by_time_to_live_are_told_by_their_mark(ttl: bool, attribute: str | None) -> None:
    router = Router()
    router.on_remove(ttl=ttl, ttl_attribute=attribute, name="r")(nothing)
    app = App(router)
    criteria = app.filter_criteria(view_type=ALL_IMAGES)
    exact = app.pushdown(view_type=ALL_IMAGES).routes[0].pushed is Pushed.EXACTLY

    assert exact is (attribute is None)
    for matcher in MATCHERS:
        passes = matched_by(matcher, criteria)
        for raw, record in zip(RAWS, RECORDS, strict=True):
            runs = bool(app._table.match(record)[0])
            assert passes(raw) or not runs
            assert not exact or passes(raw) is runs


def test_an_attribute_of_expiry_that_patterns_cannot_name_is_left_out() -> None:
    router = Router()
    router.on_expire(ttl_attribute="$or", name="r")(nothing)
    pushdown = App(router).pushdown(view_type=ALL_IMAGES)
    assert pushdown.patterns == [{"eventName": ["REMOVE"]}]
    assert "the name $or" in " ".join(pushdown.routes[0].reasons)


def test_a_text_that_looks_like_an_address_hides_no_prefix_beside_it() -> None:
    """event-ruler compares addresses in such a list, of which none starts with a text."""
    raw = RecordBuilder(("id",), table="t").insert({"id": "1", "a": "10.0.0.2"})
    field = ["dynamodb", "NewImage", "a", "S"]
    naive: Any = ["10.0.0.1", {"prefix": "10."}]
    for name in reversed(field):
        naive = {name: naive}
    assert not matched_by("ours", {"Filters": [{"Pattern": json.dumps(naive)}]})(raw)

    told = pushed((F.new.a == "10.0.0.1") | F.new.a.startswith("10."), events=["INSERT"])
    assert matched_by("ours", told.filter_criteria())(raw)
    assert told.not_covered_by(told.filter_criteria()) == []
    assert told.not_covered_by({"Filters": [{"Pattern": json.dumps(naive)}]}) == ["r"]


def test_an_attribute_whose_name_has_dots_is_not_taken_for_a_map() -> None:
    build = RecordBuilder(("id",), table="t")
    both = build.insert({"id": "1", "m": {"a": "x"}, "m.M.a": "y"})
    router = Router()
    router.on_insert(F.new.m.a == "x", name="map")(nothing)
    router.on_insert(F.new["m.M.a"] == "y", name="attribute")(nothing)
    router.on_insert(F.new.m.a != "y", name="not")(nothing)
    router.on_insert(F.new["m.M.a"] != "x", name="nor")(nothing)
    for route in App(router).routes:
        alone = Router()
        alone.add_route(route.event_names, nothing, *route.filters, name=route.name)
        assert matched_by("ours", App(alone).filter_criteria(view_type=ALL_IMAGES))(both)
    only = build.insert({"id": "1", "m": {"a": "x"}})
    told = pushed(F.new["m.M.a"] != "x", events=["INSERT"])
    assert matched_by("ours", told.filter_criteria())(only)


def test_a_long_text_is_told_by_its_own_beginning_or_end() -> None:
    text = "".join(map(str, range(2000)))
    raw = RecordBuilder(("id",), table="t").insert({"id": "1", "a": text})
    for condition in (F.new.a == text, F.new.a.startswith(text), F.new.a.endswith(text)):
        assert matched_by("ours", pushed(condition, events=["INSERT"]).filter_criteria())(raw)


def test_of_too_many_combinations_none_is_lost() -> None:
    names = "abcdefgh"
    conditions = [(F.new[name] == 1) | (F.new[name + "2"] == 1) for name in names]
    told = pushed(*conditions, events=["INSERT"])
    build = RecordBuilder(("id",), table="t")
    for chosen in product(("", "2"), repeat=len(names)):
        new = {name + suffix: 1 for name, suffix in zip(names, chosen, strict=True)}
        assert matched_by("ours", told.filter_criteria())(build.insert({"id": "1", **new}))
    assert "more than 64 combinations" in " ".join(told.routes[0].reasons)


def fails(record: Record) -> bool:
    raise ValueError("the filter failed")


def on_stream(raw: dict[str, Any], view_type: str) -> dict[str, Any]:
    """Return the record as a stream of another view type has it."""
    left = {"NEW_IMAGE": ("OldImage",), "OLD_IMAGE": ("NewImage",), ALL_IMAGES: ()}
    gone = left.get(view_type, ("OldImage", "NewImage"))
    stream = {name: value for name, value in raw["dynamodb"].items() if name not in gone}
    return {**raw, "dynamodb": {**stream, "StreamViewType": view_type}}


VIEWS = (ALL_IMAGES, ALL_IMAGES, "NEW_IMAGE", "OLD_IMAGE", "KEYS_ONLY")


def chosen_app(chance: random.Random) -> App:
    """An App of some routes, by chance, whose filters are those of the table, combined."""
    conditions = [*(condition for condition, _, _ in TOLD), fails]

    def some() -> Any:
        one, other = as_filter(chance.choice(conditions)), as_filter(chance.choice(conditions))
        return chance.choice(
            [one, one, ~one, one & other, ~(one & other), one | other, one & ~other]
        )

    router = Router(match=chance.choice(["all", "first"]))
    for n in range(chance.choice([1, 1, 1, 2, 7])):
        when = [some() for _ in range(chance.randint(1, 2))]
        table = chance.choice([None, None, "t", "u"])
        if n % 2:
            router.on_remove(ttl=chance.choice([None, True, False]), name=f"r{n}")(nothing)
        else:
            router.on(*chance.sample(EVENTS, 3 - n % 2), when=when, table=table, name=f"r{n}")(
                nothing
            )
    router.on_modify(F.new.never == "never", name="t", table="t")(nothing)
    return App(router)


def test_no_choice_of_routes_leaves_out_a_record_that_one_takes_or_fails() -> None:
    chance = random.Random(1)  # noqa: S311  # a test, and the same at every run
    asked = 0
    for _ in range(1500):
        app, view_type = chosen_app(chance), chance.choice(VIEWS)
        criteria = app.filter_criteria(
            chance.choice([None, "t"]),
            view_type=chance.choice([None, view_type]),
            max_patterns=chance.choice([1, 2, 5, 5, 10]),
        )
        passes = matched_by("ours", criteria)
        for raw in (
            on_stream(raw, view_type) for raw in chance.sample(RAWS, 25 if criteria else 0)
        ):
            (record,) = decode_records([raw], raw["eventSourceARN"])
            assert isinstance(record, Record)
            if any(app._table.match(record)):
                asked += 1
                assert passes(raw), ([route.filters for route in app.routes], raw)
    assert asked > 2000


NUMBERS = ["1E-7", "0.0000001", "1E+21", "1000000000000000000000", "1e21", "10E20"]


@pytest.mark.parametrize("spelt", NUMBERS)
def test_numbers_whose_spelling_is_not_documented_match_in_any(spelt: str) -> None:
    raw = RecordBuilder(("id",), table="t").insert({"id": "1", "a": 1})
    raw["dynamodb"]["NewImage"]["a"]["N"] = spelt
    for condition in (F.new.a == Decimal(spelt), F.new.a.is_in([Decimal(spelt), "x"])):
        criteria = pushed(condition, events=["INSERT"]).filter_criteria()
        assert all(matched_by(matcher, criteria)(raw) for matcher in MATCHERS)
    criteria = pushed(F.new.a != Decimal(spelt), events=["INSERT"]).filter_criteria()
    raw["dynamodb"]["NewImage"]["a"]["N"] = "5"
    assert all(matched_by(matcher, criteria)(raw) for matcher in MATCHERS)


def test_what_stands_behind_a_function_is_left_out_because_it_may_raise() -> None:
    assert [str(p) for p in pushed(F.new.a == 1, is_true, events=["INSERT"]).given] == [
        "INSERT, F.new.a is 1"
    ]
    behind = pushed(is_true, F.new.a == 1, events=["INSERT"])
    assert [str(p) for p in behind.given] == ["any INSERT"]
    assert behind.routes[0].reasons == (
        "is_true is a function, which only Python can ask; patterns can be made of F",
        "F.new.a == 1 is asked after is_true, which may raise: put it first",
    )
    for condition in (~(F.new.b == 2) | is_true, ~(~(F.new.b == 2) & is_true)):
        inside = pushed(condition, F.new.a == 1, events=["INSERT"])
        assert [str(p) for p in inside.given] == ["any INSERT"]


def test_a_stream_without_an_image_that_is_read_keeps_what_would_fail() -> None:
    router = Router()
    router.on_upsert(F.new.a == 1, name="r")(nothing)
    app = App(router)
    assert [str(pattern) for pattern in app.pushdown().given] == [
        "INSERT or MODIFY, F.new.a is 1",
        'INSERT or MODIFY, dynamodb.StreamViewType is "KEYS_ONLY" or "OLD_IMAGE"',
    ]
    assert [str(p) for p in app.pushdown(view_type="OLD_IMAGE").given] == ["any INSERT or MODIFY"]
    raw = RecordBuilder(("id",), table="t", view_type="KEYS_ONLY").insert({"id": "1", "a": 2})
    record: Any = decode_records([raw], raw["eventSourceARN"])[0]
    assert app._table.match(record)[1]
    for most in (1, 2, 5):
        assert matched_by("ours", app.filter_criteria(max_patterns=most))(raw)


def test_who_wants_every_record_leaves_no_filter() -> None:
    router = Router()
    router.on_insert(F.new.a == 1, name="some")(nothing)
    latest = Router()
    latest.on_batch(latest_only=True, name="latest", when=F.new.a == 1)(lambda records: None)
    every = App(router, latest).pushdown()
    assert every.filter_criteria() == {}
    assert every.widenings == ("latest has to see every record",)
    assert App(router, unmatched="fail").filter_criteria() == {}
    assert App(router).filter_criteria() != {}


def test_many_values_are_compiled_in_little_time() -> None:
    one, other = ([str(n) for n in range(start, start + 10_000)] for start in (0, 5_000))
    started = time.process_time()
    pushdown = pushed(F.new.a.is_in(one) & F.new.a.is_in(other), F.new.a != "7000")
    (wanted,) = pushdown.routes[0].wanted
    (rules,) = wanted.fields.values()

    assert {rule.value for rule in rules} == set(one) & set(other) - {"7000"}
    assert pushdown.not_covered_by({"Filters": [{"Pattern": wanted.to_json()}]}) == []
    assert time.process_time() - started < 3  # each with each would take minutes


@pytest.mark.parametrize("most", [1, 5])
def test_many_routes_fit_in_little_time(most: int) -> None:
    router = Router()
    for n in range(300):
        router.on(EVENTS[n % 2], when=(F.new.kind == f"k{n}") & (F.new.n == n), name=f"r{n}")(
            nothing
        )
    started = time.process_time()
    pushdown = App(router).pushdown(view_type=ALL_IMAGES, max_patterns=most)

    assert time.process_time() - started < 5  # a second or so on a quiet machine
    filters = pushdown.filter_criteria()["Filters"]
    assert 1 <= len(filters) <= most
    assert all(len(entry["Pattern"]) <= 4096 for entry in filters)
    build = RecordBuilder(("id",), table="t")
    for n in range(0, 300, 7):
        new = {"id": "1", "kind": f"k{n}", "n": n}
        raw = build.insert(new) if n % 2 == 0 else build.modify({"id": "1"}, new)
        assert matched_by("moto", pushdown.filter_criteria())(raw)
    assert all(len(text) < 500 for text in pushdown.widenings)


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (F.new.a == "x" * 5000, 'F.new.a starts with "' + "x" * 60),
        (F.new.a.endswith("y" * 5000), 'F.new.a ends with "' + "y" * 60),
        (F.new.a.is_in([str(n) for n in range(1000)]), "F.new.a is of type S"),
        (~F.new.a.is_in([str(n) for n in range(1000)]), "any INSERT"),
        (F.new["n" * 5000] == 1, "any INSERT"),
        (F.new["n" * 5000].exists() | (F.new.a == 1), "any INSERT"),
    ],
    ids=lambda value: "",
)
def test_what_is_too_long_says_less(condition: Any, text: str) -> None:
    pushdown = pushed(condition, events=["INSERT"])
    assert all(len(entry["Pattern"]) <= 4096 for entry in pushdown.filter_criteria()["Filters"])
    assert text in str(pushdown.given[0])
    assert pushdown.routes[0].pushed is not Pushed.EXACTLY


def test_a_lone_surrogate_is_no_text_that_a_stream_has_and_does_no_harm() -> None:
    pushdown = pushed(F.new.a == "\ud800", events=["INSERT"])
    assert pushdown.filter_criteria()["Filters"][0]["Pattern"].isascii()
    assert str(pushdown.given[0]) == 'INSERT, F.new.a is "\\ud800"'


def test_a_route_that_a_live_filter_may_starve_is_named() -> None:
    router = Router()
    router.on_insert(F.new.a == "x", name="x")(nothing)
    router.on_modify(F.new.a.is_in(["x", "y"]), F.new.b == 1, name="xy")(nothing)
    pushdown = App(router).pushdown(view_type=ALL_IMAGES)

    def starved(*patterns: str) -> list[str]:
        return pushdown.not_covered_by({"Filters": [{"Pattern": text} for text in patterns]})

    image = '{"dynamodb":{"NewImage":{"a":{"S":%s}}}}'
    wide, narrow, other = image % '["x","y","z"]', image % '["x"]', image % '[{"wildcard":"*"}]'
    assert pushdown.not_covered_by(None) == pushdown.not_covered_by({"Filters": []}) == []
    assert pushdown.not_covered_by(pushdown.filter_criteria()) == []
    assert starved(wide) == []
    assert starved(narrow) == ["xy"]
    assert starved(other) == ["x", "xy"]
    assert starved('{"eventName":["INSERT"]}') == ["xy"]
    assert starved('{"eventName":["INSERT"]}', '{"eventName":["MODIFY","REMOVE"]}') == []
    assert starved('{"eventName":[{"prefix":"INS"}]}') == ["x", "xy"]
    assert starved('{"dynamodb":{}}') == ["x", "xy"]
    assert starved('{"dynamodb.NewImage.a.S":["x","y"]}') == ["x", "xy"]
    assert starved('{"$or":[{"eventName":["INSERT"]},{"eventName":["MODIFY"]}]}') == ["x", "xy"]


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        "[]",
        "[" * 4000,
        '{"a":' * 700 + '["x"]' + "}" * 700,
        # Whether Lambda takes the last of two or both is not documented.
        '{"dynamodb":{"Keys":{"b":{"S":["y"]}}},"dynamodb":{"NewImage":{"a":{"S":["x"]}}}}',
    ],
)
def test_a_live_pattern_that_cannot_be_read_covers_nothing(text: str) -> None:
    pushdown = pushed(F.new.a == "x", events=["INSERT"])
    live = {"Filters": [{"Pattern": text}]}
    assert pushdown.not_covered_by(live) == ["r"]
    live["Filters"] += pushdown.filter_criteria()["Filters"]
    assert pushdown.not_covered_by(live) == []


def test_each_way_in_which_a_filter_can_be_true_must_be_covered() -> None:
    pushdown = pushed((F.new.a == "x") | (F.new.b == "y"), events=["INSERT"])
    first, second = pushdown.filter_criteria()["Filters"]
    assert pushdown.not_covered_by({"Filters": [first, second]}) == []
    assert pushdown.not_covered_by({"Filters": [first]}) == ["r"]
    assert pushdown.not_covered_by({"Filters": [second]}) == ["r"]


def test_arguments_that_cannot_be_are_refused() -> None:
    router = Router(table="orders")
    router.on_insert(name="r")(nothing)
    app = App(router)
    for arguments, message in [
        (
            {"table": "users"},
            "no route takes records of table 'users': those of the App take orders",
        ),
        ({"view_type": "NEW"}, "view_type='NEW' is unknown: write NEW_AND_OLD_IMAGES"),
        ({"max_patterns": 0}, "a mapping takes 5 patterns, or up to 10"),
        ({"max_patterns": 11}, "a mapping takes 5 patterns, or up to 10"),
    ]:
        with pytest.raises(DynaflowError) as refused:
            app.pushdown(**arguments)  # type: ignore[arg-type]  # a table of arguments
        assert message in str(refused.value)


def test_a_mapping_on_a_kinesis_stream_has_no_filter() -> None:
    router = Router()
    router.add_route(["MODIFY"], lambda new: None, changed("status", to="paid"), name="it")
    app = App(router)
    assert app.filter_patterns(from_kinesis=True) == []
    assert app.filter_criteria(from_kinesis=True) == {}
    (route,) = app.pushdown(from_kinesis=True).routes
    assert (route.pushed, *route.reasons) == (
        Pushed.NOT,
        "within a Kinesis record these patterns find nothing",
    )
