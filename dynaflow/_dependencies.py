"""A handler's parameters and those of its dependencies → what to call, in which order. Data only.

Everything is worked out once per route. Dependencies are sorted so that each comes after those that
it needs; one that several need is there once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from dynaflow._binding import Reader, ReadParameter, depends_of, what_is
from dynaflow._signature import (
    Kind,
    annotation_of,
    handler_name,
    identity,
    kind_of,
    parameters_of,
    without_none,
)
from dynaflow.context import HandlerContext
from dynaflow.errors import DynaflowError, RegistrationError
from dynaflow.params import IMAGES, Depends, Scope
from dynaflow.record import Record

__all__ = ["AppValues", "Dependency", "Key", "Needs", "Overrides", "find_dependencies", "shared_by"]

Key: TypeAlias = Hashable
Overrides: TypeAlias = Mapping[Hashable, Callable[..., Any]]
"""What to call instead of a function, by the identity of that."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Where the keyword arguments of one callable come from.

    Args:
        readers: by parameter, what reads it from the call's context.
        needs: by parameter, the dependency whose value it gets.
    """

    readers: tuple[tuple[str, Reader], ...] = ()
    needs: tuple[tuple[str, Key], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Dependency:
    """One function that is evaluated before a handler, or before the first batch.

    Args:
        key: what its value is found by.
        function: what is called; the replacement, where it is overridden.
        kind: what calling it gives.
        name: how errors name it.
        parameters: its keyword arguments.
        declared: the function that ``Depends`` names.
    """

    key: Key
    function: Callable[..., Any]
    kind: Kind
    name: str
    parameters: Parameters
    declared: Callable[..., Any]


@dataclass(frozen=True, slots=True, eq=False)
class Needs:
    """Everything that calling a handler takes.

    Args:
        parameters: the handler's keyword arguments.
        steps: dependencies of scope "call", each behind those that it needs.
        shared: dependencies of scope "app", likewise.
        declared: the functions that ``Depends`` names anywhere below the handler, by identity.
    """

    parameters: Parameters
    steps: tuple[Dependency, ...]
    shared: tuple[Dependency, ...]
    declared: Mapping[Hashable, Depends]


class AppValues:
    """What the app-scope dependencies of an App have come to, while its lifespan is open."""

    def __init__(self) -> None:
        self._open: list[Mapping[Key, Any]] = []

    @property
    def is_open(self) -> bool:
        """True while the lifespan is open."""
        return bool(self._open)

    @contextmanager
    def holding(self, values: Mapping[Key, Any]) -> Iterator[None]:
        """Let calls see these values; of several that are open, calls see the last."""
        mine = dict(values)
        self._open.append(mine)
        try:
            yield
        finally:
            self._open = [other for other in self._open if other is not mine]

    def reader(self, dependency: Dependency) -> Reader:
        """Return what reads the value of one dependency."""
        key, name = dependency.key, dependency.name

        def read(context: HandlerContext) -> Any:
            try:
                return self._open[-1][key]
            except (IndexError, KeyError):
                raise _not_open(name) from None

        return read

    def refuse_unopened(self, dependencies: Iterable[Dependency]) -> None:
        """Refuse app-scope dependencies that an open lifespan has not opened."""
        for dependency in dependencies:
            if self._open and dependency.key not in self._open[-1]:
                raise _not_open(dependency.name)


def find_dependencies(
    handler: Callable[..., Any],
    *,
    read: ReadParameter,
    own: Mapping[str, Reader],
    values: AppValues,
    overrides: Overrides,
) -> Needs:
    """Return what calling a handler takes.

    Args:
        handler: the user's callable.
        read: finds readers for parameters of the handler and of its dependencies.
        own: readers of the handler's parameters of these names, whatever their annotations.
        values: where app-scope values are read.
        overrides: what to call instead of some dependencies.

    Raises:
        RegistrationError: a parameter that nothing can be passed for, here or further below.
    """
    search = _Search(handler, read, values, overrides)
    try:
        parameters = search.parameters(handler, scope="call", own=own)
    except RegistrationError as error:
        if not search.path:
            raise
        path = " → ".join(map(handler_name, (handler, *search.path)))
        raise RegistrationError(f"{error} (by way of {path})") from None
    return Needs(parameters, tuple(search.steps), tuple(search.shared), search.declared)


def shared_by(several: Iterable[Needs]) -> tuple[Dependency, ...]:
    """Return the app-scope dependencies of several handlers, each behind those that it needs.

    Raises:
        RegistrationError: a function that has one scope here and another there.
    """
    several, scopes = tuple(several), dict[Hashable, Depends]()
    for needs in several:
        for key, depends in needs.declared.items():
            _refuse_other_scope(scopes.setdefault(key, depends), depends)
    found = {dependency.key: dependency for needs in several for dependency in needs.shared}
    return tuple(found.values())


class _Search:
    """Finds dependencies depth first. ``path`` leads to the one that is being looked at."""

    def __init__(
        self,
        handler: Callable[..., Any],
        read: ReadParameter,
        values: AppValues,
        overrides: Overrides,
    ) -> None:
        self.path: list[Callable[..., Any]] = []
        self.steps: list[Dependency] = []
        self.shared: list[Dependency] = []
        self.declared: dict[Hashable, Depends] = {}
        self._handler = handler
        self._read = read
        self._values = values
        self._overrides = overrides
        self._found: dict[Key, Dependency] = {}

    def parameters(
        self, function: Callable[..., Any], *, scope: Scope, own: Mapping[str, Reader]
    ) -> Parameters:
        """Return where the arguments of a handler or a dependency of this scope come from."""
        readers: list[tuple[str, Reader]] = []
        needs: list[tuple[str, Key]] = []
        bound = function.keywords if isinstance(function, functools.partial) else {}
        for parameter in parameters_of(function, dependency=bool(self.path)):
            name = parameter.name
            annotation = annotation_of(function, parameter)
            depends = depends_of(function, parameter, annotation)
            if name in own:
                readers.append((name, own[name]))
            elif depends is not None and name not in bound:
                found = self._dependency(depends, below=scope)
                if depends.scope == scope:
                    needs.append((name, found.key))
                else:
                    readers.append((name, self._values.reader(found)))
            elif depends is None:
                read = self._read if scope == "call" else _no_reader
                reader = read(function, parameter, annotation)
                if reader is not None:
                    readers.append((name, reader))
        return Parameters(tuple(readers), tuple(needs))

    def _dependency(self, depends: Depends, *, below: Scope) -> Dependency:
        declared = identity(depends.dependency)
        _refuse_other_scope(self.declared.setdefault(declared, depends), depends)
        function = self._overrides.get(declared, depends.dependency)
        self.path.append(function)
        if any(identity(other) == identity(function) for other in self.path[:-1]):
            raise RegistrationError(f"the dependency {handler_name(function)} depends on itself")
        if below == "app" and depends.scope == "call":
            raise RegistrationError(
                f"{handler_name(self.path[-2])} has scope='app' and is opened once, before any "
                f"call; {handler_name(function)} is evaluated for each call. Give it scope='app', "
                f"too, or leave {handler_name(self.path[-2])} in scope 'call'."
            )
        key = (depends.scope, identity(function))
        if key not in self._found:
            parameters = self.parameters(function, scope=depends.scope, own={})
            self._found[key] = found = Dependency(
                key=key,
                function=function,
                kind=kind_of(function),
                name=handler_name(function),
                parameters=parameters,
                declared=depends.dependency,
            )
            (self.steps if depends.scope == "call" else self.shared).append(found)
        self.path.pop()
        return self._found[key]


def _no_reader(function: Any, parameter: Any, annotation: Any) -> None:
    """Refuse what is of a call; a dependency of scope "app" is opened before there is any."""
    inner, _ = without_none(annotation)
    if parameter.name in IMAGES or inner in (Record, HandlerContext):
        raise RegistrationError(
            f"parameter '{parameter.name}' of {handler_name(function)} is of a call, and a "
            "dependency of scope='app' is opened before there is any. Take it in one of scope "
            "'call', which may depend on this one."
        )
    if parameter.default is parameter.empty:
        raise RegistrationError(what_is(function, parameter.name, annotation, scope="app"))


def _refuse_other_scope(one: Depends, other: Depends) -> None:
    if one.scope != other.scope:
        raise RegistrationError(
            f"{handler_name(one.dependency)} has scope='app' in one place and scope='call' in "
            "another, so it would be opened once and yet again for each call: write the same scope "
            "everywhere. A name for it helps: Mailer = Annotated[SmtpMailer, Depends(...)]"
        )


def _not_open(name: str) -> DynaflowError:
    return DynaflowError(
        f"the dependency {name} of scope 'app' is not open. It opens with the App's lifespan; "
        "overrides of it begin before that: TestClient(app, overrides=...), or 'with "
        "app.overrides(...)' around the client"
    )
