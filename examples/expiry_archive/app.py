"""Puts every session that expired into S3; sessions that users delete are gone for good."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote

import boto3
from botocore.config import Config

from dynaflow import App, Depends, Image, Record, Router

__all__ = ["app", "archive", "lambda_handler", "object_key", "open_s3"]


def open_s3() -> Iterator[Any]:
    """Make one client for as long as the app runs, with a connection for each worker thread."""
    client = boto3.client("s3", config=Config(max_pool_connections=16))
    try:
        yield client
    finally:
        client.close()


def get_bucket() -> str:
    """Return the name of the archive's bucket."""
    return os.environ["ARCHIVE_BUCKET"]


router = Router(table="sessions")


# In the table's own region a delete by Time to Live has a mark. In the other regions of a global
# table it has none; there the item's own attribute tells that it had expired.
@router.on_expire(ttl_attribute="expires_at", name="archive")
def archive(
    old: Image,
    record: Record,
    s3: Annotated[Any, Depends(open_s3, scope="app")],
    bucket: Annotated[str, Depends(get_bucket, scope="app")],
) -> None:
    """Write the session as JSON. Not async, as boto3 is not: it runs in a worker thread."""
    s3.put_object(
        Bucket=bucket,
        Key=object_key(record),
        Body=old.to_json().encode(),
        ContentType="application/json",
    )


def object_key(record: Record) -> str:
    """Return the same key whenever this record comes, so that a repeat writes the same object.

    The event's id keeps apart the sessions that had the same id, one after the other.
    """
    return f"{record.table}/{quote(record.keys['id'], safe='')}/{record.event_id}.json"


app = App(router)
lambda_handler = app.lambda_handler(report_batch_item_failures=True)
