"""What a handler's parameters can ask for: names that have a meaning, and Depends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, TypeAlias

from dynaflow.errors import RegistrationError

__all__ = ["BATCH", "IMAGES", "Depends", "Scope"]

IMAGES = ("new", "old", "keys")
"""Parameters of these names get an image of the record."""

BATCH = ("changes", "records")
"""Parameters of these names get all of a batch call."""

Scope: TypeAlias = Literal["call", "app"]


@dataclass(frozen=True, slots=True, eq=False)
class Depends:
    """Says what makes a parameter's value: ``mailer: Annotated[Mailer, Depends(get_mailer)]``.

    Args:
        dependency: makes the value: a function, an async function, or a generator function, sync or
            async, whose code behind ``yield`` cleans up. It takes the same parameters as a handler.
        scope: "call" evaluates it once for each attempt of a call; "app" opens it with the App's
            lifespan and closes it with that.

    Raises:
        RegistrationError: not a callable, or an unknown scope.
    """

    dependency: Callable[..., Any]
    _: KW_ONLY
    scope: Scope = "call"

    def __post_init__(self) -> None:
        if not callable(self.dependency):
            raise RegistrationError(
                f"Depends(...) takes a function, got {type(self.dependency).__name__}: write "
                "Depends(get_mailer), not Depends(get_mailer())"
            )
        if self.scope not in ("call", "app"):
            raise RegistrationError(
                f"scope={self.scope!r} is unknown: write scope='call' or scope='app'"
            )

    def __repr__(self) -> str:
        name = getattr(self.dependency, "__qualname__", type(self.dependency).__qualname__)
        return f"Depends({name}{'' if self.scope == 'call' else f', scope={self.scope!r}'})"
