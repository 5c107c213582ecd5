"""Observers that raise, hang or are slow: none of them hurts a record, nor delays it for long."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from dynaflow import App, BatchResult, Router, Status
from dynaflow._pump import MOMENT, Pump, wait_until_seen
from dynaflow.batch import Outcome
from dynaflow.observe import CallEnded, Event, Observer
from dynaflow.testing import Stream, TestClient
from tests.support.batches import batch_of, step_of
from tests.support.command_line import run_python
from tests.support.watching import WAIT, Hanging, Noting

LONG = 10.0  # seconds: a wait of this length would be one for a hanging observer


def shop() -> Router:
    router = Router()

    @router.on_insert()
    def handler() -> None: ...

    return router


@contextmanager
def stream_to(*observers: Observer, **options: Any) -> Iterator[Stream]:
    with TestClient(App(shop(), observers=observers), **options) as stream:
        yield stream


def seconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def send(stream: Stream, count: int = 1) -> BatchResult:
    return stream.send([stream.records.insert({"id": str(n)}) for n in range(count)])


def call_ended(*, size_bytes: int = 0) -> CallEnded:
    (record,) = batch_of("a").records
    record.raw["dynamodb"]["SizeBytes"] = size_bytes
    return CallEnded((Outcome(record, "shop.handler", Status.DONE),))


def test_when_a_batch_is_answered_observers_have_seen_it() -> None:
    noting = Noting()
    with stream_to(noting) as stream:
        for number in range(1, 20):
            send(stream, 10)
            assert len(noting.batches) == number
            assert len(noting.calls) == 10 * number
    assert noting.threads == {"dynaflow-observer"}


def test_each_observer_sees_the_calls_of_an_item_in_order_and_the_batch_last() -> None:
    first, second = Noting(), Noting()
    items = [{"id": str(n % 7), "step": n} for n in range(1000)]
    with stream_to(first, second) as stream:
        stream.send([stream.records.insert(item) for item in items])
    for noting in (first, second):
        assert len(noting.calls) == 1000
        assert noting.events[-1] is noting.batches[0]
        for item in range(7):
            records = [call.outcome.record for call in noting.calls]
            steps = [step_of(record) for record in records if record.keys == {"id": str(item)}]
            assert steps == sorted(steps)


def test_an_observer_that_raises_hurts_neither_records_nor_other_observers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    errors = iter([ValueError("secret"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])

    def raising(event: Event) -> None:
        raise next(errors, OSError("secret"))

    noting = Noting()
    with stream_to(raising, noting) as stream:
        assert send(stream, 11).failed is None
    assert len(noting.events) == 12
    lines = [line.message for line in caplog.records]
    name = f"{__name__}.{raising.__qualname__}"
    assert lines == [
        f"observer {name} raised ValueError; the event is dropped",
        f"observer {name} raised OSError, the 10th error of it; the event is dropped",
    ]
    assert "secret" not in caplog.text


def test_an_observer_that_hangs_delays_an_answer_by_a_moment_and_the_next_one_not_at_all() -> None:
    hanging, noting = Hanging(), Noting()
    try:
        with stream_to(hanging, noting) as stream:
            assert MOMENT <= seconds(lambda: send(stream)) < LONG
            assert seconds(lambda: [send(stream) for _ in range(20)]) < MOMENT * 10
            assert len(noting.batches) == 21
            assert hanging.events == []
    finally:
        hanging.let_go.set()


def test_an_observer_is_waited_for_again_once_it_has_caught_up() -> None:
    hanging = Hanging()
    hanging.wanted = 4
    with stream_to(hanging) as stream:
        try:
            send(stream)
            send(stream)
        finally:
            hanging.let_go.set()
        assert hanging.caught_up.wait(WAIT)
        sent, ends_at = 2, time.monotonic() + WAIT
        while len(hanging.batches) < sent:  # the one that it catches up with may be a little later
            assert time.monotonic() < ends_at
            send(stream)
            sent += 1
        for _ in range(10):
            send(stream)
            sent += 1
            assert len(hanging.batches) == sent


def test_no_time_is_waited_for_that_the_batch_does_not_have() -> None:
    hanging = Hanging()
    try:
        with stream_to(hanging, timeout=0.2) as stream:
            assert seconds(lambda: send(stream)) < MOMENT
    finally:
        hanging.let_go.set()


def test_an_observer_is_not_given_up_because_a_batch_had_no_time_for_it() -> None:
    hanging = Hanging()
    pump = Pump(hanging)
    pump(call_ended())
    wait_until_seen([pump], 0.01)
    hanging.let_go.set()
    wait_until_seen([pump], WAIT)
    assert len(hanging.events) == 1


def test_events_that_do_not_fit_are_dropped_counted_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hanging = Hanging()
    hanging.wanted = 3
    pump, large = Pump(hanging), 12 * 1024 * 1024
    try:
        for _ in range(9):
            pump(call_ended(size_bytes=large))
        small = call_ended()
        pump(small)
        name = "observer tests.support.watching.Hanging"
        assert [line.message for line in caplog.records] == [
            f"{name} is slower than the records; events are dropped until it has caught up"
        ]
    finally:
        hanging.let_go.set()
    assert hanging.caught_up.wait(WAIT)
    pump(call_ended())
    wait_until_seen([pump], WAIT)
    assert len(hanging.events) == 4
    assert small in hanging.events
    assert [line.message for line in caplog.records][1:] == [
        f"{name} has caught up; 7 events were dropped"
    ]


def test_one_event_that_is_larger_than_the_queue_is_still_shown() -> None:
    noting = Noting()
    pump = Pump(noting)
    pump(call_ended(size_bytes=2**40))
    wait_until_seen([pump], WAIT)
    assert len(noting.events) == 1


def test_many_small_events_do_not_wait_without_end_either(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hanging = Hanging()
    pump, event = Pump(hanging), call_ended()
    try:
        for _ in range(100_000):
            pump(event)
        assert len(caplog.records) == 1
    finally:
        hanging.let_go.set()


def test_without_observers_there_is_no_thread() -> None:
    script = """
        import threading
        from dynaflow import App, Router
        from dynaflow.testing import TestClient
        router = Router()
        @router.on_insert()
        def handler() -> None: ...
        def watch(event): ...
        def names(app):
            with TestClient(app) as stream:
                before = {t.name for t in threading.enumerate()}
                stream.insert({"id": "1"})
                return sorted({t.name for t in threading.enumerate()} - before)
        print(names(App(router, threads=0)), names(App(Router(), threads=0, observers=[watch])))
    """
    assert run_python(script).stdout == "[] ['dynaflow-observer']\n"


def test_a_forked_process_has_observers_of_its_own() -> None:
    script = """
        import os, warnings
        from dynaflow import App, Router
        from dynaflow.testing import TestClient
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any such fork
        router, seen = Router(), []
        @router.on_insert()
        def handler() -> None: ...
        with TestClient(App(router, observers=[seen.append])) as stream:
            stream.insert({"id": "1"})
            child = os.fork()
            stream.insert({"id": "2"})
            assert len(seen) == 4, len(seen)
            if child == 0:
                os._exit(7)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    ran = run_python(script)
    assert (ran.stdout, ran.stderr) == ("7\n", "")


def test_a_fork_while_an_observer_works_leaves_the_child_able_to_watch() -> None:
    script = """
        import os, threading, warnings
        from dynaflow._pump import Pump, wait_until_seen
        from tests.test_observe_pump import call_ended
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of any such fork
        parent, held, seen = os.getpid(), threading.Event(), []
        def watch(event):
            if os.getpid() == parent and not held.is_set():
                held.wait()
            seen.append(event)
        pump = Pump(watch)
        pump(call_ended())
        pump._queue._changed.acquire()  # as another thread would have it, at the wrong moment
        child = os.fork()
        if child == 0:
            pump(call_ended())
            wait_until_seen([pump], 10)
            os._exit(len(seen))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        pump._queue._changed.release()
        held.set()
        wait_until_seen([pump], 10)
        print(len(seen))
    """
    ran = run_python(script)
    assert (ran.stdout, ran.stderr) == ("1\n1\n", "")


def test_an_observer_that_hangs_does_not_keep_the_process_from_ending() -> None:
    script = """
        import threading
        from dynaflow import App, Router
        from dynaflow.testing import TestClient
        router = Router()
        @router.on_insert()
        def handler() -> None: ...
        with TestClient(App(router, observers=[lambda event: threading.Event().wait()])) as stream:
            stream.insert({"id": "1"})
        print("over")
    """
    ran = run_python(script)
    assert (ran.returncode, ran.stdout) == (0, "over\n")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.anyio
async def test_on_a_loop_observers_have_seen_a_batch_when_it_is_answered() -> None:
    noting = Noting()
    async with TestClient(App(shop(), observers=[noting])) as stream:
        for number in range(1, 20):
            await stream.insert({"id": "1"})
            assert len(noting.batches) == number


@pytest.mark.anyio
async def test_an_observer_that_hangs_does_not_block_the_loop() -> None:
    hanging, ticks = Hanging(), 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(MOMENT / 10)
            ticks += 1

    try:
        async with TestClient(App(shop(), observers=[hanging])) as stream:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(tick)
                assert (await stream.insert({"id": "1"})).failed is None
                tasks.cancel_scope.cancel()
            with anyio.fail_after(5 * MOMENT):
                for _ in range(10):
                    await stream.insert({"id": "1"})
        assert ticks >= 3
        assert hanging.events == []
    finally:
        hanging.let_go.set()


@pytest.mark.anyio
async def test_the_poller_does_not_wait_for_observers_at_each_page() -> None:
    observers = [Hanging() for _ in range(20)]
    try:
        with anyio.fail_after(10 * MOMENT):
            for hanging in observers:
                app = App(shop(), observers=[hanging])
                assert (await app.process(batch_of("a"), shared=True)).failed is None
    finally:
        for hanging in observers:
            hanging.let_go.set()


@pytest.mark.anyio
async def test_the_poller_waits_for_observers_when_it_stops() -> None:
    hanging = Hanging()
    app = App(shop(), observers=[hanging])
    try:
        async with app.lifespan():
            for _ in range(5):
                assert (await app.process(batch_of("a"), shared=True)).failed is None
            assert hanging.events == []
            hanging.let_go.set()
    finally:
        hanging.let_go.set()
    assert len(hanging.batches) == 5


def test_several_observers_that_hang_cost_one_moment() -> None:
    observers = [Hanging() for _ in range(5)]
    try:
        with stream_to(*observers) as stream:
            assert seconds(lambda: send(stream)) < 3 * MOMENT
    finally:
        for hanging in observers:
            hanging.let_go.set()


def test_an_event_that_was_seen_is_not_kept() -> None:
    class KeptError(Exception): ...

    (record,) = batch_of("a").records
    event: CallEnded | None = CallEnded((Outcome(record, "x", Status.FAILED, KeptError()),))
    assert event is not None
    error = weakref.ref(event.outcome.error or record)
    pump = Pump(lambda event: None)
    pump(event)
    event = None
    wait_until_seen([pump], WAIT)
    gc.collect()
    assert error() is None
