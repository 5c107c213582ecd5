"""Tells customers what becomes of their orders, and files the orders that are deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel

from dynaflow import App, F, Image, Record, Router, changed, crossed

__all__ = ["Order", "app", "archive", "lambda_handler", "mail"]


class Order(BaseModel):
    """An order, as the shop writes it. Attributes that are not named here are left out."""

    id: str
    email: str
    status: Literal["open", "paid", "shipped", "cancelled"]
    total: Decimal


class MailService:
    """Stands for the client of a mail service, with connections to open and to close."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.is_open = False

    async def open(self) -> None:
        """Connect."""
        self.is_open = True

    async def close(self) -> None:
        """Disconnect."""
        self.is_open = False

    async def send(self, to: str, subject: str) -> None:
        """Send a mail.

        Raises:
            ConnectionError: it is not open, or there is nobody to send to.
        """
        if not self.is_open or not to:
            raise ConnectionError("the mail was not accepted")
        await asyncio.sleep(0.01)
        self.sent.append((to, subject))


mail = MailService()
archive: dict[str, str] = {}  # stands for a bucket: key to JSON text


@asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[None]:
    """Keep the mail service's connections open for as long as records are processed."""
    await mail.open()
    try:
        yield
    finally:
        await mail.close()


router = Router(table="orders")


@router.on_modify(changed("status"), F.new.status.is_in(["paid", "shipped"]), name="notify")
async def notify(old: Order, new: Order) -> None:
    """Tell the customer; async, so that many orders wait for the mail service side by side."""
    await mail.send(new.email, f"Order {new.id} was {old.status} and is {new.status} now")


@router.on_upsert(crossed("total", above=1000), name="thank")
async def thank(new: Order) -> None:
    """Thank the customer for an order that is or has become a big one."""
    await mail.send(new.email, f"Thank you for order {new.id}")


@router.on_remove(name="file")
def file(old: Image, record: Record) -> None:
    """File a deleted order; not async, so it runs in a worker thread and may block.

    The key is the same at every delivery of this record, so that a repeat changes nothing.
    """
    archive[f"{old['id']}/{record.event_id}"] = old.to_json()


app = App(router, lifespan=lifespan)
lambda_handler = app.lambda_handler(report_batch_item_failures=True)
