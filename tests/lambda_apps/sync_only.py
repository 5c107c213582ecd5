"""An app without any async handler."""

from __future__ import annotations

import sys
from typing import Any

from dynaflow import App, Router
from tests.lambda_apps.effects import note

__all__ = ["app", "handler"]

_NOT_NEEDED = ("anyio", "asyncio", "boto3", "pydantic")

router = Router()


@router.on_insert()
def count(new: dict[str, Any]) -> None:
    note(f"done {new['id']}")


app = App(router)
_handler = app.lambda_handler(report_batch_item_failures=True)


def handler(event: Any, context: Any) -> Any:
    """Answer, and note what has been imported by then."""
    answer = _handler(event, context)
    note(f"imported {[name for name in _NOT_NEEDED if name in sys.modules]}")
    return answer
