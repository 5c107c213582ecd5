"""What the examples' tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from rich.console import Console

from dynaflow.demo.stage import Stage, open_stage


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    """An embedded AWS of the test's own; it says nothing."""
    async with open_stage(Console(quiet=True)) as stage:
        yield stage
