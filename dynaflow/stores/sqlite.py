"""Checkpoints in an SQLite file: durable on one machine, without a server.

The file says whose it is (SQLite's ``application_id``) and how it is laid out (``user_version``).
A file that is not ours, damaged, or newer than this version is refused and never replaced; one with
an older layout is brought up to date when it is opened.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Self, TypeVar
from uuid import uuid4

import anyio
import anyio.to_thread

from dynaflow.checkpoints import (
    Checkpoint,
    deliveries_from_json,
    deliveries_to_json,
    supersedes,
)
from dynaflow.errors import StoreError, StoreRefused

__all__ = ["SqliteStore"]

_T = TypeVar("_T")

_APPLICATION_ID = 0x64796E66  # "dynf"
_VERSION = 2
_HEADER = b"SQLite format 3\0"
_DELIVERIES = "deliveries TEXT NOT NULL DEFAULT '[]'"  # since layout 2
_CREATE = f"""
PRAGMA journal_mode = WAL;
BEGIN IMMEDIATE;
CREATE TABLE checkpoint (
    application TEXT NOT NULL,
    stream_arn TEXT NOT NULL,
    shard_id TEXT NOT NULL,
    position TEXT NOT NULL,
    pinned_at REAL,
    {_DELIVERIES},
    PRIMARY KEY (application, stream_arn, shard_id)
) WITHOUT ROWID;
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
COMMIT;
"""
# From each older layout to the next.
_UPGRADES = {1: f"ALTER TABLE checkpoint ADD COLUMN {_DELIVERIES}"}
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

# What SQLite calls a file that no retry will mend.
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT")
# What it says of a file, or a directory, that this user may not write.
_NOT_OURS_TO_WRITE = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")


class SqliteStore:
    """A checkpoint store in one SQLite file. Several processes may share the file.

    The file is created when it is first used. Every save is on the disk when it returns
    (``synchronous=FULL``). SQLite runs in a worker thread, one call at a time.

    Args:
        path: the file; its directory must exist.
        busy_timeout: seconds to wait for another process's lock before a StoreError.
    """

    def __init__(self, path: str | Path, *, busy_timeout: float = 5.0) -> None:
        self._path = Path(path)
        self._busy_timeout = busy_timeout
        self._connection: sqlite3.Connection | None = None
        self._one_at_a_time = anyio.CapacityLimiter(1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the file. The store opens it again when it is used again."""
        with anyio.CancelScope(shield=True):
            await self._in_thread(self._close)

    async def load(self, application: str, stream_arn: str) -> Mapping[str, Checkpoint]:
        """Return the checkpoints of one stream by shard id; empty if there are none."""

        def load() -> Mapping[str, Checkpoint]:
            rows = self._open().execute(_LOAD, (application, stream_arn)).fetchall()
            return {shard_id: self._checkpoint(*row) for shard_id, *row in rows}

        return await self._in_thread(load)

    async def save(
        self, application: str, stream_arn: str, shard_id: str, checkpoint: Checkpoint
    ) -> None:
        """Write one shard's checkpoint, if it supersedes the row."""
        key = (application, stream_arn, shard_id)

        def save() -> None:
            connection = self._open()
            with _transaction(connection):
                found = connection.execute(_FIND, key).fetchone()
                old = None if found is None else self._checkpoint(*found)
                if supersedes(checkpoint, old):
                    deliveries = deliveries_to_json(checkpoint.deliveries)
                    row = (*key, checkpoint.position, checkpoint.pinned_at, deliveries)
                    connection.execute(_SAVE, row)

        await self._in_thread(save)

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        def run() -> _T:
            try:
                return call()
            except sqlite3.Error as error:
                raise self._store_error(error) from error

        # Not abandoned when cancelled: the next call would find the connection in use.
        return await anyio.to_thread.run_sync(run, limiter=self._one_at_a_time)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            try:
                self._connection = self._connect()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname.startswith(_NOT_OURS_TO_WRITE):
                    raise self._refused("cannot be written", "Check its permissions") from error
                raise
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> sqlite3.Connection:
        if self._is_new():
            self._create()
        connection = self._connect_to(self._path)
        try:
            connection.execute("PRAGMA synchronous = FULL")
            self._check(connection)
            self._upgrade(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect_to(self, path: Path, mode: str = "rw") -> sqlite3.Connection:
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=self._busy_timeout,
            isolation_level=None,  # transactions are begun and ended by name
            check_same_thread=False,  # one thread at a time: see _in_thread
        )

    def _is_new(self) -> bool:
        """Return True if there is no file yet.

        Raises:
            StoreRefused: there is something else than a SQLite file.
        """
        try:
            with self._path.open("rb") as file:
                header = file.read(len(_HEADER))
        except FileNotFoundError:
            if self._path.parent.is_dir():
                return True
            raise self._refused("is in a directory that does not exist", "Create it") from None
        except OSError as error:
            raise self._refused(
                f"cannot be read ({type(error).__name__})", "Check the path and its permissions"
            ) from error
        if header != _HEADER:
            what = "is empty" if not header else "is not an SQLite file"
            raise self._refused(what, "Name another file, or remove this one to start anew")
        return False

    def _create(self) -> None:
        """Make the file complete beside its place and then put it there, for all to see at once."""
        draft = self._path.with_name(f"{self._path.name}.{uuid4().hex}")
        try:
            with closing(self._connect_to(draft, "rwc")) as connection:
                connection.executescript(_CREATE)
            with suppress(FileExistsError):  # another process was faster: its file is as good
                os.link(draft, self._path)
        except OSError as error:
            raise self._refused(
                f"cannot be made ({error.strerror})", "Choose a directory that takes hard links"
            ) from error
        finally:
            draft.unlink(missing_ok=True)

    def _check(self, connection: sqlite3.Connection) -> None:
        """Refuse a file that is not ours, too new, damaged, or not writable."""
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        if application_id != _APPLICATION_ID:
            raise self._refused("belongs to another program", "Name another file")
        version = self._layout(connection)
        if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise self._damaged()
        # A write that is not kept: "BEGIN" alone does not find a read-only file.
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(f"PRAGMA user_version = {version}")
        finally:
            with suppress(sqlite3.Error):  # the first error is the one to tell
                connection.execute("ROLLBACK")

    def _layout(self, connection: sqlite3.Connection) -> int:
        """Return how the file is laid out.

        Raises:
            StoreRefused: in a way that this version does not know.
        """
        version: int
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != _VERSION and version not in _UPGRADES:
            raise self._refused(
                f"has layout {version}; this version of dynaflow knows layout {_VERSION}",
                "Use the version of dynaflow that wrote it, or another file",
            )
        return version

    def _upgrade(self, connection: sqlite3.Connection) -> None:
        """Bring a file of an older layout up to date: as a whole, or not at all."""
        with _transaction(connection):
            version = self._layout(connection)  # under the lock: another process may be faster
            while version != _VERSION:
                connection.execute(_UPGRADES[version])
                version += 1
                connection.execute(f"PRAGMA user_version = {version}")

    def _checkpoint(self, position: object, pinned_at: object, deliveries: object) -> Checkpoint:
        is_number = isinstance(position, str) and position.isascii() and position.isdigit()
        if not is_number and position not in ("TRIM_HORIZON", "LATEST", "SHARD_END"):
            raise self._damaged()
        if pinned_at is not None and not isinstance(pinned_at, float):
            raise self._damaged()
        try:
            return Checkpoint(str(position), pinned_at, deliveries_from_json(str(deliveries)))
        except ValueError as error:
            raise self._damaged() from error

    def _store_error(self, error: sqlite3.Error) -> StoreError:
        name: str = getattr(error, "sqlite_errorname", type(error).__name__)
        # An OperationalError that is not SQLite's: a text is not in UTF-8.
        if name.startswith(_DAMAGED) or name == "OperationalError":
            return self._damaged()
        return StoreError(f"the checkpoint file {str(self._path)!r} could not be used: {name}")

    def _damaged(self) -> StoreRefused:
        return self._refused(
            "is damaged",
            "Restore it from a copy; or remove it, which starts every shard anew",
        )

    def _refused(self, fact: str, remedy: str) -> StoreRefused:
        return StoreRefused(f"the checkpoint file {str(self._path)!r} {fact}. {remedy}.")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Hold SQLite's write lock; commit at the end, roll back on an error."""
    with closing(connection.cursor()) as cursor:
        cursor.execute("BEGIN IMMEDIATE")
        try:
            yield
            cursor.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # the first error is the one to tell
                cursor.execute("ROLLBACK")
            raise
