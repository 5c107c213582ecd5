"""What a batch route is given: changes with typed images; and how it names those that failed."""

from __future__ import annotations

import operator
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from dynaflow._paths import refuse_if_left_out
from dynaflow.errors import DynaflowError
from dynaflow.record import EventName, Image, Record

__all__ = ["Change", "PartialFailure", "done_but_for", "positions_named"]

T_co = TypeVar("T_co", covariant=True)


class Change(Generic[T_co]):
    """One change among those that a batch route is called with: ``changes: list[Change[Order]]``.

    Args:
        record: the record.
        old: the item before the change, in the form that the handler asked for; None if the record
            has no such image.
        new: the item after the change, likewise.
    """

    __slots__ = ("_new", "_old", "record")

    def __init__(self, record: Record, old: T_co | None = None, new: T_co | None = None) -> None:
        self.record = record
        self._old = old
        self._new = new

    @property
    def old(self) -> T_co | None:
        """The item before the change; None on INSERT.

        Raises:
            ImageMissing: the stream's view type leaves it out.
        """
        if self._old is None:
            refuse_if_left_out("old", self.record, "this batch route reads")
        return self._old

    @property
    def new(self) -> T_co | None:
        """The item after the change; None on REMOVE.

        Raises:
            ImageMissing: the stream's view type leaves it out.
        """
        if self._new is None:
            refuse_if_left_out("new", self.record, "this batch route reads")
        return self._new

    @property
    def event_name(self) -> EventName:
        """What happened to the item."""
        return self.record.event_name

    @property
    def keys(self) -> Image:
        """The item's primary key."""
        return self.record.keys

    def __repr__(self) -> str:  # the images are item data, which is not for logs
        return f"<Change of {self.record!r}>"


class PartialFailure(DynaflowError):
    """A batch route raises it to say which of its changes are not done; the others are.

    Args:
        failed: who is not done: the changes or records themselves, or their positions in the list
            that the handler was given and has left as it was. At least one.
        reason: what happened to them, for the log; never item data.

    Raises:
        ValueError: ``failed`` is empty.
    """

    def __init__(self, failed: Iterable[int | Record | Change[Any]], reason: str = "") -> None:
        self.failed = tuple(failed)
        self.reason = reason
        if not self.failed:
            raise ValueError(
                "PartialFailure names nobody: raise it only if something failed, else return"
            )
        super().__init__(reason or f"{len(self.failed)} changes of the call failed")


def positions_named(
    error: PartialFailure, records: Sequence[Record], given: Sequence[Sequence[Any]]
) -> frozenset[int]:
    """Return which records of a call a PartialFailure names, by position; empty if unclear.

    Args:
        error: what the handler raised.
        records: those of the call.
        given: holds the list that the handler was called with last; a position counts only if it
            is as it was.
    """
    by_record = {id(record): at for at, record in enumerate(records)}
    positions = range(len(records)) if not given or _is_as_it_was(given[0], records) else range(0)
    named: set[int] = set()
    for failed in getattr(error, "failed", ()):  # a subclass may have forgotten it
        record = failed.record if isinstance(failed, Change) else failed
        if type(failed) is int and failed in positions:  # no bool: it would be position 0 or 1
            named.add(failed)
        elif isinstance(record, Record) and id(record) in by_record:
            named.add(by_record[id(record)])
        else:
            return frozenset()
    return frozenset(named)


def done_but_for(
    error: PartialFailure,
    records: Sequence[Record],
    lanes: Sequence[Hashable],
    given: Sequence[Sequence[Any]],
) -> list[Record]:
    """Return the records of a call that are done: neither named, nor behind one of their lane.

    Args:
        error: what the handler raised.
        records: those of the call.
        lanes: each record's.
        given: holds the list that the handler was called with last.
    """
    named = positions_named(error, records, given)
    if not named or len(lanes) != len(records):
        return []
    broken, done = set(), []
    for at, (record, lane) in enumerate(zip(records, lanes, strict=True)):
        if at in named:
            broken.add(lane)
        elif lane not in broken:
            done.append(record)
    return done


def _is_as_it_was(given: Sequence[Any], records: Sequence[Record]) -> bool:
    now = [one.record if isinstance(one, Change) else one for one in given]
    return len(now) == len(records) and all(map(operator.is_, now, records))
