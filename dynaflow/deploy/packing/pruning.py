"""What is left out of installed libraries, because no function in Lambda reads it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions
from pathlib import Path, PurePosixPath

__all__ = ["Library", "leave_out_sdk", "libraries_in", "prune"]

_SUFFIXES = {".pyi", ".pyx", ".pxd", ".h", ".hpp"}  # not .pyc: some have no source
# Of a library's metadata: its version and needs, its plugins, its modules, and its licence's text.
_METADATA = ("METADATA", "entry_points.txt", "top_level.txt")
_LICENCES = re.compile(r"(?i)licen[cs]e|copying|notice|authors")

_FROM = re.compile(
    r"^\s*from\s+(?P<dots>\.*)(?P<module>[\w.]*)\s+import\s+(?P<names>\([^)]*\)|[^\n#]*)",
    re.MULTILINE,
)

# Of dynaflow, what a function never runs; nothing else of it imports these.
_AT_A_DESK = ("cli", "demo", "deploy", "testing", "__main__", "pytest_plugin")

# Lambda's runtimes have the SDK, in some version below 2.
_SDK = {"boto3", "botocore", "s3transfer"}
_BOUND = re.compile(r"==|~=|<(?!2(?:\.0)*\b)")


@dataclass(frozen=True, slots=True)
class Library:
    """An installed library.

    Args:
        name: as it is written.
        version: its version.
        files: all its files below the folder.
        requires: the libraries that it asks for: by key, the lines that do.
        requested: False if only other libraries wanted it. (uv says True of all.)
    """

    name: str
    version: str
    files: tuple[str, ...]
    requires: Mapping[str, Sequence[str]]
    requested: bool

    @property
    def key(self) -> str:
        """Its name as it is compared."""
        return _key(self.name)


def libraries_in(folder: Path) -> list[Library]:
    """Return what is installed in a folder, by name."""
    found = [_library(each) for each in distributions(path=[str(folder)])]
    return sorted(found, key=lambda library: library.key)


def leave_out_sdk(
    folder: Path, libraries: Sequence[Library], named: Collection[str]
) -> tuple[list[Library], str | None]:
    """Remove boto3 and what it alone needs, unless it was asked for, or a version of it was.

    Args:
        folder: where libraries are installed.
        libraries: those.
        named: the libraries that the user's requirements name, as they are written.

    Returns:
        The libraries that stay, and a sentence for the user; None where there was no boto3.
    """
    sdk = {library.key for library in libraries} & _SDK
    if not sdk:
        return list(libraries), None
    asked = sorted(sdk & set(map(_key, named)))
    if asked:
        return list(libraries), (
            f"{' and '.join(asked)} is packed, because the requirements name it; Lambda's runtime "
            "has one, which would be used if they did not"
        )
    bound = _bound_to(sdk, libraries)
    if bound is not None:
        return list(libraries), (
            f"boto3 is packed, because {bound}, and the version that Lambda's runtime has may be "
            "another"
        )
    kept = _reachable([each for each in libraries if each.key not in sdk])
    gone = [each for each in libraries if each.key not in kept]
    for each in gone:
        _remove(folder, each.files)
    names = ", ".join(each.name for each in gone)
    return [each for each in libraries if each.key in kept], (
        f"left out, because Lambda's runtime has it: {names}; --with-boto3 packs it"
    )


def prune(folder: Path, libraries: Sequence[Library], own: Mapping[str, Path]) -> None:
    """Remove what no function in Lambda reads: stubs, scripts, installers' notes, unused tests.

    Args:
        folder: where libraries are installed.
        libraries: those.
        own: the user's files, name in the zip: where it is; what they import stays.
    """
    if not (folder / "bin" / "__init__.py").exists():
        shutil.rmtree(folder / "bin", ignore_errors=True)  # scripts, for this machine
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    _remove(folder, [name for name in names if _is_unread(PurePosixPath(name))])
    kept = {name: folder / name for name in names if (folder / name).exists()}
    sources = _Sources(kept | dict(own))
    for tests in sorted(_test_folders(kept)):
        if not sources.mention(tests):
            shutil.rmtree(folder / tests)
    for room in _AT_A_DESK:
        if not sources.mention(f"dynaflow/{room}", besides="dynaflow/"):
            shutil.rmtree(folder / "dynaflow" / room, ignore_errors=True)
            (folder / "dynaflow" / f"{room}.py").unlink(missing_ok=True)


class _Sources:
    """The text of Python files, asked whether they may import a package.

    Args:
        files: name in the zip: where the file is.
    """

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._texts = {
            name: path.read_bytes().decode("utf-8", "replace")
            for name, path in files.items()
            if name.endswith(".py")
        }
        self._imports = {
            name: list(_imported_from(name, each)) for name, each in self._texts.items()
        }

    def mention(self, package: str, besides: str | None = None) -> bool:
        """Return True if a file outside a package (or outside ``besides``) may import it.

        Its dotted name anywhere counts, even in a text; so do relative imports.
        """
        parent, _, name = package.rpartition("/")
        dotted = re.compile(rf"\b{re.escape(package.replace('/', '.'))}\b")
        for file, text in self._texts.items():
            if file.startswith(besides or f"{package}/"):
                continue
            if dotted.search(text):
                return True
            for base, names in self._imports[file]:
                if f"{base}/".startswith(f"{package}/") or (base == parent and name in names):
                    return True
        return False


def _imported_from(file: str, text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield for each ``from … import …`` of a file where from, as a path, and which names."""
    for match in _FROM.finditer(text):
        base = match["module"].replace(".", "/")
        if match["dots"]:
            package = file.split("/")[: -len(match["dots"])]
            base = "/".join([*package, *filter(None, [base])])
        yield base, re.findall(r"\w+", match["names"])


def _library(found: Distribution) -> Library:
    name = found.metadata["Name"]
    files = [str(PurePosixPath(file)) for file in found.files or ()]
    requires: dict[str, list[str]] = {}
    for line in found.requires or ():
        requires.setdefault(_key(_name(line)), []).append(line)
    return Library(
        name=name,
        version=found.version,
        files=tuple(file for file in files if not file.startswith(("..", "bin/"))),
        requires=requires,
        requested=found.read_text("REQUESTED") is not None,
    )


def _bound_to(sdk: set[str], libraries: Sequence[Library]) -> str | None:
    """Return which library wants a certain version of the SDK, if one does, in words."""
    wanted = [
        (";" in line, f"{each.name} wants {line.partition(';')[0].strip()}")
        for each in libraries
        if each.key not in sdk
        for key in sorted(sdk)
        for line in each.requires.get(key, ())
        if _BOUND.search(line.partition(";")[0])
    ]
    return min(wanted)[1] if wanted else None  # one without a condition, if there is one


def _reachable(libraries: Sequence[Library]) -> set[str]:
    """Return what was asked for and what that needs, without what is not among the libraries.

    A need counts whatever its condition, so that it errs on the side of packing too much.
    """
    by_key = {library.key: library for library in libraries}
    reached: set[str] = set()
    open_ends = [each.key for each in libraries if each.requested] or list(by_key)
    while open_ends:
        key = open_ends.pop()
        if key not in reached:
            reached.add(key)
            open_ends += [need for need in by_key[key].requires if need in by_key]
    return reached


def _is_unread(name: PurePosixPath) -> bool:
    if name.suffix in _SUFFIXES or name.name == "py.typed" or "__pycache__" in name.parts:
        return True
    if not name.parts[0].endswith(".dist-info"):
        return False
    return not (name.name in _METADATA or any(map(_LICENCES.search, name.parts[1:])))


def _test_folders(files: Collection[str]) -> set[str]:
    """Return the outermost folders named test or tests that have Python files."""
    found = (re.match(r"((?:[^/]+/)*?tests?)/.*\.py$", file) for file in files)
    return {match[1] for match in found if match is not None}


def _remove(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0]


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
