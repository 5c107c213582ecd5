"""The neutral document, by the models of AWS's own SDK."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from dynaflow.deploy import neutral
from dynaflow.deploy.deployment import Deployment
from tests.support.deployments import DEPLOYMENTS

_EXAMPLES = pytest.mark.parametrize("make", DEPLOYMENTS.values(), ids=DEPLOYMENTS)


@cache
def model_of(service: str) -> Any:
    return botocore.session.get_session().get_service_model(service)


def refused(service: str, operation: str, parameters: dict[str, Any]) -> str:
    """Return what the SDK would refuse of a call's parameters; empty if nothing."""
    shape = model_of(service).operation_model(operation).input_shape
    report: str = ParamValidator().validate(parameters, shape).generate_report()
    return report


@_EXAMPLES
def test_aws_takes_every_part_of_the_document(make: Callable[[], Deployment]) -> None:
    document = json.loads(neutral.render(make()))
    role = document["Role"]
    for service, operation, parameters in (
        ("lambda", "CreateFunction", {**document["Function"], "Code": {"ZipFile": b""}}),
        ("lambda", "CreateEventSourceMapping", document["EventSourceMapping"]),
        ("sqs", "CreateQueue", document["FailureQueue"]),
        ("logs", "CreateLogGroup", document["LogGroup"]),
        ("logs", "PutRetentionPolicy", document["RetentionPolicy"]),
        ("logs", "PutMetricFilter", document["MetricFilter"]),
        *(("cloudwatch", "PutMetricAlarm", alarm) for alarm in document["Alarms"]),
        (
            "iam",
            "CreateRole",
            {
                "RoleName": role["RoleName"],
                "AssumeRolePolicyDocument": json.dumps(role["AssumeRolePolicyDocument"]),
            },
        ),
        (
            "iam",
            "PutRolePolicy",
            {
                "RoleName": role["RoleName"],
                "PolicyName": role["PolicyName"],
                "PolicyDocument": json.dumps(role["PolicyDocument"]),
            },
        ),
    ):
        assert refused(service, operation, parameters) == ""


@_EXAMPLES
def test_every_placeholder_is_told(make: Callable[[], Deployment]) -> None:
    deployment = make()
    document = neutral.document(deployment)
    told = document.pop("Placeholders")
    del document["Notes"]
    document["EventSourceMapping"].pop("FilterCriteria", None)  # its texts are as they stand
    text = json.dumps(document)
    for placeholder in told:
        assert placeholder in text
        text = text.replace(placeholder, "")
    assert "${" not in text


def test_notes_are_in_it() -> None:
    deployment = DEPLOYMENTS["marks and transactions"]()
    assert neutral.document(deployment)["Notes"] == list(deployment.notes)


def test_the_queue_of_dead_letters_is_watched_and_not_the_other_one() -> None:
    alarms = neutral.document(DEPLOYMENTS["letters on SQS"]())["Alarms"]
    watched = [each["Dimensions"][0]["Value"] for each in alarms if each["Namespace"] == "AWS/SQS"]
    assert watched == ["orders-stream-failures", "letters"]


def test_no_filter_is_no_parameter() -> None:
    assert (
        "FilterCriteria" not in neutral.document(DEPLOYMENTS["no filter"]())["EventSourceMapping"]
    )
