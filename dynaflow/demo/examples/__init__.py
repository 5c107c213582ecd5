"""The examples, as packages of this one: in a wheel they are in here, in a checkout at its top."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType

__all__ = ["EXAMPLES", "describe", "load_demo"]

_HERE = Path(__file__).parent
_CHECKOUT = _HERE.parents[2] / "examples"
_PLAYED = "demo.py"  # what makes a folder an example that can be played


def _folders(home: Path) -> dict[str, Path]:
    return {path.parent.name: path.parent for path in sorted(home.glob(f"*/{_PLAYED}"))}


EXAMPLES: Mapping[str, Path] = MappingProxyType(_folders(_HERE) or _folders(_CHECKOUT))
"""The folder of each example by its name."""

if not _folders(_HERE):  # beside an installed dynaflow, ../../examples is somebody else's
    __path__.append(str(_CHECKOUT))


def describe(name: str) -> str:
    """Return what an example shows, in one line: how its demo's docstring begins."""
    tree = ast.parse((EXAMPLES[name] / _PLAYED).read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0]


def load_demo(name: str) -> ModuleType:
    """Import the demo of one of the ``EXAMPLES``; its ``play(stage)`` plays it."""
    return importlib.import_module(f"{__name__}.{EXAMPLES[name].name}.demo")
