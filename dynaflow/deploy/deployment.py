"""What a function on a table's stream needs, in Lambda's own terms and in no tool's. Pure.

Settings: AWS Lambda API Reference, ``CreateEventSourceMapping`` and ``CreateFunction``.

All text is meant as it stands, patterns and descriptions above all: a tool that finds a meaning in
``${...}`` or ``%{...}`` has to be given it escaped. Only ARNs have placeholders: ``${Partition}``,
``${Region}`` and ``${Account}``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from dynaflow.permissions import Permission

__all__ = [
    "APPLICATION_LOG_LEVEL",
    "FAILURES_KEPT_FOR",
    "FAILURES_LOGGED",
    "LOG_FILTER",
    "LOG_FORMAT",
    "PARTITION",
    "REGION",
    "ACCOUNT",
    "Alarm",
    "Deployment",
    "MappingSettings",
]

PARTITION: Final = "${Partition}"
REGION: Final = "${Region}"
ACCOUNT: Final = "${Account}"

FAILURES_KEPT_FOR: Final = 1_209_600
"""Seconds that the failure queue keeps a message: 14 days, the longest there is."""

LOG_FORMAT: Final = "JSON"
"""Of the function's log: the metric filter reads fields."""

APPLICATION_LOG_LEVEL: Final = "INFO"
"""Not WARN: Lambda takes a line without a level for INFO, metrics printed as EMF among them."""

LOG_FILTER: Final = '{ $.logger = "dynaflow" && ($.level = "ERROR" || $.level = "CRITICAL") }'
"""The pattern of the metric filter on the log group: what dynaflow logs of failures."""

FAILURES_LOGGED: Final = "FailuresLogged"
"""The metric that it counts, 1 for each line and else 0; its namespace is the function's name."""


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
        namespace: the metric's.
        metric: its name.
        of: whose metric it is, which gives the dimension: FunctionName, EventSourceMappingUUID, or
            QueueName; None for none.
        statistic: "Sum", "Maximum", ...
        period: seconds of one datapoint.
        evaluation_periods: how many datapoints are looked at.
        datapoints_to_alarm: how many of them are beyond the threshold.
        threshold: the number.
        comparison: as CloudWatch names it.
        missing: what a missing datapoint counts as.
        queue: the queue's name for ``of="queue"``, where it is another than the failure queue.
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
    queue: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A function on the stream of one table, with its mapping, role, failure queue and alarms.

    Args:
        name: the function's name, and the start of other names: "orders-stream".
        table: the table's name.
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
        stream_arn: the table's stream, which is there already; None makes it a parameter of
            templates, "StreamArn".
        logs_kept_for: days that the log group keeps a line; one of CloudWatch's numbers.
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
    stream_arn: str | None = None
    logs_kept_for: int = 30

    @property
    def failure_queue(self) -> str:
        """The name of the queue where Lambda notes what it gave up."""
        return f"{self.name}-failures"

    @property
    def failure_queue_arn(self) -> str:
        """Its ARN, with placeholders."""
        return f"arn:{PARTITION}:sqs:{REGION}:{ACCOUNT}:{self.failure_queue}"

    @property
    def log_group(self) -> str:
        """The name of the function's log group."""
        return f"/aws/lambda/{self.name}"

    @property
    def log_group_arn(self) -> str:
        """Its ARN, with placeholders, and with the star for its log streams."""
        return f"arn:{PARTITION}:logs:{REGION}:{ACCOUNT}:log-group:{self.log_group}:*"

    @property
    def streams_arn(self) -> str:
        """The ARN of all streams of the table: one that is enabled anew has a new name."""
        table = f"arn:{PARTITION}:dynamodb:{REGION}:{ACCOUNT}:table/{self.table}"
        if self.stream_arn is not None:
            table = self.stream_arn.partition("/stream/")[0]
        return f"{table}/stream/*"
