"""How often each record's effect runs, by failure, policy and remedy: the tables of the documents.

One batch of six records over four items goes through the Lambda handler, called by the model of
Lambda's mapping. ``python -m tests.test_runs_table`` prints what docs/at-least-once.md has to show.
"""

import inspect
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

import anyio
import pytest

from dynaflow import (
    App,
    Call,
    Depends,
    Idempotent,
    NonRetryable,
    Process,
    Retry,
    Router,
    Transaction,
)
from dynaflow._app_options import FailurePolicy
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.errors import RecordsFailed
from dynaflow.stores import MemoryMarks
from dynaflow.testing import (
    EventSourceMapping,
    MappingReport,
    MemoryTransactions,
    RecordBuilder,
    SandboxDied,
    without_waits,
)
from tests.support.documents import Document

ITEMS = "ABCDCB"  # of the six records; the third one is what fails
FAILING = 3
PAGE = "docs/at-least-once.md"

Kind: TypeAlias = Literal["raise", "refuse", "hang", "die"]
Way: TypeAlias = Literal["other process", "same process", "idempotent", "transaction"]


@dataclass(frozen=True)
class Failure:
    """What goes wrong with the third record.

    Args:
        name: what the tables call it.
        kind: what its handler does after its effect; None for nothing.
        times: how often.
        app: options of the App.
        mapping: options of the mapping.
        reports: whether the mapping takes a list of failures.
        parks: whether there is a dead letter sink.
        spoils: fields of the raw record, and what stands in them instead.
    """

    name: str
    kind: Kind | None = None
    times: int = 10**9
    app: Mapping[str, Any] = field(default_factory=dict)
    mapping: Mapping[str, Any] = field(default_factory=dict)
    reports: bool = True
    parks: bool = False
    spoils: Mapping[str, Any] = field(default_factory=dict)


FAILURES = (
    Failure("nothing fails"),
    Failure("3 fails once", "raise", 1),
    Failure(
        "3 fails once, and there is `retry=Retry(2)`",
        "raise",
        1,
        app={"retry": Retry(attempts=2, wait_initial=0)},
    ),
    Failure(
        "3 fails always; dead letter, `after_deliveries=3`",
        "raise",
        app={"after_deliveries": 3},
        parks=True,
    ),
    Failure("3 raises `NonRetryable`; dead letter", "refuse", parks=True),
    Failure("3 cannot be read; dead letter", parks=True, spoils={"eventName": "REPLACE"}),
    Failure("3 fails always; no dead letter", "raise"),
    Failure("3 cannot be read; no dead letter", spoils={"eventName": "REPLACE"}),
    Failure("3 cannot be read, nor its key; no dead letter", spoils={"dynamodb.Keys": None}),
    # 3 seconds: nothing starts in the last, and calls are cut off half a second before the end.
    Failure("3 hangs until the deadline, once", "hang", 1, mapping={"timeout": 3}),
    Failure("the process dies in 3, once", "die", 1, mapping={"timeout": 5}),
    Failure("the answer is lost on its way", mapping={"duplicates": 1.0}),
    Failure("3 fails once; no `ReportBatchItemFailures`", "raise", 1, reports=False),
)
POLICIES: tuple[FailurePolicy, ...] = ("stop_item", "stop")
WAYS: tuple[Way, ...] = ("other process", "same process", "idempotent", "transaction")
HEAD = (
    "What goes wrong",
    "another process each time",
    "the same process",
    "the same, with `Idempotent`",
    "the same, with `Transaction`",
)


class World:
    """A stream of six records, and the function that has its effects."""

    def __init__(self, failure: Failure, policy: FailurePolicy, way: Way) -> None:
        self.failure, self.policy, self.way = failure, policy, way
        build = RecordBuilder(("id",))
        self.raws = [build.insert({"id": item, "n": n}) for n, item in enumerate(ITEMS, 1)]
        self.numbers = [raw["dynamodb"]["SequenceNumber"] for raw in self.raws]
        for path, value in failure.spoils.items():
            *parents, last = path.split(".")
            raw: Any = self.raws[FAILING - 1]
            for name in parents:
                raw = raw[name]
            raw[last] = value
        self.effects: list[int] = []
        self.returned: set[int] = set()
        self.letters: list[DeadLetterRecord] = []
        self.failed = 0
        self.is_dead = False
        self.mapping = EventSourceMapping(
            self.invoke,
            report_batch_item_failures=failure.reports,
            maximum_retry_attempts=4,
            **failure.mapping,
        )
        self.marks, self.transactions = Marks(self), MemoryTransactions()
        self._others_ended = anyio.Event()
        self._handler: Any = None

    def invoke(self, event: Any, context: Any) -> Any:
        """Be the function, in the process that there is, or in another each time."""
        if self.way == "other process" or self.is_dead or self._handler is None:
            self.stop()
            self._handler = self.app().lambda_handler(
                report_batch_item_failures=self.failure.reports
            )
        self.is_dead = False
        try:
            return self._handler(event, context)
        finally:
            if self.is_dead:
                raise SandboxDied

    def stop(self) -> None:
        if self._handler is not None:  # Lambda never closes a loop; in a test it must not be left
            inspect.getclosurevars(self._handler).nonlocals["host"].close()

    def app(self) -> App:
        """Make a process: nothing of the last one is left, but what is in stores."""
        clock = self.mapping.clock.time
        middleware = [Idempotent(self.marks, clock=clock)] if self.way == "idempotent" else []
        router = Router(middleware=middleware)
        is_transaction = self.way == "transaction"
        router.on_insert(name="save")(
            self.handler_of(self.transactions if is_transaction else None)
        )
        return App(
            router,
            failure_policy=self.policy,
            # With one call at a time, nothing above a failure has begun before it is known.
            concurrency=1 if self.policy == "stop" else 64,
            middleware=[self.watch],
            dead_letter=self.letters.append if self.failure.parks else None,
            **self.failure.app,
        )

    async def watch(self, call: Call, call_next: Process) -> None:
        """Note when all that can run beside the third record has ended, marks included."""
        await call_next(call)
        if call.record.sequence_number == self.numbers[-1]:
            self._others_ended.set()

    def handler_of(self, transactions: MemoryTransactions | None) -> Callable[..., Any]:
        if transactions is None:

            async def save(new: dict[str, Any]) -> None:
                self.refuse_if_dead()
                self.effects.append(int(new["n"]))
                await self.go_wrong(int(new["n"]))

            return save

        async def write(
            new: dict[str, Any], tx: Annotated[Transaction, Depends(transactions)]
        ) -> None:
            self.refuse_if_dead()
            tx.put("copies", {"id": new["id"], "n": new["n"]})
            await self.go_wrong(int(new["n"]))

        return write

    def refuse_if_dead(self) -> None:
        if self.is_dead:
            raise RuntimeError("the process has died")

    async def go_wrong(self, n: int) -> None:
        """Fail, if it is the third record's turn to, after what runs beside it."""
        kind = self.failure.kind
        if n != FAILING or kind is None or self.failed >= self.failure.times:
            self.returned.add(n)
            return
        self.failed += 1
        if kind == "hang":
            await anyio.sleep_forever()
        if kind == "die":
            if self.policy == "stop_item":  # with the other one, nothing runs beside it
                await self._others_ended.wait()
            self.is_dead = True
        raise NonRetryable("no such account") if kind == "refuse" else ConnectionError

    def run(self) -> tuple[MappingReport, list[int]]:
        """Return what the mapping did, and the records of the effects, in order."""
        try:
            with without_waits():
                report = self.mapping.run(self.raws)
        finally:
            self.stop()
        if self.way == "transaction":
            return report, [int(write.item["n"]) for write in self.transactions.writes]
        return report, self.effects

    def cell(self) -> str:
        """Return how often the effect of each record ran, and what became of it."""
        report, effects = self.run()
        counts = Counter(effects)
        lost = {number for each in report.given_up for number in each.numbers}
        parked = {letter.sequence_number for letter in self.letters}
        marks = []
        for n, number in enumerate(self.numbers, 1):
            mark = "†" if number in parked else ""
            if number in lost and n not in self.returned and not mark:
                mark = "✗"
            marks.append(f"{counts[n]}{mark}")
        self.check(report, effects, lost, parked)
        return " ".join(marks)

    def check(
        self, report: MappingReport, effects: list[int], lost: set[str], parked: set[str]
    ) -> None:
        """Check the promise: nothing is lost but what Lambda gave up, and items are in order."""
        assert report.pending == ()
        for invocation in report.invocations:
            assert isinstance(invocation.error, (type(None), RecordsFailed, SandboxDied))
        for n, number in enumerate(self.numbers, 1):
            assert n in effects or number in lost | parked
        for first, second in ((2, 6), (3, 5)):
            of_item = [n for n in effects if n in (first, second)]
            assert second not in of_item or of_item[-1] == second, "an older effect stands last"


class Marks(MemoryMarks):
    """Marks that a process which has died can write no more."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    async def complete(self, key: str, token: str, *, until: float) -> bool:
        self._world.refuse_if_dead()
        return await super().complete(key, token, until=until)

    async def release(self, key: str, token: str) -> bool:
        self._world.refuse_if_dead()
        return await super().release(key, token)


def tables() -> dict[FailurePolicy, str]:
    """Return the documents' tables, by failure policy."""
    worlds = [
        [[World(failure, policy, way) for way in WAYS] for failure in FAILURES]
        for policy in POLICIES
    ]
    flat = [world for table in worlds for row in table for world in row]
    hanging = [world for world in flat if world.failure.kind == "hang"]
    with ThreadPoolExecutor(len(hanging)) as pool:  # they wait for their deadlines side by side
        cells = dict(zip(map(id, hanging), pool.map(World.cell, hanging), strict=True))
    cells |= {id(world): world.cell() for world in flat if id(world) not in cells}
    return {
        policy: "\n".join(
            [
                f"| {' | '.join(HEAD)} |",
                "|---|---|---|---|---|",
                *(
                    f"| {failure.name} | {' | '.join(cells[id(world)] for world in row)} |"
                    for failure, row in zip(FAILURES, table, strict=True)
                ),
            ]
        )
        for policy, table in zip(POLICIES, worlds, strict=True)
    }


@pytest.fixture(scope="module")
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("dynaflow")
    before = logger.level
    logger.setLevel(logging.CRITICAL)  # it forgets what it has remembered; an assignment does not
    yield
    logger.setLevel(before)


@pytest.mark.usefixtures("_quiet")
def test_the_tables_of_the_document_are_what_the_mapping_makes_of_the_handler() -> None:
    text = Document(PAGE).text
    for policy, table in tables().items():
        assert table in text, f"{policy}: python -m tests.test_runs_table prints what is true"


if __name__ == "__main__":
    logging.getLogger("dynaflow").setLevel(logging.CRITICAL)
    for policy, table in tables().items():
        sys.stdout.write(f"{policy}\n\n{table}\n\n")
