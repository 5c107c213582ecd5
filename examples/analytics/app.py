"""Keeps a shop's revenue, per minute and per customer, while its orders change.

Every change moves the totals once, however often it is delivered: what it adds and the mark that it
has been counted are written in one transaction.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import timezone
from decimal import Decimal
from typing import Annotated, Any, TypeAlias

import aioboto3
from botocore.exceptions import ClientError
from pydantic import AwareDatetime, BaseModel

from dynaflow import App, Change, Depends, Record, Router

__all__ = ["COUNTED", "TOTALS", "Order", "app", "effect_of", "lambda_handler", "open_client"]

TOTALS = os.environ.get("TOTALS_TABLE", "totals")  # keys: kind ("minute", "customer"), name
COUNTED = os.environ.get("COUNTED_TABLE", "counted")  # key: change; TTL attribute: expires_at

# A stream keeps its records for 24 hours; the rest is for what is sent again by hand.
_KEPT_FOR = 7 * 24 * 3600  # seconds

# A transaction writes at most 100 items. A change takes one for its mark, and it moves up to four
# totals: an order that changes its minute and its customer leaves two and joins two.
_CHANGES = 20

Client: TypeAlias = Any  # aioboto3 has no types
Row: TypeAlias = tuple[str, str]  # kind and name


class Order(BaseModel):
    """An order, as the shop writes it. Attributes that are not named here are left out."""

    id: str
    customer: str
    status: str
    amount: Decimal
    placed_at: AwareDatetime


@dataclass(slots=True)
class Total:
    """What one row says, or what is to be added to it."""

    orders: int = 0
    revenue: Decimal = Decimal(0)


async def open_client() -> AsyncIterator[Client]:
    """Open a DynamoDB client, once for as long as the app runs."""
    async with aioboto3.Session().client("dynamodb") as client:
        yield client


router = Router(table="orders")


@router.on_batch(max_items=_CHANGES, name="count")
async def count(
    changes: list[Change[Order]], client: Annotated[Client, Depends(open_client, scope="app")]
) -> None:
    """Count many changes in one transaction, so that a busy minute's row is written seldom."""
    waiting = {id_of(change.record): change for change in changes if effect_of([change])}
    while waiting:
        counted_before = await add(client, waiting)
        if not counted_before:
            return
        for change_id in counted_before:
            del waiting[change_id]


async def add(client: Client, changes: Mapping[str, Change[Order]]) -> list[str]:
    """Count changes and mark them as counted, all of them or none.

    Returns:
        The ids of those that were counted before. If there are any, nothing was written.
    """
    marks = [_mark(change_id) for change_id in changes]
    moves = [_move(row, total) for row, total in effect_of(changes.values()).items()]
    try:
        await client.transact_write_items(TransactItems=[*marks, *moves])
    except ClientError as error:
        reasons = error.response.get("CancellationReasons", [])
        counted_before = [
            change_id
            for change_id, reason in zip(changes, reasons, strict=False)
            if reason.get("Code") == "ConditionalCheckFailed"
        ]
        if not counted_before:
            raise  # somebody else writes to these rows, or DynamoDB is away: it comes again
        return counted_before
    return []


def effect_of(changes: Iterable[Change[Order]]) -> dict[Row, Total]:
    """Return what changes add to each row: what the order is now, less what it was before.

    Raises:
        ImageMissing: the stream does not carry both images.
    """
    effect: dict[Row, Total] = defaultdict(Total)
    for change in changes:
        for order, sign in ((change.old, -1), (change.new, 1)):
            if order is not None:
                for row in rows_of(order):
                    effect[row].orders += sign
                    effect[row].revenue += sign * order.amount
    return {row: total for row, total in effect.items() if total.orders or total.revenue}


def rows_of(order: Order) -> list[Row]:
    """Return the rows that an order counts in."""
    if order.status not in ("paid", "shipped"):
        return []
    minute = order.placed_at.astimezone(timezone.utc)
    return [("minute", f"{minute:%Y-%m-%dT%H:%MZ}"), ("customer", order.customer)]


def id_of(record: Record) -> str:
    """Return what a change is known by at every delivery; event ids are a stream's own."""
    return f"{record.source_arn}/{record.event_id}"


def _mark(change_id: str) -> dict[str, Any]:
    expires_at = int(time.time()) + _KEPT_FOR
    return {
        "Put": {
            "TableName": COUNTED,
            "Item": {"change": {"S": change_id}, "expires_at": {"N": str(expires_at)}},
            "ConditionExpression": "attribute_not_exists(#change)",
            "ExpressionAttributeNames": {"#change": "change"},
        }
    }


def _move(row: Row, total: Total) -> dict[str, Any]:
    kind, name = row
    return {
        "Update": {
            "TableName": TOTALS,
            "Key": {"kind": {"S": kind}, "name": {"S": name}},
            "UpdateExpression": "ADD orders :orders, revenue :revenue",
            "ExpressionAttributeValues": {
                ":orders": {"N": str(total.orders)},
                ":revenue": {"N": f"{total.revenue:f}"},
            },
        }
    }


app = App(router)
lambda_handler = app.lambda_handler(report_batch_item_failures=True)
