"""The fixtures that pytest has wherever dynaflow is installed."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]
PLUGIN = ("-p", "dynaflow.pytest_plugin")
APP = """
from contextlib import asynccontextmanager
from dynaflow import App, Router

router = Router(table="orders")
log = []

@asynccontextmanager
async def lifespan(app):
    log.append("opened")
    yield
    log.append("closed")

@router.on_insert(name="ship")
async def ship(new: dict) -> None:
    log.append(new["pk"])

app = App(router, lifespan=lifespan)
"""


@pytest.fixture
def shop(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    # Whether dynaflow is installed or only on the path, the plugin is loaded once, by its name.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makepyfile(shop=APP)
    pytester.syspathinsert()
    return pytester


def test_clients_are_opened_at_once_and_closed_after_the_test(shop: pytest.Pytester) -> None:
    shop.makepyfile(
        """
        import shop

        def test_ship(stream_client):
            stream = stream_client(shop.app, keys=("pk", "sk"))
            assert shop.log == ["opened"]
            assert stream.insert({"pk": "1", "sk": 2}).handled_by == ["ship"]
            assert shop.log == ["opened", "1"]

        def test_afterwards():
            assert shop.log == ["opened", "1", "closed"]
        """
    )
    shop.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=2)


def test_one_test_may_open_several_clients(shop: pytest.Pytester) -> None:
    shop.makepyfile(
        """
        import shop

        def test_two_tables(stream_client):
            items = {"pk": "1"}
            orders = stream_client(shop.router, keys=["pk"])
            users = stream_client(shop.router, keys=["pk"], table="users")
            assert orders.insert(items).handled_by == ["ship"]
            assert users.insert(items).handled_by == []
        """
    )
    shop.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=1)


def test_records_can_be_made_without_a_client(shop: pytest.Pytester) -> None:
    shop.makepyfile(
        """
        def test_records(stream_records):
            make = stream_records(keys=("pk",), table="orders")
            record = make.remove({"pk": "1"})
            assert record["eventName"] == "REMOVE"
            assert ":table/orders/" in record["eventSourceARN"]
        """
    )
    shop.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=1)


def test_the_entry_point_leads_to_the_plugin() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    plugin = import_module(project["entry-points"]["pytest11"]["dynaflow"])
    assert set(plugin.__all__) >= {"stream_client", "stream_records"}


def test_loading_the_plugin_loads_no_library_but_pytest() -> None:
    program = """
import sys, pytest
before = set(sys.modules)
import dynaflow.pytest_plugin
print(sorted({name.split(".")[0] for name in set(sys.modules) - before}
             & {"anyio", "boto3", "pydantic", "trio", "typer"}), "dynaflow.testing" in sys.modules)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[] False"
