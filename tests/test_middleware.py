"""What stands around calls: middleware, and the lifespan around all of them."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from dynaflow import App, Call, Middleware, Process, Record, Router
from dynaflow.testing import TestClient
from tests.support.routers import ITEM, handled, nothing, nothing_async, router_named


class Layers:
    """Makes middleware that notes when it is entered and left."""

    def __init__(self) -> None:
        self.log: list[str] = []

    def layer(self, name: str) -> Middleware:
        async def middleware(call: Call, call_next: Process) -> None:
            self.log.append(f"{name} in")
            await call_next(call)
            self.log.append(f"{name} out")

        return middleware

    def handler(self) -> None:
        self.log.append("handler")


def test_middleware_stands_app_router_route_from_the_outside_in() -> None:
    layers = Layers()
    outer, inner = (Router(middleware=[layers.layer(name)]) for name in ("outer", "inner"))
    route = [layers.layer("route 1"), layers.layer("route 2")]
    inner.on_any(name="ship", middleware=route)(layers.handler)
    outer.include_router(inner)
    with TestClient(App(outer, middleware=[layers.layer("app")])) as stream:
        assert stream.insert(ITEM).handled_by == ["ship"]
    names = ["app", "outer", "inner", "route 1", "route 2"]
    assert layers.log == [
        *[f"{name} in" for name in names],
        "handler",
        *[f"{name} out" for name in reversed(names)],
    ]


def test_middleware_stands_around_the_routes_of_its_own_router_only() -> None:
    layers = Layers()
    with_layer, without = Router(middleware=[layers.layer("one")]), Router()
    with_layer.on_insert(name="with")(nothing)
    without.on_insert(name="without")(layers.handler)
    assert handled(with_layer, without) == ["with", "without"]
    assert layers.log == ["one in", "one out", "handler"]


def test_middleware_sees_the_call() -> None:
    seen: list[Call] = []

    async def look(call: Call, call_next: Process) -> None:
        seen.append(call)
        await call_next(call)

    assert handled(router_named("ship", middleware=[look])) == ["ship"]
    (call,) = seen
    assert call.record.new == ITEM
    assert (call.context.route, call.context.attempt) == ("ship", 1)


def test_what_middleware_raises_is_the_failure() -> None:
    handled_items: list[str] = []
    error = PermissionError("not you")

    async def guard(call: Call, call_next: Process) -> None:
        if call.record.keys["id"] == "2":
            raise error
        await call_next(call)

    router = Router(middleware=[guard])

    @router.on_insert()
    async def ship(new: dict[str, Any]) -> None:
        handled_items.append(new["id"])

    with TestClient(router) as stream:
        result = stream.send([stream.records.insert({"id": name}) for name in "123"])
    assert result.errors == [error]
    assert [record.keys for record in result.not_done] == [{"id": "2"}]
    assert sorted(handled_items) == ["1", "3"]


def test_middleware_may_turn_failure_into_success_and_success_into_failure() -> None:
    async def invert(call: Call, call_next: Process) -> None:
        try:
            await call_next(call)
        except KeyError:
            return
        raise ValueError("too good to be true")

    router = Router(middleware=[invert])

    @router.on_insert()
    def lose() -> None:
        raise KeyError

    router.on_modify()(nothing)
    with TestClient(router) as stream:
        assert stream.insert(ITEM).failed is None
        assert [type(e) for e in stream.modify(old=ITEM, new=ITEM).errors] == [ValueError]


def test_middleware_that_does_not_go_on_ends_the_call_as_done() -> None:
    async def skip(call: Call, call_next: Process) -> None:
        pass

    router = Router()

    @router.on_insert(middleware=[skip], name="skipped")
    def never() -> None:
        raise AssertionError

    assert handled(router) == ["skipped"]


def test_middleware_may_go_on_twice() -> None:
    router = Router()
    seen: list[Record] = []

    async def again(call: Call, call_next: Process) -> None:
        await call_next(call)
        await call_next(call)

    @router.on_insert(middleware=[again], name="ship")
    async def ship(record: Record) -> None:
        seen.append(record)

    assert handled(router) == ["ship"]
    assert len(seen) == 2
    assert seen[0] is seen[1]


def test_a_sync_handler_in_middleware_runs_in_a_thread_and_off_the_loop() -> None:
    threads: dict[str, int] = {}

    async def layer(call: Call, call_next: Process) -> None:
        threads["loop"] = threading.get_ident()
        await call_next(call)

    router = Router(middleware=[layer])

    @router.on_insert(name="ship")
    def ship() -> None:
        threads["handler"] = threading.get_ident()

    assert handled(router) == ["ship"]
    assert threads["loop"] == threading.get_ident()
    assert threads["handler"] != threads["loop"]


def test_the_lifespan_gets_the_app_and_opens_once_for_all_batches() -> None:
    opened: list[App] = []

    @asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        opened.append(app)
        yield

    router = router_named("sync")
    router.on_any(name="async")(nothing_async)
    app = App(router, lifespan=lifespan)
    with TestClient(app) as stream:
        for _ in range(3):
            assert stream.insert(ITEM).handled_by == ["sync", "async"]
    assert opened == [app]
