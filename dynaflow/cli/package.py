"""``dynaflow package``: the zip that Lambda takes."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from dynaflow.cli._options import AppDirectory, AsJson, Target
from dynaflow.cli._output import print_json, print_table, prints_to_stderr, talk
from dynaflow.cli._target import load_app
from dynaflow.deploy.packing.package import (
    MAX_UNZIPPED,
    MAX_ZIPPED,
    PYTHONS,
    Package,
    Part,
    Runtime,
    make_package,
)

__all__ = ["package"]

_COLUMNS = ("what", "version", "files", "unzipped", "zipped")


class Architecture(StrEnum):
    """Lambda's processors."""

    ARM64 = "arm64"
    X86_64 = "x86_64"


def package(
    target: Target,
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The zip; one that is there is replaced.")
    ] = Path("function.zip"),
    architecture: Annotated[
        Architecture, typer.Option(help="The processor of the function.")
    ] = Architecture.ARM64,
    python: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION",
            help=f"The Python of the function: {', '.join(PYTHONS)}; by default the one here.",
        ),
    ] = None,
    requirements: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="The libraries; by default requirements.txt beside the module, or else dynaflow.",
        ),
    ] = None,
    include: Annotated[
        list[Path] | None,
        typer.Option(exists=True, help="One more file or folder; may be repeated."),
    ] = None,
    with_boto3: Annotated[
        bool, typer.Option("--with-boto3", help="Pack boto3 where Lambda's own would do.")
    ] = False,
    no_compile: Annotated[bool, typer.Option("--no-compile", help="Leave byte code out.")] = False,
    as_json: AsJson = False,
    app_directory: AppDirectory = Path(),
) -> None:
    """Make the zip of a Lambda function: the app's own modules, and what they need.

    The same files and versions make the same bytes. The module's lambda_handler is what Lambda
    calls.
    """
    runtime = Runtime.like_this(architecture) if python is None else Runtime(python, architecture)
    with prints_to_stderr():
        load_app(target, app_directory)
    made = make_package(
        sys.modules[target.partition(":")[0]],
        output,
        runtime=runtime,
        requirements=requirements,
        include=include or (),
        compiled=not no_compile,
        with_boto3=with_boto3,
        source_date_epoch=os.environ.get("SOURCE_DATE_EPOCH"),
        tell=talk,
    )
    if made.left_out:
        talk(f"left out of your code: {', '.join(made.left_out)}")
    for note in made.notes:
        talk(f"note: {note}")
    if as_json:
        print_json(_described(made))
    else:
        _show(made)


def _show(made: Package) -> None:
    total = Part("all", None, sum(p.files for p in made.parts), made.unzipped, made.zipped)
    print_table(_COLUMNS, [_row(part) for part in (*made.parts, total)])
    limits = f"{_size(MAX_UNZIPPED)} unzipped, {_size(MAX_ZIPPED)} zipped without S3"
    rows = (
        ("file", str(made.path)),
        ("limits", limits),
        ("runtime", f"python{made.runtime.python}"),
        ("architecture", made.runtime.architecture),
        ("handler", made.handler),
        ("CodeSha256", made.sha256),
    )
    print_table(("setting", "value"), rows)


def _row(part: Part) -> tuple[str, ...]:
    sizes = (_size(part.unzipped), _size(part.zipped))
    return (part.name, part.version or "", str(part.files), *sizes)


def _size(size: int) -> str:
    return f"{size / 1e6:.2f} MB"


def _described(made: Package) -> dict[str, Any]:
    return {
        "file": str(made.path),
        "handler": made.handler,
        "runtime": f"python{made.runtime.python}",
        "architecture": made.runtime.architecture,
        "codeSha256": made.sha256,
        "compiled": made.compiled,
        "zipped": made.zipped,
        "unzipped": made.unzipped,
        "limits": {"zipped": MAX_ZIPPED, "unzipped": MAX_UNZIPPED},
        "parts": [
            {
                "name": part.name,
                "version": part.version,
                "files": part.files,
                "unzipped": part.unzipped,
                "zipped": part.zipped,
            }
            for part in made.parts
        ],
        "files": list(made.files),
        "leftOut": list(made.left_out),
        "notes": list(made.notes),
    }
