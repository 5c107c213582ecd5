"""Data to stdout, talk to stderr."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from typing import IO, Any, NoReturn, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = [
    "data_console",
    "logs_to_stderr",
    "print_json",
    "print_lines",
    "print_table",
    "prints_to_stderr",
    "talk",
]


class _Console(Console):
    """A console that leaves a broken pipe to whoever knows the exit code."""

    def on_broken_pipe(self) -> NoReturn:
        raise BrokenPipeError


def data_console() -> Console:
    """Return a console on stdout that shows text as it is; NO_COLOR is honoured."""
    return _Console(highlight=False, markup=False, emoji=False)


def print_json(value: Any) -> None:
    """Print data as JSON, and nothing else, to stdout."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_lines(lines: Iterable[Text], console: Console | None = None) -> None:
    """Print lines as they are, however long. Where nobody sees styles, they cost nothing."""
    console = console or data_console()
    if console.is_terminal:
        console.print(Text("\n").join(lines), soft_wrap=True)
    else:
        console.file.write("".join(f"{line.plain}\n" for line in lines))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str | Text]]) -> None:
    """Print rows below their columns' names. In a pipe each row is one line, however long."""
    console = data_console()
    if not console.is_terminal:  # rich takes half a minute for ten thousand rows
        _write_rows(console.file, [columns, *([str(cell) for cell in row] for row in rows)])
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    console.print(table)


def _write_rows(file: IO[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(cell_len, column)) + 2 for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (set_cell_size(cell, size) for cell, size in zip(row, widths, strict=True))
        file.write("".join(cells).rstrip() + "\n")


def talk(message: str) -> None:
    """Write a line for a human to stderr."""
    sys.stderr.write(f"{message}\n")


def prints_to_stderr() -> AbstractContextManager[TextIO]:
    """Let what the user's code prints go to stderr, so that stdout has only data."""
    return redirect_stdout(sys.stderr)


@contextmanager
def logs_to_stderr(name: str = "dynaflow", level: int = logging.INFO) -> Iterator[None]:
    """Write a logger's lines to stderr, unless the user's code has set up logging itself."""
    logger = logging.getLogger(name)
    if logging.getLogger().handlers:
        yield
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
