"""The command ``dynaflow``. It needs ``pip install 'dynaflow[cli]'``."""

from __future__ import annotations

from dynaflow.cli._exit import ExitCode, refuse
from dynaflow.errors import ExtraMissing

__all__ = ["main"]

_EXTRA = ("typer", "rich")


def main() -> None:
    """Run the command line, and end the process with its exit code."""
    try:
        from dynaflow.cli._commands import commands
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA:
            raise
        refuse(str(ExtraMissing(package, "cli")), ExitCode.MISSING)
    commands()
