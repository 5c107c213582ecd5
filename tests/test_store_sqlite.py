from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio
import pytest

from dynaflow.checkpoints import Checkpoint
from dynaflow.errors import StoreError, StoreRefused
from dynaflow.stores import MemoryStore, SqliteStore, open_store
from dynaflow.stores._sqlite import SqliteFile
from dynaflow.stores.sqlite import _KIND


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints.db"


def load(path: Path) -> dict[str, Checkpoint]:
    async def main() -> dict[str, Checkpoint]:
        async with SqliteStore(path) as store:
            return dict(await store.load("app", "arn"))

    return anyio.run(main)


def save(path: Path, position: str = "123") -> None:
    async def main() -> None:
        async with SqliteStore(path) as store:
            await store.save("app", "arn", "shard", Checkpoint(position))

    anyio.run(main)


def refusal(path: Path) -> str:
    """Try to read and to write the file, and return why that is refused."""
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(StoreRefused) as refused:
        load(path)
    with pytest.raises(StoreRefused):
        save(path)
    after = path.read_bytes() if path.is_file() else None
    assert after == before, "a refused file is left as it was"
    return str(refused.value)


def test_the_file_is_made_when_it_is_first_used(path: Path) -> None:
    SqliteStore(path)
    assert not path.exists()
    assert load(path) == {}
    assert path.read_bytes().startswith(b"SQLite format 3\0")
    assert list(path.parent.iterdir()) == [path]


def test_every_save_is_synchronous_and_in_the_write_ahead_log(path: Path) -> None:
    async def main() -> None:
        async with SqliteStore(path) as store:
            await store.save("app", "arn", "shard", Checkpoint("1"))
            assert store._file.connection is not None
            assert store._file.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
            assert store._file.connection.execute("PRAGMA synchronous").fetchone() == (2,)

    anyio.run(main)


def test_a_text_file_is_refused(path: Path) -> None:
    path.write_text("my notes about checkpoints")
    assert "is not an SQLite file" in refusal(path)


def test_an_empty_file_is_refused(path: Path) -> None:
    path.touch()
    assert "is empty" in refusal(path)


def test_another_programs_database_is_refused(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE checkpoint (x)")
    assert "belongs to another program" in refusal(path)


def test_a_newer_layout_is_refused(path: Path) -> None:
    save(path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version = 3")
    assert "has layout 3" in refusal(path)


@pytest.mark.parametrize("keep", [100, 4096, 5000])
def test_a_torn_file_is_refused(path: Path, keep: int) -> None:
    save(path)
    path.write_bytes(path.read_bytes()[:keep])
    assert "is damaged" in refusal(path)


def test_an_overwritten_page_is_refused(path: Path) -> None:
    save(path)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    assert "is damaged" in refusal(path)


def test_a_position_that_is_none_is_refused(path: Path) -> None:
    save(path)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("UPDATE checkpoint SET position = '12x'")
    assert "is damaged" in refusal(path)


@pytest.mark.parametrize(
    "deliveries",
    [
        "''",
        "'{}'",
        "'[1]'",
        """'[["124","route"]]'""",
        """'[["12x","route",1]]'""",
        """'[["١٢٤","route",1]]'""",
        """'[[124,"route",1]]'""",
        """'[["124",5,1]]'""",
        """'[["124","route",true]]'""",
        """'[["124","route",1.5]]'""",
        """'[["124","route",0]]'""",
        f"""'[["{"9" * 5000}","route",1]]'""",
        f"'{'[' * 100_000}'",
        "x'5b5d'",
        "CAST(x'ff' AS TEXT)",
        "7",
    ],
)
def test_counts_that_are_none_are_refused(path: Path, deliveries: str) -> None:
    save(path)
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(f"UPDATE checkpoint SET deliveries = {deliveries}")  # noqa: S608 - see above
    assert "is damaged" in refusal(path)


# A file as it was made before rows had counts of deliveries.
LAYOUT_1 = """
PRAGMA journal_mode = WAL;
CREATE TABLE checkpoint (
    application TEXT NOT NULL,
    stream_arn TEXT NOT NULL,
    shard_id TEXT NOT NULL,
    position TEXT NOT NULL,
    pinned_at REAL,
    PRIMARY KEY (application, stream_arn, shard_id)
) WITHOUT ROWID;
INSERT INTO checkpoint VALUES ('app', 'arn', 'shard', '123', NULL);
INSERT INTO checkpoint VALUES ('app', 'arn', 'other', 'LATEST', 12.5);
PRAGMA application_id = 0x64796E66;
PRAGMA user_version = 1;
"""
OF_LAYOUT_1 = {"shard": Checkpoint("123"), "other": Checkpoint("LATEST", 12.5)}


@pytest.fixture
def old_path(path: Path) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(LAYOUT_1)
    return path


def layout(path: Path) -> tuple[int, list[str]]:
    """Return the file's version, and its columns."""
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        columns = [row[1] for row in connection.execute("PRAGMA table_info(checkpoint)")]
    return version, columns


def test_a_file_of_layout_1_is_brought_up_to_date(old_path: Path, tmp_path: Path) -> None:
    assert load(old_path) == OF_LAYOUT_1
    save(tmp_path / "new.db")
    assert layout(old_path) == layout(tmp_path / "new.db") != (1, [])
    row = Checkpoint("123", deliveries={("124", "route"): 2})

    async def main() -> None:
        async with SqliteStore(old_path) as store:
            await store.save("app", "arn", "shard", row)

    anyio.run(main)
    assert load(old_path) == {**OF_LAYOUT_1, "shard": row}


def test_many_may_bring_a_file_up_to_date_at_once(old_path: Path) -> None:
    rows = []

    async def upgrade() -> None:
        async with SqliteStore(old_path) as store:
            rows.append(await store.load("app", "arn"))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(upgrade)

    anyio.run(main)
    assert rows == [OF_LAYOUT_1] * 8


class Overtaken(SqliteFile):
    """A file that another process overtakes between a look at it and the lock on it."""

    def __init__(self, path: Path, other: Callable[[], object]) -> None:
        super().__init__(path, _KIND, busy_timeout=5)
        self.other = other

    def _check(self, connection: sqlite3.Connection) -> None:
        super()._check(connection)
        self.other()


def overtaken(path: Path, other: Callable[[], object]) -> SqliteStore:
    store = SqliteStore(path)
    store._file = Overtaken(path, other)
    return store


def test_another_process_may_be_faster_to_bring_a_file_up_to_date(old_path: Path) -> None:
    store = overtaken(old_path, lambda: load(old_path))
    assert anyio.run(store.load, "app", "arn") == OF_LAYOUT_1
    anyio.run(store.aclose)


def test_a_file_that_a_newer_version_changes_meanwhile_is_refused(old_path: Path) -> None:
    def change() -> None:
        with closing(sqlite3.connect(old_path)) as other:
            other.execute("PRAGMA user_version = 3")

    with pytest.raises(StoreRefused, match="has layout 3"):
        anyio.run(overtaken(old_path, change).load, "app", "arn")
    assert layout(old_path)[0] == 3


STOPPED_HALFWAY = """
import os, sqlite3, sys, anyio
from dynaflow.stores import SqliteStore
from dynaflow.stores._sqlite import SqliteFile
from dynaflow.stores.sqlite import _KIND

class Killed(sqlite3.Connection):
    def execute(self, sql, *args):
        if sql == f"PRAGMA user_version = {_KIND.layout}" and self.has_altered:
            os._exit(9)
        self.has_altered = self.has_altered or sql.startswith("ALTER")
        return super().execute(sql, *args)
    has_altered = False

class File(SqliteFile):
    def _connect_to(self, path, mode="rw"):
        return sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=Killed)

store = SqliteStore(sys.argv[1])
store._file = File(sys.argv[1], _KIND, busy_timeout=5)
anyio.run(store.load, "app", "arn")
"""


def test_a_process_killed_while_it_brings_a_file_up_to_date_leaves_it_whole(
    old_path: Path,
) -> None:
    done = subprocess.run([sys.executable, "-c", STOPPED_HALFWAY, str(old_path)], check=False)
    assert done.returncode == 9
    version, columns = layout(old_path)
    assert (version, "deliveries" in columns) == (1, False)
    assert load(old_path) == OF_LAYOUT_1


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_an_older_file_that_may_not_be_written_is_refused(others_directory: Path) -> None:
    path = others_directory / "checkpoints.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.executescript(LAYOUT_1)
    path.chmod(0o444)
    others_directory.chmod(0o755)
    with as_ordinary_user():
        assert "cannot be written" in refusal(path)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    assert "directory that does not exist" in refusal(tmp_path / "no" / "file.db")


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(tmp_path)


@pytest.fixture
def others_directory() -> Iterator[Path]:
    """A directory that this user may read but not write, even if the tests run as root."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)
        Path(directory).chmod(0o755)


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Leave off root's right to write everywhere."""
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
@pytest.mark.parametrize("mode", [0o555, 0o755])
def test_a_file_that_may_not_be_written_is_refused(others_directory: Path, mode: int) -> None:
    path = others_directory / "checkpoints.db"
    save(path)
    path.chmod(0o444)
    others_directory.chmod(mode)
    with as_ordinary_user():
        assert "cannot be written" in refusal(path)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_a_directory_that_may_not_be_written_is_refused(others_directory: Path) -> None:
    others_directory.chmod(0o555)
    with as_ordinary_user():
        assert "cannot be written" in refusal(others_directory / "checkpoints.db")


def test_a_locked_file_is_an_error_that_may_be_tried_again(path: Path) -> None:
    save(path)

    async def main() -> None:
        async with SqliteStore(path, busy_timeout=0.01) as store:
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(StoreError, match="SQLITE_BUSY") as error:
                    await store.save("app", "arn", "shard", Checkpoint("200"))
                assert not isinstance(error.value, StoreRefused)
            await store.save("app", "arn", "shard", Checkpoint("200"))

    anyio.run(main)
    assert load(path) == {"shard": Checkpoint("200")}


def test_a_full_disk_is_an_error_that_may_be_tried_again(path: Path) -> None:
    async def main() -> None:
        async with SqliteStore(path) as store:
            await store.load("app", "arn")
            assert store._file.connection is not None
            (pages,) = store._file.connection.execute("PRAGMA page_count").fetchone()
            store._file.connection.execute(f"PRAGMA max_page_count = {pages}")
            with pytest.raises(StoreError, match="SQLITE_FULL") as error:
                await store.save("app", "arn", "x" * 100_000, Checkpoint("1"))
            assert not isinstance(error.value, StoreRefused)
            await store.save("app", "arn", "shard", Checkpoint("200"))

    anyio.run(main)
    assert load(path) == {"shard": Checkpoint("200")}


KILLED = """
import os, sys, anyio
from dynaflow.checkpoints import Checkpoint
from dynaflow.stores import SqliteStore

async def main():
    store = SqliteStore(sys.argv[1])
    for number in range(1, 8):
        await store.save("app", "arn", "shard", Checkpoint(str(number)))
    os._exit(9)

anyio.run(main)
"""


def test_what_was_saved_survives_a_killed_process(path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == 9
    assert load(path) == {"shard": Checkpoint("7")}


def test_a_path_may_hold_any_characters(tmp_path: Path) -> None:
    path = tmp_path / "a b?c#d%20é.db"
    save(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_url_names_a_store(tmp_path: Path) -> None:
    assert isinstance(open_store("memory"), MemoryStore)
    assert isinstance(open_store("sqlite:///checkpoints.db"), SqliteStore)
    assert isinstance(open_store(f"sqlite:///{tmp_path}/checkpoints.db"), SqliteStore)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "Memory",
        "sqlite",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///file.db?mode=ro",
        "/file.db",
        "redis://localhost",
    ],
)
def test_other_urls_are_refused_with_those_that_are_not(url: str) -> None:
    with pytest.raises(ValueError, match=re.escape("sqlite:///file.db")):
        open_store(url)
