"""Every error that dynaflow raises.

DynaflowError
├── RegistrationError      a mistake seen before any record: at a decorator or at App(...)
├── EventError             the event is not one that a DynamoDB stream delivers; fails as a whole
├── RecordsFailed          some record is not done, and the caller can take only an exception
├── ThreadsExhausted       too many calls outlived their deadline and still run
├── ViewTypeMismatch       the stream leaves out an image that a route asks for; nothing is run
├── TargetError            "module:attribute" does not lead to an App or a Router
├── PackageError           the zip of a Lambda function could not be made
├── ExtraMissing           an optional dependency is not installed
├── SourceError            a stream could not be read; the read may be tried again
│   ├── StreamRefused      it cannot be read at all: no stream, no permission, wrong region
│   ├── ShardGone          the shard is no longer kept by the service
│   └── RecordsTrimmed     the position is older than the 24 hours that a stream keeps
├── StoreError             a checkpoint or a mark could not be read or written; may be tried again
│   └── StoreRefused       the store cannot be trusted: corrupt, foreign, or newer than this version
├── TransactionError       a transaction was not committed this time; may be tried again
├── DeadLetterError        a dead letter could not be put where it belongs, so nothing is done
├── InProgress             another delivery works on the same record right now; it comes again
├── RetryAfter             a handler wants to be called again, after so many seconds
├── Skip                   a handler leaves the record alone: done, and counted apart
│   └── AlreadyDone        an earlier delivery has done it: done, and not called again
└── NonRetryable           the same record would fail in the same way again
    ├── MalformedValue     an attribute value that DynamoDB could not have written
    ├── MalformedRecord    a record that DynamoDB could not have written
    ├── OrderUnknown       which records this one must not overtake cannot be told
    ├── ImageMissing       a handler or a filter needs an image that the stream does not carry
    ├── InvalidImage       an image that the handler's model does not accept
    ├── TransactionConditionFailed  a condition of a handler's transaction is not true
    ├── TransactionRefused a transaction that DynamoDB does not take
    └── Unmatched          no route takes the record, and App(unmatched="fail") wants one to

Messages name paths and types, never values: what an item holds is not for logs.
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "AlreadyDone",
    "DeadLetterError",
    "DynaflowError",
    "EventError",
    "ExtraMissing",
    "ImageMissing",
    "InProgress",
    "InvalidImage",
    "MalformedRecord",
    "MalformedValue",
    "NonRetryable",
    "OrderUnknown",
    "PackageError",
    "RecordsFailed",
    "RecordsTrimmed",
    "RegistrationError",
    "RetryAfter",
    "ShardGone",
    "Skip",
    "SourceError",
    "StoreError",
    "StoreRefused",
    "StreamRefused",
    "TargetError",
    "ThreadsExhausted",
    "TransactionConditionFailed",
    "TransactionError",
    "TransactionRefused",
    "Unmatched",
    "ViewTypeMismatch",
]


class DynaflowError(Exception):
    """The base of every error that dynaflow raises on purpose."""


class RegistrationError(DynaflowError):
    """A handler, filter, router or app is declared in a way that cannot work."""


class EventError(DynaflowError):
    """The event as a whole is not one that a DynamoDB stream delivers."""


class RecordsFailed(DynaflowError):
    """Some record is not done, so the whole batch has to come again."""


class ThreadsExhausted(DynaflowError):
    """As many calls outlived their deadline, and still run, as there are threads for them."""


class ViewTypeMismatch(DynaflowError):
    """The stream's view type leaves out an image that a route asks for, so nothing of it is run."""


class TargetError(DynaflowError):
    """A "module:attribute" string does not lead to an App or a Router.

    Args:
        message: fact, cause and remedy.
        usage: True when the string itself is wrong, False when what it names is not there.
    """

    def __init__(self, message: str, *, usage: bool = False) -> None:
        super().__init__(message)
        self.usage = usage


class PackageError(DynaflowError):
    """The zip of a Lambda function could not be made; one that was there is as it was."""


class ExtraMissing(DynaflowError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} is not installed. Install it with: pip install 'dynaflow[{extra}]'"
        )
        self.extra = extra


class SourceError(DynaflowError):
    """A stream could not be read this time; the same read may be tried again."""


class StreamRefused(SourceError):
    """The stream cannot be read at all: it is not there, or not for these credentials."""


class ShardGone(SourceError):
    """The service no longer keeps this shard."""


class RecordsTrimmed(SourceError):
    """The position is older than the records that the shard still has (24 hours)."""


class StoreError(DynaflowError):
    """A checkpoint, or a mark of what is done, could not be read or written this time."""


class StoreRefused(StoreError):
    """A store of checkpoints or marks cannot be trusted, so nothing may be read with it."""


class Skip(DynaflowError):
    """Raised by a handler to leave a record alone: it is done for this route, and counted apart.

    Args:
        reason: why, in words of yours; it is logged at INFO, so it should name no item data.
    """

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason

    @property
    def because(self) -> BaseException:
        """What the record is skipped for: the InvalidImage that this was raised from, or itself."""
        cause = self.__cause__
        return cause if isinstance(cause, InvalidImage) else self


class AlreadyDone(Skip):
    """An earlier delivery has done this already, so it is done now, and nothing is called.

    Args:
        reason: how that is known; never item data.
        records: of a batch route's call, those that are done; the others are called again, at once
            and without them. Empty for all.
    """

    def __init__(self, reason: str = "", records: Iterable[object] = ()) -> None:
        super().__init__(reason)
        self.records = tuple(records)


class DeadLetterError(DynaflowError):
    """A sink did not take a dead letter, or one cannot be read back; nothing counts as done."""


class TransactionError(DynaflowError):
    """A handler's transaction was not committed this time, or its answer was lost.

    It may be tried again: if it was committed after all, its marks tell.
    """


class InProgress(DynaflowError):
    """Another delivery works on the same record right now: not done here, and no failure of it."""


class RetryAfter(DynaflowError):
    """Raised by a handler to be called again after a while, within the same delivery.

    It counts as an attempt; a route without ``retry=`` gets as many as ``Retry()`` has. Where the
    time does not fit in before the deadline, the record is not done and comes again.

    Args:
        seconds: how long to wait.
        reason: why, in words of yours; it is logged, so it should name no item data.
    """

    def __init__(self, seconds: float, reason: str = "") -> None:
        if not seconds >= 0:
            raise ValueError(f"RetryAfter(seconds) is not negative, got {seconds!r}")
        super().__init__(reason or f"to be called again after {seconds} s")
        self.seconds = seconds
        self.reason = reason


class NonRetryable(DynaflowError):
    """The same record would fail in the same way again.

    Handlers may raise it, too, to say that a further try cannot help.
    """


class MalformedValue(NonRetryable):
    """An attribute value that DynamoDB could not have written.

    Args:
        reason: what is wrong, by type and never by value.
        path: attribute names (str) and list indexes (int), outermost first.
    """

    def __init__(self, reason: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def inside(self, segment: str | int) -> MalformedValue:
        """Return the same error as it is seen from one level further out."""
        return type(self)(self.reason, (segment, *self.path))

    def __str__(self) -> str:
        where = "".join(f"[{segment!r}]" for segment in self.path)
        return f"malformed attribute value{' at ' + where if where else ''}: {self.reason}"


class MalformedRecord(NonRetryable):
    """A record that DynamoDB could not have written."""


class OrderUnknown(NonRetryable):
    """Which records this one must not overtake cannot be told, so nothing above it starts."""


class ImageMissing(NonRetryable):
    """A handler or a filter needs an image that this record does not carry."""


class InvalidImage(NonRetryable):
    """An image that the handler's model does not accept."""


class TransactionRefused(NonRetryable):
    """DynamoDB does not take such a transaction: its message says what is wrong with it."""


class TransactionConditionFailed(NonRetryable):
    """A condition of a handler's transaction is not true, so nothing of it was written.

    Args:
        index: which write it is, from 0, in the order in which the handler wrote them.
        table: its table.
        operation: "put", "update", "delete" or "condition_check".
    """

    def __init__(self, index: int, table: str, operation: str) -> None:
        super().__init__(index, table, operation)
        self.index = index
        self.table = table
        self.operation = operation

    def __str__(self) -> str:
        return (
            f"the condition of write {self.index + 1} ({self.operation}, table {self.table!r}) is "
            "not true, so nothing of the transaction was written"
        )


class Unmatched(NonRetryable):
    """No route takes this record, and ``App(unmatched="fail")`` says that one should."""
