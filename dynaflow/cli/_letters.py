"""Dead letters at a desk: opened, read whole, chosen among by the beginning of their ids."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Annotated, TypeAlias

import typer

from dynaflow.cli._exit import ExitCode, refuse
from dynaflow.cli._output import talk
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.dead_letters import S3, SQS, JsonLines, Kept, open_dead_letters
from dynaflow.record import Record, Undecodable
from dynaflow.values import harmless

__all__ = [
    "Address",
    "Letter",
    "Sink",
    "check_ids",
    "choose",
    "moment",
    "open_letters",
    "read_letters",
    "short",
]

Address: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="ADDRESS",
        help="Where the letters are: letters.jsonl, a queue's URL, or s3://BUCKET/FOLDER.",
    ),
]
Sink: TypeAlias = JsonLines | SQS | S3

_ID = re.compile(r"[0-9a-f]{4,32}")
_SHOWN = 12  # digits of an id in a table
_TOPIC = re.compile(r"sns:|arn:[^:]*:sns:")


@dataclass(slots=True)
class Letter:
    """A dead letter that can be read.

    Args:
        letter: it; of several with one id, the one that was parked last.
        kept: what the sink knows it by, and others with the same id.
        record: its record, as far as it is in the letter.
    """

    letter: DeadLetterRecord
    kept: list[Kept]
    id: str = field(init=False)
    record: Record | Undecodable = field(init=False)

    def __post_init__(self) -> None:
        self.id, self.record = self.letter.id, self.letter.record()


def open_letters(address: str) -> Sink:
    """Return the sink at an address; one that names none, or a topic, is a usage error."""
    if _TOPIC.match(address):
        refuse(
            f"{address!r} is a topic, and a topic keeps nothing: read what subscribed to it, such "
            "as a queue",
            ExitCode.USAGE,
        )
    try:
        return open_dead_letters(address)
    except ValueError as error:
        refuse(str(error), ExitCode.USAGE)


@asynccontextmanager
async def read_letters(
    sink: Sink, wanted: Callable[[DeadLetterRecord], bool] = lambda letter: True
) -> AsyncIterator[tuple[list[Letter], int]]:
    """Read the letters of a sink that are wanted, and keep other readers of a queue from them.

    The value is the letters, in the order of their streams, and how many things in there are no
    letters that can be read; these are said.

    Raises:
        DeadLetterError: the sink could not be read.
    """
    async with AsyncExitStack() as stack:
        if isinstance(sink, SQS):
            await stack.enter_async_context(sink.holding())
        by_id: dict[str, Letter] = {}
        damaged = 0
        async for kept in sink.letters():
            if kept.letter is None:
                damaged += 1
                talk(f"dynaflow: left out: {harmless(kept.problem or 'it cannot be read')}")
            elif wanted(kept.letter):
                _add(by_id, kept.letter, kept)
        yield sorted(by_id.values(), key=_place), damaged


def choose(letters: Sequence[Letter], ids: Iterable[str]) -> tuple[list[Letter], bool]:
    """Return the letters whose ids begin so, and whether that was one for each; else say so."""
    chosen: dict[str, Letter] = {}
    is_whole = True
    for text in ids:
        found = [letter for letter in letters if letter.id.startswith(text.lower())]
        if len(found) == 1:
            chosen[found[0].id] = found[0]
            continue
        is_whole = False
        if found:
            names = ", ".join(letter.id for letter in found)
            talk(f"dynaflow: {harmless(text)!r} begins the ids of {len(found)} letters: {names}")
        else:
            talk(f"dynaflow: there is no letter whose id begins with {harmless(text)!r}")
    return [letter for letter in letters if letter.id in chosen], is_whole


def check_ids(ids: Iterable[str]) -> None:
    """Refuse what cannot be the beginning of an id."""
    for text in ids:
        if not _ID.fullmatch(text.lower()):
            refuse(
                f"{text!r} is not the beginning of an id: write at least 4 of its hexadecimal "
                "digits, as dynaflow dead-letters list shows them",
                ExitCode.USAGE,
            )


def short(letter_id: str) -> str:
    """Return as much of an id as a table shows."""
    return letter_id[:_SHOWN]


def moment(seconds: float) -> str:
    """Return a time in UTC."""
    try:
        when = datetime.fromtimestamp(seconds, timezone.utc)
    except (ValueError, OverflowError, OSError):
        return "?"
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"


def _add(by_id: dict[str, Letter], letter: DeadLetterRecord, kept: Kept) -> None:
    known = by_id.get(letter.id)
    if known is None:
        by_id[letter.id] = Letter(letter, [kept])
    else:  # a queue may have a letter twice
        newest = max(known.letter, letter, key=lambda each: each.parked_at)
        by_id[letter.id] = Letter(newest, [*known.kept, kept])


def _place(letter: Letter) -> tuple[str, int, float]:
    return letter.letter.source_arn, letter.record.position, letter.letter.parked_at
