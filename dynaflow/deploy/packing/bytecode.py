"""Byte code, made before the deployment: in Lambda nobody can keep what an import compiles."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

from dynaflow.deploy.packing.runtime import interpreter_of, run
from dynaflow.errors import PackageError

__all__ = ["TASK_ROOT", "compile_folder", "find_compiler"]

TASK_ROOT = "/var/task"
"""Where Lambda unpacks a function's zip; what byte code, and so a traceback, says of its source."""


def find_compiler(version: str) -> str:
    """Return an interpreter whose byte code this version of Python loads.

    Raises:
        PackageError: there is none on this machine.
    """
    python = interpreter_of(version)
    if python is None:
        raise PackageError(
            f"byte code for Python {version} is made by a Python {version}, and there is none "
            f"here: python{version} is not on the PATH, and uv has none. Install one (uv python "
            f"install {version}), choose the version that runs here with --python, or leave byte "
            "code out with --no-compile: every cold start then compiles what it imports."
        )
    return python


def compile_folder(folder: Path, python: str, own: Collection[str]) -> None:
    """Compile all Python files in a folder, into byte code that is never compared with them.

    The same files make the same byte code: hashes instead of times, Lambda's paths instead of this
    machine's, one process, a fixed order and a fixed seed. A library's file that cannot be
    compiled, such as a template, stays as it is.

    Args:
        folder: what will be in ``/var/task``.
        python: the interpreter.
        own: the user's files; these must compile.

    Raises:
        PackageError: a file of the user's does not compile.
    """
    options = ("-q", "--invalidation-mode", "unchecked-hash", "-s", str(folder), "-p", TASK_ROOT)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [python, "-S", "-s", "-P", "-m", "compileall", *options, str(folder)]
    done = run(command, env | {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"})
    for name in sorted(own):
        if name.endswith(".py") and not list(_compiled(folder / name)):
            raise PackageError(_explained(done.stdout, name))
    if not any(folder.rglob("*.pyc")):
        raise PackageError(f"{python} made no byte code. It said:\n  {done.stderr.strip()}")


def _compiled(source: Path) -> list[Path]:
    stem = re.sub(r"([\[\]*?])", r"[\1]", source.stem)
    return list((source.parent / "__pycache__").glob(f"{stem}.*.pyc"))


def _explained(said: str, name: str) -> str:
    """Return the message for a file that does not compile, with the words of the compiler."""
    _, _, rest = said.partition(f"{TASK_ROOT}/{name}")
    words = re.search(r", line (?P<line>\d+)[\s\S]*?(?P<error>\w*Error: .*)", rest)
    if words is None:
        return f"{name} could not be compiled for the function's Python. {said.strip()[:500]}"
    return f"{name}:{words['line']}: not valid in the function's Python: {words['error']}"
