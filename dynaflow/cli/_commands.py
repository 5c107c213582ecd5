"""The commands, put together."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import dynaflow
from dynaflow.cli._exit import exit_codes
from dynaflow.cli.dead_letters import dead_letters
from dynaflow.cli.demo import demo
from dynaflow.cli.deploy_config import deploy_config
from dynaflow.cli.doctor import doctor
from dynaflow.cli.explain import explain
from dynaflow.cli.filters import filters
from dynaflow.cli.invoke import invoke
from dynaflow.cli.package import package
from dynaflow.cli.recover import recover
from dynaflow.cli.routes import routes
from dynaflow.cli.run import run
from dynaflow.cli.tail import tail
from dynaflow.cli.trigger import trigger

__all__ = ["commands"]


class _Group(TyperGroup):
    """Runs commands so that every one of them ends with the same exit codes."""

    def invoke(self, ctx: Any) -> Any:
        with exit_codes():
            return super().invoke(ctx)


commands = typer.Typer(
    name="dynaflow",
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_ALONE = (demo, run, routes, filters, package, doctor, invoke, explain, tail, trigger, recover)
for _command in _ALONE:
    commands.command()(_command)
commands.command("deploy-config")(deploy_config)
commands.add_typer(dead_letters, name="dead-letters")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dynaflow {dynaflow.__version__}")
        raise typer.Exit


@commands.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Async handlers for DynamoDB Streams."""
