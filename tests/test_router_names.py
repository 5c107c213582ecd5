"""How routes are named, and which names may be equal."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynaflow import App, Router
from tests.support.routers import nothing, refusal, router_named

ROOT = Path(__file__).parents[1]
Handler = Callable[..., Any]


def ship() -> None:
    pass


class Ship:
    def __call__(self) -> None:
        pass

    def method(self) -> None:
        pass


def wrapped() -> Handler:
    @functools.wraps(ship)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        ship(*args, **kwargs)

    return wrapper


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        (ship, "ship"),
        (functools.partial(ship), "ship"),
        (functools.partial(functools.partial(Ship())), "Ship"),
        (Ship(), "Ship"),
        (Ship().method, "Ship.method"),
        (wrapped(), "ship"),
        (lambda new: None, "<lambda>"),
    ],
)
def test_a_route_is_named_by_import_path_and_qualified_name(handler: Handler, name: str) -> None:
    router = Router()
    router.on_any()(handler)
    assert [route.name for route in App(router).routes] == [f"{__name__}.{name}"]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["shop/main.py"], "main.ship"),
        (["-m", "shop.main"], "shop.main.ship"),
        (["-m", "shop"], "shop.ship"),
    ],
)
def test_a_program_that_is_run_has_the_names_that_it_has_when_imported(
    tmp_path: Path, arguments: list[str], name: str
) -> None:
    program = """
from dynaflow import App, Router
router = Router()
@router.on_insert()
def ship(new): ...
print(App(router).routes[0].name)
"""
    (tmp_path / "shop").mkdir()
    for file in ("main.py", "__main__.py"):
        (tmp_path / "shop" / file).write_text(program, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == name


def twice(first: dict[str, Any], second: dict[str, Any]) -> App:
    router = Router()
    for options in (first, second):
        options = {"event_names": ["INSERT"], "name": "ship", **options}  # noqa: PLW2901 - defaults
        router.add_route(options.pop("event_names"), nothing, **options)
    return App(router)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {}),
        ({}, {"event_names": ["INSERT", "MODIFY"]}),
        ({}, {"table": "orders"}),
        ({"table": "orders"}, {"table": "orders"}),
        ({"event_names": ["REMOVE"]}, {"event_names": ["REMOVE"], "ttl": True}),
        ({"event_names": ["REMOVE"], "ttl": True}, {"event_names": ["REMOVE"], "ttl": True}),
    ],
)
def test_equal_names_are_refused_where_both_could_take_a_record(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    message = refusal(lambda: twice(first, second))
    assert "two routes are named 'ship'" in message
    assert "name=..." in message


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"name": "other"}),
        ({}, {"event_names": ["MODIFY"]}),
        ({"table": "orders"}, {"table": "users"}),
        (
            {"event_names": ["REMOVE"], "ttl": True},
            {"event_names": ["REMOVE"], "ttl": False},
        ),
    ],
)
def test_equal_names_are_allowed_where_no_record_is_for_both(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    assert len(twice(first, second).routes) == 2


def test_one_handler_may_have_several_decorators() -> None:
    router = Router()
    assert router.on_insert()(router.on_modify()(nothing)) is nothing
    assert [route.event_names for route in App(router).routes] == [{"MODIFY"}, {"INSERT"}]


def test_two_lambdas_need_names() -> None:
    router = Router()
    router.on_insert()(lambda new: None)
    router.on_insert()(lambda old: None)
    assert "<lambda>' and take the same events" in refusal(lambda: App(router))


def test_including_a_router_twice_repeats_its_names() -> None:
    outer, inner = Router(), router_named("inner")
    outer.include_router(inner)
    outer.include_router(inner)
    assert "two routes are named 'inner'" in refusal(lambda: App(outer))
