"""What a filter is: frozen nodes that test a record's raw attribute values.

How filters are written is in ``filters.py``. Nodes hold plain values, so that others can look into
them and compare them.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from dynaflow._paths import MISSING, OPERATORS, Constant, PathRef, has_image
from dynaflow.errors import MalformedValue, RegistrationError
from dynaflow.record import EventName, Record

__all__ = [
    "Combined",
    "Differs",
    "Filter",
    "Not",
    "Operation",
    "Predicate",
    "Shorthand",
    "Unfinished",
    "as_filter",
]


class Filter:
    """A condition on a record: ``filter(record)`` is True or False. Combine with ``& | ~``.

    Frozen, comparable and hashable; ``repr`` is the expression as it is written. Calling one may
    raise ``ImageMissing`` (the stream's view type leaves out an image that it reads) or
    ``MalformedValue`` (it reads a value that DynamoDB could not have written).
    """

    __slots__: tuple[str, ...] = ()

    def __call__(self, record: Record) -> bool:
        raise NotImplementedError

    def paths(self) -> Iterator[PathRef]:
        """Yield every path that the filter reads; what a callable reads is not known."""
        for name in self.__slots__:
            held = getattr(self, name)
            for part in held if isinstance(held, tuple) else (held,):
                if isinstance(part, PathRef):
                    yield part
                elif isinstance(part, Filter):
                    yield from part.paths()

    def __and__(self, other: Callable[[Record], bool]) -> Filter:
        return _combine("&", self, other)

    def __rand__(self, other: Callable[[Record], bool]) -> Filter:
        return _combine("&", other, self)

    def __or__(self, other: Callable[[Record], bool]) -> Filter:
        return _combine("|", self, other)

    def __ror__(self, other: Callable[[Record], bool]) -> Filter:
        return _combine("|", other, self)

    def __invert__(self) -> Filter:
        return Not(self)

    def __bool__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} is a filter, which is neither true nor false without a record. Combine "
            "filters with & | ~ instead of 'and', 'or', 'not'; write a range as "
            ".between(low, high) and a choice as .is_in([...])."
        )


@dataclass(frozen=True, slots=True, repr=False)
class Operation(Filter):
    """One operator on one value: false, and ``!=`` true, if a path in it leads nowhere.

    Args:
        path: the value that is tested.
        operator: as it is written: ``==``, ``<``, ``is_in``, …
        operands: what stands on the other side; only comparisons have paths there.
    """

    path: PathRef
    operator: str
    operands: tuple[PathRef | Constant, ...] = ()

    def __call__(self, record: Record) -> bool:
        value = self.path.find(record, self)
        operands = [operand.read(record, self) for operand in self.operands]
        if value is MISSING or None in operands:
            return self.operator == "!="
        try:
            return OPERATORS[self.operator](value, *operands)
        except MalformedValue as error:
            raise self.path.located(error) from None

    def without_image(self, event: EventName) -> bool | None:
        """Return what it always is at an event that lacks an image; None if there are all."""
        if all(has_image(event, path.image) for path in self.paths()):
            return None
        return self.operator == "!="

    def __repr__(self) -> str:
        if self.operator.isidentifier():
            return f"{self.path!r}.{self.operator}({', '.join(map(repr, self.operands))})"
        return f"{self.path!r} {self.operator} {self.operands[0]!r}"


@dataclass(frozen=True, slots=True, repr=False)
class Differs(Filter):
    """The values of two paths are not equal, where missing is a value of its own."""

    path: PathRef
    other: PathRef

    def __call__(self, record: Record) -> bool:
        return self.path.read(record, self) != self.other.read(record, self)

    def without_image(self, event: EventName) -> bool | None:
        """Return False at an event that has none of its images; else it depends: None."""
        return None if any(has_image(event, path.image) for path in self.paths()) else False

    def __repr__(self) -> str:
        return f"changed({self.path!r})"


@dataclass(frozen=True, slots=True, repr=False)
class Shorthand(Filter):
    """A condition that is written shorter than it is: ``changed(...)`` and its kin."""

    condition: Filter
    text: str = field(compare=False)

    def __call__(self, record: Record) -> bool:
        return self.condition(record)

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, repr=False)
class Combined(Filter):
    """All parts are true (``&``), or one is (``|``); parts are tried only until that is decided."""

    operator: Literal["&", "|"]
    parts: tuple[Filter, ...]

    def __call__(self, record: Record) -> bool:
        results = (part(record) for part in self.parts)
        return all(results) if self.operator == "&" else any(results)

    def __repr__(self) -> str:
        return f" {self.operator} ".join(map(_in_parentheses, self.parts))


@dataclass(frozen=True, slots=True, repr=False)
class Not(Filter):
    """The part is not true."""

    part: Filter

    def __call__(self, record: Record) -> bool:
        return not self.part(record)

    def __repr__(self) -> str:
        return f"~{_in_parentheses(self.part)}"


@dataclass(frozen=True, slots=True, repr=False)
class Predicate(Filter):
    """A function of the record; ``repr`` is its qualified name."""

    function: Callable[[Record], object]

    def __call__(self, record: Record) -> bool:
        result = self.function(record)
        if result is True or result is False:
            return result
        if inspect.isawaitable(result):
            if isinstance(result, Coroutine):
                result.close()  # else Python warns that it was never awaited
            raise TypeError(
                f"the filter {self!r} returned an awaitable, and filters are never awaited. Return "
                "True or False; what has to wait belongs into the handler."
            )
        return bool(result)

    def __repr__(self) -> str:
        function = _without_partial(self.function)
        return getattr(function, "__qualname__", None) or type(function).__qualname__


class Unfinished:
    """What an expression is before it is a filter. Python must not see a value in it."""

    __slots__ = ()

    def __advice__(self) -> str:
        """Return what it is and what to write instead."""
        raise NotImplementedError

    def __refuse__(self, *_: object) -> NoReturn:
        raise TypeError(self.__advice__())

    __bool__ = __contains__ = __iter__ = __hash__ = __refuse__

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{self!r} cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{self!r} cannot be changed")


def as_filter(condition: object) -> Filter:
    """Return the filter for what was passed as one: a filter, or a function ``Record -> bool``.

    Raises:
        RegistrationError: anything else, and async functions; the message says what to write.
    """
    if isinstance(condition, Filter):
        return condition
    if isinstance(condition, Unfinished):
        raise RegistrationError(condition.__advice__())
    if isinstance(condition, bool):
        raise RegistrationError(
            f"a filter is {condition}, so Python compared something before a record was there. "
            "One side of a comparison must be a path: F.new.status == 'paid'."
        )
    if not callable(condition) or isinstance(condition, type):
        what = "the class " + condition.__name__ if isinstance(condition, type) else ""
        raise RegistrationError(
            f"a filter is an expression such as F.new.status == 'paid', or a function that takes a "
            f"record and returns True or False, got {what or type(condition).__name__}"
        )
    predicate = Predicate(condition)
    if _never_a_bool(condition):
        raise RegistrationError(
            f"the filter {predicate!r} is async or a generator, so a call decides nothing. Write "
            "it with 'def' and 'return'; what has to wait belongs into the handler."
        )
    return predicate


def _never_a_bool(function: object) -> bool:
    function = _without_partial(function)
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction, inspect.isgeneratorfunction)
    return any(kind(function) or kind(type(function).__call__) for kind in kinds)


def _without_partial(function: object) -> Any:
    while isinstance(function, functools.partial):
        function = function.func
    return function


def _combine(operator: Literal["&", "|"], left: object, right: object) -> Filter:
    parts = (*_parts(as_filter(left), operator), *_parts(as_filter(right), operator))
    return Combined(operator, parts)


def _parts(part: Filter, operator: str) -> tuple[Filter, ...]:
    if isinstance(part, Combined) and part.operator == operator:
        return part.parts
    return (part,)


def _in_parentheses(part: Filter) -> str:
    is_call = isinstance(part, Operation) and part.operator.isidentifier()
    return repr(part) if is_call or isinstance(part, (Not, Predicate, Shorthand)) else f"({part!r})"
