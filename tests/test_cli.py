"""The command line: targets, and ``routes``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command_line import Project

SHOP = """
    from dynaflow import App, F, HandlerContext, Router, changed

    router = Router(table="orders")

    @router.on_modify(changed("status", to="paid"), F.new["total.net"] > 10)
    async def ship(old, new: dict, context: HandlerContext): ...

    @router.on_expire(name="expiry", ttl_attribute="expires_at", on_invalid="skip")
    def archive(old: "dict[str, int]"): ...

    class backend:
        app = App(router)

    app = backend.app
    handler = app.lambda_handler()
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    project.write("shop.py", SHOP)
    return project


def test_routes_are_listed_in_order_with_everything_that_decides_about_them(
    project: Project,
) -> None:
    result = project.run("routes", "shop:app", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == [
        {
            "name": "shop.ship",
            "events": ["MODIFY"],
            "table": "orders",
            "ttl": None,
            "ttl_attribute": None,
            "filters": ["changed('status', to='paid')", 'F.new["total.net"] > 10'],
            "parameters": {"old": None, "new": "dict", "context": "HandlerContext"},
            "on_invalid": "fail",
            "async": True,
            "batch": None,
            "pushed_down": {
                "pushed": "widened",
                "reasons": ['F.new["total.net"] > 10 orders numbers, which patterns see as text'],
            },
        },
        {
            "name": "expiry",
            "events": ["REMOVE"],
            "table": "orders",
            "ttl": True,
            "ttl_attribute": "expires_at",
            "filters": [],
            "parameters": {"old": "dict[str, int]"},
            "on_invalid": "skip",
            "async": False,
            "batch": None,
            "pushed_down": {
                "pushed": "widened",
                "reasons": [
                    "ttl_attribute='expires_at' compares times, which patterns cannot",
                ],
            },
        },
    ]
    assert result.stderr == ""


def test_routes_in_a_pipe_are_one_line_each_and_nothing_is_cut_off(project: Project) -> None:
    head, ship, expiry = project.run("routes", "shop:app").stdout.splitlines()
    columns = ["route", "events", "table", "filters", "parameters", "kind", "pushed", "down"]
    assert head.split() == columns
    assert ship.split("  ")[0] == "shop.ship"
    assert """changed('status', to='paid'), F.new["total.net"] > 10""" in ship
    assert "old, new: dict, context: HandlerContext" in ship
    assert "async" in ship
    assert "REMOVE (TTL only, by expires_at)" in expiry
    assert "sync" in expiry.split()


def test_batch_routes_say_what_comes_together_in_a_call(project: Project) -> None:
    project.write(
        "bulk.py",
        """
from dynaflow import App, Change, Router

router = Router()


@router.on_batch(max_items=50, max_bytes=1000, latest_only=True)
async def index(changes: list[Change[dict]]) -> None: ...


app = App(router)
""",
    )
    _, index = project.run("routes", "bulk:app").stdout.splitlines()
    assert "INSERT MODIFY REMOVE" in index
    assert "changes: list[Change[dict]]" in index
    assert "async, batch (up to 50, 1000 bytes, latest only)" in index
    (route,) = json.loads(project.run("routes", "bulk:app", "--json").stdout)
    assert route["batch"] == {"max_items": 50, "max_bytes": 1000, "latest_only": True}


@pytest.mark.parametrize("target", ["shop:app", "shop:router", "shop:backend.app"])
def test_an_app_a_router_and_a_dotted_attribute_are_targets(project: Project, target: str) -> None:
    assert project.run("routes", target).exit_code == 0


def test_a_module_in_a_package_of_another_directory_is_a_target(project: Project) -> None:
    project.write("elsewhere/stock.py", SHOP)
    assert project.run("routes", "stock:app", "--app-dir", "elsewhere").exit_code == 0
    assert project.run("routes", "stock:app").exit_code == 3


@pytest.mark.parametrize(
    "target", ["shop", "shop.py:app", "./shop:app", "shop:", ":app", "shop:a:b", "shop: app", ""]
)
def test_a_target_of_another_form_is_a_usage_error_with_an_example(
    project: Project, target: str
) -> None:
    result = project.run("routes", target)
    assert result.exit_code == 2
    assert repr(target) in result.stderr
    assert "shop:app" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("target", "missing"), [("shopp:app", "shopp"), ("shop.web:app", "shop.web"), ("a.b:c", "a")]
)
def test_a_module_that_is_not_there_is_named_with_where_it_was_looked_for(
    project: Project, target: str, missing: str
) -> None:
    result = project.run("routes", target)
    assert result.exit_code == 3
    assert f"no module named {missing!r}" in result.stderr
    assert str(project.directory) in result.stderr
    assert "--app-dir" in result.stderr


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("import nowhere.at_all", "ModuleNotFoundError: No module named 'nowhere'"),
        ("from json import nothing", "ImportError: cannot import name 'nothing' from 'json'"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("def broken(:", "SyntaxError: invalid syntax"),
        ("raise SystemExit('no configuration')", "SystemExit: no configuration"),
    ],
)
def test_a_module_that_cannot_be_imported_is_another_error_which_says_where(
    project: Project, line: str, reason: str
) -> None:
    project.write("broken.py", f"\n{line}\n")
    result = project.run("routes", "broken:app")
    assert result.exit_code == 3
    assert f"importing 'broken' failed: broken.py:2: {reason}" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("target", "fact"),
    [
        ("shop:nope", "module 'shop' has no attribute 'nope'"),
        ("shop:app.nope", "module 'shop' has no attribute 'app.nope'"),
        ("shop:handler", "'shop:handler' is a function, not an App or a Router"),
    ],
)
def test_a_wrong_attribute_is_answered_with_the_right_ones(
    project: Project, target: str, fact: str
) -> None:
    result = project.run("routes", target)
    assert result.exit_code == 3
    assert fact in result.stderr
    assert "It has: shop:router, shop:app." in result.stderr


def test_a_module_without_an_app_says_so(project: Project) -> None:
    result = project.run("routes", "json:loads")
    assert result.exit_code == 3
    assert "no App and no Router" in result.stderr


@pytest.mark.parametrize("target", ["wrong:router", "late:router"])
def test_a_mistake_at_registration_is_one_line_and_a_usage_error(
    project: Project, target: str
) -> None:
    start = "from dynaflow import Router\nrouter = Router()\n@router.on_insert()\n"
    project.write("wrong.py", f"{start}def handle(order): ...\n")
    project.write("late.py", f"{start}def handle(new: int): ...\n")
    result = project.run("routes", target)
    assert result.exit_code == 2
    assert "handle" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_mistake_at_registration_names_its_line(project: Project) -> None:
    project.write("wrong.py", "from dynaflow import Router\n\nRouter(match='some')\n")
    assert project.run("routes", "wrong:app").stderr.startswith("dynaflow: wrong.py:3: match=")


def test_what_a_module_prints_while_it_is_imported_does_not_spoil_json(project: Project) -> None:
    project.write("loud.py", "print('loaded')\nfrom shop import app\n")
    result = project.run("routes", "loud:app", "--json")
    assert len(json.loads(result.stdout)) == 2
    assert result.stderr == "loaded\n"


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("routes",), ("run", "shop:app"), ("invoke", "shop:app"), ()]
)
def test_a_wrong_command_line_exits_with_2(project: Project, arguments: tuple[str, ...]) -> None:
    assert project.run(*arguments).exit_code == 2
