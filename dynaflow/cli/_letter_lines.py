"""A dead letter as it is told to a reader: what the item holds only where that is asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from dynaflow.cli._letters import Letter, moment
from dynaflow.record import Record
from dynaflow.values import harmless

__all__ = ["data_of", "facts_of", "lines_of", "more_of"]

_TITLES = {
    "id": "id",
    "parkedAt": "parked at",
    "route": "route",
    "table": "table",
    "eventName": "event",
    "sequenceNumber": "sequence number",
    "reason": "reason",
    "errorType": "error",
    "attempts": "attempts",
    "deliveries": "deliveries",
    "hasImages": "images",
    "eventID": "event id",
    "streamARN": "stream",
}
_FRAME = re.compile(r'[ |+]*File "[^"]*", line \d+, in \S+')


def facts_of(letter: Letter) -> dict[str, Any]:
    """Return what a letter says, without what the item holds."""
    said, record = letter.letter, letter.record
    return {
        "id": letter.id,
        "parkedAt": moment(said.parked_at),
        "route": said.route,
        "table": record.table,
        "eventName": record.event_name.value if isinstance(record, Record) else None,
        "sequenceNumber": said.sequence_number,
        "reason": said.reason,
        "errorType": said.error_type,
        "attempts": said.attempts,
        "deliveries": said.deliveries,
        "hasImages": said.has_images,
    }


def more_of(letter: Letter) -> dict[str, Any]:
    """Return what else a letter says without what the item holds."""
    said = letter.letter
    return {
        "eventID": said.event_id,
        "streamARN": said.source_arn,
        "isExact": said.is_exact,
        "leftOut": None if said.pointer is None else dict(said.pointer.left_out),
        "frames": list(_frames(said.traceback)),
    }


def data_of(letter: Letter) -> dict[str, Any]:
    """Return the rest: the record, and the error's own words, which may quote it."""
    said = letter.letter
    return {"error": said.error, "traceback": said.traceback, "record": said.raw}


def _frames(traceback: str) -> Iterator[str]:
    """Yield where the error was raised: file, line and function, none of its words."""
    for line in traceback.splitlines():
        if _FRAME.fullmatch(line):
            yield line.strip(" |+")


def lines_of(letter: Letter, *, show_data: bool) -> Iterator[str]:
    """Yield a letter's lines for a reader."""
    more = more_of(letter)
    facts = {**facts_of(letter), **{name: more[name] for name in ("eventID", "streamARN")}}
    if more["leftOut"] is not None:
        sizes = (f"{harmless(name)} ({size} bytes)" for name, size in more["leftOut"].items())
        facts["hasImages"] = f"no, it was too large: {', '.join(sizes)}"
    for name, value in facts.items():
        yield f"{_TITLES[name]:<16} {_shown(value)}".rstrip()
    if not more["isExact"]:
        yield "The record held what JSON has nothing for; texts stand for it."
    if not show_data:
        yield from (f"  {harmless(line)}" for line in more["frames"])
        return
    said = letter.letter
    yield from map(harmless, said.traceback.splitlines() or [said.error])
    yield from json.dumps(said.raw, indent=2).splitlines()


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return ("yes" if value else "no") if isinstance(value, bool) else harmless(str(value))
