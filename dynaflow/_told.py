"""An exception → text that can be kept, without ever failing."""

from __future__ import annotations

import traceback
from collections.abc import Callable

__all__ = ["cut", "message_of", "traceback_of", "type_of"]

_MAX_CALLS = 50  # of each error in the chain, those nearest to it


def type_of(error: BaseException) -> str:
    """Return the name of the exception's class, with its module."""
    kind = type(error)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )


def message_of(error: BaseException) -> str:
    """Return what the exception says."""
    return _safely(lambda: str(error))


def traceback_of(error: BaseException) -> str:
    """Return the traceback with the chain of causes, the error itself at the end."""
    return _safely(lambda: _formatted(error))


def _formatted(error: BaseException) -> str:
    kind, trace = type(error), error.__traceback__
    return "".join(traceback.TracebackException(kind, error, trace, limit=-_MAX_CALLS).format())


def _safely(read: Callable[[], str]) -> str:
    try:
        return read()
    except Exception as error:  # whatever a foreign exception's methods do
        return f"<it cannot be shown: {type(error).__name__}>"


def cut(text: str, max_bytes: int) -> str:
    """Return the text without its middle where it is longer; lone surrogates become escapes."""
    encoded = text.encode("utf-8", "backslashreplace")
    if len(encoded) <= max_bytes:
        return encoded.decode("utf-8")
    left_out = f"\n... {len(encoded) - max_bytes} bytes and more left out ...\n"
    room = max_bytes - len(left_out)
    head = encoded[: room // 4].decode("utf-8", "ignore")
    tail = encoded[-(room - room // 4) :].decode("utf-8", "ignore")  # the error itself comes last
    return f"{head}{left_out}{tail}"
