"""What may not run at the same time: the lane that a record belongs to. Pure."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from inspect import iscoroutinefunction
from typing import Literal, TypeAlias

from dynaflow.errors import MalformedRecord, MalformedValue, OrderUnknown, RegistrationError
from dynaflow.record import Image, Record, Undecodable
from dynaflow.values import canonical

__all__ = ["OrderBy", "Ordering", "checked_ordering", "item_of"]

OrderBy: TypeAlias = Literal["item", "partition_key", "shard"] | Callable[[Record], Hashable]


class Ordering:
    """Says which lane a record belongs to. Records that share a lane run one after the other.

    Args:
        by: "item": source and primary key. "partition_key": source and partition key. "shard": all
            records of a batch. A function of the record that gives all records of an item the same
            hashable value: this value.
        partition_key: the name of that attribute, or names by table. Records do not say which of
            two key attributes it is; where it is not given, "partition_key" keeps the order of the
            whole shard.
    """

    def __init__(
        self, by: OrderBy = "item", *, partition_key: str | Mapping[str, str] | None = None
    ) -> None:
        self._by = by
        self._partition_key = partition_key

    @property
    def is_chosen(self) -> bool:
        """True if a function of the user's chooses the lanes."""
        return callable(self._by)

    def lane_of(self, record: Record | Undecodable, keys: Image) -> Hashable:
        """Return the lane of a record.

        Args:
            record: the record.
            keys: its primary key.

        Raises:
            MalformedRecord: the key cannot be read.
            OrderUnknown: there is no such key attribute, or a function gave no lane.
        """
        if self._by == "item":
            return item_of(record, keys)
        if self._by == "shard":
            return (record.source_arn,)
        if self._by == "partition_key":
            return self._partition_lane(record, keys)
        return self._chosen_lane(self._by, record)

    def _partition_lane(self, record: Record | Undecodable, keys: Image) -> Hashable:
        name = self._partition_key
        if isinstance(name, Mapping):
            name = name.get(record.table or "")
        if name is None:
            return item_of(record, keys) if len(keys) == 1 else (record.source_arn,)
        if name not in keys.raw:
            raise OrderUnknown(
                f"the record has no key attribute {name!r}, which App(partition_key=...) names; "
                f"it has {', '.join(sorted(keys.raw))}. Nothing above this record starts"
            )
        part = _part(name, keys.raw[name])
        if record.shares_stream:
            return record.source_arn, record.table, part
        return record.source_arn, part

    def _chosen_lane(
        self, choose: Callable[[Record], Hashable], record: Record | Undecodable
    ) -> Hashable:
        if isinstance(record, Undecodable):
            raise OrderUnknown("a function in App(order_by=...) cannot be asked about this record")
        try:
            lane = choose(record)
            hash(lane)
        except (KeyboardInterrupt, MemoryError):
            raise
        except BaseException as error:  # its SystemExit is a failure of this record
            raise OrderUnknown(
                f"the function in App(order_by=...) gave no lane ({type(error).__name__}); nothing "
                "above this record starts"
            ) from error
        return record.source_arn, lane


def checked_ordering(by: OrderBy, partition_key: str | Mapping[str, str] | None) -> Ordering:
    """Return the ordering that an App is given.

    Raises:
        RegistrationError: it cannot work.
    """
    if not callable(by) and by not in ("item", "partition_key", "shard"):
        raise RegistrationError(
            f"order_by={by!r} is unknown: write 'item', 'partition_key', 'shard' or a function of "
            "the record"
        )
    if iscoroutinefunction(by):
        raise RegistrationError("order_by= takes a plain function of the record, not an async one")
    if partition_key is None:
        return Ordering(by)
    if by != "partition_key":
        raise RegistrationError(
            "partition_key= says nothing without order_by='partition_key': write both, or neither"
        )
    names = partition_key.values() if isinstance(partition_key, Mapping) else [partition_key]
    if not all(isinstance(name, str) and name for name in names):
        raise RegistrationError(
            "partition_key= takes an attribute's name, or a mapping from tables to such names"
        )
    return Ordering(by, partition_key=partition_key)


def item_of(record: Record | Undecodable, keys: Image) -> Hashable:
    """Return what all records of one item share: the stream and the primary key, by value.

    And the table, where others write to its stream, too.

    Raises:
        MalformedRecord: the key cannot be read.
    """
    parts = [_part(name, value) for name, value in keys.raw.items()]
    if len(parts) > 1:
        parts.sort(key=_by_name)
    if record.shares_stream:
        return record.source_arn, record.table, *parts
    return record.source_arn, *parts


def _part(name: str, value: object) -> tuple[str, Hashable]:
    try:
        return name, canonical(value)
    except MalformedValue as error:
        raise MalformedRecord(
            f"dynamodb.Keys cannot be read, so the item's order cannot be kept "
            f"({error.inside(name)}); nothing above this record starts"
        ) from None


def _by_name(part: tuple[str, object]) -> str:
    return part[0]
