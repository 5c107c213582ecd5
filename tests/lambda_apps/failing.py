"""An app whose process is killed at the points that KILLS names, in Lambda or under a poller.

KILLS is a list such as ``after effect:3, before answer:1``: at the third time that any process has
had an effect, over all of them, it kills itself. What happens is noted in the file EFFECTS, letters
are in LETTERS. An item's ``do`` says which route fails for it: ``poison own`` for ever, ``2 every``
twice.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

from dynaflow import App, NonRetryable, PartialFailure, Record, Router
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.dead_letters import JsonLines
from tests.lambda_apps.effects import note

__all__ = ["app", "handler", "reach"]

_KILLS = {
    name.strip(): int(count)
    for name, _, count in (
        kill.partition(":") for kill in os.environ.get("KILLS", "").split(",") if kill
    )
}

_one_at_a_time = threading.Lock()

router = Router()


def reach(point: str) -> None:
    """Note that a point was reached, and end this process there if that is asked for."""
    with _one_at_a_time:  # or two threads would pass a count together, and neither see it
        note(f"reached {point}")
        if _count(f"reached {point}") == _KILLS.get(point):
            os.kill(os.getpid(), signal.SIGKILL)


@router.on_insert(name="own")
async def own(record: Record) -> None:
    _act("own", record)


@router.on_insert(name="second")
def second(record: Record) -> None:
    _act("second", record)


@router.on_batch("INSERT", name="every", max_items=3)
def every(records: list[Record]) -> None:
    failed = []
    for record in records:
        try:
            _act("every", record)
        except ConnectionError:
            failed.append(record)
    if failed:
        raise PartialFailure(failed)


def sink(letter: DeadLetterRecord) -> None:
    """Keep a letter in a file."""
    reach("before letter")
    _letters(letter)
    reach("after letter")


_letters = JsonLines(os.environ["LETTERS"])
app = App(router, dead_letter=sink)
_answer = app.lambda_handler(report_batch_item_failures=os.environ.get("REPORT") != "no")


def handler(event: Any, context: Any) -> Any:
    """Answer as the App does, unless this process is killed before its answer is sent."""
    answer = _answer(event, context)
    reach("before answer")
    return answer


def _act(route: str, record: Record) -> None:
    assert record.new is not None
    n, do = record.new["n"], record.new["do"]
    note(f"call {route} {n}")
    reach("before effect")
    if do == f"poison {route}":
        raise NonRetryable("poison")
    times, _, failing = do.partition(" ")
    if failing == route and _count(f"call {route} {n}") <= int(times):
        raise ConnectionError
    note(f"effect {route} {n}")
    reach("after effect")


def _count(line: str) -> int:
    with open(os.environ["EFFECTS"], encoding="utf-8") as file:  # noqa: PTH123 - as effects does
        return file.read().splitlines().count(line)
