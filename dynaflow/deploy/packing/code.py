"""The user's own code: which files of it go into the zip, and what they import."""

from __future__ import annotations

import ast
import fnmatch
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import FunctionType, ModuleType
from typing import Any

from dynaflow.errors import PackageError

__all__ = ["OwnCode", "find_code", "handler_of", "handlers_in", "root_of", "unmet_imports"]

_DOOR = str(Path(__file__).parents[2] / "aws_lambda.py")  # the file that handlers are made in

# Not worth a word, and what a reader should know of: tests, and what may be a secret.
_CACHES = ("__pycache__", "*.pyc", "*.pyo", ".git", ".*_cache", ".DS_Store", "*~")
_FOLDERS = (".*", "tests", "test", "node_modules", "cdk.out", "*.egg-info", "*.dist-info")
_FILES = (".*", "*.pyi", "test_*.py", "*_test.py", "conftest.py", "dynaflow.sqlite*")
_SECRETS = (
    *("*.env", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.kdbx", "id_rsa*", "id_ed25519*"),
    *("credentials", "credentials.*", "secrets.*"),
)

# What Lambda's Python runtimes bring along, besides the standard library.
_OF_RUNTIME = {"awslambdaric", "boto3", "botocore", "dateutil", "jmespath", "s3transfer", "six"}
_OF_RUNTIME |= {"snapshot_restore_py", "urllib3"}


@dataclass(frozen=True, slots=True)
class OwnCode:
    """The user's files.

    Args:
        root: what is on the import path.
        files: name in the zip: where the file is.
        left_out: files and folders that were passed over, without caches.
    """

    root: Path
    files: Mapping[str, Path]
    left_out: tuple[str, ...]


def root_of(module: ModuleType) -> Path:
    """Return the folder that a module, with its packages, was found in.

    Raises:
        PackageError: it has no file, or is an installed library.
    """
    file = module.__file__
    if file is None:
        raise PackageError(
            f"{module.__name__!r} is a folder without a module of its own. Name the module in it "
            "that has the app."
        )
    path = Path(file).absolute()  # not resolved: a link stands where its module is imported from
    if _is_installed(path):
        raise PackageError(
            f"{module.__name__!r} is an installed library, in {path.parent}: dynaflow would pack "
            "it without its metadata. Run this where its source is, or say so with --app-dir."
        )
    inside = path.parent if path.name == "__init__.py" else path
    return inside.parents[module.__name__.count(".")]


def find_code(
    module: ModuleType, include: Sequence[Path] = (), output: Path | None = None
) -> OwnCode:
    """Return what belongs to a module: its package, and all of its root's that is imported now.

    A module that has been imported stays, whatever its name; else tests, caches, environments and
    what may hold secrets are left out.

    Args:
        module: the module that has the handler.
        include: more files and folders. A file that is named here goes in whatever its name.
        output: the zip, which is never part of itself.

    Raises:
        PackageError: a file that is included is not there.
    """
    root = root_of(module)
    loaded = dict(_loaded(root))
    search = _Search(root, frozenset(loaded.values()), output)
    for top in sorted({name.partition(".")[0] for name in loaded}):
        folder = root / top
        search.add(folder if folder.is_dir() else root / f"{top}.py")
    for path in loaded.values():  # compiled modules, and what a folder's rules would leave out
        search.take(path)
    for path in include:
        search.include(path)
    return OwnCode(root, dict(sorted(search.files.items())), tuple(search.left_out))


def handler_of(module: ModuleType) -> str:
    """Return what Lambda is to call: the name of a module's handler, as its settings want it.

    Raises:
        PackageError: the module has none.
    """
    made = handlers_in(vars(module))
    if callable(vars(module).get("lambda_handler")):  # whatever is around it
        made.insert(0, "lambda_handler")
    if made:
        return f"{module.__name__}.{made[0]}"
    raise PackageError(
        f"module {module.__name__!r} has no function that Lambda could call. Write at its end: "
        "lambda_handler = app.lambda_handler()"
    )


def handlers_in(names: Mapping[str, Any]) -> list[str]:
    """Return those of a module's names that stand for what ``App.lambda_handler()`` returned."""
    return [name for name, value in names.items() if _is_made(value)]


def unmet_imports(sources: Mapping[str, Path], present: Collection[str]) -> list[tuple[str, str]]:
    """Return what files import as they are imported themselves, and would not find in Lambda.

    Args:
        sources: name in the zip: where the file is.
        present: the top-level modules and packages in the zip.

    Returns:
        A file and a module's name, one for each module.
    """
    found: dict[str, str] = {}
    known = {*present, *sys.stdlib_module_names, *_OF_RUNTIME}
    for name, path in sources.items():
        if name.endswith(".py"):
            for imported in _imports(path):
                if imported not in known:
                    found.setdefault(imported, name)
    return [(file, imported) for imported, file in found.items()]


@dataclass(slots=True)
class _Search:
    """Collects files below a root."""

    root: Path
    loaded: frozenset[Path]
    output: Path | None
    files: dict[str, Path] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    _been: set[Path] = field(default_factory=set)

    def take(self, path: Path) -> None:
        name = self._name(path)
        if self.files.setdefault(name, path) != path:
            raise PackageError(
                f"{path} and {self.files[name]} would both be {name} in the zip. Rename one."
            )

    def include(self, path: Path) -> None:
        if path.is_file():
            self.take(path.absolute())
        elif path.is_dir():
            self._walk(path.absolute())
        else:
            raise PackageError(f"--include {path}: there is no such file or folder.")

    def add(self, path: Path) -> None:
        """Take what is at a path, unless it should not be in a zip."""
        if path.is_dir():
            if self._is_wanted(path, (*_FOLDERS, *_SECRETS)) and not _is_environment(path):
                self._walk(path)
            elif _is_environment(path):
                self._leave_out(path)
        elif path.is_file() and path.resolve() != self.output:
            if self._is_wanted(path, (*_FILES, *_SECRETS)):
                self.take(path)
        elif path.is_symlink():
            raise PackageError(f"{path} is a link to something that is not there.")

    def _walk(self, folder: Path) -> None:
        real = folder.resolve()
        if real not in self._been:  # a link may lead back up
            self._been.add(real)
            for path in sorted(folder.iterdir()):
                self.add(path)

    def _is_wanted(self, path: Path, unwanted: Sequence[str]) -> bool:
        if _matches(path, _CACHES):
            return False
        if not _matches(path, unwanted) or self._is_loaded(path):
            return True
        self._leave_out(path)
        return False

    def _is_loaded(self, path: Path) -> bool:
        return any(path in (file, *file.parents) for file in self.loaded)

    def _leave_out(self, path: Path) -> None:
        self.left_out.append(self._name(path))

    def _name(self, path: Path) -> str:
        for place in (path, path.resolve()):
            if place.is_relative_to(self.root):
                return place.relative_to(self.root).as_posix()
        return path.name


def _loaded(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the names and files of the user's modules that are imported now."""
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        top = name.partition(".")[0]
        if not isinstance(file, str) or top in ("__main__", "dynaflow"):
            continue
        path = Path(file).absolute()
        places = {root / top, root / f"{top}.py", *root.glob(f"{top}.*.so")}
        if places & {path, *path.parents} and not _is_installed(path):
            yield name, path


def _is_installed(path: Path) -> bool:
    return "site-packages" in path.parts or "dist-packages" in path.parts


def _is_environment(folder: Path) -> bool:
    return (folder / "pyvenv.cfg").exists() or folder.name == "site-packages"


def _matches(path: Path, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(path.name.lower(), pattern) for pattern in patterns)


def _is_made(value: object) -> bool:
    """Return True for what app.lambda_handler() returned, also where a decorator is around it."""
    while isinstance(value, FunctionType):
        if value.__code__.co_filename == _DOOR:  # not __module__, which functools.wraps copies
            return True
        value = getattr(value, "__wrapped__", None)
    return False


def _imports(path: Path) -> Iterator[str]:
    """Yield the top-level names that a file imports for certain: not in a function, if or try."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # who compiles it says so
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield PurePosixPath((node.module or "").replace(".", "/")).parts[0]
