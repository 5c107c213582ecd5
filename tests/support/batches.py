"""Batches for engine tests: one record per name of an item, in stream order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from dynaflow import App, Batch, BatchResult, Deadline, Record, Router
from dynaflow.app import as_app
from dynaflow.codec import decode_event
from dynaflow.testing import RecordBuilder

__all__ = ["batch_of", "processed", "rest_of", "step_of"]


def batch_of(items: Iterable[str], *, deadline: Deadline | None = None) -> Batch:
    """Return a batch of INSERT records; ``step`` numbers them from 0."""
    build = RecordBuilder(keys=("id",), table="orders")
    raws = [build.insert({"id": item, "step": step}) for step, item in enumerate(items)]
    records, arn = decode_event(build.event(*raws))
    return Batch(records, arn, deadline)


def rest_of(batch: Batch, lowest: object, *, deadline: Deadline | None = None) -> Batch:
    """Return what a redelivery brings: everything from the lowest record not done on."""
    at = next(i for i, record in enumerate(batch.records) if record is lowest)
    return Batch(batch.records[at:], batch.source_arn, deadline)


def step_of(record: object) -> int:
    """Return the number that ``batch_of`` gave to a record."""
    assert isinstance(record, Record)
    assert record.new is not None
    return int(record.new["step"])


def processed(app: App | Router, *raws: dict[str, Any]) -> BatchResult:
    """Run raw records in an App itself, without a door: nothing is checked before the first."""
    batch = Batch(*decode_event(list(raws)))
    return asyncio.run(as_app(app).process(batch))
