"""What sinks have in common: what is read back, errors, and calls of either kind of client."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dynaflow._aws import AwsClient, error_code
from dynaflow._kinesis import is_of_kinesis
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.errors import DeadLetterError, ExtraMissing
from dynaflow.values import harmless

__all__ = ["Kept", "attributes_of", "errors_of", "fitted", "in_groups", "log", "put", "read"]

log = logging.getLogger("dynaflow.dead_letters")

_MAX_ATTRIBUTE = 256  # characters


@dataclass(frozen=True, slots=True)
class Kept:
    """One thing that a sink has kept: a letter, or something that is none."""

    letter: DeadLetterRecord | None
    problem: str | None
    """Why there is no letter, where there is none; never item data."""
    receipt: Any = field(repr=False)
    """What the sink knows it by."""


@contextmanager
def errors_of(sink: str) -> Iterator[None]:
    """Turn what a client or a file raises into a DeadLetterError that names sink and error."""
    try:
        yield
    except (DeadLetterError, ExtraMissing):
        raise
    except Exception as error:
        raise DeadLetterError(
            f"{sink} failed with {_name_of(error)}. Check that it is there, that it may be used, "
            "and that it has room."
        ) from error


def put(
    sink: str, client: AwsClient, operation: str, arguments: Mapping[str, Any]
) -> Awaitable[None] | None:
    """Call the client here if it is boto3's; else return what is to be awaited."""
    if client.is_async(operation):
        return _put_async(sink, client, operation, arguments)
    with errors_of(sink):
        client.call_here(operation, **arguments)
    return None


async def _put_async(
    sink: str, client: AwsClient, operation: str, arguments: Mapping[str, Any]
) -> None:
    with errors_of(sink):
        await client.call(operation, **arguments)


def read(text: str | bytes, receipt: Any, where: str = "") -> Kept:
    """Return what a sink has kept as it is read."""
    try:
        return Kept(DeadLetterRecord.from_json(text), None, receipt)
    except DeadLetterError as error:
        return Kept(None, f"{where}{error}", receipt)


def attributes_of(letter: DeadLetterRecord) -> dict[str, dict[str, str]]:
    """Return message attributes, by which a subscriber can choose: no item data."""
    values = {"route": letter.route, "reason": letter.reason, "error_type": letter.error_type}
    return {
        # A value may not be empty, and holds no control characters.
        name: {"DataType": "String", "StringValue": harmless(value)[:_MAX_ATTRIBUTE]}
        for name, value in values.items()
        if value
    }


def fitted(
    sink: str,
    letter: DeadLetterRecord,
    max_bytes: int,
    attributes: Mapping[str, Mapping[str, str]],
) -> str:
    """Return the letter as JSON for a message that has these attributes, too, of so many bytes.

    Raises:
        DeadLetterError: even what names the record does not fit.
    """
    # Names, types and values of attributes count.
    texts = [text for name, value in attributes.items() for text in (name, *value.values())]
    left = max_bytes - sum(len(text.encode("utf-8", "replace")) for text in texts)
    fitting = letter.within(left)
    if letter.has_images and not fitting.has_images:
        log.warning(
            "letter %s is too large for %s: its images are kept by the stream alone, %s; a file or "
            "a bucket takes such records whole",
            letter.id,
            sink,
            "one of Kinesis, which dynaflow does not read by itself"
            if is_of_kinesis(letter.source_arn)
            else "for 24 hours. Run it again before that",
        )
    return fitting.to_json()


def in_groups(letter: DeadLetterRecord) -> dict[str, str]:
    """Return what a FIFO queue or topic wants besides.

    Within five minutes it drops what has the same deduplication id, though the first one may have
    been read and deleted. So only the same letter of the same moment counts as the same.
    """
    moment = round(letter.parked_at * 1000)
    return {"MessageGroupId": letter.id, "MessageDeduplicationId": f"{letter.id}-{moment}"}


def _name_of(error: Exception) -> str:
    """Return the type of an error, and the code that AWS gave: not its text, which may quote."""
    name = type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: {error.strerror}"
    code = error_code(error)
    return f"{name} ({code})" if code and code.isprintable() else name
