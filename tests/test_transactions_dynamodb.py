"""Transactions against moto and against Amazon's DynamoDB Local, through Lambda's door.

Only DynamoDB Local knows request tokens, and two processes at the same time.
"""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

import aioboto3
import pytest
from botocore.config import Config
from botocore.exceptions import ConnectionClosedError

from dynaflow import App, BatchResult, Depends, Record, Router, Transaction
from dynaflow.errors import (
    TransactionConditionFailed,
    TransactionError,
    TransactionRefused,
)
from dynaflow.retry import without_waits
from dynaflow.stores import Transactions
from dynaflow.testing import TestClient, lambda_event
from tests.support.bank import CREDENTIALS, Bank, payments

_ROOT = Path(__file__).parent.parent


@pytest.fixture(params=["moto", pytest.param("local", marks=pytest.mark.dynamodb_local)])
def bank(request: pytest.FixtureRequest) -> Iterator[Bank]:
    """The tables, in moto and in DynamoDB Local."""
    name = "moto_url" if request.param == "moto" else "dynamodb_local_url"
    bank = Bank(request.getfixturevalue(name))
    with without_waits():
        yield bank


@pytest.fixture
def local_bank(dynamodb_local_url: str) -> Iterator[Bank]:
    """The tables in DynamoDB Local."""
    bank = Bank(dynamodb_local_url)
    with without_waits():
        yield bank


def send(app: App, *records: dict[str, Any]) -> BatchResult:
    with TestClient(app) as stream:
        return stream.send(records)


class Losing:
    """Boto3's client, whose answers are lost so many times although the request arrived."""

    def __init__(self, client: Any, times: int) -> None:
        self._client = client
        self._times = times
        self.sent = 0

    def transact_write_items(self, **request: Any) -> Any:
        self.sent += 1
        answer = self._client.transact_write_items(**request)
        if self.sent <= self._times:
            raise ConnectionClosedError(endpoint_url="https://dynamodb.example")
        return answer


def test_a_batch_that_is_delivered_twice_is_booked_once(bank: Bank) -> None:
    handler = bank.app().lambda_handler(report_batch_item_failures=True)
    event = lambda_event(*payments(10))
    for _ in range(3):
        assert handler(event) == {"batchItemFailures": []}
    assert bank.balance() == 10
    assert (bank.count(bank.log), bank.count(bank.marks)) == (10, 10)


def test_a_lost_answer_is_recognised_by_its_token_or_its_mark(bank: Bank) -> None:
    client = Losing(bank.client, times=2)
    result = send(bank.app(client), *payments(1))
    assert result.handled_by == ["book"]
    assert client.sent >= 2
    assert bank.balance() == 1


def test_a_condition_that_is_not_true_leaves_no_mark_and_no_write(bank: Bank) -> None:
    (payment,) = payments(1)
    bank.client.put_item(TableName=bank.log, Item={"id": {"S": "ada-0"}})
    (error,) = send(bank.app(), payment).errors
    assert isinstance(error, TransactionConditionFailed)
    assert (error.index, error.table, error.operation) == (1, bank.log, "put")
    assert (bank.balance(), bank.count(bank.marks)) == (0, 0)
    bank.client.delete_item(TableName=bank.log, Key={"id": {"S": "ada-0"}})
    assert send(bank.app(), payment).handled_by == ["book"]


def test_a_table_that_is_not_there_is_named_as_the_cause(bank: Bank) -> None:
    bank.client.delete_table(TableName=bank.marks)
    (error,) = send(bank.app(), *payments(1)).errors
    assert isinstance(error, TransactionError)
    assert bank.balance() == 0


_DIES = """
import os, sys
from dynaflow.testing import lambda_event
from tests.support.bank import Bank, client_of, payments

bank = Bank.__new__(Bank)
bank.url, bank.balances, bank.log, bank.marks = sys.argv[1:5]
bank.client = client_of(bank.url)
dies_after, count = int(sys.argv[5]), int(sys.argv[6])


class Dying:
    sent = 0

    def transact_write_items(self, **request):
        answer = bank.client.transact_write_items(**request)
        Dying.sent += 1
        if Dying.sent == dies_after:
            os._exit(9)
        return answer


print("ready", flush=True)
sys.stdin.readline()
app = bank.app(Dying(), threads=1 if dies_after else 16)
handler = app.lambda_handler(report_batch_item_failures=True)
print(handler(lambda_event(*payments(count))), flush=True)
"""


def process(bank: Bank, *, count: int, dies_after: int = 0) -> "subprocess.Popen[str]":
    """Start a process that books so many payments once it is told to go."""
    arguments = [bank.url, bank.balances, bank.log, bank.marks, str(dies_after), str(count)]
    return subprocess.Popen(
        [sys.executable, "-c", _DIES, *arguments],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def let_go(*several: "subprocess.Popen[str]") -> list[int]:
    """Start them at the same time, and return their exit codes."""
    for one in several:
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in several:
        assert one.stdin is not None
        one.stdin.write("\n")
        one.stdin.flush()
    codes = []
    for one in several:
        output, _ = one.communicate(timeout=40)
        assert one.returncode or output == "{'batchItemFailures': []}\n"
        codes.append(one.returncode)
    return codes


def test_a_process_that_dies_between_commit_and_answer_repeats_nothing(moto_url: str) -> None:
    bank = Bank(moto_url)
    assert let_go(process(bank, count=5, dies_after=3)) == [9]
    assert bank.balance() == 3
    app = bank.app(threads=1)  # moto takes a cancelled transaction back together with others
    handler = app.lambda_handler(report_batch_item_failures=True)
    assert handler(lambda_event(*payments(5))) == {"batchItemFailures": []}
    assert bank.balance() == 5


@pytest.mark.dynamodb_local
def test_two_processes_at_the_same_time_leave_an_exact_balance(local_bank: Bank) -> None:
    assert let_go(*(process(local_bank, count=50) for _ in range(2))) == [0, 0]
    assert local_bank.balance() == 50
    assert local_bank.count(local_bank.log) == local_bank.count(local_bank.marks) == 50


@pytest.mark.dynamodb_local
def test_a_hundred_actions_are_committed_and_come_to_nothing_again(local_bank: Bank) -> None:
    bank, calls = local_bank, list[int]()
    transactions = Transactions(bank.marks, client=bank.client)
    router = Router()

    @router.on_batch(name="all", max_items=1000)
    def book(records: list[Record], tx: Annotated[Transaction, Depends(transactions)]) -> None:
        calls.append(len(records))
        tx.update(bank.balances, {"id": "ada"}, "ADD balance :n", values={":n": len(records)})
        tx.update(bank.balances, {"id": "bob"}, "ADD balance :n", values={":n": len(records)})

    app = App(router)
    assert send(app, *payments(120)).failed is None
    assert send(app, *payments(120)).failed is None
    assert calls == [98, 22, 98, 22]
    assert (bank.balance("ada"), bank.balance("bob")) == (120, 120)


@pytest.mark.dynamodb_local
@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([{"id": "1"}, {"id": "1"}], "multiple operations on one item"),
        ([{"id": "1", "x": "y" * 500_000}], "Item size has exceeded"),
        ([{"id": str(n), "x": "y" * 390_000} for n in range(12)], "4MB"),
        ([{"id": ""}], "empty string"),
        ([{"other": "1"}], ""),
    ],
)
def test_what_dynamodb_refuses_is_said_in_its_words(
    local_bank: Bank, items: list[dict[str, Any]], message: str
) -> None:
    transactions = Transactions(local_bank.marks, client=local_bank.client)
    router = Router()

    @router.on_insert()
    def put_all(tx: Annotated[Transaction, Depends(transactions)]) -> None:
        for item in items:
            tx.put(local_bank.log, item)

    (error,) = send(App(router), *payments(1)).errors
    assert isinstance(error, TransactionRefused)
    assert message in str(error)
    assert "yyy" not in str(error)


@pytest.mark.dynamodb_local
def test_a_table_of_marks_with_another_key_is_named(dynamodb_local_url: str) -> None:
    bank = Bank(dynamodb_local_url, key="pk")
    (error,) = send(bank.app(), *payments(1)).errors
    assert isinstance(error, TransactionRefused)
    assert "key_attr=" in str(error)


@pytest.mark.dynamodb_local
def test_an_async_client_of_the_app_commits(local_bank: Bank) -> None:
    bank = local_bank

    async def dynamodb() -> AsyncIterator[Any]:
        session: Any = aioboto3.Session(**CREDENTIALS)
        config = Config(retries={"total_max_attempts": 1})
        async with session.client("dynamodb", endpoint_url=bank.url, config=config) as client:
            yield client

    app = bank.app(Depends(dynamodb, scope="app"))
    first, second = send(app, *payments(5)), send(app, *payments(5))
    assert (len(first.handled_by), len(second.handled_by)) == (5, 0)
    assert first.failed is second.failed is None
    assert bank.balance() == 5
