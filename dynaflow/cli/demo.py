"""``dynaflow demo``: the whole way, from a write to a handler, on an embedded DynamoDB."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from dynaflow.cli._exit import ExitCode, refuse
from dynaflow.cli._output import data_console, logs_to_stderr, print_table, talk
from dynaflow.demo.examples import EXAMPLES, describe, load_demo
from dynaflow.demo.stage import Stage, open_stage

__all__ = ["demo"]


def demo(
    name: Annotated[
        str | None, typer.Argument(help="An example; see --list. By default the small shop.")
    ] = None,
    *,
    show_list: Annotated[
        bool, typer.Option("--list", help="List the examples, and play none.")
    ] = False,
    patience: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for a change before it counts as lost.")
    ] = 15.0,
) -> None:
    """Play a small shop, or an example, on an embedded AWS; nothing leaves this machine.

    In the shop every write must reach a handler, in order per item; one handler
    fails once and is called again. Exits with 1 if a write was lost or out of
    order, or if an example's own check fails.
    """
    if show_list:
        print_table(("example", "shows"), [(each, describe(each)) for each in EXAMPLES])
        return
    if name is None:
        from dynaflow.demo import run as shop

        _show(shop.play, patience)
        talk("Its handlers are in dynaflow.demo.shop; see: dynaflow routes dynaflow.demo.shop:app")
        return
    if name not in EXAMPLES:
        refuse(f"there is no example {name!r}; there are: {', '.join(EXAMPLES)}", ExitCode.USAGE)
    _show(lambda stage: load_demo(name).play(stage), patience)
    talk(f"Its app is {EXAMPLES[name] / 'app.py'}")


def _show(play: Callable[[Stage], Awaitable[bool]], patience: float) -> None:
    """Play on a stage; end the process with 1 if it fails its own check."""

    async def on_stage() -> bool:
        async with open_stage(data_console(), patience=patience) as stage:
            return await play(stage)

    talk("starting an embedded AWS on this machine ...")
    # Failed calls are part of the show; what the poller cannot mend is worth a line.
    with logs_to_stderr("dynaflow.poller", logging.ERROR):
        is_ok = asyncio.run(on_stage())
    if not is_ok:
        raise typer.Exit(ExitCode.RECORDS_FAILED)
