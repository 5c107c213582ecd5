"""The AWS clients that a DynamoDBSource calls: where they connect to, and what their errors mean.

botocore cannot be relied on to tell a broken answer: the body of a 200 that is not JSON becomes an
empty dict. So each call names the key that its answer must have.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Self

import anyio

from dynaflow._aws import is_aws
from dynaflow.errors import (
    ExtraMissing,
    RecordsTrimmed,
    ShardGone,
    SourceError,
    StreamRefused,
)

__all__ = ["Clients", "ConditionFailed", "IteratorExpired"]

_CONNECT_TIMEOUT = 5  # seconds
_READ_TIMEOUT = 20  # seconds without a byte
_CALL_TIMEOUT = 60  # seconds for a whole answer: bytes that drip in reset the read's time-out

# What waiting cannot mend. Throttling, expired tokens and clock skew are not among it.
_REMEDIES = {
    "AccessDeniedException": "allow it in the IAM policy of these credentials",
    "AccessDenied": "allow it in the IAM policy of these credentials",
    "UnrecognizedClientException": "use credentials that exist in this account and partition",
    "InvalidClientTokenId": "use credentials that exist in this account and partition",
    "MissingAuthenticationTokenException": "use credentials that may sign requests",
    "IncompleteSignatureException": "check the access key and the secret",
    "OptInRequired": "use an account that is subscribed to DynamoDB",
    "ValidationException": "check the name, the ARN and the checkpoint",
    "ResourceNotFoundException": "check its name, the region and the account",
}
# The same, as botocore raises it before it sends anything.
_CLIENT_REMEDIES = {
    "NoCredentialsError": "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "PartialCredentialsError": "set both the access key and the secret",
    "ParamValidationError": "check the name or the ARN",
}


_UNANSWERED = ("EndpointConnectionError", "ConnectTimeoutError", "ConnectionClosedError")


class IteratorExpired(Exception):
    """A shard iterator is older than 15 minutes (GetRecords: ExpiredIteratorException)."""


class ConditionFailed(Exception):
    """A write's condition is not true of the item (ConditionalCheckFailedException)."""


class Clients:
    """A DynamoDB client and a DynamoDB Streams client of one region.

    Raises (when entered):
        ExtraMissing: aioboto3 is not installed.
        StreamRefused: no region is known.
    """

    def __init__(
        self, session: Any, region: str | None, endpoint: str | None, streams_endpoint: str | None
    ) -> None:
        self._session = session
        self._region = region
        self._endpoint = endpoint or None
        self._streams_endpoint = streams_endpoint or _streams_endpoint(endpoint)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        try:
            import aioboto3
            from botocore.exceptions import BotoCoreError
        except ImportError:
            raise ExtraMissing("aioboto3", "aws") from None
        try:
            await self._connect(self._session or aioboto3.Session())
        except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is no URL
            raise StreamRefused(f"the AWS clients could not be made: {error}") from None
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _connect(self, session: Any) -> None:
        from aiobotocore.config import AioConfig

        config = AioConfig(
            connect_timeout=_CONNECT_TIMEOUT,
            read_timeout=_READ_TIMEOUT,
            retries={"total_max_attempts": 1},  # the callers try again, in their own time
        )
        options = {"region_name": self._region_of(session), "config": config}
        async with AsyncExitStack() as stack:
            self._dynamodb = await stack.enter_async_context(
                session.client("dynamodb", endpoint_url=self._endpoint, **options)
            )
            self._streams = await stack.enter_async_context(
                session.client("dynamodbstreams", endpoint_url=self._streams_endpoint, **options)
            )
            self._stack = stack.pop_all()

    def _region_of(self, session: Any) -> str:
        # botocore reads only AWS_DEFAULT_REGION; AWS_REGION is what all other SDKs read. A session
        # that the caller made may have been given its region on purpose, so it comes first.
        from_session, from_environment = session.region_name, os.environ.get("AWS_REGION")
        first, second = (
            (from_session, from_environment) if self._session else (from_environment, from_session)
        )
        region = self._region or first or second
        if not region:
            raise StreamRefused(
                "no AWS region is known. Set AWS_REGION, or pass region= (--region)."
            )
        return str(region)

    @property
    def region(self) -> str:
        """The region that requests are signed for."""
        return str(self._dynamodb.meta.region_name)

    @property
    def endpoint(self) -> str:
        """Where DynamoDB is."""
        return str(self._dynamodb.meta.endpoint_url)

    @property
    def is_aws(self) -> bool:
        """True if that is AWS itself, and no stand-in."""
        return is_aws(self.endpoint)

    async def write(self, operation: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Call PutItem, UpdateItem or DeleteItem; options as in the API.

        Raises:
            ConditionFailed: its condition is not true of the item.
        """
        return await self._call(self._dynamodb, operation, "ResponseMetadata", options)

    async def describe_table(self, table: str) -> Mapping[str, Any]:
        """Return a table's description."""
        answer = await self._call(self._dynamodb, "DescribeTable", "Table", {"TableName": table})
        description: Mapping[str, Any] = answer["Table"]
        return description

    async def describe_stream(self, stream_arn: str, start: str | None) -> Mapping[str, Any]:
        """Return one page of a stream's description, after the shard ``start``."""
        options = {"StreamArn": stream_arn}
        if start is not None:
            options["ExclusiveStartShardId"] = start
        answer = await self._call(self._streams, "DescribeStream", "StreamDescription", options)
        description: Mapping[str, Any] = answer["StreamDescription"]
        return description

    async def get_shard_iterator(self, **options: str) -> str:
        """Return an iterator; options as in the API."""
        answer = await self._call(self._streams, "GetShardIterator", "ShardIterator", options)
        return str(answer["ShardIterator"])

    async def get_records(self, iterator: str) -> Mapping[str, Any]:
        """Return a page. It has ``Records``.

        Raises:
            IteratorExpired: the iterator is too old.
        """
        return await self._call(self._streams, "GetRecords", "Records", {"ShardIterator": iterator})

    async def _call(
        self, client: Any, operation: str, key: str, options: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Call an operation and return its answer, which has the key."""
        from botocore import xform_name
        from botocore.exceptions import BotoCoreError, ClientError

        # Not the iterator: it belongs into no message.
        subject = options.get("TableName") or options.get("StreamArn") or "a shard"
        what = f"{operation} of {subject} in {client.meta.region_name} failed"
        try:
            with anyio.fail_after(_CALL_TIMEOUT):
                answer = await getattr(client, xform_name(operation))(**options)
        # "from None" everywhere: botocore's own messages quote parameters, iterators among them.
        except ClientError as error:
            raise _service_error(what, operation, error.response) from None
        except BotoCoreError as error:
            raise _client_error(what, error, client.meta.endpoint_url) from None
        except Exception as error:
            # Whatever botocore's parser stumbles over in a broken body, and broken connections.
            raise SourceError(f"{what}: {type(error).__name__}") from None
        if not isinstance(answer, Mapping) or answer.get(key) is None:
            raise SourceError(f"{what}: the answer has no {key!r}")
        return answer


def _service_error(
    what: str, operation: str, response: Mapping[str, Any]
) -> SourceError | IteratorExpired | ConditionFailed:
    code = str(response.get("Error", {}).get("Code", "unknown error"))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    if code == "ExpiredIteratorException":
        return IteratorExpired(code)
    if code == "ConditionalCheckFailedException":
        return ConditionFailed(code)
    if code == "TrimmedDataAccessException":
        return RecordsTrimmed(f"{what}: {code}: the position is older than what is kept")
    if code == "ResourceNotFoundException" and operation in ("GetShardIterator", "GetRecords"):
        return ShardGone(f"{what}: {code}: the shard is no longer kept")
    if code in _REMEDIES and not (isinstance(status, int) and status >= 500):
        return StreamRefused(f"{what}: {code}. To mend it, {_REMEDIES[code]}.")
    return SourceError(f"{what}: {code} (HTTP {status})")


def _client_error(what: str, error: Exception, endpoint: str) -> SourceError:
    name = type(error).__name__
    if name in _CLIENT_REMEDIES:
        return StreamRefused(f"{what}: {name}. To mend it, {_CLIENT_REMEDIES[name]}.")
    if name in _UNANSWERED:
        return SourceError(
            f"{what}: {name}: nobody answers at {endpoint}. Check the network, the region, and the "
            "endpoint's URL if one is set."
        )
    return SourceError(f"{what}: {name} ({endpoint})")


def _streams_endpoint(endpoint: str | None) -> str | None:
    """Return where the streams client connects to, if botocore would not know.

    A stand-in serves both services at one address, but botocore has a variable for each: with
    AWS_ENDPOINT_URL_DYNAMODB alone it would send the calls of the streams client to AWS.
    """
    if not endpoint:
        if any(map(os.environ.get, ("AWS_ENDPOINT_URL_DYNAMODB_STREAMS", "AWS_ENDPOINT_URL"))):
            return None
        if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
            return None
        endpoint = os.environ.get("AWS_ENDPOINT_URL_DYNAMODB")
    # AWS's own addresses, private links included, serve one of the two each.
    return None if is_aws(endpoint or "") else endpoint
