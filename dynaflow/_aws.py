"""Calls to AWS by whoever was given a client: boto3's, in a worker thread, or an async one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from inspect import iscoroutine, iscoroutinefunction
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from dynaflow.errors import DynaflowError, ExtraMissing

__all__ = ["AwsClient", "error_code", "is_aws"]

# AWS's domains, those of its partitions and of their dual-stack endpoints.
_AWS_DOMAINS = (
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".amazonaws.eu",
    ".amazonwebservices.com.cn",
    ".amazonwebservices.eu",
    ".aws",
    ".scloud",
    ".ic.gov",
    ".sgov.gov",
    ".adc-e.uk",
)


def error_code(error: Exception) -> str:
    """Return the code that AWS gave, of botocore's ClientError; empty for any other error."""
    answer = getattr(error, "response", None)
    details = answer.get("Error") if isinstance(answer, Mapping) else None
    code = details.get("Code") if isinstance(details, Mapping) else None
    return code if isinstance(code, str) else ""


def is_aws(endpoint: str) -> bool:
    """Return True if a URL is one of AWS's own, and no stand-in's."""
    host = urlsplit(endpoint).hostname or ""
    return host.rstrip(".").endswith(_AWS_DOMAINS)


class AwsClient:
    """A client of one AWS service, of either kind.

    Args:
        service: as boto3 names it, such as "dynamodb".
        client: boto3's client or an async one, such as aioboto3's, entered; None makes boto3's when
            it is first needed: in Lambda, boto3 is part of the runtime.
        region: of the client that is made; None for the environment's.
        endpoint_url: where it connects to; None for AWS, or the environment's.
    """

    def __init__(
        self,
        service: str,
        client: Any = None,
        *,
        region: str | None = None,
        endpoint_url: str | None = None,
    ) -> None:
        self._service = service
        self._client = client
        self._region = region
        self._endpoint_url = endpoint_url or None
        self._lock = Lock()

    def is_async(self, operation: str) -> bool:
        """Return True if the client's method is to be awaited."""
        if self._client is None:
            return False
        # aiobotocore's methods are plain functions around an async one, which they share.
        shared = getattr(self._client, "_make_api_call", None)
        return iscoroutinefunction(getattr(self._client, operation)) or iscoroutinefunction(shared)

    async def call(self, operation: str, /, **arguments: Any) -> Any:
        """Call the client's method of this name, and return the answer.

        A call in a thread that is cancelled is waited for no more, though it goes on.

        Raises:
            ExtraMissing: there is no client, and boto3 is not installed.
            Exception: botocore's.
        """
        if self.is_async(operation):
            return await getattr(self._client, operation)(**arguments)
        from anyio import to_thread

        call = partial(self.call_here, operation, **arguments)
        return await to_thread.run_sync(call, abandon_on_cancel=True)

    def call_here(self, operation: str, /, **arguments: Any) -> Any:
        """Do the same on the calling thread, with boto3's client.

        Raises:
            DynaflowError: the client turns out to be async, so that nothing has been called.
        """
        answer = getattr(self._boto3_client(), operation)(**arguments)
        if iscoroutine(answer):
            answer.close()
            raise DynaflowError(
                f"client= is async, though it does not look it: {operation} returned a coroutine. "
                "Pass aioboto3's client itself, or boto3's"
            )
        return answer

    def _boto3_client(self) -> Any:
        with self._lock:  # boto3's default session is not made for several threads
            if self._client is None:
                try:
                    import boto3
                except ImportError:
                    raise ExtraMissing("boto3", "aws") from None
                # botocore reads only AWS_DEFAULT_REGION; AWS_REGION is what all other SDKs read.
                region = self._region or os.environ.get("AWS_REGION") or None
                self._client = boto3.client(
                    self._service, region_name=region, endpoint_url=self._endpoint_url
                )
            return self._client
