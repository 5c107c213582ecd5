"""Puts raw stream records into a Kinesis event, as DynamoDB and Lambda do."""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import md5
from typing import Any, Literal

from dynaflow.record import table_of

__all__ = ["kinesis_event"]

_ARN = "arn:aws:kinesis:us-east-1:123456789012:stream/changes"
_FIRST = 4959 * 10**52  # sequence numbers of Kinesis have 56 digits
_PER_SECOND = {"MILLISECOND": 10**3, "MICROSECOND": 10**6}


def kinesis_event(
    *records: dict[str, Any] | bytes,
    stream_arn: str = _ARN,
    after: int = 0,
    precision: Literal["MILLISECOND", "MICROSECOND"] = "MILLISECOND",
    says_precision: bool = False,
) -> dict[str, Any]:
    """Return the Lambda event that carries these records through a Kinesis stream.

    Each gets a sequence number of Kinesis, in this order, so that a record which is given twice is
    a duplicate: the same ``eventID`` with another sequence number.

    Args:
        records: raw records, of one or more tables, as ``RecordBuilder`` makes them with both
            images; or bytes, which are the data of a Kinesis record as they are.
        stream_arn: the Kinesis stream's ARN.
        after: how many records came before these; a later event of the same stream begins there.
        precision: what creation times are counted in.
        says_precision: whether the records say so themselves, too.

    Raises:
        ValueError: a record has a view type other than NEW_AND_OLD_IMAGES, which a change in
            Kinesis never has; or it does not say of which table it is.
    """
    region = stream_arn.split(":")[3]
    return {
        "Records": [
            _kinesis_record(
                record
                if isinstance(record, bytes)
                else _data(record, precision, says_precision=says_precision),
                str(_FIRST + number),
                stream_arn,
                region,
            )
            for number, record in enumerate(records, after + 1)
        ]
    }


def _kinesis_record(
    data: bytes, sequence_number: str, stream_arn: str, region: str
) -> dict[str, Any]:
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": md5(data, usedforsecurity=False).hexdigest().upper(),
            "sequenceNumber": sequence_number,
            "data": b64encode(data).decode("ascii"),
            "approximateArrivalTimestamp": 1_767_225_600.123,
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"shardId-000000000000:{sequence_number}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::123456789012:role/function",
        "awsRegion": region,
        "eventSourceARN": stream_arn,
    }


def _data(raw: dict[str, Any], precision: str, *, says_precision: bool) -> bytes:
    stream = raw["dynamodb"]
    table = table_of(raw.get("eventSourceARN", ""))
    if table is None:
        raise ValueError("the record has no eventSourceARN of a table: make it with RecordBuilder")
    if stream.get("StreamViewType", "NEW_AND_OLD_IMAGES") != "NEW_AND_OLD_IMAGES":
        raise ValueError(
            f"the record has view type {stream['StreamViewType']}; a change in Kinesis has all "
            "images there are: make it with view_type='NEW_AND_OLD_IMAGES'"
        )
    names = ("Keys", "NewImage", "OldImage", "SizeBytes")
    written = round(stream["ApproximateCreationDateTime"] * _PER_SECOND[precision])
    change = {
        "awsRegion": raw.get("awsRegion"),
        "eventID": raw.get("eventID"),
        "eventName": raw.get("eventName"),
        "userIdentity": raw.get("userIdentity"),
        "recordFormat": "application/json",
        "tableName": table,
        "dynamodb": {
            "ApproximateCreationDateTime": written,
            **({"ApproximateCreationDateTimePrecision": precision} if says_precision else {}),
            **{name: stream[name] for name in names if name in stream},
        },
        "eventSource": "aws:dynamodb",
    }
    return json.dumps(change, separators=(",", ":")).encode()
