"""Tables in an emulator."""

from __future__ import annotations

import re
from typing import Any

import boto3
import pytest

__all__ = ["REGION", "Table", "name_for"]

REGION = "us-east-1"


def name_for(request: pytest.FixtureRequest) -> str:
    """Return a name for the table of a test that no other test's table has."""
    return re.sub(r"[^\w.-]", "-", request.node.nodeid.rpartition("/")[2])[:200]


class Table:
    """A table with the key ``id`` and a stream of new and old images.

    Args:
        url: where DynamoDB is.
        name: what it is called; no other test's table may have the same name.
        stream: False for a table without a stream.
        view_type: which images the stream carries.
        range_kind: the type of a sort key ``at``, if there is to be one.
    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        stream: bool = True,
        view_type: str = "NEW_AND_OLD_IMAGES",
        range_kind: str | None = None,
    ) -> None:
        self.name = name
        self.client: Any = boto3.client("dynamodb", region_name=REGION, endpoint_url=url)
        self.url = url
        self.options = ("--table", name, "--endpoint-url", url)
        """What ``dynaflow run`` takes."""
        schema = [{"AttributeName": "id", "KeyType": "HASH"}]
        kinds = [{"AttributeName": "id", "AttributeType": "S"}]
        if range_kind is not None:
            schema.append({"AttributeName": "at", "KeyType": "RANGE"})
            kinds.append({"AttributeName": "at", "AttributeType": range_kind})
        streamed = {"StreamEnabled": True, "StreamViewType": view_type}
        self.client.create_table(
            TableName=name,
            KeySchema=schema,
            AttributeDefinitions=kinds,
            BillingMode="PAY_PER_REQUEST",
            **({"StreamSpecification": streamed} if stream else {}),
        )

    @property
    def items(self) -> list[dict[str, Any]]:
        """All items, in their wire form."""
        items: list[dict[str, Any]] = self.client.scan(TableName=self.name)["Items"]
        return items

    def put(self, *ids: str) -> None:
        """Write an item for each id."""
        for name in ids:
            self.client.put_item(TableName=self.name, Item={"id": {"S": name}})
