"""The memory of deliveries: what is not called again, and what has to be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dynaflow import App, Batch, BatchResult, Record, Router
from dynaflow.engine.memory import Memory
from dynaflow.testing import EventSourceMapping, RecordBuilder, TestClient
from tests.support.batches import batch_of, rest_of, step_of

ORDERS = RecordBuilder(keys=("id",), table="orders")


class Handlers:
    """Routes that note what they are called with, and fail what they are told to."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.failing: set[tuple[str, int]] = set()

    def router(self, *names: str) -> Router:
        router = Router()
        for name in names:
            router.on_any(name=name)(self._handler(name))
        return router

    def _handler(self, name: str) -> Callable[..., None]:
        def handle(record: Record) -> None:
            self.calls.append((name, step_of(record)))
            if (name, step_of(record)) in self.failing:
                raise ConnectionError

        return handle

    def taken(self) -> list[tuple[str, int]]:
        calls, self.calls = self.calls, []
        return sorted(calls)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def deliver(app: App, batch: Batch, memory: Memory | None = None) -> BatchResult:
    return await app.process(batch, memory=memory)


@pytest.mark.anyio
async def test_what_an_answer_brings_back_is_not_called_again() -> None:
    handlers = Handlers()
    app, batch = App(handlers.router("save")), batch_of("abc")
    handlers.failing = {("save", 1)}
    first = await deliver(app, batch)
    assert handlers.taken() == [("save", 0), ("save", 1), ("save", 2)]
    handlers.failing = set()
    second = await deliver(app, rest_of(batch, first.failed))
    assert handlers.taken() == [("save", 1)]
    assert second.failed is None
    assert second.repeated_by == ["save"]


@pytest.mark.anyio
async def test_only_the_route_that_failed_is_called_again() -> None:
    handlers = Handlers()
    app, batch = App(handlers.router("save", "mail")), batch_of("a")
    handlers.failing = {("mail", 0)}
    await deliver(app, batch)
    handlers.taken()
    await deliver(app, batch)
    assert handlers.taken() == [("mail", 0)]


@pytest.mark.anyio
@pytest.mark.parametrize("exclusive", [False, True])
async def test_several_records_of_an_item_come_again_together_unless_nobody_else_runs_them(
    *, exclusive: bool
) -> None:
    handlers = Handlers()
    app, batch, memory = App(handlers.router("save")), batch_of("xaa"), Memory(exclusive=exclusive)
    handlers.failing = {("save", 0)}
    await deliver(app, batch, memory)
    handlers.taken()
    await deliver(app, batch, memory)
    again = [] if exclusive else [("save", 1), ("save", 2)]
    assert handlers.taken() == [("save", 0), *again]


@pytest.mark.anyio
async def test_behind_a_record_that_runs_again_its_item_runs_again() -> None:
    handlers = Handlers()
    app, batch = App(handlers.router("save")), batch_of("xaa")
    memory = Memory(exclusive=True, size=1)  # of the two of item a the first is forgotten
    handlers.failing = {("save", 0)}
    await deliver(app, batch, memory)
    handlers.taken()
    await deliver(app, batch, memory)
    assert handlers.taken() == [("save", 0), ("save", 1), ("save", 2)]


@pytest.mark.anyio
async def test_what_was_to_run_again_and_was_cut_off_is_not_skipped_later() -> None:
    handlers = Handlers()
    app, batch = App(handlers.router("save"), threads=0), batch_of("xaa")
    memory = Memory(exclusive=True)
    handlers.failing = {("save", 0)}
    await deliver(app, batch, memory)
    behind = batch.records[2]
    assert memory.has_done(behind, "save")
    assert not memory.has_done(behind, "save", parked=True)  # as one before it runs again
    assert not memory.has_done(behind, "save")


@pytest.mark.anyio
async def test_behind_what_only_a_batch_route_runs_again_other_routes_do_not() -> None:
    handlers, calls, router = Handlers(), list[list[int]](), Router()

    @router.on_batch(name="index")
    def index(records: list[Record]) -> None:
        calls.append([step_of(record) for record in records])
        if len(calls) == 1:
            raise ConnectionError

    app, batch, memory = (
        App(handlers.router("save"), router),
        batch_of("aa"),
        Memory(exclusive=True),
    )
    await deliver(app, batch, memory)
    assert handlers.taken() == [("save", 0), ("save", 1)]
    assert (await deliver(app, batch, memory)).failed is None
    assert handlers.taken() == []
    assert calls == [[0, 1], [0, 1]]


@pytest.mark.anyio
async def test_what_a_batch_route_has_done_is_not_in_its_next_call() -> None:
    calls: list[list[int]] = []
    router = Router()

    @router.on_batch(name="index")
    def index(records: list[Record]) -> None:
        calls.append([step_of(record) for record in records])

    @router.on_any(name="save")
    def save(record: Record) -> None:
        if step_of(record) == 1 and len(calls) < 2:
            raise ConnectionError

    app, batch = App(router), batch_of("abc")
    await deliver(app, batch)
    assert calls == [[0, 2]]
    calls.append([])
    second = await deliver(app, Batch(batch.records[1:], batch.source_arn))
    assert second.failed is None
    assert calls == [[0, 2], [], [1]]


@pytest.mark.anyio
async def test_it_is_forgotten_after_its_time_and_when_the_batch_is_done() -> None:
    now = 0.0
    handlers = Handlers()
    app, batch = App(handlers.router("save")), batch_of("xa")
    memory = Memory(clock=lambda: now, lasts=900)
    handlers.failing = {("save", 0)}
    await deliver(app, batch, memory)
    handlers.taken()
    now = 899.0
    await deliver(app, batch, memory)
    assert handlers.taken() == [("save", 0)]
    now = 901.0
    await deliver(app, batch, memory)
    assert handlers.taken() == [("save", 0), ("save", 1)]
    handlers.failing = set()
    await deliver(app, batch, memory)
    assert handlers.taken() == [("save", 0)]
    await deliver(app, batch, memory)  # for example because the whole stretch is read anew
    assert handlers.taken() == [("save", 0), ("save", 1)]
    assert not memory


@pytest.mark.anyio
async def test_another_record_with_the_same_ids_is_no_repeat() -> None:
    handlers = Handlers()
    app = App(handlers.router("save"))
    handlers.failing = {("save", 0)}
    await deliver(app, batch_of("xa"))
    handlers.taken()
    await deliver(app, batch_of("xb"))  # as in events that are made by hand
    assert ("save", 1) in handlers.taken()


@pytest.mark.anyio
async def test_deliveries_are_counted_for_what_was_called_and_not_done() -> None:
    handlers, memory = Handlers(), Memory(exclusive=True)
    app, batch = App(handlers.router("save", "mail")), batch_of("aab")
    handlers.failing = {("mail", 0)}
    for _ in range(3):
        await deliver(app, batch, memory)
    numbers = [record.sequence_number for record in batch.records]
    assert memory.failures_of(batch.records) == {(numbers[0], "mail"): 3}
    assert [memory.failures(record, "mail") for record in batch.records] == [3, 0, 0]


def test_counts_go_on_from_those_that_it_is_seeded_with() -> None:
    memory, batch = Memory(exclusive=True), batch_of("a")
    (record,) = batch.records
    memory.seed({(record.sequence_number, "save"): 4})
    assert memory.failures(record, "save") == 4
    assert memory.failures(record, "mail") == 0
    assert memory.failures_of(batch.records) == {(record.sequence_number, "save"): 4}


def test_when_the_whole_batch_comes_again_all_of_it_is_remembered() -> None:
    handlers = Handlers()
    handlers.failing = {("save", 2)}
    handler = App(handlers.router("save")).lambda_handler(report_batch_item_failures=False)
    raws = [ORDERS.insert({"id": item, "step": step}) for step, item in enumerate("abcd")]
    mapping = EventSourceMapping(handler, maximum_retry_attempts=2)
    mapping.run(raws)
    assert sorted(handlers.calls) == [("save", 0), ("save", 1)] + [("save", 2)] * 3 + [("save", 3)]


def test_no_test_client_remembers_what_another_did() -> None:
    handlers = Handlers()
    handlers.failing = {("save", 0)}
    app = App(handlers.router("save"))
    for _ in range(2):
        with TestClient(app) as stream:
            batch = [stream.records.insert({"id": name, "step": n}) for n, name in enumerate("ab")]
            stream.send(batch)
            stream.send(batch)
        assert handlers.taken() == [("save", 0), ("save", 0), ("save", 1)]


@pytest.mark.anyio
async def test_no_async_test_client_remembers_what_another_did() -> None:
    handlers = Handlers()
    handlers.failing = {("save", 0)}
    app = App(handlers.router("save"))
    for _ in range(2):
        async with TestClient(app) as stream:
            batch = [stream.records.insert({"id": name, "step": n}) for n, name in enumerate("ab")]
            await stream.send(batch)
            await stream.send(batch)
        assert handlers.taken() == [("save", 0), ("save", 0), ("save", 1)]


@pytest.mark.anyio
async def test_what_has_expired_is_gone_with_the_next_batch() -> None:
    now = 0.0
    handlers = Handlers()
    app, memory = App(handlers.router("save")), Memory(exclusive=True, clock=lambda: now)
    handlers.failing = {("save", 0)}
    batch = batch_of("xa")
    first = await deliver(app, batch, memory)
    await deliver(app, Batch(first.not_done, batch.source_arn), memory)  # as the poller does
    assert memory
    handlers.failing, now = set(), 100_000.0
    await deliver(app, batch_of("b"), memory)
    assert not memory
