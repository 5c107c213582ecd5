"""Keeps every account's balance equal to the sum of its payments, whatever is delivered twice.

Adding an amount is the write that a repeat does wrong. Here the addition and the mark that its
record is done are written in one transaction, so that a repeat adds nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, TypeAlias

import boto3
from botocore.config import Config
from pydantic import BaseModel

from dynaflow import App, Depends, Router, Transaction
from dynaflow.stores import Transactions

__all__ = [
    "BALANCES",
    "MARKS",
    "Payment",
    "app",
    "lambda_handler",
    "open_dynamodb",
    "router",
    "transactions",
]

BALANCES = os.environ.get("BALANCES_TABLE", "balances")  # key: account
MARKS = os.environ.get("MARKS_TABLE", "dynaflow-marks")  # key: id; TTL attribute: expiration


class Payment(BaseModel):
    """A payment, as the bank writes it: into an account, or out of it where it is negative."""

    account: str
    id: str
    amount: Decimal


def open_dynamodb() -> Iterator[Any]:
    """Make one client for as long as the app runs, with a connection for each worker thread."""
    client = boto3.client(
        "dynamodb", config=Config(max_pool_connections=64, connect_timeout=1, read_timeout=2)
    )
    try:
        yield client
    finally:
        client.close()


transactions = Transactions(MARKS, client=Depends(open_dynamodb, scope="app"))
Tx: TypeAlias = Annotated[Transaction, Depends(transactions)]
router = Router(table="payments")


@router.on_insert(name="book")
async def book(new: Payment, tx: Tx) -> None:
    """Book a payment."""
    add(tx, new.account, new.amount)


@router.on_modify(name="correct")
async def correct(old: Payment, new: Payment, tx: Tx) -> None:
    """Book the difference that a correction makes."""
    add(tx, new.account, new.amount - old.amount)


@router.on_remove(name="cancel")
async def cancel(old: Payment, tx: Tx) -> None:
    """Take back what a payment had moved."""
    add(tx, old.account, -old.amount)


def add(tx: Transaction, account: str, amount: Decimal) -> None:
    """Add to a balance, once for this record. It is written when the handler has returned."""
    if amount:
        tx.update(BALANCES, {"account": account}, "ADD balance :amount", values={":amount": amount})


# An account is the partition key of its payments. One after the other, they never ask for the same
# balance at the same time, which would make one of two transactions wait and try again.
app = App(router, order_by="partition_key")
lambda_handler = app.lambda_handler(report_batch_item_failures=True)
