"""Streams to read from."""

from __future__ import annotations

from dynaflow.sources.dynamodb import DynamoDBSource
from dynaflow.sources.memory import MemorySource

__all__ = ["DynamoDBSource", "MemorySource"]
