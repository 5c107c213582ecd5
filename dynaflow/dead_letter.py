"""What a dead letter holds: the whole record, and why it is there.

A letter is data and nothing else: JSON with a schema, from which nothing is imported or evaluated.
Where letters go is for the sinks in ``dynaflow/dead_letters/``, or any callable.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from hashlib import sha256
from math import inf
from typing import Any, Literal, Protocol, Self, TypeAlias, TypeGuard, get_args

from dynaflow._kinesis import named_table
from dynaflow._plain import FEWEST, MOST, Plain, as_in_lambda, bare
from dynaflow._told import cut, message_of, traceback_of, type_of
from dynaflow.codec import decode_records
from dynaflow.errors import DeadLetterError, EventError, MalformedRecord
from dynaflow.record import Record, Undecodable, table_of

__all__ = ["MAX_BYTES", "DeadLetter", "DeadLetterRecord", "Pointer", "Reason"]

Reason: TypeAlias = Literal["non_retryable", "undecodable", "deliveries", "over_age"]

MAX_BYTES = 32 * 2**20
"""The longest letter that is read. A record of two images of 400 KB needs less, however escaped."""

_VERSION = 1
_MAX_TRACEBACK = 16 * 2**10  # bytes
_MAX_ERROR = 4 * 2**10
_BRIEF = 2**10  # bytes of either, where room is short
_MAX_COUNT = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Pointer:
    """Where to read a record that was too large for its dead letter: its stream, for 24 hours."""

    stream_arn: str
    """Empty if the event named none."""
    sequence_number: str
    event_id: str
    left_out: Mapping[str, int] = field(hash=False)
    """Bytes of JSON, by what it was: ``NewImage``, ``OldImage``, ``other``."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DeadLetterRecord:
    """A record that was given up for one route, whole, and why. Make one with ``of``.

    It holds item data: in ``raw``, and perhaps in ``error`` and ``traceback``. ``repr`` and ``str``
    show none of it.
    """

    raw: Any = field(hash=False)
    """The record as Lambda would hand it over, whatever read it: a dict that ``json.dumps`` takes,
    binaries as base64 text. What was no mapping to begin with is no mapping here."""
    is_exact: bool = True
    """False if ``raw`` holds texts such as ``<object ...>`` for what JSON cannot say."""
    source_arn: str
    """The stream's ARN; empty if the event names none."""
    sequence_number: str
    event_id: str
    """Empty if the record has none."""
    route: str | None
    """The one route that it was given up for; None for a record that cannot be read."""
    reason: Reason
    """``non_retryable``: a further try would not help; ``undecodable``: it cannot be read;
    ``deliveries``: it failed as often as ``after_deliveries=`` allows; ``over_age``: too old."""
    error_type: str
    """The exception's class with its module."""
    error: str
    """The exception's message, up to 4 KB."""
    traceback: str
    """With the chain of causes; up to 16 KB, cut in the middle."""
    attempts: int
    """How often the route was called in the last delivery."""
    deliveries: int
    """How many deliveries failed, the last one included."""
    parked_at: float
    """Seconds since the epoch."""
    pointer: Pointer | None = None
    """What was left out of ``raw``, because the sink takes no letter that large; None if nothing
    was."""

    @classmethod
    def of(
        cls,
        record: Record | Undecodable,
        *,
        route: str | None,
        error: BaseException,
        reason: Reason,
        attempts: int,
        deliveries: int,
        parked_at: float,
    ) -> Self:
        """Return the letter of a record. Never fails, whatever an undecodable record holds.

        Args:
            record: what is given up; it is copied.
            route: the route's name; None if no route could be asked.
            error: what the last attempt raised.
            reason: why there is no further one.
            attempts: calls in the last delivery.
            deliveries: deliveries that failed.
            parked_at: the time, in seconds since the epoch.
        """
        plain = Plain()
        raw = as_in_lambda(plain.of(record.raw), record.source_arn)
        event_id = raw.get("eventID") if isinstance(raw, dict) else None
        return cls(
            raw=raw,
            is_exact=plain.is_exact,
            source_arn=record.source_arn,
            sequence_number=record.sequence_number,
            event_id=event_id if isinstance(event_id, str) else "",
            route=route,
            reason=reason,
            error_type=type_of(error),
            error=cut(message_of(error), _MAX_ERROR),
            traceback=cut(traceback_of(error), _MAX_TRACEBACK),
            attempts=attempts,
            deliveries=deliveries,
            parked_at=parked_at,
        )

    @property
    def id(self) -> str:
        """32 hexadecimal digits, the same whenever this record is parked for this route."""
        change = [self.source_arn, self.event_id, self.sequence_number, self.route]
        return sha256(json.dumps(change).encode("ascii")).hexdigest()[:32]

    @property
    def has_images(self) -> bool:
        """False if the record's images had to be left out; ``pointer`` says where they are."""
        return self.pointer is None

    def record(self) -> Record | Undecodable:
        """Return the record, decoded again. Where images were left out it has none."""
        try:
            return decode_records([self.raw], self.source_arn)[0]
        except EventError:  # it has no sequence number of its own
            return Undecodable(
                self.raw,
                reason=MalformedRecord("the record is not one of DynamoDB Streams"),
                sequence_number=self.sequence_number,
                position=int(self.sequence_number) if _is_number(self.sequence_number) else 0,
                source_arn=self.source_arn,
                keys=None,
            )

    def to_json(self) -> str:
        """Return the letter as one line of ASCII."""
        written = {name: getattr(self, name) for name in _NAMES}
        if self.pointer is not None:
            written["pointer"] = asdict(self.pointer)
        written = {"version": _VERSION, "id": self.id, **written}
        return json.dumps(written, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a letter that ``to_json`` wrote.

        Raises:
            DeadLetterError: it is none, it is damaged, it is longer than ``MAX_BYTES``, or a newer
                version of dynaflow wrote it. The message names the field, never what it holds.
        """
        written = _read(text)
        for name, is_right in _CHECKS.items():
            if name not in written:
                raise _unreadable(f"it has no {name!r}")
            if not is_right(written[name]):
                raise _unreadable(f"its {name!r} is not what it should be")
        values = {name: written[name] for name in _NAMES}
        if (pointer := values["pointer"]) is not None:
            values["pointer"] = Pointer(**{name: pointer[name] for name in _POINTER_CHECKS})
        return cls(**values)

    def without_images(self) -> Self:
        """Return the letter with a pointer instead of the images: keys and position stay."""
        raw, left_out = bare(self.raw, MOST)
        return replace(self, raw=raw, pointer=self._pointer(left_out))

    def within(self, max_bytes: int) -> Self:
        """Return the letter as it fits into so many bytes of JSON, with as much as there is room.

        First the traceback is cut, so that the record stays whole; then the images go; in the end
        the keys, too.

        Raises:
            DeadLetterError: even what names the record does not fit.
        """
        steps: tuple[Callable[[], Self], ...] = (
            lambda: self,
            self._briefly,
            self.without_images,
            lambda: self.without_images()._briefly(),
            self._barest,
        )
        for step in steps:
            letter = step()
            if len(letter.to_json()) <= max_bytes:
                return letter
        raise DeadLetterError(
            f"the dead letter of record {self.sequence_number} does not fit into {max_bytes} "
            "bytes, even without its images. Give it a sink that takes more."
        )

    def _briefly(self) -> Self:
        return replace(self, error=cut(self.error, _BRIEF), traceback=cut(self.traceback, _BRIEF))

    def _barest(self) -> Self:
        raw, left_out = bare(self.raw, FEWEST)
        return replace(self, raw=raw, error="", traceback="", pointer=self._pointer(left_out))

    def _pointer(self, left_out: Mapping[str, int]) -> Pointer:
        before = {} if self.pointer is None else self.pointer.left_out
        return Pointer(
            stream_arn=self.source_arn,
            sequence_number=self.sequence_number,
            event_id=self.event_id,
            left_out={**before, **left_out},
        )

    def __repr__(self) -> str:
        table = table_of(self.source_arn) or named_table(self.raw) or "?"
        what = f"{table} {self.sequence_number}"
        return f"<DeadLetterRecord {self.id} {self.reason}: {what} for {self.route}>"


class DeadLetter(Protocol):
    """Where records go that are given up: any callable that takes a letter.

    It may be sync, and is called in a worker thread; or async, and is awaited on the event loop. An
    attribute ``is_async: bool`` says which; without one it is looked at: ``async def``, also as the
    ``__call__`` of an object, is async.

    When it returns, or its awaitable does, the letter is durable: the record then counts as done,
    and the stream forgets it. It raises when the letter was not taken; the record is then not done
    and comes again. It may be called with the same letter (the same ``id``) any number of times, at
    the same time, too; what is not the letter's record, such as the time, may differ then. It must
    not change the letter.
    """

    def __call__(self, letter: DeadLetterRecord, /) -> Awaitable[None] | None:
        """Keep the letter."""
        ...


def _read(text: str | bytes) -> dict[str, Any]:
    if len(text) > MAX_BYTES:
        raise _unreadable(f"it is longer than {MAX_BYTES} bytes")
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        written = json.loads(text)
    except (ValueError, RecursionError):
        raise _unreadable("it is not JSON") from None  # which would be quoted
    if not isinstance(written, dict):
        raise _unreadable("it is not an object")
    for name, what in _FOREIGN.items():
        if name in written:
            raise _unreadable(what)
    version = written.get("version")
    if not _is_count(version) or version < _VERSION:
        raise _unreadable("it has no 'version' that dynaflow ever wrote")
    if version > _VERSION:
        raise _unreadable("a newer version of dynaflow wrote it, so update this one")
    plain = Plain(most=inf)  # there are no more than the text has room for
    written = {name: plain.of(value) for name, value in written.items()}
    if not plain.is_exact:
        raise _unreadable("it is nested too deeply, or holds a number that is none")
    return written


# What else comes into such queues, by a name that it has.
_FOREIGN = {
    "DDBStreamBatchInfo": "it is Lambda's message about records, which 'dynaflow recover' reads",
    "TopicArn": "a topic wrapped it; the letter is its 'Message'. Subscribe the queue with "
    "RawMessageDelivery",
}


def _unreadable(why: str) -> DeadLetterError:
    return DeadLetterError(f"this is no dead letter that can be read: {why}")


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_COUNT


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_number(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 4300


def _is_left_out(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_count, value.values()))


_POINTER_CHECKS: dict[str, Callable[[Any], bool]] = {
    "stream_arn": _is_text,
    "sequence_number": _is_number,
    "event_id": _is_text,
    "left_out": _is_left_out,
}


def _is_pointer(value: object) -> bool:
    return isinstance(value, dict) and all(
        name in value and is_right(value[name]) for name, is_right in _POINTER_CHECKS.items()
    )


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "raw": lambda value: True,
    "is_exact": lambda value: isinstance(value, bool),
    "source_arn": _is_text,
    "sequence_number": _is_number,
    "event_id": _is_text,
    "route": lambda value: value is None or isinstance(value, str),
    "reason": lambda value: value in get_args(Reason),
    "error_type": _is_text,
    "error": _is_text,
    "traceback": _is_text,
    "attempts": _is_count,
    "deliveries": _is_count,
    "parked_at": lambda value: (
        isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 10**12
    ),
    "pointer": lambda value: value is None or _is_pointer(value),
}
_NAMES = tuple(each.name for each in fields(DeadLetterRecord))
