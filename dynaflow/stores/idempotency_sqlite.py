"""Marks in an SQLite file: for several processes on one machine, without a server."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Self

from dynaflow._marks import Mark
from dynaflow.stores._sqlite import Kind, SqliteFile, transaction

__all__ = ["SqliteMarks"]

_KIND = Kind(
    name="file of marks",
    application_id=0x64796E6D,  # "dynm"
    tables="""
    CREATE TABLE mark (
        key TEXT NOT NULL PRIMARY KEY,
        token TEXT NOT NULL,
        is_completed INTEGER NOT NULL,
        expires_at REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX by_end ON mark (expires_at)
    """,
    if_removed="forgets what is done",
)
_FIND = "SELECT token, is_completed, expires_at FROM mark WHERE key = ?"
_WRITE = "INSERT OR REPLACE INTO mark VALUES (?, ?, ?, ?)"
_RENEW = "UPDATE mark SET expires_at = ? WHERE key = ? AND token = ? AND NOT is_completed"
_RELEASE = "DELETE FROM mark WHERE key = ? AND token = ? AND NOT is_completed"
_SWEEP = "DELETE FROM mark WHERE key IN (SELECT key FROM mark WHERE expires_at < ? LIMIT 100)"
_SWEEP_EVERY = 50  # marks that are taken


class SqliteMarks:
    """A store of marks in one SQLite file. Several processes may share it, and several loops.

    The file is created when it is first used. Every change is on the disk when it returns
    (``synchronous=FULL``). SQLite runs in a worker thread, one call at a time. Expired marks are
    removed now and then.

    Args:
        path: the file; its directory must exist.
        busy_timeout: seconds to wait for another process's lock before a StoreError.
    """

    def __init__(self, path: str | Path, *, busy_timeout: float = 5.0) -> None:
        self._file = SqliteFile(path, _KIND, busy_timeout=busy_timeout)
        self._until_sweep = 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the file. The store opens it again when it is used again."""
        await self._file.aclose()

    async def begin(self, key: str, token: str, *, now: float, until: float) -> Mark | None:
        """Take a key that has no mark, or an expired one, or one in progress with this token."""

        def begin(connection: sqlite3.Connection) -> Mark | None:
            with transaction(connection):
                mark = self._find(connection, key)
                if mark is not None and mark.keeps_out(token, now):
                    return mark
                connection.execute(_WRITE, (key, token, False, until))
                self._until_sweep -= 1
                if not self._until_sweep:
                    self._until_sweep = _SWEEP_EVERY
                    connection.execute(_SWEEP, (now,))
            return None

        return await self._file.run(begin, leave_if_cancelled=True)

    async def renew(self, key: str, token: str, *, until: float) -> bool:
        """Move the end of a mark in progress; return False if there is none with this token."""

        def renew(connection: sqlite3.Connection) -> bool:
            return connection.execute(_RENEW, (until, key, token)).rowcount == 1

        return await self._file.run(renew, leave_if_cancelled=True)

    async def complete(self, key: str, token: str, *, until: float) -> bool:
        """Enter that the key is done; return False if the mark is another token's."""

        def complete(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                mark = self._find(connection, key)
                if mark is not None and mark.token != token:
                    return False
                connection.execute(_WRITE, (key, token, True, until))
            return True

        return await self._file.run(complete, leave_if_cancelled=True)

    async def release(self, key: str, token: str) -> bool:
        """Remove a mark in progress; return False if it is another token's, or completed."""

        def release(connection: sqlite3.Connection) -> bool:
            with transaction(connection):
                connection.execute(_RELEASE, (key, token))
                return self._find(connection, key) is None

        return await self._file.run(release, leave_if_cancelled=True)

    def _find(self, connection: sqlite3.Connection, key: str) -> Mark | None:
        row = connection.execute(_FIND, (key,)).fetchone()
        if row is None:
            return None
        token, is_completed, expires_at = row
        if not (isinstance(token, str) and is_completed in (0, 1) and type(expires_at) is float):
            raise self._file.damaged()
        return Mark(token, bool(is_completed), expires_at)
