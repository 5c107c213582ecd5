"""``dynaflow dead-letters``: what was parked is listed, shown, and run again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from dynaflow.cli._exit import ExitCode, refuse
from dynaflow.cli._letter_lines import data_of, facts_of, lines_of, more_of
from dynaflow.cli._letters import (
    Address,
    Letter,
    Sink,
    check_ids,
    choose,
    open_letters,
    read_letters,
    short,
)
from dynaflow.cli._options import AppDirectory, AsJson, EndpointUrl, Region, Target
from dynaflow.cli._output import (
    logs_to_stderr,
    print_json,
    print_lines,
    print_table,
    prints_to_stderr,
    talk,
)
from dynaflow.cli._redrive import Redrive, Run, unknown_route
from dynaflow.cli._target import load_app
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.sources import DynamoDBSource
from dynaflow.values import harmless

__all__ = ["dead_letters"]

_LISTED = (
    *("id", "parked at", "route", "table", "event", "sequence number", "reason", "error"),
    *("attempts", "deliveries"),
)
_RUN = ("id", "route", "event", "sequence number", "outcome")

dead_letters = typer.Typer(no_args_is_help=True, add_completion=False)


@dead_letters.callback()
def _about() -> None:
    """List what was parked, show it, and run it again."""


@dead_letters.command("list")
def list_letters(address: Address, *, as_json: AsJson = False) -> None:
    """Print what is parked, oldest first, without what items hold."""
    letters, damaged = asyncio.run(_read(open_letters(address)))
    letters.sort(key=lambda letter: letter.letter.parked_at)
    if as_json:
        print_json([facts_of(letter) for letter in letters])
    elif letters:
        print_table(_LISTED, [_row(letter) for letter in letters])
    talk(f"{len(letters)} letters")
    if damaged:
        raise typer.Exit(ExitCode.RECORDS_FAILED)


@dead_letters.command("show")
def show(
    address: Address,
    letter_id: Annotated[
        str, typer.Argument(metavar="ID", help="The letter's id, or how it begins.")
    ],
    *,
    data: Annotated[
        bool, typer.Option("--data", help="Show the record and the error's message, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print all of a letter; what an item holds only with --data."""
    check_ids([letter_id])
    letters, _ = asyncio.run(_read(open_letters(address), partial(_begins, [letter_id])))
    chosen, is_whole = choose(letters, [letter_id])
    if not is_whole:
        raise typer.Exit(ExitCode.RECORDS_FAILED)
    (letter,) = chosen
    if as_json:
        print_json({**facts_of(letter), **more_of(letter), **(data_of(letter) if data else {})})
    else:
        print_lines(Text(line) for line in lines_of(letter, show_data=data))


@dead_letters.command("redrive")
def redrive(
    target: Target,
    address: Address,
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="Ids of letters, or how they begin."),
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Run all letters.")] = False,
    route: Annotated[
        str | None, typer.Option("--route", metavar="NAME", help="Run the letters of this route.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run, and run nothing.")
    ] = False,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
    app_directory: AppDirectory = Path(),
) -> None:
    """Run letters again, each for the route that it was parked for.

    An item's letters run in order. One that is done is removed; one that fails
    stays, and holds back the item's later ones. Exits with 1 if one stays.
    """
    wanted = _wanted(ids or (), route, every=every)
    sink = open_letters(address)
    with prints_to_stderr():
        app = load_app(target, app_directory)
    if route is not None and (problem := unknown_route(app, route)) is not None:
        refuse(f"--route: {problem}", ExitCode.USAGE)
    work = Redrive(app, sink, partial(DynamoDBSource, region=region, endpoint_url=endpoint_url))

    async def run() -> bool:
        async with read_letters(sink, wanted) as (letters, damaged):
            chosen, is_whole = choose(letters, ids) if ids else (letters, not damaged)
            if dry_run:
                work.plan(chosen)
            elif chosen:
                await work.run(chosen)
        return is_whole

    try:
        with prints_to_stderr(), logs_to_stderr():
            is_whole = asyncio.run(run())
    finally:
        _print_runs(work.runs)
    if not is_whole or not all(map(_is_fine, work.runs)):
        raise typer.Exit(ExitCode.RECORDS_FAILED)


async def _read(
    sink: Sink, wanted: Callable[[DeadLetterRecord], bool] = lambda letter: True
) -> tuple[list[Letter], int]:
    async with read_letters(sink, wanted) as found:
        return found


def _wanted(
    ids: Sequence[str], route: str | None, *, every: bool
) -> Callable[[DeadLetterRecord], bool]:
    """Return what chooses the letters to read; not exactly one way to choose is a usage error."""
    if [bool(ids), every, route is not None].count(True) != 1:
        refuse("say what to run: some ids, --route NAME, or --all", ExitCode.USAGE)
    check_ids(ids)
    if ids:
        return partial(_begins, ids)
    return lambda letter: every or letter.route == route


def _begins(ids: Sequence[str], letter: DeadLetterRecord) -> bool:
    return letter.id.startswith(tuple(text.lower() for text in ids))


def _print_runs(runs: Sequence[Run]) -> None:
    """Print what became of each letter, also if it ended early."""
    for run in runs:
        if run.problem is not None:
            talk(f"dynaflow: letter {short(run.letter.id)} is not run: {harmless(run.problem)}")
    ends = [_end(run) for run in runs]
    if runs:
        table = [(*_head(run.letter), end) for run, end in zip(runs, ends, strict=True)]
        print_table(_RUN, table)
    counts = Counter(end.partition(":")[0] for end in ends)
    told = ", ".join(f"{count} {end}" for end, count in counts.items())
    talk(f"{len(runs)} letters{': ' if told else ''}{told}")


def _end(run: Run) -> str:
    if run.problem is not None:
        return "not run"
    if run.result is None:
        return "would run" if run.letter.letter.has_images else "would run: read from the stream"
    for outcome in run.result.outcomes:
        if not outcome.is_done:
            kind = type(outcome.error).__name__
            return outcome.status.value + (f": {kind}" if outcome.error is not None else "")
    if run.result.failed is not None:
        return "not done"
    return "done" if run.result.outcomes else "done: no route takes it"


def _is_fine(run: Run) -> bool:
    return run.problem is None and (run.result is None or run.is_done)


def _head(letter: Letter) -> tuple[str, str, str, str]:
    facts = facts_of(letter)
    name, route = facts["eventName"] or "unreadable", facts["route"] or ""
    return short(letter.id), harmless(route), name, harmless(facts["sequenceNumber"])


def _row(letter: Letter) -> tuple[str, ...]:
    facts = facts_of(letter)
    number, route, name, sequence_number = _head(letter)
    return (
        number,
        facts["parkedAt"],
        route,
        harmless(facts["table"] or ""),
        name,
        sequence_number,
        facts["reason"],
        harmless(facts["errorType"]),
        str(facts["attempts"]),
        str(facts["deliveries"]),
    )
