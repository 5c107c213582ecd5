"""Checkpoints in memory: for tests, and where starting again from the beginning is fine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from dynaflow.checkpoints import Checkpoint, supersedes

__all__ = ["MemoryStore"]


class MemoryStore:
    """A checkpoint store that forgets everything with the process."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], dict[str, Checkpoint]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def load(self, application: str, stream_arn: str) -> Mapping[str, Checkpoint]:
        """Return the checkpoints of one stream by shard id; empty if there are none."""
        return dict(self._rows.get((application, stream_arn), {}))

    async def save(
        self, application: str, stream_arn: str, shard_id: str, checkpoint: Checkpoint
    ) -> None:
        """Write one shard's checkpoint, if it supersedes the row."""
        rows = self._rows.setdefault((application, stream_arn), {})
        if supersedes(checkpoint, rows.get(shard_id)):
            rows[shard_id] = checkpoint
