"""The templates of examples/deploy as CloudFormation gets them, with references filled in."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

from tests.support.documents import ROOT

__all__ = ["DEPLOY", "STREAM", "NoManagedPolicies", "filled", "merged", "template", "translated"]

DEPLOY = ROOT / "examples" / "deploy"
_ACCOUNT = "eu-north-1:123456789012"
STREAM = f"arn:aws:dynamodb:{_ACCOUNT}:table/orders/stream/2026-01-01T00:00:00.000"
_GIVEN = {"StreamArn": STREAM, "AlarmTopicArn": "", "AWS::NoValue": ""}
_PSEUDO = {"Partition": "aws", "Region": "eu-north-1", "AccountId": "123456789012"}


class NoManagedPolicies:
    """The role is written out in the template, so none is asked for."""

    def load(self) -> dict[str, str]:
        return {}


def template(path: str = "sam/template.yaml") -> dict[str, Any]:
    """Return a file of examples/deploy; ``!Ref X`` is ``{"Ref": "X"}``."""
    text = Path(DEPLOY / path).read_text(encoding="utf-8")
    parsed: dict[str, Any] = yaml_parse(text)
    return parsed


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a template with changes laid over it."""
    both = dict(base)
    for name, value in changes.items():
        old = base.get(name)
        both[name] = merged(old, value) if isinstance(old, dict) else value
    return both


@cache
def translated(changes: str | None = None) -> dict[str, Any]:
    """Return the resources that SAM makes of the template. AWS_DEFAULT_REGION must be set.

    Args:
        changes: a file of examples/deploy that is laid over it.
    """
    parsed = merged(template(), template(changes) if changes else {})
    parsed["Resources"]["Function"]["Properties"]["CodeUri"] = "s3://bucket/key"  # as sam does
    result: dict[str, Any] = transform(parsed, {}, NoManagedPolicies())["Resources"]
    return result


def filled(value: Any, resources: dict[str, Any]) -> Any:
    """Return a value with ``Ref``, ``Fn::GetAtt`` and ``Fn::Sub`` replaced as AWS would."""
    if isinstance(value, list):
        return [filled(each, resources) for each in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"Ref": str(name)}:
            return _physical(name, resources)
        case {"Fn::GetAtt": [str(name), str(attribute)]}:
            return _attribute(name, attribute, resources)
        case {"Fn::Sub": str(text)}:
            pattern = r"\$\{(\w+)\.(\w+)\}"
            text = re.sub(pattern, lambda part: _attribute(part[1], part[2], resources), text)
            return re.sub(r"\$\{AWS::(\w+)\}", lambda part: _PSEUDO[part[1]], text)
    return {name: filled(each, resources) for name, each in value.items()}


def _physical(name: str, resources: dict[str, Any]) -> str:
    named_by = {
        "AWS::DynamoDB::Table": "TableName",
        "AWS::Lambda::Function": "FunctionName",
        "AWS::Logs::LogGroup": "LogGroupName",
        "AWS::SQS::Queue": "QueueName",
    }
    if name in _GIVEN:
        return _GIVEN[name]
    resource = resources[name]
    return str(resource["Properties"].get(named_by.get(resource["Type"]), name))


def _attribute(name: str, attribute: str, resources: dict[str, Any]) -> str:
    resource, physical = resources[name], _physical(name, resources)
    table = f"arn:aws:dynamodb:{_ACCOUNT}:table/{physical}"
    return {
        ("AWS::DynamoDB::Table", "Arn"): table,
        ("AWS::DynamoDB::Table", "StreamArn"): f"{table}/stream/2026-01-01T00:00:00.000",
        ("AWS::SQS::Queue", "Arn"): f"arn:aws:sqs:{_ACCOUNT}:{physical}",
        ("AWS::SQS::Queue", "QueueName"): physical,
        ("AWS::Logs::LogGroup", "Arn"): f"arn:aws:logs:{_ACCOUNT}:log-group:{physical}:*",
        ("AWS::IAM::Role", "Arn"): f"arn:aws:iam::123456789012:role/{physical}",
        ("AWS::Lambda::Version", "Version"): "1",
    }[resource["Type"], attribute]
