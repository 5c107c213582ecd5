"""The command ``dynaflow``. It needs ``pip install 'dynaflow[cli]'``."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from pathlib import Path

from dynaflow.cli._exit import ExitCode, refuse
from dynaflow.errors import ExtraMissing

__all__ = ["main"]

_EXTRA = ("typer", "rich")


def main() -> None:
    """Run the command line, and end the process with its exit code."""
    _make_usable()
    try:
        from dynaflow.cli._commands import commands
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA:
            raise
        refuse(str(ExtraMissing(package, "cli")), ExitCode.MISSING)
    except KeyboardInterrupt:  # these imports take most of a short command's time
        raise SystemExit(ExitCode.INTERRUPTED) from None
    commands()


def _make_usable() -> None:
    """Let no stream be closed, and let stdout show as an escape what its encoding has not."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - it stays
            setattr(sys, name, stream)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
