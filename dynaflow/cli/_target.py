""" "module:attribute" → the App that it names."""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from pathlib import Path
from types import ModuleType

from dynaflow.app import App, as_app
from dynaflow.errors import RegistrationError, TargetError
from dynaflow.routing import Router

__all__ = ["load_app"]

_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
_TARGET = re.compile(f"(?P<module>{_NAME}):(?P<attribute>{_NAME})")

# Prefixes of frames that say nothing about the user's code: Python's own, and dynaflow's.
_FOREIGN = ("<frozen ", str(Path(os.__file__).parent), str(Path(__file__).parent.parent))


def load_app(target: str, directory: Path) -> App:
    """Import the App that ``module:attribute`` names; a Router becomes an App.

    Args:
        target: an import path and, behind the colon, a name in that module; either may be dotted.
        directory: put in front of the import path.

    Raises:
        TargetError: the text has not this form, or there is no such module, no such attribute, or
            no App or Router behind it; or the module cannot be imported.
        RegistrationError: the module, or the App that is made of the Router, declares something
            that cannot work.
    """
    match = _TARGET.fullmatch(target)
    if match is None or match["module"].endswith(".py"):
        raise TargetError(
            f"{target!r} is not of the form module:attribute. Write an import path, not a file: "
            "shop:app for the variable 'app' in shop.py, or backend.shop:app.",
            usage=True,
        )
    module = _import(match["module"], directory)
    found = _attribute(module, match["attribute"])
    if not isinstance(found, (App, Router)):
        raise TargetError(
            f"{target!r} is a {type(found).__name__}, not an App or a Router. {_offer(module)}"
        )
    return as_app(found)


def _import(name: str, directory: Path) -> ModuleType:
    entry = str(directory.resolve())
    if entry not in sys.path:
        sys.path.insert(0, entry)
    try:
        return importlib.import_module(name)
    except RegistrationError as error:
        raise RegistrationError(f"{_where(error)}{error}") from error
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise TargetError(
                f"there is no module named {error.name!r}. It was looked for in {entry} and in the "
                "installed packages; name another directory with --app-dir."
            ) from error
        raise TargetError(_failed(name, error)) from error
    except (Exception, SystemExit) as error:
        raise TargetError(_failed(name, error)) from error


def _attribute(module: ModuleType, path: str) -> object:
    found: object = module
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise TargetError(
                f"module {module.__name__!r} has no attribute {path!r}. {_offer(module)}"
            ) from None
    return found


def _offer(module: ModuleType) -> str:
    """Say which Apps and Routers a module has."""
    names = [n for n, value in vars(module).items() if isinstance(value, (App, Router))]
    if not names:
        return "The module has no App and no Router at its top level."
    return f"It has: {', '.join(f'{module.__name__}:{name}' for name in names)}."


def _failed(name: str, error: BaseException) -> str:
    reason = f"{type(error).__name__}: {error}".rstrip(": ")
    return f"importing {name!r} failed: {_where(error)}{reason}"


def _where(error: BaseException) -> str:
    """Return "file:line: " of the innermost frame of the user's own code."""
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{_shown(error.filename)}:{error.lineno}: "
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(_FOREIGN) and "site-packages" not in frame.filename:
            return f"{_shown(frame.filename)}:{frame.lineno}: "
    return ""


def _shown(filename: str) -> str:
    try:
        return str(Path(filename).relative_to(Path.cwd()))
    except ValueError:
        return filename
