"""The file of dead letters among other processes, kills, full disks and foreign files."""

from __future__ import annotations

import json
import logging
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

import anyio
import pytest

from dynaflow.dead_letter import MAX_BYTES, DeadLetterRecord
from dynaflow.dead_letters import JsonLines, Kept
from dynaflow.errors import DeadLetterError
from tests.support.documents import ROOT
from tests.support.letters import MARK, PARKED_AT, letters

_WRITER = """
import sys
from itertools import islice
from dynaflow.dead_letters import JsonLines
from tests.support.letters import letters
path, skip, count, text = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), "x" * int(sys.argv[4])
sink = JsonLines(path)
for letter in islice(letters(text), skip, skip + count):
    sink(letter)
    print(letter.id, flush=True)
"""
_NOBODY = 65_534


def some(count: int, text: str = "x") -> list[DeadLetterRecord]:
    return list(islice(letters(text), count))


def read(path: Path) -> list[Kept]:
    async def read_all() -> list[Kept]:
        return [kept async for kept in JsonLines(path).letters()]

    return anyio.run(read_all)


def ids(path: Path) -> list[str]:
    return [kept.letter.id for kept in read(path) if kept.letter is not None]


def problems(path: Path) -> list[str]:
    return [kept.problem for kept in read(path) if kept.problem is not None]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def writer(
    path: Path, *, skip: int = 0, count: int = 1, size: int = 1
) -> Iterator[subprocess.Popen[str]]:
    """A process that writes letters, and says which ones are written."""
    command = [sys.executable, "-c", _WRITER, str(path), str(skip), str(count), str(size)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "letters.jsonl"


def test_one_letter_is_one_line_in_a_file_of_its_owners_only(path: Path) -> None:
    umask = os.umask(0)
    try:
        for letter in some(2):
            JsonLines(path)(letter)
    finally:
        os.umask(umask)
    assert mode(path) == 0o600
    lines = path.read_text(encoding="ascii").splitlines()
    assert [DeadLetterRecord.from_json(line) for line in lines] == some(2)


def test_a_file_that_others_may_read_is_taken_from_them(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.touch()
    path.chmod(0o664)
    with caplog.at_level(logging.WARNING):
        JsonLines(path)(some(1)[0])
    assert mode(path) == 0o600
    assert "was open to others (mode 664)" in caplog.text
    assert MARK not in caplog.text


def test_a_file_that_others_may_read_is_only_read_as_it_is(path: Path) -> None:
    JsonLines(path)(some(1)[0])
    path.chmod(0o644)
    assert len(ids(path)) == 1
    assert mode(path) == 0o644


def test_without_a_directory_there_is_an_error_and_no_file(tmp_path: Path) -> None:
    path = tmp_path / "none" / "letters.jsonl"
    with pytest.raises(DeadLetterError, match="No such file or directory"):
        JsonLines(path)(some(1)[0])
    with pytest.raises(DeadLetterError, match="a directory that does not exist"):
        read(path)
    assert not path.parent.exists()


@pytest.mark.parametrize("what", ["directory", "fifo", "device"])
def test_what_is_no_regular_file_is_refused_at_once(path: Path, what: str) -> None:
    if what == "directory":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    else:
        path = Path(os.devnull)
    with pytest.raises(DeadLetterError, match=r"not a regular file|Is a directory"):
        JsonLines(path)(some(1)[0])
    with pytest.raises(DeadLetterError, match="not a regular file"):
        read(path)


@contextmanager
def nobody() -> Iterator[None]:
    """Be a user for whom permissions count, where the tests run as root."""
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)


@pytest.mark.parametrize("permissions", [0o444, 0o644])
def test_a_file_that_may_not_be_written_is_a_letter_not_taken(permissions: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        path = Path(directory, "letters.jsonl")
        path.write_text("")
        path.chmod(permissions if os.geteuid() == 0 else 0o444)
        with nobody(), pytest.raises(DeadLetterError, match="PermissionError") as refused:
            JsonLines(path)(some(1)[0])
        assert path.read_text() == ""
    assert MARK not in str(refused.value)


def test_a_file_of_another_user_that_cannot_be_made_private_takes_no_letter() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make a file that is another user's")
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        path = Path(directory, "letters.jsonl")
        path.touch()
        path.chmod(0o666)
        with nobody(), pytest.raises(DeadLetterError, match="PermissionError"):
            JsonLines(path)(some(1)[0])
        assert path.read_text() == ""


def test_two_processes_that_write_at_the_same_time_lose_nothing(path: Path) -> None:
    with writer(path, count=200) as first, writer(path, skip=200, count=200) as second:
        written = first.communicate()[0].split() + second.communicate()[0].split()
        assert (first.returncode, second.returncode) == (0, 0)
    assert len(set(written)) == 400
    assert sorted(ids(path)) == sorted(written)
    assert problems(path) == []
    assert len(path.read_text().splitlines()) == 400


def test_threads_that_write_at_the_same_time_lose_nothing(path: Path) -> None:
    sink = JsonLines(path)
    written = some(40)

    def write(part: list[DeadLetterRecord]) -> None:
        for letter in part:
            sink(letter)

    threads = [threading.Thread(target=write, args=(written[at::4],)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ids(path)) == sorted(letter.id for letter in written)


def test_what_was_taken_survives_a_kill_and_the_next_letter_too(path: Path) -> None:
    with writer(path, count=100, size=2_000_000) as process:
        assert process.stdout is not None
        taken = [process.stdout.readline().strip() for _ in range(3)]
        process.send_signal(signal.SIGKILL)
        taken += process.stdout.read().split()
    (letter,) = some(1, "after the kill")
    JsonLines(path)(replace(letter, route="another"))
    found = ids(path)
    assert set(taken) <= set(found)
    assert replace(letter, route="another").id in found
    assert len(problems(path)) <= 1


@pytest.mark.parametrize("cut", [1, 2, 20, 400, -1])
def test_half_a_line_swallows_no_letter_and_stops_no_reading(path: Path, cut: int) -> None:
    sink = JsonLines(path)
    first, second, third = some(3)
    sink(first)
    torn = second.to_json()[:cut].encode()
    with path.open("ab") as file:
        file.write(torn)
    assert ids(path) == [first.id]
    sink(third)
    assert ids(path) == [first.id, third.id]
    (problem,) = problems(path)
    assert "line 2: this is no dead letter that can be read" in problem
    assert MARK not in problem


def test_a_line_that_only_lacks_its_end_is_a_letter(path: Path) -> None:
    first, second = some(2)
    path.write_text(first.to_json())
    JsonLines(path)(second)
    assert ids(path) == [first.id, second.id]


def test_zeros_that_a_power_failure_left_are_a_damaged_line(path: Path) -> None:
    first, second = some(2)
    JsonLines(path)(first)
    with path.open("ab") as file:
        file.write(b"\0" * 5000)
    JsonLines(path)(second)
    assert ids(path) == [first.id, second.id]
    assert len(problems(path)) == 1


@pytest.mark.parametrize("start", [b"", b"half a line"])
def test_a_full_disk_is_a_letter_not_taken_and_leaves_no_half_of_it(
    path: Path, start: bytes
) -> None:
    limited = (
        "import resource, sys\n"
        "from dynaflow.dead_letters import JsonLines\n"
        "from dynaflow.errors import DeadLetterError\n"
        "from tests.support.letters import letters\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))\n"
        "try:\n"
        "    JsonLines(sys.argv[1])(next(letters('x' * 5000)))\n"
        "except DeadLetterError as error:\n"
        "    print(error)\n"
    )
    path.write_bytes(start)
    command = [sys.executable, "-c", limited, str(path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "OSError: File too large" in ran.stdout
    assert MARK not in ran.stdout
    assert path.read_bytes() == start
    (letter,) = some(1)
    JsonLines(path)(letter)
    assert ids(path) == [letter.id]


# A process of its own, whose system notes what is to be brought to the disk, or cannot do it.
_SYNCING = """
import os, sys
from itertools import islice
from dynaflow.dead_letters import JsonLines
from dynaflow.errors import DeadLetterError
from tests.support.letters import letters
def sync(file):
    print(os.readlink(f"/proc/self/fd/{file}"))
    if len(sys.argv) > 2:
        raise OSError(5, "Input/output error")
os.fsync = sync
sink = JsonLines(sys.argv[1])
for letter in islice(letters(), 2):
    try:
        sink(letter)
    except DeadLetterError as error:
        print(error)
if len(sys.argv) == 2:
    os.remove(sys.argv[1])
    sink(letter)  # perhaps to a file with the number of the one before
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="tells which file a number is")
@pytest.mark.parametrize("broken", [False, True])
def test_a_letter_is_brought_to_the_disk_and_once_its_files_name(path: Path, broken: bool) -> None:
    command = [sys.executable, "-c", _SYNCING, str(path), *["broken"] * broken]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    said = ran.stdout.splitlines()
    if broken:
        assert ["Input/output error" in line for line in said] == [False, True, False, True]
        assert path.read_bytes() == b""
    else:
        assert said == [str(path), str(path.parent), str(path), str(path), str(path.parent)]
        assert len(ids(path)) == 1


def test_a_letter_of_four_megabytes_goes_in_and_comes_back(path: Path) -> None:
    (letter,) = some(1, "\0😀\ud800" * 200_000)
    assert len(letter.to_json()) > 4 * 2**20
    JsonLines(path)(letter)
    (kept,) = read(path)
    assert kept.letter == letter


def test_a_line_without_end_is_damaged_and_not_kept_in_memory(path: Path) -> None:
    first, second = some(2)
    JsonLines(path)(first)
    with path.open("ab") as file:
        file.truncate(file.tell() + MAX_BYTES * 5 // 4)  # zeros, which take no room on the disk
    JsonLines(path)(second)
    assert ids(path) == [first.id, second.id]
    (problem,) = problems(path)
    assert "line 2" in problem
    assert "longer than" in problem


def test_a_removed_letter_has_a_line_of_its_own_in_the_file(path: Path) -> None:
    async def remove_all() -> None:
        sink = JsonLines(path, wall_clock=lambda: PARKED_AT)
        async for kept in sink.letters():
            await sink.remove(kept)

    (letter,) = some(1)
    JsonLines(path)(letter)
    anyio.run(remove_all)
    written = path.read_text().splitlines()
    assert written[0] == letter.to_json()
    assert json.loads(written[1]) == {"version": 1, "redriven": letter.id, "at": PARKED_AT}
    assert read(path) == []
    JsonLines(path)(letter)
    assert ids(path) == [letter.id]


@pytest.mark.parametrize(
    "line",
    ['{"redriven": 1, "version": 1}', '{"redriven": "x", "version": 2}', '{"redriven"', "[]"],
)
def test_a_note_that_cannot_be_read_is_a_damaged_line(path: Path, line: str) -> None:
    path.write_text(f"\n{line}\n\n")
    (problem,) = problems(path)
    assert "line 2" in problem


def test_a_letter_whose_route_is_named_like_a_note_is_a_letter(path: Path) -> None:
    letter = replace(some(1)[0], route='"redriven"', error='"redriven"')
    JsonLines(path)(letter)
    assert ids(path) == [letter.id]


def test_letters_are_read_on_trio_too(path: Path) -> None:
    async def read_and_remove() -> list[str]:
        sink = JsonLines(path)
        found = []
        async for kept in sink.letters():
            assert kept.letter is not None
            found.append(kept.letter.id)
            await sink.remove(kept)
        return found

    for letter in some(2):
        JsonLines(path)(letter)
    assert anyio.run(read_and_remove, backend="trio") == [letter.id for letter in some(2)]
    assert read(path) == []


def test_what_is_written_while_it_is_read_is_left_for_the_next_time(path: Path) -> None:
    async def read_and_write() -> int:
        count = 0
        sink = JsonLines(path)
        async for kept in sink.letters():
            assert kept.letter is not None
            sink(replace(kept.letter, route=f"{kept.letter.route}."))
            count += 1
        return count

    for letter in some(2):
        JsonLines(path)(letter)
    assert anyio.run(read_and_write) == 2
    assert len(ids(path)) == 4


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="tells who waits for a lock")
def test_a_file_that_is_moved_away_gets_no_letter_any_more(path: Path) -> None:
    import fcntl

    first, second = some(2)
    sink = JsonLines(path)
    sink(first)
    waiting = f"{os.getpid()} "
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        thread = threading.Thread(target=sink, args=(second,))
        thread.start()
        while not any(
            "->" in line and waiting in line
            for line in Path("/proc/locks").read_text().splitlines()
        ):
            os.sched_yield()
        moved = path.rename(path.with_suffix(".old"))
    thread.join()
    assert ids(moved) == [first.id]
    assert ids(path) == [second.id]
