"""The marks of one call: taken before it, renewed while it runs, completed or released after it.

Several marks, of a batch route's call, are taken all or none: who waits holds nothing, so two calls
never wait for each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dynaflow._marks import IdempotencyStore, Mark
from dynaflow._patience import SKEW, Patience, each
from dynaflow.change import PartialFailure, done_but_for
from dynaflow.errors import AlreadyDone, InProgress, Skip, StoreError
from dynaflow.middleware import Call, Process
from dynaflow.observe import logger
from dynaflow.record import Record

__all__ = ["Claim", "Terms"]

_CLEAN_UP = 5.0  # seconds for a release, at most
_SHARE = 0.4  # of the time left at a cancellation; after half of it the engine gives up on a call
_TRIES = 3  # of each change, once the mark is taken
_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Terms:
    """What all calls of one middleware have in common.

    Args:
        store: where marks are.
        expires_after: seconds for which a completed mark counts.
        in_progress_for: seconds for which one in progress counts where there is no deadline.
        clock: returns seconds since the epoch.
        chance: returns a random number from 0 to below 1.
        unwritten: the marks, by their keys, of what is done and the store has not taken yet.
    """

    store: IdempotencyStore
    expires_after: float
    in_progress_for: float
    clock: Callable[[], float]
    chance: Callable[[], float]
    unwritten: dict[str, Mark] = field(default_factory=dict)

    def keep(self, key: str, mark: Mark) -> None:
        """Remember that a key is done; the earliest of very many are forgotten."""
        self.unwritten[key] = mark
        while len(self.unwritten) > _REMEMBERED:
            self.unwritten.pop(next(iter(self.unwritten)), None)

    def forget(self, key: str, mark: Mark) -> None:
        """Leave it to the store, unless the key has been done once more."""
        if self.unwritten.get(key) is mark:
            del self.unwritten[key]


class Claim:
    """The marks of one call.

    Args:
        terms: how marks are kept.
        call: the call.
        records: its records by key; those with one key share a mark.
        token: this attempt's.
    """

    def __init__(
        self, terms: Terms, call: Call, records: Mapping[str, Sequence[Record]], token: str
    ) -> None:
        self._terms = terms
        self._call = call
        self._records = records
        self._token = token
        self._route = call.context.route
        self._runs = False
        self._done: dict[str, Mark] = {}  # what is to be completed
        self._asked_for: set[str] = set()  # and so perhaps taken, if there was no answer
        deadline = call.context.deadline
        self._deadline = None if deadline is None or deadline.at == math.inf else deadline

    async def take(self) -> None:
        """Take all marks; wait for those that are held.

        Raises:
            AlreadyDone: some are completed; nothing is taken.
            InProgress: some are held for longer than there is time; nothing is taken.
            StoreError: the store did not answer.
        """
        patience = Patience(self._deadline, clock=self._terms.clock, chance=self._terms.chance)
        while found := await self._try():
            await self._give_up()
            completed = [key for key, mark in found.items() if mark.is_completed]
            if completed:
                done = [record for key in completed for record in self._records[key]]
                some = len(completed) < len(self._records)
                raise AlreadyDone("its mark is completed", done if some else ())
            if not await patience.waited(found.values()):
                raise InProgress(
                    f"another delivery works on {self._call.record!r} ({self._route}), or on one "
                    "with the same key. It is not done here and comes again"
                )

    async def run(self, call_next: Process) -> None:
        """Make the call, then complete or release the marks.

        Raises:
            StoreError: the call is done, and its marks could not be completed.
            BaseException: the call's own.
        """
        self._runs = True
        try:
            if self._deadline is None:
                await self._call_and_renew(call_next)
            else:
                await call_next(self._call)
        except GeneratorExit:  # the coroutine is closed, and may await nothing
            raise
        except BaseException as error:
            done = self._done_despite(error)
            is_lost = self._call.still_runs  # nobody knows for how long, so marks run out
            await self._settle(done, () if is_lost else [k for k in self._records if k not in done])
            raise
        await self._settle(self._records, ())

    async def _try(self) -> dict[str, Mark]:
        """Take what can be taken; return the marks of what cannot."""
        try:
            begun = await each(self._begin, self._records)
        except GeneratorExit:
            raise
        except BaseException:
            await self._give_up()
            raise
        return {key: mark for key, mark in begun.items() if mark is not None}

    async def _give_up(self) -> None:
        left, self._asked_for = self._asked_for, set()
        await self._settle((), left)

    async def _begin(self, key: str) -> Mark | None:
        terms = self._terms
        earlier = terms.unwritten.get(key)
        if earlier is not None and await self._was_done(key, earlier):
            return earlier
        now = terms.clock()
        until = now + terms.in_progress_for
        if self._deadline is not None:
            until = now + self._deadline.remaining() + SKEW
        self._asked_for.add(key)
        mark = await terms.store.begin(key, self._token, now=now, until=until)
        if mark is not None:
            self._asked_for.discard(key)
        return mark

    async def _was_done(self, key: str, earlier: Mark) -> bool:
        """Write at last that this process has done a key; return False if that does not count."""
        terms, counts = self._terms, earlier.expires_at >= self._terms.clock()
        if counts:
            counts = await terms.store.complete(key, earlier.token, until=earlier.expires_at)
        terms.forget(key, earlier)
        return counts

    async def _call_and_renew(self, call_next: Process) -> None:
        import anyio

        error: BaseException | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_renewing)
            try:
                await call_next(self._call)
            except BaseException as raised:  # raised again, and not within a group of one
                error = raised
            tasks.cancel_scope.cancel()
        if error is not None:
            try:
                raise error
            finally:
                del error  # it holds this frame, which would hold it

    async def _keep_renewing(self) -> None:
        import anyio

        kept: Iterable[str] = self._records
        while kept:
            await anyio.sleep(self._terms.in_progress_for / 3)
            try:
                renewed = await each(self._renew, kept, tries=_TRIES)
            except Exception as error:
                self._warn_of("renewed", error)
                continue
            kept = [key for key, is_ours in renewed.items() if is_ours]
            if len(kept) < len(renewed):
                self._warn_of_zombie()

    async def _renew(self, key: str) -> bool:
        until = self._terms.clock() + self._terms.in_progress_for
        return await self._terms.store.renew(key, self._token, until=until)

    def _done_despite(self, error: BaseException) -> list[str]:
        """Return the keys of what is done although the call has raised."""
        done: set[int] = set()
        error = self._call.meaning_of(error)
        if isinstance(error, Skip):
            records = getattr(error, "records", ()) or self._call.records
            done = set(map(id, records))
        elif isinstance(error, PartialFailure):
            call, many = self._call, self._call.context.many
            given = () if many is None else many.given
            done = set(map(id, done_but_for(error, call.records, call.lanes, given)))
        keys = self._records.items()
        return [key for key, of_key in keys if all(id(record) in done for record in of_key)]

    async def _settle(self, done: Iterable[str], left: Iterable[str]) -> None:
        """Complete some marks and release others, also if the call is cancelled.

        Raises:
            StoreError: a mark could not be completed.
        """
        import anyio

        left = tuple(left)
        until = self._terms.clock() + self._terms.expires_after
        for key in done:
            self._done[key] = Mark(self._token, is_completed=True, expires_at=until)
            self._terms.keep(key, self._done[key])
        try:
            try:
                await self._complete_all()
            finally:
                await self._release_all(left)
        except anyio.get_cancelled_exc_class():
            # From here on it counts: the engine waits for half of what is left to the deadline.
            with anyio.move_on_after(self._time_for_clean_up(), shield=True):
                try:
                    await self._complete_all()
                except StoreError as error:
                    self._warn_of("completed", error)
                await self._release_all(left)
            raise

    async def _complete_all(self) -> None:
        try:
            completed = await each(self._complete, self._done, tries=_TRIES)
        except StoreError as error:
            raise StoreError(
                f"{self._route} has done its work for {self._call.record!r}, but the mark that "
                f"says so was not written: {error}. The record comes again, and may be handled "
                "again once the mark in progress has expired"
            ) from error
        if not all(completed.values()):
            self._warn_of_zombie()

    async def _complete(self, key: str) -> bool:
        mark = self._done[key]
        is_ours = await self._terms.store.complete(key, mark.token, until=mark.expires_at)
        self._terms.forget(key, mark)
        del self._done[key]
        return is_ours

    async def _release_all(self, keys: Sequence[str]) -> None:
        """Release marks; those that cannot be stay until they expire."""
        import anyio

        try:
            with anyio.move_on_after(self._time_for_clean_up()) as in_time:
                released = await each(self._release, keys, tries=_TRIES)
                if not all(released.values()):
                    self._warn_of_zombie()
            if in_time.cancelled_caught:
                raise StoreError("the store did not answer in time")
        except Exception as error:
            self._warn_of("released", error)

    async def _release(self, key: str) -> bool:
        return await self._terms.store.release(key, self._token)

    def _time_for_clean_up(self) -> float:
        if self._deadline is None:
            return _CLEAN_UP
        return min(_CLEAN_UP, max(0.0, _SHARE * self._deadline.remaining()))

    def _warn_of(self, what: str, error: Exception) -> None:
        logger.warning(
            "A mark of %s could not be %s; it stays until it expires: %s", self._route, what, error
        )

    def _warn_of_zombie(self) -> None:
        if not self._runs:
            return
        logger.warning(
            "The mark of %s expired while it ran, and another delivery has taken it over: both may "
            "have done their work",
            self._route,
        )
