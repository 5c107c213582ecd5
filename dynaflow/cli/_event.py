"""An event in a file, or on stdin, → its records."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from dynaflow.cli._exit import ExitCode, refuse

__all__ = ["EventFile", "read_event"]

EventFile: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="EVENT.json",
        help="A DynamoDB Streams event, as Lambda passes it; - reads it from stdin.",
    ),
]


def read_event(path: Path) -> Any:
    """Return the JSON in a file, "-" being stdin; what cannot be read is a usage error."""
    name = "stdin" if str(path) == "-" else str(path)
    try:
        raw = sys.stdin.buffer.read() if name == "stdin" else path.read_bytes()
        return json.loads(raw)
    except OSError as error:
        refuse(f"{name} cannot be read: {error.strerror}", ExitCode.USAGE)
    except UnicodeDecodeError:
        refuse(f"{name} is not JSON: it is not UTF-8 text", ExitCode.USAGE)
    except (ValueError, RecursionError) as error:
        refuse(f"{name} is not JSON: {error}", ExitCode.USAGE)
