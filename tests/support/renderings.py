"""Deployments to render, and what a document of a tool says, told without that tool's words."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from dynaflow.deploy.deployment import (
    APPLICATION_LOG_LEVEL,
    FAILURES_KEPT_FOR,
    FAILURES_LOGGED,
    LOG_FILTER,
    LOG_FORMAT,
    Alarm,
    Deployment,
    MappingSettings,
)
from dynaflow.deploy.iam import statements
from dynaflow.permissions import Permission

__all__ = [
    "DEPLOYMENTS",
    "STREAM_ARN",
    "Told",
    "of_json",
    "of_model",
    "of_template",
    "of_terraform",
]

STREAM_ARN = "arn:aws:dynamodb:eu-north-1:123456789012:table/my.orders_v-2/stream/2026-01-01T00:00"

_HOSTILE = "${a} %{b} $${c} $ % \" ' \\ \\n {brace} }} @name@ é😀 \u2028 " + "\t \n line two \x00"

_REFERENCE = (
    "{{resolve:ssm-secure:password:1}}"  # CloudFormation would put the password in its place
)


def _alarm(name: str, **settings: Any) -> Alarm:
    given: dict[str, Any] = {
        "description": "Handlers have failed in three of five minutes. The log says which.",
        "namespace": "AWS/Lambda",
        "metric": "Errors",
        "of": "function",
        "statistic": "Sum",
        "period": 60,
        "evaluation_periods": 5,
        "datapoints_to_alarm": 3,
        "threshold": 1,
        "comparison": "GreaterThanOrEqualToThreshold",
        "missing": "notBreaching",
    }
    return Alarm(name=name, **given | settings)


_MARKS = Permission(
    ("dynamodb:GetItem", "dynamodb:UpdateItem"),
    ("arn:${Partition}:dynamodb:${Region}:${Account}:table/marks",),
    "marks of Idempotent",
)

DEPLOYMENTS = {
    "ordinary": Deployment(
        name="orders-stream",
        table="my.orders_v-2",
        handler="shop.app.lambda_handler",
        environment={"DYNAFLOW_REPORT_BATCH_ITEM_FAILURES": "1"},
        mapping=MappingSettings(
            filters=(
                '{"eventName":["MODIFY"],"dynamodb":{"NewImage":{"status":{"S":["paid"]}}}}',
                '{"dynamodb":{"OldImage":{"note":{"S":[{"exists":false},null,""]}}}}',
            )
        ),
        permissions=(_MARKS,),
        alarms=(
            _alarm("Fails", namespace="orders-stream", metric="FailuresLogged", of=None),
            _alarm("NotDone", metric="FailedInvokeEventCount", of="mapping"),
            _alarm("Behind", metric="IteratorAge", statistic="Maximum", threshold=300_000),
            _alarm("GivenUp", namespace="AWS/SQS", metric="Visible", of="queue"),
            _alarm("Parked", namespace="AWS/SQS", metric="Visible", of="queue", queue="dead"),
        ),
        notes=("The filter of route `ship` is wider than it says: F.new.total > 5 is not sent.",),
    ),
    "hostile": Deployment(
        name="9_" + "n" * 62,
        table="my.orders_v-2",
        handler="shop.app.lambda_handler",
        code="build/the code's.zip",
        runtime="python3.12",
        architecture="x86_64",
        memory_size=128,
        timeout=900,
        environment={"GREETING": "${HOME} %{if} 'x' \"y\" \\"},
        mapping=MappingSettings(
            batch_size=10_000,
            maximum_batching_window_in_seconds=0,
            parallelization_factor=10,
            maximum_retry_attempts=-1,
            maximum_record_age_in_seconds=-1,
            bisect_batch_on_function_error=False,
            starting_position="LATEST",
            report_batch_item_failures=False,
            filters=(
                json.dumps(
                    {"dynamodb": {"Keys": {_HOSTILE: {"S": [_HOSTILE, _REFERENCE]}}}}
                ).replace(": ", ":"),
                '{"dynamodb":{"NewImage":{"long":{"S":["' + "x" * 4000 + '"]}}}}',
            ),
        ),
        permissions=(
            Permission(
                ("sqs:SendMessage",),
                ("arn:aws:sqs:eu-north-1:123456789012:{of}-others",),
                f'"""{_HOSTILE}',
            ),
        ),
        alarms=(_alarm("Fails", description=_HOSTILE * 3, threshold=0.5),),
        notes=(f'"""{_HOSTILE}', "\\"),
        stream_arn=STREAM_ARN,
        logs_kept_for=3653,
    ),
    "bare": Deployment(name="bare", table="my.orders_v-2", handler="app.handler"),
}


@dataclass(frozen=True, slots=True)
class Told:
    """What a document says, in the names of AWS's APIs; ARNs have the model's placeholders."""

    mapping: dict[str, Any]
    patterns: list[Any]
    statements: list[tuple[str, list[str], list[str]]]
    function: dict[str, Any]
    others: dict[str, Any]
    alarms: dict[str, dict[str, Any]]


def of_model(deployment: Deployment) -> Told:
    """Return what a deployment says."""
    mapping = {
        k: v for k, v in deployment.mapping.to_api().items() if v not in ([], {"Filters": []})
    }
    return Told(
        patterns=_patterns(mapping),
        mapping=mapping | {"OnFailure": deployment.failure_queue_arn},
        statements=[
            (each.sid, sorted(each.actions), sorted(each.resources))
            for each in statements(deployment)
        ],
        function={
            "FunctionName": deployment.name,
            "Handler": deployment.handler,
            "Runtime": deployment.runtime,
            "Architectures": [deployment.architecture],
            "MemorySize": deployment.memory_size,
            "Timeout": deployment.timeout,
            "Environment": dict(deployment.environment),
            "LogGroup": deployment.log_group,
            "LogFormat": LOG_FORMAT,
            "ApplicationLogLevel": APPLICATION_LOG_LEVEL,
        },
        others={
            "queue": (deployment.failure_queue, FAILURES_KEPT_FOR, True),
            "log": (deployment.log_group, deployment.logs_kept_for),
            "metric": (deployment.log_group, LOG_FILTER, deployment.name, FAILURES_LOGGED, "1", 0),
        },
        alarms={
            alarm.name: {
                "AlarmDescription": alarm.description,
                "Namespace": alarm.namespace,
                "MetricName": alarm.metric,
                "Statistic": alarm.statistic,
                "Period": alarm.period,
                "EvaluationPeriods": alarm.evaluation_periods,
                "DatapointsToAlarm": alarm.datapoints_to_alarm,
                "Threshold": alarm.threshold,
                "ComparisonOperator": alarm.comparison,
                "TreatMissingData": alarm.missing,
                "Dimensions": {
                    "function": {"FunctionName": deployment.name},
                    "mapping": {"EventSourceMappingUUID": "UUID"},
                    "queue": {"QueueName": alarm.queue or deployment.failure_queue},
                    None: {},
                }[alarm.of],
            }
            for alarm in deployment.alarms
        },
    )


def of_template(resources: dict[str, Any]) -> Told:
    """Return what the resources of a CloudFormation template say."""

    def only(kind: str) -> dict[str, Any]:
        (found,) = (each for each in resources.values() if each["Type"] == f"AWS::{kind}")
        properties: dict[str, Any] = _resolved(found["Properties"], resources)
        return properties

    mapping, function = only("Lambda::EventSourceMapping"), only("Lambda::Function")
    destination = mapping.pop("DestinationConfig")
    for own in ("EventSourceArn", "FunctionName"):
        del mapping[own]
    role = only("IAM::Role")
    assert "ManagedPolicyArns" not in role
    (policy,) = role["Policies"]
    queue, log, metric = only("SQS::Queue"), only("Logs::LogGroup"), only("Logs::MetricFilter")
    (counted,) = metric["MetricTransformations"]
    alarms = {
        re.sub(r"Alarm([0-9A-F]{8})?$", "", name): _resolved(each["Properties"], resources)
        for name, each in resources.items()
        if each["Type"] == "AWS::CloudWatch::Alarm"
    }
    for alarm in alarms.values():
        alarm.pop("AlarmActions", None)
        alarm.setdefault("DatapointsToAlarm", alarm["EvaluationPeriods"])
        alarm["Dimensions"] = {each["Name"]: each["Value"] for each in alarm.get("Dimensions", [])}
    assert not [each for each in resources.values() if each["Type"] == "AWS::IAM::Policy"]
    return Told(
        patterns=_patterns(mapping),
        mapping={name: value for name, value in mapping.items() if value != []}
        | {"OnFailure": destination["OnFailure"]["Destination"]},
        statements=[
            (each["Sid"], sorted(_listed(each["Action"])), sorted(_listed(each["Resource"])))
            for each in policy["PolicyDocument"]["Statement"]
        ],
        function={
            **{name: function[name] for name in ("FunctionName", "Handler", "Runtime", "Timeout")},
            **{name: function[name] for name in ("Architectures", "MemorySize")},
            **function["LoggingConfig"],
            "Environment": function.get("Environment", {}).get("Variables", {}),
        },
        others={
            "queue": (
                queue["QueueName"],
                queue["MessageRetentionPeriod"],
                queue["SqsManagedSseEnabled"],
            ),
            "log": (log["LogGroupName"], log["RetentionInDays"]),
            "metric": (
                metric["LogGroupName"],
                metric["FilterPattern"],
                counted["MetricNamespace"],
                counted["MetricName"],
                counted["MetricValue"],
                counted["DefaultValue"],
            ),
        },
        alarms=alarms,
    )


def of_json(text: str) -> Told:
    """Return what the document in the API's own terms says."""
    document = json.loads(text)
    mapping, function = document["EventSourceMapping"], document["Function"]
    mapping["OnFailure"] = mapping.pop("DestinationConfig")["OnFailure"]["Destination"]
    for own in ("EventSourceArn", "FunctionName"):
        del mapping[own]
    queue, metric = document["FailureQueue"], document["MetricFilter"]
    (counted,) = metric["metricTransformations"]
    start = f"{function['FunctionName']}-"
    alarms = {}
    for alarm in document["Alarms"]:
        name = alarm.pop("AlarmName").removeprefix(start)
        values = {each["Name"]: each["Value"] for each in alarm["Dimensions"]}
        if "EventSourceMappingUUID" in values:
            values["EventSourceMappingUUID"] = "UUID"
        alarms[name] = alarm | {"Dimensions": values}
    own_function = {**function, **function.pop("LoggingConfig")}
    del own_function["Role"], own_function["LoggingConfig"]
    return Told(
        patterns=_patterns(mapping),
        mapping={name: value for name, value in mapping.items() if value != []},
        statements=[
            (each["Sid"], sorted(_listed(each["Action"])), sorted(_listed(each["Resource"])))
            for each in document["Role"]["PolicyDocument"]["Statement"]
        ],
        function=own_function | {"Environment": function["Environment"]["Variables"]},
        others={
            "queue": (
                queue["QueueName"],
                int(queue["Attributes"]["MessageRetentionPeriod"]),
                queue["Attributes"]["SqsManagedSseEnabled"] == "true",
            ),
            "log": (
                document["LogGroup"]["logGroupName"],
                document["RetentionPolicy"]["retentionInDays"],
            ),
            "metric": (
                metric["logGroupName"],
                metric["filterPattern"],
                *(counted[f"metric{name}"] for name in ("Namespace", "Name", "Value")),
                counted["defaultValue"],
            ),
        },
        alarms=alarms,
    )


def of_terraform(text: str) -> Told:
    """Return what a ``.tf.json`` document says, its references followed."""
    document = json.loads(text)
    resources = {kind: dict(named) for kind, named in document["resource"].items()}
    names = {
        "${aws_sqs_queue.failures.name}": resources["aws_sqs_queue"]["failures"]["name"],
        "${aws_cloudwatch_log_group.logs.name}": resources["aws_cloudwatch_log_group"]["logs"][
            "name"
        ],
        "${aws_lambda_function.function.function_name}": resources["aws_lambda_function"][
            "function"
        ]["function_name"],
        "${aws_lambda_event_source_mapping.stream.uuid}": "UUID",
    }
    names["${aws_sqs_queue.failures.arn}"] = (
        "arn:${Partition}:sqs:${Region}:${Account}:" + names["${aws_sqs_queue.failures.name}"]
    )

    def told(value: Any) -> Any:
        match value:
            case dict():
                return {told(name): told(each) for name, each in value.items() if name != "//"}
            case list():
                return [told(each) for each in value]
            case str():
                return names.get(value) or _unescaped(value)
        return value

    own = {"event_source_arn", "function_name", "depends_on", "role", "filename"}
    own |= {"source_code_hash", "alarm_actions"}

    def resource(kind: str, name: str) -> dict[str, Any]:
        body = resources[kind][name]
        arguments: dict[str, Any] = told({k: v for k, v in body.items() if k not in own})
        return arguments

    mapping = resource("aws_lambda_event_source_mapping", "stream")
    on_failure = mapping.pop("destination_config")["on_failure"]["destination_arn"]
    api = {_camel(name): value for name, value in mapping.items()}
    if "FilterCriteria" in api:
        filters = [{"Pattern": each["pattern"]} for each in api["FilterCriteria"]["filter"]]
        api["FilterCriteria"] = {"Filters": filters}
    api["MetricsConfig"] = {"Metrics": api["MetricsConfig"]["metrics"]}
    function = resource("aws_lambda_function", "function")
    function["function_name"] = names["${aws_lambda_function.function.function_name}"]
    queue = resource("aws_sqs_queue", "failures")
    log = resource("aws_cloudwatch_log_group", "logs")
    metric = resource("aws_cloudwatch_log_metric_filter", "failures_logged")
    counted = metric["metric_transformation"]
    alarms = {}
    for place in resources.get("aws_cloudwatch_metric_alarm", {}):
        alarm = resource("aws_cloudwatch_metric_alarm", place)
        name = alarm.pop("alarm_name").removeprefix(function["function_name"] + "-")
        alarms[name] = {"Dimensions": {}} | {_camel(key): value for key, value in alarm.items()}
    return Told(
        patterns=_patterns(api),
        mapping=api | {"OnFailure": on_failure},
        statements=[
            (each["sid"], sorted(each["actions"]), sorted(each["resources"]))
            for each in told(document["data"]["aws_iam_policy_document"]["role"]["statement"])
        ],
        function={
            **{
                _camel(name): function[name]
                for name in ("function_name", "handler", "runtime", "timeout")
            },
            **{_camel(name): function[name] for name in ("architectures", "memory_size")},
            **{_camel(name): value for name, value in function["logging_config"].items()},
            "Environment": function.get("environment", {}).get("variables", {}),
        },
        others={
            "queue": (
                queue["name"],
                queue["message_retention_seconds"],
                queue["sqs_managed_sse_enabled"],
            ),
            "log": (log["name"], log["retention_in_days"]),
            "metric": (
                metric["log_group_name"],
                metric["pattern"],
                counted["namespace"],
                counted["name"],
                counted["value"],
                int(counted["default_value"]),
            ),
        },
        alarms=alarms,
    )


def _patterns(mapping: dict[str, Any]) -> list[Any]:
    """Take the patterns out of a mapping: JSON has several ways to write one."""
    filters = mapping.pop("FilterCriteria", {"Filters": []})["Filters"]
    return [json.loads(each["Pattern"]) for each in filters]


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _unescaped(text: str) -> str:
    """Return the value of a template of Terraform that has no other expressions than these."""
    places = {
        "${data.aws_partition.current.partition}": "${Partition}",
        "${data.aws_region.current.id}": "${Region}",
        "${data.aws_caller_identity.current.account_id}": "${Account}",
    }
    expression = r"\$\$\{|%%\{|\$\{[^}]*\}|%\{"

    def value(found: re.Match[str]) -> str:
        if found[0] in ("$${", "%%{"):
            return found[0][1:]
        assert found[0] in places, f"Terraform would evaluate {found[0]} in {text!r}"
        return places[found[0]]

    return re.sub(expression, value, text)


def _resolved(value: Any, resources: dict[str, Any]) -> Any:
    """Return a value with CloudFormation's functions carried out, as far as templates use them."""
    match value:
        case list():
            return [_resolved(each, resources) for each in value]
        case {"Fn::Join": [separator, list(parts)]}:
            return separator.join(_resolved(part, resources) for part in parts)
        case {"Fn::Sub": str(text)}:
            return re.sub(
                r"\$\{(!?)([\w:.]+)\}",
                lambda name: f"${{{name[2]}}}" if name[1] else _named(name[2], resources),
                text,
            )
        case {"Ref": str(name)}:
            return _named(name, resources)
        case {"Fn::GetAtt": [str(name), str(attribute)]}:
            return _named(f"{name}.{attribute}", resources)
        case dict():
            return {name: _resolved(each, resources) for name, each in value.items()}
    return value


def _named(name: str, resources: dict[str, Any]) -> str:
    """Return what a reference stands for."""
    name, _, attribute = name.partition(".")
    pseudo = {"Partition": "Partition", "Region": "Region", "AccountId": "Account"}
    if name.startswith("AWS::"):
        return f"${{{pseudo.get(name.removeprefix('AWS::'), name)}}}"
    if name not in resources:
        return f"<{name}>"
    resource = resources[name]
    known = {
        "AWS::Lambda::Function": "FunctionName",
        "AWS::Logs::LogGroup": "LogGroupName",
        "AWS::SQS::Queue": "QueueName",
    }
    if resource["Type"] == "AWS::Lambda::EventSourceMapping":
        return "UUID"
    physical = str(resource["Properties"].get(known.get(resource["Type"], ""), name))
    start = "arn:${Partition}"
    return {
        ("AWS::SQS::Queue", "Arn"): f"{start}:sqs:${{Region}}:${{Account}}:{physical}",
        ("AWS::Logs::LogGroup", "Arn"): (
            f"{start}:logs:${{Region}}:${{Account}}:log-group:{physical}:*"
        ),
    }.get((resource["Type"], attribute), physical)
