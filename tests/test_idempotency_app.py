"""Idempotent in an App: through the test client, Lambda's handler, threads and processes."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer
from aws_lambda_powertools.utilities.idempotency.persistence.datarecord import DataRecord

from dynaflow import (
    App,
    Batch,
    Change,
    Deadline,
    F,
    HandlerContext,
    Idempotent,
    PartialFailure,
    Record,
    Retry,
    Router,
    Skip,
    Status,
)
from dynaflow._mark_keys import MarkKeys
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.errors import InProgress, StoreError
from dynaflow.retry import without_waits
from dynaflow.stores import DynamoDBMarks, MemoryMarks, SqliteMarks
from dynaflow.testing import TestClient
from dynaflow.testing.clock import run_virtual
from tests.support.batches import batch_of
from tests.support.routers import ITEM, nothing
from tests.support.tables import Table

BASE = 1_800_000_000.0


def virtual_now() -> float:
    return BASE + anyio.current_time()


def virtual_batch(items: str, seconds: float) -> Batch:
    return batch_of(items, deadline=Deadline.after(seconds, anyio.current_time))


def test_a_record_that_comes_twice_is_handled_once() -> None:
    calls: list[str] = []
    router = Router(middleware=[Idempotent(MemoryMarks())])
    router.on_insert(name="ship")(lambda: calls.append("ship"))
    with TestClient(App(router)) as stream:
        record = stream.records.insert(ITEM)
        assert stream.send(record).handled_by == ["ship"]
        again = stream.send(record)
    assert again.failed is None
    assert again.repeated_by == ["ship"]
    assert calls == ["ship"]


def test_it_stands_around_an_app_a_router_and_a_route() -> None:
    calls: list[str] = []
    store = MemoryMarks()
    router = Router(middleware=[Idempotent(store)])
    by_order = Idempotent(store, key=F.new.order)
    router.on_insert(name="ship", middleware=[by_order])(lambda: calls.append("ship"))
    router.on_insert(name="bill")(lambda: calls.append("bill"))
    with TestClient(App(router, middleware=[Idempotent(store)])) as stream:
        for number in range(3):
            assert stream.insert({"id": str(number), "order": 7}).failed is None
    assert Counter(calls) == {"ship": 1, "bill": 3}


def test_what_on_error_makes_a_skip_of_is_handled_once() -> None:
    router, calls = Router(middleware=[Idempotent(MemoryMarks())]), list[str]()

    @router.on_error(KeyError)
    def nothing_to_do(error: KeyError, context: HandlerContext) -> Skip:
        return Skip(f"{context.route} has nothing to do")

    @router.on_insert(name="ship")
    async def ship() -> None:
        calls.append("ship")
        raise KeyError

    with TestClient(router) as stream:
        record = stream.records.insert({"id": "1"})
        assert stream.send(record).skipped_by == ["ship"]
        assert stream.send(record).repeated_by == ["ship"]
    assert calls == ["ship"]


def test_a_failed_record_is_handled_when_it_comes_again() -> None:
    away = [ConnectionError(), SystemExit(1)]
    router = Router(middleware=[Idempotent(MemoryMarks())])

    @router.on_insert(name="ship")
    async def ship() -> None:
        if away:
            raise away.pop()

    with TestClient(App(router)) as stream:
        record = stream.records.insert(ITEM)
        assert stream.send(record).failed is not None
        assert stream.send(record).failed is not None
        assert stream.send(record).handled_by == ["ship"]


@pytest.mark.parametrize("timeout", [None, 20.0])
def test_a_handler_that_cancels_its_own_task_releases_and_hurts_no_other_record(
    timeout: float | None,
) -> None:
    store, calls = MemoryMarks(), list[str]()
    router = Router(middleware=[Idempotent(store)])

    @router.on_insert(name="ship")
    async def ship(new: dict[str, Any]) -> None:
        calls.append(new["id"])
        if calls == ["a"]:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

    with TestClient(App(router, concurrency=1), timeout=timeout) as stream:
        raws = [stream.records.insert({"id": item}) for item in "ab"]
        result = stream.send(raws)
        assert [type(error) for error in result.errors] == [asyncio.CancelledError]
        assert len(store) == 1
        assert stream.send(raws).failed is None
    assert calls == ["a", "b", "a"]


def test_two_records_with_one_key_side_by_side_have_one_effect() -> None:
    effects: list[str] = []
    by_order = Idempotent(MemoryMarks(), key=lambda record: "order-7", clock=virtual_now)
    router = Router(middleware=[by_order])

    @router.on_insert(name="ship")
    async def ship(record: Record) -> None:
        await anyio.sleep(2)
        effects.append(record.event_id)

    async def main() -> None:
        result = await App(router).process(virtual_batch("abc", 60))
        assert result.failed is None
        assert result.repeated_by == ["ship", "ship"]

    run_virtual(main)
    assert len(effects) == 1


def test_a_call_that_the_deadline_cuts_off_leaves_no_mark() -> None:
    store, seconds = MemoryMarks(), [100.0, 0.0]
    router = Router(middleware=[Idempotent(store, clock=virtual_now)])

    @router.on_insert(name="ship")
    async def ship() -> None:
        await anyio.sleep(seconds.pop(0))

    async def main() -> None:
        app, batch = App(router), virtual_batch("a", 30)
        assert (await app.process(batch)).failed is batch.records[0]
        assert anyio.current_time() == pytest.approx(27)
        assert len(store) == 0
        again = Batch(batch.records, batch.source_arn, Deadline.after(30, anyio.current_time))
        assert (await app.process(again)).handled_by == ["ship"]

    run_virtual(main)


def test_what_another_process_works_on_is_not_done_here() -> None:
    store, calls = MemoryMarks(), list[str]()
    router = Router(middleware=[Idempotent(store, clock=virtual_now)])
    router.on_insert(name="ship")(lambda: calls.append("ship"))

    async def main() -> None:
        batch = virtual_batch("ab", 30)
        record = batch.records[0]
        assert isinstance(record, Record)
        key = MarkKeys(None, "").of(record, "ship")
        await store.begin(key, "another", now=virtual_now(), until=virtual_now() + 900)
        result = await App(router, retry=Retry(attempts=3)).process(batch)
        assert result.not_done == (record,)
        assert calls == ["ship"], "the other item's"
        waited = [outcome for outcome in result.outcomes if outcome.record is record]
        assert [outcome.status for outcome in waited] == [Status.NOT_DONE]
        assert anyio.current_time() == pytest.approx(24), "once, to twice the margin"

    run_virtual(main)


def test_a_record_that_another_process_works_on_does_not_run_into_the_routes_time_out() -> None:
    store, letters = MemoryMarks(), list[DeadLetterRecord]()
    layer = Idempotent(store, clock=virtual_now)
    router = Router(middleware=[layer], timeout=5, retry=Retry(attempts=2))

    @router.on_insert(name="ship")
    async def ship() -> None: ...

    app = App(router, dead_letter=letters.append, after_deliveries=1)

    async def main() -> None:
        batch = virtual_batch("a", seconds=60)
        (record,) = batch.records
        assert isinstance(record, Record)
        key, now = MarkKeys(None, "").of(record, "ship"), virtual_now()
        await store.begin(key, "another", now=now, until=now + 60)
        (outcome,) = (await app.process(batch)).outcomes
        assert outcome.status is Status.NOT_DONE
        assert isinstance(outcome.error, InProgress)

    run_virtual(main)
    assert letters == [], "what another process may be about to do"


def test_each_attempt_has_a_mark_of_its_own() -> None:
    store, calls = MemoryMarks(), list[int]()
    router = Router(middleware=[Idempotent(store, clock=virtual_now)], timeout=5)

    @router.on_insert(name="ship")
    async def ship() -> None:
        calls.append(len(store))
        if len(calls) == 1:
            raise ConnectionError
        await anyio.sleep(100 if len(calls) == 2 else 0)

    async def main() -> None:
        app = App(router, retry=Retry(attempts=3, wait_initial=0))
        assert (await app.process(virtual_batch("a", 60))).handled_by == ["ship"]

    run_virtual(main)
    assert calls == [1, 1, 1]


def test_a_batch_route_is_called_with_those_that_are_not_done() -> None:
    calls: list[str] = []
    router = Router()

    @router.on_batch(middleware=[Idempotent(MemoryMarks())], name="index")
    async def index(records: list[Record]) -> None:
        calls.append("".join(record.keys["id"] for record in records))

    with TestClient(App(router)) as stream:
        raws = [stream.records.insert({"id": item}) for item in "abcd"]
        assert stream.send([raws[0], raws[2]]).failed is None
        result = stream.send(raws)
        assert result.failed is None
        assert result.repeated_by == ["index", "index"]
        assert stream.send(raws).repeated_by == ["index"] * 4
    assert calls == ["ac", "bd"]


def test_what_a_batch_route_names_as_failed_comes_again_alone() -> None:
    calls: list[str] = []
    router = Router()

    @router.on_batch(middleware=[Idempotent(MemoryMarks())], name="index")
    async def index(changes: list[Change[dict[str, Any]]]) -> None:
        calls.append("".join(change.keys["id"] for change in changes))
        if len(calls) == 1:
            raise PartialFailure([changes[1]])

    with TestClient(App(router)) as stream:
        raws = [stream.records.insert({"id": item}) for item in "abcb"]
        assert stream.send(raws).failed is not None
        assert stream.send(raws).failed is None
    assert calls == ["abcb", "bb"]


def test_a_mark_stays_while_a_thread_that_was_cut_off_still_works() -> None:
    store, go_on, began = MemoryMarks(), threading.Event(), threading.Event()
    router = Router(middleware=[Idempotent(store)])

    @router.on_insert(name="ship")
    def ship() -> None:
        began.set()
        go_on.wait(20)

    try:
        with TestClient(App(router), timeout=0.8) as stream:
            record = stream.records.insert(ITEM)
            assert stream.send(record).failed is not None
            assert began.is_set()
            assert len(store) == 1
    finally:
        go_on.set()


def test_lambda_waits_for_what_another_invocation_works_on() -> None:
    store, calls = MemoryMarks(), list[str]()
    router = Router(middleware=[Idempotent(store)])
    router.on_insert(name="ship")(lambda: calls.append("ship"))
    handler = App(router).lambda_handler(report_batch_item_failures=True)
    batch = batch_of("a")
    event = {"Records": [record.raw for record in batch.records]}
    key = MarkKeys(None, "").of(batch.records[0], "ship")  # type: ignore[arg-type]  # it is one
    now = time.time()
    anyio.run(lambda: store.begin(key, "another", now=now, until=now + 0.2))
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 10_000)
    assert handler(event, context) == {"batchItemFailures": []}
    assert calls == ["ship"]
    assert handler(event, context) == {"batchItemFailures": []}
    assert calls == ["ship"]


def test_lambda_gets_back_what_another_invocation_still_works_on() -> None:
    store = MemoryMarks()
    router = Router(middleware=[Idempotent(store)])
    router.on_insert(name="ship")(nothing)
    handler = App(router).lambda_handler(report_batch_item_failures=True)
    batch = batch_of("a")
    key = MarkKeys(None, "").of(batch.records[0], "ship")  # type: ignore[arg-type]  # it is one
    now = time.time()
    anyio.run(lambda: store.begin(key, "another", now=now, until=now + 60))
    context = SimpleNamespace(get_remaining_time_in_millis=lambda: 10_000)
    with without_waits():
        answer = handler({"Records": [record.raw for record in batch.records]}, context)
    number = batch.records[0].sequence_number
    assert answer == {"batchItemFailures": [{"itemIdentifier": number}]}


# Processes

CONTENDER = """
import os, sys, anyio
from dynaflow import App, Idempotent, Router
from dynaflow.stores import SqliteMarks
from tests.support.batches import batch_of
from dynaflow import Batch, Deadline

folder, name = sys.argv[1:]
marks = SqliteMarks(f"{folder}/marks.db", busy_timeout=30)
router = Router(middleware=[Idempotent(marks, chance=lambda: 0.9)])

def note(line):
    with open(f"{folder}/log", "a") as log:
        log.write(line + "\\n")

@router.on_insert(name="ship")
async def ship(new: dict) -> None:
    here = f"{folder}/running-{new['id']}"
    os.close(os.open(here, os.O_CREAT | os.O_EXCL))  # fails where another is in here
    try:
        await anyio.sleep(0)
        if int(new["id"]) % 5 == 0 and not os.path.exists(f"{folder}/failed-{new['id']}"):
            open(f"{folder}/failed-{new['id']}", "w").close()
            raise ConnectionError("the first time")
        note(new["id"])
    finally:
        os.remove(here)

async def main():
    batch = batch_of([str(number) for number in range(200)])
    app = App(router, concurrency=4)
    async with marks, app.lifespan():
        left = batch
        while left.records:
            result = await app.process(Batch(left.records, left.source_arn, Deadline.after(60)))
            wrong = [error for error in result.errors if not isinstance(error, ConnectionError)]
            if wrong:
                raise wrong[0]
            left = Batch(result.not_done, left.source_arn)

anyio.run(main)
"""


def test_of_two_processes_one_at_a_time_has_a_key_and_one_is_done_with_it(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[1])
    command = [sys.executable, "-c", CONTENDER, str(tmp_path)]
    processes = [
        subprocess.Popen([*command, name], cwd=root, stderr=subprocess.PIPE, text=True)
        for name in ("one", "other")
    ]
    errors = [process.communicate(timeout=50)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    done = Counter((tmp_path / "log").read_text().split())
    assert done == {str(number): 1 for number in range(200)}


KILLED = """
import sys, anyio
from dynaflow import App, Idempotent, Router
from dynaflow.stores import SqliteMarks
from tests.support.batches import batch_of

router = Router(middleware=[Idempotent(SqliteMarks(sys.argv[1]), in_progress_for=60)])

@router.on_insert(name="ship")
async def ship() -> None:
    print("running", flush=True)
    await anyio.sleep(60)

anyio.run(lambda: App(router).process(batch_of("a")))
"""


def test_what_a_killed_process_worked_on_is_taken_over_when_its_mark_has_expired(
    tmp_path: Path,
) -> None:
    path = tmp_path / "marks.db"
    command = [sys.executable, "-c", KILLED, str(path)]
    root = str(Path(__file__).parents[1])
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGKILL)

    async def deliver(later: float) -> list[str]:
        async with SqliteMarks(path) as marks:
            layer = Idempotent(marks, clock=lambda: time.time() + later)
            router = Router(middleware=[layer])
            router.on_insert(name="ship")(nothing)
            result = await App(router).process(batch_of("a"))
            assert all(isinstance(error, InProgress) for error in result.errors)
            return result.handled_by

    with without_waits():
        assert anyio.run(deliver, 50.0) == []
        assert anyio.run(deliver, 61.0) == ["ship"]
        assert anyio.run(deliver, 61.0) == []


# Powertools


@pytest.fixture
def marks(table: Table) -> DynamoDBMarks:
    return DynamoDBMarks(table.name, client=table.client)


@pytest.fixture
def powertools(table: Table) -> Iterator[Any]:
    yield DynamoDBPersistenceLayer(table_name=table.name, boto3_client=table.client)


def test_powertools_can_read_a_mark_of_ours(marks: DynamoDBMarks, powertools: Any) -> None:
    async def main() -> None:
        await marks.begin("ours", "a", now=time.time(), until=time.time() + 60)
        assert powertools._get_record("ours").status == "INPROGRESS"
        await marks.complete("ours", "a", until=time.time() + 600)
        record = powertools._get_record("ours")
        assert record.status == "COMPLETED"
        assert record.expiry_timestamp > time.time() + 590

    anyio.run(main)


def test_a_mark_of_powertools_counts_as_long_as_for_powertools(
    marks: DynamoDBMarks, powertools: Any
) -> None:
    now = int(time.time())

    async def is_held(status: str, expires_in: int, in_progress_for: int | None) -> bool:
        key = f"{status} {expires_in} {in_progress_for}"
        in_ms = None if in_progress_for is None else (now + in_progress_for) * 1000
        powertools._put_record(DataRecord(key, status, now + expires_in, in_ms))
        mark = await marks.begin(key, "a", now=now, until=now + 60)
        if mark is None:
            return False
        assert mark.is_completed == (status == "COMPLETED")
        assert mark.token == ""
        assert not await marks.complete(key, "a", until=now + 60)
        assert not await marks.release(key, "a")
        return True

    async def main() -> None:
        assert await is_held("COMPLETED", 60, None)
        assert not await is_held("COMPLETED", -60, None)
        assert await is_held("INPROGRESS", 60, 30)
        assert not await is_held("INPROGRESS", 60, -30)
        assert await is_held("INPROGRESS", 60, None)
        assert not await is_held("INPROGRESS", -60, None)

    anyio.run(main)


def test_time_to_live_has_seconds_in_which_no_mark_counts_any_more(
    marks: DynamoDBMarks, table: Table
) -> None:
    async def main() -> None:
        await marks.begin("key", "a", now=BASE, until=BASE + 60.5)
        (item,) = table.items
        assert item["expiration"] == {"N": str(int(BASE) + 61)}
        assert item["in_progress_expiration"] == {"N": str(int(BASE) * 1000 + 60_500)}

    anyio.run(main)


def test_an_item_that_is_no_mark_is_refused(marks: DynamoDBMarks, table: Table) -> None:
    table.put("key")

    async def main() -> None:
        with pytest.raises(StoreError, match="under a key of dynaflow's is no mark"):
            await marks.begin("key", "a", now=BASE, until=BASE + 60)

    anyio.run(main)


def test_a_table_that_is_not_there_fails_with_what_to_check(table: Table) -> None:
    marks = DynamoDBMarks("nowhere", client=table.client)

    async def main() -> None:
        with pytest.raises(
            StoreError, match="put_item on the table of marks 'nowhere' failed: ResourceNotFound"
        ):
            await marks.begin("key", "a", now=BASE, until=BASE + 60)

    anyio.run(main)


class WithoutOldItems:
    """A client of a DynamoDB that does not send the item which fails a condition."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def put_item(self, **arguments: Any) -> Any:
        del arguments["ReturnValuesOnConditionCheckFailure"]
        return self._client.put_item(**arguments)

    def get_item(self, **arguments: Any) -> Any:
        assert arguments["ConsistentRead"]
        return self._client.get_item(**arguments)


def test_where_a_failed_condition_comes_without_the_item_it_is_read(table: Table) -> None:
    marks = DynamoDBMarks(table.name, client=WithoutOldItems(table.client))

    async def main() -> None:
        assert await marks.begin("key", "a", now=BASE, until=BASE + 60) is None
        mark = await marks.begin("key", "b", now=BASE, until=BASE + 60)
        assert mark is not None
        assert mark.token == "a"  # noqa: S105 - no password

    anyio.run(main)


# SQLite


def test_a_file_of_checkpoints_is_none_of_marks(tmp_path: Path) -> None:
    from dynaflow.stores import SqliteStore

    async def main() -> None:
        async with SqliteStore(tmp_path / "file.db") as checkpoints:
            await checkpoints.load("app", "arn")
        async with SqliteMarks(tmp_path / "file.db") as marks:
            with pytest.raises(StoreError, match=r"file of marks .* belongs to another program or"):
                await marks.begin("key", "a", now=BASE, until=BASE + 60)

    anyio.run(main)


def test_loops_of_several_threads_share_a_file(tmp_path: Path) -> None:
    store, taken = SqliteMarks(tmp_path / "marks.db"), list[str]()
    ready = threading.Barrier(3, timeout=10)

    async def take(token: str, key: str) -> None:
        with anyio.fail_after(10):
            if await store.begin(key, token, now=BASE, until=BASE + 60) is None:
                taken.append(key)

    async def take_all(token: str) -> None:
        ready.wait()
        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(take, token, f"key-{number}")

    with ThreadPoolExecutor() as threads:
        runs = [
            threads.submit(partial(anyio.run, take_all, token, backend=backend))
            for token, backend in (("one", "asyncio"), ("another", "asyncio"), ("third", "trio"))
        ]
    assert [run.result() for run in runs] == [None, None, None]
    assert sorted(taken) == sorted(f"key-{number}" for number in range(50))
    anyio.run(store.aclose)


@pytest.mark.parametrize("store", ["memory", "sqlite"])
def test_expired_marks_are_removed_now_and_then(tmp_path: Path, store: str) -> None:
    async def main() -> None:
        marks = MemoryMarks() if store == "memory" else SqliteMarks(tmp_path / "marks.db")
        for number in range(120):
            await marks.begin(f"old-{number}", "a", now=BASE, until=BASE + 1)
        for number in range(120):
            await marks.begin(f"new-{number}", "a", now=BASE + 10, until=BASE + 20)
        if isinstance(marks, MemoryMarks):
            assert len(marks) < 200
        else:
            connection = marks._file.connection
            assert connection is not None
            (count,) = connection.execute("SELECT count(*) FROM mark").fetchone()
            assert count < 200
            await marks.aclose()

    anyio.run(main)


def test_a_locked_file_fails_the_record_and_is_left_at_once_when_the_call_is_cancelled(
    tmp_path: Path,
) -> None:
    import sqlite3
    from contextlib import closing

    path = tmp_path / "marks.db"

    async def main() -> None:
        async with SqliteMarks(path, busy_timeout=0.01) as marks:
            assert await marks.begin("first", "a", now=BASE, until=BASE + 60) is None
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(StoreError, match="SQLITE_BUSY"):
                    await marks.begin("key", "a", now=BASE, until=BASE + 60)
        async with SqliteMarks(path, busy_timeout=5) as marks:
            await marks.release("nothing", "a")  # the file is open and checked
            with closing(sqlite3.connect(path, isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                started = time.monotonic()
                with anyio.move_on_after(0.05) as scope:
                    await marks.begin("key", "a", now=BASE, until=BASE + 60)
                assert scope.cancelled_caught
                with anyio.move_on_after(0.05) as scope:
                    await marks.begin("never", "a", now=BASE, until=BASE + 60)
                assert scope.cancelled_caught
                assert time.monotonic() - started < 2
                other.execute("ROLLBACK")
            assert await marks.release("key", "a"), "after what was left has come to its end"
            assert await marks.begin("never", "b", now=BASE, until=BASE + 60) is None
            assert await marks.begin("key", "b", now=BASE, until=BASE + 60) is None

    anyio.run(main)
