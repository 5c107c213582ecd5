"""Dependencies of scope "app", and overrides, through every door."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import anyio
import pytest

from dynaflow import App, Depends, DynaflowError, Image, Router
from dynaflow._host import Host
from dynaflow.poller import Poller
from dynaflow.sources import MemorySource
from dynaflow.stores import MemoryStore
from dynaflow.testing import RecordBuilder, TestClient
from dynaflow.testing.clock import run_virtual
from tests.support.batches import batch_of
from tests.support.command_line import Project
from tests.support.lambda_function import LambdaFunction, answered, failed, orders
from tests.support.routers import ITEM, refusal


def app_of(*handlers: Callable[..., Any], **options: Any) -> App:
    router = Router()
    for number, handler in enumerate(handlers):
        router.on_insert(name=f"route {number}")(handler)
    return App(router, **options)


class World:
    """An app with a client of scope "app", of every kind, that notes what happens."""

    def __init__(self, *, is_async: bool, with_lifespan: bool = False) -> None:
        self.log: list[str] = []
        self.broken = False
        self.app = app_of(
            self.handler_of(self.client_of(is_async), is_async),
            lifespan=self.lifespan if with_lifespan else None,
        )

    @asynccontextmanager
    async def lifespan(self, app: App) -> AsyncIterator[None]:
        self.log.append("open lifespan")
        yield
        self.log.append("close lifespan")

    def session(self) -> Iterator[str]:
        self.log.append("open session")
        yield "session"
        self.log.append("close session")

    async def async_session(self) -> AsyncIterator[str]:
        self.log.append("open session")
        await asyncio.sleep(0)
        yield "session"
        await asyncio.sleep(0)
        self.log.append("close session")

    def client_of(self, is_async: bool) -> Callable[..., Any]:
        session = self.async_session if is_async else self.session

        def client(session: Annotated[str, Depends(session, scope="app")]) -> Iterator[list[str]]:
            if self.broken:
                raise ConnectionError("no client")
            self.log.append(f"open client on {session}")
            yield []
            self.log.append("close client")

        return client

    def handler_of(self, client: Callable[..., Any], is_async: bool) -> Callable[..., Any]:
        def note(new: Image, client: Annotated[list[str], Depends(client, scope="app")]) -> None:
            client.append(new["id"])
            self.log.append(f"{len(client)} sent")

        async def note_async(
            new: Image, client: Annotated[list[str], Depends(client, scope="app")]
        ) -> None:
            note(new, client)

        return note_async if is_async else note


CALLS = ["open session", "open client on session", "1 sent", "2 sent"]
CLOSED = ["close client", "close session"]


def by_client(app: App) -> None:
    with TestClient(app) as stream:
        for _ in range(2):
            assert stream.insert(ITEM).errors == []


def by_async_client(app: App) -> None:
    async def main() -> None:
        async with TestClient(app) as stream:
            for _ in range(2):
                assert (await stream.insert(ITEM)).errors == []

    anyio.run(main)


def by_process(app: App) -> None:
    async def main() -> None:
        async with app.lifespan():
            assert (await app.process(batch_of("aa"))).errors == []

    asyncio.run(main())


def by_host(app: App) -> None:
    host = Host(app)
    for _ in range(2):
        assert host.process(batch_of("a")).errors == []
    host.close()


def by_poller(app: App) -> None:
    async def main() -> None:
        source = MemorySource()
        source.add_shard("shard")
        source.append("shard", *batch_of("aa").records)
        await Poller(app, source, MemoryStore(), once=True).run()

    run_virtual(main)


DOORS = [by_client, by_async_client, by_process, by_host, by_poller]


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("with_lifespan", [False, True], ids=["alone", "within a lifespan"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_they_open_once_behind_the_lifespan_and_close_before_it_in_reverse_order(
    is_async: bool, with_lifespan: bool, door: Callable[[App], None]
) -> None:
    world = World(is_async=is_async, with_lifespan=with_lifespan)
    assert world.app.has_lifespan
    door(world.app)
    expected = [*CALLS, *CLOSED]
    if with_lifespan:
        expected = ["open lifespan", *expected, "close lifespan"]
    assert world.log == expected


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_an_opening_that_fails_closes_what_was_open_and_is_tried_anew(is_async: bool) -> None:
    world = World(is_async=is_async, with_lifespan=is_async)
    lifespan = (["open lifespan"] if is_async else [], ["close lifespan"] if is_async else [])
    host = Host(world.app)
    world.broken = True
    for _ in range(2):
        with pytest.raises(ConnectionError, match="no client"):
            host.process(batch_of("a"))
    # The lifespan sees the error, so that it does not come to what stands behind its yield.
    assert world.log == [*lifespan[0], "open session"] * 2
    world.broken = False
    world.log.clear()
    assert host.process(batch_of("aa")).errors == []
    host.close()
    assert world.log == [*lifespan[0], *CALLS, *CLOSED, *lifespan[1]]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_one_that_fails_while_it_opens_is_raised_where_a_test_client_opens(is_async: bool) -> None:
    world = World(is_async=is_async)
    world.broken = True
    with pytest.raises(ConnectionError), TestClient(world.app):
        pytest.fail("it is not open")
    world.broken = False
    by_client(world.app)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_no_client_swallows_that_another_cannot_open(is_async: bool) -> None:
    def first() -> Iterator[None]:
        with suppress(ConnectionError):
            yield

    def second(_: Annotated[None, Depends(first, scope="app")]) -> None:
        raise ConnectionError

    def handler(_: Annotated[None, Depends(second, scope="app")]) -> None: ...

    async def async_handler(_: Annotated[None, Depends(second, scope="app")]) -> None: ...

    host = Host(app_of(async_handler if is_async else handler))
    with pytest.raises(ConnectionError):
        host.process(batch_of("a"))
    host.close()


def test_an_app_whose_routes_and_clients_are_sync_makes_no_loop() -> None:
    world = World(is_async=False)
    host = Host(world.app)
    host.process(batch_of("aa"))
    assert not host._loop.is_usable
    host.close()
    assert world.log == [*CALLS, *CLOSED]


def test_sync_clients_of_async_routes_open_on_the_loop() -> None:
    def client() -> Iterator[asyncio.AbstractEventLoop]:
        yield asyncio.get_running_loop()
        asyncio.get_running_loop()

    async def handler(
        loop: Annotated[asyncio.AbstractEventLoop, Depends(client, scope="app")],
    ) -> None:
        assert loop is asyncio.get_running_loop()

    by_client(app_of(handler))


def test_a_task_group_may_be_one() -> None:
    ran: list[str] = []

    async def group() -> AsyncIterator[anyio.abc.TaskGroup]:
        async with anyio.create_task_group() as tasks:
            yield tasks

    async def work(name: str) -> None:
        ran.append(name)

    async def handler(
        new: Image, group: Annotated[anyio.abc.TaskGroup, Depends(group, scope="app")]
    ) -> None:
        group.start_soon(work, new["id"])

    by_client(app_of(handler))
    by_async_client(app_of(handler))
    assert ran == ["1"] * 4


def test_all_routes_share_one_and_each_app_has_its_own() -> None:
    seen: list[object] = []

    def client() -> object:
        return object()

    def session(client: Annotated[object, Depends(client, scope="app")]) -> object:
        return client

    def one(client: Annotated[object, Depends(client, scope="app")]) -> None:
        seen.append(client)

    async def other(session: Annotated[object, Depends(session)]) -> None:
        seen.append(session)

    for _ in range(2):
        by_client(app_of(one, other))
    assert len(seen) == 8
    assert [len(set(map(id, part))) for part in (seen[:4], seen[4:], seen)] == [1, 1, 2]


def test_threads_use_one_at_the_same_time() -> None:
    barrier = threading.Barrier(4, timeout=20)

    def handler(
        barrier: Annotated[threading.Barrier, Depends(lambda: barrier, scope="app")],
    ) -> None:
        barrier.wait()

    router = Router()
    router.on_insert()(handler)
    with TestClient(router) as stream:
        records = [stream.records.insert({"id": str(n)}) for n in range(4)]
        assert stream.send(records).errors == []


def test_a_clean_up_that_fails_is_raised_where_the_app_closes_and_all_others_are_closed() -> None:
    closed: list[str] = []

    def first() -> Iterator[None]:
        try:
            yield
        except ConnectionError:
            closed.append("first")  # it cannot make a success of it

    def second(_: Annotated[None, Depends(first, scope="app")]) -> Iterator[None]:
        yield
        raise ConnectionError

    def handler(_: Annotated[None, Depends(second, scope="app")]) -> None: ...

    client = TestClient(app_of(handler))
    client.__enter__()
    with pytest.raises(ConnectionError):
        client.__exit__()
    assert closed == ["first"]


def test_what_ends_the_batches_is_not_swallowed_by_a_client() -> None:
    async def client() -> AsyncIterator[None]:
        with suppress(ValueError):
            yield

    async def handler(_: Annotated[None, Depends(client, scope="app")]) -> None: ...

    async def main() -> None:
        async with app_of(handler).lifespan():
            raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        asyncio.run(main())


def test_process_outside_of_the_lifespan_says_what_to_write() -> None:
    world = World(is_async=False)
    with pytest.raises(DynaflowError, match=r"async with app\.lifespan\(\)"):
        asyncio.run(world.app.process(batch_of("a")))


# -- Lambda and the command line ------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [False, True])
def test_all_lambda_handlers_of_an_app_share_one_client_and_one_loop(is_async: bool) -> None:
    world = World(is_async=is_async)
    loops: list[object] = []

    async def note_loop() -> None:
        loops.append(asyncio.get_running_loop())

    app = app_of(note_loop, world.handler_of(world.client_of(is_async), is_async))
    event = {"Records": [RecordBuilder().insert(ITEM)]}
    handlers = [app.lambda_handler(), app.lambda_handler(report_batch_item_failures=True)]
    for handler in (*handlers, *handlers):
        assert handler(event, None) == {"batchItemFailures": []}
    if app._host is not None:  # Lambda never closes it
        app._host.close()
    assert world.log.count("open session") == 1
    assert "4 sent" in world.log
    assert len(set(loops)) == 1


def test_in_lambda_clients_open_at_init_and_stay(tmp_path: Path) -> None:
    with LambdaFunction("with_dependencies", tmp_path) as function:
        assert function.initialize() is None
        assert function.effects() == ["opened"]
        for name in "ab":
            assert answered(function.invoke(orders((name, "")))) == failed()

    assert function.effects() == ["opened", "sent a", "committed", "sent b", "committed"]


def test_in_lambda_a_client_that_cannot_open_shows_at_init(tmp_path: Path) -> None:
    with LambdaFunction("with_dependencies", tmp_path, CLIENT="fails") as function:
        failure = function.initialize()

    assert failure is not None
    assert failure.error_type == "ConnectionError"


def test_in_lambda_a_commit_that_fails_is_reported(tmp_path: Path) -> None:
    event = orders(("a", ""), ("poison", ""))
    with LambdaFunction("with_dependencies", tmp_path) as function:
        answer = answered(function.invoke(event))

    number = event["Records"][1]["dynamodb"]["SequenceNumber"]
    assert answer == failed(number)


def test_an_async_dependency_that_blocks_is_named_before_the_platform_ends_it(
    tmp_path: Path,
) -> None:
    with LambdaFunction("with_dependencies", tmp_path, SESSION="async") as function:
        assert answered(function.invoke(orders(("a", "")))) == failed()
        function.invoke(orders(("block", "")), timeout=1.2)

    assert "with_dependencies.announce blocks its thread" in function.stdout


def test_invoke_opens_and_closes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    project.write(
        "shop.py",
        """
        from typing import Annotated

        from dynaflow import App, Depends, Router

        router = Router()

        def client():
            print("opened")
            yield "client"
            print("closed")

        @router.on_insert()
        def ship(client: Annotated[str, Depends(client, scope="app")]) -> None:
            print("shipped by", client)

        app = App(router)
        """,
    )
    builder = RecordBuilder(keys=("id",))
    event = project.write_event(builder.event(builder.insert({"id": "1"})))
    result = project.run("invoke", "shop:app", event)
    assert result.exit_code == 0, result.output
    assert result.stderr.split("\n")[:3] == ["opened", "shipped by client", "closed"]
    assert "Depends(client, scope='app')" in project.run("routes", "shop:app", "--json").stdout


# -- overrides ------------------------------------------------------------------------------------


def get_mailer() -> str:
    return "mailer"


def get_prefix() -> str:
    return "real"


def get_repository(prefix: Annotated[str, Depends(get_prefix)]) -> str:
    return f"{prefix} repository"


def get_client() -> Iterator[str]:
    yield "client"


class Seen(list[Any]):
    """An app with several dependencies that notes what its handler got."""

    def app(self) -> App:
        def handler(
            mailer: Annotated[str, Depends(get_mailer)],
            repository: Annotated[str, Depends(get_repository)],
            client: Annotated[str, Depends(get_client, scope="app")],
        ) -> None:
            self.append((mailer, repository, client))

        return app_of(handler)


REAL = ("mailer", "real repository", "client")


async def async_fake() -> str:
    await asyncio.sleep(0)
    return "fake"


def generator_fake() -> Iterator[str]:
    yield "fake"


async def async_generator_fake() -> AsyncIterator[str]:
    yield "fake"


FAKES = [lambda: "fake", async_fake, generator_fake, async_generator_fake]


@pytest.mark.parametrize("fake", FAKES)
def test_a_replacement_may_be_of_another_kind(fake: Callable[..., Any]) -> None:
    seen = Seen()
    app = seen.app()
    with TestClient(app, overrides={get_mailer: fake}) as stream:
        assert stream.insert(ITEM).errors == []
    with TestClient(app, overrides={get_client: fake}) as stream:
        assert stream.insert(ITEM).errors == []
    by_client(app)
    assert seen == [("fake", *REAL[1:]), (*REAL[:2], "fake"), REAL, REAL]


@pytest.mark.parametrize("fake", FAKES)
def test_an_async_client_overrides_as_well(fake: Callable[..., Any]) -> None:
    seen = Seen()

    async def main() -> None:
        async with TestClient(seen.app(), overrides={get_prefix: fake, get_client: fake}) as stream:
            assert (await stream.insert(ITEM)).errors == []

    anyio.run(main, backend="trio" if fake is not async_fake else "asyncio")
    assert seen == [("mailer", "fake repository", "fake")]


def test_a_replacement_has_parameters_of_its_own_and_those_of_the_replaced_are_not_evaluated() -> (
    None
):
    seen = Seen()

    def never() -> str:
        raise AssertionError

    def fake(new: Image, client: Annotated[str, Depends(get_client, scope="app")]) -> str:
        return f"{new['id']} by {client}"

    with TestClient(seen.app(), overrides={get_repository: fake, get_prefix: never}) as stream:
        assert stream.insert(ITEM).errors == []
    assert seen == [("mailer", "1 by client", "client")]


def test_overrides_nest_the_inner_wins_and_they_may_end_in_any_order() -> None:
    seen = Seen()
    app = seen.app()
    with TestClient(app) as stream:
        outer = app.overrides({get_mailer: lambda: "outer", get_prefix: lambda: "outer"})
        inner = app.overrides({get_mailer: lambda: "inner"})
        for change in (
            lambda: None,
            outer.__enter__,
            inner.__enter__,
            lambda: outer.__exit__(None, None, None),
            lambda: inner.__exit__(None, None, None),
        ):
            change()  # type: ignore[no-untyped-call]  # these take no arguments
            assert stream.insert(ITEM).errors == []
    assert [got[:2] for got in seen] == [
        REAL[:2],
        ("outer", "outer repository"),
        ("inner", "outer repository"),
        ("inner", "real repository"),
        REAL[:2],
    ]


def test_an_override_ends_when_its_client_could_not_open() -> None:
    seen = Seen()
    app = seen.app()

    def broken() -> str:
        raise ConnectionError

    with pytest.raises(ConnectionError), TestClient(app, overrides={get_client: broken}):
        pytest.fail("it is not open")
    by_client(app)
    assert seen == [REAL, REAL]


def test_the_fixture_overrides_as_well(stream_client: Any) -> None:
    seen = Seen()
    stream = stream_client(seen.app(), overrides={get_mailer: lambda: "fake"})
    assert stream.insert(ITEM).errors == []
    assert seen == [("fake", *REAL[1:])]


def test_what_is_opened_with_the_lifespan_is_not_replaced_behind_its_back() -> None:
    seen = Seen()
    app = seen.app()

    def fake(new_client: Annotated[str, Depends(generator_fake, scope="app")]) -> str:
        return new_client

    with TestClient(app) as stream:
        for overrides in ({get_client: lambda: "fake"}, {get_mailer: fake}):
            with pytest.raises(
                DynaflowError, match=r"is not open\. It opens with the App's lifespan"
            ):
                app.overrides(overrides).__enter__()
        assert stream.insert(ITEM).errors == []
    assert seen == [REAL]


def test_bound_methods_are_found_by_what_they_are_bound_to() -> None:
    class Shop:
        def mailer(self) -> str:
            return "mailer"

    shop, other = Shop(), Shop()
    seen: list[str] = []

    def handler(mailer: Annotated[str, Depends(shop.mailer)]) -> None:
        seen.append(mailer)

    app = app_of(handler)
    with TestClient(app, overrides={shop.mailer: lambda: "fake"}) as stream:
        stream.insert(ITEM)
    assert seen == ["fake"]
    assert "Shop.mailer is no dependency of this App" in refusal(
        lambda: TestClient(app, overrides={other.mailer: lambda: "fake"})
    )


def unused() -> None: ...


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {unused: lambda: None},
            f"overrides: {__name__}.unused is no dependency of this App. Name the function that "
            f"Depends(...) names. There are: {__name__}.get_client, {__name__}.get_mailer, "
            f"{__name__}.get_prefix, {__name__}.get_repository",
        ),
        ({"get_mailer": lambda: None}, "overrides: 'get_mailer' is no dependency of this App."),
        (
            {get_mailer: "fake"},
            f"overrides: what replaces {__name__}.get_mailer is a str, not a function. Write "
            "'lambda: it'",
        ),
        ([get_mailer], "overrides take a mapping, got list: write {get_mailer: lambda: fake}"),
    ],
)
def test_overrides_that_cannot_be_meant_are_refused(overrides: Any, message: str) -> None:
    app = Seen().app()
    assert refusal(lambda: app.overrides(overrides)) == message or message in refusal(
        lambda: TestClient(app, overrides=overrides)
    )


def test_a_replacement_that_cannot_work_is_refused_and_changes_nothing() -> None:
    seen = Seen()
    app = seen.app()
    message = refusal(app.overrides({get_mailer: lambda order: None}).__enter__)
    assert message.startswith("parameter 'order' of ")
    assert "(by way of Seen.app.<locals>.handler → " in message
    by_client(app)
    assert seen == [REAL, REAL]
