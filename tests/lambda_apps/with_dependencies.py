"""An app with a client of scope "app" and a session of each call."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from dynaflow import App, Depends, Router
from tests.lambda_apps.effects import note

__all__ = ["app", "handler"]

router = Router()


class _Client:
    """What is expensive to open."""

    def send(self, item: str) -> None:
        note(f"sent {item}")


def open_client() -> Iterator[_Client]:
    note("opened")
    if os.environ.get("CLIENT") == "fails":
        raise ConnectionError("no route to the client")
    yield _Client()
    note("closed")


def session(
    new: dict[str, Any], client: Annotated[_Client, Depends(open_client, scope="app")]
) -> Iterator[_Client]:
    yield client
    if new["id"] == "poison":
        raise ConnectionError("no commit")
    note("committed")


async def async_session(
    new: dict[str, Any], client: Annotated[_Client, Depends(open_client, scope="app")]
) -> AsyncIterator[_Client]:
    if new["id"] == "block":
        time.sleep(60)  # noqa: ASYNC251 - that it blocks is the test
    yield client


chosen = async_session if os.environ.get("SESSION") == "async" else session


@router.on_insert()
def announce(new: dict[str, Any], session: Annotated[_Client, Depends(chosen)]) -> None:
    session.send(new["id"])


app = App(router)
handler = app.lambda_handler(report_batch_item_failures=True)
