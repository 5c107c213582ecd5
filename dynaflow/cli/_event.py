"""JSON in a file, or on stdin: an event, or documents one behind the other."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypeVar

import typer

from dynaflow.cli._exit import ExitCode, refuse

__all__ = ["EventFile", "read_documents", "read_event"]

T = TypeVar("T")

_SPACE = re.compile(r"\s*")

EventFile: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="EVENT.json",
        help="An event, as Lambda passes it; - reads it from stdin.",
    ),
]


def read_event(path: Path) -> Any:
    """Return the JSON in a file, "-" being stdin; what cannot be read is a usage error."""
    return _read(path, json.loads)


def read_documents(path: Path) -> list[Any]:
    """Return the JSON documents in a file, of which there may be none, as ``read_event`` does."""
    return _read(path, _documents)


def _read(path: Path, parse: Callable[[bytes], T]) -> T:
    name = "stdin" if str(path) == "-" else str(path)
    try:
        return parse(sys.stdin.buffer.read() if name == "stdin" else path.read_bytes())
    except OSError as error:
        refuse(f"{name} cannot be read: {error.strerror}", ExitCode.USAGE)
    except UnicodeDecodeError:
        refuse(f"{name} is not JSON: it is not UTF-8 text", ExitCode.USAGE)
    except (ValueError, RecursionError) as error:
        refuse(f"{name} is not JSON: {error}", ExitCode.USAGE)


def _documents(raw: bytes) -> list[Any]:
    """Read what ``aws ... --output text`` prints: texts with a tab or a new line in between."""
    text = raw.decode(json.detect_encoding(raw)).removeprefix("\ufeff")
    decoder, found, at = json.JSONDecoder(), [], _behind_space(text, 0)
    while at < len(text):
        value, end = decoder.raw_decode(text, at)
        found.append(value)
        at = _behind_space(text, end)
    return found


def _behind_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
