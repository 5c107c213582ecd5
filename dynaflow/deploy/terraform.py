"""A Deployment as Terraform's JSON: one ``*.tf.json`` document. Pure.

Arguments are those of the AWS provider's documentation. Terraform takes every string for a
template, so what is no expression here has its ``${`` and ``%{`` escaped. In JSON a block is an
object, or a list of objects where there may be several.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

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
from dynaflow.deploy.iam import statements

__all__ = ["render"]

# What ARNs leave open, and where Terraform knows it from.
_OPEN = {
    PARTITION: "${data.aws_partition.current.partition}",
    REGION: "${data.aws_region.current.id}",
    ACCOUNT: "${data.aws_caller_identity.current.account_id}",
}

_ROLE_POLICY = {
    "name": "stream",
    "role": "${aws_iam_role.role.id}",
    "policy": "${data.aws_iam_policy_document.role.json}",
}

_DIMENSIONS = {
    "function": {"FunctionName": "${aws_lambda_function.function.function_name}"},
    "mapping": {"EventSourceMappingUUID": "${aws_lambda_event_source_mapping.stream.uuid}"},
    "queue": {"QueueName": "${aws_sqs_queue.failures.name}"},
}

# An IAM role is of the account, not of a region, so its name has a part that Terraform makes up.
# 64 letters less 26 of its own are left (documentation of aws_iam_role: "name_prefix").
_PREFIX_LETTERS = 38


def render(deployment: Deployment) -> str:
    """Return the text of a ``.tf.json`` file for Terraform or OpenTofu.

    Args:
        deployment: what the function needs.
    """
    document: dict[str, Any] = {
        "//": [
            f"Function {deployment.name} on the stream of table {deployment.table}.",
            *deployment.notes,
        ],
        "terraform": _settings(deployment),
        "variable": _variables(deployment),
        "locals": {"code": _code(deployment.code)},
        "data": _data(deployment),
        "resource": {
            "aws_iam_role": {"role": _role(deployment)},
            "aws_iam_role_policy": {"role": _ROLE_POLICY},
            "aws_sqs_queue": {"failures": _queue(deployment)},
            "aws_cloudwatch_log_group": {"logs": _logs(deployment)},
            "aws_cloudwatch_log_metric_filter": {"failures_logged": _metric_filter(deployment)},
            "aws_lambda_function": {"function": _function(deployment)},
            "aws_lambda_event_source_mapping": {"stream": _mapping(deployment)},
            "aws_cloudwatch_metric_alarm": {
                f"{_snake(alarm.name)}_alarm": _alarm(deployment, alarm)
                for alarm in deployment.alarms
            },
        },
        "output": {
            "function_name": {"value": "${aws_lambda_function.function.function_name}"},
            "failure_queue_url": {"value": "${aws_sqs_queue.failures.url}"},
            "event_source_mapping_uuid": {
                "description": "For: dynaflow deploy-config --check",
                "value": "${aws_lambda_event_source_mapping.stream.uuid}",
            },
        },
    }
    if not deployment.alarms:  # an object without labels would be taken for a block
        del document["resource"]["aws_cloudwatch_metric_alarm"]
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _settings(deployment: Deployment) -> dict[str, Any]:
    # A region is `name` in 5 and `region` in 6: its id is the same in both.
    providers = {"aws": {"source": "hashicorp/aws", "version": ">= 5.100, < 7"}}
    if not deployment.code.endswith(".zip"):
        providers["archive"] = {"source": "hashicorp/archive", "version": "~> 2.2"}
    return {"required_version": ">= 1.3", "required_providers": providers}


def _variables(deployment: Deployment) -> dict[str, Any]:
    pattern = f"^arn:[^:]+:dynamodb:[^:]+:[0-9]+:table/{re.escape(deployment.table)}/stream/"
    quoted = json.dumps(_literal(pattern), ensure_ascii=False)
    remedy = f"This is no stream of table {deployment.table}: give its LatestStreamArn."
    stream: dict[str, Any] = {
        "type": "string",
        "description": f"The stream of table {deployment.table}.",
        "validation": {
            "condition": f"${{can(regex({quoted}, var.stream_arn))}}",
            "error_message": _literal(remedy),
        },
    }
    if deployment.stream_arn is not None:
        stream["default"] = _literal(deployment.stream_arn)
    return {
        "stream_arn": stream,
        "alarm_topic_arn": {
            "type": "string",
            "default": "",
            "description": "An SNS topic for the alarms. Without one they only change colour.",
        },
    }


def _data(deployment: Deployment) -> dict[str, Any]:
    trust = {
        "actions": ["sts:AssumeRole"],
        "principals": {"type": "Service", "identifiers": ["lambda.amazonaws.com"]},
    }
    allowed = [
        {
            "//": each.reason,
            "sid": each.sid,
            "actions": list(each.actions),
            "resources": [_arn(arn) for arn in each.resources],
        }
        for each in statements(deployment)
    ]
    data: dict[str, Any] = {
        "aws_partition": {"current": {}},
        "aws_region": {"current": {}},
        "aws_caller_identity": {"current": {}},
        "aws_iam_policy_document": {"trust": {"statement": trust}, "role": {"statement": allowed}},
    }
    if not deployment.code.endswith(".zip"):
        data["archive_file"] = {
            "code": {
                "type": "zip",
                "source_dir": "${local.code}",
                "output_path": "${path.module}/function.zip",
            }
        }
    return data


def _role(deployment: Deployment) -> dict[str, Any]:
    return {
        "name_prefix": _literal(deployment.name[:_PREFIX_LETTERS]),
        "assume_role_policy": "${data.aws_iam_policy_document.trust.json}",
    }


def _queue(deployment: Deployment) -> dict[str, Any]:
    return {
        "//": "One message for each stretch that Lambda gave up.",
        "name": _literal(deployment.failure_queue),
        "sqs_managed_sse_enabled": True,
        "message_retention_seconds": FAILURES_KEPT_FOR,
    }


def _logs(deployment: Deployment) -> dict[str, Any]:
    name = _literal(deployment.log_group)
    return {"name": name, "retention_in_days": deployment.logs_kept_for}


def _metric_filter(deployment: Deployment) -> dict[str, Any]:
    return {
        "name": FAILURES_LOGGED,
        "log_group_name": "${aws_cloudwatch_log_group.logs.name}",
        "pattern": _literal(LOG_FILTER),
        "metric_transformation": {
            "namespace": _literal(deployment.name),
            "name": FAILURES_LOGGED,
            "value": "1",
            "default_value": "0",
        },
    }


def _function(deployment: Deployment) -> dict[str, Any]:
    folder = not deployment.code.endswith(".zip")
    function: dict[str, Any] = {
        "function_name": _literal(deployment.name),
        "role": "${aws_iam_role.role.arn}",
        "filename": "${data.archive_file.code.output_path}" if folder else "${local.code}",
        "source_code_hash": "${data.archive_file.code.output_base64sha256}"
        if folder
        else "${filebase64sha256(local.code)}",
        "handler": _literal(deployment.handler),
        "runtime": deployment.runtime,
        "architectures": [deployment.architecture],
        "memory_size": deployment.memory_size,
        "timeout": deployment.timeout,
        "logging_config": {
            "log_format": LOG_FORMAT,
            "application_log_level": APPLICATION_LOG_LEVEL,
            "log_group": "${aws_cloudwatch_log_group.logs.name}",
        },
    }
    if deployment.environment:
        function["environment"] = {"variables": _literals(deployment.environment)}
    return function


def _mapping(deployment: Deployment) -> dict[str, Any]:
    return {
        "event_source_arn": "${var.stream_arn}",
        "function_name": "${aws_lambda_function.function.arn}",
        **_arguments(deployment.mapping.to_api()),
        "destination_config": {"on_failure": {"destination_arn": "${aws_sqs_queue.failures.arn}"}},
        # Lambda tries the role when the mapping is made.
        "depends_on": ["aws_iam_role_policy.role"],
    }


def _alarm(deployment: Deployment, alarm: Alarm) -> dict[str, Any]:
    watched: dict[str, Any] = {
        "alarm_name": _literal(f"{deployment.name}-{alarm.name}"),
        "alarm_description": _literal(alarm.description),
        "namespace": _literal(alarm.namespace),
        "metric_name": _literal(alarm.metric),
        "statistic": alarm.statistic,
        "period": alarm.period,
        "evaluation_periods": alarm.evaluation_periods,
        "datapoints_to_alarm": alarm.datapoints_to_alarm,
        "threshold": alarm.threshold,
        "comparison_operator": alarm.comparison,
        "treat_missing_data": alarm.missing,
        "alarm_actions": "${compact([var.alarm_topic_arn])}",
    }
    if alarm.queue is not None:
        watched["dimensions"] = {"QueueName": _literal(alarm.queue)}
    elif alarm.of is not None:
        watched["dimensions"] = _DIMENSIONS[alarm.of]
    return watched


def _arguments(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters of Lambda's API under the provider's names, without those that are empty.

    The provider writes ``MaximumRetryAttempts`` as ``maximum_retry_attempts``, and a block that may
    be there several times without the plural's s.
    """
    arguments: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            inner = _arguments(value)
            if inner:
                arguments[_snake(name)] = inner
        elif isinstance(value, Sequence) and not isinstance(value, str):
            blocks = any(isinstance(each, Mapping) for each in value)
            if value:
                arguments[_snake(name).removesuffix("s") if blocks else _snake(name)] = [
                    _arguments(each) if blocks else _literals(each) for each in value
                ]
        else:
            arguments[_snake(name)] = _literals(value)
    return arguments


def _code(path: str) -> str:
    return ("" if PurePosixPath(path).is_absolute() else "${path.module}/") + _literal(path)


def _arn(text: str) -> str:
    parts = re.split("(" + "|".join(map(re.escape, _OPEN)) + ")", text)
    return "".join(_OPEN.get(part) or _literal(part) for part in parts)


def _literals(value: Any) -> Any:
    if isinstance(value, str):
        return _literal(value)
    if isinstance(value, Mapping):
        return {_literal(name): _literals(each) for name, each in value.items()}
    return value


def _literal(text: str) -> str:
    return text.replace("${", "$${").replace("%{", "%%{")


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
