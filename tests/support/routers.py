"""What tests of registration have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dynaflow import App, Router
from dynaflow.errors import RegistrationError
from dynaflow.testing import TestClient

__all__ = ["ITEM", "app_for", "handled", "nothing", "nothing_async", "refusal", "router_named"]

ITEM = {"id": "1", "n": 1}


def nothing() -> None:
    """Handle any record."""


async def nothing_async() -> None:
    """Handle any record, on the loop."""


def router_named(name: str, **options: Any) -> Router:
    """Return a router with one route of that name, for any record."""
    router = Router(**options)
    router.on_any(name=name)(nothing)
    return router


def app_for(*tables: str | None) -> App:
    """Return an App with a route for any record of each table, None being any of them."""
    router = Router()
    for number, table in enumerate(tables):
        router.on_any(table=table, name=f"route-{number}")(nothing)
    return App(router)


def handled(*routers: Router, table: str | None = None) -> list[str]:
    """Return the routes that handle one insert of ``ITEM``; none of them may fail."""
    with TestClient(App(*routers), table=table) as stream:
        result = stream.insert(ITEM)
    assert result.errors == []
    return result.handled_by


def refusal(action: Callable[[], object]) -> str:
    """Return the message with which a mistake is refused at registration."""
    with pytest.raises(RegistrationError) as refused:
        action()
    return str(refused.value)
