"""Keeps a second table equal to a first one: in another region, in another account, or beside it.

Every change is written together with its place in the stream, in one transaction, and only if
nothing newer was written before. So stale and repeated changes do nothing, whatever their order.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, TypeAlias

import aioboto3
from botocore.exceptions import ClientError

from dynaflow import App, Depends, Image, Record, Router, Skip

__all__ = ["POSITIONS", "REGION", "REPLICA", "app", "lambda_handler", "open_client"]

REGION = os.environ.get("REPLICA_REGION", "us-west-2")
REPLICA = os.environ.get("REPLICA_TABLE", "orders-replica")
# Has the keys of the replica, and says for each item which change was the last one. It keeps what
# was deleted, too: without that, a late repeat of an older change would bring the item back.
POSITIONS = os.environ.get("POSITIONS_TABLE", "orders-positions")

# A stream keeps its records for 24 hours, and nothing older can come again from there. The rest is
# for what is sent again by hand, from an on-failure destination.
_KEPT_FOR = 7 * 24 * 3600  # seconds

Client: TypeAlias = Any  # aioboto3 has no types


async def open_client() -> AsyncIterator[Client]:
    """Open the client of the other region, once for as long as the app runs."""
    async with aioboto3.Session().client("dynamodb", region_name=REGION) as client:
        yield client


Replica: TypeAlias = Annotated[Client, Depends(open_client, scope="app")]
router = Router(table="orders")


@router.on_upsert(name="put")
async def put(new: Image, record: Record, client: Replica) -> None:
    """Write the item as it is now, whole and exact: every type, every digit."""
    await write(client, record, {"Put": {"TableName": REPLICA, "Item": new.to_dynamodb()}})


@router.on_remove(name="delete")
async def delete(keys: Image, record: Record, client: Replica) -> None:
    """Delete the item."""
    await write(client, record, {"Delete": {"TableName": REPLICA, "Key": keys.to_dynamodb()}})


async def write(client: Client, record: Record, change: dict[str, Any]) -> None:
    """Write a change and its place in the stream, both or neither.

    Raises:
        Skip: a newer change of this item, or this one, was written before.
    """
    place = {
        **record.keys.to_dynamodb(),
        "position": {"S": position_of(record)},
        "expires_at": {"N": str(int(time.time()) + _KEPT_FOR)},
    }
    is_newest = {
        "ConditionExpression": "attribute_not_exists(#position) OR #position < :position",
        "ExpressionAttributeNames": {"#position": "position"},
        "ExpressionAttributeValues": {":position": place["position"]},
    }
    guard = {"Put": {"TableName": POSITIONS, "Item": place, **is_newest}}
    try:
        await client.transact_write_items(TransactItems=[guard, change])
    except ClientError as error:
        reasons = error.response.get("CancellationReasons") or [{}]
        if reasons[0].get("Code") == "ConditionalCheckFailed":
            raise Skip("a newer change was written before") from None
        raise  # another one is writing this item, or the region is away: it comes again


def position_of(record: Record) -> str:
    """Return a change's place in its table's history, as text that sorts.

    Sequence numbers have 21 to 40 digits; a number attribute holds 38, so they become text of one
    width. They grow along an item's shards, but a stream that is switched off and on again may
    count anew: hence its label, which is the time it was made.
    """
    label = record.source_arn.rpartition("/")[2]
    return f"{label}/{record.position:040d}"


app = App(router)
lambda_handler = app.lambda_handler(report_batch_item_failures=True)
