"""What AWS answers about a table, a mapping and a function → values of its terms. Pure.

A setting that an answer leaves out has Lambda's default (AWS Lambda API Reference,
``CreateEventSourceMapping`` and ``CreateFunction``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from dynaflow.app import REPORT_VARIABLE

__all__ = ["LiveMapping", "Function", "Stream", "Target"]

_UNLIMITED = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A table, as far as its stream is concerned.

    Args:
        table: the table's name.
        status: the table's.
        arn: that of the latest stream, whether or not it is enabled; None if there never was one.
        is_enabled: whether changes are recorded now.
        view_type: of the stream that is enabled.
        replicas: the other regions of a global table.
        open_shards: how many shards are written to; None if that is not known.
    """

    table: str
    status: str = "ACTIVE"
    arn: str | None = None
    is_enabled: bool = False
    view_type: str | None = None
    replicas: tuple[str, ...] = ()
    open_shards: int | None = None

    @classmethod
    def of(cls, described: Mapping[str, Any], open_shards: int | None = None) -> Self:
        """Return what ``DescribeTable`` says in ``Table``."""
        specification = described.get("StreamSpecification") or {}
        return cls(
            table=described["TableName"],
            status=described.get("TableStatus", "ACTIVE"),
            arn=described.get("LatestStreamArn"),
            is_enabled=bool(specification.get("StreamEnabled")),
            view_type=specification.get("StreamViewType"),
            replicas=tuple(r["RegionName"] for r in described.get("Replicas") or ()),
            open_shards=open_shards,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveMapping:
    """An event source mapping; each name is that of the API, as Python writes names.

    Args:
        uuid: its id.
        source: the ARN that it reads.
        function: the ARN of the function, with the alias or version if it names one.
        response_types: its FunctionResponseTypes.
        filter_criteria: as they are; None for none.
        filter_error: why they cannot be read.
        destination: the ARN of the on-failure destination.
        metrics: what Lambda counts for it.
    """

    uuid: str
    source: str
    function: str
    state: str = "Enabled"
    last_processing_result: str = ""
    response_types: tuple[str, ...] = ()
    bisect_batch_on_function_error: bool = False
    maximum_retry_attempts: int = _UNLIMITED
    maximum_record_age_in_seconds: int = _UNLIMITED
    batch_size: int = 100
    maximum_batching_window_in_seconds: int = 0
    parallelization_factor: int = 1
    tumbling_window_in_seconds: int = 0
    starting_position: str = "TRIM_HORIZON"
    filter_criteria: Mapping[str, Any] | None = None
    filter_error: str | None = None
    destination: str | None = None
    metrics: tuple[str, ...] = ()

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Self:
        """Return what ``GetEventSourceMapping`` says."""

        def number(name: str, default: int) -> int:
            value = answer.get(name)
            return default if value is None else int(value)

        destination = (answer.get("DestinationConfig") or {}).get("OnFailure") or {}
        error = answer.get("FilterCriteriaError") or {}
        metrics = (answer.get("MetricsConfig") or {}).get("Metrics") or ()
        return cls(
            uuid=answer["UUID"],
            source=answer.get("EventSourceArn") or "",
            function=answer.get("FunctionArn") or "",
            state=answer.get("State") or "Enabled",
            last_processing_result=answer.get("LastProcessingResult") or "",
            response_types=tuple(answer.get("FunctionResponseTypes") or ()),
            bisect_batch_on_function_error=bool(answer.get("BisectBatchOnFunctionError")),
            maximum_retry_attempts=number("MaximumRetryAttempts", _UNLIMITED),
            maximum_record_age_in_seconds=number("MaximumRecordAgeInSeconds", _UNLIMITED),
            batch_size=number("BatchSize", 100),
            maximum_batching_window_in_seconds=number("MaximumBatchingWindowInSeconds", 0),
            parallelization_factor=number("ParallelizationFactor", 1),
            tumbling_window_in_seconds=number("TumblingWindowInSeconds", 0),
            starting_position=answer.get("StartingPosition") or "TRIM_HORIZON",
            filter_criteria=answer.get("FilterCriteria") or None,
            filter_error=error.get("ErrorCode") or error.get("Message"),
            destination=destination.get("Destination") or None,
            metrics=tuple(metrics),
        )

    @property
    def reports(self) -> bool:
        """True if Lambda minds the list of failures in the answer."""
        return "ReportBatchItemFailures" in self.response_types

    @property
    def counts_events(self) -> bool:
        """True if Lambda counts the events that failed, among others."""
        return "EventCount" in self.metrics

    @property
    def patterns(self) -> list[str]:
        """The patterns of its filter, as JSON text."""
        filters = (self.filter_criteria or {}).get("Filters") or ()
        return [entry.get("Pattern") or "{}" for entry in filters]

    @property
    def function_name(self) -> str:
        """The function's name, without alias or version."""
        parts = self.function.split(":")
        return parts[6] if len(parts) > 6 else self.function

    @property
    def qualifier(self) -> str | None:
        """The alias or the version."""
        parts = self.function.split(":")
        return parts[7] if len(parts) > 7 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """A function's configuration.

    Args:
        name: its name.
        handler: what Lambda calls: "shop.lambda_handler"; None in a container.
        runtime: None in a container.
        variable: the text of DYNAFLOW_REPORT_BATCH_ITEM_FAILURES; None if it is not set.
        hidden: why its variables cannot be read.
        state: why it cannot be invoked, with ``reason``; None if it can.
        reserved: its reserved concurrency; None for none.
        snapstart: whether snapshots are taken of published versions.
    """

    name: str
    handler: str | None = None
    runtime: str | None = None
    timeout: int = 3
    memory_size: int = 128
    variable: str | None = None
    hidden: str | None = None
    state: str | None = None
    reason: str = ""
    reserved: int | None = None
    snapstart: bool = False

    @classmethod
    def of(cls, answer: Mapping[str, Any], reserved: int | None = None) -> Self:
        """Return what ``GetFunctionConfiguration`` says; of the variables one is looked at."""
        environment = answer.get("Environment") or {}
        state, reason = _broken(answer)
        return cls(
            name=answer["FunctionName"],
            handler=answer.get("Handler"),
            runtime=answer.get("Runtime"),
            timeout=int(answer.get("Timeout") or 3),
            memory_size=int(answer.get("MemorySize") or 128),
            variable=(environment.get("Variables") or {}).get(REPORT_VARIABLE),
            hidden=(environment.get("Error") or {}).get("ErrorCode"),
            state=state,
            reason=reason,
            reserved=reserved,
            snapstart=(answer.get("SnapStart") or {}).get("ApplyOn") == "PublishedVersions",
        )


def _broken(answer: Mapping[str, Any]) -> tuple[str | None, str]:
    if answer.get("State") == "Failed":
        return "Failed", answer.get("StateReason") or answer.get("StateReasonCode") or "no reason"
    if answer.get("LastUpdateStatus") == "Failed":
        reason = answer.get("LastUpdateStatusReason") or answer.get("LastUpdateStatusReasonCode")
        return "not updated", reason or "no reason"
    return None, ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something that the App, or its mapping, writes to.

    Args:
        arn: its ARN.
        reason: what needs it.
        exists: whether it is there; None if that is not known.
        key: of a table, its key attributes with their types, in order: ("id", "S").
        ttl: of a table, the attribute of its Time to Live; None if it is off or not known.
        is_ttl_known: whether ``ttl`` was read.
    """

    arn: str
    reason: str
    exists: bool | None = None
    key: tuple[tuple[str, str], ...] = ()
    ttl: str | None = None
    is_ttl_known: bool = False
