"""Functions, mappings and what they write to, deployed in an emulator."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

import boto3

from tests.support.tables import REGION

__all__ = ["Account"]


class Account:
    """An account in an emulator, with a function and its mapping.

    Args:
        url: where the emulator is.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._clients: dict[str, Any] = {}
        self._session = boto3.Session("nobody", "nothing", region_name=REGION)
        self._role: str | None = None

    def __call__(self, service: str) -> Any:
        """Return a client of boto3's."""
        if service not in self._clients:
            self._clients[service] = self._session.client(service, endpoint_url=self.url)
        return self._clients[service]

    def stream_of(self, table: str) -> str:
        """Return the ARN of the stream that a table has now."""
        arn = self("dynamodb").describe_table(TableName=table)["Table"]["LatestStreamArn"]
        return str(arn)

    def function(self, name: str, **settings: Any) -> str:
        """Make a function and return its ARN."""
        if self._role is None:
            role = self("iam").create_role(RoleName=f"{name}-role", AssumeRolePolicyDocument="{}")
            self._role = role["Role"]["Arn"]
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            archive.writestr("shop.py", "")
        answer = self("lambda").create_function(
            FunctionName=name,
            Role=self._role,
            Code={"ZipFile": code.getvalue()},
            **{"Runtime": "python3.13", "Handler": "shop.lambda_handler", **settings},
        )
        return str(answer["FunctionArn"])

    def mapping(self, function: str, stream: str, **settings: Any) -> str:
        """Make an event source mapping and return its id."""
        options: Mapping[str, Any] = {"StartingPosition": "TRIM_HORIZON", **settings}
        answer = self("lambda").create_event_source_mapping(
            FunctionName=function, EventSourceArn=stream, **options
        )
        return str(answer["UUID"])

    def queue(self, name: str) -> str:
        """Make a queue and return its ARN."""
        sqs = self("sqs")
        url = sqs.create_queue(QueueName=name)["QueueUrl"]
        asked = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        return str(asked["Attributes"]["QueueArn"])
