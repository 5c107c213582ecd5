"""Which images routes ask for, and the doors that refuse a stream which leaves one of them out."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from dynaflow import (
    App,
    Change,
    Depends,
    F,
    HandlerContext,
    Idempotent,
    Image,
    Record,
    Router,
    added,
    changed,
    crossed,
    removed,
)
from dynaflow._needs import CheckedViews
from dynaflow.codec import decode_records
from dynaflow.errors import NonRetryable, ViewTypeMismatch
from dynaflow.poller import Poller
from dynaflow.sources import DynamoDBSource, MemorySource
from dynaflow.stores import MemoryMarks, MemoryStore
from dynaflow.testing import EventSourceMapping, RecordBuilder, TestClient
from dynaflow.testing.clock import run_virtual
from tests.support.batches import processed
from tests.support.command_line import Project
from tests.support.tables import REGION, Table

ITEM = {"id": "1", "status": "open", "total": 5}
PAID = {"id": "1", "status": "paid", "total": 5}

KEYS, NEW, OLD, BOTH = "KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES"


class Order(BaseModel):
    id: str
    total: int


def nothing() -> None: ...
def plain_new(new): ...  # type: ignore[no-untyped-def]  # a handler without annotations
def dict_new(new: dict[str, Any]) -> None: ...
def image_old(old: Image) -> None: ...
def maybe_new(new: Order | None) -> None: ...
def maybe_old(old: Order | None) -> None: ...
def both(old: dict[str, Any] | None, new: dict[str, Any] | None) -> None: ...
def keys_only(keys: dict[str, Any]) -> None: ...
def of_record(record: Record, context: HandlerContext) -> None: ...
def with_default(old: Order | None = None, other: int = 1) -> None: ...
def before(old: dict[str, Any] | None) -> Any: ...
def below(was: Annotated[Any, Depends(before)]) -> Any: ...
def by_dependency(record: Record, was: Annotated[Any, Depends(below)]) -> None: ...
def typed_changes(changes: list[Change[Order]]) -> None: ...
def plain_changes(changes: list[Change[Any]]) -> None: ...
def many_records(records: list[Record]) -> None: ...
def is_big(record: Record) -> bool:
    return record.old is not None


Register = Callable[[Router], Callable[[Callable[..., Any]], object]]
ALL, UPSERT = ("INSERT", "MODIFY", "REMOVE"), ("INSERT", "MODIFY")

# What is registered; what it asks for: image → events; the least view type.
NEEDS: dict[str, tuple[Register, Callable[..., Any], dict[str, tuple[str, ...]], str]] = {
    "no parameter": (lambda r: r.on_any(), nothing, {}, KEYS),
    "new, bare": (lambda r: r.on_any(), plain_new, {"new": UPSERT}, NEW),
    "new: dict": (lambda r: r.on_insert(), dict_new, {"new": ("INSERT",)}, NEW),
    "old: Image": (lambda r: r.on_remove(), image_old, {"old": ("REMOVE",)}, OLD),
    "new or None": (lambda r: r.on_any(), maybe_new, {"new": UPSERT}, NEW),
    "new, never there": (lambda r: r.on_remove(), maybe_new, {}, KEYS),
    "old or None": (lambda r: r.on_any(), maybe_old, {"old": ("MODIFY", "REMOVE")}, OLD),
    "old or None, upsert": (lambda r: r.on_upsert(), maybe_old, {"old": ("MODIFY",)}, OLD),
    "old, never there": (lambda r: r.on_insert(), maybe_old, {}, KEYS),
    "old with a default": (lambda r: r.on_modify(), with_default, {"old": ("MODIFY",)}, OLD),
    "both": (lambda r: r.on_modify(), both, {"new": ("MODIFY",), "old": ("MODIFY",)}, BOTH),
    "both, insert": (lambda r: r.on_insert(), both, {"new": ("INSERT",)}, NEW),
    "keys": (lambda r: r.on_any(), keys_only, {}, KEYS),
    "record": (lambda r: r.on_any(), of_record, {}, KEYS),
    "a dependency's": (lambda r: r.on_upsert(), by_dependency, {"old": ("MODIFY",)}, OLD),
    "expire": (lambda r: r.on_expire(), maybe_old, {"old": ("REMOVE",)}, OLD),
    "expire, nothing": (lambda r: r.on_expire(), nothing, {}, KEYS),
    "ttl_attribute": (
        lambda r: r.on_expire(ttl_attribute="at"),
        nothing,
        {"old": ("REMOVE",)},
        OLD,
    ),
    "not ttl_attribute": (
        lambda r: r.on_remove(ttl=False, ttl_attribute="at"),
        nothing,
        {"old": ("REMOVE",)},
        OLD,
    ),
    "F.new": (lambda r: r.on_any(F.new.a == 1), nothing, {"new": UPSERT}, NEW),
    "F.old, deep": (
        lambda r: r.on_any(~((F.keys.id == "1") | F.old.a[0].b.exists())),
        nothing,
        {"old": ("MODIFY", "REMOVE")},
        OLD,
    ),
    "F.keys": (lambda r: r.on_any(F.keys.id == "1"), nothing, {}, KEYS),
    "F.new on REMOVE": (lambda r: r.on_remove(F.new.a != 1), nothing, {}, KEYS),
    "two paths": (
        lambda r: r.on_modify(F.new.a > F.old.a),
        nothing,
        {"new": ("MODIFY",), "old": ("MODIFY",)},
        BOTH,
    ),
    "changed": (
        lambda r: r.on_any(changed("a", to=1)),
        nothing,
        {"new": UPSERT, "old": ("MODIFY", "REMOVE")},
        BOTH,
    ),
    "changed, insert": (lambda r: r.on_insert(changed("a")), nothing, {"new": ("INSERT",)}, NEW),
    "added": (
        lambda r: r.on_modify(added("a")),
        nothing,
        {"new": ("MODIFY",), "old": ("MODIFY",)},
        BOTH,
    ),
    "removed": (lambda r: r.on_remove(removed("a")), nothing, {"old": ("REMOVE",)}, OLD),
    "crossed": (
        lambda r: r.on_upsert(crossed("a", above=1)),
        nothing,
        {"new": UPSERT, "old": ("MODIFY",)},
        BOTH,
    ),
    "a function": (lambda r: r.on_any(is_big), nothing, {}, KEYS),
    "a function & F": (
        lambda r: r.on_insert(is_big & (F.new.a == 1)),
        nothing,
        {"new": ("INSERT",)},
        NEW,
    ),
    "changes": (lambda r: r.on_batch(), typed_changes, {}, KEYS),
    "any changes": (lambda r: r.on_batch(), plain_changes, {}, KEYS),
    "records": (lambda r: r.on_batch(), many_records, {}, KEYS),
    "records, filtered": (
        lambda r: r.on_batch("REMOVE", when=F.old.a == 1),
        many_records,
        {"old": ("REMOVE",)},
        OLD,
    ),
    "a mark's key": (
        lambda r: r.on_any(middleware=[Idempotent(MemoryMarks(), key=F.new.a)]),
        nothing,
        {"new": UPSERT},
        NEW,
    ),
    "a mark": (lambda r: r.on_any(middleware=[Idempotent(MemoryMarks())]), nothing, {}, KEYS),
}
CARRIES = {KEYS: set[str](), NEW: {"new"}, OLD: {"old"}, BOTH: {"new", "old"}}


def app_of(name: str) -> App:
    register, handler, _, _ = NEEDS[name]
    router = Router()
    register(router)(handler)
    return App(router)


@pytest.mark.parametrize("name", NEEDS)
def test_what_a_route_asks_for_is_known_without_a_record(name: str) -> None:
    _, handler, expected, least = NEEDS[name]
    app = app_of(name)
    needs = app.image_needs()
    assert {need.image: need.events for need in needs} == expected
    assert {need.route for need in needs} <= {f"{__name__}.{handler.__qualname__}"}
    assert app.least_view_type() == least


@pytest.mark.parametrize("view_type", CARRIES)
@pytest.mark.parametrize("name", NEEDS)
def test_a_view_type_is_refused_if_it_leaves_out_any_of_it(name: str, view_type: str) -> None:
    _, _, expected, _ = NEEDS[name]
    app = app_of(name)
    if expected.keys() <= CARRIES[view_type]:
        app.refuse_view_type(view_type)
    else:
        with pytest.raises(ViewTypeMismatch, match=f"the stream has view type {view_type}"):
            app.refuse_view_type(view_type)


@pytest.mark.parametrize("name", NEEDS)
def test_a_stream_that_is_not_refused_lacks_no_image_that_was_declared(name: str) -> None:
    # Whatever a record's own errors say, it was known beforehand; but for what is only read.
    app, least = app_of(name), NEEDS[name][-1]
    build = RecordBuilder(view_type=least)
    raws = build.insert(ITEM), build.modify(ITEM, PAID), build.remove(PAID), build.expire(ITEM)
    for error in processed(app, *raws).errors:
        assert "image" not in str(error)


@pytest.mark.parametrize("view_type", [None, "", "NEW", "new_image", "FUTURE_IMAGES"])
def test_a_view_type_that_is_not_known_is_never_refused(view_type: str | None) -> None:
    app_of("both").refuse_view_type(view_type)


def two_tables() -> App:
    router = Router()
    router.on_modify(table="orders", name="ship")(maybe_old)
    router.on_insert(F.new.a == 1, table="users", name="greet")(nothing)
    router.on_upsert(changed("a", to=2), name="audit")(by_dependency)
    return App(router)


def test_the_error_lists_all_that_is_asked_for_and_the_remedy() -> None:
    with pytest.raises(ViewTypeMismatch) as caught:
        two_tables().refuse_view_type("KEYS_ONLY", "orders")
    assert str(caught.value) == (
        "the stream of table 'orders' has view type KEYS_ONLY, which leaves out images that are "
        "asked for. ship: parameter 'old: Order | None' reads the old image on MODIFY; audit: the "
        "filter changed('a', to=2) reads the new image on INSERT, MODIFY; audit: the filter "
        "changed('a', to=2) reads the old image on MODIFY; audit: parameter 'old: dict[str, Any] | "
        "None' of the dependency before reads the old image on MODIFY. NEW_AND_OLD_IMAGES is "
        "enough for all of its routes. A view type cannot be changed: disable the stream and "
        "enable a new one, which has a new ARN; in Lambda, it wants a new event source mapping. Or "
        "ask for less: a handler that can do without takes 'record: Record' and reads record.new "
        "or record.old, which may be None. A route that is not meant for this table says so by "
        "table=."
    )


def test_only_routes_that_take_the_table_are_asked() -> None:
    app = two_tables()
    assert {need.route for need in app.image_needs("orders")} == {"ship", "audit"}
    assert {need.route for need in app.image_needs("users")} == {"greet", "audit"}
    assert {need.route for need in app.image_needs()} == {"ship", "greet", "audit"}
    assert {need.table for need in app.image_needs("others")} == {None}


def test_table_is_named_as_a_remedy_only_where_a_route_has_none() -> None:
    router = Router(table="orders")
    router.on_modify(name="ship")(maybe_old)
    with pytest.raises(ViewTypeMismatch) as caught:
        App(router).refuse_view_type("NEW_IMAGE", "orders")
    assert "table=" not in str(caught.value)
    assert "OLD_IMAGE is enough" in str(caught.value)


def test_what_a_dependency_is_replaced_with_has_needs_of_its_own() -> None:
    app = app_of("a dependency's")
    with app.overrides({before: lambda: None}):
        assert app.image_needs() == ()
    assert len(app.image_needs()) == 1


def test_a_mark_s_key_around_the_whole_app_is_a_need_of_every_route() -> None:
    router = Router()
    router.on_modify(name="a")(nothing)
    router.on_remove(name="b")(nothing)
    app = App(router, middleware=[Idempotent(MemoryMarks(), key=F.old.id)])
    assert [str(need) for need in app.image_needs()] == [
        "a: Idempotent(key=F.old.id) reads the old image on MODIFY",
        "b: Idempotent(key=F.old.id) reads the old image on REMOVE",
    ]


# The door of Lambda.


class World:
    """An App that wants old images, or None, with everything that could happen to a record."""

    def __init__(self) -> None:
        self.handled: list[str] = []
        self.parked: list[Any] = []
        router = Router()

        @router.on_upsert(name="follow", table="orders")
        def follow(old: dict[str, Any] | None, keys: dict[str, Any]) -> None:
            self.handled.append(keys["id"])
            if keys["id"] == "bad":
                raise NonRetryable("no")

        self.app = App(router, dead_letter=self.parked.append)
        self.handler = self.app.lambda_handler(report_batch_item_failures=True)


@pytest.fixture
def world() -> World:
    return World()


def event(view_type: str, *ids: str, table: str = "orders") -> dict[str, Any]:
    build = RecordBuilder(table=table, view_type=view_type)
    return build.event(*(build.insert({"id": name}) for name in ids))


@pytest.mark.parametrize("as_list", [False, True], ids=["lambda", "pipes"])
def test_the_door_fails_every_such_batch_before_any_handler_and_logs_it_once(
    world: World, caplog: pytest.LogCaptureFixture, as_list: bool
) -> None:
    given: Any = event("NEW_IMAGE", "a", "bad")
    given = given["Records"] if as_list else given
    for _ in range(3):
        with pytest.raises(ViewTypeMismatch, match="follow: parameter 'old: dict"):
            world.handler(given, None)
    assert (world.handled, world.parked) == ([], [])
    (line,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert line.name == "dynaflow"
    assert "OLD_IMAGE is enough" in line.getMessage()


def test_the_door_takes_streams_that_have_what_is_asked_for(world: World) -> None:
    assert world.handler(event("KEYS_ONLY", "c", table="users"), None) == {"batchItemFailures": []}
    assert world.handler(event("OLD_IMAGE", "a"), None) == {"batchItemFailures": []}
    assert world.handler(event("NEW_AND_OLD_IMAGES", "b"), None) == {"batchItemFailures": []}
    with pytest.raises(ViewTypeMismatch):
        world.handler(event("KEYS_ONLY", "c"), None)
    assert world.handled == ["a", "b"]


def test_the_door_looks_past_a_record_that_cannot_be_read(world: World) -> None:
    given = event("NEW_IMAGE", "a", "b")
    given["Records"][0]["eventName"] = "?"
    with pytest.raises(ViewTypeMismatch):
        world.handler(given, None)
    assert world.parked == []


def test_a_record_that_does_not_say_its_view_type_or_its_table_is_not_refused(
    world: World,
) -> None:
    given = event("NEW_IMAGE", "a")
    del given["Records"][0]["dynamodb"]["StreamViewType"]
    assert world.handler(given, None) == {"batchItemFailures": []}
    assert world.handled == ["a"]
    given = event("NEW_IMAGE", "b")
    del given["Records"][0]["eventSourceARN"]
    world.handler(given, None)
    assert len(world.parked) == 1  # which table it is of cannot be told: its own failure


def test_an_event_of_no_records_is_no_reason_to_refuse(world: World) -> None:
    assert world.handler({"Records": []}, None) == {"batchItemFailures": []}


def test_a_stream_that_has_passed_is_asked_about_no_more() -> None:
    asked: list[tuple[str | None, str]] = []
    views = CheckedViews(lambda view_type, table: asked.append((view_type, table)))
    build = RecordBuilder(table="orders")
    for _ in range(3):
        raws = [build.insert({"id": "1"}), build.insert({"id": "2"})]
        views.check_records(decode_records(raws, build.stream_arn))
        views.check(build.stream_arn, None)
    assert asked == [("NEW_AND_OLD_IMAGES", "orders"), (None, "orders")]


def test_a_mapping_loses_nothing_while_the_function_refuses_its_stream(world: World) -> None:
    mapping = EventSourceMapping(world.handler, report_batch_item_failures=True)
    given = event("NEW_IMAGE", "a", "bad")
    report = mapping.run(given, max_invocations=3)
    assert {type(invocation.error) for invocation in report.invocations} == {ViewTypeMismatch}
    assert len(report.pending) == len(given["Records"])
    assert (world.handled, world.parked) == ([], [])


def test_the_test_client_refuses_as_the_door_does(world: World) -> None:
    said = "of table 'orders' has view type NEW_IMAGE"
    client = TestClient(world.app, view_type="NEW_IMAGE")
    with client as stream, pytest.raises(ViewTypeMismatch, match=said):
        stream.insert(ITEM)
    assert world.handled == []


@pytest.mark.anyio
async def test_the_async_test_client_refuses_as_the_door_does(world: World) -> None:
    async with TestClient(world.app, view_type="NEW_IMAGE") as stream:
        with pytest.raises(ViewTypeMismatch):
            await stream.insert(ITEM)
    assert world.handled == []


def test_what_is_explained_is_explained_whatever_the_view_type(world: World) -> None:
    build = RecordBuilder(table="orders", view_type="NEW_IMAGE")
    (record,) = decode_records([build.insert(ITEM)], build.stream_arn)
    assert world.app.explain(record).runs == ["follow"]


# The poller.


class Stream:
    """A stream in memory with one shard, and a poller of it."""

    def __init__(self, world: World, view_type: str | None, *, records: str = "OLD_IMAGE") -> None:
        self._build = RecordBuilder(table="orders", view_type=records)
        self.source = MemorySource(self._build.stream_arn, view_type=view_type)
        self.source.add_shard("a")
        self.store = MemoryStore()
        self.poller = Poller(world.app, self.source, self.store, once=True)

    def write(self, *ids: str, shard_id: str = "a") -> None:
        raws = [self._build.insert({"id": name}) for name in ids]
        self.source.append(shard_id, *decode_records(raws, self.source.stream_arn))

    def checkpoints(self) -> dict[str, Any]:
        return dict(asyncio.run(self.store.load("default", self.source.stream_arn)))


@pytest.mark.parametrize("start", ["TRIM_HORIZON", "LATEST"])
def test_a_poller_refuses_before_it_reads_or_saves_anything(world: World, start: Any) -> None:
    stream = Stream(world, "NEW_IMAGE")
    stream.write("a")
    poller = Poller(world.app, stream.source, stream.store, starting_position=start)
    with pytest.raises(ViewTypeMismatch, match="the stream of table 'orders'"):
        run_virtual(poller.run)
    assert {operation for operation, _, _ in stream.source.calls} == {"shards"}
    assert (world.handled, stream.checkpoints()) == ([], {})


@pytest.mark.parametrize("view_type", [None, "OLD_IMAGE", "NEW_AND_OLD_IMAGES"])
def test_a_poller_takes_a_stream_that_has_the_images_or_does_not_say(
    world: World, view_type: str | None
) -> None:
    stream = Stream(world, view_type)
    stream.write("a")
    assert run_virtual(stream.poller.run).records == 1


def test_a_poller_ends_in_order_when_a_later_listing_tells_another_view_type(world: World) -> None:
    stream = Stream(world, "OLD_IMAGE")
    stream.write("a")
    router = Router(table="orders")
    ended: list[str] = []

    @router.on_upsert(name="follow")
    async def follow(old: dict[str, Any] | None, keys: dict[str, Any]) -> None:
        stream.source.view_type = "NEW_IMAGE"  # the next listing, in a second, tells it
        stream.source.add_shard("b")
        stream.write("b", shard_id="b")
        await asyncio.sleep(5)
        ended.append(keys["id"])

    with pytest.raises(ViewTypeMismatch):
        run_virtual(Poller(App(router), stream.source, stream.store).run)
    assert ended == ["a"]  # what was in flight, and its checkpoint
    assert {shard_id: row.deliveries for shard_id, row in stream.checkpoints().items()} == {"a": {}}
    assert stream.checkpoints()["a"].sequence_number is not None


def test_what_a_source_does_not_say_its_records_do(world: World) -> None:
    stream = Stream(world, None, records="NEW_IMAGE")
    stream.write("a")
    with pytest.raises(ViewTypeMismatch):
        run_virtual(stream.poller.run)
    assert world.handled == []
    assert all(row.sequence_number is None for row in stream.checkpoints().values())


SHOP = """
    from dynaflow import Router

    router = Router()

    @router.on_upsert()
    def follow(old: dict | None):
        print("followed")

    @router.on_any()
    def note(keys): ...
"""


def test_run_refuses_a_real_stream_with_one_line_and_exits_with_2(
    aws_project: Project, table: Table, moto_url: str
) -> None:
    other = Table(moto_url, f"{table.name}-keys", view_type="KEYS_ONLY")
    other.put("a")
    aws_project.write("shop.py", SHOP)
    result = aws_project.run("run", "shop:router", *other.options, "--once", "--store", "memory")
    other.client.close()
    assert result.exit_code == 2
    assert "followed" not in result.stdout
    line = result.stderr.splitlines()[-1]
    assert line.startswith(f"dynaflow: the stream of table '{other.name}' has view type KEYS_ONLY")
    assert "shop.follow: parameter 'old: dict | None'" in line
    assert "Traceback" not in result.stderr


def test_a_dynamodb_source_knows_its_view_type_once_it_has_listed(
    table: Table, moto_url: str
) -> None:
    async def told() -> list[str | None]:
        async with DynamoDBSource(table.name, region=REGION, endpoint_url=moto_url) as source:
            before = source.view_type
            await source.shards()
            return [before, source.view_type]

    assert asyncio.run(told()) == [None, "NEW_AND_OLD_IMAGES"]


def test_invoke_refuses_as_lambda_would_and_exits_with_2(aws_project: Project) -> None:
    aws_project.write("shop.py", SHOP)
    path = aws_project.write_event(event("NEW_IMAGE", "a"))
    result = aws_project.run("invoke", "shop:router", path)
    assert result.exit_code == 2
    assert "has view type NEW_IMAGE" in result.stderr.splitlines()[-1]
    explained = aws_project.run("explain", "shop:router", path, "--json")
    assert explained.exit_code == 0
    assert [route["verdict"] for route in json.loads(explained.stdout)[0]["routes"]] == [
        "runs",
        "runs",
    ]
