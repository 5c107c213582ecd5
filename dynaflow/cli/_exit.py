"""Exit codes, and which error leads to which."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import NoReturn

from dynaflow.errors import (
    DynaflowError,
    EventError,
    ExtraMissing,
    RegistrationError,
    SourceError,
    StoreError,
    TargetError,
    ViewTypeMismatch,
)

__all__ = ["ExitCode", "exit_code_of", "exit_codes", "refuse"]


class ExitCode(IntEnum):
    """What the process ends with. A usage error that typer finds itself is a 2, too."""

    OK = 0
    RECORDS_FAILED = 1
    USAGE = 2
    MISSING = 3
    AWS_REFUSED = 4
    DRIFT = 5
    INTERRUPTED = 130
    """128 + SIGINT, as a shell reports it."""
    BROKEN_PIPE = 141
    """128 + SIGPIPE."""


_CODES: tuple[tuple[type[DynaflowError], ExitCode], ...] = (
    (ExtraMissing, ExitCode.MISSING),
    (SourceError, ExitCode.AWS_REFUSED),
    (RegistrationError, ExitCode.USAGE),
    (EventError, ExitCode.USAGE),
    (ViewTypeMismatch, ExitCode.USAGE),
    (StoreError, ExitCode.USAGE),
)


def exit_code_of(error: DynaflowError) -> ExitCode:
    """Return the exit code for an error that ended a command."""
    if isinstance(error, TargetError):
        return ExitCode.USAGE if error.usage else ExitCode.MISSING
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return ExitCode.RECORDS_FAILED


@contextmanager
def exit_codes() -> Iterator[None]:
    """End the process with one line on stderr for an error that a user can mend.

    Everything else is a defect, of dynaflow or of the user's code, and keeps its traceback.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except DynaflowError as error:
        refuse(str(error), exit_code_of(error))
    except KeyboardInterrupt:
        raise SystemExit(ExitCode.INTERRUPTED) from None
    except BrokenPipeError:
        _silence_stdout()
        raise SystemExit(ExitCode.BROKEN_PIPE) from None


def refuse(message: str, code: ExitCode) -> NoReturn:
    """End the process with a line on stderr."""
    sys.stderr.write(f"dynaflow: {message}\n")
    raise SystemExit(code) from None


def _silence_stdout() -> None:
    """Let the interpreter's last flush, at exit, write to nowhere instead of failing again."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    os.close(devnull)
