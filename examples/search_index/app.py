"""Keeps a search index equal to a table of products, with OpenSearch's bulk API.

Many changes make one request. What the answer refuses comes again, and nothing else does.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from typing import Annotated, Any, Protocol

from pydantic import BaseModel

from dynaflow import (
    App,
    Change,
    Depends,
    PartialFailure,
    Record,
    Router,
)

__all__ = ["INDEX", "Product", "Search", "app", "lambda_handler", "open_search"]

INDEX = os.environ.get("SEARCH_INDEX", "products")


class Product(BaseModel):
    """A product, as far as it is searched. Attributes that are not named here are left out."""

    id: str
    title: str
    price: Decimal
    tags: list[str] = []


class Search(Protocol):
    """What this app needs of a search service; OpenSearch's own client has it."""

    async def bulk(self, *, body: Sequence[Mapping[str, Any]], index: str) -> Mapping[str, Any]: ...


async def open_search() -> AsyncIterator[Search]:
    """Open the client of OpenSearch, once for as long as the app runs."""
    from opensearchpy import AsyncOpenSearch  # pip install 'opensearch-py[async]'

    async with AsyncOpenSearch(hosts=[os.environ["OPENSEARCH_URL"]]) as client:
        yield client


router = Router(table="products")


@router.on_batch(max_items=500, max_bytes=5_000_000, latest_only=True, name="index")
async def index(
    changes: list[Change[Product]], search: Annotated[Search, Depends(open_search, scope="app")]
) -> None:
    """Send each product's last state. Of the earlier ones in the batch nobody would see anything.

    Raises:
        PartialFailure: the service did not take some of them; they come again.
    """
    body = [line for change in changes for line in lines_of(change)]
    answer = await search.bulk(body=body, index=INDEX)
    statuses = [item["update"]["status"] for item in answer["items"]]
    failed = [at for at, status in enumerate(statuses) if status >= 300]
    if failed:
        # 429: the service is busy; 400: the document is not as the index's mapping wants it.
        counts = Counter(statuses[at] for at in failed)
        raise PartialFailure(failed, reason=f"not indexed, by status: {dict(counts)}")


def lines_of(change: Change[Product]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the two lines of a bulk request that bring one document up to date.

    The stored script "newest" writes a document only over an older one. A deleted product stays as
    a document that no search finds, so that a late repeat of an older change cannot bring it back.

    Raises:
        ImageMissing: the stream does not carry new images.
    """
    document: dict[str, Any]
    if change.new is None:
        document = {"deleted_at": datetime.now(timezone.utc).isoformat()}
    else:
        document = change.new.model_dump(mode="json", exclude={"id"})
    document["position"] = position_of(change.record)
    action = {"_id": change.keys["id"], "retry_on_conflict": 3}
    script = {"id": "newest", "params": {"document": document}}
    return {"update": action}, {"script": script, "scripted_upsert": True, "upsert": {}}


def position_of(record: Record) -> str:
    """Return a change's place in its table's history, as text that sorts.

    Sequence numbers have 21 to 40 digits, too many for OpenSearch's own versions. They grow along
    an item's shards, but a stream that is switched off and on again may count anew: hence its
    label, which is the time it was made.
    """
    label = record.source_arn.rpartition("/")[2]
    return f"{label}/{record.position:040d}"


app = App(router)
lambda_handler = app.lambda_handler(report_batch_item_failures=True)
