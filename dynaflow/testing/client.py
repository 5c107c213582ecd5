"""Sends changes of a table to an App, in memory, on the way that real ones take.

Records are made in wire form, go through JSON, are decoded, routed and run as in production;
nothing is replaced. ``with`` gives plain methods, ``async with`` the same to be awaited.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from anyio.lowlevel import current_token

from dynaflow._host import Host
from dynaflow._needs import CheckedViews
from dynaflow._route import tables_of
from dynaflow.app import App, as_app
from dynaflow.batch import Batch, BatchResult, Deadline
from dynaflow.codec import decode_event
from dynaflow.engine.memory import Memory
from dynaflow.errors import DynaflowError, EventError
from dynaflow.retry import without_waits
from dynaflow.routing import Router
from dynaflow.testing.records import RecordBuilder
from dynaflow.values import json_default

__all__ = ["AsyncStream", "Event", "Stream", "TestClient"]

Event: TypeAlias = str | bytes | Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""A whole event, as JSON text or parsed; raw records; or one raw record."""


class TestClient:
    """Runs an App, or a bare Router, on changes that a test makes up.

    ``with TestClient(app) as stream:`` gives a ``Stream``, for tests that are plain functions. It
    keeps an event loop of its own, as in Lambda. ``async with TestClient(app) as stream:`` gives an
    ``AsyncStream``, which runs on the test's own loop, asyncio's or trio's. Both open the App's
    lifespan on entry and close it on exit; the lifespan does not see what the test raises.

    Args:
        app: what to run.
        keys: the names of the table's key attributes, one or two.
        table: the table's name; None takes the one that the routes name if they name one only,
            else "table".
        view_type: KEYS_ONLY, NEW_IMAGE, OLD_IMAGE or NEW_AND_OLD_IMAGES.
        timeout: seconds until the deadline of each batch; None for no deadline.
        overrides: what is called in place of dependencies while the client is open, by the function
            that ``Depends`` names.
        waits: whether the waits between attempts take their time; see ``without_waits``.

    Raises:
        RegistrationError: an override of something that is no dependency of the App.
        TypeError: ``app`` is neither an App nor a Router, or ``keys`` is a single text.
        ValueError: no or too many key names, or an unknown view type.
    """

    __test__ = False  # pytest collects classes that are named Test...

    def __init__(
        self,
        app: App | Router,
        *,
        keys: Iterable[str] = ("id",),
        table: str | None = None,
        view_type: str = "NEW_AND_OLD_IMAGES",
        timeout: float | None = None,
        overrides: Mapping[Callable[..., Any], Callable[..., Any]] | None = None,
        waits: bool = False,
    ) -> None:
        if not isinstance(app, (App, Router)):
            raise TypeError(f"TestClient takes an App or a Router, got {type(app).__name__}")
        self._app = as_app(app)
        self._timeout = timeout
        self._waits = waits
        self._overrides = overrides or {}
        self._app.overrides(self._overrides)  # refuses what it cannot do; enters nothing
        self._records = RecordBuilder(
            keys, table=table or _only_table(self._app), view_type=view_type
        )
        self._batches: _Batches | None = None
        self._opened: ExitStack | None = None
        self._opened_async: AsyncExitStack | None = None

    def __enter__(self) -> Stream:
        _refuse_in_event_loop()
        batches = self._new_batches()
        with ExitStack() as stack:
            stack.enter_context(self._app.overrides(self._overrides))
            host = Host(self._app, memory=batches.memory)
            stack.callback(host.close)
            host.open()
            self._opened, self._batches = stack.pop_all(), batches
        return Stream(batches, host)

    def __exit__(self, *error: object) -> None:
        self._close_batches()
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    async def __aenter__(self) -> AsyncStream:
        batches = self._new_batches()
        async with AsyncExitStack() as stack:
            stack.enter_context(self._app.overrides(self._overrides))
            await stack.enter_async_context(self._app.lifespan())
            self._opened_async, self._batches = stack.pop_all(), batches
        return AsyncStream(batches, self._app)

    async def __aexit__(self, *error: object) -> None:
        self._close_batches()
        opened, self._opened_async = self._opened_async, None
        if opened is not None:
            # Without the error: a lifespan that catches errors must not make a failed test pass.
            await opened.aclose()

    def _new_batches(self) -> _Batches:
        if self._batches is not None:
            raise DynaflowError("this TestClient is open already: make another one")
        return _Batches(self._records, self._timeout, waits=self._waits)

    def _close_batches(self) -> None:
        if self._batches is not None:
            self._batches.is_open = False
        self._batches = None

    if not TYPE_CHECKING:  # type checkers tell by themselves that nothing is sent to the client

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(
                f"TestClient has no {name!r}. Write 'with TestClient(app) as stream:', or 'async "
                "with', and send records to the stream: stream.insert(...)."
            )


class Stream:
    """A table's stream, as plain functions write to it; from ``with TestClient(app)``."""

    def __init__(self, batches: _Batches, host: Host) -> None:
        self._batches = batches
        self._host = host

    @property
    def records(self) -> RecordBuilder:
        """Makes raw records of this table, for batches of several; see ``send``."""
        return self._batches.records

    def insert(self, new: Mapping[str, Any]) -> BatchResult:
        """Send the record of a new item.

        Args:
            new: the item, attribute names to Python values: no floats, as in boto3's resources.

        Raises:
            TypeError: a value that DynamoDB does not have.
            ValueError: a key attribute is missing or cannot be a key.
        """
        return self.send(self.records.insert(new))

    def modify(self, *, old: Mapping[str, Any], new: Mapping[str, Any]) -> BatchResult:
        """Send the record of an item that was ``old`` and now is ``new``, both of them whole.

        Raises:
            TypeError, ValueError: as for ``insert``; ValueError also if their keys differ.
        """
        return self.send(self.records.modify(old, new))

    def remove(self, old: Mapping[str, Any]) -> BatchResult:
        """Send the record of a delete, not by Time to Live. Raises what ``insert`` does."""
        return self.send(self.records.remove(old))

    def expire(self, old: Mapping[str, Any]) -> BatchResult:
        """Send the record of a delete by Time to Live. Raises what ``insert`` does."""
        return self.send(self.records.expire(old))

    def send(self, event: Event) -> BatchResult:
        """Send a whole event, such as one copied from CloudWatch, or raw records, as one batch.

        Args:
            event: JSON text, a mapping with ``Records``, a list of raw records, or one of them.
                What it says of table and stream is kept. Records of this table come from
                ``records``: ``stream.send([stream.records.insert(...), ...])``.

        Returns:
            What became of the records. That a handler failed is not raised.

        Raises:
            EventError: it is not JSON, or no event of DynamoDB Streams.
            ViewTypeMismatch: the stream leaves out an image that a route asks for; see
                ``App.refuse_view_type``.
            DynaflowError: the client is closed.
            KeyboardInterrupt, MemoryError: a handler's.
        """
        batch = self._batches.make(event)
        with self._batches.waiting():
            return self._host.process(batch)


class AsyncStream:
    """A table's stream, as async functions write to it; from ``async with TestClient(app)``."""

    def __init__(self, batches: _Batches, app: App) -> None:
        self._batches = batches
        self._app = app
        self._views = CheckedViews(app.refuse_view_type)

    @property
    def records(self) -> RecordBuilder:
        """Makes raw records of this table, for batches of several; see ``send``."""
        return self._batches.records

    async def insert(self, new: Mapping[str, Any]) -> BatchResult:
        """Send the record of a new item; see ``Stream.insert``."""
        return await self.send(self.records.insert(new))

    async def modify(self, *, old: Mapping[str, Any], new: Mapping[str, Any]) -> BatchResult:
        """Send the record of a changed item; see ``Stream.modify``."""
        return await self.send(self.records.modify(old, new))

    async def remove(self, old: Mapping[str, Any]) -> BatchResult:
        """Send the record of a delete, not by Time to Live; see ``Stream.remove``."""
        return await self.send(self.records.remove(old))

    async def expire(self, old: Mapping[str, Any]) -> BatchResult:
        """Send the record of a delete by Time to Live; see ``Stream.expire``."""
        return await self.send(self.records.expire(old))

    async def send(self, event: Event) -> BatchResult:
        """Send a whole event or raw records as one batch; see ``Stream.send``."""
        batch = self._batches.make(event)
        self._views.check_records(batch.records)
        with self._batches.waiting():
            return await self._app.process(batch, memory=self._batches.memory)


class _Batches:
    """Makes batches of what is sent, for as long as the client is open."""

    def __init__(self, records: RecordBuilder, timeout: float | None, *, waits: bool) -> None:
        self.records = records
        self.memory = Memory()  # of this client only: others may send records with the same ids
        self.is_open = True
        self._timeout = timeout
        self._waits = waits

    def waiting(self) -> AbstractContextManager[None]:
        return nullcontext() if self._waits else without_waits()

    def make(self, event: Event) -> Batch:
        if not self.is_open:
            raise DynaflowError(
                "this TestClient is closed, and its App's lifespan with it: send records within "
                "its 'with' block"
            )
        records, source_arn = decode_event(_received(event))
        deadline = None if self._timeout is None else Deadline.after(self._timeout)
        return Batch(records, source_arn, deadline)


def _received(event: Event) -> Any:
    """Return what a function is given for this event: what JSON can carry, and nothing else."""
    text = event if isinstance(event, (str, bytes)) else json.dumps(event, default=json_default)
    try:
        received = json.loads(text)
    except ValueError:  # it would quote the event
        raise EventError(
            "the text is not JSON: copy the whole event, from its first brace to its last"
        ) from None
    is_record = isinstance(received, dict) and "dynamodb" in received
    return [received] if is_record else received


def _only_table(app: App) -> str:
    tables = tables_of(app.routes)
    return tables[0] if len(tables) == 1 else "table"


def _refuse_in_event_loop() -> None:
    try:
        current_token()
    except RuntimeError:
        return
    raise DynaflowError(
        "an event loop is running here, which 'with TestClient(app)' would block. "
        "Write 'async with TestClient(app) as stream:' and await its methods."
    )
