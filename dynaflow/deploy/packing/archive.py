"""A folder → a zip that is the same, byte for byte, wherever and whenever it is made."""

from __future__ import annotations

import base64
import hashlib
import shutil
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from dynaflow.deploy._draft import draft_of
from dynaflow.errors import PackageError

__all__ = ["code_sha256", "put_in_place", "write_zip", "zip_time"]

_UNIX = 3  # whose permissions a zip has, whatever system it was made on
_FIRST, _LAST = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)  # what a zip can say


def zip_time(source_date_epoch: str | None) -> tuple[int, int, int, int, int, int]:
    """Return the time of all files in a zip: that of the variable, or 1980.

    Args:
        source_date_epoch: the environment variable of that name: seconds since 1970, in UTC.

    Raises:
        PackageError: it is no such number.
    """
    if not source_date_epoch:
        return _FIRST
    try:
        moment = time.gmtime(int(source_date_epoch))[:6]
    except (ValueError, OverflowError, OSError):
        raise PackageError(
            f"SOURCE_DATE_EPOCH is {source_date_epoch!r}, which is no number of seconds since 1970."
        ) from None
    return max(_FIRST, min(moment, _LAST))


def write_zip(
    files: Mapping[str, Path], path: Path, when: tuple[int, int, int, int, int, int]
) -> dict[str, tuple[int, int]]:
    """Write files into a zip: sorted, of one time, and readable by everybody, as Lambda wants it.

    Args:
        files: name in the zip: where its content is.
        path: the zip.
        when: the time that all files get.

    Returns:
        What each of them takes, in bytes: as it is, and compressed.
    """
    with ZipFile(path, "w") as archive:
        for name, file in sorted(files.items()):
            entry = ZipInfo(name, when)
            entry.create_system = _UNIX
            entry.compress_type = ZIP_DEFLATED
            runs = file.stat().st_mode & stat.S_IXUSR
            entry.external_attr = (stat.S_IFREG | (0o755 if runs else 0o644)) << 16
            archive.writestr(entry, file.read_bytes(), compresslevel=9)
        entries = archive.infolist()
    return {entry.filename: (entry.file_size, entry.compress_size) for entry in entries}


def put_in_place(made: Path, target: Path) -> None:
    """Copy a file that is finished beside its target, and take the target's place at once.

    Raises:
        PackageError: it cannot be written there; a file that was there is as before.
    """
    try:
        with draft_of(target) as draft:
            with made.open("rb") as source, draft.open("xb") as copy:
                shutil.copyfileobj(source, copy)
            draft.replace(target)
    except OSError as error:
        raise PackageError(
            f"{target} could not be written: {error.strerror or error}. What was there before, if "
            "anything, is as it was; name another file with --output."
        ) from error


def code_sha256(path: Path) -> str:
    """Return a file's SHA-256 as Lambda shows it (``CodeSha256``): in base64."""
    with path.open("rb") as file:
        return base64.b64encode(hashlib.file_digest(file, "sha256").digest()).decode()
