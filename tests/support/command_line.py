"""The command line, run in this process or in one of its own, on modules that a test writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from dynaflow.cli._commands import commands

__all__ = ["Project", "run_python", "start"]

_ROOT = Path(__file__).parents[2]


class Project:
    """A directory with modules of a user's, and the command line in front of it.

    Args:
        directory: where it is; it should be the working directory.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(self, name: str, text: str) -> Path:
        """Write a file; its text may be indented."""
        path = self.directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def write_event(self, event: Any) -> str:
        """Write an event as JSON and return its path."""
        return str(self.write("event.json", json.dumps(event)))

    def run(self, *arguments: str, stdin: str | bytes | None = None) -> Result:
        """Run a command in this process. Modules that it imports are forgotten afterwards."""
        with _fresh_imports():
            return CliRunner().invoke(commands, arguments, input=stdin)


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Start ``python -m dynaflow`` in a process of its own, with text pipes."""
    return subprocess.Popen(
        [sys.executable, "-m", "dynaflow", *arguments],
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def _environment() -> dict[str, str]:
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    environment.pop("PYTHONUNBUFFERED", None)  # it would hide what a last flush runs into
    return environment


@contextmanager
def _fresh_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            origin = Path(getattr(sys.modules[name], "__file__", None) or sys.prefix)
            # An environment may lie in the directory, too; its libraries are no one's to forget.
            if origin.is_relative_to(Path.cwd()) and not origin.is_relative_to(sys.prefix):
                del sys.modules[name]
