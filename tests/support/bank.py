"""Tables of a bank, and a handler that books payments in one transaction each."""

import itertools
import os
from functools import cache
from typing import Annotated, Any

import boto3

from dynaflow import App, Depends, Router, Transaction
from dynaflow.stores import Transactions
from dynaflow.testing import RecordBuilder

__all__ = ["CREDENTIALS", "Bank", "client_of", "payments"]

CREDENTIALS: dict[str, Any] = {
    "aws_access_key_id": "nobody",
    "aws_secret_access_key": "nothing",
    "region_name": "eu-west-1",
}
_numbers = itertools.count()


@cache
def client_of(url: str) -> Any:
    """One for all tests: a new one reads botocore's models again."""
    return boto3.client("dynamodb", endpoint_url=url, **CREDENTIALS)


class Bank:
    """A table of balances, one of a log and one of marks, with names that only this test uses."""

    def __init__(self, url: str, *, key: str = "id") -> None:
        self.url = url
        self.client = client_of(url)
        prefix = f"bank-{os.getpid()}-{next(_numbers)}"
        self.balances, self.log, self.marks = (
            f"{prefix}-{name}" for name in ("balances", "log", "marks")
        )
        for table in (self.balances, self.log, self.marks):
            name = key if table == self.marks else "id"
            self.client.create_table(
                TableName=table,
                KeySchema=[{"AttributeName": name, "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
            )

    def app(self, client: Any = None, *, threads: int = 16) -> App:
        """Return an App that books each payment, and logs it."""
        transactions = Transactions(self.marks, client=client or self.client)
        router = Router()

        @router.on_insert(name="book")
        def book(new: dict[str, Any], tx: Annotated[Transaction, Depends(transactions)]) -> None:
            tx.update(
                self.balances,
                {"id": new["account"]},
                "ADD #b :amount",
                names={"#b": "balance"},
                values={":amount": new["amount"]},
            )
            tx.put(self.log, {"id": new["id"]}, condition="attribute_not_exists(id)")

        return App(router, threads=threads)

    def balance(self, account: str = "ada") -> int:
        answer = self.client.get_item(
            TableName=self.balances, Key={"id": {"S": account}}, ConsistentRead=True
        )
        return int(answer["Item"]["balance"]["N"]) if "Item" in answer else 0

    def count(self, table: str) -> int:
        return int(self.client.scan(TableName=table, Select="COUNT")["Count"])


def payments(count: int, *, account: str = "ada") -> list[dict[str, Any]]:
    """Return the event's records of so many payments of 1."""
    build = RecordBuilder(table="payments")
    ids = [f"{account}-{number}" for number in range(count)]
    return [build.insert({"id": name, "account": account, "amount": 1}) for name in ids]
