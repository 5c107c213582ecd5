"""Where checkpoints are kept, marks of what is done, and what was committed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

# Loaded when they are asked for: a function that commits transactions needs neither SQLite nor the
# library for event loops that it wants.
_HOMES = {
    "DynamoDBMarks": "idempotency_dynamodb",
    "MemoryMarks": "idempotency_memory",
    "MemoryStore": "memory",
    "SqliteMarks": "idempotency_sqlite",
    "SqliteStore": "sqlite",
    "Transactions": "transactions",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def open_store(url: str) -> MemoryStore | SqliteStore:
    """Return the checkpoint store that a URL names. Use it with ``async with``.

    Args:
        url: ``memory``, ``sqlite:///file`` (relative) or ``sqlite:////absolute/file``.

    Raises:
        ValueError: it is none of these; the message says what is.
    """
    from dynaflow.stores.memory import MemoryStore
    from dynaflow.stores.sqlite import SqliteStore

    if url == "memory":
        return MemoryStore()
    path = url.removeprefix("sqlite:///")
    if path == url or not path or path == ":memory:" or "?" in path:
        raise ValueError(
            f"{url!r} names no checkpoint store. Write 'memory', 'sqlite:///file.db' or "
            "'sqlite:////absolute/file.db'."
        )
    return SqliteStore(path)
