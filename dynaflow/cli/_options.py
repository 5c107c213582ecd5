"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

__all__ = ["AppDirectory", "AsJson", "EndpointUrl", "MaxPatterns", "Region", "Target", "ViewType"]

Target: TypeAlias = Annotated[
    str, typer.Argument(metavar="MODULE:APP", help="An App or a Router, as in shop:app.")
]
AppDirectory: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--app-dir",
        exists=True,
        file_okay=False,
        help="Where to look for the module, before the installed packages.",
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
MaxPatterns: TypeAlias = Annotated[
    int, typer.Option(help="How many patterns the mapping takes: 5, or 10 by a higher quota.")
]
ViewType: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="What the stream carries, such as NEW_AND_OLD_IMAGES. Without it one pattern more "
        "keeps what would fail on a stream without the images that filters read."
    ),
]
Region: TypeAlias = Annotated[
    str | None, typer.Option(help="The AWS region; by default that of AWS_REGION.")
]
EndpointUrl: TypeAlias = Annotated[
    str | None, typer.Option(help="Where a stand-in for DynamoDB listens.")
]
