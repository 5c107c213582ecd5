"""What travels: records and their images.

A ``Record`` is a thin view of the wire's JSON. Nothing is decoded before it is read.
Field semantics: Amazon DynamoDB Streams API reference, ``Record`` and ``StreamRecord``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from dynaflow.errors import DynaflowError, MalformedRecord, MalformedValue
from dynaflow.values import decode, json_default, to_boto

if TYPE_CHECKING:
    from dynaflow.diff import Diff

__all__ = [
    "EventName",
    "Image",
    "Record",
    "Undecodable",
    "table_of",
]


class EventName(StrEnum):
    """What happened to the item."""

    INSERT = "INSERT"
    MODIFY = "MODIFY"
    REMOVE = "REMOVE"


class Image(Mapping[str, Any]):
    """An item's attributes, each decoded when it is read.

    A read-only mapping. Lists, maps and sets are decoded afresh at every read, so that no handler
    sees what another one did to them. ``repr`` shows no data.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self.raw = raw
        """The wire form. Do not write it back: in a Lambda event its binaries are base64 text."""

    def __getitem__(self, name: str) -> Any:
        try:
            return decode(self.raw[name])
        except MalformedValue as error:
            raise error.inside(name) from None

    def __contains__(self, name: object) -> bool:
        return name in self.raw

    def __iter__(self) -> Iterator[str]:
        return iter(self.raw)

    def __len__(self) -> int:
        return len(self.raw)

    # Does what Mapping's own does; but only with this one does mypy let an ``Image | None``, such
    # as ``record.new``, be compared with a dict.
    def __eq__(self, other: object) -> bool:
        return self.to_dict() == dict(other) if isinstance(other, Mapping) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # unhashable, as a dict is that it may equal

    def __repr__(self) -> str:
        return f"<Image with {len(self.raw)} attributes>"

    def to_dict(self) -> dict[str, Any]:
        """Return all attributes as Python values.

        Raises:
            MalformedValue: an attribute that DynamoDB could not have written.
        """
        return {name: self[name] for name in self.raw}

    def to_dynamodb(self) -> dict[str, Any]:
        """Return typed values with binaries as bytes: what boto3's client takes as ``Item=``.

        Raises:
            MalformedValue: an attribute that DynamoDB could not have written.
        """
        item = {}
        for name, value in self.raw.items():
            try:
                item[name] = to_boto(value)
            except MalformedValue as error:
                raise error.inside(name) from None
        return item

    def to_json(self) -> str:
        """Return the attributes as JSON text; ``dynaflow.json_default`` has the rules.

        Raises:
            MalformedValue: an attribute that DynamoDB could not have written.
        """
        return json.dumps(self.to_dict(), default=json_default)


# Slots by hand, not a dataclass: thousands are made per batch, and ``raw`` is all they hold.
class Record:
    """One change of one item.

    ``position`` is the sequence number as an int, the only thing that is ever compared: as text,
    numbers of 21 and of 28 digits order wrongly. Of a record that came through Kinesis it is the
    number there, which may differ from the order of an item's changes.
    """

    __slots__ = (
        "_diff",
        "_stream",
        "event_name",
        "is_backfill",
        "position",
        "raw",
        "sequence_number",
        "source_arn",
    )

    shares_stream: ClassVar[bool] = False
    """True for records of a stream that several tables may share, such as one of Kinesis."""

    def __init__(
        self,
        raw: Mapping[str, Any],
        *,
        event_name: EventName,
        sequence_number: str,
        position: int,
        source_arn: str,
        is_backfill: bool = False,
    ) -> None:
        self.raw = raw
        """The record as it came: ``eventID``, ``eventName``, ``dynamodb``, …"""
        self.event_name = event_name
        self.sequence_number = sequence_number
        self.position = position
        self.source_arn = source_arn
        """The ARN of the stream, also of a Kinesis stream; empty if the event names none."""
        self.is_backfill = is_backfill
        """True if the record was made from a scanned item, not from a change."""
        self._stream: Mapping[str, Any] = raw["dynamodb"]

    @property
    def event_id(self) -> str:
        """The service's id of this change, the same at every delivery; empty if there is none."""
        event_id = self.raw.get("eventID")
        return event_id if isinstance(event_id, str) else ""

    @property
    def identity(self) -> tuple[str, ...]:
        """What names this change, and no other one, at every delivery.

        The stream's ARN, the event id and the sequence number. Through Kinesis, where a change may
        come under several sequence numbers: the stream's ARN, the table's name and the event id.
        """
        return self.source_arn, self.event_id, self.sequence_number

    @property
    def keys(self) -> Image:
        """The item's primary key: one or two attributes."""
        return Image(self._stream["Keys"])

    @property
    def new(self) -> Image | None:
        """The item after the change; None where the event or the view type has none."""
        raw = self._stream.get("NewImage")
        return None if raw is None else Image(raw)

    @property
    def old(self) -> Image | None:
        """The item before the change; None where the event or the view type has none."""
        raw = self._stream.get("OldImage")
        return None if raw is None else Image(raw)

    @property
    def diff(self) -> Diff:
        """What the change changed; compared when it is read, and only once.

        Raises:
            ImageMissing: an image that the event has, and the stream's view type leaves out.
        """
        try:
            return self._diff
        except AttributeError:
            from dynaflow.diff import Diff

            self._diff: Diff = Diff(self)
            return self._diff

    @property
    def created_at(self) -> datetime | None:
        """When the change was written, in UTC; None if the record says nothing.

        DynamoDB rounds it down to the second, and what comes through Kinesis to the millisecond or
        the microsecond; so it neither identifies changes nor, but for these, orders them.

        Raises:
            MalformedRecord: it says something that is not a time.
        """
        return _time_of(self._stream.get("ApproximateCreationDateTime"))

    @property
    def table(self) -> str | None:
        """The table's name, from the stream's ARN; None if there is no such ARN.

        A record that came through Kinesis names its table itself.
        """
        return table_of(self.source_arn)

    @property
    def view_type(self) -> str | None:
        """KEYS_ONLY, NEW_IMAGE, OLD_IMAGE or NEW_AND_OLD_IMAGES; None if the record has none."""
        view_type = self._stream.get("StreamViewType")
        return view_type if isinstance(view_type, str) else None

    @property
    def size_bytes(self) -> int | None:
        """The size of keys and images as DynamoDB counts it; None if the record says nothing."""
        size = self._stream.get("SizeBytes")
        return size if isinstance(size, int) else None

    @property
    def is_ttl_delete(self) -> bool:
        """True for a delete by Time to Live.

        Its mark is spelt ``type``, ``principalId`` in a Lambda event, ``Type``, ``PrincipalId`` in
        the API's answers.
        """
        identity = self.raw.get("userIdentity")
        if self.event_name is not EventName.REMOVE or not isinstance(identity, Mapping):
            return False
        kind = identity.get("type", identity.get("Type"))
        principal = identity.get("principalId", identity.get("PrincipalId"))
        return bool(kind == "Service" and principal == "dynamodb.amazonaws.com")

    def __repr__(self) -> str:
        return f"<Record {self.event_name} {self.table or '?'} {self.sequence_number}>"


class Undecodable:
    """A record that cannot be read: it is failed from the start and keeps its place in the stream.

    Args:
        raw: the record as it came.
        reason: what is wrong with it.
        keys: the item's key where it can be read, else None. Without it no order can be kept, so
            nothing above this record starts.
        table: the table's name, where several tables share the stream. None to take it from the
            stream's ARN.
    """

    __slots__ = (
        "keys",
        "position",
        "raw",
        "reason",
        "sequence_number",
        "shares_stream",
        "source_arn",
        "table",
    )

    def __init__(
        self,
        raw: Any,
        *,
        reason: DynaflowError,
        sequence_number: str,
        position: int,
        source_arn: str,
        keys: Image | None,
        table: str | None = None,
    ) -> None:
        self.raw = raw
        self.reason = reason
        self.sequence_number = sequence_number
        self.position = position
        self.source_arn = source_arn
        self.keys = keys
        self.shares_stream = table is not None
        self.table = table_of(source_arn) if table is None else table

    def __repr__(self) -> str:
        return f"<Undecodable {self.sequence_number}: {self.reason}>"


def table_of(arn: str) -> str | None:
    """Return the table's name in ``arn:…:table/NAME/stream/LABEL``; None if it is no such ARN."""
    _, found, rest = arn.partition(":table/")
    return rest.partition("/")[0] or None if found else None


def _time_of(value: Any) -> datetime | None:
    """Read a creation time: seconds as int, float or text, ISO 8601, or botocore's datetime."""
    if value is None:
        return None
    try:
        if isinstance(value, str) and "T" in value:
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            aware = value if value.tzinfo else value.replace(tzinfo=timezone.utc)
            return aware.astimezone(timezone.utc)
        if isinstance(value, (int, float, str, Decimal)) and not isinstance(value, bool):
            return datetime.fromtimestamp(float(value), timezone.utc)
    except (ValueError, OverflowError, OSError, InvalidOperation):
        pass  # the text is not quoted: one clear error below
    raise MalformedRecord("ApproximateCreationDateTime is not a time")
