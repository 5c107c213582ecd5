"""Mistakes in the declaration of routers and apps, and how they are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dynaflow import App, Call, F, Process, Record, Router
from dynaflow.observe import Event
from tests.support.routers import nothing, nothing_async, refusal, router_named


def test_a_router_takes_no_more_routes_once_it_is_part_of_an_app() -> None:
    outer, inner = Router(), Router()
    outer.include_router(inner)
    early = inner.on_insert(F.new.n == 1)
    early(nothing)
    App(outer)
    attempts: list[Callable[[], object]] = [
        lambda: outer.on_insert(F.new.n == 1),
        lambda: inner.on_any(name="late"),
        lambda: inner.on("MODIFY"),
        lambda: early(nothing),
        lambda: inner.add_route(["INSERT"], nothing),
        lambda: inner.include_router(Router()),
    ]
    for attempt in attempts:
        assert "Register every route before App(...)" in refusal(attempt)


def test_one_router_may_be_part_of_several_apps() -> None:
    router = router_named("shared")
    assert [route.name for route in (*App(router).routes, *App(router).routes)] == ["shared"] * 2


def test_a_decorator_without_parentheses_is_found_at_app() -> None:
    router = Router()
    verb: Any = router.on_insert
    verb(nothing)
    assert refusal(lambda: App(router)) == (
        "on_insert(nothing) was never applied to a handler. A decorator without filters is written "
        "with parentheses: @router.on_insert()"
    )


def test_a_decorator_without_parentheses_is_found_in_an_included_router() -> None:
    outer, inner = Router(), Router()
    verb: Any = inner.on_any
    verb(nothing)
    outer.include_router(inner)
    assert "on_any(nothing) was never applied" in refusal(lambda: App(outer))


def test_a_decorator_without_parentheses_on_an_async_handler_is_found_at_once() -> None:
    verb: Any = Router().on_modify
    message = refusal(lambda: verb(nothing_async))
    assert message.endswith(
        "nothing_async is the handler, write @router.on_modify() with parentheses."
    )


def test_on_without_event_names_is_found_at_once() -> None:
    router: Any = Router()
    assert "function is no event name: write 'INSERT'" in refusal(lambda: router.on(nothing))
    assert "filters go into when=" in refusal(lambda: router.on(F.new.n == 1))
    assert "'insert' is no event name" in refusal(lambda: router.on("insert"))
    assert "write on('INSERT', 'MODIFY') or on_any()" in refusal(router.on)


def test_only_a_router_can_be_included() -> None:
    target: Any = App()
    assert "takes a Router, got App" in refusal(lambda: Router().include_router(target))


def options_refused(**options: Any) -> str:
    return refusal(lambda: Router().on_insert(**options)(nothing))


def test_options_that_no_verb_has_are_refused() -> None:
    unknown = "on_insert(...) has no option tabel=: it takes table=, name=, middleware="
    assert options_refused(tabel="orders").startswith(unknown)
    assert "no option ttl=" in options_refused(ttl=True)
    message = options_refused(when=F.new.n == 1)
    assert "no option when=" in message
    assert "filters without a name" in message


@pytest.mark.parametrize("name", ["", " ", 3])
def test_a_name_is_a_text(name: Any) -> None:
    message = options_refused(name=name)
    assert message == f"name= of {nothing.__module__}.nothing takes a text that is not empty"


@pytest.mark.parametrize(
    "table",
    ["arn:aws:dynamodb:eu-west-1:111122223333:table/orders", "table/orders", "", 3, ["orders"]],
)
def test_a_table_is_a_name_and_no_arn(table: Any) -> None:
    assert refusal(lambda: Router(table=table)).startswith("Router(table=...) takes a table's name")
    message = options_refused(table=table)
    assert message.startswith("table= of ")
    assert "nothing takes a table's name, not an ARN" in message


def test_tables_that_exclude_each_other_are_refused() -> None:
    outer, inner = Router(table="orders"), Router(table="users")
    outer.include_router(inner)
    assert refusal(lambda: App(outer)) == (
        "a router is for table 'users' inside of a router for table 'orders', so it could never "
        "match: leave one of them out"
    )
    router = Router(table="orders")
    router.on_any(table="users", name="ship")(nothing)
    assert "ship is for table 'users'" in refusal(lambda: App(router))


def test_an_unknown_match_is_refused() -> None:
    match: Any = "any"
    assert refusal(lambda: Router(match=match)) == (
        "match='any' is unknown: write match='all' or match='first'"
    )


@pytest.mark.parametrize("ttl", ["yes", 2])
def test_ttl_is_true_false_or_none(ttl: Any) -> None:
    message = refusal(lambda: Router().on_remove(ttl=ttl)(nothing))
    assert "nothing is True, False or None" in message


def test_ttl_is_about_deletes_only() -> None:
    message = refusal(lambda: Router().add_route(["INSERT", "REMOVE"], nothing, ttl=True))
    assert "is true of no INSERT or MODIFY: name 'REMOVE' only" in message


async def never_a_filter(record: Record) -> bool:
    return True


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (True, "a filter is True"),
        (F.new.n, "F.new.n is a path"),
        ("n == 1", "got str"),
        (Record, "got the class Record"),
        (never_a_filter, "async"),
    ],
)
def test_what_is_no_filter_is_refused_wherever_a_filter_is_taken(
    condition: Any, message: str
) -> None:
    router = Router()
    places: dict[str, Callable[[], object]] = {
        "Router(when=...): ": lambda: Router(when=condition),
        "on(when=...): ": lambda: router.on("INSERT", when=condition),
        "on_insert(...): ": lambda: router.on_insert(F.new.n == 1, condition),
        f"a filter of {nothing.__module__}.nothing: ": lambda: router.add_route(
            ["INSERT"], nothing, condition
        ),
    }
    for where, place in places.items():
        refused = refusal(place)
        assert refused.startswith(where)
        assert message in refused


async def pass_on(call: Call, call_next: Process) -> None:
    await call_next(call)


def print_event(event: Event) -> None: ...


@pytest.mark.parametrize(
    ("middleware", "message"),
    [
        (pass_on, f"takes a list: write [{__name__}.pass_on]"),
        ([pass_on, 3], "int is not callable"),
        ([print_event], f"{__name__}.print_event cannot be called with a call and what comes nex"),
        (3, "takes a list, got int"),
        ((layer for layer in [pass_on]), "takes a list, got generator"),
    ],
)
def test_middleware_is_a_list_of_callables(middleware: Any, message: str) -> None:
    refused = refusal(lambda: Router(middleware=middleware))
    assert refused.startswith("Router(middleware=...)")
    assert message in refused
    refused = options_refused(middleware=middleware)
    assert refused.startswith(f"middleware= of {nothing.__module__}.nothing")
    assert message in refused


@asynccontextmanager
async def lifespan_without_app() -> AsyncIterator[None]:
    yield


async def lifespan_without_decorator(app: App) -> AsyncIterator[None]:
    yield


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency= is a whole number of calls, at least 1"),
        ({"concurrency": "many"}, "concurrency= is a whole number"),
        ({"threads": -1}, "threads= is a whole number of threads, at least 0"),
        ({"failure_policy": "skip"}, "failure_policy='skip' is unknown: write 'stop_item' or"),
        ({"lifespan": lifespan_without_decorator}, "decorate it with @asynccontextmanager"),
        ({"lifespan": 3}, "lifespan= takes a function"),
        ({"lifespan": lifespan_without_app}, "write 'async def lifespan(app: App)'"),
    ],
)
def test_options_of_an_app_that_cannot_work_are_refused(
    options: dict[str, Any], message: str
) -> None:
    assert message in refusal(lambda: App(**options))


def test_an_app_takes_routers() -> None:
    target: Any = nothing
    assert refusal(lambda: App(target)) == (
        "App(...) takes Routers, got function: write App(router, another)"
    )
