"""What can be chosen for a deployment, in the words of ``dynaflow deploy-config``. Pure.

Ranges: AWS Lambda API Reference, ``CreateEventSourceMapping`` and ``CreateFunction``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

from dynaflow.errors import DynaflowError
from dynaflow.pushdown import MOST_PATTERNS

__all__ = ["NEWEST", "Choices", "check"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_STREAM = re.compile(
    r"arn:[\w-]+:dynamodb:[\w-]+:\d{12}:table/(?P<table>[\w.-]+)/stream/[\w.:-]+", re.ASCII
)
_HANDLER = re.compile(r"[\w./-]+\.\w+", re.ASCII)
_RUNTIME = re.compile(r"python3\.(\d{1,3})", re.ASCII)
_OLDEST: Final = 11  # minor versions of Python that Lambda has, and dynaflow is tested with
NEWEST: Final = 13


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What can be chosen for a deployment; each is the option of the same name.

    Args:
        table: whose stream.
        handler: what Lambda calls.
        name: the function's; None for one that is made of the table's.
        code: the zip file, or a folder.
        stream_arn: None makes it a parameter of templates.
        view_type: what the stream carries; None for any.
        max_patterns: how many patterns the mapping takes.
        runtime: of Lambda.
        architecture: of the processor.
        memory: MB.
        timeout: seconds of one batch.
        batch_size: records.
        batch_window: seconds.
        max_retries: None for as many as the App needs, and 100 at least.
        max_record_age: seconds.
        parallelization: batches of one shard at a time.
        starting_position: where the mapping starts to read.
    """

    table: str
    handler: str
    name: str | None = None
    code: str = "function.zip"
    stream_arn: str | None = None
    view_type: str | None = None
    max_patterns: int = MOST_PATTERNS
    runtime: str = "python3.13"
    architecture: Literal["arm64", "x86_64"] = "arm64"
    memory: int = 512
    timeout: int = 60
    batch_size: int = 100
    batch_window: int = 1
    max_retries: int | None = None
    max_record_age: int = 43_200
    parallelization: int = 1
    starting_position: Literal["TRIM_HORIZON", "LATEST"] = "TRIM_HORIZON"


def check(choices: Choices, name: str) -> None:
    """Refuse a choice that cannot be by itself.

    Args:
        choices: all of them.
        name: the function's, chosen or made up.

    Raises:
        DynaflowError: which one, and what can be.
    """
    for option, value, least, most, of_what in (
        ("--memory", choices.memory, 128, 10_240, "MB"),
        ("--timeout", choices.timeout, 1, 900, "seconds"),
        ("--batch-size", choices.batch_size, 1, 10_000, "records"),
        ("--batch-window", choices.batch_window, 0, 300, "seconds"),
        ("--parallelization", choices.parallelization, 1, 10, "batches of a shard"),
    ):
        if not least <= value <= most:
            raise DynaflowError(f"{option} {value}: Lambda takes {least} to {most:,} {of_what}")
    retries, age = choices.max_retries, choices.max_record_age
    if retries is not None and not -1 <= retries <= 10_000:
        raise DynaflowError(
            f"--max-retries {retries}: Lambda takes 0 to 10,000, or -1 for no end of them"
        )
    if age != -1 and not 60 <= age <= 604_800:
        raise DynaflowError(
            f"--max-record-age {age}: Lambda takes 60 to 604,800 seconds, or -1 for no limit; a "
            "stream keeps records for 86,400"
        )
    if _NAME.fullmatch(name) is None:
        raise DynaflowError(
            f"--name {name!r}: a function's name has up to 64 letters, digits, '-' and '_'"
        )
    if _HANDLER.fullmatch(choices.handler) is None:
        raise DynaflowError(
            f"--handler {choices.handler!r}: write module.function, as in shop.lambda_handler"
        )
    version = _RUNTIME.fullmatch(choices.runtime)
    if version is None or not _OLDEST <= int(version[1]) <= NEWEST:
        raise DynaflowError(
            f"--runtime {choices.runtime}: write python3.{_OLDEST} to python3.{NEWEST}, on which "
            "dynaflow runs"
        )
    if choices.stream_arn is not None:
        _check_stream(choices.stream_arn, choices.table)


def _check_stream(stream_arn: str, table: str) -> None:
    stream = _STREAM.fullmatch(stream_arn)
    if stream is None:
        raise DynaflowError(
            f"--stream-arn {stream_arn} is no stream's ARN. It is in the table's LatestStreamArn: "
            f"aws dynamodb describe-table --table-name {table} --query Table.LatestStreamArn"
        )
    if stream["table"] != table:
        raise DynaflowError(
            f"--stream-arn is of table {stream['table']!r}, and --table says {table!r}: both name "
            "the same table"
        )
