"""Fetches the records that Lambda gave up, while the stream still has them (24 hours).

    aws sqs receive-message --queue-url URL --query 'Messages[0].Body' --output text > message.json
    python given_up.py message.json > event.json

``event.json`` is then what Lambda would have sent: look at it, and run it with ``dynaflow invoke``.
By now the items may have changed again; handlers see the change as it was.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3

__all__ = ["event_of"]

_PAGES_WITHOUT_RECORDS = 100  # in a row; a stream has some, here and there


def event_of(message: dict[str, Any], client: Any) -> dict[str, Any]:
    """Return the event that a message of the failure queue stands for.

    Args:
        message: what Lambda wrote.
        client: boto3's, for ``dynamodbstreams``.

    Raises:
        LookupError: the stream no longer has all of the records.
    """
    given_up = message["DDBStreamBatchInfo"]
    records = list(_records(given_up, client))
    if len(records) != given_up["batchSize"]:
        raise LookupError(
            f"the stream has {len(records)} of {given_up['batchSize']} records; it keeps them for "
            "24 hours"
        )
    return {"Records": records}


def _records(given_up: dict[str, Any], client: Any) -> Iterator[dict[str, Any]]:
    last, arn = int(given_up["endSequenceNumber"]), given_up["streamArn"]
    iterator = client.get_shard_iterator(
        StreamArn=arn,
        ShardId=given_up["shardId"],
        ShardIteratorType="AT_SEQUENCE_NUMBER",
        SequenceNumber=given_up["startSequenceNumber"],
    )["ShardIterator"]
    empty = 0
    while iterator is not None and empty < _PAGES_WITHOUT_RECORDS:
        page = client.get_records(ShardIterator=iterator)
        for record in page["Records"]:
            number = int(record["dynamodb"]["SequenceNumber"])
            if number <= last:
                yield record | {"eventSourceARN": arn}
            if number >= last:
                return
        empty = 0 if page["Records"] else empty + 1
        iterator = page.get("NextShardIterator")


def _plain(value: Any) -> Any:
    """Return what boto3 parsed as Lambda writes it."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime):
        return value.timestamp()
    raise TypeError(f"cannot write a {type(value).__name__}")


if __name__ == "__main__":
    (path,) = sys.argv[1:]
    written = json.loads(Path(path).read_text(encoding="utf-8"))
    event = event_of(written, boto3.client("dynamodbstreams"))
    print(json.dumps(event, indent=2, default=_plain))
