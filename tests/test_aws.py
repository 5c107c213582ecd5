"""Calls to AWS by whoever was given a client, of either kind."""

from typing import Any

import aioboto3
import boto3
import pytest

from dynaflow import DynaflowError
from dynaflow._aws import AwsClient

OPTIONS: dict[str, Any] = {
    "aws_access_key_id": "nobody",
    "aws_secret_access_key": "nothing",
    "region_name": "eu-west-1",
}


class Async:
    async def put_item(self, **arguments: Any) -> dict[str, Any]:
        return arguments


class Disguised:
    """Its method is async, and does not look it."""

    def put_item(self, **arguments: Any) -> Any:
        return Async().put_item(**arguments)


@pytest.mark.asyncio
async def test_aioboto3s_client_is_async_and_boto3s_is_not() -> None:
    session: Any = aioboto3.Session(**OPTIONS)
    async with session.client("dynamodb") as client:
        assert AwsClient("dynamodb", client).is_async("transact_write_items")
    boto = boto3.client("dynamodb", **OPTIONS)
    assert not AwsClient("dynamodb", boto).is_async("transact_write_items")
    boto.close()
    assert AwsClient("dynamodb", Async()).is_async("put_item")
    assert not AwsClient("dynamodb").is_async("put_item")


@pytest.mark.asyncio
async def test_an_async_call_that_nobody_awaits_is_no_success() -> None:
    client = AwsClient("dynamodb", Disguised())
    with pytest.raises(DynaflowError, match="put_item returned a coroutine"):
        client.call_here("put_item", TableName="t")
    with pytest.raises(DynaflowError, match="put_item returned a coroutine"):
        await client.call("put_item", TableName="t")
    assert await AwsClient("dynamodb", Async()).call("put_item", a=1) == {"a": 1}


def test_boto3s_own_client_is_made_for_the_region_that_all_other_sdks_read(
    aws_environment: pytest.MonkeyPatch,
) -> None:
    aws_environment.setenv("AWS_REGION", "eu-west-1")
    url = AwsClient("sqs").call_here("generate_presigned_url", ClientMethod="list_queues")
    assert "eu-west-1" in url
