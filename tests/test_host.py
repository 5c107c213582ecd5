"""Batches from plain functions: what is kept, what is left behind, who is held."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from dynaflow import App, Deadline, DynaflowError, Image, Router
from dynaflow._host import Host
from dynaflow.errors import ThreadsExhausted
from tests.support.batches import batch_of, step_of

WAIT = 20  # seconds; never reached when all is well


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level("CRITICAL", logger="dynaflow"):
        yield


class Shielded:
    """An async handler that does not let itself be cancelled at one item."""

    def __init__(self, *, swallows: bool = False) -> None:
        self.let_go = threading.Event()
        self.swallows = swallows
        self.called: list[str] = []

    async def __call__(self, new: Image) -> None:
        self.called.append(new["id"])
        if new["id"] == "other":
            self.let_go.set()
        if new["id"] != "stuck":
            return
        if self.swallows:
            while not self.let_go.is_set():
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    continue
        else:
            with anyio.CancelScope(shield=True):
                while not self.let_go.is_set():
                    await asyncio.sleep(0)


@pytest.mark.parametrize("swallows", [False, True])
def test_a_handler_that_shields_itself_does_not_keep_the_answer(*, swallows: bool) -> None:
    handler = Shielded(swallows=swallows)
    host = _host_of(handler)
    batch = batch_of(["a", "stuck", "b", "stuck"], deadline=Deadline.after(1.2))
    result = host.process(batch)
    assert [step_of(record) for record in result.not_done] == [1, 3]
    assert batch.deadline is not None
    assert batch.deadline.remaining() > 0
    handler.let_go.set()
    assert host.process(batch_of(["stuck"])).failed is None
    host.close()


def test_the_item_of_a_shielded_call_starts_again_only_once_that_is_back() -> None:
    handler = Shielded()
    host = _host_of(handler)
    host.process(batch_of(["stuck"], deadline=Deadline.after(0.8)))
    held = host.process(batch_of(["stuck", "a"], deadline=Deadline.after(0.8)))
    assert [step_of(record) for record in held.not_done] == [0]
    assert handler.called == ["stuck", "a"]
    again = host.process(batch_of(["stuck", "other"], deadline=Deadline.after(WAIT)))
    assert again.failed is None
    assert handler.called == ["stuck", "a", "other", "stuck"]
    host.close()


def test_calls_that_are_lost_on_the_loop_get_a_moment_before_the_process_is_given_up() -> None:
    handler = Shielded()
    host = _host_of(handler, threads=1)
    host.process(batch_of(["stuck"], deadline=Deadline.after(0.8)))
    with pytest.raises(ThreadsExhausted, match="has to be restarted"):
        host.process(batch_of(["a"]))
    handler.let_go.set()
    assert host.process(batch_of(["stuck", "a"])).failed is None
    host.close()


def test_objects_that_belong_to_a_loop_live_as_long_as_the_host() -> None:
    lock: list[asyncio.Lock] = []

    async def handler() -> None:
        if not lock:
            lock.append(asyncio.Lock())
            await lock[0].acquire()
            asyncio.get_running_loop().call_soon(lock[0].release)
        async with lock[0]:
            pass

    host = _host_of(handler)
    for _ in range(3):
        assert host.process(batch_of("a")).failed is None
    host.close()


def test_a_host_within_a_running_loop_says_what_to_call_instead() -> None:
    async def handler() -> None: ...

    async def outer() -> None:
        with pytest.raises(DynaflowError, match=r"await app\.process"):
            _host_of(handler).process(batch_of("a"))

    asyncio.run(outer())


def test_a_loop_that_somebody_closed_is_replaced_and_the_lifespan_opened_anew() -> None:
    opened: list[int] = []

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        opened.append(len(opened))
        yield

    loops: list[asyncio.AbstractEventLoop] = []

    async def handler() -> None:
        loops.append(asyncio.get_running_loop())

    router = Router()
    router.add_route(["INSERT"], handler, name="handler")
    host = Host(App(router, lifespan=lifespan))
    host.process(batch_of("a"))
    for task in asyncio.all_tasks(loops[0]):
        task.cancel()
    loops[0].run_until_complete(asyncio.sleep(0))
    loops[0].close()
    assert host.process(batch_of("a")).failed is None
    assert opened == [0, 1]
    host.close()


def test_a_batch_of_sync_handlers_makes_no_loop() -> None:
    def handler() -> None: ...

    host = _host_of(handler)
    host.process(batch_of("ab"))
    assert not host._loop.is_usable


def _host_of(handler: object, **options: Any) -> Host:
    router = Router()
    router.add_route(["INSERT"], handler, name="handler")  # type: ignore[arg-type]  # fakes of all kinds
    return Host(App(router, **options))
