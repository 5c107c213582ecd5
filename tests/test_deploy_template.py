"""The SAM template and the IAM policy of examples/deploy, as AWS would take them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from dynaflow.app import REPORT_VARIABLE
from examples.orders.app import app
from tests.support.documents import ROOT, Document
from tests.support.runtime_api import RuntimeApi
from tests.support.templates import DEPLOY, filled, merged, template, translated

SNAPSTART = "snapstart/changes.yaml"

# What Lambda calls in the function's name, with the service model that has the operation.
CALLS = {
    "dynamodb:DescribeStream": "dynamodbstreams",
    "dynamodb:GetRecords": "dynamodbstreams",
    "dynamodb:GetShardIterator": "dynamodbstreams",
    "dynamodb:ListStreams": "dynamodbstreams",
    "sqs:SendMessage": "sqs",
    "logs:CreateLogStream": "logs",
    "logs:PutLogEvents": "logs",
}

# Metrics of AWS, with the dimension under which each is published ("Types of metrics for Lambda
# functions", "Available CloudWatch metrics for Amazon SQS").
METRICS = {
    ("AWS/Lambda", "DestinationDeliveryFailures"): "FunctionName",
    ("AWS/Lambda", "Errors"): "FunctionName",
    ("AWS/Lambda", "FailedInvokeEventCount"): "EventSourceMappingUUID",
    ("AWS/Lambda", "IteratorAge"): "FunctionName",
    ("AWS/Lambda", "Throttles"): "FunctionName",
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): "QueueName",
}


@pytest.fixture(autouse=True)
def region(aws_environment: pytest.MonkeyPatch) -> None:
    aws_environment.setenv("AWS_DEFAULT_REGION", "eu-north-1")  # SAM wants one


def test_cfn_lint_finds_nothing(tmp_path: Path) -> None:
    with_snapstart = tmp_path / "template.json"
    both = merged(template(), template(SNAPSTART))
    with_snapstart.write_text(json.dumps(both), encoding="utf-8")
    command = [
        sys.executable,
        "-c",
        "import sys; from cfnlint.runner import main; sys.exit(main())",
    ]
    command += [str(DEPLOY / "sam/template.yaml"), str(with_snapstart)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("changes", [None, SNAPSTART])
def test_the_mapping_reports_failures_and_gives_up_in_the_end(changes: str | None) -> None:
    resources = translated(changes)
    mapping = filled(resources["FunctionStream"]["Properties"], resources)
    table, queue = resources["Table"]["Properties"], resources["Failures"]["Properties"]

    assert mapping.pop("FunctionName") == ("FunctionAliaslive" if changes else "orders-stream")
    assert f":table/{table['TableName']}/stream/" in mapping.pop("EventSourceArn")
    (destination,) = mapping.pop("DestinationConfig").values()
    assert destination["Destination"].endswith(f":{queue['QueueName']}")
    view_type = table["StreamSpecification"]["StreamViewType"]
    assert mapping.pop("FilterCriteria") == app.filter_criteria("orders", view_type=view_type)
    assert mapping == {
        "StartingPosition": "TRIM_HORIZON",
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "BisectBatchOnFunctionError": True,
        "MaximumRetryAttempts": 100,
        "MaximumRecordAgeInSeconds": 12 * 3600,
        "BatchSize": 100,
        "MaximumBatchingWindowInSeconds": 1,
        "ParallelizationFactor": 1,
        "MetricsConfig": {"Metrics": ["EventCount"]},
    }


def test_lambda_takes_the_mapping() -> None:
    resources = translated()
    mapping = filled(resources["FunctionStream"]["Properties"], resources)
    model = botocore.session.get_session().get_service_model("lambda")
    shape = model.operation_model("CreateEventSourceMapping").input_shape
    assert ParamValidator().validate(mapping, shape).generate_report() == ""


def test_the_function_is_told_what_its_mapping_takes() -> None:
    resources = translated()
    function = resources["Function"]["Properties"]
    reports = (
        "ReportBatchItemFailures"
        in (resources["FunctionStream"]["Properties"]["FunctionResponseTypes"])
    )
    assert (function["Environment"]["Variables"][REPORT_VARIABLE] == "1") is reports


def test_handlers_see_the_table_and_both_of_its_images() -> None:
    table = translated()["Table"]["Properties"]
    assert {route.table for route in app.routes} == {table["TableName"]}
    assert table["StreamSpecification"] == {"StreamViewType": "NEW_AND_OLD_IMAGES"}


def test_with_snapstart_the_mapping_calls_a_published_version() -> None:
    resources = translated(SNAPSTART)
    alias = resources["FunctionAliaslive"]["Properties"]
    assert resources["Function"]["Properties"]["SnapStart"] == {"ApplyOn": "PublishedVersions"}
    assert filled(alias["FunctionVersion"], resources) == "1"
    assert resources["FunctionStream"]["Properties"]["FunctionName"] == {"Ref": "FunctionAliaslive"}


def test_the_role_may_do_what_lambda_does_in_its_name_and_nothing_else() -> None:
    resources = translated()
    assert resources["Function"]["Properties"]["Role"] == {"Fn::GetAtt": ["Role", "Arn"]}
    role = resources["Role"]["Properties"]
    assert set(role) == {"AssumeRolePolicyDocument", "Policies"}, "no managed policy"
    (policy,) = role["Policies"]

    allowed = filled(policy["PolicyDocument"], resources)
    assert allowed == json.loads((DEPLOY / "iam/policy.json").read_text(encoding="utf-8"))
    trusted = json.loads((DEPLOY / "iam/trust.json").read_text(encoding="utf-8"))
    assert role["AssumeRolePolicyDocument"] == trusted


def test_the_policy_names_real_actions_on_single_resources() -> None:
    policy = json.loads((DEPLOY / "iam/policy.json").read_text(encoding="utf-8"))
    assert set(policy) == {"Version", "Statement"}
    assert policy["Version"] == "2012-10-17"
    actions: list[str] = []
    for statement in policy["Statement"]:
        assert set(statement) == {"Sid", "Effect", "Action", "Resource"}
        assert re.fullmatch(r"[A-Za-z0-9]+", statement["Sid"])
        assert statement["Effect"] == "Allow"
        named = statement["Action"]
        named = [named] if isinstance(named, str) else named
        actions += named
        arn = re.fullmatch(
            r"arn:aws:(\w+):eu-north-1:\d{12}:([\w/:-]+?)(/stream/\*|:\*)?", statement["Resource"]
        )
        assert arn, statement["Resource"]
        assert {action.partition(":")[0] for action in named} == {arn[1]}
    assert sorted(actions) == sorted(CALLS)

    session = botocore.session.get_session()
    for action, service in CALLS.items():
        assert action.partition(":")[2] in session.get_service_model(service).operation_names


def test_the_trust_policy_trusts_lambda_only() -> None:
    trust = json.loads((DEPLOY / "iam/trust.json").read_text(encoding="utf-8"))
    (statement,) = trust["Statement"]
    assert statement == {
        "Effect": "Allow",
        "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }


def test_every_alarm_watches_a_metric_that_something_here_publishes() -> None:
    resources = translated()
    logged = resources["FailuresLogged"]["Properties"]["MetricTransformations"]
    own = {(each["MetricNamespace"], each["MetricName"]) for each in logged}
    watched = set()
    for alarm in alarms(resources).values():
        metric = alarm["Namespace"], alarm["MetricName"]
        watched.add(metric)
        dimensions = [(each["Name"], each["Value"]) for each in alarm.get("Dimensions", [])]
        if metric in own:
            assert not dimensions, "a metric filter's metric has none"
            continue
        ((name, value),) = dimensions
        assert name == METRICS[metric]
        physical = filled(value, resources)
        types = {"FunctionName": "Function", "QueueName": "Failures"}
        expected = types.get(name, "FunctionStream")
        assert physical == filled({"Ref": expected}, resources)
    assert watched == {*METRICS, *own}


def test_every_alarm_reaches_somebody_who_gave_a_topic() -> None:
    for alarm in alarms(translated()).values():
        assert alarm["AlarmActions"]["Fn::If"][:2] == ["HasAlarmTopic", [{"Ref": "AlarmTopicArn"}]]
        assert alarm["TreatMissingData"] in ("notBreaching", "ignore")


def test_the_log_filter_counts_what_dynaflow_logs_of_a_failure(tmp_path: Path) -> None:
    event = json.loads((ROOT / "examples/orders/event.json").read_text(encoding="utf-8"))
    spoiled = json.loads(json.dumps(event))
    spoiled["Records"][1]["dynamodb"]["NewImage"]["email"] = {"S": ""}
    logging = translated()["Function"]["Properties"]["LoggingConfig"]
    env = {
        "AWS_LAMBDA_LOG_FORMAT": logging["LogFormat"],
        "AWS_LAMBDA_LOG_LEVEL": logging["ApplicationLogLevel"],
    }
    handler = "examples.orders.app.lambda_handler"
    with RuntimeApi(handler, directory=tmp_path, env=env) as function:
        good = function.invoke(event)
        quiet = function.stdout
        bad = function.invoke(spoiled)
    assert good.error_type is bad.error_type is None
    assert len(bad.payload["batchItemFailures"]) == 1

    assert counted(quiet) == []
    (line,) = counted(function.stdout)
    number = spoiled["Records"][1]["dynamodb"]["SequenceNumber"]
    assert f"notify failed for record {number}" in line["message"]


def test_every_setting_of_the_mapping_is_explained() -> None:
    mapping = translated()["FunctionStream"]["Properties"]
    named = {cell.strip("`") for cell in Document("docs/lambda.md").column("Setting")}
    assert set(mapping) - {"FunctionName", "EventSourceArn"} <= named


def test_every_alarm_is_explained() -> None:
    cells = Document("docs/lambda.md").column("Alarm")
    assert [cell.strip("`") for cell in cells] == list(alarms(translated()))


def test_every_file_is_in_the_readme() -> None:
    files = {str(path.relative_to(DEPLOY)) for path in DEPLOY.rglob("*") if path.is_file()}
    text = Document("examples/deploy/README.md").text
    assert {file for file in files if f"]({file})" not in text} == {"README.md"}


def alarms(resources: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the properties of all alarms."""
    return {
        name: resource["Properties"]
        for name, resource in resources.items()
        if resource["Type"] == "AWS::CloudWatch::Alarm"
    }


def counted(output: str) -> list[dict[str, Any]]:
    """Return the JSON lines of a function's output that the template's log filter takes."""
    pattern = translated()["FailuresLogged"]["Properties"]["FilterPattern"]
    condition = pattern.strip("{ }").replace("&&", "and").replace("||", "or")
    condition = re.sub(r'\$\.(\w+) = ("\w+")', r"line.get('\1') == \2", condition)
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return [line for line in lines if eval(condition, {"line": line})]  # noqa: S307  our own file
