"""``dynaflow run``: read a table's stream, outside of Lambda."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from dynaflow.cli._exit import ExitCode, refuse
from dynaflow.cli._options import AppDirectory, EndpointUrl, Region, Target
from dynaflow.cli._output import logs_to_stderr, talk
from dynaflow.cli._reload import end_with_parent, run_again_and_again
from dynaflow.cli._target import load_app
from dynaflow.poller import Poller, PollerResult, Shutdown, stop_on_signals
from dynaflow.sources import DynamoDBSource
from dynaflow.stores import MemoryStore, SqliteStore, open_store

__all__ = ["Start", "poll", "run"]

Store: TypeAlias = MemoryStore | SqliteStore

_STORE = "sqlite:///dynaflow.sqlite"


class Start(StrEnum):
    """Where to start reading a stream of which the store has no checkpoint."""

    TRIM_HORIZON = "trim-horizon"
    LATEST = "latest"


def run(
    target: Target,
    *,
    table: Annotated[str, typer.Option(help="The table's name or ARN, or its stream's ARN.")],
    start: Annotated[
        Start,
        typer.Option(
            "--from",
            help="Where to start without a checkpoint: at the oldest record that is kept (24 "
            "hours), or at what is written from now on.",
        ),
    ] = Start.TRIM_HORIZON,
    store: Annotated[
        str, typer.Option(help="Where checkpoints are kept: sqlite:///FILE or memory.")
    ] = _STORE,
    once: Annotated[
        bool,
        typer.Option(
            "--once",
            help="End when the stream is read up; exit with 1 if a record failed three times.",
        ),
    ] = False,
    application: Annotated[
        str, typer.Option(help="Whose checkpoints these are; others read independently.")
    ] = "default",
    grace: Annotated[
        float, typer.Option(min=0, help="Seconds that calls in flight have to end at a stop.")
    ] = 10.0,
    reload: Annotated[
        bool,
        typer.Option(
            "--reload", help="Start again whenever a Python file in the app's directory changes."
        ),
    ] = False,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    app_directory: AppDirectory = Path(),
) -> None:
    """Read a table's stream and run its records through an App.

    SIGTERM and Ctrl-C end it in order: calls in flight may finish, and the
    checkpoint is saved. A second one ends it at once.
    """
    if not application:
        refuse("--application is empty: name whose checkpoints these are", ExitCode.USAGE)
    if reload and once:
        refuse(
            "--once ends by itself, and --reload does not: leave one of them out", ExitCode.USAGE
        )
    checkpoints = _open_store(store)
    if reload:
        arguments = [argument for argument in sys.argv[1:] if argument != "--reload"]
        raise typer.Exit(run_again_and_again(arguments, app_directory, grace=grace))
    end_with_parent(grace)
    app = load_app(target, app_directory)
    source = DynamoDBSource(table, region=region, endpoint_url=endpoint_url)
    talk(f"reading {table} from {start}; checkpoints of application {application!r}: {store}")

    def make_poller(shutdown: Shutdown) -> Poller:
        return Poller(
            app,
            source,
            checkpoints,
            application=application,
            starting_position="LATEST" if start is Start.LATEST else "TRIM_HORIZON",
            once=once,
            grace=grace,
            shutdown=shutdown,
        )

    with logs_to_stderr():
        result = asyncio.run(poll(source, checkpoints, make_poller))
    talk(f"{result.records} records done, {len(result.not_done)} given up")
    if result.not_done:
        raise typer.Exit(ExitCode.RECORDS_FAILED)


async def poll(
    source: DynamoDBSource, store: Store, make_poller: Callable[[Shutdown], Poller]
) -> PollerResult:
    """Run a poller until a signal ends it; the first one may come while AWS is still asked."""
    with stop_on_signals() as shutdown:
        async with AsyncExitStack() as stack:
            with shutdown.interruptible():
                await stack.enter_async_context(store)
                await stack.enter_async_context(source)
            if shutdown.is_requested:
                return PollerResult()
            return await make_poller(shutdown).run()


def _open_store(url: str) -> Store:
    try:
        return open_store(url)
    except ValueError as error:
        refuse(f"--store {error}", ExitCode.USAGE)
