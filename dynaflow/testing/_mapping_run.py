"""Who is called when, and what follows from an outcome: one run of an event source mapping."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from types import MappingProxyType
from typing import Any
from uuid import UUID

from dynaflow.testing._mapping_lanes import Lane, Pending, Reading
from dynaflow.testing._mapping_report import (
    Condition,
    GivenUp,
    Invocation,
    MappingReport,
    Outcome,
    Stretch,
    message,
    s3_key,
)
from dynaflow.testing._mapping_rules import (
    Options,
    StreamRecord,
    first_failed,
    halves,
    runs_of_expired,
    wait_before_retry,
)
from dynaflow.testing._mapping_sandbox import Called, Sandbox, Throttled

__all__ = ["Chance", "Run"]


class Chance:
    """What nobody can foretell, and yet is the same every time.

    Args:
        seed: of everything.
        duplicates: how likely it is, 0 to 1, that an outcome is lost.
    """

    def __init__(self, seed: int, duplicates: float) -> None:
        self._random = Random(seed)  # noqa: S311 - schedules of tests, which must repeat
        self._duplicates = duplicates

    def loses_outcome(self) -> bool:
        """Return True if the next outcome is lost on its way."""
        return self._random.random() < self._duplicates

    def new_id(self) -> str:
        """Return a UUID."""
        return str(UUID(int=self._random.getrandbits(128), version=4))


class Run:
    """One run of a mapping: its lanes, and what became of the records so far.

    Args:
        reading: the records, in lanes.
        options: the mapping's.
        sandbox: where the function runs.
        chance: what is lost on its way, and ids.
        mapping_id: the mapping's UUID.
        send: takes messages about what is given up; None if there is no destination.
    """

    def __init__(
        self,
        reading: Reading,
        options: Options,
        sandbox: Sandbox,
        chance: Chance,
        *,
        mapping_id: str,
        send: Callable[[dict[str, Any]], object] | None,
    ) -> None:
        self._lanes = reading.lanes
        self._filtered = reading.filtered
        self._order = reading.numbers
        self._options = options
        self._sandbox = sandbox
        self._clock = sandbox.clock
        self._chance = chance
        self._mapping_id = mapping_id
        self._send = send
        self._deliveries = {number: 0 for numbers in self._order.values() for number in numbers}
        self._done: list[str] = []
        self._given_up: list[GivenUp] = []
        self._over = set(self._filtered)
        self.invocations: list[Invocation] = []

    def step(self) -> bool:
        """Let the lane whose turn it is go on; return False if none has anything left."""
        waiting = [lane for lane in self._lanes if lane.prepare(self._options)]
        if not waiting:
            return False
        lane = min(waiting, key=lambda each: each.ready)
        self._clock.set(lane.ready)
        pending = lane.take()
        runs, kept = runs_of_expired(pending.records, lane.ready, self._options.longest_age)
        trimmed = self._options.maximum_record_age == -1
        for run in runs:
            self._give_up(lane, run, "Trimmed" if trimmed else "RecordAgeExceeded")
        if kept:
            self._invoke(lane, pending.only(kept))
        return True

    def _invoke(self, lane: Lane, pending: Pending) -> None:
        request_id, at = self._chance.new_id(), self._clock.time()
        called = self._sandbox.call([record.text for record in pending.records], request_id)
        lane.ready = self._clock.time()
        outcome, first = self._judge(called, pending)
        again = outcome in ("done", "partly done") and not pending.again
        again = again and self._chance.loses_outcome()
        self.invocations.append(
            Invocation(
                request_id=request_id,
                shard_id=lane.shard_id,
                lane=lane.index,
                numbers=pending.numbers,
                at=at,
                outcome=outcome,
                answer=called.answer,
                error=called.error,
                again=again,
            )
        )
        if outcome != "throttled":
            for number in pending.numbers:
                self._deliveries[number] += 1
        if again:
            lane.put(pending.once_more())
        else:
            self._follow(lane, pending, outcome, first, request_id)

    def _judge(self, called: Called, pending: Pending) -> tuple[Outcome, int]:
        """Return the outcome, and the index of the first record that is not done."""
        if isinstance(called.error, Throttled):
            return "throttled", 0
        if called.error is not None:
            return "function error", 0
        reports = self._options.report_batch_item_failures
        first = first_failed(called.answer, pending.numbers) if reports else None
        if first is None:
            return "done", len(pending.records)
        return ("partly done", first) if first else ("failed", 0)

    def _follow(
        self, lane: Lane, pending: Pending, outcome: Outcome, first: int, request_id: str
    ) -> None:
        """Do with a batch what its outcome asks for."""
        self._done += pending.numbers[:first]
        self._over.update(pending.numbers[:first])
        if outcome == "done":
            return
        if outcome == "partly done":  # the rest is a new batch, with all its tries
            lane.put(Pending(pending.records[first:], failures=1))
            lane.ready += wait_before_retry(1)
            return
        is_error = outcome == "function error"
        if is_error and self._options.bisect_batch_on_function_error and len(pending.records) > 1:
            for half in reversed(halves(pending.records)):  # what is put last is taken first
                lane.put(Pending(half))
            return
        tried = pending.tried_again(counts=outcome != "throttled")
        limit = self._options.maximum_retry_attempts
        if limit != -1 and tried.attempts > limit:
            self._give_up(
                lane,
                pending.records,
                "RetryAttemptsExhausted",
                request_id=request_id,
                attempts=tried.attempts,
                function_error=is_error,
            )
            return
        lane.put(tried)
        lane.ready += wait_before_retry(tried.failures)

    def _give_up(
        self,
        lane: Lane,
        records: tuple[StreamRecord, ...],
        condition: Condition,
        *,
        request_id: str | None = None,
        attempts: int = 0,
        function_error: bool = False,
    ) -> None:
        numbers = tuple(record.number for record in records)
        raws = tuple(json.loads(record.text) for record in records)
        self._over.update(numbers)
        if condition == "Trimmed":
            self._given_up.append(GivenUp(lane.shard_id, numbers, condition, raws))
            return
        now = self._clock.time()
        body = message(
            Stretch(
                lane.shard_id,
                raws[0].get("eventSourceARN", ""),
                records[0].created,
                records[-1].created,
                numbers,
            ),
            condition,
            now=now,
            request_id=request_id or self._chance.new_id(),
            invoke_count=attempts,
            function_error=function_error,
        )
        key = s3_key(self._mapping_id, lane.shard_id, now, self._chance.new_id())
        delivered = self._deliver(json.loads(json.dumps(body)))
        self._given_up.append(
            GivenUp(lane.shard_id, numbers, condition, raws, body, key, delivered)
        )

    def _deliver(self, body: dict[str, Any]) -> bool:
        if self._send is None:
            return False
        try:
            self._send(body)
        except Exception:  # as AWS: it counts DestinationDeliveryFailures and goes on
            return False
        return True

    def report(self) -> MappingReport:
        """Return what happened so far."""
        return MappingReport(
            invocations=tuple(self.invocations),
            deliveries=MappingProxyType(dict(self._deliveries)),
            done=tuple(self._done),
            given_up=tuple(self._given_up),
            filtered=self._filtered,
            pending=tuple(
                number
                for numbers in self._order.values()
                for number in numbers
                if number not in self._over
            ),
            checkpoints=MappingProxyType(
                {shard: self._checkpoint(numbers) for shard, numbers in self._order.items()}
            ),
        )

    def _checkpoint(self, numbers: tuple[str, ...]) -> str | None:
        checkpoint = None
        for number in numbers:
            if number not in self._over:
                break
            checkpoint = number
        return checkpoint
