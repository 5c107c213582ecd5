"""A handler without dynaflow: what the runtime itself makes of things."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

__all__ = ["handler"]


def handler(event: dict[str, Any], context: Any) -> object:
    """Do what the event says."""
    match event["do"]:
        case "answer":
            return {"event": event, "left": context.get_remaining_time_in_millis()}
        case "modules":
            return sorted(sys.modules)
        case "raise":
            raise ValueError("no")
        case "exit":
            os._exit(3)
        case "system exit":
            raise SystemExit(4)
        case "cancel":
            raise asyncio.CancelledError
        case "hang":
            time.sleep(60)
        case "coroutine":
            return asyncio.sleep(0)
    return None
