"""``App(order_by=)``: which records run one after the other."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from dynaflow import App, Batch, BatchResult, Image, Record, Router
from dynaflow.codec import decode_records
from dynaflow.errors import OrderUnknown
from dynaflow.testing import RecordBuilder
from dynaflow.testing.clock import run_virtual
from tests.support.routers import refusal

ORDERS = RecordBuilder(keys=("customer", "order"), table="orders")
ITEMS = RecordBuilder(keys=("id",), table="items")


def order(customer: Any, number: int) -> dict[str, Any]:
    return ORDERS.insert({"customer": customer, "order": number})


class Overlaps:
    """A handler that notes which customers' records ran at the same time, and in which order."""

    def __init__(self) -> None:
        self.running: Counter[Any] = Counter()
        self.overlapping: set[Any] = set()
        self.peak = 0
        self.seen: list[Any] = []

    async def __call__(self, keys: Image) -> None:
        name = keys.get("customer", keys.get("id"))
        self.seen.append((name, keys.get("order")))
        self.running[name] += 1
        if self.running[name] > 1:
            self.overlapping.add(name)
        self.peak = max(self.peak, self.running.total())
        await anyio.sleep(0.1)
        self.running[name] -= 1


def run(handler: Any, *raws: dict[str, Any], build: Any = ORDERS, **options: Any) -> BatchResult:
    router = Router()
    router.on_any(name="handler")(handler)
    app = App(router, **options)
    batch = Batch(decode_records(raws, build.stream_arn), build.stream_arn)
    result: BatchResult = run_virtual(app.process, batch, patience=0)
    return result


THREE = [order("ada", 1), order("ada", 2), order("bob", 1), order("ada", 3)]


def test_items_run_side_by_side_by_default() -> None:
    handler = Overlaps()
    run(handler, *THREE)
    assert handler.peak == 4


def test_records_of_a_partition_key_run_one_after_the_other() -> None:
    handler = Overlaps()
    run(handler, *THREE, order_by="partition_key", partition_key="customer")
    assert handler.overlapping == set()
    assert handler.peak == 2
    assert [number for name, number in handler.seen if name == "ada"] == [1, 2, 3]


@pytest.mark.parametrize("names", [{"orders": "customer"}, {"orders": "customer", "other": "id"}])
def test_partition_keys_can_be_named_by_table(names: dict[str, str]) -> None:
    handler = Overlaps()
    run(handler, *THREE, order_by="partition_key", partition_key=names)
    assert handler.peak == 2


def test_equal_numbers_are_one_partition_however_they_are_written() -> None:
    raws = [order(1, 1), order(1, 2)]
    raws[1]["dynamodb"]["Keys"]["customer"] = {"N": "1.0"}
    handler = Overlaps()
    run(handler, *raws, order_by="partition_key", partition_key="customer")
    assert handler.peak == 1


def test_without_its_name_the_partition_key_of_a_table_with_two_is_the_whole_shard() -> None:
    handler = Overlaps()
    run(handler, *THREE, order_by="partition_key")
    assert handler.peak == 1
    handler = Overlaps()
    raws = [ITEMS.insert({"id": "a"}), ITEMS.insert({"id": "b"})]
    run(handler, *raws, build=ITEMS, order_by="partition_key")
    assert handler.peak == 2


def test_a_name_that_is_no_key_attribute_fails_and_says_what_there_is() -> None:
    result = run(Overlaps(), *THREE, order_by="partition_key", partition_key="client")
    assert len(result.not_done) == 4
    assert isinstance(result.errors[0], OrderUnknown)
    assert "no key attribute 'client'" in str(result.errors[0])
    assert "customer, order" in str(result.errors[0])


def test_a_whole_shard_runs_one_after_the_other_and_stops_at_a_failure() -> None:
    seen: list[Any] = []

    def handler(keys: Image) -> None:
        seen.append(keys["order"])
        if keys["order"] == 2:
            raise ValueError("no")

    result = run(handler, *THREE, order_by="shard")
    assert seen == [1, 2]
    assert len(result.not_done) == 3


def test_a_function_chooses_the_lane() -> None:
    handler = Overlaps()
    run(handler, *THREE, order_by=lambda record: record.keys["customer"])
    assert handler.peak == 2


def test_a_function_that_parts_an_item_fails_the_record_that_shows_it() -> None:
    raws = [order("ada", 1), ORDERS.modify(_order(1), {**_order(1), "paid": True}), order("bob", 1)]
    result = run(Overlaps(), *raws, order_by=lambda record: record.sequence_number)
    assert [type(error) for error in result.errors] == [OrderUnknown]
    assert "different lanes to records of one item" in str(result.errors[0])
    assert len(result.not_done) == 2  # nothing above it starts


def _order(number: int) -> dict[str, Any]:
    return {"customer": "ada", "order": number}


def leaves(record: Record) -> str:
    raise SystemExit(1)


def quotes(record: Record) -> str:
    raise KeyError(record.keys["customer"])


def unhashable(record: Record) -> Any:
    return [record.keys["customer"]]


@pytest.mark.parametrize("function", [leaves, quotes, unhashable])
def test_a_function_that_gives_no_lane_fails_the_record_and_what_is_above_waits(
    function: Callable[[Record], Any],
) -> None:
    result = run(Overlaps(), *THREE, order_by=function)
    assert len(result.not_done) == 4
    assert isinstance(result.errors[0], OrderUnknown)
    assert "ada" not in str(result.errors[0])


def test_what_cannot_be_read_bars_what_comes_after_it_where_a_function_chooses() -> None:
    raws = [order("ada", 1), order("bob", 1), order("eve", 1)]
    raws[1]["eventName"] = "RENAME"
    handler = Overlaps()
    result = run(handler, *raws, order_by=lambda record: record.keys["customer"])
    assert handler.seen == [("ada", 1)]
    assert len(result.not_done) == 2


def test_what_cannot_be_read_closes_its_partition_only() -> None:
    raws = [order("ada", 1), order("ada", 2), order("bob", 1)]
    raws[0]["eventName"] = "RENAME"
    handler = Overlaps()
    run(handler, *raws, order_by="partition_key", partition_key="customer")
    assert handler.seen == [("bob", 1)]


def test_sync_lanes_of_a_partition_stay_in_one_thread_each() -> None:
    threads: dict[Any, set[str]] = {}
    barrier = threading.Barrier(2, timeout=10)

    def handler(keys: Image) -> None:
        threads.setdefault(keys["customer"], set()).add(str(threading.get_ident()))
        if keys["order"] == 1:
            barrier.wait()  # both partitions are at work, so they have a thread each

    router = Router()
    router.on_any(name="handler")(handler)
    app = App(router, order_by="partition_key", partition_key="customer")
    raws = [order("ada", 1), order("bob", 1), order("ada", 2), order("bob", 2)]
    work = app.begin(app.plan(Batch(decode_records(raws, ORDERS.stream_arn))))
    app.run_without_loop(work)
    assert work.finish().failed is None
    assert {len(names) for names in threads.values()} == {1}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"order_by": "items"}, "order_by='items' is unknown"),
        ({"order_by": None}, "order_by=None is unknown"),
        ({"order_by": "table"}, "'item', 'partition_key', 'shard' or a function"),
        ({"partition_key": "customer"}, "order_by='partition_key'"),
        ({"order_by": "partition_key", "partition_key": 1}, "an attribute's name"),
        ({"order_by": "partition_key", "partition_key": ""}, "an attribute's name"),
        ({"order_by": "partition_key", "partition_key": {"orders": 1}}, "an attribute's name"),
    ],
)
def test_what_cannot_work_is_refused(options: dict[str, Any], text: str) -> None:
    assert text in refusal(lambda: App(**options))


def test_an_async_function_is_refused() -> None:
    async def choose(record: Record) -> str:
        return "lane"

    function: Any = choose
    assert "async" in refusal(lambda: App(order_by=function))
