"""Checks of what users hand to routers and apps: each returns the value, or says what to write."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from inspect import iscoroutinefunction, isfunction, isroutine, signature
from pathlib import Path
from typing import Any, TypeAlias

from dynaflow._signature import identity, is_async
from dynaflow.errors import RegistrationError
from dynaflow.filters import Filter, as_filter
from dynaflow.middleware import Middleware
from dynaflow.observe import Observer
from dynaflow.record import EventName, Record
from dynaflow.retry import Retry

__all__ = [
    "Condition",
    "checked_after_deliveries",
    "checked_conditions",
    "checked_events",
    "checked_filters",
    "checked_middleware",
    "checked_name",
    "checked_observers",
    "checked_on_invalid",
    "checked_overrides",
    "checked_retry",
    "checked_sequence",
    "checked_table",
    "checked_timeout",
    "checked_ttl",
    "checked_ttl_attribute",
    "checked_unmatched",
    "name_of",
    "same_table",
    "takes",
]

Condition: TypeAlias = Filter | Callable[[Record], bool]


def name_of(handler: Callable[..., Any]) -> str:
    """Return import path and qualified name of a handler, ``__main__`` resolved to its module."""
    function: Any = handler
    while isinstance(function, functools.partial):
        function = function.func
    if not hasattr(function, "__qualname__"):
        function = type(function)
    module = getattr(function, "__module__", None) or "unknown"
    if module == "__main__":
        module = _main_module()
    return f"{module}.{function.__qualname__}"


def _main_module() -> str:
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else "__main__"


def checked_events(names: Iterable[str]) -> frozenset[EventName]:
    """Return event names as the enumeration."""
    known = {name.value: name for name in EventName}
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if not isinstance(name, str) or name not in known:
            shown = repr(name) if isinstance(name, str) else type(name).__name__
            raise RegistrationError(
                f"{shown} is no event name: write 'INSERT', 'MODIFY' or 'REMOVE'"
                " (filters go into when=)"
            )
    if not names:
        raise RegistrationError("no event name: write on('INSERT', 'MODIFY') or on_any()")
    return frozenset(known[name] for name in names)


def checked_conditions(
    conditions: Condition | Iterable[Condition], where: str
) -> tuple[Filter, ...]:
    """Return one filter, or several, as filters; ``where`` begins the error."""
    several = conditions if isinstance(conditions, (tuple, list)) else (conditions,)
    try:
        return tuple(as_filter(condition) for condition in several)
    except RegistrationError as error:
        raise RegistrationError(f"{where}: {error}") from None


def checked_filters(filters: Sequence[Condition], verb: str) -> tuple[Filter, ...]:
    """Return the filters of a verb; a handler among them means forgotten parentheses."""
    try:
        return checked_conditions(filters, f"{verb}(...)")
    except RegistrationError as error:
        if len(filters) != 1 or not isfunction(filters[0]):
            raise
        raise RegistrationError(
            f"{error} If {name_of(filters[0])} is the handler, write @router.{verb}() with "
            "parentheses."
        ) from None


def checked_table(table: str | None, where: str) -> str | None:
    """Return a ``table=``, a plain name or None."""
    if table is None or (
        isinstance(table, str) and table and "/" not in table and ":" not in table
    ):
        return table
    raise RegistrationError(f"{where} takes a table's name, not an ARN or another value")


def same_table(outer: str | None, inner: str | None, what: str) -> str | None:
    """Return the table that a route is for, within a router for another or the same."""
    if outer is not None and inner is not None and outer != inner:
        raise RegistrationError(
            f"{what} is for table {inner!r} inside of a router for table {outer!r}, "
            "so it could never match: leave one of them out"
        )
    return inner if outer is None else outer


def checked_ttl(ttl: bool | None, event_names: frozenset[EventName], owner: str) -> bool | None:
    """Return a ``ttl=`` that the events can have."""
    if ttl not in (None, True, False):
        raise RegistrationError(f"ttl= of {owner} is True, False or None")
    if ttl and event_names != {EventName.REMOVE}:
        raise RegistrationError(
            f"ttl=True of {owner} is true of no INSERT or MODIFY: name 'REMOVE' only"
        )
    return ttl


def checked_ttl_attribute(attribute: str | None, ttl: bool | None, owner: str) -> str | None:
    """Return a ``ttl_attribute=``, which only a ``ttl=`` gives a meaning."""
    if attribute is None:
        return None
    if not isinstance(attribute, str) or not attribute:
        raise RegistrationError(f"ttl_attribute= of {owner} takes the name of an attribute")
    if ttl is None:
        raise RegistrationError(
            f"ttl_attribute= of {owner} says which deletes are by Time to Live, and without ttl= "
            "the route takes all of them: add ttl=True or ttl=False, or write on_expire(...)"
        )
    return attribute


def checked_on_invalid(on_invalid: Any, where: str) -> Any:
    """Return an ``on_invalid=``."""
    if on_invalid is None or on_invalid in ("fail", "skip", "dead_letter"):
        return on_invalid
    shown = repr(on_invalid) if isinstance(on_invalid, str) else type(on_invalid).__name__
    raise RegistrationError(
        f"on_invalid={shown} of {where} is unknown: write 'fail', 'skip' or 'dead_letter'"
    )


def checked_retry(retry: Any, where: str) -> Retry | None:
    """Return a ``retry=``."""
    if retry is None or isinstance(retry, Retry):
        return retry
    raise RegistrationError(
        f"retry= of {where} takes a Retry, got {type(retry).__name__}: write Retry(attempts=3)"
    )


def checked_timeout(
    timeout: Any, where: str, handler: Callable[..., Any] | None = None
) -> float | None:
    """Return a ``timeout=``, which only an async handler can have."""
    if timeout is None:
        return None
    if not isinstance(timeout, (int, float)) or isinstance(timeout, bool) or not timeout > 0:
        raise RegistrationError(f"timeout= of {where} is a number of seconds above 0")
    if handler is not None and not is_async(handler):
        raise RegistrationError(
            f"timeout= of {where} cannot be kept: a sync handler runs in a thread, and a thread "
            "cannot be stopped. Make it an 'async def', or give what it waits for a time-out"
        )
    return float(timeout)


def checked_after_deliveries(count: Any, where: str) -> int | None:
    """Return an ``after_deliveries=``."""
    if count is None or (isinstance(count, int) and not isinstance(count, bool) and count >= 1):
        return count
    raise RegistrationError(f"after_deliveries= of {where} is a whole number, at least 1")


def checked_unmatched(unmatched: Any) -> Any:
    """Return an ``unmatched=``."""
    if unmatched in ("ignore", "warn", "fail"):
        return unmatched
    shown = repr(unmatched) if isinstance(unmatched, str) else type(unmatched).__name__
    raise RegistrationError(f"unmatched={shown} is unknown: write 'ignore', 'warn' or 'fail'")


def checked_name(name: str | None, owner: str) -> str | None:
    """Return a ``name=``."""
    if name is None or (isinstance(name, str) and name.strip()):
        return name
    raise RegistrationError(f"name= of {owner} takes a text that is not empty")


def checked_middleware(middleware: Sequence[Middleware], where: str) -> tuple[Middleware, ...]:
    """Return the layers of a ``middleware=``, each of them callable."""
    checked: tuple[Middleware, ...] = checked_sequence(middleware, where)
    for layer in checked:
        if not takes(layer, 2):
            raise RegistrationError(
                f"{where}: {name_of(layer)} cannot be called with a call and what comes next. "
                "Middleware is written 'async def layer(call: Call, call_next: Process)'; an "
                "observer belongs into App(observers=[...])"
            )
    return checked


def checked_observers(observers: Sequence[Observer], where: str) -> tuple[Observer, ...]:
    """Return the members of an ``observers=``, each of them a plain callable."""
    checked: tuple[Observer, ...] = checked_sequence(observers, where)
    for observer in checked:
        if isinstance(observer, type):
            raise RegistrationError(
                f"{where}: {name_of(observer)} is a class: write {observer.__name__}()"
            )
        function = observer if isroutine(observer) else type(observer).__call__
        if iscoroutinefunction(function):
            raise RegistrationError(
                f"{where}: {name_of(observer)} is async, and nothing would await it: an observer "
                "has a thread of its own, so make it a plain 'def'"
            )
        if not takes(observer, 1):
            raise RegistrationError(
                f"{where}: {name_of(observer)} cannot be called with an event: an observer is "
                "written 'def observe(event: Event) -> None'"
            )
    return checked


def takes(function: Callable[..., Any], count: int) -> bool:
    """Return whether it can be called with so many positional arguments, as far as it shows."""
    try:
        shape = signature(function)
    except (TypeError, ValueError):  # of C code: nothing shows
        return True
    try:
        shape.bind(*range(count))
    except TypeError:
        return False
    return True


def checked_sequence(callables: Sequence[Any], where: str) -> tuple[Any, ...]:
    """Return a list of callables as a tuple."""
    if callable(callables):
        member = name_of(callables) if isroutine(callables) else f"{name_of(callables)}(...)"
        raise RegistrationError(f"{where} takes a list: write [{member}]")
    if not isinstance(callables, Sequence):
        raise RegistrationError(f"{where} takes a list, got {type(callables).__name__}")
    for member in callables:
        if not callable(member):
            raise RegistrationError(f"{where}: {type(member).__name__} is not callable")
    return tuple(callables)


def checked_overrides(
    replacements: Mapping[Callable[..., Any], Callable[..., Any]],
    known: Mapping[Hashable, Callable[..., Any]],
) -> dict[Hashable, Callable[..., Any]]:
    """Return replacements by the identity of what they replace; ``known`` is what can be."""
    if not isinstance(replacements, Mapping):
        raise RegistrationError(
            f"overrides take a mapping, got {type(replacements).__name__}: write "
            "{get_mailer: lambda: fake}"
        )
    for function, replacement in replacements.items():
        shown = name_of(function) if callable(function) else repr(function)
        if identity(function) not in known:
            names = ", ".join(sorted(map(name_of, known.values()))) or "none"
            raise RegistrationError(
                f"overrides: {shown} is no dependency of this App. Name the function that "
                f"Depends(...) names. There are: {names}"
            )
        if not callable(replacement):
            raise RegistrationError(
                f"overrides: what replaces {shown} is a {type(replacement).__name__}, not a "
                "function. Write 'lambda: it'"
            )
    return {identity(function): replacement for function, replacement in replacements.items()}
