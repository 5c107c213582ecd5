"""Plain values → the YAML that CloudFormation reads, with comments. Pure.

PyYAML is no dependency, keeps no comments, and knows no ``!Ref``. What is written here is the part
of YAML 1.1 in which a text is what it looks like: it is plain only where it is a word or a name.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Commented", "dumped"]

_WIDTH: Final = 100
_PLAIN = re.compile(r"[A-Za-z/][\w./-]*(?:::?[\w.-]+)*", re.ASCII)
_WORDS = re.compile(r"[A-Za-z][!-~]*(?: [!-~]+)+")  # one space between two
_RESERVED = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null", "nan", "inf"})
_SHORT: Final = {"Ref": "!Ref", "Fn::GetAtt": "!GetAtt", "Fn::Sub": "!Sub", "Fn::If": "!If"}
_CONDITIONS: Final = {"Fn::Not": "!Not", "Fn::Equals": "!Equals"}
_LONGEST: Final = 60  # characters of a list in one line


@dataclass(frozen=True, slots=True)
class Commented:
    """A value of a mapping, and what is written behind it, or above it if it has several lines."""

    value: Any
    comment: str


def dumped(document: Mapping[str, Any], *, head: Sequence[str] = ()) -> str:
    """Return a mapping as YAML.

    Args:
        document: mappings with text as keys, lists, texts, numbers and booleans; intrinsic
            functions in their long form. Values of mappings may be ``Commented``.
        head: lines of a comment at the top; long ones are broken.
    """
    lines = [line for text in head for line in _comment(text, 0)]
    for name, value in document.items():
        entry = list(_entry(name, value, 0))
        if lines and (len(entry) > 1 or lines[-1].startswith("#")):
            lines.append("")
        lines += _apart(entry)
    return "\n".join(lines) + "\n"


def _apart(entry: Sequence[str]) -> Iterator[str]:
    """Put an empty line between the long parts of the second level, such as resources."""
    starts = [at for at, line in enumerate(entry) if re.match(r"  [\w#]", line)]
    is_long = len(entry) > 3 * len(starts) + 3
    for at, line in enumerate(entry):
        follows_comment = entry[at - 1].startswith("  #")
        if is_long and at in starts[1:] and not follows_comment:
            yield ""
        yield line


def _comment(text: str, indent: int) -> Iterator[str]:
    pad = " " * indent
    for line in textwrap.wrap(_harmless(text), _WIDTH - indent - 2, break_on_hyphens=False) or [""]:
        yield f"{pad}# {line}".rstrip()


def _harmless(comment: str) -> str:
    """Return what does not end a comment, whatever a name or a pattern holds."""
    return "".join(char if char.isprintable() else " " for char in comment)


def _entry(name: str, value: Any, indent: int) -> Iterator[str]:
    comment = ""
    if isinstance(value, Commented):
        value, comment = value.value, _harmless(value.comment)
    pad = " " * indent
    key = _scalar(name)
    inline = _inline(value)
    if inline is not None and _folds(value) and len(pad) + len(key) + len(inline) + 2 > _WIDTH:
        inline = None
    if inline is not None:
        line = f"{pad}{key}: {inline}"
        if comment and len(line) + len(comment) + 3 <= _WIDTH:
            yield f"{line} # {comment}"
            return
        if comment:
            yield from _comment(comment, indent)
        yield line
        return
    if comment:
        yield from _comment(comment, indent)
    if isinstance(value, str):
        yield f"{pad}{key}: >-"
        for line in textwrap.wrap(
            value, _WIDTH - indent - 2, break_long_words=False, break_on_hyphens=False
        ):
            yield f"{pad}  {line}"
        return
    yield f"{pad}{key}:"
    yield from _block(value, indent + 2)


def _block(value: Any, indent: int) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _entry(name, inner, indent)
        return
    pad = " " * indent
    for inner in value:
        inline = _inline(inner)
        if inline is not None:
            yield f"{pad}- {inline}"
            continue
        first, *rest = _block(inner, indent + 2)
        yield f"{pad}- {first[indent + 2 :]}"
        yield from rest


def _inline(value: Any) -> str | None:
    """Return what stands behind a key in the same line; None if it takes lines of its own."""
    if isinstance(value, Mapping):
        return _tagged(value) if value else "{}"
    if isinstance(value, (list, tuple)):
        if not value:
            return "[]"
        parts = [_flow(inner) for inner in value]
        text = ", ".join(part for part in parts if part is not None)
        is_short = None not in parts and len(text) <= _LONGEST
        # A plain text with a colon is read in different ways within brackets.
        return f"[{text}]" if is_short and ":" not in text else None
    return _scalar(value)


def _tagged(value: Mapping[str, Any]) -> str | None:
    """Return an intrinsic function in its short form; None if it is none."""
    if len(value) != 1:
        return None
    ((name, argument),) = value.items()
    if name == "Fn::GetAtt":
        return f"!GetAtt {'.'.join(argument)}"
    tag = {**_SHORT, **_CONDITIONS}.get(name)
    return None if tag is None else f"{tag} {_flow(argument, nested=True)}"


def _flow(value: Any, *, nested: bool = False) -> str | None:
    """Return a value within brackets; None if it does not belong there."""
    if isinstance(value, Mapping):
        return _tagged(value)
    if isinstance(value, (list, tuple)):
        return (
            f"[{', '.join(str(_flow(inner, nested=True)) for inner in value)}]" if nested else None
        )
    return _scalar(value)


def _folds(value: Any) -> bool:
    """Return True for prose, which can be broken into lines wherever a space is."""
    return isinstance(value, str) and value.isascii() and _WORDS.fullmatch(value) is not None


def _scalar(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    if _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
        return value
    is_shown = value.isascii() and value.isprintable()  # CloudFormation's own tools take no more
    if is_shown and '"' in value and "'" not in value:
        return f"'{value}'"
    return '"' + "".join(map(_escaped, value)) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char.isascii() and char.isprintable():
        return char
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
