"""What a function on a table's stream needs, in Lambda's own terms and in no tool's. Pure.

Settings: AWS Lambda API Reference, ``CreateEventSourceMapping`` and ``CreateFunction``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dynaflow.permissions import Permission

__all__ = ["Alarm", "Deployment", "MappingSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingSettings:
    """How Lambda reads the stream; each name is that of the API, as Python writes names.

    Args:
        batch_size: records of one batch at most.
        maximum_batching_window_in_seconds: how long Lambda waits for a batch to become full.
        parallelization_factor: how many batches of one shard run at a time, by partition key.
        maximum_retry_attempts: after how many further attempts a batch is given up.
        maximum_record_age_in_seconds: how old a record may become before it is given up.
        bisect_batch_on_function_error: whether a batch whose invocation failed is halved.
        starting_position: where the mapping starts to read.
        report_batch_item_failures: whether Lambda minds the list of failures in the answer.
        filters: the patterns, as JSON text; none for no filter.
    """

    batch_size: int = 100
    maximum_batching_window_in_seconds: int = 1
    parallelization_factor: int = 1
    maximum_retry_attempts: int = 100
    maximum_record_age_in_seconds: int = 43_200
    bisect_batch_on_function_error: bool = True
    starting_position: Literal["TRIM_HORIZON", "LATEST"] = "TRIM_HORIZON"
    report_batch_item_failures: bool = True
    filters: tuple[str, ...] = ()

    def to_api(self) -> dict[str, Any]:
        """Return the parameters of ``CreateEventSourceMapping``, all but the ARNs."""
        return {
            "BatchSize": self.batch_size,
            "MaximumBatchingWindowInSeconds": self.maximum_batching_window_in_seconds,
            "ParallelizationFactor": self.parallelization_factor,
            "MaximumRetryAttempts": self.maximum_retry_attempts,
            "MaximumRecordAgeInSeconds": self.maximum_record_age_in_seconds,
            "BisectBatchOnFunctionError": self.bisect_batch_on_function_error,
            "StartingPosition": self.starting_position,
            "FunctionResponseTypes": ["ReportBatchItemFailures"]
            if self.report_batch_item_failures
            else [],
            "FilterCriteria": {"Filters": [{"Pattern": text} for text in self.filters]},
            "MetricsConfig": {"Metrics": ["EventCount"]},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One CloudWatch alarm.

    Args:
        name: CamelCase, without the function's name.
        description: what it means and what to do.
        namespace: the metric's; "${Function}" in it is the function's name.
        metric: its name.
        of: whose metric it is, which gives the dimension; None for none.
        statistic: "Sum", "Maximum", ...
        period: seconds of one datapoint.
        evaluation_periods: how many datapoints are looked at.
        datapoints_to_alarm: how many of them are beyond the threshold.
        threshold: the number.
        comparison: as CloudWatch names it.
        missing: what a missing datapoint counts as.
    """

    name: str
    description: str
    namespace: str
    metric: str
    of: Literal["function", "mapping", "queue"] | None
    statistic: str
    period: int
    evaluation_periods: int
    datapoints_to_alarm: int
    threshold: float
    comparison: str
    missing: Literal["notBreaching", "breaching", "ignore", "missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A function on the stream of one table, with its mapping, role, failure queue and alarms.

    Args:
        name: the function's name, and the start of other names: "orders-stream".
        table: the table's name; its stream is there already, and is a parameter of templates.
        handler: what Lambda calls: "shop.lambda_handler".
        code: where the code is: the zip file, or a folder.
        runtime: of Lambda: "python3.13".
        architecture: of the processor.
        memory_size: MB, which sets the share of a CPU, too.
        timeout: seconds of one batch.
        environment: the function's variables.
        mapping: how Lambda reads the stream.
        permissions: what the App needs beside stream, logs and failure queue.
        alarms: when somebody has to look.
        notes: what a reader of the template has to know: widened filters, unknown permissions.
    """

    name: str
    table: str
    handler: str
    code: str = "function.zip"
    runtime: str = "python3.13"
    architecture: Literal["arm64", "x86_64"] = "arm64"
    memory_size: int = 512
    timeout: int = 60
    environment: Mapping[str, str] = field(default_factory=dict)
    mapping: MappingSettings = MappingSettings()
    permissions: tuple[Permission, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    notes: tuple[str, ...] = ()
