"""An app → the zip that Lambda takes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType

from dynaflow.deploy.packing.archive import code_sha256, put_in_place, write_zip, zip_time
from dynaflow.deploy.packing.bytecode import compile_folder, find_compiler
from dynaflow.deploy.packing.code import OwnCode, find_code, handler_of, unmet_imports
from dynaflow.deploy.packing.libraries import find_installer, install, named_in
from dynaflow.deploy.packing.pruning import Library, leave_out_sdk, libraries_in, prune
from dynaflow.deploy.packing.runtime import ARCHITECTURES, PYTHONS, Runtime
from dynaflow.errors import PackageError

__all__ = [
    "ARCHITECTURES",
    "MAX_UNZIPPED",
    "MAX_ZIPPED",
    "PYTHONS",
    "Package",
    "Part",
    "Runtime",
    "handler_of",
    "make_package",
]

MAX_ZIPPED = 50 * 1024 * 1024
"""Bytes that can be uploaded directly; larger zips go through S3 ("Lambda quotas")."""
MAX_UNZIPPED = 250 * 1024 * 1024
"""Bytes that a function and its layers may have, unpacked ("Lambda quotas")."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one library, or one module or package of the user's, takes in a zip.

    Args:
        name: its name.
        version: a library's version; None for the user's own.
        files: how many files it has, byte code included.
        unzipped: its size, in bytes.
        zipped: its compressed size, in bytes.
    """

    name: str
    version: str | None
    files: int
    unzipped: int
    zipped: int


@dataclass(frozen=True, slots=True)
class Package:
    """A zip for Lambda that was made.

    Args:
        path: where it is.
        handler: the setting ``Handler`` of its function.
        runtime: the settings ``Runtime`` and ``Architectures``.
        parts: what is in it, the user's own first and the others from the largest to the smallest.
        files: the user's own files, as they are named in it.
        left_out: what was passed over among them.
        notes: sentences for the user: what may be missing, or was decided for him.
        zipped: its size, in bytes.
        unzipped: that of what is in it, in bytes.
        sha256: what Lambda shows as ``CodeSha256``.
        compiled: whether byte code is in it.
    """

    path: Path
    handler: str
    runtime: Runtime
    parts: tuple[Part, ...]
    files: tuple[str, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    zipped: int
    unzipped: int
    sha256: str
    compiled: bool


def make_package(
    module: ModuleType,
    output: Path,
    *,
    runtime: Runtime,
    requirements: Path | None = None,
    include: Sequence[Path] = (),
    compiled: bool = True,
    with_boto3: bool = False,
    source_date_epoch: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Package:
    """Make the zip of a function: a module of the user's, and what it needs.

    The same files and versions make the same bytes. A zip that was there is replaced when the new
    one is finished, and not before.

    Args:
        module: the module that has the handler; it has been imported.
        output: the zip.
        runtime: where it will run.
        requirements: the file that names libraries. None takes ``requirements.txt`` beside the
            module, if there is one, or else dynaflow without extras.
        include: more files and folders.
        compiled: False leaves byte code out.
        with_boto3: True packs boto3 also where Lambda's own would do.
        source_date_epoch: seconds since 1970 that all files are dated with; None is 1980.
        tell: called with what is done next.

    Raises:
        PackageError: the zip could not be made; the message says why and what to do.
    """
    if not output.parent.is_dir() or output.is_dir():
        kind = "is a folder" if output.is_dir() else "is in a folder that is not there"
        raise PackageError(f"{output} {kind}. Name a file for the zip with --output.")
    when = zip_time(source_date_epoch)
    handler = handler_of(module)
    try:
        code = find_code(module, include, output.resolve())
        python = find_compiler(runtime.python) if compiled else None
        with tempfile.TemporaryDirectory(prefix="dynaflow-package-") as name:
            work = Path(name)
            folder = work / "function"
            wanted = requirements or _beside(code.root)
            tell(f"libraries of {wanted or 'dynaflow'}, for {runtime}")
            libraries, notes = _install(
                folder,
                code,
                requirements=wanted,
                runtime=runtime,
                with_boto3=with_boto3,
                work=work,
            )
            _copy(code, folder, libraries)
            if python is not None:
                tell(f"byte code, by {python}")
                compile_folder(folder, python, code.files)
            sizes = write_zip(_files_in(folder), work / "function.zip", when)
            parts = tuple(_parts(sizes, code, libraries))
            zipped = (work / "function.zip").stat().st_size
            notes += _remarks(folder, code, zipped)
            _refuse_too_large(parts)
            put_in_place(work / "function.zip", output)
            return Package(
                path=output,
                handler=handler,
                runtime=runtime,
                parts=parts,
                files=tuple(code.files),
                left_out=code.left_out,
                notes=tuple(notes),
                zipped=zipped,
                unzipped=sum(part.unzipped for part in parts),
                sha256=code_sha256(work / "function.zip"),
                compiled=compiled,
            )
    except OSError as error:
        raise PackageError(
            f"no zip was made: {error.filename or tempfile.gettempdir()}: "
            f"{error.strerror or error}. What was at {output} before, if anything, is as it was."
        ) from error


def _beside(root: Path) -> Path | None:
    file = root / "requirements.txt"
    return file if file.is_file() else None


def _install(
    folder: Path,
    code: OwnCode,
    *,
    requirements: Path | None,
    runtime: Runtime,
    with_boto3: bool,
    work: Path,
) -> tuple[list[Library], list[str]]:
    """Install libraries, leave out what nobody reads, and return them and what to say of them."""
    installer = find_installer(runtime)
    install(folder, runtime=runtime, installer=installer, requirements=requirements, work=work)
    libraries, said = libraries_in(folder), None
    named = set() if requirements is None else named_in(requirements)
    if not with_boto3:
        libraries, said = leave_out_sdk(folder, libraries, named)
    prune(folder, libraries, code.files)
    return libraries, [note for note in (installer.doubt, said) if note is not None]


def _copy(code: OwnCode, folder: Path, libraries: Sequence[Library]) -> None:
    """Copy the user's files in between the libraries.

    Raises:
        PackageError: a file of his has the name of a library's.
    """
    for name, file in code.files.items():
        place = folder / name
        top = name.partition("/")[0]
        other = top.removesuffix(".py") if name == top else f"{top}.py"
        if place.exists() or (name.endswith(".py") and (folder / other).exists()):
            names = (name, other, f"{other}/__init__.py")
            owners = [library.name for library in libraries if {*names} & {*library.files}]
            raise PackageError(
                f"{file} and the library {' and '.join(owners) or other} have the same name, so "
                "that one of the two could not be imported. Rename yours."
            )
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, place)


def _files_in(folder: Path) -> dict[str, Path]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in files}


def _parts(
    sizes: Mapping[str, tuple[int, int]], code: OwnCode, libraries: Sequence[Library]
) -> Iterator[Part]:
    owners = {file: library for library in libraries for file in library.files}
    found: dict[tuple[str, str | None, bool], list[tuple[int, int]]] = {}
    for name, size in sizes.items():
        source = _source_of(name)
        owner = owners.get(source)
        key: tuple[str, str | None, bool] = ("other files", None, False)
        if source in code.files:
            key = (source.partition("/")[0], None, True)
        elif owner is not None:
            key = (owner.name, owner.version, False)
        found.setdefault(key, []).append(size)
    parts = {
        key: Part(key[0], key[1], len(each), sum(u for u, _ in each), sum(z for _, z in each))
        for key, each in found.items()
    }
    theirs = sorted(parts, key=lambda key: (not key[2], -parts[key].unzipped, key[0]))
    yield from (parts[key] for key in theirs)


def _source_of(name: str) -> str:
    """Return the source file of byte code; another file's name as it is."""
    path = PurePosixPath(name)
    if path.suffix != ".pyc" or path.parent.name != "__pycache__":
        return name
    return str(path.parent.parent / f"{path.stem.rpartition('.')[0]}.py")


def _remarks(folder: Path, code: OwnCode, zipped: int) -> Iterator[str]:
    present = {path.name.partition(".")[0] for path in folder.iterdir()}
    for file, imported in unmet_imports(code.files, present):
        yield (
            f"{file} imports {imported!r}, which is not in the zip: name its library in the "
            "requirements, or its file with --include; unless a layer brings it"
        )
    for name in code.files:
        if name.endswith((".so", ".pyd", ".dylib")):
            yield f"{name} was compiled for this machine; in Lambda it may not load"
    if zipped > MAX_ZIPPED:
        yield "it is too large for a direct upload (50 MB): deploy it from a bucket in S3"


def _refuse_too_large(parts: Sequence[Part]) -> None:
    unzipped = sum(part.unzipped for part in parts)
    if unzipped > MAX_UNZIPPED:
        largest = sorted(parts, key=lambda part: -part.unzipped)[:3]
        named = ", ".join(f"{part.name} {part.unzipped / 1e6:.0f} MB" for part in largest)
        raise PackageError(
            f"the function would take {unzipped / 1e6:.0f} MB unpacked, and Lambda allows "
            f"{MAX_UNZIPPED / 1e6:.0f}. The largest: {named}. Take out what it does not need, or "
            "deploy a container image, which may have 10 GB."
        )
