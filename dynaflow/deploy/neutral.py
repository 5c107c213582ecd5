"""A Deployment as JSON in the API's own terms, for tools that have no format of their own. Pure."""

from __future__ import annotations

import json
from typing import Any, Final

from dynaflow.deploy.deployment import (
    ACCOUNT,
    APPLICATION_LOG_LEVEL,
    FAILURES_KEPT_FOR,
    FAILURES_LOGGED,
    LOG_FILTER,
    LOG_FORMAT,
    PARTITION,
    REGION,
    Alarm,
    Deployment,
)
from dynaflow.deploy.iam import TRUST_POLICY, policy_document, statements

__all__ = ["document", "render"]

_STREAM: Final = "${StreamArn}"
_MAPPING: Final = "${EventSourceMappingUUID}"
_DIMENSIONS: Final = {
    "function": "FunctionName",
    "mapping": "EventSourceMappingUUID",
    "queue": "QueueName",
}


def render(deployment: Deployment) -> str:
    """Return the document as text.

    Args:
        deployment: what the function needs.
    """
    return json.dumps(document(deployment), indent=2) + "\n"


def document(deployment: Deployment) -> dict[str, Any]:
    """Return the parameters of the calls that make everything, by what they make.

    Policies are objects, where IAM's API takes them as text. ``${...}`` is what only the account
    knows; the names are under "Placeholders".
    """
    role = f"{deployment.name}-role"[:64]
    return {
        "Function": {
            "FunctionName": deployment.name,
            "Runtime": deployment.runtime,
            "Handler": deployment.handler,
            "Role": f"arn:{PARTITION}:iam::{ACCOUNT}:role/{role}",
            "Architectures": [deployment.architecture],
            "MemorySize": deployment.memory_size,
            "Timeout": deployment.timeout,
            "Environment": {"Variables": dict(deployment.environment)},
            "LoggingConfig": {
                "LogFormat": LOG_FORMAT,
                "ApplicationLogLevel": APPLICATION_LOG_LEVEL,
                "LogGroup": deployment.log_group,
            },
        },
        "CodePath": deployment.code,
        "EventSourceMapping": _mapping(deployment),
        "Role": {
            "RoleName": role,
            "AssumeRolePolicyDocument": TRUST_POLICY,
            "PolicyName": deployment.name,
            "PolicyDocument": policy_document(statements(deployment)),
        },
        "FailureQueue": {
            "QueueName": deployment.failure_queue,
            "Attributes": {
                "SqsManagedSseEnabled": "true",
                "MessageRetentionPeriod": str(FAILURES_KEPT_FOR),
            },
        },
        "LogGroup": {"logGroupName": deployment.log_group},
        "RetentionPolicy": {
            "logGroupName": deployment.log_group,
            "retentionInDays": deployment.logs_kept_for,
        },
        "MetricFilter": {
            "logGroupName": deployment.log_group,
            "filterName": FAILURES_LOGGED,
            "filterPattern": LOG_FILTER,
            "metricTransformations": [
                {
                    "metricNamespace": deployment.name,
                    "metricName": FAILURES_LOGGED,
                    "metricValue": "1",
                    "defaultValue": 0,
                }
            ],
        },
        "Alarms": [_alarm(deployment, alarm) for alarm in deployment.alarms],
        "Notes": list(deployment.notes),
        "Placeholders": {
            PARTITION: "aws, aws-cn, ...",
            REGION: "the function's region",
            ACCOUNT: "the number of the account",
            **({_STREAM: "the table's LatestStreamArn"} if deployment.stream_arn is None else {}),
            _MAPPING: "the UUID that CreateEventSourceMapping returns",
        },
    }


def _mapping(deployment: Deployment) -> dict[str, Any]:
    mapping = {
        "FunctionName": deployment.name,
        "EventSourceArn": deployment.stream_arn or _STREAM,
        **deployment.mapping.to_api(),
        "DestinationConfig": {"OnFailure": {"Destination": deployment.failure_queue_arn}},
    }
    if not deployment.mapping.filters:
        del mapping["FilterCriteria"]
    return mapping


def _alarm(deployment: Deployment, alarm: Alarm) -> dict[str, Any]:
    values = {
        "function": deployment.name,
        "mapping": _MAPPING,
        "queue": alarm.queue or deployment.failure_queue,
    }
    dimensions = (
        [] if alarm.of is None else [{"Name": _DIMENSIONS[alarm.of], "Value": values[alarm.of]}]
    )
    return {
        "AlarmName": f"{deployment.name}-{alarm.name}",
        "AlarmDescription": alarm.description,
        "Namespace": alarm.namespace,
        "MetricName": alarm.metric,
        "Dimensions": dimensions,
        "Statistic": alarm.statistic,
        "Period": alarm.period,
        "EvaluationPeriods": alarm.evaluation_periods,
        "DatapointsToAlarm": alarm.datapoints_to_alarm,
        "Threshold": alarm.threshold,
        "ComparisonOperator": alarm.comparison,
        "TreatMissingData": alarm.missing,
    }
