"""Fixtures for tests of handlers. pytest loads this in every run, so it imports nothing big."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from dynaflow import App, Router
    from dynaflow.testing import RecordBuilder, Stream

__all__ = ["StreamClient", "stream_client", "stream_records"]


class StreamClient(Protocol):
    """What the fixture ``stream_client`` is."""

    def __call__(
        self,
        app: App | Router,
        *,
        keys: Iterable[str] = ("id",),
        table: str | None = None,
        view_type: str = "NEW_AND_OLD_IMAGES",
        timeout: float | None = None,
        overrides: Mapping[Callable[..., Any], Callable[..., Any]] | None = None,
    ) -> Stream:
        """Open a ``dynaflow.testing.TestClient``; the arguments are its own."""
        ...


@pytest.fixture
def stream_client() -> Iterator[StreamClient]:
    """Open test clients: ``stream_client(app, keys=("id",))``. They close after the test."""
    from dynaflow.testing import TestClient

    with ExitStack() as opened:

        def open_client(app: App | Router, **options: Any) -> Stream:
            return opened.enter_context(TestClient(app, **options))

        yield open_client


@pytest.fixture
def stream_records() -> type[RecordBuilder]:
    """Make raw records without a client: ``stream_records(keys=("id",)).insert({"id": "1"})``."""
    from dynaflow.testing import RecordBuilder

    return RecordBuilder
