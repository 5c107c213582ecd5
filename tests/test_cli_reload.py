"""``dynaflow run --reload``: a file changes, and the stream is read on by what it says now."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import IO

import pytest

from tests.support.command_line import Project, start
from tests.support.tables import Table

SHOP = """
    import asyncio
    from dynaflow import Router

    router = Router()

    @router.on_insert()
    async def handle(new):
        print("{word}", new["id"], flush=True)
        await asyncio.sleep({seconds})
"""
PATIENCE = 30  # seconds


@pytest.fixture
def project(aws_project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    aws_project.write("shop.py", SHOP.format(word="first", seconds=0))
    return aws_project


class Reloading:
    """A running ``dynaflow run --reload``, whose lines are read while they come."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._coming: Queue[str] = Queue()
        self._readers: list[Thread] = []
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            self._readers.append(Thread(target=self._read, args=(stream,), daemon=True))
            self._readers[-1].start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._coming.put(line.rstrip("\n"))

    def until(self, text: str) -> str:
        """Return the next line that has this text in it."""
        try:
            while text not in (line := self._coming.get(timeout=PATIENCE)):
                self.lines.append(line)
        except Empty:
            pytest.fail(f"{text!r} does not come after {self.lines}")
        self.lines.append(line)
        return line

    def is_silent(self) -> bool:
        """Wait until nobody can write any more, the child included."""
        for reader in self._readers:
            reader.join(PATIENCE)
        return not any(reader.is_alive() for reader in self._readers)

    def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextmanager
def reloading(table: Table, *options: str) -> Iterator[Reloading]:
    arguments = ("run", "shop:router", "--reload", *table.options, *options)
    with start(*arguments, start_new_session=True) as process:
        try:
            yield Reloading(process)
        finally:
            process.terminate()
            process.wait(PATIENCE)


def child_of(process: subprocess.Popen[str]) -> int:
    """Return the id of the process that reads the stream."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    (child,) = path.read_text().split()
    return int(child)


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")


@linux_only
def test_a_change_is_followed_by_the_new_code_and_nothing_is_lost_or_repeated(
    project: Project, table: Table
) -> None:
    with reloading(table) as run:
        table.put("a")
        run.until("first a")
        before = child_of(run.process)
        # Of the same size and time as before, which is what Python knows a compiled file by.
        written = (project.directory / "shop.py").stat()
        path = project.write("shop.py", SHOP.format(word="third", seconds=0))
        os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
        table.put("b", "c")
        run.until("shop.py changed: starting again")
        run.until(" c")
        assert child_of(run.process) != before
        table.put("d")
        run.until("third d")
        assert run.end(signal.SIGINT) == 0
    handled = [line.split()[1] for line in run.lines if line.startswith(("first", "third"))]
    assert sorted(handled) == ["a", "b", "c", "d"]


def test_a_call_in_flight_may_finish_before_the_new_code_starts(
    project: Project, table: Table
) -> None:
    project.write("shop.py", SHOP.format(word="slow", seconds=1) + '        print("over")\n')
    with reloading(table) as run:
        table.put("a")
        run.until("slow a")
        project.write("shop.py", SHOP.format(word="quick", seconds=0))
        run.until("starting again")
        table.put("b")
        run.until("quick b")
        assert run.end(signal.SIGTERM) == 0
    assert "over" in run.lines
    assert "quick a" not in run.lines


@pytest.mark.parametrize(
    ("broken", "error"),
    [
        ("def handle(:\n", "SyntaxError"),
        ("from dynaflow import Router\nRouter(match='some')\n", "match="),
    ],
)
def test_a_broken_file_says_so_and_the_next_change_goes_on(
    project: Project, table: Table, broken: str, error: str
) -> None:
    with reloading(table) as run:
        table.put("a")
        run.until("first a")
        project.write("shop.py", broken)
        assert "shop.py:" in run.until(error)
        run.until("waiting for a file to change")
        table.put("b")
        project.write("shop.py", SHOP.format(word="mended", seconds=0))
        run.until("mended b")
        assert run.end(signal.SIGINT) == 0
    assert "mended a" not in run.lines


def test_a_file_that_is_broken_from_the_start_waits_too(project: Project, table: Table) -> None:
    project.write("shop.py", "import nowhere\n")
    with reloading(table) as run:
        run.until("No module named 'nowhere'")
        run.until("waiting for a file to change")
        assert run.end(signal.SIGINT) == 3


def test_other_files_do_not_start_it_again(project: Project, table: Table) -> None:
    with reloading(table) as run:
        table.put("a")
        run.until("first a")
        project.write("notes.txt", "not code")
        project.write(".venv/library.py", "not ours")
        project.write("lib.py", "x = 1")
        assert run.until("starting again") == "lib.py changed: starting again"
        table.put("b")
        run.until("first b")
        assert run.end(signal.SIGINT) == 0


def test_another_directory_is_watched_where_the_module_is_there(
    project: Project, table: Table
) -> None:
    (project.directory / "shop.py").rename(project.directory / "gone.txt")
    project.write("backend/shop.py", SHOP.format(word="first", seconds=0))
    with reloading(table, "--app-dir", "backend") as run:
        table.put("a")
        run.until("first a")
        project.write("backend/shop.py", SHOP.format(word="second", seconds=0))
        assert run.until("starting again") == "shop.py changed: starting again"
        table.put("b")
        run.until("second b")


def test_a_terminals_ctrl_c_which_goes_to_the_whole_group_is_taken_once(
    project: Project, table: Table
) -> None:
    project.write("shop.py", SHOP.format(word="slow", seconds=1))
    with reloading(table) as run:
        table.put("a")
        run.until("slow a")
        os.killpg(run.process.pid, signal.SIGINT)
        assert run.process.wait(PATIENCE) == 0
        run.until("1 records done")  # else it would have been cut off


@linux_only
def test_a_second_ctrl_c_waits_for_nothing_and_leaves_no_process(
    project: Project, table: Table
) -> None:
    project.write("shop.py", SHOP.format(word="slow", seconds=60))
    with reloading(table, "--grace", "60") as run:
        table.put("a")
        run.until("slow a")
        child = child_of(run.process)
        run.process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            run.process.wait(0.5)
        assert run.end(signal.SIGINT) == 130
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


@linux_only
def test_a_terminal_that_is_closed_ends_both_in_order(project: Project, table: Table) -> None:
    with reloading(table) as run:
        table.put("a")
        run.until("first a")
        child = child_of(run.process)
        assert run.end(signal.SIGHUP) == 0
        run.until("1 records done")
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


@pytest.mark.skipif(os.name != "posix", reason="the pipe is passed on on POSIX only")
def test_when_the_parent_is_killed_the_child_ends_in_order(project: Project, table: Table) -> None:
    project.write("shop.py", SHOP.format(word="slow", seconds=0.3) + '        print("over")\n')
    with reloading(table) as run:
        table.put("a")
        run.until("slow a")
        run.process.kill()
        assert run.is_silent()
        run.until("1 records done")
    assert "over" in run.lines or run.until("over")


@linux_only
def test_a_run_that_was_killed_is_waited_for_no_longer(project: Project, table: Table) -> None:
    with reloading(table) as run:
        table.put("a")
        run.until("first a")
        os.kill(child_of(run.process), signal.SIGKILL)
        run.until("waiting for a file to change")
        project.write("shop.py", SHOP.format(word="second", seconds=0))
        table.put("b")
        run.until("second b")


@linux_only
def test_a_run_that_somebody_else_ended_in_order_ends_it(project: Project, table: Table) -> None:
    with reloading(table) as run:
        table.put("a")
        run.until("first a")
        os.kill(child_of(run.process), signal.SIGTERM)
        assert run.process.wait(PATIENCE) == 0


def test_what_aws_refuses_ends_it(project: Project, table: Table) -> None:
    with start(
        "run", "shop:router", "--reload", "--table", "nowhere", "--endpoint-url", table.url
    ) as process:
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 4
    assert "ResourceNotFoundException" in err


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        (("--once",), "--once ends by itself"),
        (("--store", "redis://x"), "names no checkpoint store"),
    ],
)
def test_options_that_no_change_could_mend_are_usage_errors(
    project: Project, options: tuple[str, ...], fact: str
) -> None:
    result = project.run("run", "shop:router", "--table", "t", "--reload", *options)
    assert result.exit_code == 2
    assert fact in result.stderr


def test_without_watchfiles_there_is_one_line_with_the_command_that_installs_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)  # as if it were not installed
    result = project.run("run", "shop:router", "--table", "t", "--reload")
    assert result.exit_code == 3
    assert result.stderr == (
        "dynaflow: watchfiles is not installed. Install it with: pip install 'dynaflow[cli]'\n"
    )
