"""Where checkpoints are kept, marks of what is done, and what was committed."""

from __future__ import annotations

from dynaflow.stores.idempotency_dynamodb import DynamoDBMarks
from dynaflow.stores.idempotency_memory import MemoryMarks
from dynaflow.stores.idempotency_sqlite import SqliteMarks
from dynaflow.stores.memory import MemoryStore
from dynaflow.stores.sqlite import SqliteStore
from dynaflow.stores.transactions import Transactions

__all__ = [
    "DynamoDBMarks",
    "MemoryMarks",
    "MemoryStore",
    "SqliteMarks",
    "SqliteStore",
    "Transactions",
    "open_store",
]


def open_store(url: str) -> MemoryStore | SqliteStore:
    """Return the checkpoint store that a URL names. Use it with ``async with``.

    Args:
        url: ``memory``, ``sqlite:///file`` (relative) or ``sqlite:////absolute/file``.

    Raises:
        ValueError: it is none of these; the message says what is.
    """
    if url == "memory":
        return MemoryStore()
    path = url.removeprefix("sqlite:///")
    if path == url or not path or path == ":memory:" or "?" in path:
        raise ValueError(
            f"{url!r} names no checkpoint store. Write 'memory', 'sqlite:///file.db' or "
            "'sqlite:////absolute/file.db'."
        )
    return SqliteStore(path)
