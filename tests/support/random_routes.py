"""Random filters and routes, of the names and values that random records have."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from hypothesis import reject
from hypothesis import strategies as st

from dynaflow import App, F, Router, added, changed, crossed, removed
from dynaflow.errors import RegistrationError
from dynaflow.filters import Filter, Path
from dynaflow.record import EventName, Record
from dynaflow.values import TYPES
from tests.support.random_records import binaries, names, numbers, scalars, texts, values

__all__ = ["apps", "filters"]


orderable = st.one_of(texts, numbers, binaries)


def is_true(record: Record) -> bool:
    return True


def is_false(record: Record) -> bool:
    return False


def fails(record: Record) -> bool:
    raise ValueError("the filter failed")


def fails_on_remove(record: Record) -> bool:
    if record.event_name is EventName.REMOVE:
        raise ValueError("the filter failed")
    return record.new is not None and "a" in record.new


functions = st.sampled_from([is_true, is_false, fails, fails_on_remove])


@st.composite
def paths(draw: st.DrawFn) -> Path:
    path = draw(st.sampled_from([F.new, F.new, F.old, F.old, F.keys]))
    path = path[draw(names)] if path is not F.keys or draw(st.booleans()) else path["id"]
    if draw(st.integers(0, 3)) == 3:
        path = path[draw(st.one_of(names, names, names, st.integers(0, 1)))]
    return path


def _changed(path: Any, was: Any, to: Any) -> Filter:
    given = {name: value[0] for name, value in (("was", was), ("to", to)) if value}
    try:
        return changed(path, **given)
    except ValueError:  # was equals to
        return changed(path)


def _between(path: Path, bounds: Sequence[Any]) -> Filter:
    return path.between(min(bounds), max(bounds))


maybe = st.one_of(st.just(()), st.tuples(values))
shorthand_paths = st.one_of(names, paths().filter(lambda path: "keys" not in repr(path)[:6]))
COMPARISONS = [operator.eq, operator.eq, operator.ne, operator.lt, operator.le, operator.gt]
leaves: st.SearchStrategy[Filter] = st.one_of(
    st.builds(operator.eq, paths(), scalars),
    st.builds(operator.ne, paths(), scalars),
    st.builds(operator.eq, paths(), scalars),
    st.builds(operator.ne, paths(), scalars),
    st.builds(operator.eq, paths(), values),
    st.builds(
        lambda compare, path, value: compare(path, value),
        st.sampled_from(COMPARISONS),
        paths(),
        orderable,
    ),
    st.builds(
        lambda compare, path, other: compare(path, other),
        st.sampled_from(COMPARISONS),
        paths(),
        paths(),
    ),
    st.builds(
        lambda path, options: path.is_in(options), paths(), st.lists(values, min_size=1, max_size=3)
    ),
    st.builds(
        _between,
        paths(),
        st.one_of(*(st.lists(kind, min_size=2, max_size=2) for kind in (texts, numbers, binaries))),
    ),
    st.builds(lambda path, affix: path.startswith(affix), paths(), st.one_of(texts, binaries)),
    st.builds(lambda path, affix: path.endswith(affix), paths(), st.one_of(texts, binaries)),
    st.builds(lambda path, member: path.contains(member), paths(), values),
    st.builds(lambda path: path.exists(), paths()),
    st.builds(lambda path, kind: path.is_type(kind), paths(), st.sampled_from(TYPES)),
    st.builds(_changed, shorthand_paths, maybe, maybe),
    st.builds(added, shorthand_paths),
    st.builds(removed, shorthand_paths),
    st.builds(lambda path, bound: crossed(path, above=bound), shorthand_paths, orderable),
    st.builds(lambda path, bound: crossed(path, below=bound), shorthand_paths, orderable),
)
often = st.one_of(*[leaves] * 5, functions)
filters: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(operator.and_, inner, inner),
        st.builds(operator.or_, inner, inner),
        st.builds(operator.invert, inner),
        st.builds(operator.and_, leaves, often),
        st.builds(operator.or_, leaves, often),
    ),
    max_leaves=3,
)
some_filters = st.lists(
    st.one_of(*[leaves] * 4, *[filters] * 4, functions), max_size=1
) | st.tuples(leaves, filters)


def nothing() -> None:
    """Handle any record."""


def nothing_of(records: list[Record]) -> None:
    """Handle any batch."""


@st.composite
def routers(draw: st.DrawFn, number: int) -> Router:
    router = Router(
        when=draw(st.one_of(*[st.just(())] * 3, st.tuples(leaves))),
        table=draw(st.sampled_from([None, "t", "t"])),
        match=draw(st.sampled_from(["all", "first"])),
    )
    for nth in range(draw(st.sampled_from([1, 1, 2]))):
        when = draw(some_filters)
        name = f"r{number}.{nth}"
        events = draw(st.sets(st.sampled_from(list(EventName)), min_size=1))
        kind = draw(
            st.sampled_from(["on", "on", "on", "on", "remove", "expire", "batch", "latest"])
        )
        if kind == "on":
            router.on(*events, when=when, name=name)(nothing)
        elif kind == "remove":
            ttl = draw(st.sampled_from([None, True, False]))
            router.on_remove(*when, ttl=ttl, name=name)(nothing)
        elif kind == "expire":
            attribute = draw(st.sampled_from([None, "a", "b"]))
            router.on_expire(*when, ttl_attribute=attribute, name=name)(nothing)
        else:
            latest = kind == "latest" and draw(st.booleans())
            router.on_batch(*events, when=when, latest_only=latest, name=name)(nothing_of)
    return router


@st.composite
def apps(draw: st.DrawFn) -> App:
    """An App with up to six routes of table t, or of any, and maybe one of another table."""
    chosen = [draw(routers(number)) for number in range(draw(st.sampled_from([1, 1, 1, 2, 3])))]
    other = Router(table="u")
    other.on_any(F.new.a == "other", name="other")(nothing)
    if draw(st.booleans()):
        chosen.append(other)
    try:
        return App(*chosen)
    except RegistrationError as error:
        assert "is never true on" in str(error)
        reject()
