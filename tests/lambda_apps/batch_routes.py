"""An app with a route for single records, and batch routes beside it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from dynaflow import App, Change, PartialFailure, Router
from tests.lambda_apps.effects import note

__all__ = ["app", "handler"]

router = Router()


@router.on_insert(name="own")
async def own(new: dict[str, Any]) -> None:
    await asyncio.sleep(0.2 if new["do"] == "slow" else 0)
    if new["do"] == "raise":
        raise ValueError("no")
    note(f"own {new['id']}")


@router.on_batch("INSERT", max_items=4, name="bulk")
def bulk(changes: list[Change[dict[str, Any]]]) -> None:
    items = [change.new for change in changes if change.new is not None]
    note(f"bulk {' '.join(item['id'] for item in items)}")
    if any(item["do"] == "exit" for item in items):
        raise SystemExit(1)
    if any(item["do"] == "hang" for item in items):
        time.sleep(60)  # in a worker thread, which outlives the answer
    refused = [change for change in changes if change.new and change.new["do"] == "refuse"]
    if refused:
        raise PartialFailure(refused)


app = App(router)
handler = app.lambda_handler(report_batch_item_failures=True)
