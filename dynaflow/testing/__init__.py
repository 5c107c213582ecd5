"""What tests of handlers need: a client that runs them, records, events, and Lambda's mapping."""

from __future__ import annotations

from dynaflow.retry import without_waits
from dynaflow.testing._mapping_report import GivenUp, Invocation, MappingReport
from dynaflow.testing._mapping_sandbox import SandboxDied, Throttled
from dynaflow.testing.client import AsyncStream, Stream, TestClient
from dynaflow.testing.kinesis import kinesis_event
from dynaflow.testing.mapping import EventSourceMapping
from dynaflow.testing.records import RecordBuilder, lambda_event
from dynaflow.testing.transactions import MemoryTransactions

__all__ = [
    "AsyncStream",
    "EventSourceMapping",
    "GivenUp",
    "Invocation",
    "MappingReport",
    "MemoryTransactions",
    "RecordBuilder",
    "SandboxDied",
    "Stream",
    "TestClient",
    "Throttled",
    "kinesis_event",
    "lambda_event",
    "without_waits",
]
