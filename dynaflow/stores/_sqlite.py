"""One SQLite file of ours: made whole, checked before it is used, and never replaced.

The file says whose it is (SQLite's ``application_id``) and how it is laid out (``user_version``).
One that is not ours, of another kind, damaged, or newer than this version is refused; one with an
older layout is brought up to date when it is opened.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from dynaflow.errors import StoreError, StoreRefused

__all__ = ["Kind", "SqliteFile", "transaction"]

_T = TypeVar("_T")

_HEADER = b"SQLite format 3\0"

# What SQLite calls a file that no retry will mend.
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB", "SQLITE_FORMAT")
# What it says of a file, or a directory, that this user may not write.
_NOT_OURS_TO_WRITE = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a file is for.

    Args:
        name: how messages call it, such as "checkpoint file".
        application_id: how SQLite's header tells it from other files.
        tables: the statements that make its tables.
        if_removed: what follows if the user removes it, for a message.
        layout: the number of the layout that ``tables`` makes.
        upgrades: by the number of an older layout, the statement that leads to the next.
    """

    name: str
    application_id: int
    tables: str
    if_removed: str
    layout: int = 1
    upgrades: Mapping[int, str] = field(default_factory=dict)


class SqliteFile:
    """A file of one kind, which several processes may share, and several event loops.

    It is made when it is first used. Every write is on the disk when it returns
    (``synchronous=FULL``). SQLite runs in a worker thread, one call at a time.

    Args:
        path: the file; its directory must exist.
        kind: what it is for.
        busy_timeout: seconds to wait for another process's lock before a StoreError.

    ``connection`` is None while the file is not open.
    """

    def __init__(self, path: str | Path, kind: Kind, *, busy_timeout: float) -> None:
        self.connection: sqlite3.Connection | None = None
        self._path = Path(path)
        self._kind = kind
        self._busy_timeout = busy_timeout
        self._of_loop = RunVar[anyio.CapacityLimiter]("one_at_a_time")
        self._in_use = threading.Lock()  # by a call that nobody waits for any more, too

    async def run(
        self, call: Callable[[sqlite3.Connection], _T], *, leave_if_cancelled: bool = False
    ) -> _T:
        """Call a function with the open file, and return what it returns.

        Args:
            call: the function.
            leave_if_cancelled: whether a cancellation does not wait for it. It then either has not
                begun and never does, or ends before whatever runs next.

        Raises:
            StoreError: SQLite's errors.
        """
        left = threading.Event()

        def run() -> _T:
            with self._in_use:
                if left.is_set():
                    raise StoreError(f"nobody waits for this call of the {self._kind.name}")
                try:
                    return call(self._open())
                except sqlite3.Error as error:
                    raise self._store_error(error) from error

        try:
            # Not abandoned by default: the caller would not know whether a write has been made.
            return await anyio.to_thread.run_sync(
                run, limiter=self._one_at_a_time(), abandon_on_cancel=leave_if_cancelled
            )
        except anyio.get_cancelled_exc_class():
            left.set()
            raise

    async def aclose(self) -> None:
        """Close the file. It is opened again when it is used again."""

        def close() -> None:
            with self._in_use:
                if self.connection is not None:
                    self.connection.close()
                    self.connection = None

        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(close, limiter=self._one_at_a_time())

    def damaged(self) -> StoreRefused:
        """Return the error for a file whose content cannot be right."""
        return self._refused(
            "is damaged",
            f"Restore it from a copy; or remove it, which {self._kind.if_removed}",
        )

    def _one_at_a_time(self) -> anyio.CapacityLimiter:
        """Return what lets calls of this event loop wait for each other, each loop having its own.

        Those of other loops wait in their threads.
        """
        limiter = self._of_loop.get(None)
        if limiter is None:
            limiter = anyio.CapacityLimiter(1)
            self._of_loop.set(limiter)
        return limiter

    def _open(self) -> sqlite3.Connection:
        if self.connection is None:
            try:
                self.connection = self._connect()
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname.startswith(_NOT_OURS_TO_WRITE):
                    raise self._refused("cannot be written", "Check its permissions") from error
                raise
        return self.connection

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
            check_same_thread=False,  # one thread at a time: see run
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
        statements = (
            "PRAGMA journal_mode = WAL; BEGIN IMMEDIATE;"
            f"{self._kind.tables};"
            f"PRAGMA application_id = {self._kind.application_id};"
            f"PRAGMA user_version = {self._kind.layout}; COMMIT;"
        )
        try:
            with closing(self._connect_to(draft, "rwc")) as connection:
                connection.executescript(statements)
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
        if application_id != self._kind.application_id:
            raise self._refused("belongs to another program or store", "Name another file")
        layout = self._layout(connection)
        if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise self.damaged()
        # A write that is not kept: "BEGIN" alone does not find a read-only file.
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.execute(f"PRAGMA user_version = {layout}")
        finally:
            with suppress(sqlite3.Error):  # the first error is the one to tell
                connection.execute("ROLLBACK")

    def _layout(self, connection: sqlite3.Connection) -> int:
        """Return how the file is laid out.

        Raises:
            StoreRefused: in a way that this version does not know.
        """
        layout: int
        (layout,) = connection.execute("PRAGMA user_version").fetchone()
        if layout != self._kind.layout and layout not in self._kind.upgrades:
            raise self._refused(
                f"has layout {layout}; this version of dynaflow knows layout {self._kind.layout}",
                "Use the version of dynaflow that wrote it, or another file",
            )
        return layout

    def _upgrade(self, connection: sqlite3.Connection) -> None:
        """Bring a file of an older layout up to date: as a whole, or not at all."""
        with transaction(connection):
            layout = self._layout(connection)  # under the lock: another process may be faster
            while layout != self._kind.layout:
                connection.execute(self._kind.upgrades[layout])
                layout += 1
                connection.execute(f"PRAGMA user_version = {layout}")

    def _store_error(self, error: sqlite3.Error) -> StoreError:
        name: str = getattr(error, "sqlite_errorname", type(error).__name__)
        # An OperationalError that is not SQLite's: a text is not in UTF-8.
        if name.startswith(_DAMAGED) or name == "OperationalError":
            return self.damaged()
        return StoreError(f"the {self._kind.name} {str(self._path)!r} could not be used: {name}")

    def _refused(self, fact: str, remedy: str) -> StoreRefused:
        return StoreRefused(f"the {self._kind.name} {str(self._path)!r} {fact}. {remedy}.")


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
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
