"""What an App is given, checked before anything is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import Any, Literal, TypeAlias

from dynaflow._checks import name_of, takes
from dynaflow.engine.parking import Parking
from dynaflow.errors import RegistrationError
from dynaflow.routing import Router

__all__ = ["FailurePolicy", "OnUnmatched", "check_options", "checked_dead_letter"]

FailurePolicy: TypeAlias = Literal["stop_item", "stop"]
OnUnmatched: TypeAlias = Literal["ignore", "warn", "fail"]


def check_options(
    routers: Sequence[Router],
    concurrency: int,
    threads: int,
    failure_policy: str,
    lifespan: Any,
) -> None:
    """Refuse options that cannot work."""
    for router in routers:
        if not isinstance(router, Router):
            raise RegistrationError(
                f"App(...) takes Routers, got {type(router).__name__}: write App(router, another)"
            )
    if not isinstance(concurrency, int) or concurrency < 1:
        raise RegistrationError("concurrency= is a whole number of calls, at least 1")
    if not isinstance(threads, int) or threads < 0:
        raise RegistrationError("threads= is a whole number of threads, at least 0")
    if failure_policy not in ("stop_item", "stop"):
        raise RegistrationError(
            f"failure_policy={failure_policy!r} is unknown: write 'stop_item' or 'stop'"
        )
    if isasyncgenfunction(lifespan):
        raise RegistrationError(
            "lifespan= is a generator function: decorate it with @asynccontextmanager"
        )
    if lifespan is not None and (not callable(lifespan) or iscoroutinefunction(lifespan)):
        raise RegistrationError("lifespan= takes a function that returns an async context manager")
    if lifespan is not None and not takes(lifespan, 1):
        raise RegistrationError(
            "lifespan= is called with the App: write 'async def lifespan(app: App)'"
        )


def checked_dead_letter(sink: Any) -> Parking | None:
    """Return where dead letters go, from a ``dead_letter=``; None for nowhere."""
    if sink is None:
        return None
    if isinstance(sink, type):
        name = sink.__name__
        raise RegistrationError(f"dead_letter={name} is a class: write {name}(...)")
    if not callable(sink) or not takes(sink, 1):
        raise RegistrationError(
            f"dead_letter= takes something that is called with a DeadLetterRecord, such as "
            f"JsonLines('given-up.jsonl'), got "
            f"{name_of(sink) if callable(sink) else type(sink).__name__}"
        )
    return Parking(sink)
