"""Follows all shards of a stream, parents before children."""

from __future__ import annotations

import logging
import random as _random
import time
from collections.abc import Callable
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from dynaflow._needs import CheckedViews
from dynaflow.app import App
from dynaflow.checkpoints import CheckpointStore
from dynaflow.errors import ViewTypeMismatch
from dynaflow.poller.backoff import Backoff
from dynaflow.poller.discovery import Discovery, StartingPosition
from dynaflow.poller.pages import Pages
from dynaflow.poller.progress import Checkpoints, Progress
from dynaflow.poller.shard import Application, Finish, Options, ShardPoller, start_position
from dynaflow.poller.shutdown import Shutdown
from dynaflow.record import Record, Undecodable
from dynaflow.routing import Router
from dynaflow.source import Source

__all__ = ["Poller", "PollerResult"]

_log = logging.getLogger("dynaflow.poller")

# DescribeStream: 10 calls a second for everyone who reads streams in the account. After a change
# there may be another soon: listings come after 1, 2, 4, … seconds, up to the longest wait.
_LISTING_PAUSE = 1.0
_LONGEST_LISTING_WAIT = 60.0

_SAVE_EVERY = 5.0  # seconds, while a page's handlers run; after each page it is saved anyway


@dataclass(frozen=True, slots=True)
class PollerResult:
    """What a poller did.

    Args:
        records: how many records were done, those that no handler wanted included.
        not_done: the records that were given up (under once); they come again at the next run.
    """

    records: int = 0
    not_done: tuple[Record | Undecodable, ...] = ()


class Poller:
    """Reads a stream and runs its records through an App, until it is told to stop.

    Shards are followed side by side, each in order, a child after its parent. A record that fails
    comes again, after waits of up to a minute, until it is done or in a dead letter; its shard's
    checkpoint does not pass it, and nothing above its page is read. How often it came in vain is
    kept with the checkpoint. Other shards go on. Failed reads and saves are tried again in the same
    way.

    On asyncio only. A Poller runs once.

    Args:
        app: an App or a Router.
        source: what to read, such as an entered ``DynamoDBSource``.
        store: where checkpoints are kept.
        application: names this reader's checkpoints; two applications read independently.
        starting_position: where to start if the store has no checkpoint of this stream yet:
            TRIM_HORIZON for the oldest record that is kept (up to 24 hours), LATEST for what is
            written from now on.
        once: end when every shard is read up: it ended, or gave only empty pages for 5 seconds. A
            shard is given up after 3 deliveries of one lowest record that fails.
        grace: seconds that calls in flight have to end after ``stop``, before they are cancelled.
        shutdown: requests to stop from outside; see ``stop_on_signals``.
        random: returns a number from 0 to below 1, for the jitter of waits.
        wall_clock: returns seconds since the epoch.

    Raises:
        ValueError: an option that is none.
    """

    def __init__(
        self,
        app: Application | Router,
        source: Source,
        store: CheckpointStore,
        *,
        application: str = "default",
        starting_position: StartingPosition = "TRIM_HORIZON",
        once: bool = False,
        grace: float = 10.0,
        shutdown: Shutdown | None = None,
        random: Callable[[], float] = _random.random,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        if starting_position not in ("TRIM_HORIZON", "LATEST"):
            raise ValueError(
                f"starting_position={starting_position!r} is unknown: write 'TRIM_HORIZON' or "
                "'LATEST'"
            )
        if not application:
            raise ValueError("application= is empty: name whose checkpoints these are")
        self._app: Application = App(app) if isinstance(app, Router) else app
        self._starting_position: StartingPosition = starting_position
        self._once = once
        self._shutdown = shutdown or Shutdown()
        self._random = random
        self._wall_clock = wall_clock
        self._checkpoints = Checkpoints(store, application, source.stream_arn)
        views = CheckedViews(self._app.refuse_view_type)
        self._discovery = Discovery(
            source, self._checkpoints, views, shutdown=self._shutdown, random=random, once=once
        )
        self._options = Options(
            app=self._app,
            source=source,
            views=views,
            shutdown=self._shutdown,
            grace=grace,
            once=once,
            random=random,
            is_shared=lambda: len(self._running) > 1,
        )
        self._running: dict[str, ShardPoller] = {}
        self._started: set[str] = set()
        self._wake = anyio.Event()
        self._quiet_listings = 0
        self._records = 0
        self._not_done: list[Record | Undecodable] = []
        self._mismatch: ViewTypeMismatch | None = None

    def stop(self) -> None:
        """Request the end; ``run`` returns when what is in flight has ended and is saved.

        No page is read and no call started from now on. On the event loop only.
        """
        self._shutdown.request()

    async def run(self) -> PollerResult:
        """Follow the stream until ``stop`` is called, or under once until it is read up.

        Returns:
            What was done, and under once what was given up.

        Raises:
            StreamRefused: the stream is not there, or not for these credentials. Raised before
                anything is read; later on it is tried again, unless under once.
            ViewTypeMismatch: the stream leaves out an image that a route asks for. Raised before
                anything is read or saved; if it shows only later on, once what is in flight has
                ended and is saved.
            StoreRefused: the store cannot be trusted.
            Exception: what the App's lifespan raises, or ``App.process`` beside failed records.
        """
        await self._discovery.start(self._starting_position, self._wall_clock())
        if self._shutdown.is_requested:
            return PollerResult()
        with anyio.CancelScope() as starting:
            self._shutdown.attach(starting)
            try:
                async with self._app.lifespan():
                    self._shutdown.detach(starting)
                    await self._follow_all()
            finally:
                self._shutdown.detach(starting)
        return PollerResult(self._records, tuple(self._not_done))

    async def _follow_all(self) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                saving = anyio.CancelScope()
                tasks.start_soon(self._save_in_between, saving)
                await self._discover(tasks)
                saving.cancel()  # each shard saves its own when it stops
        except BaseExceptionGroup as group:
            raise _first_of(group) from None
        if self._mismatch is not None:
            raise self._mismatch

    async def _discover(self, tasks: TaskGroup) -> None:
        """Start shards as they may start, until a stop is requested, or all is read up."""
        while not self._shutdown.is_requested:
            self._start_shards(tasks)
            if self._once and not self._running and self._discovery.is_complete:
                return
            await self._wait_for_next_listing()
            try:
                if await self._discovery.list_again():
                    self._quiet_listings = 0
            except ViewTypeMismatch as error:
                self._end_for(error)

    def _end_for(self, error: ViewTypeMismatch) -> None:
        """Let what is in flight end in order, and raise this afterwards."""
        self._mismatch = error
        self._shutdown.request()

    async def _wait_for_next_listing(self) -> None:
        """Wait; a shard's end makes it short, but never shorter than the pause."""
        wait = min(_LONGEST_LISTING_WAIT, _LISTING_PAUSE * 2.0 ** min(self._quiet_listings, 10))
        self._quiet_listings += 1
        with self._shutdown.interruptible():
            await anyio.sleep(_LISTING_PAUSE)
            with anyio.move_on_after(wait - _LISTING_PAUSE):
                await self._wake.wait()
        self._wake = anyio.Event()

    def _start_shards(self, tasks: TaskGroup) -> None:
        for shard_id in self._discovery.startable(self._started):
            self._started.add(shard_id)
            self._running[shard_id] = self._make_shard_poller(shard_id)
            tasks.start_soon(self._run_shard, shard_id)

    def _make_shard_poller(self, shard_id: str) -> ShardPoller:
        row = self._discovery.row(shard_id)
        is_first_start = self._discovery.is_pinned_now(shard_id)
        pages = Pages(
            self._options.source,
            shard_id,
            start_position(row, is_first_start=is_first_start),
            shutdown=self._shutdown,
            backoff=Backoff(base=0.5, cap=10, random=self._random),
            is_listed_open=lambda: self._discovery.is_listed_open(shard_id),
            fail_when_refused=self._once,
        )
        progress = Progress(
            self._checkpoints,
            shard_id,
            row,
            shutdown=self._shutdown,
            backoff=Backoff(base=0.5, cap=10, random=self._random),
        )
        pinned_at = row.pinned_at if row is not None else None
        return ShardPoller(shard_id, pages, progress, self._options, pinned_at=pinned_at)

    async def _run_shard(self, shard_id: str) -> None:
        shard = self._running[shard_id]
        _log.info("shard %s: started", shard_id)
        try:
            finish = await shard.run()
        except ViewTypeMismatch as error:
            self._end_for(error)
            finish = Finish.STOPPED
        finally:
            del self._running[shard_id]
        _log.info("shard %s: %s, %d records", shard_id, finish.value, shard.records_done)
        self._records += shard.records_done
        self._not_done.extend(shard.not_done)
        if finish is Finish.ENDED:
            self._discovery.end(shard_id)
        self._quiet_listings = 0
        self._wake.set()

    async def _save_in_between(self, scope: anyio.CancelScope) -> None:
        """Save how far the running pages are done, so that a crash repeats little."""
        with scope:
            while True:
                await anyio.sleep(_SAVE_EVERY)
                for shard in tuple(self._running.values()):
                    await shard.progress.try_save()


def _first_of(error: BaseException) -> BaseException:
    """Return the first error in a group; a task group wraps even a single one."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
