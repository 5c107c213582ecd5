"""The importer of yesterday, before it was mended: it knows no pallets, and reads only figures."""

from __future__ import annotations

from pydantic import BaseModel

from dynaflow import Router

from .app import RETRY, Outdated, Stock, UnknownProduct, cannot_help, nothing_to_do

__all__ = ["Order", "router"]

PIECES = {"piece": 1, "box": 12}


class Order(BaseModel):
    """An order, as the importer expected it."""

    id: str
    version: int
    product: str
    quantity: int
    unit: str = "piece"


router = Router(table="orders", retry=RETRY)
router.on_error(UnknownProduct)(cannot_help)
router.on_error(Outdated)(nothing_to_do)


@router.on_upsert(name="import", on_invalid="dead_letter", after_deliveries=3, timeout=10)
async def import_order(new: Order, warehouse: Stock) -> None:
    """Tell the warehouse what an order is now. Of an order in pallets it makes a KeyError."""
    pieces = new.quantity * PIECES[new.unit]
    await warehouse.take(new.id, version=new.version, product=new.product, pieces=pieces)
