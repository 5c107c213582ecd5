"""What tests of handlers need: a client that runs them, records, and events made of these."""

from __future__ import annotations

from dynaflow.testing.client import AsyncStream, Stream, TestClient
from dynaflow.testing.records import RecordBuilder, lambda_event

__all__ = ["AsyncStream", "RecordBuilder", "Stream", "TestClient", "lambda_event"]
