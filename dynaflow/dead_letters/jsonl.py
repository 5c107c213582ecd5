"""Dead letters in a file: one line of JSON each, on the disk when the call returns.

Several processes may write to the file. A letter that was run again is not taken out of it: a line
``{"version": 1, "redriven": id, "at": seconds}`` below it says so.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, TypeAlias

from dynaflow.dead_letter import MAX_BYTES, DeadLetterRecord
from dynaflow.dead_letters._kept import Kept, errors_of, log, read
from dynaflow.errors import DeadLetterError

__all__ = ["JsonLines"]

_PRIVATE = 0o600
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
_Place: TypeAlias = tuple[int, int, int]  # of a line: its number, from 1; its first byte; its bytes


class JsonLines:
    """Appends dead letters to a file, and reads them back.

    The file is created when it is first needed, for its owner only (mode 0600); one that others may
    read or write is taken from them. A letter is written and synced under a lock (``flock``, where
    there is one) before the call returns; when the disk is full, no part of it stays.

    Args:
        path: the file; its directory must exist.
        wall_clock: returns seconds since the epoch.
    """

    is_async = False

    def __init__(
        self, path: str | os.PathLike[str], *, wall_clock: Callable[[], float] = time.time
    ) -> None:
        self._path = Path(path)
        self._wall_clock = wall_clock
        self._one_at_a_time = Lock()
        self._synced: tuple[int, int] | None = None  # the file whose name is on the disk

    def __repr__(self) -> str:
        return f"JsonLines({str(self._path)!r})"

    def __call__(self, letter: DeadLetterRecord) -> None:
        """Write the letter; it is on the disk when this returns.

        Raises:
            DeadLetterError: it could not be written, and is not in the file.
        """
        self._append(letter.within(MAX_BYTES).to_json())

    async def letters(self) -> AsyncIterator[Kept]:
        """Read the letters that were not removed, each id once, as it was written last.

        What is written meanwhile is left for the next time. Without a file there are none. A line
        that is damaged comes as a problem that names it, and the others are read.

        Raises:
            DeadLetterError: the file could not be read.
        """
        from anyio import to_thread

        file = await to_thread.run_sync(self._open_to_read)
        if file is None:
            return
        with file:
            for place in await to_thread.run_sync(self._places, file):
                yield await to_thread.run_sync(self._read, file, place)

    async def remove(self, kept: Kept) -> None:
        """Note that the letter is done with; it is then no longer read.

        Raises:
            DeadLetterError: that could not be written, or it is a damaged line.
        """
        from anyio import to_thread

        if kept.letter is None:
            raise DeadLetterError(
                f"{self!r} removes no damaged line: look at it, and take it out with an editor "
                "while nothing writes to the file"
            )
        done = {"version": 1, "redriven": kept.letter.id, "at": self._wall_clock()}
        await to_thread.run_sync(self._append, json.dumps(done, separators=(",", ":")))

    def _append(self, line: str) -> None:
        with errors_of(repr(self)), self._one_at_a_time, self._opened_to_write() as file:
            end = os.fstat(file).st_size
            # A writer that died may have left half a line: it is not to swallow this one.
            start = b"\n" if _is_torn(file, end) else b""
            try:
                _write(file, start + line.encode("ascii") + b"\n")
                os.fsync(file)
                self._sync_directory_of(file, is_new=end == 0)
            except BaseException:
                with suppress(OSError):  # the first error is the one to tell
                    os.ftruncate(file, end)
                raise

    @contextmanager
    def _opened_to_write(self) -> Iterator[int]:
        """Open the file and lock it, until it is the one at its path while it is locked."""
        while True:
            file = os.open(self._path, _FLAGS, _PRIVATE)
            try:
                with _locked(file):
                    if not self._is_at_its_path(file):
                        continue  # it was moved away in between
                    self._keep_private(file)
                    yield file
                    return
            finally:
                os.close(file)

    def _is_at_its_path(self, file: int) -> bool:
        try:
            return os.path.samestat(os.fstat(file), self._path.stat())
        except FileNotFoundError:
            return False

    def _keep_private(self, file: int) -> None:
        mode = os.fstat(file).st_mode
        if not stat.S_ISREG(mode):
            raise DeadLetterError(f"{self!r} is not a regular file. Name another one.")
        if sys.platform != "win32" and stat.S_IMODE(mode) & 0o077:
            os.fchmod(file, _PRIVATE)
            log.warning(
                "%r was open to others (mode %03o), and item data is not for them: it is now 600",
                self,
                stat.S_IMODE(mode),
            )

    def _sync_directory_of(self, file: int, *, is_new: bool) -> None:
        """Make the name of the file durable, whoever created it."""
        status = os.fstat(file)
        is_known = self._synced == (status.st_dev, status.st_ino)
        # A new file may have the number of one that was removed.
        if sys.platform == "win32" or (is_known and not is_new):
            return
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self._synced = (status.st_dev, status.st_ino)

    def _open_to_read(self) -> BinaryIO | None:
        with errors_of(repr(self)):
            if not self._path.parent.is_dir():
                raise DeadLetterError(f"{self!r} is in a directory that does not exist")
            if not self._path.exists():
                return None
            if not self._path.is_file():
                raise DeadLetterError(f"{self!r} is not a regular file. Name another one.")
            return self._path.open("rb")

    def _places(self, file: BinaryIO) -> list[_Place]:
        """Return where the letters are that are to be read, and damaged lines."""
        damaged: list[_Place] = []
        last: dict[str, _Place] = {}
        with errors_of(repr(self)):
            with _locked(file.fileno(), shared=True):  # no writer is in the middle of a line
                end = os.fstat(file.fileno()).st_size
            for place, line in _lines(file, end):
                redriven = _redriven(line)
                if redriven is not None:
                    last.pop(redriven, None)
                    continue
                letter = read(line, None).letter
                if letter is None:
                    damaged.append(place)
                else:
                    last[letter.id] = place
        return sorted([*damaged, *last.values()])

    def _read(self, file: BinaryIO, place: _Place) -> Kept:
        number, start, length = place
        where = f"{str(self._path)!r}, line {number}: "
        with errors_of(repr(self)):
            file.seek(start)
            line = file.read(min(length, MAX_BYTES + 2))
        return read(line.removesuffix(b"\n"), number, where)


def _lines(file: BinaryIO, end: int) -> Iterator[tuple[_Place, bytes]]:
    """Yield the lines that are not empty, up to the end; of one that is too long only a part."""
    number = start = 0
    while start < end:
        number += 1
        line = rest = file.readline(MAX_BYTES + 1)
        length = len(line)
        while rest and not rest.endswith(b"\n"):
            rest = file.readline(MAX_BYTES)
            length += len(rest)
        if not length:
            return  # the file was cut off meanwhile
        if line.strip():
            yield (number, start, length), line.removesuffix(b"\n")
        start += length


def _redriven(line: bytes) -> str | None:
    """Return the id that a line says is done with; None if it says no such thing."""
    if b'"redriven"' not in line[:64]:
        return None  # most lines are letters, and these are long
    try:
        written: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(written, dict) or written.get("version") != 1:
        return None
    redriven = written.get("redriven")
    return redriven if isinstance(redriven, str) else None


def _is_torn(file: int, end: int) -> bool:
    """Return True if the last line has no end."""
    if end == 0:
        return False
    os.lseek(file, -1, os.SEEK_END)  # where to read; writing is at the end anyway
    return os.read(file, 1) != b"\n"


def _write(file: int, data: bytes) -> None:
    """Write it at once; what did not go in at once follows, or tells why not."""
    written = os.write(file, data)
    while written < len(data):
        written += os.write(file, data[written:])


@contextmanager
def _locked(file: int, *, shared: bool = False) -> Iterator[None]:
    if sys.platform == "win32":
        yield  # the threads of one process still write one after the other
        return
    import fcntl

    fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield
    finally:
        # Closing is not enough: a process that was forked meanwhile has the file open, too.
        fcntl.flock(file, fcntl.LOCK_UN)
