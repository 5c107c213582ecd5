"""Checkpoints in an SQLite file: durable on one machine, without a server."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from dynaflow.checkpoints import (
    Checkpoint,
    deliveries_from_json,
    deliveries_to_json,
    supersedes,
)
from dynaflow.stores._sqlite import Kind, SqliteFile, transaction

__all__ = ["SqliteStore"]

_DELIVERIES = "deliveries TEXT NOT NULL DEFAULT '[]'"  # since layout 2
_KIND = Kind(
    name="checkpoint file",
    application_id=0x64796E66,  # "dynf"
    tables=f"""
    CREATE TABLE checkpoint (
        application TEXT NOT NULL,
        stream_arn TEXT NOT NULL,
        shard_id TEXT NOT NULL,
        position TEXT NOT NULL,
        pinned_at REAL,
        {_DELIVERIES},
        PRIMARY KEY (application, stream_arn, shard_id)
    ) WITHOUT ROWID
    """,
    if_removed="starts every shard anew",
    layout=2,
    upgrades={1: f"ALTER TABLE checkpoint ADD COLUMN {_DELIVERIES}"},
)
_LOAD = """
SELECT shard_id, position, pinned_at, deliveries FROM checkpoint
WHERE application = ? AND stream_arn = ?
"""
_FIND = """
SELECT position, pinned_at, deliveries FROM checkpoint
WHERE application = ? AND stream_arn = ? AND shard_id = ?
"""
# Without names of columns: should a newer version add one meanwhile, this fails and wipes nothing.
_SAVE = "INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?, ?, ?, ?)"


class SqliteStore:
    """A checkpoint store in one SQLite file. Several processes may share the file.

    The file is created when it is first used. Every save is on the disk when it returns
    (``synchronous=FULL``). SQLite runs in a worker thread, one call at a time.

    Args:
        path: the file; its directory must exist.
        busy_timeout: seconds to wait for another process's lock before a StoreError.
    """

    def __init__(self, path: str | Path, *, busy_timeout: float = 5.0) -> None:
        self._file = SqliteFile(path, _KIND, busy_timeout=busy_timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the file. The store opens it again when it is used again."""
        await self._file.aclose()

    async def load(self, application: str, stream_arn: str) -> Mapping[str, Checkpoint]:
        """Return the checkpoints of one stream by shard id; empty if there are none."""

        def load(connection: sqlite3.Connection) -> Mapping[str, Checkpoint]:
            rows = connection.execute(_LOAD, (application, stream_arn)).fetchall()
            return {shard_id: self._checkpoint(*row) for shard_id, *row in rows}

        return await self._file.run(load)

    async def save(
        self, application: str, stream_arn: str, shard_id: str, checkpoint: Checkpoint
    ) -> None:
        """Write one shard's checkpoint, if it supersedes the row."""
        key = (application, stream_arn, shard_id)

        def save(connection: sqlite3.Connection) -> None:
            with transaction(connection):
                found = connection.execute(_FIND, key).fetchone()
                old = None if found is None else self._checkpoint(*found)
                if supersedes(checkpoint, old):
                    deliveries = deliveries_to_json(checkpoint.deliveries)
                    row = (*key, checkpoint.position, checkpoint.pinned_at, deliveries)
                    connection.execute(_SAVE, row)

        await self._file.run(save)

    def _checkpoint(self, position: object, pinned_at: object, deliveries: object) -> Checkpoint:
        is_number = isinstance(position, str) and position.isascii() and position.isdigit()
        if not is_number and position not in ("TRIM_HORIZON", "LATEST", "SHARD_END"):
            raise self._file.damaged()
        if pinned_at is not None and not isinstance(pinned_at, float):
            raise self._file.damaged()
        try:
            return Checkpoint(str(position), pinned_at, deliveries_from_json(str(deliveries)))
        except ValueError as error:
            raise self._file.damaged() from error
