"""Where a live event source mapping differs from what an App and its options say. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from dynaflow.deploy.deployment import Deployment
from dynaflow.deploy.live import LiveMapping
from dynaflow.errors import DynaflowError
from dynaflow.pushdown import VIEW_TYPE, Pushdown
from dynaflow.pushdown.pattern import Pattern, parsed

__all__ = ["Difference", "differences"]

# By the API's name, the attribute of both; a window is never wanted.
_NUMBERS: Final = {
    "BatchSize": "batch_size",
    "MaximumBatchingWindowInSeconds": "maximum_batching_window_in_seconds",
    "ParallelizationFactor": "parallelization_factor",
    "MaximumRetryAttempts": "maximum_retry_attempts",
    "MaximumRecordAgeInSeconds": "maximum_record_age_in_seconds",
    "BisectBatchOnFunctionError": "bisect_batch_on_function_error",
    "TumblingWindowInSeconds": "tumbling_window_in_seconds",
}
_ON: Final = ("Enabled", "Enabling", "Creating", "Updating")


@dataclass(frozen=True, slots=True)
class Difference:
    """One setting that is not as it is wanted.

    Args:
        setting: its name in the API.
        wanted: what the App and the options say.
        live: what the mapping has.
        follows: what the difference leads to.
    """

    setting: str
    wanted: str
    live: str
    follows: str


def differences(
    deployment: Deployment,
    pushdown: Pushdown,
    live: LiveMapping,
    *,
    view_type: str | None = None,
    is_named: bool = False,
) -> tuple[Difference, ...]:
    """Return the differences, in the order of their weight.

    ``StartingPosition`` is none: it says where the mapping began, and cannot be changed.

    Args:
        deployment: what is wanted.
        pushdown: the filters of its routes.
        live: the mapping.
        view_type: what the stream carries; None for any.
        is_named: whether the names of function and failure queue were chosen, and count.

    Raises:
        DynaflowError: the mapping is not one of a table's stream.
    """
    return (
        *_source(deployment, live),
        *_state(live),
        *_reports(live),
        *_filters(pushdown, live, view_type),
        *_destination(deployment, live, is_named=is_named),
        *_numbers(deployment, live),
        *_metrics(live),
        *(_function(deployment, live) if is_named else ()),
    )


def _source(deployment: Deployment, live: LiveMapping) -> Iterator[Difference]:
    arn = live.source or "nothing with an ARN"
    table = arn.partition(":table/")[2].partition("/stream/")[0]
    if ":dynamodb:" not in arn or not table:
        raise DynaflowError(
            f"this mapping reads {arn}, and not a table's stream: check the UUID with 'aws lambda "
            "list-event-source-mappings --function-name NAME'"
        )
    wanted = deployment.stream_arn
    if table != deployment.table:
        yield Difference(
            "EventSourceArn", f"table {deployment.table}", f"table {table}", "another table is read"
        )
    elif wanted is not None and arn != wanted:
        yield Difference(
            "EventSourceArn", wanted, arn, "another stream of the table is read, perhaps an old one"
        )


def _state(live: LiveMapping) -> Iterator[Difference]:
    if live.state not in _ON:
        yield Difference(
            "State",
            "Enabled",
            live.state,
            "nothing is delivered, and the stream drops records after 24 hours",
        )


def _reports(live: LiveMapping) -> Iterator[Difference]:
    if not live.reports:
        yield Difference(
            "FunctionResponseTypes",
            "ReportBatchItemFailures",
            _listed(live.response_types),
            "where the function is told that it is on, every failed record is lost; else every "
            "failure repeats its whole batch",
        )


def _filters(pushdown: Pushdown, live: LiveMapping, view_type: str | None) -> Iterator[Difference]:
    """Compare by meaning: which record passes, not how a pattern is written."""
    wanted = _counted(len(pushdown.given))
    if live.filter_error:
        yield Difference(
            "FilterCriteria",
            wanted,
            f"not shown ({live.filter_error})",
            "they are encrypted, so that nobody here can say whether records are missed",
        )
        return
    told = _counted(len(live.patterns))
    try:
        patterns = [parsed(text) for text in live.patterns]
    except ValueError:
        follows = "a pattern is no JSON object, so that nobody can say what passes"
        yield Difference("FilterCriteria", wanted, told, follows)
        return
    missed = pushdown.not_covered_by(live.filter_criteria)
    if missed:
        follows = f"records may never reach {', '.join(missed)}, and nothing tells of it"
        yield Difference("FilterCriteria", wanted, told, follows)
    elif patterns and not pushdown.given:
        why = f": {'; '.join(pushdown.widenings)}" if pushdown.widenings else ""
        yield Difference("FilterCriteria", wanted, told, f"records may be missed{why}")
    elif _let_more_through(pushdown, [p for p in patterns if _can_match(p, view_type)]):
        follows = "nothing is missed; more records are sent, and billed, than a route takes"
        yield Difference("FilterCriteria", wanted, told, follows)


def _can_match(pattern: Pattern, view_type: str | None) -> bool:
    """Return False for a pattern that waits for another kind of stream than there is."""
    rules = pattern.fields.get(VIEW_TYPE)
    return view_type is None or rules is None or any(rule.accepts(view_type) for rule in rules)


def _let_more_through(pushdown: Pushdown, live: list[Pattern]) -> bool:
    if not live:
        return bool(pushdown.given)
    return not pushdown.covers(live)


def _destination(
    deployment: Deployment, live: LiveMapping, *, is_named: bool
) -> Iterator[Difference]:
    wanted = deployment.failure_queue
    if live.destination is None:
        yield Difference(
            "DestinationConfig",
            wanted,
            "none",
            "records that Lambda gives up are dropped, and nobody is told",
        )
    elif is_named and live.destination.rpartition(":")[2] != wanted:
        yield Difference(
            "DestinationConfig",
            wanted,
            live.destination,
            "what is given up is noted elsewhere; the alarm GivenUp may not see it",
        )


def _numbers(deployment: Deployment, live: LiveMapping) -> Iterator[Difference]:
    for setting, name in _NUMBERS.items():
        wanted, value = getattr(deployment.mapping, name, 0), getattr(live, name)
        if value != wanted:
            follows = _follows(setting, wanted, value)
            yield Difference(setting, json.dumps(wanted), json.dumps(value), follows)


def _follows(setting: str, wanted: Any, live: Any) -> str:
    """Say what it leads to that a setting is another one."""
    is_more = wanted != -1 and live > wanted  # -1 is without end
    if setting == "MaximumRetryAttempts" and live == -1:
        return "one bad record stops its shard until it is too old"
    if setting == "MaximumRecordAgeInSeconds" and live == -1:
        return "records are kept until the stream drops them, and cannot be read again then"
    return {
        "BatchSize": "invocations have more to do before the time-out"
        if is_more
        else "more invocations for the same records",
        "MaximumBatchingWindowInSeconds": "records wait longer for their batch"
        if is_more
        else "more invocations, with fewer records each",
        "ParallelizationFactor": "more invocations at a time; records of a shard are dealt out to "
        "them by partition key"
        if is_more
        else "fewer invocations at a time",
        "MaximumRetryAttempts": "a bad record stops its shard for longer"
        if is_more
        else "records are given up earlier, perhaps before a short outage is over",
        "MaximumRecordAgeInSeconds": "less time to read what was given up from the stream"
        if is_more
        else "records are given up earlier",
        "BisectBatchOnFunctionError": "batches that crash are halved"
        if live
        else "a record that crashes the function takes its whole batch along",
        "TumblingWindowInSeconds": "dynaflow keeps no window's state: every event is refused",
    }[setting]


def _metrics(live: LiveMapping) -> Iterator[Difference]:
    if not live.counts_events:
        yield Difference(
            "MetricsConfig",
            "EventCount",
            _listed(live.metrics),
            "Lambda counts no events, so that the alarm NotDone stays silent",
        )


def _function(deployment: Deployment, live: LiveMapping) -> Iterator[Difference]:
    name = live.function_name
    if name != deployment.name:
        yield Difference(
            "FunctionArn", deployment.name, name or "none", "another function is called"
        )


def _listed(values: Sequence[str]) -> str:
    return ", ".join(values) or "none"


def _counted(patterns: int) -> str:
    return {0: "no filter", 1: "1 pattern"}.get(patterns, f"{patterns} patterns")
