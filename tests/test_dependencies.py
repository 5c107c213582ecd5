"""Dependencies of a call: every kind of function, one value per attempt, clean-up inside of it."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from dynaflow import (
    App,
    BatchResult,
    Call,
    Depends,
    HandlerContext,
    Image,
    PartialFailure,
    Process,
    Record,
    Router,
    Skip,
)
from dynaflow.errors import DynaflowError, InvalidImage
from dynaflow.testing import TestClient
from tests.support.decorators import wrapping
from tests.support.routers import ITEM


class Order(BaseModel):
    id: str
    n: int


def run(handler: Callable[..., Any], *, item: Any = ITEM, **options: Any) -> BatchResult:
    """Return what becomes of one insert that a handler takes."""
    router = Router()
    router.on_insert(name="route")(handler)
    with TestClient(App(router, **options)) as stream:
        return stream.insert(item)


def of_error(result: BatchResult) -> BaseException:
    """Return the one error of a result."""
    (error,) = result.errors
    return error


# Each of these makes the text "value".


def function() -> str:
    return "value"


async def coroutine_function() -> str:
    await asyncio.sleep(0)
    return "value"


def generator_function() -> Iterator[str]:
    yield "value"


async def async_generator_function() -> AsyncIterator[str]:
    await asyncio.sleep(0)
    yield "value"
    await asyncio.sleep(0)


class Maker:
    """Callables that are no functions."""

    def __call__(self) -> str:
        return "value"

    def method(self) -> str:
        return "value"

    async def async_method(self) -> str:
        return "value"

    def generator(self) -> Iterator[str]:
        yield "value"

    @classmethod
    def make(cls) -> str:
        return "value"

    @staticmethod
    async def make_static() -> str:
        return "value"


class AsyncMaker:
    async def __call__(self) -> str:
        return "value"


class GeneratorMaker:
    async def __call__(self) -> AsyncIterator[str]:
        yield "value"


class Text(str):
    """A class is called like a function."""

    def __new__(cls) -> "Text":
        return super().__new__(cls, "value")


def given(text: str, *, more: str = "") -> str:
    return text + more


@dataclass
class Unhashable:
    """A callable object that is equal to others, and so cannot be hashed."""

    text: str

    def __call__(self) -> str:
        return self.text


KINDS: list[Callable[..., Any]] = [
    function,
    coroutine_function,
    generator_function,
    async_generator_function,
    Maker(),
    Maker().method,
    Maker().async_method,
    Maker().generator,
    Maker.make,
    Maker.make_static,
    AsyncMaker(),
    GeneratorMaker(),
    Text,
    Unhashable("value"),
    lambda: "value",
    functools.partial(given, "value"),
    functools.partial(given, text="value"),
    functools.partial(functools.partial(coroutine_function)),
    functools.partial(generator_function),
    wrapping(function),
    wrapping(coroutine_function),
    wrapping(generator_function),
    wrapping(async_generator_function),
]


async def pass_on(call: Call, call_next: Process) -> None:
    await call_next(call)


@pytest.mark.parametrize("threads", [16, 0])
@pytest.mark.parametrize("middleware", [[], [pass_on]], ids=["bare", "in middleware"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync handler", "async handler"])
@pytest.mark.parametrize("make", KINDS)
def test_every_kind_of_callable_gives_its_value(
    make: Callable[..., Any], is_async: bool, middleware: list[Any], threads: int
) -> None:
    seen: list[tuple[str, str]] = []

    def between(value: Annotated[str, Depends(make)]) -> str:
        return f"between {value}"

    def handler(
        direct: Annotated[str, Depends(make)], by: Annotated[str, Depends(between)]
    ) -> None:
        seen.append((direct, by))

    async def async_handler(
        direct: Annotated[str, Depends(make)], by: Annotated[str, Depends(between)]
    ) -> None:
        seen.append((direct, by))

    chosen = async_handler if is_async else handler
    assert run(chosen, middleware=middleware, threads=threads).errors == []
    assert seen == [("value", "between value")]


def test_a_dependency_takes_what_a_handler_takes() -> None:
    seen: dict[str, Any] = {}

    def everything(
        new: Order,
        old: Order | None,
        keys: dict[str, Any],
        *,
        record: Record,
        context: HandlerContext,
        kept: str = "default",
    ) -> dict[str, Any]:
        return locals()

    def handler(new: dict[str, Any], got: Annotated[dict[str, Any], Depends(everything)]) -> None:
        seen.update(got)
        assert new == ITEM

    assert run(handler).errors == []
    assert seen["new"] == Order(id="1", n=1)
    assert (seen["old"], seen["keys"], seen["kept"]) == (None, {"id": "1"}, "default")
    assert seen["record"].event_name == "INSERT"
    assert (seen["context"].record, seen["context"].route) == (seen["record"], "route")


@pytest.mark.parametrize("is_async", [False, True])
def test_a_value_is_made_once_for_an_attempt_and_shared_by_all_who_need_it(is_async: bool) -> None:
    made: list[object] = []
    seen: list[list[object]] = []

    def base() -> object:
        made.append(object())
        return made[-1]

    async def async_base() -> object:
        return base()

    chosen = async_base if is_async else base

    def left(value: Annotated[object, Depends(chosen)]) -> object:
        return value

    def right(value: Annotated[object, Depends(chosen)]) -> object:
        return value

    def first(
        one: Annotated[object, Depends(left)],
        two: Annotated[object, Depends(right)],
        three: Annotated[object, Depends(chosen)],
    ) -> None:
        seen.append([one, two, three])

    def second(value: Annotated[object, Depends(left)]) -> None:
        seen.append([value])

    router = Router()
    router.on_insert()(first)
    router.on_insert()(second)
    with TestClient(router) as stream:
        result = stream.send([stream.records.insert({"id": str(n)}) for n in range(2)])
    assert result.errors == []
    assert len(made) == len(seen) == 4, "two records, two routes"
    assert all(len(set(map(id, values))) == 1 for values in seen)
    assert len({id(values[0]) for values in seen}) == 4


def test_a_value_is_made_anew_for_each_attempt_that_a_middleware_makes() -> None:
    made: list[str] = []

    async def twice(call: Call, call_next: Process) -> None:
        with suppress(ValueError):
            await call_next(call)
        await call_next(call)

    def session() -> Iterator[int]:
        made.append("open")
        yield len(made)
        made.append("commit")

    async def handler(number: Annotated[int, Depends(session)]) -> None:
        if number == 1:
            raise ValueError

    assert run(handler, middleware=[twice]).errors == []
    assert made == ["open", "open", "commit"]


def test_the_name_of_a_bound_method_stands_for_one_and_the_same_dependency() -> None:
    class Counter:
        calls = 0

        def count(self) -> int:
            self.calls += 1
            return self.calls

    counter = Counter()

    def handler(
        one: Annotated[int, Depends(counter.count)], two: Annotated[int, Depends(counter.count)]
    ) -> None:
        assert one == two == 1

    assert run(handler).errors == []


class Log(list[str]):
    """Generators, sync and async, that note what happens to them."""

    def sync(self, name: str, **reaction: Any) -> Callable[[], Iterator[str]]:
        def generator() -> Iterator[str]:
            self.append(f"open {name}")
            try:
                yield name
            except BaseException as error:
                self.append(f"{name} sees {type(error).__name__}")
                self._react_to(error, **reaction)
            else:
                self.append(f"close {name}")
                self._end(**reaction)

        return generator

    def asynchronous(self, name: str, **reaction: Any) -> Callable[[], AsyncIterator[str]]:
        async def generator() -> AsyncIterator[str]:
            self.append(f"open {name}")
            await asyncio.sleep(0)
            try:
                yield name
            except BaseException as error:
                self.append(f"{name} sees {type(error).__name__}")
                self._react_to(error, **reaction)
            else:
                await asyncio.sleep(0)
                self.append(f"close {name}")
                self._end(**reaction)

        return generator

    def _react_to(
        self, error: BaseException, *, swallow: bool = False, replace: BaseException | None = None
    ) -> None:
        if replace is not None:
            raise replace
        if not swallow:
            raise error

    def _end(self, *, fail: BaseException | None = None, **_: Any) -> None:
        if fail is not None:
            raise fail


Make = Callable[..., Any]
WAYS = ["sync", "asynchronous"]


def two(
    log: Log, outer: tuple[str, dict[str, Any]], inner: tuple[str, dict[str, Any]], body: Any
) -> BatchResult:
    """Run a handler that needs ``outer`` and then ``inner``; the body is its own."""
    first = getattr(log, outer[0])("outer", **outer[1])
    second = getattr(log, inner[0])("inner", **inner[1])

    def handler(one: Annotated[str, Depends(first)], two: Annotated[str, Depends(second)]) -> None:
        assert (one, two) == ("outer", "inner")
        log.append("handler")
        body()

    return run(handler)


def fine() -> None: ...
def fails() -> None:
    raise ValueError("of the handler")


def exits() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize("inner", WAYS)
@pytest.mark.parametrize("outer", WAYS)
def test_clean_up_runs_in_reverse_order_when_the_handler_has_ended(outer: str, inner: str) -> None:
    log = Log()
    assert two(log, (outer, {}), (inner, {}), fine).failed is None
    assert log == ["open outer", "open inner", "handler", "close inner", "close outer"]


@pytest.mark.parametrize("body", [fails, exits])
@pytest.mark.parametrize("inner", WAYS)
@pytest.mark.parametrize("outer", WAYS)
def test_an_error_of_the_handler_is_raised_at_every_yield(
    outer: str, inner: str, body: Callable[[], None]
) -> None:
    log = Log()
    result = two(log, (outer, {}), (inner, {}), body)
    name = type(of_error(result)).__name__
    assert name == {fails: "ValueError", exits: "SystemExit"}[body]
    assert log[-2:] == [f"inner sees {name}", f"outer sees {name}"]


@pytest.mark.parametrize("inner", WAYS)
@pytest.mark.parametrize("outer", WAYS)
def test_a_clean_up_that_fails_fails_the_call(outer: str, inner: str) -> None:
    log = Log()
    result = two(log, (outer, {}), (inner, {"fail": ConnectionError("no commit")}), fine)
    assert isinstance(of_error(result), ConnectionError)
    assert result.failed is not None
    assert log[-2:] == ["close inner", "outer sees ConnectionError"]


@pytest.mark.parametrize("inner", WAYS)
@pytest.mark.parametrize("outer", WAYS)
def test_a_generator_may_replace_the_error(outer: str, inner: str) -> None:
    log = Log()
    result = two(log, (outer, {}), (inner, {"replace": KeyError("another")}), fails)
    assert isinstance(of_error(result), KeyError)
    assert isinstance(of_error(result).__context__, ValueError)
    assert log[-2:] == ["inner sees ValueError", "outer sees KeyError"]


@pytest.mark.parametrize("inner", WAYS)
@pytest.mark.parametrize("outer", WAYS)
def test_an_error_of_the_handler_that_a_generator_swallows_is_none(outer: str, inner: str) -> None:
    log = Log()
    result = two(log, (outer, {}), (inner, {"swallow": True}), fails)
    assert result.errors == []
    assert result.handled_by == ["route"]
    assert log[-2:] == ["inner sees ValueError", "close outer"]


@pytest.mark.parametrize("inner", WAYS)
@pytest.mark.parametrize("outer", WAYS)
def test_what_is_no_exception_cannot_be_swallowed(outer: str, inner: str) -> None:
    log = Log()
    result = two(log, (outer, {}), (inner, {"swallow": True}), exits)
    assert isinstance(of_error(result), SystemExit)
    assert log[-2:] == ["inner sees SystemExit", "outer sees SystemExit"]


@pytest.mark.parametrize("inner", WAYS)
@pytest.mark.parametrize("outer", WAYS)
def test_what_is_no_exception_is_no_success_even_if_it_was_replaced(outer: str, inner: str) -> None:
    log = Log()
    replaced: tuple[str, dict[str, Any]] = (inner, {"replace": KeyError()})
    result = two(log, (outer, {"swallow": True}), replaced, exits)
    assert isinstance(of_error(result), SystemExit)
    assert log[-2:] == ["inner sees SystemExit", "outer sees KeyError"]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_handler_that_was_never_reached_is_not_done_whatever_is_swallowed(
    way: str, is_async: bool
) -> None:
    log = Log()
    session = getattr(log, way)("session", swallow=True)

    def broken(session: Annotated[str, Depends(session)]) -> None:
        raise ConnectionError

    def handler(value: Annotated[None, Depends(broken)]) -> None:
        log.append("handler")

    async def async_handler(value: Annotated[None, Depends(broken)]) -> None:
        log.append("handler")

    result = run(async_handler if is_async else handler)
    assert isinstance(of_error(result), ConnectionError)
    assert result.failed is not None
    assert log == ["open session", "session sees ConnectionError"]


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_handler_that_was_never_reached_is_not_done_whatever_a_clean_up_raises(
    way: str, is_async: bool
) -> None:
    session = getattr(Log(), way)("session", replace=Skip("nothing there"))

    def broken(session: Annotated[str, Depends(session)]) -> None:
        raise ConnectionError

    def handler(value: Annotated[None, Depends(broken)]) -> None: ...

    async def async_handler(value: Annotated[None, Depends(broken)]) -> None: ...

    result = run(async_handler if is_async else handler)
    assert isinstance(of_error(result), ConnectionError)
    assert result.failed is not None


@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_exception_does_not_become_a_skip(way: str) -> None:
    result = two(Log(), (way, {}), (way, {"replace": Skip("nothing there")}), exits)
    assert isinstance(of_error(result), SystemExit)
    assert result.failed is not None


@pytest.mark.parametrize("way", WAYS)
def test_a_part_of_a_batch_call_that_never_reached_its_handler_is_not_done(way: str) -> None:
    router = Router()
    session = getattr(Log(), way)("session", replace=PartialFailure(failed=[0]))

    def broken(session: Annotated[str, Depends(session)]) -> None:
        raise ConnectionError

    def in_part() -> None:
        raise PartialFailure(failed=[0])

    @router.on_batch(name="clean-up")
    def first(records: list[Record], value: Annotated[None, Depends(broken)]) -> None: ...

    @router.on_batch(name="dependency")
    def second(records: list[Record], value: Annotated[None, Depends(in_part)]) -> None: ...

    with TestClient(router) as stream:
        result = stream.send([stream.records.insert({"id": n}) for n in "ab"])
    assert result.handled_by == []
    assert len(result.not_done) == 2


@pytest.mark.parametrize("way", WAYS)
def test_an_image_that_is_not_valid_opens_nothing(way: str) -> None:
    log = Log()
    session = getattr(log, way)("session")

    def handler(session: Annotated[str, Depends(session)], new: Order) -> None: ...

    assert isinstance(of_error(run(handler, item={"id": "1"})), InvalidImage)
    assert log == []


@pytest.mark.parametrize("error", [StopIteration(1), StopAsyncIteration(), GeneratorExit()])
@pytest.mark.parametrize("way", WAYS)
def test_errors_with_a_meaning_for_generators_pass_through_them(
    way: str, error: BaseException
) -> None:
    def broken() -> None:
        raise error

    log = Log()
    raised = of_error(two(log, (way, {}), (way, {}), broken))
    # No coroutine lets a StopIteration out: Python makes a RuntimeError of it.
    assert error in (raised, raised.__cause__)
    assert len(log) == 5


def yields_twice() -> Iterator[int]:
    yield 1
    yield 2


def yields_twice_after_an_error() -> Iterator[int]:
    try:
        yield 1
    except ValueError:
        yield 2


async def yields_twice_async() -> AsyncIterator[int]:
    yield 1
    yield 2


async def yields_twice_async_after_an_error() -> AsyncIterator[int]:
    try:
        yield 1
    except ValueError:
        yield 2


def yields_never(new: Image) -> Iterator[int]:
    if new["id"] != "1":
        yield 1


async def yields_never_async(new: Image) -> AsyncIterator[int]:
    if new["id"] != "1":
        yield 1


@pytest.mark.parametrize(
    ("generator", "body", "message"),
    [
        (yields_twice, fine, "the dependency yields_twice yields more than once: what it yields"),
        (yields_twice_async, fine, "yields_twice_async yields more than once"),
        (yields_twice_after_an_error, fails, "yields_twice_after_an_error yields more than once"),
        (yields_twice_async_after_an_error, fails, "yields more than once"),
        (yields_never, fine, "the dependency yields_never ended without a yield, so it has no val"),
        (yields_never_async, fine, "yields_never_async ended without a yield"),
    ],
)
def test_a_generator_yields_once(generator: Make, body: Callable[[], None], message: str) -> None:
    def handler(value: Annotated[int, Depends(generator)]) -> None:
        body()

    error = of_error(run(handler))
    assert isinstance(error, DynaflowError)
    assert message in str(error)


def test_a_plain_function_that_returns_a_coroutine_is_told_so() -> None:
    def forgets_to_await() -> Any:
        return coroutine_function()

    def handler(value: Annotated[str, Depends(forgets_to_await)]) -> None: ...

    assert "forgets_to_await is a plain function and returned a coroutine" in str(
        of_error(run(handler))
    )


@pytest.mark.parametrize("generator", [generator_function, async_generator_function])
def test_a_plain_function_that_returns_a_generator_is_told_so(
    generator: Callable[[], Any],
) -> None:
    def forgets_to_run() -> Any:
        return generator()

    def handler(value: Annotated[str, Depends(forgets_to_run)]) -> None:
        """Leave the value alone, as one does with a transaction: it would never begin."""

    result = run(handler)
    assert "forgets_to_run is a plain function and returned a generator" in str(of_error(result))
    assert result.failed is not None


def test_a_sync_handler_that_returns_an_awaitable_keeps_its_dependencies_until_it_is_done() -> None:
    log = Log()

    def session() -> Iterator[str]:
        yield from log.sync("session")()

    async def later(fail: bool) -> None:
        await asyncio.sleep(0)
        log.append("handler")
        if fail:
            raise ValueError

    def handler(new: Image, session: Annotated[str, Depends(session)]) -> Any:
        return later(fail=new["id"] == "bad")

    router = Router()
    router.on_insert()(handler)
    for first, second in (("bad", "good"), ("good", "bad")):
        with TestClient(App(router)) as stream:
            results = {name: stream.insert({"id": name}) for name in (first, second)}
        assert results["good"].errors == []
        assert isinstance(of_error(results["bad"]), ValueError)
    good = ["open session", "handler", "close session"]
    bad = ["open session", "handler", "session sees ValueError"]
    assert log == [*bad, *good, *good, *bad]


def test_a_route_of_sync_parts_runs_whole_in_one_thread_without_a_loop() -> None:
    threads: list[int] = []

    def note() -> Iterator[None]:
        threads.append(threading.get_ident())
        asyncio_is_running = asyncio._get_running_loop() is not None
        assert not asyncio_is_running
        yield
        threads.append(threading.get_ident())

    def other(_: Annotated[None, Depends(note)]) -> None:
        threads.append(threading.get_ident())

    def handler(_: Annotated[None, Depends(other)]) -> None:
        threads.append(threading.get_ident())

    assert run(handler).errors == []
    assert len(threads) == 4
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads


def test_sync_parts_of_a_call_never_run_on_the_loop() -> None:
    where: dict[str, int] = {}

    def sync_session() -> Iterator[None]:
        where["open"] = threading.get_ident()
        yield
        where["close"] = threading.get_ident()

    def sync_value(_: Annotated[None, Depends(sync_session)]) -> None:
        where["value"] = threading.get_ident()

    async def async_value(_: Annotated[None, Depends(sync_value)]) -> None:
        where["async"] = threading.get_ident()

    def handler(_: Annotated[None, Depends(async_value)]) -> None:
        where["handler"] = threading.get_ident()

    assert run(handler).errors == []
    assert where.pop("async") == threading.get_ident()
    assert set(where) == {"open", "close", "value", "handler"}
    assert threading.get_ident() not in where.values()


def test_a_partial_keeps_what_it_was_given() -> None:
    def handler(value: Annotated[str, Depends(function)], log: list[str]) -> None:
        log.append(value)

    log: list[str] = []
    assert run(functools.partial(handler, value="mine", log=log)).errors == []
    assert log == ["mine"]
