"""Balances are booked once for each change, whatever Lambda repeats and whoever dies meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from itertools import cycle
from random import Random
from threading import Lock
from typing import Any

import pytest

from dynaflow import App
from dynaflow.demo.stage import Stage
from dynaflow.demo.storm import Written, standing, storm_of
from dynaflow.errors import ViewTypeMismatch
from dynaflow.testing import (
    EventSourceMapping,
    MemoryTransactions,
    RecordBuilder,
    SandboxDied,
    Stream,
    TestClient,
)
from examples.exactly_once.app import app, open_dynamodb, router, transactions
from examples.exactly_once.demo import KEYS, PAYMENTS, TABLE, change, naive, play, recount

AMOUNT = Decimal("20.50")
PAYMENT = {"account": "ada", "id": "p-1", "amount": AMOUNT}


@pytest.fixture
def memory() -> MemoryTransactions:
    return MemoryTransactions()


@pytest.fixture
def stream(memory: MemoryTransactions) -> Iterator[Stream]:
    with TestClient(app, keys=KEYS, overrides=stand_ins(memory)) as stream:
        yield stream


def stand_ins(
    memory: MemoryTransactions, dynamodb: Any = None
) -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return what takes the place of DynamoDB."""
    return {transactions: memory, open_dynamodb: lambda: dynamodb}


def booked(memory: MemoryTransactions) -> dict[str, Decimal]:
    """Return what the commits come to, for the accounts that anything was added to."""
    balances: dict[str, Decimal] = defaultdict(Decimal)
    for write in memory.writes:
        assert write.key is not None
        balances[write.key["account"]] += write.values[":amount"]
    return balances


def test_a_payment_moves_its_accounts_balance(stream: Stream, memory: MemoryTransactions) -> None:
    stream.insert(PAYMENT)
    stream.insert(PAYMENT | {"id": "p-2", "amount": -5})
    stream.insert(PAYMENT | {"account": "bob", "amount": 1})
    assert booked(memory) == {"ada": Decimal("15.50"), "bob": 1}


def test_a_corrected_payment_adds_the_difference_and_a_cancelled_one_goes(
    stream: Stream, memory: MemoryTransactions
) -> None:
    corrected = PAYMENT | {"amount": 18}
    stream.insert(PAYMENT)
    stream.modify(old=PAYMENT, new=corrected)
    assert booked(memory) == {"ada": 18}
    stream.remove(corrected)
    assert booked(memory) == {"ada": 0}


def test_a_change_that_moves_nothing_writes_nothing(
    stream: Stream, memory: MemoryTransactions
) -> None:
    assert stream.modify(old=PAYMENT, new=PAYMENT | {"text": "rent"}).handled_by == ["correct"]
    assert memory.commits == []


def test_a_payment_that_comes_again_is_known(stream: Stream, memory: MemoryTransactions) -> None:
    payment = stream.records.insert(PAYMENT)
    assert stream.send(payment).handled_by == ["book"]
    assert stream.send(payment).repeated_by == ["book"]
    assert booked(memory) == {"ada": AMOUNT}


def test_a_payment_that_cannot_be_read_is_not_done_and_books_nothing(
    stream: Stream, memory: MemoryTransactions
) -> None:
    assert stream.insert(PAYMENT | {"amount": "much"}).failed is not None
    assert memory.commits == []


@pytest.mark.parametrize("view_type", ["KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE"])
def test_without_both_images_nothing_is_booked_rather_than_something_wrong(
    memory: MemoryTransactions, view_type: str
) -> None:
    overrides = stand_ins(memory)
    client = TestClient(app, keys=KEYS, view_type=view_type, overrides=overrides)
    with client as stream, pytest.raises(ViewTypeMismatch):
        stream.modify(old=PAYMENT, new=PAYMENT | {"amount": 1})
    assert memory.commits == []


class Adding:
    """What the naive handler writes to."""

    def __init__(self) -> None:
        self.balances: dict[str, Decimal] = defaultdict(Decimal)
        self._lock = Lock()  # the handler runs in several threads

    def update_item(self, **request: Any) -> None:
        account = request["Key"]["account"]["S"]
        with self._lock:
            self.balances[account] += Decimal(request["ExpressionAttributeValues"][":amount"]["N"])


class Sandboxes:
    """Two processes of one function take turns; now and then one dies just before it answers."""

    def __init__(self, memory: MemoryTransactions, adding: Adding, *, seed: int) -> None:
        self.deaths = 0
        self._chance = Random(seed)  # noqa: S311 - a seed, so that every run is the same
        self._overrides = stand_ins(memory, adding)
        self._stack = ExitStack()

    def __enter__(self) -> Sandboxes:
        self._turns = cycle([self._start(), self._start()])
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def __call__(self, event: Any, context: Any) -> Any:
        answer = next(self._turns)(event, context)
        if self._chance.random() < 0.3:
            self.deaths += 1
            raise SandboxDied
        return answer

    def _start(self) -> Any:
        app = App(router, naive, order_by="partition_key")
        self._stack.enter_context(app.overrides(self._overrides))
        return app.lambda_handler(report_batch_item_failures=True)


def records_of(writes: Iterable[Written]) -> list[dict[str, Any]]:
    """Return the records that a table's stream has of these writes."""
    build = RecordBuilder(KEYS, table=TABLE)
    records = []
    for write in writes:
        if write.old is None:
            assert write.new is not None
            records.append(build.insert(write.new))
        elif write.new is None:
            records.append(build.remove(write.old))
        else:
            records.append(build.modify(write.old, write.new))
    return records


@pytest.mark.parametrize("seed", range(5))
def test_two_sandboxes_that_die_and_get_everything_twice_book_each_change_once(
    memory: MemoryTransactions, seed: int
) -> None:
    adding = Adding()
    lives = storm_of(writes=80, items=PAYMENTS, seed=seed, make=change)
    writes = [write for life in lives for write in life]
    with Sandboxes(memory, adding, seed=seed) as sandboxes:
        mapping = EventSourceMapping(
            sandboxes,
            batch_size=20,
            bisect_batch_on_function_error=True,
            report_batch_item_failures=True,
            duplicates=0.3,
            seed=seed,
        )
        report = mapping.run(records_of(writes))
    assert sandboxes.deaths > 0
    assert any(invocation.again for invocation in report.invocations)
    assert len(report.done) == len(writes)
    due = recount(standing(writes))
    assert booked(memory) == due
    assert adding.balances != due  # without the transaction


def test_a_payment_that_lambda_gives_up_costs_no_other_one_anything(
    memory: MemoryTransactions,
) -> None:
    payments = [PAYMENT | {"id": f"p-{number}"} for number in range(8)]
    payments[3]["amount"] = payments[3]["account"] = "nobody"
    build, given_up = RecordBuilder(KEYS, table=TABLE), list[dict[str, Any]]()
    with Sandboxes(memory, Adding(), seed=1) as sandboxes:
        mapping = EventSourceMapping(
            sandboxes,
            bisect_batch_on_function_error=True,
            report_batch_item_failures=True,
            maximum_retry_attempts=6,
            on_failure=given_up,
        )
        report = mapping.run([build.insert(payment) for payment in payments])
    assert booked(memory) == {"ada": 7 * AMOUNT}
    assert [len(each.numbers) for each in report.given_up] == [1]


@pytest.mark.asyncio
async def test_killed_on_a_bad_line_and_delivered_again_balances_are_right(stage: Stage) -> None:
    assert await play(stage)
