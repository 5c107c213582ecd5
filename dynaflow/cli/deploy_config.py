"""``dynaflow deploy-config``: what brings an App to Lambda, for the tool that deploys it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from dynaflow._compile import edits
from dynaflow.cli._exit import ExitCode, refuse
from dynaflow.cli._mapping import read_mapping
from dynaflow.cli._options import (
    AppDirectory,
    AsJson,
    MaxPatterns,
    Region,
    Target,
    ViewType,
)
from dynaflow.cli._output import print_json, print_table, prints_to_stderr, talk
from dynaflow.cli._target import load_app
from dynaflow.deploy import cdk, neutral, sam, terraform
from dynaflow.deploy._draft import draft_of
from dynaflow.deploy.choices import NEWEST, Choices
from dynaflow.deploy.deployment import Deployment
from dynaflow.deploy.drift import Difference, differences
from dynaflow.deploy.from_app import deployment_of, pushdown_of
from dynaflow.deploy.live import LiveMapping
from dynaflow.deploy.packing.code import handlers_in
from dynaflow.errors import DynaflowError
from dynaflow.pushdown import MOST_PATTERNS, Pushdown
from dynaflow.routing import Router

__all__ = ["deploy_config"]

_FORMATS: Final[dict[str, Callable[[Deployment], str]]] = {
    "sam": sam.render,
    "cdk": cdk.render,
    "terraform": terraform.render,
    "json": neutral.render,
}
_DEFAULT: Final = Choices(table="", handler="")
_RUNTIME: Final = f"python3.{min(sys.version_info.minor, NEWEST)}"  # what `package` packs for, too
_COLUMNS: Final = ("setting", "wanted", "live", "what follows")


def deploy_config(
    target: Target,
    *,
    table: Annotated[str, typer.Option(help="The table whose stream the function reads.")],
    format_: Annotated[
        str | None, typer.Option("--format", help="What to print: sam, cdk, terraform or json.")
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(
            "--check",
            metavar="UUID",
            help="Compare with this live event source mapping; exit with 5 if it differs.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="A file to write, instead of stdout.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The function's name; by default TABLE-stream.")
    ] = None,
    handler: Annotated[
        str | None,
        typer.Option(help="What Lambda calls; by default lambda_handler of the app's module."),
    ] = None,
    code: Annotated[
        str, typer.Option(help="Where the code is: a zip file or a folder.")
    ] = _DEFAULT.code,
    stream_arn: Annotated[
        str | None,
        typer.Option(help="The table's stream; without it, it is a parameter of the template."),
    ] = None,
    view_type: ViewType = None,
    max_patterns: MaxPatterns = MOST_PATTERNS,
    runtime: Annotated[str, typer.Option(help="Python in Lambda.")] = _RUNTIME,
    architecture: Annotated[
        Literal["arm64", "x86_64"], typer.Option(help="The processor.")
    ] = _DEFAULT.architecture,
    memory: Annotated[int, typer.Option(help="MB; sets the share of a CPU, too.")] = (
        _DEFAULT.memory
    ),
    timeout: Annotated[int, typer.Option(help="Seconds of one batch.")] = _DEFAULT.timeout,
    batch_size: Annotated[int, typer.Option(help="Records of a batch.")] = _DEFAULT.batch_size,
    batch_window: Annotated[
        int, typer.Option(help="Seconds that a batch waits to become full.")
    ] = _DEFAULT.batch_window,
    max_retries: Annotated[
        int | None,
        typer.Option(
            help="After how many more attempts a batch is given up; by default 100, or more if "
            "Idempotent marks need it."
        ),
    ] = None,
    max_record_age: Annotated[
        int, typer.Option(help="Seconds after which a record is given up.")
    ] = _DEFAULT.max_record_age,
    parallelization: Annotated[
        int, typer.Option(help="Batches of one shard at a time, by partition key.")
    ] = _DEFAULT.parallelization,
    starting_position: Annotated[
        Literal["TRIM_HORIZON", "LATEST"], typer.Option(help="Where the mapping starts to read.")
    ] = _DEFAULT.starting_position,
    as_json: AsJson = False,
    region: Region = None,
    endpoint_url: Annotated[
        str | None, typer.Option(help="Where a stand-in for Lambda listens, for --check.")
    ] = None,
    app_directory: AppDirectory = Path(),
) -> None:
    """Print what an app needs in Lambda: mapping, filters, function, role, alarms.

    With --check nothing is printed for a tool: a live mapping is compared
    with it, and the differences are listed. Exits with 5 if there are any.
    """
    render = None if check is not None else _format(format_)
    if check is not None and (format_ is not None or output is not None):
        refuse("--check compares, --format and --output write: leave one out", ExitCode.USAGE)
    if check is None and as_json:
        refuse("--json is how --check prints; write --format json", ExitCode.USAGE)
    with prints_to_stderr():
        app = load_app(target, app_directory)
    choices = Choices(
        table=table,
        handler=handler
        or (
            _handler(target, vars(sys.modules[target.partition(":")[0]]))
            if check is None
            else "any.handler"
        ),
        name=name,
        code=code,
        stream_arn=stream_arn,
        view_type=view_type,
        max_patterns=max_patterns,
        runtime=runtime,
        architecture=architecture,
        memory=memory,
        timeout=timeout,
        batch_size=batch_size,
        batch_window=batch_window,
        max_retries=max_retries,
        max_record_age=max_record_age,
        parallelization=parallelization,
        starting_position=starting_position,
    )
    try:
        with prints_to_stderr():
            pushdown = pushdown_of(app, choices)
            deployment = deployment_of(app, choices, pushdown)
    except DynaflowError as error:
        refuse(str(error), ExitCode.USAGE)
    if check is not None:
        live = read_mapping(check, region=region, endpoint_url=endpoint_url)
        _compare(choices, deployment, pushdown, live, as_json=as_json)
    elif render is not None:
        _write(render(deployment), output)
        for note in deployment.notes:
            talk(f"note: {note}")


def _format(name: str | None) -> Callable[[Deployment], str]:
    if name in _FORMATS:
        return _FORMATS[name]
    names = list(_FORMATS)
    known = f"{', '.join(names[:-1])} or {names[-1]}"
    if name is None:
        refuse(f"write --format {known}, or --check UUID", ExitCode.USAGE)
    if edits(name.lower(), "cloudformation") <= 2:
        known = "sam: CloudFormation takes its template, which names a transform"
    near = next((n for n in names if _is_like(name.lower(), n)), None)
    hint = f"Did you mean {near}? " if near is not None else ""
    return refuse(f"--format {name} is unknown. {hint}Write {known}", ExitCode.USAGE)


def _is_like(name: str, known: str) -> bool:
    is_turned_round = sorted(name) == sorted(known)
    return is_turned_round or edits(name, known) <= min(2, len(known) // 2)


def _handler(target: str, found: Mapping[str, Any]) -> str:
    """Return what Lambda calls: a handler in the app's module, whose names are given."""
    module, _, attribute = target.partition(":")
    if callable(found.get("lambda_handler")):
        return f"{module}.lambda_handler"
    others = handlers_in(found)
    app = f"App({attribute})" if isinstance(found.get(attribute), Router) else attribute
    remedy = (
        f"Write --handler {module}.{others[0]}"
        if others
        else f"Write 'lambda_handler = {app}.lambda_handler()' in it, or name another function "
        "with --handler"
    )
    return refuse(
        f"the module {module!r} has no 'lambda_handler' that Lambda could call. {remedy}",
        ExitCode.USAGE,
    )


def _write(text: str, output: Path | None) -> None:
    """Write to stdout, or to a file that is there whole or not at all."""
    if output is None:
        sys.stdout.write(text)
        return
    whole = output.resolve()
    try:
        if whole.exists() and not whole.is_file():
            refuse(f"--output {output}: it is no file", ExitCode.USAGE)
        with draft_of(whole) as draft:
            draft.write_text(text, encoding="utf-8")
            draft.replace(whole)
    except OSError as error:
        refuse(f"--output {output}: {error.strerror or error}", ExitCode.USAGE)


def _compare(
    choices: Choices,
    deployment: Deployment,
    pushdown: Pushdown,
    live: LiveMapping,
    *,
    as_json: bool,
) -> None:
    try:
        found = differences(
            deployment,
            pushdown,
            live,
            view_type=choices.view_type,
            is_named=choices.name is not None,
        )
    except DynaflowError as error:
        refuse(str(error), ExitCode.USAGE)
    if as_json:
        print_json([_described(difference) for difference in found])
    elif found:
        print_table(_COLUMNS, [_row(difference) for difference in found])
    if live.last_processing_result.startswith("PROBLEM"):
        talk(f"the mapping's last result is {live.last_processing_result!r}")
    if found:
        talk("1 setting differs" if len(found) == 1 else f"{len(found)} settings differ")
        raise typer.Exit(ExitCode.DRIFT)
    talk("the mapping is as it should be")


def _row(difference: Difference) -> tuple[str, str, str, str]:
    return difference.setting, difference.wanted, difference.live, difference.follows


def _described(difference: Difference) -> dict[str, str]:
    return dict(zip(("setting", "wanted", "live", "follows"), _row(difference), strict=True))
