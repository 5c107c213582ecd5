"""An app that prints metrics, with and without a loop."""

from __future__ import annotations

from typing import Any

from dynaflow import App, Router
from dynaflow.observers.emf import EMF

__all__ = ["app", "handler"]

router = Router()


@router.on_modify()
def in_thread(new: dict[str, Any]) -> None: ...


@router.on_insert()
async def on_loop(new: dict[str, Any]) -> None:
    if new["do"] == "raise":
        raise ValueError


app = App(router, observers=[EMF("shop")])
handler = app.lambda_handler(report_batch_item_failures=True)
