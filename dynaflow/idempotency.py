"""Once per key, across processes: a middleware that marks in a store what is in progress and done.

A mark makes repeats rare. It cannot rule them out: a process may end between a handler's effect and
the mark that says so.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar

from dynaflow._claim import Claim, Terms
from dynaflow._mark_keys import Key, MarkKeys
from dynaflow._marks import IdempotencyStore, Mark
from dynaflow._paths import PathRef
from dynaflow.errors import RegistrationError
from dynaflow.middleware import Call, Process
from dynaflow.permissions import Permission, TableNeeds, permissions_of
from dynaflow.record import Record

__all__ = ["Idempotent", "IdempotencyStore", "Mark"]

# What the calls around the present one have taken: a second layer must not wait for the first.
_taken: ContextVar[frozenset[tuple[int, str]]] = ContextVar("dynaflow_taken", default=frozenset())


class Idempotent:
    """Middleware that lets a route handle each record, or each key, once, across processes.

    What a completed mark stands for is not called: its record is done, with the status
    ``REPEATED``. What another process works on is waited for, up to the deadline or until its mark
    expires; if that is too long the record is not done, and comes again. A call that fails, or is
    cancelled, releases its mark.

    Args:
        store: where marks are, such as ``DynamoDBMarks("idempotency")`` of ``dynaflow.stores``.
        key: which records are the same to their route: a path such as ``F.new.order_id``, or a
            function of the record that returns str, int, Decimal, bytes, or a tuple of these. By
            default each change is like no other, by ``Record.identity``. The route's name is always
            a part of it.
        expires_after: seconds for which a completed mark counts.
        in_progress_for: seconds for which a mark in progress counts where there is no deadline; it
            is renewed while the call runs. Where there is one, it counts until then.
        application: keeps applications apart that share a store and names of routes.
        clock: returns seconds since the epoch.
        chance: returns a random number from 0 to below 1.
        new_token: returns a text that no other call returns, anywhere.

    Raises:
        RegistrationError: a key, a store or a number that cannot work.
    """

    def __init__(
        self,
        store: IdempotencyStore,
        *,
        key: Key | None = None,
        expires_after: float = 86_400,
        in_progress_for: float = 60,
        application: str = "",
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
        new_token: Callable[[], str] = lambda: os.urandom(16).hex(),
    ) -> None:
        if not callable(getattr(store, "begin", None)):
            raise RegistrationError(
                f"Idempotent(...) takes a store of marks, got {type(store).__name__}: write "
                "MemoryMarks(), SqliteMarks(path) or DynamoDBMarks(table), from dynaflow.stores"
            )
        for name, seconds in (
            ("expires_after", expires_after),
            ("in_progress_for", in_progress_for),
        ):
            if not isinstance(seconds, (int, float)) or not 0 < seconds < 10**10:
                raise RegistrationError(f"Idempotent({name}=...) is a number of seconds above 0")
        self._keys = MarkKeys(key, application)
        self._new_token = new_token
        self._terms = Terms(
            store=store,
            expires_after=expires_after,
            in_progress_for=in_progress_for,
            clock=clock,
            chance=chance,
        )

    def __repr__(self) -> str:
        return f"Idempotent(key={self._keys.path!r})" if self._keys.path else "Idempotent()"

    def image_paths(self) -> tuple[PathRef, ...]:
        """Return the path of the key, if that is one: what is read of every record."""
        return () if self._keys.path is None else (self._keys.path,)

    def permissions(self) -> tuple[Permission, ...]:
        """Return what its store needs."""
        return permissions_of(self._terms.store)

    def table_needs(self) -> tuple[TableNeeds, ...]:
        """Return how the table of marks has to be made, where the store has one."""
        ask: Callable[[], tuple[TableNeeds, ...]] = getattr(self._terms.store, "table_needs", tuple)
        return ask()

    @property
    def in_progress_for(self) -> float:
        """Seconds for which a mark in progress counts where there is no deadline."""
        return self._terms.in_progress_for

    async def __call__(self, call: Call, call_next: Process) -> None:
        """Make the call, unless an earlier one has done its work."""
        around, store = _taken.get(), id(self._terms.store)
        records = {
            key: of_key for key, of_key in self._by_key(call).items() if (store, key) not in around
        }
        if not records:
            await call_next(call)
            return
        claim = Claim(self._terms, call, records, self._new_token())
        await claim.take()
        before = _taken.set(around.union((store, key) for key in records))
        try:
            await claim.run(call_next)
        finally:
            with suppress(ValueError):  # closed from elsewhere, where the variable is another one
                _taken.reset(before)

    def _by_key(self, call: Call) -> dict[str, list[Record]]:
        by_key: dict[str, list[Record]] = {}
        for record in call.records:
            by_key.setdefault(self._keys.of(record, call.context.route), []).append(record)
        return by_key
