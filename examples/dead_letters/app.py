"""Imports a shop's orders into a warehouse; what cannot be imported is parked, with its reason.

A bad order holds up nothing but itself. When what was wrong is mended, it is run again.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypeAlias

import aioboto3
from pydantic import BaseModel, field_validator

from dynaflow import App, Depends, NonRetryable, Retry, Router, Skip
from dynaflow.dead_letters import SQS, JsonLines

__all__ = [
    "PICKING",
    "PRODUCTS",
    "RETRY",
    "Order",
    "Outdated",
    "Stock",
    "UnknownProduct",
    "Warehouse",
    "app",
    "lambda_handler",
    "open_warehouse",
    "router",
]

PRODUCTS = "warehouse-products"  # key: product
PICKING = "warehouse-picking"  # key: order

PIECES = {"piece": 1, "box": 12, "pallet": 480}
IN_WORDS = {"half a dozen": 6, "a dozen": 12}


class Order(BaseModel):
    """An order, as the shop writes it. Each change of it has a higher version."""

    id: str
    version: int
    product: str
    quantity: int
    unit: str = "piece"

    @field_validator("quantity", mode="before")
    @classmethod
    def in_figures(cls, quantity: Any) -> Any:
        """Return the figure for what people write."""
        return IN_WORDS.get(quantity, quantity) if isinstance(quantity, str) else quantity


class UnknownProduct(Exception):
    """The warehouse has no such product."""


class Outdated(Exception):
    """The warehouse has a newer version of the order, or this one."""


class Warehouse:
    """The warehouse's service: here it is two tables. It keeps which versions it took, in order."""

    def __init__(self, dynamodb: Any) -> None:
        self._dynamodb = dynamodb

    async def take(self, order: str, *, version: int, product: str, pieces: int) -> None:
        """Take an order over, as it is in this version.

        Raises:
            UnknownProduct: there is no such product.
            Outdated: this version, or a newer one, was taken before.
        """
        key = {"product": {"S": product}}
        if "Item" not in await self._dynamodb.get_item(TableName=PRODUCTS, Key=key):
            raise UnknownProduct
        taken = {"N": str(version)}
        try:
            await self._dynamodb.update_item(
                TableName=PICKING,
                Key={"order": {"S": order}},
                UpdateExpression="SET product = :product, pieces = :pieces, version = :version, "
                "taken = list_append(if_not_exists(taken, :nothing), :taken)",
                ConditionExpression="attribute_not_exists(version) OR version < :version",
                ExpressionAttributeValues={
                    ":product": key["product"],
                    ":pieces": {"N": str(pieces)},
                    ":version": taken,
                    ":taken": {"L": [taken]},
                    ":nothing": {"L": []},
                },
            )
        except self._dynamodb.exceptions.ConditionalCheckFailedException:
            raise Outdated from None


async def open_warehouse() -> AsyncIterator[Warehouse]:
    """Open the warehouse's client, once for as long as the app runs."""
    async with aioboto3.Session().client("dynamodb") as dynamodb:
        yield Warehouse(dynamodb)


Stock: TypeAlias = Annotated[Warehouse, Depends(open_warehouse, scope="app")]
RETRY = Retry(attempts=3, on=(ConnectionError, TimeoutError))
router = Router(table="orders", retry=RETRY)


@router.on_upsert(name="import", on_invalid="dead_letter", after_deliveries=3, timeout=10)
async def import_order(new: Order, warehouse: Stock) -> None:
    """Tell the warehouse what an order is now.

    The service may be away for a moment: that is what the attempts are for. An order that is no
    ``Order`` is parked at once; whatever else fails is parked after its third delivery.
    """
    pieces = new.quantity * PIECES[new.unit]
    await warehouse.take(new.id, version=new.version, product=new.product, pieces=pieces)


@router.on_error(UnknownProduct)
def cannot_help(error: UnknownProduct) -> None:
    """Park the order at once: to ask again would not make the product known."""
    raise NonRetryable("the warehouse has no such product") from error


@router.on_error(Outdated)
def nothing_to_do(error: Outdated) -> None:
    """Leave out a change that comes late: from a dead letter, or because it was delivered twice."""
    raise Skip("the warehouse has this version, or a newer one")


QUEUE = os.environ.get("DEAD_LETTER_QUEUE")  # in Lambda a file goes with the sandbox
app = App(router, dead_letter=SQS(QUEUE) if QUEUE else JsonLines("dead-letters.jsonl"))
lambda_handler = app.lambda_handler(report_batch_item_failures=True)
