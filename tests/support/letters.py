"""Dead letters for tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dynaflow.codec import decode_records
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.record import Record, Undecodable
from dynaflow.testing import RecordBuilder

__all__ = ["PARKED_AT", "MARK", "failed", "letter_of", "letters", "record_of"]

PARKED_AT = 1_767_225_700.5
MARK = "hush-4711"  # what no repr, error or log line may show


def failed(error: Exception) -> Exception:
    """Return the error as if it had been raised somewhere, for another one's sake."""
    try:
        try:
            raise KeyError("the cause")
        except KeyError as cause:
            raise error from cause
    except Exception as raised:
        return raised


def record_of(raw: Any, arn: str) -> Record | Undecodable:
    (record,) = decode_records([raw], arn)
    return record


def letter_of(
    record: Record | Undecodable, *, route: str | None = "shop.ship", **options: Any
) -> DeadLetterRecord:
    return DeadLetterRecord.of(
        record,
        route=route,
        **{
            "error": failed(ValueError(f"{MARK} is not a number")),
            "reason": "deliveries",
            "attempts": 3,
            "deliveries": 2,
            "parked_at": PARKED_AT,
            **options,
        },
    )


def letters(text: str = "x") -> Iterator[DeadLetterRecord]:
    """Yield letters of one stream, each of another item, without end."""
    builder = RecordBuilder(table="orders")
    number = 0
    while True:
        number += 1
        raw = builder.insert({"id": f"{MARK}-{number}", "text": text})
        yield letter_of(record_of(raw, builder.stream_arn))
