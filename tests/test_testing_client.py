"""What TestClient gives a test, with ``with`` and with ``async with``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import anyio
import pytest

from dynaflow import App, DynaflowError, HandlerContext, Image, Record, Router, Status, changed
from dynaflow.errors import EventError
from dynaflow.testing import RecordBuilder, TestClient

OLD, NEW = {"id": "1", "status": "open"}, {"id": "1", "status": "paid"}


class Shop:
    """An app that notes what reached its handlers."""

    def __init__(self, *, table: str | None = "orders") -> None:
        self.seen: list[Any] = []
        self.router = Router(table=table)
        self.router.on_insert(name="insert")(self.insert)
        self.router.on_modify(changed("status", to="paid"), name="modify")(self.modify)
        self.router.on_remove(ttl=False, name="remove")(self.remove)
        self.router.on_expire(name="expire")(self.expire)

    async def insert(self, new: dict[str, Any], record: Record) -> None:
        self.seen.append(new)

    def modify(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self.seen.append((old, new))

    async def remove(self, old: dict[str, Any]) -> None:
        self.seen.append(old)

    def expire(self, old: dict[str, Any]) -> None:
        self.seen.append(old)


class Lifespan:
    """A lifespan that notes what happens to it."""

    def __init__(self, *, swallow: bool = False) -> None:
        self.log: list[str] = []
        self._swallow = swallow

    @asynccontextmanager
    async def __call__(self, app: App) -> AsyncIterator[None]:
        self.log.append("opened")
        try:
            yield
        except Exception:
            self.log.append("saw an error")
            if not self._swallow:
                raise
        self.log.append("closed")


def test_each_method_sends_its_record_to_the_handlers_for_it() -> None:
    shop = Shop()
    with TestClient(App(shop.router)) as stream:
        assert stream.insert(NEW).handled_by == ["insert"]
        assert stream.modify(old=OLD, new=NEW).handled_by == ["modify"]
        assert stream.remove(OLD).handled_by == ["remove"]
        assert stream.expire(OLD).handled_by == ["expire"]
        assert stream.modify(old=NEW, new=OLD).handled_by == []
    assert shop.seen == [NEW, (OLD, NEW), OLD, OLD]


@pytest.mark.anyio
async def test_async_methods_do_the_same_on_the_current_loop() -> None:
    shop = Shop()
    async with TestClient(App(shop.router)) as stream:
        assert (await stream.insert(NEW)).handled_by == ["insert"]
        assert (await stream.modify(old=OLD, new=NEW)).handled_by == ["modify"]
        assert (await stream.remove(OLD)).handled_by == ["remove"]
        assert (await stream.expire(OLD)).handled_by == ["expire"]
        batch = [stream.records.insert(NEW), stream.records.insert(NEW | {"id": "2"})]
        assert (await stream.send(batch)).handled_by == ["insert", "insert"]
    assert shop.seen == [NEW, (OLD, NEW), OLD, OLD, NEW, NEW | {"id": "2"}]


@pytest.mark.anyio
async def test_async_handlers_run_on_the_loop_of_the_test() -> None:
    router, woken = Router(), anyio.Event()

    @router.on_insert()
    async def wake() -> None:
        woken.set()

    async with TestClient(router) as stream:
        assert (await stream.insert(NEW)).failed is None
    with anyio.fail_after(5):
        await woken.wait()


def test_values_come_out_as_dynamodb_would_give_them_back() -> None:
    shop = Shop()
    item = {"id": b"\x00\xff", "n": 7, "d": Decimal("1E-130"), "s": {1, 2}, "l": [None, True, {}]}
    with TestClient(shop.router) as stream:
        assert stream.insert(item).failed is None
    (seen,) = shop.seen
    assert seen == item
    assert type(seen["n"]) is Decimal


def test_the_event_goes_through_json() -> None:
    router = Router()
    seen: list[Record] = []

    @router.on_any()
    def note(record: Record) -> None:
        seen.append(record)

    with TestClient(router) as stream:
        sent = stream.records.insert({"id": b"\xff"})
        stream.send([sent])
    assert seen[0].raw == sent
    assert seen[0].raw is not sent
    assert seen[0].keys["id"] == b"\xff"


def test_a_failure_is_a_result_and_not_raised() -> None:
    router = Router()
    error = RuntimeError("no")

    @router.on_insert(name="break")
    async def fail(new: Image) -> None:
        if new["id"] == "2":
            raise error

    with TestClient(router) as stream:
        records = [stream.records.insert({"id": name}) for name in "123"]
        result = stream.send(stream.records.event(*records))
    assert result.errors == [error]
    assert result.failed is not None
    assert [r.sequence_number for r in result.not_done] == [
        records[1]["dynamodb"]["SequenceNumber"]
    ]
    assert result.handled_by == ["break", "break"]


def test_the_table_is_the_only_one_that_the_routes_name() -> None:
    one, two, none = Router(table="orders"), Router(table="users"), Router()
    for router, name in ((one, "one"), (two, "two"), (none, "none")):
        router.on_any(name=name)(lambda keys: None)
    assert _table_of(TestClient(none)) == "table"
    assert _table_of(TestClient(App(none, one))) == "orders"
    both = App(one, two)
    assert _table_of(TestClient(both)) == "table"
    assert _table_of(TestClient(both, table="users")) == "users"


def _table_of(client: TestClient) -> str:
    with client as stream:
        return stream.records.stream_arn.split("/")[1]


def test_key_attributes_and_view_type_are_those_of_the_table() -> None:
    router = Router()
    seen: list[Record] = []

    @router.on_any()
    def note(record: Record) -> None:
        seen.append(record)

    with TestClient(router, keys=("pk", "sk"), view_type="KEYS_ONLY") as stream:
        stream.insert({"pk": "a", "sk": 1, "x": 2})
    assert seen[0].keys == {"pk": "a", "sk": 1}
    assert seen[0].new is None
    assert seen[0].view_type == "KEYS_ONLY"


def test_a_timeout_cuts_a_hanging_handler_off() -> None:
    router = Router()
    seconds_left: list[float] = []

    @router.on_insert()
    async def hang(context: HandlerContext) -> None:
        assert context.deadline is not None
        seconds_left.append(context.deadline.remaining())
        await anyio.sleep_forever()

    with TestClient(router, timeout=0.4) as stream:
        result = stream.insert(NEW)
    assert [outcome.status for outcome in result.outcomes] == [Status.NOT_DONE]
    assert 0 < seconds_left[0] <= 0.4


CLOUDWATCH = """
{"Records": [{
    "eventID": "c4ca4238a0b923820dcc509a6f75849b",
    "eventName": "INSERT",
    "eventVersion": "1.1",
    "eventSource": "aws:dynamodb",
    "awsRegion": "eu-west-1",
    "dynamodb": {
        "ApproximateCreationDateTime": 1700000000.0,
        "Keys": {"id": {"S": "1"}},
        "NewImage": {"id": {"S": "1"}, "status": {"S": "paid"}},
        "SequenceNumber": "4421584500000000017450439091",
        "SizeBytes": 26,
        "StreamViewType": "NEW_AND_OLD_IMAGES"
    },
    "eventSourceARN": "arn:aws:dynamodb:eu-west-1:111122223333:table/orders/stream/2024-05-01T00:00:00.000"
}]}
"""  # noqa: E501 - as CloudWatch shows it


@pytest.mark.parametrize("form", ["text", "bytes", "parsed", "list", "record"])
def test_an_event_copied_from_cloudwatch_is_sent_as_it_is(form: str) -> None:
    router = Router(table="orders")
    seen: list[Record] = []
    parsed = json.loads(CLOUDWATCH)
    forms: dict[str, Any] = {
        "text": CLOUDWATCH,
        "bytes": CLOUDWATCH.encode(),
        "parsed": parsed,
        "list": parsed["Records"],
        "record": parsed["Records"][0],
    }

    @router.on_insert()
    def note(record: Record) -> None:
        seen.append(record)

    with TestClient(router, table="something-else") as stream:
        assert stream.send(forms[form]).failed is None
    (record,) = seen
    assert record.raw == parsed["Records"][0]
    assert record.source_arn == parsed["Records"][0]["eventSourceARN"]
    assert record.sequence_number == "4421584500000000017450439091"


def test_records_as_boto3_parses_them_can_be_sent() -> None:
    router = Router()
    seen: list[Record] = []

    @router.on_insert()
    def note(record: Record) -> None:
        seen.append(record)

    created = datetime(2026, 1, 2, tzinfo=timezone.utc)
    with TestClient(router, keys=("id",)) as stream:
        record = stream.records.insert({"id": b"\xff"})
        record["dynamodb"]["Keys"] = {"id": {"B": b"\xff"}}
        record["dynamodb"]["ApproximateCreationDateTime"] = created
        assert stream.send([record]).failed is None
    assert seen[0].keys["id"] == b"\xff"
    assert seen[0].created_at == created


def test_what_is_no_event_is_refused_as_lambda_would_have_it() -> None:
    with TestClient(Router()) as stream:
        with pytest.raises(EventError, match="no 'Records'"):
            stream.send({"hello": "world"})
        with pytest.raises(EventError, match=r"not JSON: copy the whole event") as refused:
            stream.send('{"Records": [{"secret-marker"')
        assert "secret-marker" not in str(refused.value)
        assert refused.value.__suppress_context__
        assert stream.send({"Records": []}).outcomes == ()


def test_the_lifespan_is_open_within_the_block() -> None:
    shop, lifespan = Shop(), Lifespan()
    with TestClient(App(shop.router, lifespan=lifespan)) as stream:
        assert lifespan.log == ["opened"]
        stream.insert(NEW)
        stream.insert(NEW)
        assert lifespan.log == ["opened"]
    assert lifespan.log == ["opened", "closed"]
    assert shop.seen == [NEW, NEW]


@pytest.mark.anyio
async def test_the_lifespan_is_open_within_the_async_block() -> None:
    shop, lifespan = Shop(), Lifespan()
    async with TestClient(App(shop.router, lifespan=lifespan)) as stream:
        await stream.insert(NEW)
        assert lifespan.log == ["opened"]
    assert lifespan.log == ["opened", "closed"]
    assert shop.seen == [NEW]


def test_a_lifespan_cannot_swallow_what_the_test_raises() -> None:
    lifespan = Lifespan(swallow=True)
    with pytest.raises(ZeroDivisionError), TestClient(App(lifespan=lifespan)):
        raise ZeroDivisionError
    assert lifespan.log == ["opened", "closed"]


@pytest.mark.anyio
async def test_a_lifespan_cannot_swallow_what_an_async_test_raises() -> None:
    lifespan = Lifespan(swallow=True)
    with pytest.raises(ZeroDivisionError):
        async with TestClient(App(lifespan=lifespan)):
            raise ZeroDivisionError
    assert lifespan.log == ["opened", "closed"]


@asynccontextmanager
async def _broken(app: App) -> AsyncIterator[None]:
    raise RuntimeError("no database")
    yield


def test_a_lifespan_that_fails_to_open_fails_the_test() -> None:
    with pytest.raises(RuntimeError, match="no database"), TestClient(App(lifespan=_broken)):
        pytest.fail("the block was entered")


@pytest.mark.anyio
async def test_a_lifespan_that_fails_to_open_fails_the_async_test() -> None:
    with pytest.raises(RuntimeError, match="no database"):
        async with TestClient(App(lifespan=_broken)):
            pytest.fail("the block was entered")


def test_the_kept_loop_keeps_what_handlers_made_on_it() -> None:
    router = Router()
    loops: list[asyncio.AbstractEventLoop] = []

    @router.on_insert()
    async def note() -> None:
        loops.append(asyncio.get_running_loop())

    with TestClient(router) as stream:
        stream.insert(NEW)
        stream.insert(NEW)
    assert loops[0] is loops[1]
    assert loops[0].is_closed()


def test_one_client_can_be_opened_again_but_not_twice_at_a_time() -> None:
    shop = Shop()
    client = TestClient(shop.router)
    with client as first:
        first.insert(NEW)
        with pytest.raises(DynaflowError, match="open already: make another one"):
            client.__enter__()
    with client as second:
        assert second.insert(NEW).handled_by == ["insert"]
        with pytest.raises(DynaflowError, match="closed"):
            first.insert(NEW)
    assert len(shop.seen) == 2


def test_after_the_block_nothing_is_sent() -> None:
    shop = Shop()
    with TestClient(shop.router) as stream:
        pass
    with pytest.raises(DynaflowError, match=r"closed.*within its 'with' block"):
        stream.insert(NEW)
    assert shop.seen == []


@pytest.mark.anyio
async def test_after_the_async_block_nothing_is_sent() -> None:
    shop = Shop()
    async with TestClient(shop.router) as stream:
        pass
    with pytest.raises(DynaflowError, match="closed"):
        await stream.insert(NEW)
    assert shop.seen == []


def test_records_are_not_sent_to_the_client_itself() -> None:
    client: Any = TestClient(Router())
    with pytest.raises(AttributeError, match=r"no 'insert'.*'with TestClient\(app\) as stream:'"):
        client.insert(NEW)


@pytest.mark.anyio
async def test_the_plain_with_is_refused_where_a_loop_runs() -> None:
    lifespan = Lifespan()
    client = TestClient(App(lifespan=lifespan))
    with pytest.raises(DynaflowError, match=r"would block.*'async with TestClient"):
        client.__enter__()
    assert lifespan.log == []


def test_only_an_app_or_a_router_can_be_tested() -> None:
    target: Any = Shop
    with pytest.raises(TypeError, match="takes an App or a Router, got type"):
        TestClient(target)


def test_an_item_without_its_key_is_refused_before_anything_is_sent() -> None:
    shop = Shop()
    with TestClient(shop.router, keys=("pk",)) as stream:
        with pytest.raises(ValueError, match=r"no key attribute 'pk'.*keys="):
            stream.modify(old=OLD, new=NEW)
        with pytest.raises(ValueError, match="two items"):
            stream.modify(old={"pk": "1"}, new={"pk": "2"})
    assert shop.seen == []


def test_the_records_of_a_client_are_those_of_a_builder() -> None:
    with TestClient(Router(), table="orders", keys=("id",)) as stream:
        made = [stream.records.insert(NEW), stream.records.expire(OLD)]
    builder = RecordBuilder(("id",), table="orders")
    assert made == [builder.insert(NEW), builder.expire(OLD)]
