"""All that a stream holds, as raw records: to deliver it again, in whatever order."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any

from dynaflow.demo.stage import Stage

__all__ = ["history", "shuffled"]


async def history(stage: Stage, table: str, *, region: str | None = None) -> list[dict[str, Any]]:
    """Return every record of a table's stream, as it would be in a Lambda event.

    Args:
        stage: where the table is.
        table: its name.
        region: where; the stage's by default.
    """
    async with stage.client("dynamodbstreams", region=region) as streams:
        (stream,) = (await streams.list_streams(TableName=table))["Streams"]
        arn = stream["StreamArn"]
        description = (await streams.describe_stream(StreamArn=arn))["StreamDescription"]
        records: list[dict[str, Any]] = []
        for shard in description["Shards"]:
            start = await streams.get_shard_iterator(
                StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
            )
            page = await streams.get_records(ShardIterator=start["ShardIterator"])
            while page["Records"]:  # the emulator closes no shard, and leaves no page empty
                records += [record | {"eventSourceARN": arn} for record in page["Records"]]
                page = await streams.get_records(ShardIterator=page["NextShardIterator"])
    return records


def shuffled(records: Iterable[dict[str, Any]], *, seed: int) -> list[dict[str, Any]]:
    """Return the records in random order: in the same one for the same writes and seed.

    How the writes to different items fell in among each other does not matter.
    """
    ordered = sorted(records, key=_by_item)
    Random(seed).shuffle(ordered)  # noqa: S311 - a seed, so that every run is the same
    return ordered


def _by_item(record: dict[str, Any]) -> tuple[str, int]:
    change = record["dynamodb"]
    return repr(sorted(change["Keys"].items())), int(change["SequenceNumber"])
