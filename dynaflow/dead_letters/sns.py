"""Dead letters through an SNS topic: to whoever subscribed. They cannot be read back from it."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from dynaflow._aws import AwsClient
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.dead_letters._kept import attributes_of, fitted, in_groups, put
from dynaflow.permissions import Permission

__all__ = ["SNS"]

_SMALLEST, _LARGEST = 8192, 262_144  # bytes; SNS: "Message data, including attributes"


class SNS:
    """Publishes dead letters to a topic, standard or FIFO.

    A letter that is too large goes without its images: see ``DeadLetterRecord.within``. The message
    has the attributes ``route``, ``reason`` and ``error_type``, for filter policies. That SNS took
    a letter says nothing of its subscribers: one of them should be a queue.

    Args:
        topic_arn: the topic's ARN.
        client: boto3's client of SNS or an async one; by default boto3's, from the environment, for
            the region in the ARN.
        max_bytes: the largest message, attributes included; 256 KiB at most.

    Raises:
        ValueError: a value that cannot work.
    """

    def __init__(self, topic_arn: str, client: Any = None, *, max_bytes: int = _LARGEST) -> None:
        if not topic_arn.startswith("arn:"):
            raise ValueError(f"SNS({topic_arn!r}) names no topic: write its ARN")
        if not _SMALLEST <= max_bytes <= _LARGEST:
            raise ValueError(f"SNS(max_bytes=...) is from {_SMALLEST} to {_LARGEST} bytes")
        self._topic_arn = topic_arn
        self._client = AwsClient("sns", client, region=[*topic_arn.split(":"), "", ""][3])
        self._max_bytes = max_bytes

    def __repr__(self) -> str:
        return f"SNS({self._topic_arn!r})"

    def permissions(self) -> tuple[Permission, ...]:
        """Return what publishing letters needs."""
        return (Permission(("sns:Publish",), (self._topic_arn,), "dead letters through SNS"),)

    @property
    def is_async(self) -> bool:
        """True if the client is an async one, so that a call returns what is to be awaited."""
        return self._client.is_async("publish")

    def __call__(self, letter: DeadLetterRecord) -> Awaitable[None] | None:
        """Publish the letter.

        Raises:
            DeadLetterError: the topic did not take it.
        """
        attributes = attributes_of(letter)
        message = {
            "TopicArn": self._topic_arn,
            "Message": fitted(repr(self), letter, self._max_bytes, attributes),
            "MessageAttributes": attributes,
        }
        if self._topic_arn.endswith(".fifo"):
            message |= in_groups(letter)
        return put(repr(self), self._client, "publish", message)
