"""A small shop: what it does when its orders change.

``dynaflow demo`` runs it on an embedded DynamoDB. On a table of yours, with a stream of new and old
images: ``dynaflow run dynaflow.demo.shop:app --table orders``.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from dynaflow import App, Router, changed, crossed
from dynaflow.demo.services import Services

__all__ = ["app", "router", "services"]

services = Services()
router = Router(table="orders")


class Order(BaseModel):
    """An order, as the shop writes it. The version goes up with every write."""

    id: str
    version: int
    status: str
    total: Decimal


@router.on_insert()
async def confirm(new: Order) -> None:
    """Tell the customer that the order has arrived."""
    await services.send_mail("confirmation", new.id, new.version)


@router.on_modify(changed("status", to="paid"))
async def ship(new: Order) -> None:
    """Book a parcel. If the carrier does not answer, this is called again."""
    await services.book_parcel(new.id, new.version)


@router.on_modify(changed("status", was="paid", to="shipped"))
def invoice(new: Order) -> None:
    """File the invoice. Not async, so it runs in a worker thread."""
    services.archive("invoice", new.id, new.version)


@router.on_modify(crossed("total", above=100))
async def thank(new: Order) -> None:
    """Thank the customer for an order that has become a big one."""
    await services.send_mail("thanks", new.id, new.version)


@router.on_remove()
def file(old: dict[str, Any]) -> None:
    """File an order that was deleted. The delete itself is one more version."""
    services.archive("order", old["id"], int(old["version"]) + 1)


app = App(router)
