"""``dynaflow demo``: the whole way, from a write to a handler, on an embedded DynamoDB."""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated

import typer

from dynaflow.cli._exit import ExitCode
from dynaflow.cli._output import data_console, logs_to_stderr, talk
from dynaflow.demo.emulator import emulator
from dynaflow.demo.run import play

__all__ = ["demo"]


def demo(
    *,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a change before it counts as lost.")
    ] = 15.0,
) -> None:
    """Run a small shop on an embedded DynamoDB; nothing leaves this machine.

    Every write must reach a handler, in order per item; one handler fails once
    and is called again. Exits with 1 if a write was lost or out of order.
    """
    talk("starting an embedded DynamoDB with a table and a stream ...")
    # Failed calls have their line in the table; what the poller cannot mend is worth another.
    with emulator() as url, logs_to_stderr("dynaflow.poller", logging.ERROR):
        verdict = asyncio.run(play(url, data_console(), patience=patience))
    if not verdict.is_ok:
        raise typer.Exit(ExitCode.RECORDS_FAILED)
    talk("Its handlers are in dynaflow.demo.shop; see: dynaflow routes dynaflow.demo.shop:app")
