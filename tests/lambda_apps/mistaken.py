"""An app with a mistake that shows when it is imported."""

from __future__ import annotations

from typing import Any

from dynaflow import App, Router

__all__ = ["app", "handler"]

router = Router()


@router.on_insert()
async def announce(order: dict[str, Any]) -> None:
    """Ask for an image by a name that says neither new nor old."""


app = App(router)
handler = app.lambda_handler(report_batch_item_failures=True)
