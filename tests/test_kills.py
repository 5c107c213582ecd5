"""Processes that are killed between handler, sink, store and answer: every effect is accounted for.

Each history has all of its kills in it, one after the other, and goes on until the stream is done.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.stores import SqliteStore
from dynaflow.testing import EventSourceMapping, RecordBuilder, SandboxDied
from tests.support.lambda_function import LambdaFunction
from tests.support.runtime_api import EXIT_ERROR, RuntimeApi

ROUTES = ("own", "second", "every")
# An item, and what it has its handlers do. "?" cannot be read.
STREAM = (
    ("a", ""), ("b", "poison own"), ("a", "2 every"), ("c", ""), ("b", ""),
    ("a", "poison every"), ("b", "2 own"), ("a", ""), ("c", "?"), ("c", ""),
    ("b", "poison second"), ("a", ""), ("d", "3 own"), ("b", ""), ("d", "2 second"),
)  # fmt: skip


@dataclass
class History:
    """A stream and the files that outlive the processes which are killed over it."""

    directory: Path

    def __post_init__(self) -> None:
        build = RecordBuilder(("id",))
        raws = [build.insert({"id": i, "n": n, "do": do}) for n, (i, do) in enumerate(STREAM)]
        for raw, (_, do) in zip(raws, STREAM, strict=True):
            if do == "?":
                raw["eventName"] = "RENAME"
        self.event = json.loads(json.dumps(build.event(*raws), default=str))
        self.numbers = [raw["dynamodb"]["SequenceNumber"] for raw in raws]
        self.arn = build.stream_arn

    @property
    def effects(self) -> list[tuple[str, int]]:
        """What handlers did, in order."""
        lines = (self.directory / "effects").read_text(encoding="utf-8").splitlines()
        done = [line.split() for line in lines if line.startswith("effect ")]
        return [(route, int(n)) for _, route, n in done]

    @property
    def letters(self) -> Counter[tuple[str | None, int]]:
        """How often each record was parked for each route."""
        file = self.directory / "letters"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        letters = [DeadLetterRecord.from_json(line) for line in lines]
        return Counter((each.route, self.numbers.index(each.sequence_number)) for each in letters)

    def check_done(self, numbers: Sequence[str]) -> None:
        """Check that these records are accounted for: by an effect or a letter for each route."""
        effects, letters = set(self.effects), self.letters
        for number in numbers:
            n = self.numbers.index(number)
            routes: Sequence[str | None] = (None,) if STREAM[n][1] == "?" else ROUTES
            for route in routes:
                is_parked = (route, n) in letters
                if route is None or STREAM[n][1] == f"poison {route}":
                    assert is_parked, f"{route} {n} is lost"
                elif route == "every":  # a batch route's poison is the whole call's
                    assert is_parked or (route, n) in effects, f"{route} {n} is lost"
                else:
                    assert (route, n) in effects, f"{route} {n} is lost"

    def check_order(self) -> None:
        """Check that each item's effects began in order, and that its last one is the last."""
        for route in ROUTES:
            for item in "abcd":
                effects = [n for r, n in self.effects if r == route and STREAM[n][0] == item]
                first = list(dict.fromkeys(effects))
                assert first == sorted(first), f"{route} of {item} out of order: {effects}"
                assert effects[-1] == first[-1], f"an older effect of {item} stands last: {effects}"


def kills(points: Mapping[str, int]) -> str:
    return ",".join(f"{point}:{count}" for point, count in points.items())


@pytest.mark.parametrize(
    ("reports", "points"),
    [
        (True, {"before effect": 1, "after effect": 1, "before letter": 1, "after letter": 2}),
        (False, {"before effect": 4, "after effect": 6, "after letter": 1, "before answer": 1}),
        (True, {"before answer": 2, "before letter": 3, "after letter": 4, "after effect": 30}),
    ],
)
def test_a_function_that_is_killed_at_any_point_loses_nothing(
    tmp_path: Path, *, reports: bool, points: Mapping[str, int]
) -> None:
    pytest.importorskip("awslambdaric", reason="AWS publishes its runtime client for Linux only")
    history, deaths = History(tmp_path), 0
    report = "yes" if reports else "no"
    env = {"KILLS": kills(points), "LETTERS": str(tmp_path / "letters"), "REPORT": report}
    with LambdaFunction("failing", tmp_path, **env) as function:

        def invoke(event: Any, _: Any) -> Any:
            nonlocal deaths
            answer = function.invoke(event)
            if answer.error_type == EXIT_ERROR:
                deaths += 1
                raise SandboxDied
            if answer.error_type is not None:
                assert answer.error_type == "RecordsFailed"
                raise RuntimeError
            failures = answer.payload["batchItemFailures"]
            records = [record["dynamodb"]["SequenceNumber"] for record in event["Records"]]
            end = records.index(failures[0]["itemIdentifier"]) if failures else len(records)
            history.check_done(records[:end])  # no answer says more than what is there
            return answer.payload

        mapping = EventSourceMapping(invoke, batch_size=8, report_batch_item_failures=reports)
        result = mapping.run(history.event, max_invocations=40)
    assert deaths == len(points)
    assert (result.given_up, result.pending) == ((), ())
    history.check_done(history.numbers)
    history.check_order()


@pytest.mark.parametrize(
    "points",
    [
        {"before effect": 1, "after effect": 1, "before letter": 1, "after letter": 1},
        {"before save": 1, "after save": 1, "after effect": 20, "after letter": 3},
    ],
)
def test_a_poller_that_is_killed_at_any_point_loses_nothing(
    tmp_path: Path, points: Mapping[str, int]
) -> None:
    history = History(tmp_path)
    event, store = tmp_path / "event", tmp_path / "checkpoints"
    event.write_text(json.dumps(history.event), encoding="utf-8")
    env = {
        **os.environ,
        "KILLS": kills(points),
        "EFFECTS": str(tmp_path / "effects"),
        "LETTERS": str(tmp_path / "letters"),
    }
    command = [sys.executable, "-m", "tests.support.killed_poller", str(event), str(store)]
    codes: list[int] = []
    while len(codes) < 10 and done_in(store, history) != history.numbers:
        ended = subprocess.run(command, env=env, check=False, capture_output=True, timeout=30)
        assert ended.returncode in (0, -signal.SIGKILL), ended.stderr.decode()
        codes.append(ended.returncode)
        history.check_done(done_in(store, history))  # no checkpoint is above what is not done
    assert codes.count(-signal.SIGKILL) == len(points)
    assert done_in(store, history) == history.numbers
    history.check_done(history.numbers)
    history.check_order()


def done_in(path: Path, history: History) -> Sequence[str]:
    """Return the records that the store has as done."""

    async def load() -> str:
        async with SqliteStore(path) as store:
            rows = await store.load("default", history.arn)
        return rows["shard"].position if rows else "TRIM_HORIZON"

    if not path.exists():
        return []
    position = asyncio.run(load())
    if position == "SHARD_END":
        return history.numbers
    return history.numbers[: history.numbers.index(position) + 1] if position.isdigit() else []


def test_two_processes_that_take_turns_leave_each_item_as_its_last_record_says(
    tmp_path: Path,
) -> None:
    pytest.importorskip("awslambdaric", reason="AWS publishes its runtime client for Linux only")
    history, turn = History(tmp_path), 0
    env = {
        "LETTERS": str(tmp_path / "letters"),
        "EFFECTS": str(tmp_path / "effects"),
        "REPORT": "no",
    }
    name = "tests.lambda_apps.failing.handler"
    with (
        RuntimeApi(name, directory=tmp_path, env=env) as first,
        RuntimeApi(name, directory=tmp_path, env=env) as second,
    ):

        def invoke(event: Any, _: Any) -> Any:
            nonlocal turn
            turn += 1
            answer = (first, second)[turn % 2].invoke(event)
            if answer.error_type is not None:
                assert answer.error_type == "RecordsFailed"
                raise RuntimeError
            return answer.payload

        mapping = EventSourceMapping(invoke, bisect_batch_on_function_error=True, batch_size=15)
        result = mapping.run(history.event, max_invocations=40)
    assert (result.given_up, result.pending) == ((), ())
    assert len(result.invocations) > 4
    history.check_done(history.numbers)
    history.check_order()
