"""Sync handlers: whole lanes in worker threads, with a loop and without one."""

from __future__ import annotations

import functools
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from dynaflow import App, Batch, BatchResult, Call, Deadline, Image, Process, Router, Status
from dynaflow._host import Host
from dynaflow.errors import ThreadsExhausted
from dynaflow.observe import CallEnded, Event
from tests.support.batches import batch_of, step_of

Run = Callable[[App, Batch], BatchResult]
WAIT = 20  # seconds after which a test gives up on a thread; never reached when all is well


@pytest.fixture
def host_run() -> Iterator[Run]:
    """Return what runs a batch as Lambda's door does; hosts are kept per app."""
    hosts: dict[int, Host] = {}

    def run(app: App, batch: Batch) -> BatchResult:
        return hosts.setdefault(id(app), Host(app)).process(batch)

    yield run
    for host in hosts.values():
        host.close()


@pytest.fixture(params=["without a loop", "on a loop"])
def run(request: pytest.FixtureRequest, host_run: Run) -> Run:
    if request.param == "without a loop":
        return host_run
    return lambda app, batch: anyio.run(app.process, batch)


class Hanging:
    """A sync handler that hangs at one item until it is let go."""

    def __init__(self, item: str = "hangs") -> None:
        self.item = item
        self.reached = threading.Event()
        self.let_go = threading.Event()
        self.back = threading.Event()
        self.called: list[int] = []

    def __call__(self, new: Image) -> None:
        self.called.append(int(new["step"]))
        if new["id"] == self.item and not self.let_go.is_set():
            self.reached.set()
            try:
                assert self.let_go.wait(WAIT)
            finally:
                self.back.set()


def app_of(handler: Callable[..., Any], **options: Any) -> App:
    router = Router()
    router.add_route(["INSERT"], handler, name="handler")
    return App(router, **options)


def steps(result: BatchResult) -> list[int]:
    return [step_of(record) for record in result.not_done]


def test_sync_handlers_run_in_several_threads_and_in_order_per_item(run: Run) -> None:
    meet = threading.Barrier(4)
    order: dict[str, list[int]] = {}
    threads: dict[str, set[int]] = {}

    def handler(new: Image) -> None:
        order.setdefault(new["id"], []).append(int(new["step"]))
        threads.setdefault(new["id"], set()).add(threading.get_ident())
        if new["step"] < 4:
            meet.wait(WAIT)  # all four items are at work at the same time

    result = run(app_of(handler, threads=4), batch_of("abcdabcdabcd"))
    assert result.failed is None
    assert all(numbers == sorted(numbers) for numbers in order.values())
    assert all(len(where) == 1 for where in threads.values()), "a lane stays in one thread"
    assert threading.get_ident() not in set().union(*threads.values())


def test_without_threads_handlers_run_on_the_calling_thread(run: Run) -> None:
    where = set()

    def handler() -> None:
        where.add(threading.get_ident())

    assert run(app_of(handler, threads=0), batch_of("abc")).failed is None
    assert where == {threading.get_ident()}


def test_threads_bound_how_many_sync_calls_run_at_a_time(run: Run) -> None:
    lock, peak, running = threading.Lock(), 0, 0
    meet = threading.Barrier(3)

    def handler() -> None:
        nonlocal peak, running
        with lock:
            running += 1
            peak = max(peak, running)
        meet.wait(WAIT)
        with lock:
            running -= 1

    run(app_of(handler, threads=3), batch_of(f"item-{n}" for n in range(30)))
    assert peak == 3


@pytest.mark.parametrize("error", [ValueError(), SystemExit(1), GeneratorExit(), StopIteration()])
def test_what_a_sync_handler_raises_is_the_failure_of_its_record(
    run: Run, error: BaseException
) -> None:
    def handler(new: Image) -> None:
        if new["step"] == 1:
            raise error

    result = run(app_of(handler), batch_of("abcb"))
    assert steps(result) == [1, 3]
    assert result.errors == [error]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_keyboard_interrupt_or_memory_error_is_raised_at_the_end(
    run: Run, error: type[BaseException]
) -> None:
    def handler(new: Image) -> None:
        if new["step"] == 1:
            raise error

    with pytest.raises(error):
        run(app_of(handler), batch_of("abc"))


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_they_are_contained_where_the_door_says_so(error: type[BaseException]) -> None:
    def handler(new: Image) -> None:
        if new["step"] == 1:
            raise error

    host = Host(app_of(handler, threads=1), contain=True)
    result = host.process(batch_of("abc"))
    expected = [1] if error is KeyboardInterrupt else [1, 2]  # out of memory: start nothing more
    assert steps(result) == expected


def test_context_variables_reach_the_threads_and_do_not_leak_between_calls(run: Run) -> None:
    request = ContextVar("request", default="none")
    seen = []

    def handler(new: Image) -> None:
        seen.append(request.get())
        request.set(f"left by {new['step']}")

    request.set("outside")
    run(app_of(handler, threads=1), batch_of("aab"))
    assert seen == ["outside"] * 3


# -- threads that outlive their deadline ----------------------------------------------------------


def test_a_hanging_handler_is_cut_off_and_everything_else_is_done(run: Run) -> None:
    hanging = Hanging()
    app = app_of(hanging, threads=2)
    try:
        batch = batch_of(["a", "hangs", "b", "hangs", "c"], deadline=Deadline.after(0.8))
        result = run(app, batch)
        assert steps(result) == [1, 3]
        assert hanging.reached.is_set()
    finally:
        hanging.let_go.set()


def test_the_item_of_a_lost_thread_does_not_start_until_the_thread_is_back(run: Run) -> None:
    hanging = Hanging()
    app = app_of(hanging, threads=4)
    run(app, batch_of(["hangs"], deadline=Deadline.after(0.8)))
    assert hanging.called == [0]

    again = run(app, batch_of(["hangs", "other"], deadline=Deadline.after(0.8)))
    assert steps(again) == [0]
    assert hanging.called == [0, 1], "only the other item ran"
    assert [o.status for o in again.outcomes if o.route is None] == [Status.NOT_DONE]

    hanging.let_go.set()
    assert run(app, batch_of(["hangs", "other"])).failed is None


def test_a_held_item_starts_as_soon_as_its_lost_thread_is_back(run: Run) -> None:
    hanging = Hanging()
    router = Router()
    router.add_route(["INSERT"], hanging, name="hanging")

    @router.on_insert(lambda record: record.keys["id"] == "other")
    def let_go() -> None:
        hanging.let_go.set()

    app = App(router, threads=4)
    run(app, batch_of(["hangs"], deadline=Deadline.after(0.8)))
    again = run(app, batch_of(["hangs", "other"], deadline=Deadline.after(WAIT)))
    assert again.failed is None
    assert hanging.called == [0, 1, 0]


def test_the_result_of_a_lost_thread_is_dropped_and_shown_to_nobody(run: Run) -> None:
    hanging = Hanging()
    seen: list[tuple[int, Status]] = []

    def observer(event: Event) -> None:
        if isinstance(event, CallEnded):
            seen.append((step_of(event.outcome.record), event.outcome.status))

    app = app_of(hanging, threads=4, observers=[observer])
    first = run(app, batch_of(["hangs"], deadline=Deadline.after(0.8)))
    hanging.let_go.set()
    assert run(app, batch_of(["hangs", "hangs"])).failed is None  # waits for the thread to be back
    assert steps(first) == [0]
    assert [outcome.status for outcome in first.outcomes] == [Status.NOT_DONE]
    assert seen == [(0, Status.NOT_DONE), (0, Status.DONE), (1, Status.DONE)]


def test_when_all_threads_are_lost_the_app_says_that_the_process_must_end(run: Run) -> None:
    hanging = Hanging()
    app = app_of(hanging, threads=1)
    try:
        run(app, batch_of(["hangs"], deadline=Deadline.after(0.8)))
        with pytest.raises(ThreadsExhausted, match="has to be restarted"):
            run(app, batch_of(["a"]))
    finally:
        hanging.let_go.set()


def test_a_hanging_thread_does_not_keep_the_process_from_ending() -> None:
    script = (
        "import threading\n"
        "from dynaflow import App, Deadline, Router\n"
        "from tests.support.batches import batch_of\n"
        "from dynaflow._host import Host\n"
        "router = Router()\n"
        "@router.on_any()\n"
        "def hang(): threading.Event().wait()\n"
        "result = Host(App(router)).process(batch_of('a', deadline=Deadline.after(0.8)))\n"
        "print(len(result.not_done))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=WAIT, check=True
    )
    assert ended.stdout == "1\n"


# -- sync and async together ----------------------------------------------------------------------


def test_a_sync_handler_among_async_routes_runs_in_a_thread() -> None:
    router, where = Router(), []

    @router.on_insert()
    async def first(new: Image) -> None:
        where.append(("loop", int(new["step"]), threading.get_ident()))

    @router.on_insert()
    def second(new: Image) -> None:
        where.append(("thread", int(new["step"]), threading.get_ident()))

    anyio.run(App(router).process, batch_of("aa"))
    assert [(kind, step) for kind, step, _ in where] == [
        ("loop", 0),
        ("thread", 0),
        ("loop", 1),
        ("thread", 1),
    ]
    own = threading.get_ident()
    assert all((ident == own) == (kind == "loop") for kind, _, ident in where)


def test_middleware_around_a_sync_handler_stays_on_the_loop() -> None:
    where = []

    async def middleware(call: Call, call_next: Process) -> None:
        where.append(threading.get_ident())
        await call_next(call)

    def handler() -> None:
        where.append(threading.get_ident())

    result = anyio.run(app_of(handler, middleware=[middleware]).process, batch_of("a"))
    assert result.failed is None
    assert where[0] == threading.get_ident() != where[1]


def test_a_hanging_sync_handler_on_an_async_route_is_lost_as_well() -> None:
    hanging = Hanging()

    async def middleware(call: Call, call_next: Process) -> None:
        await call_next(call)

    app = app_of(hanging, middleware=[middleware])
    try:
        batch = batch_of(["hangs", "a"], deadline=Deadline.after(0.8))
        assert steps(anyio.run(app.process, batch)) == [0]
        batch = batch_of(["hangs", "a"], deadline=Deadline.after(0.8))
        assert steps(anyio.run(app.process, batch)) == [0]
        assert hanging.called.count(0) == 1
    finally:
        hanging.let_go.set()


@pytest.mark.parametrize("threads", [0, 2])
def test_an_awaitable_that_a_sync_handler_returns_is_always_awaited(run: Run, threads: int) -> None:
    seen: list[tuple[str, int]] = []

    async def later(item: str, step: int) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append((item, step))

    def handler(new: Image) -> Coroutine[Any, Any, None]:
        return later(new["id"], int(new["step"]))

    app = app_of(handler, threads=threads)
    for _ in range(2):  # the first time it is a surprise, from then on it is known
        seen.clear()
        result = run(app, batch_of("abaab"))
        assert result.failed is None
        assert [step for item, step in seen if item == "a"] == [0, 2, 3]
        assert [step for item, step in seen if item == "b"] == [1, 4]


def test_a_returned_awaitable_that_fails_fails_its_record(run: Run) -> None:
    async def later(step: int) -> None:
        if step == 1:
            raise ValueError("no")

    def handler(new: Image) -> Coroutine[Any, Any, None]:
        return later(int(new["step"]))

    assert steps(run(app_of(handler), batch_of("aabab"))) == [1, 3]


def test_sync_and_async_lanes_of_one_batch_run_side_by_side() -> None:
    router = Router()
    turns: queue.SimpleQueue[str] = queue.SimpleQueue()
    loop_is_there = threading.Event()

    @router.on_insert(lambda record: record.keys["id"] == "sync")
    def sync() -> None:
        assert loop_is_there.wait(WAIT)
        turns.put("sync")

    @router.on_insert(lambda record: record.keys["id"] == "async")
    async def asynchronous() -> None:
        loop_is_there.set()
        while turns.empty():
            await anyio.lowlevel.checkpoint()

    result = anyio.run(App(router).process, batch_of(["sync", "async"]))
    assert result.failed is None


def test_partial_of_an_async_handler_never_meets_a_thread() -> None:
    where = []

    async def handler(new: Image, *, label: str) -> None:
        where.append((label, threading.get_ident()))

    app = app_of(functools.partial(handler, label="x"))
    anyio.run(app.process, batch_of("a"))
    assert where == [("x", threading.get_ident())]


def test_ten_thousand_records_through_threads(run: Run) -> None:
    count: dict[str, int] = {}

    def handler(new: Image) -> None:
        count[new["id"]] = count.get(new["id"], 0) + 1

    result = run(app_of(handler), batch_of(f"item-{n % 500}" for n in range(10_000)))
    assert result.failed is None
    assert set(count.values()) == {20}


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level("CRITICAL", logger="dynaflow"):
        yield
