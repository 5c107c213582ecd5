"""Dependencies under the engine, on asyncio and trio: deadlines, threads, context variables."""

import math
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from typing import Annotated, Any

import anyio
import pytest
import trio.testing

from dynaflow import App, Deadline, Depends, Image, Router, Status
from dynaflow._attempt import Errand
from dynaflow.testing.clock import VirtualTimeLoop
from tests.support.batches import batch_of, step_of

pytestmark = pytest.mark.anyio

WAIT = 20  # seconds; never reached when all is well


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level("CRITICAL", logger="dynaflow"):
        yield


virtual = pytest.mark.parametrize(
    "anyio_backend",
    [
        ("asyncio", {"loop_factory": lambda: VirtualTimeLoop(patience=0)}),
        ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}),
    ],
    ids=["asyncio", "trio"],
)


def app_of(*handlers: Callable[..., Any], **options: Any) -> App:
    router = Router()
    for number, handler in enumerate(handlers):
        router.add_route(["INSERT"], handler, name=f"route {number}")
    return App(router, **options)


def in_seconds(seconds: float) -> Deadline:
    return Deadline(anyio.current_time() + seconds, anyio.current_time)


def swallow(error: BaseException) -> None: ...


def pass_on(error: BaseException) -> None:
    raise error


@virtual
@pytest.mark.parametrize("react", [swallow, pass_on])
async def test_a_deadline_is_seen_by_generators_and_no_success_whatever_they_do(
    react: Callable[[BaseException], None],
) -> None:
    seen: list[str] = []

    async def outer() -> AsyncIterator[None]:
        try:
            yield
        except anyio.get_cancelled_exc_class():
            seen.append("outer")
            raise

    async def inner(_: Annotated[None, Depends(outer)]) -> AsyncIterator[None]:
        try:
            yield
        except BaseException as error:
            seen.append("inner")
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.1)
            react(error)

    async def handler(new: Image, _: Annotated[None, Depends(inner)]) -> None:
        await anyio.sleep(math.inf if new["id"] == "stuck" else 0)

    batch = batch_of(["stuck", "a", "b"], deadline=in_seconds(10))
    result = await app_of(handler).process(batch)
    assert seen == ["inner", "outer"]
    assert [step_of(record) for record in result.not_done] == [0]
    assert {o.status for o in result.outcomes if o.record is batch.records[0]} == {Status.NOT_DONE}


@virtual
async def test_a_clean_up_that_makes_another_error_of_the_deadline_is_no_success() -> None:
    async def outer() -> AsyncIterator[None]:
        with suppress(ConnectionError):
            yield

    async def inner(_: Annotated[None, Depends(outer)]) -> AsyncIterator[None]:
        try:
            yield
        except BaseException as error:
            raise ConnectionError from error

    async def handler(_: Annotated[None, Depends(inner)]) -> None:
        await anyio.sleep(math.inf)

    result = await app_of(handler).process(batch_of("ab", deadline=in_seconds(10)))
    assert [step_of(record) for record in result.not_done] == [0, 1]


@virtual
async def test_a_deadline_during_opening_or_clean_up_closes_what_is_open() -> None:
    seen: list[str] = []

    async def session(new: Image) -> AsyncIterator[None]:
        try:
            yield
        finally:
            seen.append(f"close {new['id']}")

    async def slow(new: Image, _: Annotated[None, Depends(session)]) -> AsyncIterator[None]:
        if new["id"] == "opening":
            await anyio.sleep(math.inf)
        yield
        await anyio.sleep(math.inf)

    async def handler(_: Annotated[None, Depends(slow)]) -> None: ...

    batch = batch_of(["opening", "closing"], deadline=in_seconds(10))
    result = await app_of(handler).process(batch)
    assert sorted(seen) == ["close closing", "close opening"]
    assert len(result.not_done) == 2


@virtual
async def test_calls_do_not_share_values_while_they_run_side_by_side() -> None:
    async def own(new: Image) -> AsyncIterator[dict[str, Any]]:
        await anyio.sleep(0.01)
        value = {"id": new["id"]}
        yield value
        await anyio.sleep(0.01)
        assert value == {"id": new["id"], "by": new["id"]}

    async def handler(new: Image, own: Annotated[dict[str, Any], Depends(own)]) -> None:
        own["by"] = new["id"]
        await anyio.sleep(0.01 * int(new["step"]) % 3)

    result = await app_of(handler).process(batch_of(f"item-{n % 30}" for n in range(90)))
    assert result.errors == []


class Stuck:
    """A sync part of a call that hangs at the item "stuck" until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.log: list[str] = []

    def session(self) -> Iterator[str]:
        self.log.append("open")
        try:
            yield "session"
        finally:
            self.log.append("close")

    def wait(self, new: Image) -> None:
        if new["id"] == "stuck":
            assert self.let_go.wait(WAIT)
            self.log.append("back")


async def nothing() -> None: ...


@pytest.mark.parametrize("where", ["handler", "dependency"])
async def test_generators_that_a_lost_thread_uses_are_closed_once_it_is_through(where: str) -> None:
    stuck = Stuck()

    def waits(
        new: Image, _: Annotated[str, Depends(stuck.session)], __: Annotated[None, Depends(nothing)]
    ) -> None:
        stuck.wait(new)

    def idle(_: Annotated[None, Depends(waits)]) -> None: ...

    app = app_of(waits if where == "handler" else idle)
    result = await app.process(batch_of(["stuck"], deadline=in_seconds(0.4)))
    assert len(result.not_done) == 1
    assert stuck.log == ["open"]
    stuck.let_go.set()
    again = await app.process(batch_of(["stuck"], deadline=in_seconds(WAIT)))
    assert again.failed is None
    assert stuck.log == ["open", "back", "close", "open", "back", "close"]


async def test_a_sync_generator_of_a_lost_thread_that_has_just_opened_is_closed_too() -> None:
    stuck = Stuck()

    def slow_session(new: Image) -> Iterator[str]:
        stuck.wait(new)
        yield from stuck.session()

    def handler(
        _: Annotated[str, Depends(slow_session)], __: Annotated[None, Depends(nothing)]
    ) -> None:
        stuck.log.append("handler")

    app = app_of(handler)
    await app.process(batch_of(["stuck"], deadline=in_seconds(0.4)))
    stuck.let_go.set()
    assert (await app.process(batch_of(["stuck"], deadline=in_seconds(WAIT)))).failed is None
    assert stuck.log == ["back", "open", "close", "back", "open", "handler", "close"]


async def test_a_sync_generator_is_closed_in_a_thread_when_the_deadline_cuts_an_async_handler() -> (
    None
):
    log: list[tuple[str, bool]] = []
    loop_thread = threading.get_ident()

    def session() -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            log.append((type(error).__name__, threading.get_ident() == loop_thread))
            raise

    async def handler(_: Annotated[None, Depends(session)]) -> None:
        await anyio.sleep(math.inf)

    result = await app_of(handler, threads=1).process(batch_of("abc", deadline=in_seconds(0.4)))
    assert len(result.not_done) == 3
    name = anyio.get_cancelled_exc_class().__name__
    assert log == [(name, False)] * 3


@pytest.mark.parametrize("is_async", [False, True], ids=["sync handler", "async handler"])
async def test_what_a_dependency_sets_in_a_context_variable_is_seen_by_all_that_follow(
    is_async: bool,
) -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    actor: ContextVar[str] = ContextVar("actor", default="nobody")
    seen: list[tuple[str, str, str]] = []

    def in_a_thread(new: Image) -> Iterator[None]:
        token = tenant.set(f"tenant {new['id']}")
        yield
        assert actor.get() == "nobody", "taken back on the loop, behind the other yield"
        tenant.reset(token)
        assert tenant.get() == "nobody"

    async def on_the_loop(
        new: Image, _: Annotated[None, Depends(in_a_thread)]
    ) -> AsyncIterator[None]:
        assert tenant.get() == f"tenant {new['id']}"
        token = actor.set(f"actor {new['id']}")
        yield
        actor.reset(token)

    def handler(new: Image, _: Annotated[None, Depends(on_the_loop)]) -> None:
        seen.append((new["id"], tenant.get(), actor.get()))

    async def async_handler(new: Image, _: Annotated[None, Depends(on_the_loop)]) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append((new["id"], tenant.get(), actor.get()))

    async def other(new: Image) -> None:
        assert (tenant.get(), actor.get()) == ("nobody", "nobody"), "nothing is left behind"

    app = app_of(async_handler if is_async else handler, other, concurrency=2)
    result = await app.process(batch_of(f"{n}" for n in range(10)))
    assert result.errors == []
    assert sorted(seen) == sorted((f"{n}", f"tenant {n}", f"actor {n}") for n in range(10))


async def test_what_a_sync_part_sets_and_leaves_is_not_seen_by_later_calls() -> None:
    tenant: ContextVar[str] = ContextVar("tenant", default="nobody")
    seen: list[str] = []

    def sets(new: Image) -> None:
        tenant.set(f"tenant {new['id']}")

    async def handler(_: Annotated[None, Depends(sets)]) -> None:
        seen.append(tenant.get())

    async def other() -> None:
        seen.append(tenant.get())

    result = await app_of(handler, other, concurrency=1).process(batch_of("ab"))
    assert result.errors == []
    assert seen == ["tenant a", "nobody", "tenant b", "nobody"]


async def test_an_errand_that_nobody_waits_for_any_more_is_not_begun() -> None:
    ran: list[str] = []
    errand = Errand(lambda: ran.append("function"))
    assert not errand.leave(lambda: ran.append("afterwards"))
    errand.run()
    assert ran == []


async def test_a_sync_dependency_that_blocks_does_not_block_the_loop() -> None:
    asked, answered = threading.Event(), threading.Event()

    def blocks() -> None:
        asked.set()
        assert answered.wait(WAIT)

    async def waits(_: Annotated[None, Depends(blocks)]) -> None: ...

    async def answers(new: Image) -> None:
        while not asked.is_set():
            await anyio.sleep(0.001)
        answered.set()

    router = Router()
    router.add_route(["INSERT"], waits, lambda record: record.keys["id"] == "a", name="waits")
    router.add_route(["INSERT"], answers, lambda record: record.keys["id"] == "b", name="answers")
    assert (await App(router).process(batch_of("ab"))).errors == []


async def test_more_calls_than_threads_with_sync_and_async_parts_all_end() -> None:
    opened: list[str] = []
    closed: list[str] = []

    def session(new: Image) -> Iterator[str]:
        opened.append(new["id"])
        yield new["id"]
        closed.append(new["id"])

    async def repository(session: Annotated[str, Depends(session)]) -> AsyncIterator[str]:
        await anyio.lowlevel.checkpoint()
        yield session
        await anyio.lowlevel.checkpoint()

    def handler(new: Image, repository: Annotated[str, Depends(repository)]) -> None:
        assert repository == new["id"]

    names = [f"item-{n}" for n in range(200)]
    assert (await app_of(handler, threads=2).process(batch_of(names))).errors == []
    assert sorted(opened) == sorted(closed) == sorted(names)
