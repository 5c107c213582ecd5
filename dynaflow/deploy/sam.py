"""A Deployment as a template of AWS SAM, which is CloudFormation's with a transform. Pure.

Properties: AWS SAM and AWS CloudFormation, "Resource and property reference".
"""

from __future__ import annotations

import re
from typing import Any, Final

from dynaflow.app import REPORT_VARIABLE
from dynaflow.deploy._yaml import Commented, dumped
from dynaflow.deploy.deployment import (
    APPLICATION_LOG_LEVEL,
    FAILURES_KEPT_FOR,
    FAILURES_LOGGED,
    LOG_FILTER,
    LOG_FORMAT,
    Alarm,
    Deployment,
)
from dynaflow.deploy.iam import TRUST_POLICY, Statement, statements

__all__ = ["render", "template"]

_NAMED: Final = re.compile(r"\$\{(Partition|Region|Account)\}")
_PSEUDO: Final = {
    "Partition": "AWS::Partition",
    "Region": "AWS::Region",
    "Account": "AWS::AccountId",
}
_DIMENSIONS: Final[dict[str, tuple[str, Any]]] = {
    "function": ("FunctionName", {"Ref": "Function"}),
    "mapping": ("EventSourceMappingUUID", {"Ref": "FunctionStream"}),
    "queue": ("QueueName", {"Fn::GetAtt": ["Failures", "QueueName"]}),
}
_ALARM_COMMENTS: Final = {
    ("Behind", "Statistic"): "of all shards; an average hides the one that stands",
    ("Behind", "Threshold"): "ms",
    ("Behind", "TreatMissingData"): "nothing was delivered: the table is quiet",
    ("GivenUp", "TreatMissingData"): "a queue that nobody uses reports nothing, however full it is",
}


def render(deployment: Deployment) -> str:
    """Return the text of a SAM template, as YAML with comments.

    Args:
        deployment: what the function needs.
    """
    head = (
        f"Function {deployment.name} on the stream of table {deployment.table}. Written by "
        "dynaflow deploy-config; write it again when routes change.",
        *(text for note in deployment.notes for text in ("", note)),
    )
    return dumped(_annotated(deployment), head=head)


def template(deployment: Deployment) -> dict[str, Any]:
    """Return the same template as plain values, with intrinsic functions in their long form."""
    plain: dict[str, Any] = _plain(_annotated(deployment))
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Commented):
        return _plain(value.value)
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _annotated(deployment: Deployment) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    if deployment.stream_arn is None:
        parameters["StreamArn"] = {
            "Type": "String",
            "AllowedPattern": "arn:.+:table/.+/stream/.+",
            "Description": "The table's stream: aws dynamodb describe-table --table-name "
            f"{deployment.table} --query Table.LatestStreamArn",
        }
    parameters["AlarmTopicArn"] = {
        "Type": "String",
        "Default": "",
        "Description": "An SNS topic for the alarms. Without one they only change their colour.",
    }
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Transform": "AWS::Serverless-2016-10-31",
        "Description": f"{deployment.name}, on the stream of table {deployment.table}.",
        "Parameters": parameters,
        "Conditions": {
            "HasAlarmTopic": {"Fn::Not": [{"Fn::Equals": [{"Ref": "AlarmTopicArn"}, ""]}]}
        },
        "Resources": {
            "Function": _function(deployment),
            "Role": _role(deployment),
            "Failures": Commented(
                _queue(deployment), "one message for each stretch that Lambda gave up"
            ),
            "Logs": _logs(deployment),
            "FailuresLogged": _metric_filter(deployment),
            **{f"{alarm.name}Alarm": _alarm(alarm) for alarm in deployment.alarms},
        },
        "Outputs": {
            "FunctionName": {"Value": {"Ref": "Function"}},
            "FailureQueueUrl": {"Value": {"Ref": "Failures"}},
            "EventSourceMappingUUID": {"Value": {"Ref": "FunctionStream"}},
        },
    }


def _function(deployment: Deployment) -> dict[str, Any]:
    variables: dict[str, Any] = dict(deployment.environment)
    if REPORT_VARIABLE in variables:
        told = "says to app.lambda_handler() that FunctionResponseTypes below is set"
        variables[REPORT_VARIABLE] = Commented(variables[REPORT_VARIABLE], told)
    return {
        "Type": "AWS::Serverless::Function",
        "Properties": {
            "FunctionName": deployment.name,
            "CodeUri": deployment.code,
            "Handler": deployment.handler,
            "Runtime": deployment.runtime,
            "Architectures": [deployment.architecture],
            "MemorySize": Commented(deployment.memory_size, "also sets the share of a CPU"),
            "Timeout": Commented(deployment.timeout, "of one batch; dynaflow answers before it"),
            "Role": Commented(
                {"Fn::GetAtt": ["Role", "Arn"]}, "so that SAM adds no role with Resource *"
            ),
            "LoggingConfig": {
                "LogFormat": Commented(LOG_FORMAT, "the metric filter below reads fields"),
                "LogGroup": {"Ref": "Logs"},
                "ApplicationLogLevel": Commented(
                    APPLICATION_LOG_LEVEL,
                    "Not WARN: Lambda takes a line without a level for INFO, metrics printed as "
                    "EMF among them.",
                ),
            },
            "Environment": {"Variables": variables},
            "Events": {"Stream": {"Type": "DynamoDB", "Properties": _mapping(deployment)}},
        },
    }


def _mapping(deployment: Deployment) -> dict[str, Any]:
    mapping = deployment.mapping
    properties = {"Stream": deployment.stream_arn or {"Ref": "StreamArn"}, **mapping.to_api()}
    properties["DestinationConfig"] = {
        "OnFailure": {"Destination": {"Fn::GetAtt": ["Failures", "Arn"]}}
    }
    texts = [_literal(text) for text in mapping.filters]
    properties["FilterCriteria"] = {"Filters": [{"Pattern": text} for text in texts]}
    if not texts:
        del properties["FilterCriteria"]
    comments = {
        "MaximumRetryAttempts": "with the pauses of Lambda minutes, not hours",
        "MaximumRecordAgeInSeconds": "half of what the stream keeps",
        "ParallelizationFactor": "batches of one shard at a time, by partition key",
        "StartingPosition": "LATEST could miss what is written while the mapping is created",
        "FilterCriteria": "Never narrower than the routes: what they leave out reaches nobody.",
    }
    if mapping.maximum_record_age_in_seconds != 43_200:
        comments["MaximumRecordAgeInSeconds"] = "a stream keeps records for 86400"
    return {
        name: Commented(value, comments[name]) if name in comments else value
        for name, value in properties.items()
    }


def _literal(pattern: str) -> str:
    """Return a pattern in which CloudFormation sees nothing to fill in.

    Both can stand only in a text of the pattern, and there JSON has another way to write them.
    """
    return pattern.replace("${", "\\u0024{").replace("{{resolve:", "{\\u007bresolve:")


def _role(deployment: Deployment) -> dict[str, Any]:
    return {
        "Type": "AWS::IAM::Role",
        "Properties": {
            "AssumeRolePolicyDocument": TRUST_POLICY,
            "Policies": [
                {
                    "PolicyName": deployment.name,
                    "PolicyDocument": {
                        "Version": "2012-10-17",
                        "Statement": [
                            _statement(deployment, statement)
                            for statement in statements(deployment)
                        ],
                    },
                }
            ],
        },
    }


def _statement(deployment: Deployment, statement: Statement) -> dict[str, Any]:
    document = statement.to_dict()
    resources = [_arn(deployment, arn) for arn in statement.resources]
    return {
        **document,
        "Sid": Commented(document["Sid"], statement.reason),
        "Resource": resources[0] if len(resources) == 1 else resources,
    }


def _arn(deployment: Deployment, arn: str) -> Any:
    """Return an ARN in CloudFormation's terms, so that it also knows what comes first."""
    if arn == deployment.failure_queue_arn:
        return {"Fn::GetAtt": ["Failures", "Arn"]}
    if arn == deployment.log_group_arn:
        return {"Fn::GetAtt": ["Logs", "Arn"]}
    if _NAMED.search(arn) is None:
        return arn
    literal = re.sub(r"\$\{(?!(?:Partition|Region|Account)\})", "${!", arn)
    return {"Fn::Sub": _NAMED.sub(lambda found: f"${{{_PSEUDO[found[1]]}}}", literal)}


def _queue(deployment: Deployment) -> dict[str, Any]:
    return {
        "Type": "AWS::SQS::Queue",
        "Properties": {
            "QueueName": deployment.failure_queue,
            "SqsManagedSseEnabled": True,
            "MessageRetentionPeriod": Commented(FAILURES_KEPT_FOR, "14 days, the longest"),
        },
    }


def _logs(deployment: Deployment) -> dict[str, Any]:
    return {
        "Type": "AWS::Logs::LogGroup",
        "DeletionPolicy": "Delete",
        "UpdateReplacePolicy": "Retain",
        "Properties": {
            "LogGroupName": deployment.log_group,
            "RetentionInDays": deployment.logs_kept_for,
        },
    }


def _metric_filter(deployment: Deployment) -> dict[str, Any]:
    return {
        "Type": "AWS::Logs::MetricFilter",
        "Properties": {
            "LogGroupName": {"Ref": "Logs"},
            "FilterPattern": LOG_FILTER,
            "MetricTransformations": [
                {
                    "MetricNamespace": deployment.name,
                    "MetricName": FAILURES_LOGGED,
                    "MetricValue": "1",
                    "DefaultValue": 0,
                }
            ],
        },
    }


def _alarm(alarm: Alarm) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "AlarmDescription": alarm.description,
        "Namespace": alarm.namespace,
        "MetricName": alarm.metric,
    }
    if alarm.of is not None:
        name, value = _DIMENSIONS[alarm.of]
        value = alarm.queue if alarm.queue is not None else value
        properties["Dimensions"] = [{"Name": name, "Value": value}]
    properties |= {
        "Statistic": alarm.statistic,
        "Period": alarm.period,
        "EvaluationPeriods": alarm.evaluation_periods,
    }
    if alarm.datapoints_to_alarm != alarm.evaluation_periods:
        properties["DatapointsToAlarm"] = alarm.datapoints_to_alarm
    properties |= {
        "Threshold": alarm.threshold,
        "ComparisonOperator": alarm.comparison,
        "TreatMissingData": alarm.missing,
        "AlarmActions": {
            "Fn::If": ["HasAlarmTopic", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]
        },
    }
    for (name, key), comment in _ALARM_COMMENTS.items():
        if name == alarm.name:
            properties[key] = Commented(properties[key], comment)
    return {"Type": "AWS::CloudWatch::Alarm", "Properties": properties}
