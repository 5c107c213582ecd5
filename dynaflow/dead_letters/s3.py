"""Dead letters in an S3 bucket: one object each."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable
from typing import Any

from dynaflow._aws import AwsClient, error_code
from dynaflow.dead_letter import MAX_BYTES, DeadLetterRecord
from dynaflow.dead_letters._kept import Kept, errors_of, put, read
from dynaflow.permissions import Permission, bucket_arn, key_arn

__all__ = ["S3"]

_NAME = re.compile(r"[0-9a-f]{32}\.json")


class S3:
    """Writes dead letters into a bucket, and reads them back.

    The key is ``prefix``, the letter's id, and ``.json``: it names no item, and a letter that comes
    twice replaces itself.

    Args:
        bucket: the bucket's name.
        prefix: the folder; what else is in it is left alone.
        client: boto3's client of S3 or an async one; by default boto3's, from the environment.
        kms_key_id: the KMS key to encrypt with: its ARN, id or alias. By default the bucket's own
            encryption is used, which is never none.

    Raises:
        ValueError: a value that cannot work.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "dead-letters/",
        client: Any = None,
        *,
        kms_key_id: str | None = None,
    ) -> None:
        if not bucket or "/" in bucket or ":" in bucket:
            raise ValueError(f"S3({bucket!r}) names no bucket: write its name, without 's3://'")
        self._bucket = bucket
        self._prefix = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
        self._client = AwsClient("s3", client)
        self._encryption: dict[str, str] = {}
        if kms_key_id is not None:
            self._encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key_id}

    def __repr__(self) -> str:
        return f"S3({self._bucket!r}, {self._prefix!r})"

    def permissions(self) -> tuple[Permission, ...]:
        """Return what writing letters needs; reading them back needs more."""
        objects = bucket_arn(self._bucket, f"{self._prefix}*")
        needed = Permission(("s3:PutObject",), (objects,), "dead letters in S3")
        key = self._encryption.get("SSEKMSKeyId")
        if key is None:
            return (needed,)
        return needed, Permission(("kms:GenerateDataKey",), (key_arn(key),), "dead letters in S3")

    @property
    def is_async(self) -> bool:
        """True if the client is an async one, so that a call returns what is to be awaited."""
        return self._client.is_async("put_object")

    def __call__(self, letter: DeadLetterRecord) -> Awaitable[None] | None:
        """Write the letter's object.

        Raises:
            DeadLetterError: the bucket did not take it.
        """
        arguments = {
            "Bucket": self._bucket,
            "Key": f"{self._prefix}{letter.id}.json",
            "Body": letter.within(MAX_BYTES).to_json().encode("ascii"),
            "ContentType": "application/json",
            **self._encryption,
        }
        return put(repr(self), self._client, "put_object", arguments)

    async def letters(self) -> AsyncIterator[Kept]:
        """Read what is in the folder, in the order of ids.

        Raises:
            DeadLetterError: the bucket could not be read.
        """
        start: dict[str, str] = {}
        while True:
            with errors_of(repr(self)):
                page = await self._client.call(
                    "list_objects_v2", Bucket=self._bucket, Prefix=self._prefix, **start
                )
            for listed in page.get("Contents", ()):
                if _NAME.fullmatch(listed["Key"].removeprefix(self._prefix)):
                    kept = await self._read(listed["Key"], listed["Size"])
                    if kept is not None:
                        yield kept
            if not page.get("IsTruncated"):
                return
            start = {"ContinuationToken": page["NextContinuationToken"]}

    async def remove(self, kept: Kept) -> None:
        """Delete the object.

        Raises:
            DeadLetterError: it could not be deleted.
        """
        with errors_of(repr(self)):
            await self._client.call("delete_object", Bucket=self._bucket, Key=kept.receipt)

    async def _read(self, key: str, size: int) -> Kept | None:
        """Return what an object holds; None if it is gone."""
        if size > MAX_BYTES:
            return Kept(None, f"{key}: it is longer than {MAX_BYTES} bytes", key)
        with errors_of(repr(self)):
            try:
                answer = await self._client.call("get_object", Bucket=self._bucket, Key=key)
            except Exception as error:
                if error_code(error) == "NoSuchKey":
                    return None  # another reader was faster
                raise
            body = answer["Body"]
            if self._client.is_async("get_object"):
                async with body as stream:
                    text = await stream.read()
            else:
                from anyio import to_thread

                text = await to_thread.run_sync(body.read)
        return read(text, key, f"{key}: ")
