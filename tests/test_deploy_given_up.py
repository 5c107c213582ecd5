"""What Lambda noted as given up is fetched from the stream, as the event that it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from dynaflow.codec import decode_event
from dynaflow.record import Record
from examples.deploy.given_up import event_of
from tests.support.documents import ROOT

_REGION = "eu-central-1"  # one that no other test uses: moto keeps all tables in one process


class Stream:
    """A table's stream on moto, with five changes.

    Args:
        url: moto's.
    """

    def __init__(self, url: str) -> None:
        options = {"region_name": _REGION, "endpoint_url": url}
        table: Any = boto3.client("dynamodb", **options)
        self.client: Any = boto3.client("dynamodbstreams", **options)
        described = table.create_table(
            TableName="given-up",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
        )["TableDescription"]
        self.arn = described["LatestStreamArn"]
        for name in "abcde":
            item = {"id": {"S": name}, "photo": {"B": b"\x00\xff"}}
            table.put_item(TableName="given-up", Item=item)
        shards = self.client.describe_stream(StreamArn=self.arn)["StreamDescription"]["Shards"]
        self.shard = shards[0]["ShardId"]
        iterator = self.client.get_shard_iterator(
            StreamArn=self.arn, ShardId=self.shard, ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        page = self.client.get_records(ShardIterator=iterator)["Records"]
        self.numbers = [record["dynamodb"]["SequenceNumber"] for record in page]
        self._table = table

    def message(self, first: int, last: int, size: int) -> dict[str, Any]:
        """Return Lambda's message about a stretch of the changes."""
        return {
            "DDBStreamBatchInfo": {
                "shardId": self.shard,
                "startSequenceNumber": self.numbers[first],
                "endSequenceNumber": self.numbers[last],
                "batchSize": size,
                "streamArn": self.arn,
            }
        }

    def close(self) -> None:
        """Delete the table."""
        self._table.delete_table(TableName="given-up")


@pytest.fixture
def stream(moto_url: str, aws_environment: pytest.MonkeyPatch) -> Iterator[Stream]:
    aws_environment.setenv("AWS_DEFAULT_REGION", _REGION)
    aws_environment.setenv("AWS_ENDPOINT_URL_DYNAMODB_STREAMS", moto_url)
    stream = Stream(moto_url)
    yield stream
    stream.close()


def test_the_records_of_a_message_are_printed_as_lambda_would_send_them(
    stream: Stream, tmp_path: Path
) -> None:
    message = tmp_path / "message.json"
    message.write_text(json.dumps(stream.message(1, 3, size=3)), encoding="utf-8")
    command = [sys.executable, str(ROOT / "examples/deploy/given_up.py"), str(message)]
    done = subprocess.run(
        command, env=dict(os.environ), capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr

    records, arn = decode_event(json.loads(done.stdout))
    assert arn == stream.arn
    assert [record.sequence_number for record in records] == stream.numbers[1:4]
    for record, name in zip(records, "bcd", strict=True):
        assert isinstance(record, Record)
        assert record.table == "given-up"
        assert record.created_at is not None
        assert record.new == {"id": name, "photo": b"\x00\xff"}


def test_records_that_the_stream_no_longer_has_are_missed(stream: Stream) -> None:
    with pytest.raises(LookupError, match="3 of 4 records"):
        event_of(stream.message(1, 3, size=4), stream.client)
