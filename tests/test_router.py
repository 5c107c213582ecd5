"""Which records a route gets: verbs, filters, tables, routers in routers, match=."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from dynaflow import App, EventName, F, Record, Router
from dynaflow.errors import MalformedRecord
from dynaflow.testing import Stream, TestClient
from tests.support.routers import ITEM, handled, nothing, nothing_async, refusal, router_named

Handler = Callable[..., Any]


INSERT, MODIFY, DELETE, EXPIRE = "insert", "modify", "delete", "expire"


def kinds_handled(router: Router) -> set[str]:
    """Return which kinds of change a router takes."""

    def send_all(stream: Stream) -> Iterator[tuple[str, list[str]]]:
        yield INSERT, stream.insert(ITEM).handled_by
        yield MODIFY, stream.modify(old=ITEM, new=ITEM).handled_by
        yield DELETE, stream.remove(ITEM).handled_by
        yield EXPIRE, stream.expire(ITEM).handled_by

    with TestClient(router) as stream:
        return {kind for kind, routes in send_all(stream) if routes}


VERBS: list[tuple[Callable[[Router], Callable[[Handler], Handler]], set[str]]] = [
    (lambda r: r.on_insert(), {INSERT}),
    (lambda r: r.on_modify(), {MODIFY}),
    (lambda r: r.on_remove(), {DELETE, EXPIRE}),
    (lambda r: r.on_remove(ttl=None), {DELETE, EXPIRE}),
    (lambda r: r.on_remove(ttl=True), {EXPIRE}),
    (lambda r: r.on_remove(ttl=False), {DELETE}),
    (lambda r: r.on_expire(), {EXPIRE}),
    (lambda r: r.on_upsert(), {INSERT, MODIFY}),
    (lambda r: r.on_any(), {INSERT, MODIFY, DELETE, EXPIRE}),
    (lambda r: r.on("INSERT"), {INSERT}),
    (lambda r: r.on("INSERT", "REMOVE"), {INSERT, DELETE, EXPIRE}),
    (lambda r: r.on(EventName.MODIFY, "MODIFY"), {MODIFY}),
]


@pytest.mark.parametrize(("verb", "kinds"), VERBS)
def test_each_verb_takes_its_changes(
    verb: Callable[[Router], Callable[[Handler], Handler]], kinds: set[str]
) -> None:
    router = Router()
    verb(router)(nothing)
    assert kinds_handled(router) == kinds


@pytest.mark.parametrize(("verb", "_kinds"), VERBS)
@pytest.mark.parametrize("handler", [nothing, nothing_async, functools.partial(nothing)])
def test_a_decorator_returns_the_very_same_handler(
    verb: Callable[[Router], Callable[[Handler], Handler]], _kinds: set[str], handler: Handler
) -> None:
    assert verb(Router())(handler) is handler


@pytest.mark.parametrize(
    ("names", "ttl", "kinds"),
    [
        (["INSERT"], None, {INSERT}),
        ("INSERT", None, {INSERT}),
        (EventName.MODIFY, None, {MODIFY}),
        (("MODIFY", "REMOVE"), None, {MODIFY, DELETE, EXPIRE}),
        (("MODIFY", "REMOVE"), False, {MODIFY, DELETE}),
        ({"REMOVE"}, True, {EXPIRE}),
    ],
)
def test_add_route_is_the_same_without_a_decorator(
    names: Any, ttl: bool | None, kinds: set[str]
) -> None:
    router = Router()
    router.add_route(names, nothing, ttl=ttl)
    assert kinds_handled(router) == kinds


def test_add_route_takes_filters_and_options() -> None:
    router = Router()
    router.add_route(["INSERT"], nothing, F.new.n == 2, name="two")
    router.add_route(["INSERT"], nothing, F.new.n == 1, F.new.id == "1", name="one")
    router.add_route(["INSERT"], nothing, name="users", table="users")
    assert handled(router, table="orders") == ["one"]


def test_all_filters_of_a_route_must_be_true() -> None:
    router = Router()
    router.on_insert(F.new.n == 1, F.new.id == "2", name="not both")(nothing)
    router.on_insert(F.new.n == 1, lambda record: record.event_name == "INSERT", name="both")(
        nothing
    )
    router.on("INSERT", when=F.new.n == 2, name="when false")(nothing)
    router.on("INSERT", when=[F.new.n == 1, F.new.id == "1"], name="when true")(nothing)
    assert handled(router) == ["both", "when true"]


def test_a_routers_when_applies_to_every_route_and_is_asked_first() -> None:
    asked: list[str] = []

    def ask(name: str, *, answer: bool) -> Callable[[Record], bool]:
        def condition(record: Record) -> bool:
            asked.append(name)
            return answer

        return condition

    outer = Router(when=ask("outer", answer=True))
    middle = Router(when=[ask("middle 1", answer=True), ask("middle 2", answer=True)])
    closed = Router(when=ask("closed", answer=False))
    middle.on_insert(ask("route", answer=True), name="middle")(nothing)
    closed.on_insert(ask("never", answer=True), name="closed")(nothing)
    outer.include_router(middle)
    middle.include_router(closed)
    assert handled(outer) == ["middle"]
    around = ["outer", "middle 1", "middle 2"]
    assert asked == [*around, "route", *around, "closed"]


def test_a_filter_that_raises_fails_its_record() -> None:
    router = Router()

    @router.on_insert(lambda record: 1 // 0 == 1, name="divide")
    def divide() -> None:
        raise AssertionError

    with TestClient(router) as stream:
        result = stream.insert(ITEM)
    assert [type(error) for error in result.errors] == [ZeroDivisionError]
    assert result.failed is not None


def test_routes_run_in_order_of_registration_those_of_included_routers_in_their_place() -> None:
    outer, (first, second) = Router(), [router_named("first"), router_named("second")]
    outer.on_any(name="before")(nothing)
    outer.include_router(first)
    outer.on_any(name="between")(nothing_async)
    outer.include_router(second)
    outer.on_any(name="after")(nothing)
    other = router_named("other")
    app = App(outer, other)
    names = ["before", "first", "between", "second", "after", "other"]
    assert [route.name for route in app.routes] == names
    with TestClient(app) as stream:
        assert stream.insert(ITEM).handled_by == names


def test_a_router_brings_the_routes_that_it_gets_after_it_was_included() -> None:
    outer, inner = Router(), Router()
    outer.include_router(inner)
    inner.on_any(name="late")(nothing)
    assert handled(outer) == ["late"]


@pytest.mark.parametrize("through", [0, 1, 2])
def test_a_router_cannot_include_itself(through: int) -> None:
    chain = [Router() for _ in range(through + 1)]
    for outer, inner in pairwise(chain):
        outer.include_router(inner)
    assert "cannot include itself" in refusal(lambda: chain[-1].include_router(chain[0]))


def test_a_table_narrows_routes_routers_and_what_these_include() -> None:
    anywhere, orders, inner = Router(), Router(table="orders"), Router()
    anywhere.on_any(name="anywhere")(nothing)
    anywhere.on_any(name="users", table="users")(nothing)
    orders.on_any(name="orders")(nothing)
    orders.on_any(name="said twice", table="orders")(nothing)
    inner.on_any(name="inner")(nothing)
    orders.include_router(inner)
    app = App(anywhere, orders)
    for table, names in (
        ("orders", ["anywhere", "orders", "said twice", "inner"]),
        ("users", ["anywhere", "users"]),
        ("orders2", ["anywhere"]),
    ):
        with TestClient(app, table=table) as stream:
            assert stream.insert(ITEM).handled_by == names


def test_a_record_of_an_unknown_table_fails_on_a_route_for_a_table() -> None:
    router = Router(table="orders")
    router.on_any(name="orders")(nothing)
    with TestClient(router) as stream:
        record = stream.records.insert(ITEM)
        del record["eventSourceARN"]
        result = stream.send([record])
    (error,) = result.errors
    assert isinstance(error, MalformedRecord)
    assert "no eventSourceARN" in str(error)
    assert "'orders'" in str(error)


def test_match_first_calls_only_the_first_route_that_matches() -> None:
    router = Router(match="first")
    router.on_any(F.new.n == 2, name="no")(nothing)
    router.on_any(F.new.n == 1, name="yes")(nothing)
    router.on_any(name="too late")(nothing)
    assert handled(router) == ["yes"]


def test_match_first_counts_the_routes_of_included_routers_as_its_own() -> None:
    outer, (a, b) = Router(match="first"), [router_named("a"), router_named("b")]
    nested = Router()
    nested.include_router(a)
    nested.include_router(b)
    nested.on_any(name="c")(nothing)
    outer.on_modify(name="modify")(nothing)
    outer.include_router(nested)
    outer.on_any(name="d")(nothing)
    assert handled(outer) == ["a"]
    with TestClient(outer) as stream:
        assert stream.modify(old=ITEM, new=ITEM).handled_by == ["modify"]


def test_a_router_that_takes_all_includes_one_that_takes_the_first() -> None:
    outer, chooser = Router(), Router(match="first")
    outer.on_any(name="always")(nothing)
    for name in ("one", "two"):
        chooser.on_any(name=name)(nothing)
    outer.include_router(chooser)
    outer.on_any(name="always too")(nothing)
    assert handled(outer) == ["always", "one", "always too"]


def test_a_router_that_takes_the_first_counts_another_such_as_its_own() -> None:
    outer = Router(match="first")
    for name in "ab":
        outer.include_router(router_named(name, match="first"))
    assert handled(outer) == ["a"]


def test_each_router_chooses_its_own_first() -> None:
    outer = Router()
    for name in "ab":
        chooser = Router(match="first")
        chooser.on_any(name=f"{name}1")(nothing)
        chooser.on_any(name=f"{name}2")(nothing)
        outer.include_router(chooser)
    empty, last = Router(match="first"), Router(match="first")
    last.on_any(name="c1")(nothing)
    assert handled(empty, outer, empty, last) == ["a1", "b1", "c1"]


def test_where_an_alternative_cannot_tell_those_behind_it_are_left_out() -> None:
    router = Router(match="first")
    router.on_any(lambda record: 1 // 0 == 1, name="unclear")(nothing)
    router.on_any(name="behind")(nothing)
    with TestClient(router) as stream:
        result = stream.insert(ITEM)
    assert result.handled_by == []
    assert [outcome.route for outcome in result.outcomes] == ["unclear"]
