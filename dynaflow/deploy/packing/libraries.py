"""What the app needs, as wheels for Lambda, in a folder."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from zipfile import ZipFile

from dynaflow.deploy.packing.runtime import Runtime, interpreter_of, run
from dynaflow.errors import PackageError

__all__ = ["Installer", "find_installer", "install", "named_in"]

_NAMES_DYNAFLOW = re.compile(r"^\s*dynaflow\s*(?:[\[<>=!~;#@\\]|$)", re.MULTILINE | re.IGNORECASE)
_NO_WHEEL = re.compile(r"No matching distribution found for (.+?)(?: \(from .*)?$", re.MULTILINE)
_NO_NETWORK = re.compile(
    r"connection broken|Failed to establish a new connection|NameResolutionError|"
    r"Could not connect|error sending request|dns error",
    re.IGNORECASE,
)
_CONFLICT = re.compile(r"ResolutionImpossible|requirements are unsatisfiable", re.IGNORECASE)
_WORDS = 8  # lines of pip's that an error repeats


@dataclass(frozen=True, slots=True)
class Installer:
    """What fetches wheels.

    Args:
        command: how it is started, up to its ``install``.
        is_uv: whether it is uv, whose options are others than pip's.
        doubt: what its answers may be wrong about; None for nothing.
    """

    command: tuple[str, ...]
    is_uv: bool = False
    doubt: str | None = None


def find_installer(runtime: Runtime, python: str = sys.executable) -> Installer:
    """Return pip, where it judges conditions of requirements as Lambda would, or else uv.

    pip takes conditions such as ``python_version < "3.12"`` for those of the Python that it runs
    on, whatever it is told to install for; uv for those of the target.

    Args:
        runtime: what is installed for.
        python: the interpreter that runs now.

    Raises:
        PackageError: there is neither.
    """
    same = interpreter_of(runtime.python)
    exact = [name for name in (python, same) if name is not None and name == same]
    if sys.platform == "linux":
        for name in exact:
            if _has_pip(name):
                return Installer((name, "-m", "pip", "install"))
    uv = shutil.which("uv")
    if uv is not None:
        return Installer((uv, "pip", "install"), is_uv=True)
    for name in dict.fromkeys((*exact, python)):
        if _has_pip(name):
            return Installer(
                (name, "-m", "pip", "install"),
                doubt="pip judged conditions of requirements, such as python_version < '3.12', by "
                f"the Python and the system that it ran on, not by {runtime}; uv would have, but "
                "is not on the PATH",
            )
    raise PackageError(
        "libraries are fetched by pip or by uv, and there is neither. Install pip with: "
        "python -m ensurepip. Or install uv: https://docs.astral.sh/uv"
    )


def install(
    folder: Path, *, runtime: Runtime, installer: Installer, requirements: Path | None, work: Path
) -> None:
    """Install what a file of requirements names, and dynaflow, into a folder.

    Args:
        folder: where; it is made.
        runtime: which wheels can be loaded.
        installer: pip or uv.
        requirements: the file; None for dynaflow alone.
        work: a folder for what is needed on the way.

    Raises:
        PackageError: no set of wheels fits.
    """
    command = [*installer.command, *_options(runtime, installer), "--target", str(folder)]
    text = ""
    if requirements is not None:
        text = requirements.read_text(encoding="utf-8-sig")
    if not _NAMES_DYNAFLOW.search(text) or not _is_from_index():
        own = _wheel_of_this(work)
        line = f"dynaflow @ {own.as_uri()}"
        if "--hash=" in text:  # where one requirement has a hash, all must
            line += f" --hash=sha256:{hashlib.sha256(own.read_bytes()).hexdigest()}"
        (work / "dynaflow.txt").write_text(f"{line}\n", encoding="utf-8")
        command += ["--requirement", str(work / "dynaflow.txt")]  # first: pip takes it as found
    if requirements is not None:
        command += ["--requirement", str(requirements)]
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_COLOR": "1"}
    env |= {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_NO_INPUT": "1", "NO_COLOR": "1"}
    done = run(command, env)
    if done.returncode != 0:
        said = (done.stderr + _conflict_in(done.stdout)).replace(f"{work}{os.sep}", "")
        raise PackageError(_explained(said, runtime, requirements))
    (folder / ".lock").unlink(missing_ok=True)  # uv's


def named_in(requirements: Path) -> set[str]:
    """Return the libraries that a file of requirements, or one that it names, has lines for."""
    names: set[str] = set()
    for line in requirements.read_text(encoding="utf-8-sig").splitlines():
        other = re.match(r"\s*(?:-r|--requirement)[\s=]*(\S+)", line)
        if other is not None:
            names |= named_in(requirements.parent / other[1])
        elif name := re.match(r"\s*([A-Za-z0-9][\w.-]*)", line):
            names.add(name[1])
    return names


def _options(runtime: Runtime, installer: Installer) -> Iterator[str]:
    yield from ("--python-version", runtime.python)
    if installer.is_uv:
        yield from ("--only-binary", ":all:", "--python-platform", runtime.uv_platform)
        return
    yield from ("--no-compile", "--only-binary=:all:", "--implementation", "cp")
    for platform in runtime.platforms:
        yield from ("--platform", platform)


def _explained(stderr: str, runtime: Runtime, requirements: Path | None) -> str:
    """Return the fact, the cause and the remedy for a failure of pip or uv."""
    where = "dynaflow" if requirements is None else str(requirements)
    if _NO_NETWORK.search(stderr):
        return (
            f"the libraries of {where} could not be fetched: the package index cannot be reached. "
            f"Without a network, name a folder of wheels in PIP_FIND_LINKS. {_said(stderr)}"
        )
    if _CONFLICT.search(stderr) and not _NO_WHEEL.search(stderr):
        return (
            f"no versions of the libraries of {where} fit together, and with dynaflow "
            f"{_this().version}, which runs here and is packed. {_said(stderr)}"
        )
    missing = _NO_WHEEL.search(stderr)
    if missing is not None:
        return (
            f"there is no wheel of {missing[1]!r} for {runtime}. Is the name right? A library that "
            "is published as source only, or for other systems, has to be built first: pip wheel "
            "makes its wheel, on such a system, and PIP_FIND_LINKS names the folder it is in. Or "
            "try another version, --python or --architecture."
        )
    return f"the libraries of {where} could not be installed for {runtime}. {_said(stderr)}"


def _conflict_in(stdout: str) -> str:
    """Return the lines in which pip says who wants what, which are no error to it."""
    match = re.search(r"The conflict is caused by:[\s\S]*?(?=\n\s*\n|\nTo fix this|$)", stdout)
    return "" if match is None else f"\n{match[0]}\n"


def _said(stderr: str) -> str:
    lines = [line.rstrip() for line in stderr.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("WARNING", "[notice]", "Using "))]
    shown = lines[-_WORDS:]
    return "It said:\n  " + "\n  ".join(shown) if shown else "It did not say why."


def _has_pip(python: str) -> bool:
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('pip') is None)"
    try:
        return run([python, "-c", code], dict(os.environ)).returncode == 0
    except OSError:
        return False


def _this() -> Distribution:
    try:
        return distribution("dynaflow")
    except PackageNotFoundError:
        raise PackageError(
            "dynaflow runs from a folder here and is not installed, so what it needs is not known. "
            "Install it, with pip install, and try again."
        ) from None


def _is_from_index() -> bool:
    """Return True if what runs here can be had from an index: it did not come from a path."""
    return _this().read_text("direct_url.json") is None


def _wheel_of_this(folder: Path) -> Path:
    """Return a wheel of the dynaflow that runs here, whether it was installed or is its source.

    It is made of the files that are imported, with the metadata of the installation: nothing is
    built, so nothing has to be fetched, and what was tried here is what is packed.
    """
    this = _this()
    info = f"dynaflow-{this.version}.dist-info"
    package = Path(__file__).parents[2]
    files = {
        f"dynaflow/{path.relative_to(package).as_posix()}": path.read_bytes()
        for path in sorted(package.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    for name in ("METADATA", "entry_points.txt"):
        text = this.read_text(name)
        if text is not None:
            files[f"{info}/{name}"] = text.encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    record = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    wheel = folder / f"dynaflow-{this.version}-py3-none-any.whl"
    with ZipFile(wheel, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return wheel


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
