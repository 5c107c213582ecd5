"""Marks of what is in progress and what is done, and what a store of them promises. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

__all__ = ["IdempotencyStore", "Mark"]


@dataclass(frozen=True, slots=True)
class Mark:
    """What a store says of a key that is taken.

    Args:
        token: whose it is: each attempt has another one. Empty if the store does not say.
        is_completed: True if it is done, False if somebody works on it.
        expires_at: until when this counts, in seconds since the epoch.
    """

    token: str
    is_completed: bool
    expires_at: float

    def keeps_out(self, token: str, now: float) -> bool:
        """Return True if its key cannot be taken with this token."""
        return self.expires_at >= now and (self.is_completed or self.token != token)


class IdempotencyStore(Protocol):
    """Keeps one mark for each key: in progress or completed, whose, and until when.

    Times are seconds since the epoch, on the caller's clock; a store asks no clock. Several tasks,
    and processes, may call at once.

    Contract, for every implementation (tests/contracts/test_idempotency_store.py):

    * Of any number of ``begin`` for one key, as many take it as there were expired or released
      marks: never two at a time.
    * A method returns after its change is durable, as far as the medium can be, or raises. Whether
      a change was made that raised is not known; it may be made again with the same token, which
      has the same answer.
    * A change is made only by the token that the mark has, or where there is no mark.
    * An expired mark is as good as none. It may be removed at any time.

    Raises:
        StoreError: the store did not answer, or refused; the call may be made again.
        StoreRefused: it cannot be trusted, or is not one that holds marks.
    """

    async def begin(self, key: str, token: str, *, now: float, until: float) -> Mark | None:
        """Take a key that has no mark, or an expired one, or one in progress with this token.

        Args:
            key: up to 300 characters.
            token: whose it is from now on.
            now: what time it is.
            until: when the mark expires.

        Returns:
            None if the key is taken now; else the mark that stands in the way.
        """
        ...

    async def renew(self, key: str, token: str, *, until: float) -> bool:
        """Move the end of a mark in progress; return False if there is none with this token."""
        ...

    async def complete(self, key: str, token: str, *, until: float) -> bool:
        """Enter that the key is done, until then, also if there is no mark any more.

        Returns:
            False if the mark is another token's; nothing is changed then.
        """
        ...

    async def release(self, key: str, token: str) -> bool:
        """Remove a mark in progress, so that the key can be taken.

        Returns:
            False if there is a mark that is another token's, or completed; nothing is changed then.
        """
        ...
