"""What has to be true of a stream whose handlers fail by a script, while it runs and at its end.

Whatever is wrong while it runs is kept in ``wrongs``, because what a handler raises would be its
record's failure.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from dynaflow import BatchResult, Retry, Status
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.engine.memory import Memory
from dynaflow.errors import RecordsFailed, ThreadsExhausted
from dynaflow.testing import MappingReport, RecordBuilder, SandboxDied

__all__ = [
    "BATCH",
    "ROUTES",
    "SINGLE",
    "Accounts",
    "Dead",
    "Fault",
    "Key",
    "Kind",
    "Seen",
    "Setup",
    "SinkFault",
    "Step",
]

Key: TypeAlias = tuple[str | None, int]
"""A route, or None for a record that cannot be read, and which record of the stream it is."""

SINGLE = ("own", "second")
BATCH = ("every", "latest")
ROUTES = (*SINGLE, *BATCH)

Kind: TypeAlias = Literal[
    "raise", "exit", "cancel", "interrupt", "poison", "later", "skip", "part", "die",
    "hang", "fails too late",
]  # fmt: skip
SinkFault: TypeAlias = Literal["fails", "hangs", "answer is lost", "dies before", "dies after"]


@dataclass(frozen=True)
class Fault:
    """How something fails, call after call; then it works, or fails like the last time for ever.

    A kind of None is a call that works.
    """

    kinds: tuple[Kind | None, ...]
    is_endless: bool = False


@dataclass(frozen=True)
class Step:
    """One record: whose change, whether it can be read, and what goes wrong, by route.

    ``faults`` may name "filter", too: the one of the route "own".
    """

    item: str
    shape: Literal["good", "spoiled", "keyless"] = "good"
    faults: Mapping[str, Fault] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How the function is made.

    Args:
        on_loop: the routes whose handlers are async.
        after: ``after_deliveries`` by route.
        sink: which kind of dead letter sink there is.
        sink_faults: what becomes of the first letters.
        turns: which sandbox gets each invocation, over and over.
        holds: for how many invocations a blocked thread is lost.
        memory: makes the memory of a new process.
        options: other options of the App.
    """

    on_loop: frozenset[str] = frozenset()
    max_items: int = 100
    retry: Retry | None = None
    timeout: float | None = None
    after: Mapping[str, int] = field(default_factory=dict)
    sink: Literal["sync", "async"] | None = None
    sink_faults: tuple[SinkFault | None, ...] = ()
    reports: bool | None = True
    turns: tuple[int, ...] = (0,)
    holds: int = 0
    memory: Callable[[], Memory] = Memory
    options: Mapping[str, Any] = field(default_factory=dict)


class Dead(Exception):
    """Nothing has an effect any more: the process is dead, though the test's goes on."""


class Seen:
    """What one process has seen.

    ``open`` are what an invocation has begun and not ended well, ``settled`` what the process has
    ended well so far; ``tried`` counts invocations; ``may_be_cut``: the deadline is near.
    """

    def __init__(self) -> None:
        self.is_dead = False
        self.may_be_cut = False
        self.event: list[int] = []
        self.open: set[Key] = set()
        self.settled: set[Key] = set()
        self.seen: dict[str, set[Key]] = {}
        self.running: Counter[str] = Counter()
        self.tried: Counter[Key] = Counter()

    def begin_invocation(self, numbers: list[int], unreadable: set[Key]) -> None:
        """Note that an event came."""
        self.event = numbers
        self.seen = {what: set() for what in ("called", "effect", "letter", "skip")}
        self.open = unreadable - self.settled

    def note(self, what: Literal["called", "effect", "letter", "skip"], key: Key) -> None:
        """Note what happened."""
        self.seen[what].add(key)
        if what != "called":
            self.open.discard(key)
            self.settled.add(key)


class Accounts:
    """The stream and everything that happened to it."""

    def __init__(self, steps: Sequence[Step], setup: Setup) -> None:
        self.steps = steps
        self.setup = setup
        self.lock = threading.RLock()
        build = RecordBuilder(("id",))
        self.raws = [build.insert({"id": step.item, "n": n}) for n, step in enumerate(steps)]
        for raw, step in zip(self.raws, steps, strict=True):
            if step.shape != "good":
                raw["eventName"] = "RENAME"
            if step.shape == "keyless":
                del raw["dynamodb"]["Keys"]
        numbers = [raw["dynamodb"]["SequenceNumber"] for raw in self.raws]
        self.number_of = {number: n for n, number in enumerate(numbers)}
        self.effects: list[tuple[str, int]] = []
        self.letters: Counter[Key] = Counter()
        self.skipped: set[Key] = set()
        self.settled: set[Key] = set()
        self.wrongs: list[str] = []

    def unreadable(self, numbers: Sequence[int]) -> set[Key]:
        """Return which of these records reach no route."""
        return {(None, n) for n in numbers if self.steps[n].shape != "good"}

    # What handlers, the filter and the sink say

    @contextmanager
    def running(self, process: Seen, route: str, numbers: list[int]) -> Iterator[None]:
        """Check that a call may begin, and that no other works on its items until it ends."""
        items = {self.steps[n].item for n in numbers}
        with self.lock:
            if process.is_dead:
                raise Dead
            for n in numbers:
                self._check_begin(process, route, n, numbers)
                key = (route, n)
                if key not in process.seen["called"]:
                    process.tried[key] += 1
                process.note("called", key)
                process.open.add(key)
            if any(process.running[item] for item in items):
                self.wrongs.append(f"{route} {numbers}: two calls of an item at a time")
            process.running.update(items)
        try:
            yield
        finally:
            with self.lock:
                process.running.subtract(items)

    def _check_begin(self, process: Seen, route: str, n: int, together: list[int]) -> None:
        own: set[str | None] = {None, *SINGLE} if route in SINGLE else {None, *SINGLE, route}
        for earlier in process.event:
            step = self.steps[earlier]
            if earlier >= n or earlier in together:
                continue
            if step.item != self.steps[n].item and step.shape != "keyless":
                continue
            if any((other, earlier) in process.open for other in own):
                self.wrongs.append(f"{route} {n} began before {earlier} had ended")

    def note_effect(self, process: Seen, route: str, n: int) -> None:
        with self.lock:
            if process.is_dead:
                raise Dead
            self.effects.append((route, n))
            self.settled.add((route, n))
            process.note("effect", (route, n))

    def note_skip(self, process: Seen, route: str, n: int) -> None:
        self.skipped.add((route, n))
        self.settled.add((route, n))
        process.note("skip", (route, n))

    # What has to be true of a letter, of an answer, and at the end

    def check_letter(self, process: Seen, letter: DeadLetterRecord, key: Key) -> None:
        """Check that a letter says the truth."""
        route, n = key
        if letter.raw != self.raws[n]:
            self.wrongs.append(f"the letter of {n} has another record")
        if (letter.reason == "undecodable") != (self.steps[n].shape != "good"):
            self.wrongs.append(f"the letter of {n} is there because it is {letter.reason}")
        if letter.reason == "deliveries" and route is not None:
            limit = self.setup.after.get(route)
            if limit is None or not limit <= process.tried[key]:
                self.wrongs.append(f"{route} {n} was parked after {process.tried[key]} deliveries")

    def check_result(self, process: Seen, result: BatchResult) -> None:
        """Check that what is said to be done is done, and said once."""
        seen, done = process.seen, set[Key]()
        for outcome in result.outcomes:
            key = (outcome.route, self.number_of[outcome.record.sequence_number])
            proofs = {
                Status.DONE: key in seen["effect"],
                Status.PARKED: key in seen["letter"],
                Status.SKIPPED: key in seen["skip"],
                Status.REPEATED: key in process.settled and key not in seen["called"],
            }
            if not proofs.get(outcome.status, True):
                self.wrongs.append(f"{key} is said to be {outcome.status.value}")
            if outcome.is_done:
                if key in done:
                    self.wrongs.append(f"{key} is said to be done twice")
                done.add(key)
            is_parked = key in seen["letter"] and not process.may_be_cut  # else perhaps too late
            if is_parked and outcome.status is not Status.PARKED:
                self.wrongs.append(f"{key} was parked, and is {outcome.status.value}")
        not_done = {self.number_of[record.sequence_number] for record in result.not_done}
        for n in process.event:
            if n not in not_done:
                for route in self._routes_of(n):
                    if (route, n) not in done and not self._is_superseded(route, n, process.event):
                        self.wrongs.append(f"{route} {n} is not done, and not said to be so")

    def _routes_of(self, n: int) -> tuple[str | None, ...]:
        return ROUTES if self.steps[n].shape == "good" else (None,)

    def _is_superseded(self, route: str | None, n: int, event: Sequence[int]) -> bool:
        return route == "latest" and any(
            other > n and self.steps[other].shape == "good"
            and self.steps[other].item == self.steps[n].item
            for other in event
        )  # fmt: skip

    # What has to be true at the end

    def check(self, report: MappingReport) -> None:
        """Account for every record and every effect of it."""
        assert not self.wrongs, self.wrongs
        assert report.pending == ()
        for invocation in report.invocations:
            expected = (type(None), SandboxDied, RecordsFailed, ThreadsExhausted)
            assert isinstance(invocation.error, expected), invocation.error
        assert all(each.message is not None for each in report.given_up)
        lost = {self.number_of[number] for each in report.given_up for number in each.numbers}
        done = {self.number_of[number] for number in report.done}
        everything = range(len(self.steps))
        assert not lost & done
        assert lost | done == set(everything), "neither done nor given up"
        for n in done:
            for route in self._routes_of(n):
                superseded = self._is_superseded(route, n, everything)
                assert (route, n) in self.settled or superseded, "lost"
        for item in {step.item for step in self.steps}:
            for route in ROUTES:
                self._check_lastnote_effect((route,), item, lost)
            self._check_lastnote_effect(SINGLE, item, lost)

    def _check_lastnote_effect(self, routes: Sequence[str], item: str, lost: set[int]) -> None:
        """Check that the last effect of these routes on an item is that of its last record."""
        of_item = [
            n
            for n, step in enumerate(self.steps)
            if step.item == item and step.shape == "good" and n not in lost
        ]
        kept = [
            n
            for n in of_item
            if not any(self.letters[route, n] or (route, n) in self.skipped for route in routes)
        ]
        if not kept or self._is_superseded(routes[0], kept[-1], range(len(self.steps))):
            return
        effects = [n for route, n in self.effects if route in routes and n in of_item]
        assert effects, "lost"
        assert effects[-1] >= kept[-1], f"an older effect of {routes} stands last: {effects}"
