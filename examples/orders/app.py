"""Tells customers what becomes of their orders, and files the orders that are deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel

from dynaflow import App, Depends, F, Image, Record, Router, changed, crossed

__all__ = ["MailService", "Order", "app", "archive", "lambda_handler", "open_mail"]


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

    async def send(self, to: str, subject: str, *, reference: str) -> None:
        """Send a mail.

        Args:
            to: whom to.
            subject: what the mail says.
            reference: a text that is the same when the same mail is sent again. By it the service,
                or whoever looks for a mail, tells a repeat from a second mail.

        Raises:
            ConnectionError: it is not open, or there is nobody to send to.
        """
        if not self.is_open or not to:
            raise ConnectionError("the mail was not accepted")
        await asyncio.sleep(0.01)
        self.sent.append((to, subject))


async def open_mail() -> AsyncIterator[MailService]:
    """Keep the mail service's connections open for as long as the app runs."""
    service = MailService()
    await service.open()
    try:
        yield service
    finally:
        await service.close()


Mail = Annotated[MailService, Depends(open_mail, scope="app")]
archive: dict[str, str] = {}  # stands for a bucket: key to JSON text
router = Router(table="orders")


@router.on_modify(changed("status"), F.new.status.is_in(["paid", "shipped"]), name="notify")
async def notify(old: Order, new: Order, record: Record, mail: Mail) -> None:
    """Tell the customer; async, so that many orders wait for the mail service side by side.

    If the service fails, the record is not done and comes again: a mail is sent at least once.
    """
    subject = f"Order {new.id} was {old.status} and is {new.status} now"
    await mail.send(new.email, subject, reference=record.event_id)


@router.on_upsert(crossed("total", above=1000), name="thank")
async def thank(new: Order, record: Record, mail: Mail) -> None:
    """Thank the customer for an order that is or has become a big one."""
    subject = f"Thank you for order {new.id}"
    await mail.send(new.email, subject, reference=f"{record.event_id}-thanks")


@router.on_remove(name="file")
def file(old: Image, record: Record) -> None:
    """File a deleted order; not async, so it runs in a worker thread and may block.

    The key is the same at every delivery of this record, so that a repeat changes nothing.
    """
    archive[f"{old['id']}/{record.event_id}"] = old.to_json()


app = App(router)
lambda_handler = app.lambda_handler(report_batch_item_failures=True)
