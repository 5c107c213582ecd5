"""Keeps a trail of every change of every account: when, by whom, and what it was before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Annotated, Any

import boto3
from botocore.config import Config

from dynaflow import App, Depends, Image, Record, Router

__all__ = ["app", "audit", "lambda_handler", "open_dynamodb"]

TRAIL = "accounts_audit"  # its keys: account (partition key) and change (sort key)


def open_dynamodb() -> Iterator[Any]:
    """Make one client for as long as the app runs, with a connection for each worker thread."""
    client = boto3.client("dynamodb", config=Config(max_pool_connections=16))
    try:
        yield client
    finally:
        client.close()


router = Router(table="accounts")


@router.on_any(name="audit")
def audit(
    old: Image | None,
    new: Image | None,
    record: Record,
    dynamodb: Annotated[Any, Depends(open_dynamodb, scope="app")],
) -> None:
    """Append the change, once: the entry's key is the same whenever this record comes.

    Not async, as boto3 is not: it runs in a worker thread. The condition is there because nobody
    may write an entry again, this function included.
    """
    before = {} if old is None else old.to_dynamodb()
    after = {} if new is None else new.to_dynamodb()
    entry = {
        "account": {"S": record.keys["id"]},
        # Digits of one length, so that an account's entries are in the order of its changes.
        "change": {"S": f"{record.position:040}/{record.event_id}"},
        "event": {"S": record.event_name},
        "at": {"S": "" if record.created_at is None else record.created_at.isoformat()},
        "by": {"S": author(old, new, record)},
        "old": {"M": differing(before, after)},
        "new": {"M": differing(after, before)},
    }
    # If the entry is there, an earlier delivery of this record has written it.
    with suppress(dynamodb.exceptions.ConditionalCheckFailedException):
        dynamodb.put_item(
            TableName=TRAIL, Item=entry, ConditionExpression="attribute_not_exists(account)"
        )


def author(old: Image | None, new: Image | None, record: Record) -> str:
    """Return who made the change. A stream does not say it, so every writer puts it in the item."""
    if record.is_ttl_delete:
        return "time to live"
    if new is None:  # a delete leaves no name behind: the last one who wrote is all that is known
        return f"unknown, after {old.get('updated_by', 'unknown')}" if old else "unknown"
    return str(new.get("updated_by", "unknown"))


def differing(image: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return those attributes that the other image has not, or not so."""
    return {name: value for name, value in image.items() if other.get(name) != value}


app = App(router)
lambda_handler = app.lambda_handler(report_batch_item_failures=True)
