"""Lambda's Python runtimes, and interpreters of the same version on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from dynaflow.errors import PackageError

__all__ = ["ARCHITECTURES", "PYTHONS", "Runtime", "interpreter_of", "run"]

# The developer guide's "Lambda runtimes": up to Python 3.11 on Amazon Linux 2, with glibc 2.26, and
# from 3.12 on Amazon Linux 2023, with 2.34. A wheel for a newer one is loaded by neither.
_GLIBC = {"3.11": 26, "3.12": 34, "3.13": 34, "3.14": 34}
PYTHONS = tuple(_GLIBC)
ARCHITECTURES = {"arm64": "aarch64", "x86_64": "x86_64"}  # Lambda's name: that of wheels
_OLDEST = 17  # manylinux2014; AWS's own processors have no older wheels


@dataclass(frozen=True, slots=True)
class Runtime:
    """One of Lambda's Python runtimes.

    Args:
        python: its version, as in ``3.13``.
        architecture: ``arm64`` or ``x86_64``.

    Raises:
        PackageError: Lambda has no such runtime, or dynaflow does not run on it.
    """

    python: str
    architecture: str

    def __post_init__(self) -> None:
        if self.python not in _GLIBC:
            raise PackageError(
                f"there is no runtime of Lambda for Python {self.python} that dynaflow runs on. "
                f"Choose one with --python: {', '.join(PYTHONS)}."
            )
        if self.architecture not in ARCHITECTURES:
            raise PackageError(
                f"{self.architecture!r} is no architecture of Lambda. Choose one with "
                f"--architecture: {', '.join(ARCHITECTURES)}."
            )

    @classmethod
    def like_this(cls, architecture: str) -> Runtime:
        """Return the runtime of the Python that runs now."""
        return cls(_version(sys.version_info[:2]), architecture)

    def __str__(self) -> str:
        return f"python{self.python} on {self.architecture}"

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms of wheels that can be loaded, the newest first, as pip names them."""
        machine = ARCHITECTURES[self.architecture]
        glibcs = range(_GLIBC[self.python], _OLDEST - 1, -1)
        return (
            *(f"manylinux_2_{minor}_{machine}" for minor in glibcs),
            f"manylinux2014_{machine}",
        )

    @property
    def uv_platform(self) -> str:
        """The newest of them that uv knows; it takes older ones by itself."""
        newest = 34 if _GLIBC[self.python] >= 34 else _OLDEST
        return f"{ARCHITECTURES[self.architecture]}-manylinux_2_{newest}"


def interpreter_of(version: str) -> str | None:
    """Return a CPython of this minor version: the running one, one on the PATH, or one of uv's."""
    for candidate in _candidates(version):
        if candidate == sys.executable or _is(candidate, version):
            return candidate
    return None


def run(
    command: Sequence[str], env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and keep what it prints; ``env`` is all of its environment."""
    return subprocess.run(  # noqa: S603 - Python, pip or uv, with options of ours
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )


def _candidates(version: str) -> Iterator[str]:
    running = sys.implementation.name == "cpython" and version == _version(sys.version_info[:2])
    if running and sys.executable:
        yield sys.executable
    named = shutil.which(f"python{version}")
    if named is not None:
        yield named
    uv = shutil.which("uv")
    if uv is not None:
        found = run([uv, "python", "find", "--system", version])
        if found.returncode == 0:
            yield found.stdout.strip()


def _is(python: str, version: str) -> bool:
    """Return True if a program is a CPython of this version that starts."""
    code = "import sys; print(sys.implementation.name, *sys.version_info[:2])"
    try:
        answer = run([python, "-S", "-c", code], dict(os.environ))
    except OSError:
        return False
    return answer.stdout.split() == ["cpython", *version.split(".")]


def _version(numbers: Sequence[int]) -> str:
    return ".".join(map(str, numbers))
