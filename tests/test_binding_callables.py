"""Every kind of callable can be a handler; whatever it returns is awaited, or ignored."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

import pytest
from pydantic import BaseModel

from dynaflow import Call, Image, Process, Router
from dynaflow.testing import TestClient
from tests.support.decorators import Wrapping, wrapping

ITEM = {"id": "1", "total": 5}
Handler = Callable[..., Any]


class Order(BaseModel):
    id: str
    total: int


# Each of these returns a handler that takes new: Order and adds what it was given to the list.


def function(seen: list[Order]) -> Handler:
    def handler(new: Order) -> None:
        seen.append(new)

    return handler


def coroutine_function(seen: list[Order]) -> Handler:
    async def handler(new: Order) -> None:
        await asyncio.sleep(0)
        seen.append(new)

    return handler


def a_lambda(seen: list[Order]) -> Handler:
    return lambda new: seen.append(Order(**new))


def a_partial(seen: list[Order]) -> Handler:
    def handler(log: list[Order], new: Order, *, times: int) -> None:
        log.extend([new] * times)

    return functools.partial(functools.partial(handler, seen), times=1)


def an_async_partial(seen: list[Order]) -> Handler:
    async def handler(new: Order, log: list[Order]) -> None:
        await asyncio.sleep(0)
        log.append(new)

    return functools.partial(handler, log=seen)


class Callee:
    def __init__(self, seen: list[Order]) -> None:
        self.seen = seen

    def __call__(self, new: Order) -> None:
        self.seen.append(new)

    def method(self, new: Order) -> None:
        self.seen.append(new)

    async def async_method(self, new: Order) -> None:
        await asyncio.sleep(0)
        self.seen.append(new)


class AsyncCallee:
    def __init__(self, seen: list[Order]) -> None:
        self.seen = seen

    async def __call__(self, new: Order) -> None:
        await asyncio.sleep(0)
        self.seen.append(new)


def returns_a_coroutine(seen: list[Order]) -> Handler:
    inner = coroutine_function(seen)

    def handler(new: Order) -> Awaitable[None]:
        result: Awaitable[None] = inner(new)
        return result

    return handler


class Later:
    """An awaitable that is no coroutine."""

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._coroutine = coroutine

    def __await__(self) -> Any:
        return self._coroutine.__await__()


def returns_an_awaitable(seen: list[Order]) -> Handler:
    inner = coroutine_function(seen)
    return lambda new: Later(inner(Order(**new)))


def async_wrapper_of_async(seen: list[Order]) -> Handler:
    inner = coroutine_function(seen)

    @functools.wraps(inner)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await inner(*args, **kwargs)

    return wrapper


def async_wrapper_of_sync(seen: list[Order]) -> Handler:
    inner = function(seen)

    @functools.wraps(inner)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return inner(*args, **kwargs)

    return wrapper


def async_wrapper_without_wraps(seen: list[Order]) -> Handler:
    inner = coroutine_function(seen)

    async def wrapper(new: Order) -> Any:
        return await inner(new)

    return wrapper


KINDS: list[Callable[[list[Order]], Handler]] = [
    function,
    coroutine_function,
    a_lambda,
    a_partial,
    an_async_partial,
    Callee,
    lambda seen: Callee(seen).method,
    lambda seen: Callee(seen).async_method,
    AsyncCallee,
    lambda seen: functools.partial(AsyncCallee(seen)),
    returns_a_coroutine,
    returns_an_awaitable,
    lambda seen: wrapping(coroutine_function(seen)),
    lambda seen: wrapping(function(seen)),
    async_wrapper_of_async,
    async_wrapper_of_sync,
    async_wrapper_without_wraps,
    lambda seen: Wrapping(function(seen)),
    lambda seen: Wrapping(coroutine_function(seen)),
]


async def pass_on(call: Call, call_next: Process) -> None:
    await call_next(call)


@pytest.mark.parametrize("middleware", [[], [pass_on]], ids=["bare", "in middleware"])
@pytest.mark.parametrize("make", KINDS)
def test_every_kind_of_callable_is_called_and_awaited(
    make: Callable[[list[Order]], Handler], middleware: list[Any]
) -> None:
    seen: list[Order] = []
    router = Router()
    router.on_insert(name="ship", middleware=middleware)(make(seen))
    orders = [Order(id=str(n), total=n) for n in range(3)]
    with TestClient(router) as stream:
        first = stream.send([stream.records.insert(order.model_dump()) for order in orders])
        again = stream.insert(orders[0].model_dump())
    assert (first.errors, again.errors) == ([], [])
    assert first.handled_by + again.handled_by == ["ship"] * 4
    assert sorted(seen[:3], key=lambda order: order.total) == orders
    assert seen[3:] == orders[:1]


class Threads(list[Order]):
    """Notes the threads in which it is added to, nothing else."""

    def __init__(self) -> None:
        self.idents: set[int] = set()

    def append(self, order: Order) -> None:
        self.idents.add(threading.get_ident())

    def extend(self, orders: Iterable[Order]) -> None:
        self.idents.add(threading.get_ident())


def run_in(make: Callable[[list[Order]], Handler]) -> tuple[set[int], int]:
    """Return in which threads a handler ran, and how many were started for it."""
    threads, router = Threads(), Router()
    router.on_insert()(make(threads))
    before = set(threading.enumerate())
    with TestClient(router) as stream:
        assert stream.insert(ITEM).errors == []
    return threads.idents, len(set(threading.enumerate()) - before)


@pytest.mark.parametrize("make", [function, Callee, a_partial])
def test_sync_handlers_run_in_worker_threads(make: Callable[[list[Order]], Handler]) -> None:
    idents, started = run_in(make)
    assert len(idents) == started == 1
    assert threading.get_ident() not in idents


@pytest.mark.parametrize(
    "make",
    [
        coroutine_function,
        AsyncCallee,
        an_async_partial,
        lambda seen: wrapping(coroutine_function(seen)),
        async_wrapper_of_async,
        async_wrapper_of_sync,
    ],
)
def test_async_handlers_run_on_the_loop_and_need_no_thread(
    make: Callable[[list[Order]], Handler],
) -> None:
    assert run_in(make) == ({threading.get_ident()}, 0)


@pytest.mark.parametrize("value", [0, False, "text", {"batchItemFailures": []}, [1], Exception()])
def test_what_a_handler_returns_is_ignored(value: object) -> None:
    async def handler(new: Image) -> object:
        return value

    router = Router()
    router.on_insert(name="sync")(lambda new: value)
    router.on_insert(name="async")(handler)
    with TestClient(router) as stream:
        result = stream.insert(ITEM)
    assert result.handled_by == ["sync", "async"]
    assert result.failed is None
