"""A Lambda function whose handlers, filter and dead letter sink fail by a script.

The function is dynaflow's door itself. Every begin and end of a call is checked where it happens,
every answer when it is given, and the whole stream at the end; how, is in ``accounts``.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from anyio.lowlevel import checkpoint

from dynaflow import (
    App,
    BatchResult,
    NonRetryable,
    PartialFailure,
    Record,
    RetryAfter,
    Router,
    Skip,
)
from dynaflow._host import Host
from dynaflow.aws_lambda import make_handler
from dynaflow.batch import Batch
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.testing import SandboxDied, without_waits
from tests.support.accounts import (
    BATCH,
    SINGLE,
    Accounts,
    Dead,
    Kind,
    Seen,
    Setup,
    SinkFault,
    Step,
)

__all__ = ["World"]

_ERRORS: Mapping[str, Callable[[], BaseException]] = {
    "exit": SystemExit,
    "cancel": asyncio.CancelledError,
    "interrupt": KeyboardInterrupt,
    "poison": lambda: NonRetryable("poison"),
    "later": lambda: RetryAfter(60),
    "skip": lambda: Skip("not ours"),
}
_WAIT = 30.0  # seconds after which a test has failed


class Process(Seen):
    """One process of a sandbox: an App in its door."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.blocked: list[tuple[int, threading.Event]] = []
        self.invocations = 0
        self.host = _Host(self)
        self.handler = make_handler(self.host, report_batch_item_failures=world.setup.reports)

    def block(self) -> None:
        """Block this thread until the invocation is over, or a later one."""
        released = threading.Event()
        self.blocked.append((self.invocations + self.world.setup.holds, released))
        released.wait(_WAIT)

    def release(self, *, all_of_them: bool = False) -> None:
        """Let threads go on that have been blocked for long enough."""
        for until, released in self.blocked:
            if all_of_them or until <= self.invocations:
                released.set()
        self.blocked = [each for each in self.blocked if not each[1].is_set()]


class _Host(Host):
    """Lambda's host, whose results are checked before they are answered."""

    def __init__(self, process: Process) -> None:
        world = process.world
        super().__init__(world.make_app(process), contain=True, memory=world.setup.memory())
        self._process = process

    def process(self, batch: Batch, *, all_come_again: bool = False) -> BatchResult:
        """Run the batch and check what is said of it."""
        result = super().process(batch, all_come_again=all_come_again)
        with self._process.world.lock:
            if not self._process.is_dead:
                self._process.world.check_result(self._process, result)
        return result


class World(Accounts):
    """A function whose handlers, filter and sink fail by a script, in the accounts' view."""

    def __init__(self, steps: Sequence[Step], setup: Setup) -> None:
        super().__init__(steps, setup)
        self._used: Counter[tuple[str, int]] = Counter()
        self._letters_tried = 0
        self._seconds = 0.06
        self._processes: dict[int, Process] = {}
        self._invocations = 0

    # The function

    def invoke(self, event: Any, context: Any) -> Any:
        """Run one invocation in the sandbox whose turn it is."""
        turns = self.setup.turns
        turn = turns[self._invocations % len(turns)]
        self._invocations += 1
        if turn not in self._processes:
            self._processes[turn] = Process(self)
        process = self._processes[turn]
        numbers = [self.number_of[raw["dynamodb"]["SequenceNumber"]] for raw in event["Records"]]
        used = sum(self._used.values()) + self._letters_tried
        process.begin_invocation(numbers, self.unreadable(numbers))
        process.invocations += 1
        process.may_be_cut = self._may_hang(process)
        if process.may_be_cut:
            context = _Context(self._seconds)
        try:
            with without_waits():
                return process.handler(event, context)
        finally:
            process.release()
            if used == sum(self._used.values()) + self._letters_tried:
                self._seconds = min(4.0, 2 * self._seconds)  # the machine is slow
            if process.is_dead:
                self._end(turn)
                raise SandboxDied

    def close(self) -> None:
        """End all processes. Lambda never closes a loop; in a test it must not be left."""
        for turn in list(self._processes):
            self._end(turn)

    def _end(self, turn: int) -> None:
        process = self._processes.pop(turn)
        with self.lock:
            process.is_dead = True
        process.release(all_of_them=True)
        process.host.close()

    def _may_hang(self, process: Process) -> bool:
        """Return True if this invocation may last until its deadline, which is then a near one."""
        if process.blocked or "hangs" in self.setup.sink_faults[self._letters_tried :]:
            return True
        for n in process.event:
            for what, fault in self.steps[n].faults.items():
                left = fault.kinds[self._used[what, n] :]
                left = left or (fault.kinds[-1:] if fault.is_endless else ())
                if "hang" in left or "fails too late" in left:
                    return True
        return False

    def make_app(self, process: Process) -> App:
        """Return the App of a process."""
        setup = self.setup
        router = Router(retry=setup.retry)
        for route in SINGLE:
            is_async = route in setup.on_loop
            filters = [self._filter(process)] if route == "own" else []
            router.add_route(
                ["INSERT"],
                (self._single_async if is_async else self._single)(process, route),
                *filters,
                name=route,
                timeout=setup.timeout if is_async else None,
                after_deliveries=setup.after.get(route),
            )
        for route in BATCH:
            is_async = route in setup.on_loop
            router.on_batch(
                "INSERT",
                name=route,
                max_items=setup.max_items,
                latest_only=route == "latest",
                timeout=setup.timeout if is_async else None,
                after_deliveries=setup.after.get(route),
            )((self._batch_async if is_async else self._batch)(process, route))
        sinks = {None: None, "sync": self._sink, "async": self._sink_async}
        make_sink = sinks[setup.sink]
        sink: Any = None if make_sink is None else make_sink(process)
        return App(router, dead_letter=sink, **setup.options)

    # Handlers, the filter and the sink

    def _filter(self, process: Process) -> Callable[[Record], bool]:
        def is_ours(record: Record) -> bool:
            n = _number(record)
            with self.lock:
                if self._fault("filter", n) is not None:
                    if ("own", n) not in process.settled:  # else it may be remembered
                        process.open.add(("own", n))
                    process.tried["own", n] += 1
                    raise LookupError("cannot tell")
            return True

        return is_ours

    def _single(self, process: Process, route: str) -> Callable[..., Any]:
        def handle(record: Record) -> None:
            n = _number(record)
            with self.running(process, route, [n]):
                self._fail(process, self._kind(process, route, n), on_loop=False)
                self.note_effect(process, route, n)

        return handle

    def _single_async(self, process: Process, route: str) -> Callable[..., Any]:
        async def handle(record: Record) -> None:
            n = _number(record)
            with self.running(process, route, [n]):
                await checkpoint()
                kind = self._kind(process, route, n)
                if kind == "hang":
                    await asyncio.Event().wait()
                self._fail(process, kind, on_loop=True)
                self.note_effect(process, route, n)

        return handle

    def _batch(self, process: Process, route: str) -> Callable[..., Any]:
        def handle(records: list[Record]) -> None:
            numbers = [_number(record) for record in records]
            with self.running(process, route, numbers):
                self._run_batch(process, route, numbers, on_loop=False)

        return handle

    def _batch_async(self, process: Process, route: str) -> Callable[..., Any]:
        async def handle(records: list[Record]) -> None:
            numbers = [_number(record) for record in records]
            with self.running(process, route, numbers):
                await checkpoint()
                if self._run_batch(process, route, numbers, on_loop=True) == "hang":
                    await asyncio.Event().wait()

        return handle

    def _run_batch(
        self, process: Process, route: str, numbers: list[int], *, on_loop: bool
    ) -> Kind | None:
        part: list[int] = []
        for at, n in enumerate(numbers):
            kind = self._kind(process, route, n)
            if kind == "skip":
                for skipped in numbers:
                    self.note_skip(process, route, skipped)
            if kind == "hang" and on_loop:
                return kind
            if kind == "part":
                part.append(at)
            else:
                self._fail(process, kind, on_loop=on_loop)
        for at, n in enumerate(numbers):
            if at not in part:
                self.note_effect(process, route, n)
        if part:
            raise PartialFailure(part)
        return None

    def _sink(self, process: Process) -> Callable[[DeadLetterRecord], None]:
        def sink(letter: DeadLetterRecord) -> None:
            fault = self._sink_fault()
            if fault == "hangs" and self._can_block:
                process.block()
            self._take(process, letter, fault)

        return sink

    def _sink_async(self, process: Process) -> Callable[[DeadLetterRecord], Awaitable[None]]:
        async def sink(letter: DeadLetterRecord) -> None:
            await checkpoint()
            fault = self._sink_fault()
            if fault == "hangs":
                await asyncio.Event().wait()
            self._take(process, letter, fault)

        return sink

    def _sink_fault(self) -> SinkFault | None:
        with self.lock:
            self._letters_tried += 1
            faults = self.setup.sink_faults[self._letters_tried - 1 : self._letters_tried]
        return faults[0] if faults else None

    def _take(self, process: Process, letter: DeadLetterRecord, fault: SinkFault | None) -> None:
        with self.lock:
            if process.is_dead:
                raise Dead
            if fault in ("fails", "hangs"):
                raise ConnectionError("the queue is away")
            if fault == "dies before":
                process.is_dead = True
                raise Dead
            key = (letter.route, self.number_of[letter.sequence_number])
            self.check_letter(process, letter, key)
            self.letters[key] += 1
            self.settled.add(key)
            if fault == "answer is lost":
                raise ConnectionError("no answer")
            process.note("letter", key)
            if fault == "dies after":
                process.is_dead = True
                raise Dead

    def _kind(self, process: Process, route: str, n: int) -> Kind | None:
        with self.lock:
            if process.is_dead:
                raise Dead
            kind = self._fault(route, n)
            if kind == "part" and route in SINGLE:
                return "raise"
            if kind == "skip" and route in SINGLE:
                self.note_skip(process, route, n)
            return kind

    def _fault(self, what: str, n: int) -> Kind | None:
        fault = self.steps[n].faults.get(what)
        if fault is None:
            return None
        used = self._used[what, n]
        if used >= len(fault.kinds) and not fault.is_endless:
            return None
        self._used[what, n] += 1
        return fault.kinds[min(used, len(fault.kinds) - 1)]

    def _fail(self, process: Process, kind: Kind | None, *, on_loop: bool) -> None:
        if kind is None:
            return
        if kind in ("hang", "fails too late") and not on_loop and self._can_block:
            process.block()
            if kind == "hang":  # it returns, and has done nothing
                raise Dead if process.is_dead else TimeoutError
            raise NonRetryable("after the answer")
        if kind == "die":
            with self.lock:
                process.is_dead = True
            raise Dead
        raise _ERRORS.get(kind, ValueError)()

    @property
    def _can_block(self) -> bool:
        return bool(self.setup.options.get("threads", 16))


class _Context:
    """A context that says that so many seconds are left, from now on."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def get_remaining_time_in_millis(self) -> float:
        return self._seconds * 1000


def _number(record: Record) -> int:
    assert record.new is not None
    return int(record.new["n"])
