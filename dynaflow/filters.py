"""How filters are written: ``F.new.status == "paid"``, ``changed("status", to="paid")``.

``F.new``, ``F.old`` and ``F.keys`` are the images. An attribute is ``F.new.status`` or
``F.new["weird.name"]``, and both go on into maps; ``[0]`` goes into a list. Operators make filters,
and ``& | ~`` combine them. A function ``Record -> bool`` is a filter, too.

What Python would take for something else (``and``, ``1 < x < 5``, ``x in y``) is refused at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, NoReturn, ParamSpec

from dynaflow._conditions import Differs, Filter, Operation, Shorthand, Unfinished, as_filter
from dynaflow._paths import ORDERED, Constant, PathRef
from dynaflow.values import TYPES

__all__ = ["F", "Filter", "Path", "PathRef", "added", "as_filter", "changed", "crossed", "removed"]

P = ParamSpec("P")
_ANY: Final[Any] = object()  # None stands for NULL, so it cannot stand for "not given"


class Operator(Unfinished, Generic[P]):
    """A path's operator: a method that, where it is not called, says what to write."""

    __slots__ = ("__function__", "__path__")
    __function__: Callable[Concatenate[Any, P], Filter]
    __path__: Path | None

    def __init__(
        self, function: Callable[Concatenate[Any, P], Filter], path: Path | None = None
    ) -> None:
        object.__setattr__(self, "__function__", function)
        object.__setattr__(self, "__path__", path)

    def __get__(self, path: Path | None, owner: type[Path]) -> Operator[P]:
        return Operator(self.__function__, path)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Filter:
        return self.__function__(self.__path__, *args, **kwargs)

    def __advice__(self) -> str:
        name = self.__function__.__name__
        return (
            f"{self!r} is an operator and has to be called: {self!r}(...). An attribute of that "
            f'name is written {self.__path__!r}["{name}"].'
        )

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)  # Python's own look-ups, by inspect and copy
        self.__refuse__()

    __getitem__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = Unfinished.__refuse__
    __hash__ = Unfinished.__refuse__  # Python drops the inherited one where __eq__ is defined

    def __repr__(self) -> str:
        return f"{self.__path__!r}.{self.__function__.__name__}"


class Path(Unfinished):
    """A path into an image: ``F.new.address["zip.code"]``, ``F.new.lines[0].sku``.

    Names that are operators, or that begin with two underscores, take the form with brackets. An
    operator that cannot work as it is written raises ``TypeError`` or ``ValueError``.
    """

    __slots__ = ("__ref__",)
    __ref__: PathRef

    def __init__(self, ref: PathRef) -> None:
        object.__setattr__(self, "__ref__", ref)

    def __getattr__(self, name: str) -> Path:
        if name.startswith("__"):
            raise AttributeError(f'{name} is Python\'s; an attribute is written {self!r}["{name}"]')
        return Path(self.__ref__.then(name))

    def __getitem__(self, segment: str | int) -> Path:
        return Path(self.__ref__.then(segment, quoted=True))

    def __eq__(self, other: object) -> Filter:  # type: ignore[override]  # it makes a filter
        return _comparison(self, "==", other)

    def __ne__(self, other: object) -> Filter:  # type: ignore[override]  # it makes a filter
        return _comparison(self, "!=", other)

    def __lt__(self, other: object) -> Filter:
        return _comparison(self, "<", other)

    def __le__(self, other: object) -> Filter:
        return _comparison(self, "<=", other)

    def __gt__(self, other: object) -> Filter:
        return _comparison(self, ">", other)

    def __ge__(self, other: object) -> Filter:
        return _comparison(self, ">=", other)

    __hash__ = Unfinished.__refuse__

    @Operator
    def is_in(self, options: Iterable[Any]) -> Filter:
        """The value equals one of the options."""
        if isinstance(options, (str, bytes, bytearray, memoryview, Mapping, Unfinished)):
            raise TypeError(f"is_in takes a list or a set of options, got {type(options).__name__}")
        constants = [_constant("is_in", option) for option in options]
        if not constants:
            raise ValueError("is_in without an option would never be true: give it at least one")
        if isinstance(options, Set):
            constants.sort(key=repr)  # so that the text is the same in every process
        values = frozenset(constant.value for constant in constants)
        operand = Constant(values, f"[{', '.join(map(repr, constants))}]")
        return Operation(_attribute(self), "is_in", (operand,))

    @Operator
    def between(self, low: Any, high: Any) -> Filter:
        """The value is of the bounds' type, not below ``low`` and not above ``high``."""
        bounds = (_constant("between", low, ORDERED), _constant("between", high, ORDERED))
        if bounds[0].kind != bounds[1].kind:
            raise TypeError("between takes bounds of one type: values of others have no order")
        if bounds[0].value[1] > bounds[1].value[1]:
            raise ValueError("between would never be true: write the lower bound first")
        return Operation(_attribute(self), "between", bounds)

    @Operator
    def startswith(self, prefix: str | bytes) -> Filter:
        """The value is an S or B of the prefix's type and starts with it."""
        return _operation(self, "startswith", prefix, ("S", "B"))

    @Operator
    def endswith(self, suffix: str | bytes) -> Filter:
        """The value is an S or B of the suffix's type and ends with it."""
        return _operation(self, "endswith", suffix, ("S", "B"))

    @Operator
    def contains(self, member: Any) -> Filter:
        """The member is a part of an S or B, a member of a set, or an element of a list."""
        return _operation(self, "contains", member)

    @Operator
    def exists(self) -> Filter:
        """There is a value, of whatever type; NULL is one."""
        return Operation(_attribute(self), "exists")

    @Operator
    def is_type(self, kind: str) -> Filter:
        """There is a value of this type: S, N, B, BOOL, NULL, SS, NS, BS, L or M."""
        if kind not in TYPES:
            raise ValueError(f"is_type takes one of {', '.join(TYPES)}")
        return Operation(_attribute(self), "is_type", (Constant.of(kind),))

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        raise TypeError(
            f"{self!r} is a path, which is not called: filters see attribute values as they are "
            "stored. For more, write a function that takes the record and returns True or False."
        )

    def __advice__(self) -> str:
        return (
            f"{self!r} is a path: Python sees no value in it. Compare it, or call an operator: "
            ".exists(), .contains(x), .is_in([...]). Filters are combined with & | ~."
        )

    def __repr__(self) -> str:
        return repr(self.__ref__)


class Images(Unfinished):
    """The images of a record, where every path begins."""

    __slots__ = ()
    new: Final = Path(PathRef("new", ()))
    old: Final = Path(PathRef("old", ()))
    keys: Final = Path(PathRef("keys", ()))

    if not TYPE_CHECKING:  # type checkers report other names by themselves

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(f"F has new, old and keys: write F.new.{name}")

    def __advice__(self) -> str:
        return "F is where paths begin: write F.new.status == 'paid'"

    def __repr__(self) -> str:
        return "F"


F: Final = Images()
"""Where paths begin: ``F.new``, ``F.old`` and ``F.keys``."""


def changed(path: str | Path, *, was: Any = _ANY, to: Any = _ANY) -> Filter:
    """Return the filter for a value that is another one than before, or there only before or after.

    On INSERT the old value is missing, so ``changed("status", to="paid")`` is true for an item
    that is paid from the start.

    Args:
        path: one attribute's name, dots being part of it, or a path such as ``F.new.address.city``.
        was: what the old value must have been; None is NULL.
        to: what the new value must be; None is NULL.

    Raises:
        TypeError: a path or a value that it cannot work with.
        ValueError: ``was`` equals ``to``.
    """
    new, old, text = _both(path)
    before = None if was is _ANY else _constant("changed", was)
    after = None if to is _ANY else _constant("changed", to)
    if before is not None and before == after:
        raise ValueError("was equals to, so nothing would have changed: leave one of them out")
    condition: Filter = Differs(new, old)
    for label, image, constant in (("was", old, before), ("to", new, after)):
        if constant is not None:
            condition &= Operation(image, "==", (constant,))
            text += f", {label}={constant!r}"
    return Shorthand(condition, f"changed({text})")


def added(path: str | Path) -> Filter:
    """Return the filter for a value that is there and was not; ``path`` as in ``changed``."""
    new, old, text = _both(path)
    return Shorthand(~Operation(old, "exists") & Operation(new, "exists"), f"added({text})")


def removed(path: str | Path) -> Filter:
    """Return the filter for a value that was there and is not; ``path`` as in ``changed``."""
    new, old, text = _both(path)
    return Shorthand(Operation(old, "exists") & ~Operation(new, "exists"), f"removed({text})")


def crossed(
    path: str | Path,
    *,
    above: int | Decimal | str | bytes | None = None,
    below: int | Decimal | str | bytes | None = None,
) -> Filter:
    """Return the filter for a value that is beyond a bound now and was not before.

    An old value that is missing or of another type than the bound was not beyond it.

    Args:
        path: as in ``changed``.
        above: the bound, if beyond is greater; a value that equals it is not beyond it.
        below: the bound, if beyond is less. Exactly one of the two is given.

    Raises:
        TypeError: not exactly one bound, or one that has no order.
    """
    if (above is None) == (below is None):
        raise TypeError("crossed takes either above= or below=")
    side, operator, value = ("below", "<", below) if above is None else ("above", ">", above)
    bound = _constant("crossed", value, ORDERED)
    new, old, text = _both(path)
    condition = ~Operation(old, operator, (bound,)) & Operation(new, operator, (bound,))
    return Shorthand(condition, f"crossed({text}, {side}={bound!r})")


def _comparison(path: Path, operator: str, other: object) -> Filter:
    if isinstance(other, Path):
        return Operation(_attribute(path), operator, (_attribute(other),))
    return _operation(path, operator, other, TYPES if operator in ("==", "!=") else ORDERED)


def _operation(path: Path, operator: str, value: object, kinds: tuple[str, ...] = TYPES) -> Filter:
    return Operation(_attribute(path), operator, (_constant(operator, value, kinds),))


def _constant(operator: str, value: object, kinds: tuple[str, ...] = TYPES) -> Constant:
    if isinstance(value, Operator):
        raise TypeError(value.__advice__())
    if isinstance(value, Unfinished):
        raise TypeError(f"{operator} takes a value; only == != < <= > >= take a path there")
    return Constant.of(value, kinds)


def _attribute(path: Path) -> PathRef:
    """Return where a path leads, which must be further than to an image."""
    ref = path.__ref__
    if not ref.segments:
        raise TypeError(f"{path!r} is a whole image: name an attribute, as in {path!r}.status")
    return ref


def _both(path: object) -> tuple[PathRef, PathRef, str]:
    """Return the path in both images, and how the argument is written."""
    if isinstance(path, str):
        ref = PathRef("new", ()).then(path)
    elif isinstance(path, Path):
        ref = _attribute(path)
    else:
        raise TypeError("expected an attribute's name or a path such as F.new.address.city")
    if ref.image == "keys":
        raise TypeError(f"{ref!r} never changes: another key is another item")
    new, old = replace(ref, image="new"), replace(ref, image="old")
    return new, old, repr(ref.segments[0]) if len(ref.segments) == 1 else repr(new)
