"""Decorators as libraries have them: in a module that does not know the handler's annotations."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

__all__ = ["Wrapping", "wrapping"]


def wrapping(inner: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function, sync or async, in a plain one."""

    @functools.wraps(inner)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return inner(*args, **kwargs)

    return wrapper


class Wrapping:
    """Wrap a function, sync or async, in a callable object."""

    def __init__(self, inner: Callable[..., Any]) -> None:
        functools.update_wrapper(self, inner)
        self._inner = inner

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._inner(*args, **kwargs)
