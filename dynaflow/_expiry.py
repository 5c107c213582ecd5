"""Deletes by Time to Live: known by their mark, or by what the item itself said.

The replicas of a global table get the delete that another region's Time to Live made as a plain
one, without ``userIdentity``; only the item's own attribute tells it there. DynamoDB acts on
numbers alone, and never on one more than five years in the past (Amazon DynamoDB Developer Guide,
"Using time to live (TTL) in DynamoDB").
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from dynaflow._paths import MISSING, PathRef
from dynaflow.errors import MalformedValue
from dynaflow.filters import Filter
from dynaflow.record import EventName, Record
from dynaflow.values import canonical, type_of

__all__ = ["TTLDelete"]

_FIVE_YEARS = 5 * 365 * 24 * 3600  # seconds


@dataclass(frozen=True, slots=True, repr=False)
class TTLDelete(Filter):
    """The record is a delete by Time to Live, by its mark or by an attribute of the old image.

    Args:
        path: the attribute, of the old image: seconds since the epoch. None for the mark only.
        now: the time in seconds since the epoch, for records that do not say when they were made.
    """

    path: PathRef | None = None
    now: Callable[[], float] = field(default=time.time, compare=False)

    def __call__(self, record: Record) -> bool:
        if record.is_ttl_delete:
            return True
        if self.path is None or record.event_name is not EventName.REMOVE:
            return False
        return self._had_expired(record, self.path)

    def _had_expired(self, record: Record, path: PathRef) -> bool:
        value = path.find(record, self)
        try:
            if value is MISSING or type_of(value) != "N":
                return False
            expires_at = canonical(value)[1]
        except MalformedValue as error:
            raise path.located(error) from None
        written = record.created_at
        at = self.now() if written is None else written.timestamp()
        return at - _FIVE_YEARS <= expires_at <= at  # type: ignore[operator]  # of N: a Decimal

    def __repr__(self) -> str:
        return "ttl" if self.path is None else f"ttl_attribute={self.path.segments[0]!r}"
