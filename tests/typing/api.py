"""What type checkers see of the public names. Never run: mypy and pyright read it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, assert_type

from pydantic import BaseModel

from dynaflow import (
    App,
    Batch,
    BatchResult,
    Call,
    Change,
    Depends,
    EventName,
    F,
    HandlerContext,
    Image,
    PartialFailure,
    Process,
    Record,
    Router,
    Transaction,
    Undecodable,
    added,
    changed,
    crossed,
    removed,
)
from dynaflow.filters import Filter
from dynaflow.stores import Transactions
from dynaflow.testing import AsyncStream, MemoryTransactions, Stream, TestClient
from dynaflow.transaction import Write


class Order(BaseModel):
    id: str
    total: int


@dataclass
class Line:
    sku: str


def is_big(record: Record) -> bool:
    return record.new is not None and record.new["total"] > 100


router = Router(table="orders", when=F.keys.pk.startswith("ORDER#"), match="first")


@router.on_modify(changed("status", to="paid") & ~F.old.gift.exists(), is_big)
async def ship(old: Order, new: Order) -> int:
    return new.total - old.total


@router.on_insert(F.new["weird.name"] == 1, F.new.lines[0].sku.is_in(["a", "b"]), name="index")
def index(new: Line, record: Record, context: HandlerContext) -> str:
    return context.route


@router.on_remove(ttl=False, table="orders")
def gone(old: Image | None, keys: dict[str, Any]) -> None: ...


@router.on("INSERT", "REMOVE", when=[added("a"), removed("b") | crossed("c", above=1)])
async def either(new: Order | None) -> None: ...


@router.on_batch("INSERT", "MODIFY", when=changed("total"), max_items=50, latest_only=True)
async def bulk(changes: list[Change[Order]], context: HandlerContext) -> int:
    for change in changes:
        assert_type(change, Change[Order])
        assert_type(change.new, Order | None)
        assert_type(change.old, Order | None)
        assert_type(change.record, Record)
        assert_type(change.event_name, EventName)
    assert_type(context.records, tuple[Record, ...])
    raise PartialFailure(failed=[0, changes[1], changes[2].record], reason="refused")


@router.on_batch(max_bytes=1_000_000)
def export(records: list[Record]) -> None: ...


def get_line() -> Line: ...  # type: ignore[empty-body]  # only its type is of interest


async def open_client(line: Annotated[Line, Depends(get_line, scope="app")]) -> AsyncIterator[str]:
    yield assert_type(line, Line).sku


def session(client: Annotated[str, Depends(open_client, scope="app")]) -> Iterator[list[str]]:
    yield [client]


Session = Annotated[list[str], Depends(session)]
transactions = Transactions("marks", client=None, key_attr="pk")
Tx = Annotated[Transaction, Depends(transactions)]


@router.on_modify(name="dependent")
async def dependent(new: Order, session: Session, line: Annotated[Line, Depends(Line)]) -> str:
    assert_type(session, list[str])
    return assert_type(line, Line).sku


# A decorator gives back the very type of the handler.
async def check_handlers(order: Order) -> None:
    assert_type(await ship(order, order), int)
    assert_type(await dependent(order, ["a"], Line("a")), str)
    assert_type(index(Line("a"), record(), context()), str)
    assert_type(await bulk([], context()), int)
    export([record()])


def record() -> Record: ...  # type: ignore[empty-body]  # only its type is of interest


def context() -> HandlerContext: ...  # type: ignore[empty-body]  # as above


def check_filters() -> None:
    assert_type(F.new.status == "paid", Filter)
    assert_type(F.new.total > F.old.total, Filter)
    assert_type(F.new.total.between(1, 2), Filter)
    assert_type(changed("status", was=None, to="x"), Filter)
    assert_type(~(F.new.a.exists() | is_big), Filter)


def check_record(record: Record) -> None:
    assert_type(record.new, Image | None)
    assert_type(record.keys, Image)
    assert_type(record.keys.to_dict(), dict[str, Any])
    assert_type(record.position, int)


async def middleware(call: Call, call_next: Process) -> None:
    assert_type(call.record, Record)
    await call_next(call)


@asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[None]:
    yield


app = App(
    router,
    middleware=[middleware],
    lifespan=lifespan,
    failure_policy="stop",
    order_by="partition_key",
    partition_key="customer",
)
App(router, order_by=lambda record: record.keys["customer"])
lambda_handler = app.lambda_handler(report_batch_item_failures=True)


async def check_process(batch: Batch) -> None:
    result = await app.process(batch, may_start=lambda: True, on_progress=print)
    assert_type(result, BatchResult)
    assert_type(result.failed, Record | Undecodable | None)


@router.on_insert()
async def book(new: Order, tx: Tx) -> None:
    tx.update("balances", {"id": new.id}, "ADD n :n", values={":n": 1}, names=None)
    tx.put("log", {"id": new.id}, condition="attribute_not_exists(id)")
    assert_type(tx.writes, tuple[Write, ...])


def check_transactions() -> None:
    memory = MemoryTransactions()
    with TestClient(app, overrides={transactions: memory}):
        assert_type(memory.commits, list[tuple[Write, ...]])
    Transactions("marks", clien=None)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # a typo


def check_client() -> None:
    with TestClient(app, keys=("id",)) as stream:
        assert_type(stream, Stream)
        assert_type(stream.insert({"id": "1"}), BatchResult)


def check_overrides() -> None:
    overrides = {get_line: lambda: Line("a")}
    with app.overrides(overrides), TestClient(app, overrides={session: list[str]}) as stream:
        assert_type(stream, Stream)
    with TestClient(app, overrides={open_client: lambda: "fake", get_line: lambda: Line("a")}):
        pass


async def check_async_client() -> None:
    async with TestClient(router) as stream:
        assert_type(stream, AsyncStream)
        assert_type(await stream.modify(old={"id": "1"}, new={"id": "1"}), BatchResult)


def check_refusals() -> None:
    Depends("session")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # no function
    Depends(session, scope="request")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # a typo
    Depends(session, "app")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # by name only
    Router(match="last")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # a typo
    router.on_insert(tabel="x")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]  # a typo
    router.on_batch(max_items="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # a text
    PartialFailure(["a"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]  # no member
    App(order_by="items")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # a typo
    App(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # no router
