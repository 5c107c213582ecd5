"""A poller in a process of its own, whose store can kill it: ``python -m … EVENT STORE``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import anyio

from dynaflow.checkpoints import Checkpoint
from dynaflow.codec import decode_event
from dynaflow.poller import Poller
from dynaflow.sources import MemorySource
from dynaflow.stores import SqliteStore
from tests.lambda_apps.failing import app, reach


class Store(SqliteStore):
    """SQLite's, with a point before and after each commit."""

    async def save(
        self, application: str, stream_arn: str, shard_id: str, checkpoint: Checkpoint
    ) -> None:
        """Write a row, and live through it or not."""
        reach("before save")
        await super().save(application, stream_arn, shard_id, checkpoint)
        reach("after save")


async def main(event: str, store: str) -> None:
    """Follow the stream of an event to its end, or until it is given up."""
    records, arn = decode_event(json.loads(event))
    source = MemorySource(arn, page_size=5)
    source.add_shard("shard")
    source.append("shard", *records)
    source.close("shard")
    async with Store(store) as opened:
        await Poller(app, source, opened, once=True, random=lambda: 0.0).run()


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]).read_text(encoding="utf-8"), sys.argv[2])
