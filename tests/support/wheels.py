"""Tiny wheels, for installations that ask no index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from zipfile import ZipFile

__all__ = ["make_wheel"]


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    files: Mapping[str, str] | None = None,
    *,
    requires: Sequence[str] = (),
    tag: str = "py3-none-any",
) -> None:
    """Write a wheel into a folder.

    Args:
        folder: where to.
        name: the library's name.
        version: its version.
        files: name in the wheel: content; None for a module of the library's name.
        requires: what it needs.
        tag: Python, ABI and platform that it is for.
    """
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
    content = dict(files or {f"{name}/__init__.py": f'NAME = "{name}"\n'})
    content[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}"
    )
    content[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"
    content[f"{info}/RECORD"] = "".join(f"{each},,\n" for each in (*content, f"{info}/RECORD"))
    with ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as archive:
        for each, text in content.items():
            archive.writestr(each, text)
