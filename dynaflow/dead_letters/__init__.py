"""Where dead letters are kept. Any callable that takes a ``DeadLetterRecord`` is one, too."""

from __future__ import annotations

from urllib.parse import urlsplit

from dynaflow.dead_letters._kept import Kept
from dynaflow.dead_letters.jsonl import JsonLines
from dynaflow.dead_letters.s3 import S3
from dynaflow.dead_letters.sns import SNS
from dynaflow.dead_letters.sqs import SQS

__all__ = ["S3", "SNS", "SQS", "JsonLines", "Kept", "open_dead_letters"]


def open_dead_letters(address: str) -> JsonLines | SQS | S3:
    """Return the sink that an address names, to read dead letters back.

    Args:
        address: ``PATH.jsonl`` or ``file:PATH``; a queue's URL, ``https://sqs...``, or
            ``sqs:URL`` for one at another host; ``s3://BUCKET`` or ``s3://BUCKET/FOLDER``.

    Raises:
        ValueError: it is none of these; the message says what is.
    """
    kind, _, rest = address.partition(":")
    try:
        if kind == "file" and (path := rest.removeprefix("//")):
            return JsonLines(path)
        if kind == "s3" and rest.startswith("//"):
            bucket, _, prefix = rest.removeprefix("//").partition("/")
            return S3(bucket, prefix) if prefix else S3(bucket)
        if kind == "sqs":
            return SQS(rest)
        if kind in ("https", "http") and _is_sqs(address):
            return SQS(address)
    except ValueError:
        pass  # the message below says more
    if address.endswith(".jsonl") and "://" not in address:
        return JsonLines(address)
    raise ValueError(
        f"{address!r} names no place of dead letters. Write 'letters.jsonl', 'file:PATH', "
        "'https://sqs.REGION.amazonaws.com/ACCOUNT/QUEUE', 'sqs:URL' or 's3://BUCKET/FOLDER'."
    )


def _is_sqs(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host.startswith("sqs.") or ".queue.amazonaws." in host
