"""Dead letters in an SQS queue: one message each."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

from dynaflow._aws import AwsClient
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.dead_letters._kept import (
    Kept,
    attributes_of,
    errors_of,
    fitted,
    in_groups,
    put,
    read,
)
from dynaflow.permissions import Permission, queue_arn, region_of_queue
from dynaflow.retry import waits

__all__ = ["SQS"]

_SMALLEST, _LARGEST = 8192, 2**20  # bytes; SQS takes 1 MiB since 2025, 256 KiB before
_MAX_INVISIBLE = 43_200  # 12 hours, as the service has it
_PAGE = 10  # messages of one ReceiveMessage
_GIVE_BACK_WITHIN = 5.0  # seconds


class SQS:
    """Sends dead letters to a queue, standard or FIFO, and reads them back.

    A letter that is too large goes without its images: see ``DeadLetterRecord.within``. The message
    has the attributes ``route``, ``reason`` and ``error_type``. In a FIFO queue each letter
    is a group of its own.

    Args:
        queue_url: the queue's URL.
        client: boto3's client of SQS or an async one; by default boto3's, from the environment, for
            the region in the URL.
        max_bytes: the largest message, attributes included; 256 KiB by default, up to 1 MiB where
            the queue takes that.
        visibility_timeout: seconds for which what ``letters`` reads is not seen by other readers.
            Longer than it takes to run ten letters.

    Raises:
        ValueError: a value that cannot work.
    """

    def __init__(
        self,
        queue_url: str,
        client: Any = None,
        *,
        max_bytes: int = 262_144,
        visibility_timeout: int = 300,
    ) -> None:
        if not queue_url.startswith(("https://", "http://")):
            raise ValueError(
                f"SQS({queue_url!r}) names no queue: write its URL, as "
                "'aws sqs get-queue-url --queue-name NAME' prints it"
            )
        if not _SMALLEST <= max_bytes <= _LARGEST:
            raise ValueError(f"SQS(max_bytes=...) is from {_SMALLEST} to {_LARGEST} bytes")
        if not 1 <= visibility_timeout <= _MAX_INVISIBLE:
            raise ValueError(f"SQS(visibility_timeout=...) is from 1 to {_MAX_INVISIBLE} seconds")
        self._queue_url = queue_url
        # botocore takes no more than the name and the account from a queue's URL, and would go to
        # the queue of that name in the environment's region.
        self._client = AwsClient("sqs", client, region=region_of_queue(queue_url))
        self._max_bytes = max_bytes
        self._visibility_timeout = visibility_timeout
        self._is_holding = False
        self._held: set[str] = set()  # receipts of what was read and not removed

    def __repr__(self) -> str:
        return f"SQS({self._queue_url!r})"

    def permissions(self) -> tuple[Permission, ...]:
        """Return what sending letters needs; reading them back needs more."""
        arn = queue_arn(self._queue_url)
        return (Permission(("sqs:SendMessage",), (arn,), "dead letters in SQS"),)

    @property
    def is_async(self) -> bool:
        """True if the client is an async one, so that a call returns what is to be awaited."""
        return self._client.is_async("send_message")

    def __call__(self, letter: DeadLetterRecord) -> Awaitable[None] | None:
        """Send the letter.

        Raises:
            DeadLetterError: the queue did not take it.
        """
        attributes = attributes_of(letter)
        body = fitted(repr(self), letter, self._max_bytes, attributes)
        message = {"MessageBody": body, "MessageAttributes": attributes}
        if self._queue_url.endswith(".fifo"):
            message |= in_groups(letter)
        return put(repr(self), self._client, "send_message", self._queue | message)

    async def letters(self) -> AsyncIterator[Kept]:
        """Receive what the queue has now, each message once.

        While it is being read, no other reader sees it; what is not removed by the end is given
        back. Two messages may hold the same letter, if it was sent twice.

        Raises:
            DeadLetterError: the queue could not be read.
        """
        seen: set[str] = set()
        receipts: list[str] = []
        try:
            # A queue can be so long that its first messages come again before it has been read up.
            while len(receipts) <= 2 * len(seen) and (messages := await self._receive()):
                receipts += [message["ReceiptHandle"] for message in messages]
                self._held.update(receipts[-len(messages) :])
                for message in messages:
                    if message["MessageId"] in seen:
                        continue  # its time was up, and it came again
                    seen.add(message["MessageId"])
                    where = f"message {message['MessageId']}: "
                    yield read(message["Body"], message["ReceiptHandle"], where)
        finally:
            if not self._is_holding:
                await self._give_back([receipt for receipt in receipts if receipt in self._held])

    @asynccontextmanager
    async def holding(self) -> AsyncIterator[None]:
        """Give what ``letters`` read back when the context ends, and not at its own end.

        For whoever reads all letters before he removes the first: a FIFO queue lets a message be
        removed only while it is held.
        """
        self._is_holding = True
        try:
            yield
        finally:
            self._is_holding = False
            await self._give_back(list(self._held))

    async def remove(self, kept: Kept) -> None:
        """Delete the message.

        Raises:
            DeadLetterError: it could not be deleted.
        """
        with errors_of(repr(self)):
            await self._client.call("delete_message", **self._queue, ReceiptHandle=kept.receipt)
        self._held.discard(kept.receipt)

    @property
    def _queue(self) -> dict[str, Any]:
        return {"QueueUrl": self._queue_url}

    async def _receive(self) -> list[dict[str, Any]]:
        with errors_of(repr(self)):
            answer = await self._client.call(
                "receive_message",
                **self._queue,
                MaxNumberOfMessages=_PAGE,
                VisibilityTimeout=self._visibility_timeout,
                WaitTimeSeconds=1 if waits() else 0,  # without, only some of the servers are asked
            )
        messages: list[dict[str, Any]] = answer.get("Messages", [])
        return messages

    async def _give_back(self, receipts: list[str]) -> None:
        """Let other readers see these messages; if that fails, they do so in a while by itself."""
        import anyio

        self._held.difference_update(receipts)
        with anyio.move_on_after(_GIVE_BACK_WITHIN, shield=True):
            for at in range(0, len(receipts), _PAGE):
                entries = [
                    {"Id": str(number), "ReceiptHandle": receipt, "VisibilityTimeout": 0}
                    for number, receipt in enumerate(receipts[at : at + _PAGE])
                ]
                try:
                    await self._client.call(
                        "change_message_visibility_batch", **self._queue, Entries=entries
                    )
                except Exception:  # no permission, or no connection: the timeout does the same
                    return
