"""The documents, taken apart: what they tell a reader to save, to run and to expect."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["DOCUMENTS", "ROOT", "Block", "Command", "Document"]

ROOT = Path(__file__).parents[2]
DOCUMENTS = tuple(
    str(path.relative_to(ROOT))
    for path in (
        ROOT / "README.md",
        *sorted(ROOT.glob("docs/**/*.md")),
        *sorted(ROOT.glob("examples/*/README.md")),
        ROOT / "CHANGELOG.md",
    )
)

_BLOCK = re.compile(r"^```(?P<info>.*)\n(?P<text>(?:.*\n)*?)^```$", re.MULTILINE)
_PYTHON_NAME = re.compile(r"# (\S+\.py)\n")
_JSON_NAME = re.compile(r"`(\S+\.json)`[^`\n]*:\n\n\Z")
_ROW = re.compile(r"(?<!\\)\|")
_OBJECT = re.compile(r"^::: (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Command:
    """A command that a reader types, and the lines that he is told to see."""

    words: str
    shown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block.

    Args:
        language: what stands behind the fence.
        text: what stands in between.
        line: the line of its first line of text, from 1.
        file: what the document calls it: a comment in its first line, or the text before it.
    """

    language: str
    text: str
    line: int
    file: str | None

    @property
    def commands(self) -> list[Command]:
        """The commands of a console block."""
        _, *parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)
        typed = [part.splitlines() for part in parts]
        return [Command(words, tuple(shown)) for words, *shown in typed]


class Document:
    """One document of the repository.

    Args:
        path: where it is, from the top of the repository.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.text = (ROOT / path).read_text(encoding="utf-8")
        self.blocks = [
            Block(match["info"], match["text"], _line(match), _file(match))
            for match in _BLOCK.finditer(self.text)
        ]

    @property
    def files(self) -> dict[str, str]:
        """The files that the reader saves, by name."""
        return {block.file: block.text for block in self.blocks if block.file is not None}

    @property
    def needs_table(self) -> bool:
        """True if a command of it makes or reads a table."""
        return any("table" in command.words for command in self.commands)

    @property
    def commands(self) -> list[Command]:
        """The commands that the reader types, in order."""
        consoles = (block for block in self.blocks if block.language == "console")
        return [command for block in consoles for command in block.commands]

    @property
    def script(self) -> str:
        """The Python blocks that are no files, each at its own line of the document."""
        lines: list[str] = []
        for block in self.blocks:
            if block.language == "python" and block.file is None:
                lines += [""] * (block.line - 1 - len(lines)) + block.text.splitlines()
        return "\n".join(lines)

    @property
    def links(self) -> list[str]:
        """The targets of all links."""
        return re.findall(r"\]\(([^)\s]+)\)", _BLOCK.sub("", self.text))

    @property
    def objects(self) -> list[str]:
        """The Python objects whose docstrings the site shows on this page, in order."""
        return _OBJECT.findall(self.text)

    @property
    def anchors(self) -> set[str]:
        """What a link to one of the headings, or to a Python object, has behind its #."""
        headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", self.text), re.MULTILINE)
        names = {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}
        return names | set(self.objects)

    def column(self, head: str) -> list[str]:
        """Return the first cell of each row of the tables whose first column is headed so."""
        cells: list[str] = []
        for table in re.findall(r"(?:^\|.*\n)+", self.text, re.MULTILINE):
            first, _, *rows = [_ROW.split(row)[1].strip() for row in table.splitlines()]
            if first == head:
                cells += rows
        return cells


def _line(match: re.Match[str]) -> int:
    return match.string.count("\n", 0, match.start("text")) + 1


def _file(match: re.Match[str]) -> str | None:
    if match["info"] == "python":
        named = _PYTHON_NAME.match(match["text"])
    elif match["info"] == "json":
        named = _JSON_NAME.search(match.string[: match.start()])
    else:
        named = None
    return named[1] if named else None
