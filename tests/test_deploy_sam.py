"""The SAM template of an App, through SAM's translator and cfn-lint, and beside the example's."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from hypothesis import given, settings
from hypothesis import strategies as st
from samtranslator.translator.transform import transform
from samtranslator.yaml_helper import yaml_parse

from dynaflow.deploy import sam
from dynaflow.deploy._yaml import Commented, dumped
from dynaflow.deploy.deployment import Deployment
from dynaflow.deploy.from_app import deployment_of
from examples.orders.app import app as orders
from tests.support.deployments import DEPLOYMENTS, choices
from tests.support.templates import STREAM, NoManagedPolicies, filled, translated

_EXAMPLES = pytest.mark.parametrize("make", DEPLOYMENTS.values(), ids=DEPLOYMENTS)


@pytest.fixture(autouse=True)
def region(aws_environment: pytest.MonkeyPatch) -> None:
    aws_environment.setenv("AWS_DEFAULT_REGION", "eu-north-1")  # SAM wants one


def resources(deployment: Deployment) -> dict[str, Any]:
    """Return the resources that SAM makes of a deployment's template, as it is written."""
    parsed: dict[str, Any] = yaml_parse(sam.render(deployment))
    parsed["Resources"]["Function"]["Properties"]["CodeUri"] = "s3://bucket/key"  # as sam does
    result: dict[str, Any] = transform(parsed, {}, NoManagedPolicies())["Resources"]
    return result


def test_cfn_lint_finds_nothing(tmp_path: Path) -> None:
    files = []
    for number, make in enumerate(DEPLOYMENTS.values()):
        file = tmp_path / f"{number}.yaml"
        file.write_text(sam.render(make()), encoding="utf-8")
        files.append(str(file))
    command = [
        sys.executable,
        "-c",
        "import sys; from cfnlint.runner import main; sys.exit(main())",
        *files,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@_EXAMPLES
def test_lambda_takes_the_mapping_that_sam_makes(make: Callable[[], Deployment]) -> None:
    deployment = make()
    made = resources(deployment)
    mapping = filled(made["FunctionStream"]["Properties"], made)
    model = botocore.session.get_session().get_service_model("lambda")
    shape = model.operation_model("CreateEventSourceMapping").input_shape
    assert ParamValidator().validate(mapping, shape).generate_report() == ""
    wanted = deployment.mapping.to_api()
    del wanted["FilterCriteria"]  # they are compared below
    assert {name: mapping[name] for name in wanted} == wanted
    assert mapping["EventSourceArn"] == (deployment.stream_arn or STREAM)
    (destination,) = mapping["DestinationConfig"].values()
    assert destination["Destination"].endswith(f":{deployment.failure_queue}")


@_EXAMPLES
def test_patterns_arrive_as_they_were_written(make: Callable[[], Deployment]) -> None:
    deployment = make()
    mapping = resources(deployment)["FunctionStream"]["Properties"]
    arrived = mapping.get("FilterCriteria", {}).get("Filters", [])
    assert [json.loads(each["Pattern"]) for each in arrived] == [
        json.loads(text) for text in deployment.mapping.filters
    ]
    for meant_otherwise in ("{{resolve:", "${"):
        assert meant_otherwise not in json.dumps(mapping)


@_EXAMPLES
def test_the_template_as_plain_values_is_the_one_in_yaml(make: Callable[[], Deployment]) -> None:
    deployment = make()
    assert yaml_parse(sam.render(deployment)) == sam.template(deployment)


@_EXAMPLES
def test_no_line_is_long_but_those_that_cannot_be_broken(make: Callable[[], Deployment]) -> None:
    for line in sam.render(make()).splitlines():
        words = re.sub(r"^\s*(?:[\w-]+:|-)*\s*(?:[\w-]+:)?\s*", "", line)
        assert len(line) <= 100 or "Pattern:" in line or " " not in words.split("!Sub ")[-1], line


@_EXAMPLES
def test_sam_adds_no_role_and_no_permission(make: Callable[[], Deployment]) -> None:
    made = resources(make())
    kinds = [resource["Type"] for resource in made.values()]
    assert kinds.count("AWS::IAM::Role") == 1
    assert set(made["Role"]["Properties"]) == {"AssumeRolePolicyDocument", "Policies"}
    assert made["Function"]["Properties"]["Role"] == {"Fn::GetAtt": ["Role", "Arn"]}


def test_what_the_account_knows_is_left_to_cloudformation() -> None:
    policy = resources(DEPLOYMENTS["marks and transactions"]())["Role"]["Properties"]["Policies"][0]
    resources_of = {each["Sid"]: each["Resource"] for each in policy["PolicyDocument"]["Statement"]}
    table = "arn:${AWS::Partition}:dynamodb:${AWS::Region}:${AWS::AccountId}:table/"
    logs = resources_of.pop("WriteLogs")
    assert logs == {"Fn::GetAtt": ["Logs", "Arn"]}
    assert resources_of == {
        "ReadStream": {"Fn::Sub": f"{table}orders/stream/*"},
        "NoteWhatIsGivenUp": {"Fn::GetAtt": ["Failures", "Arn"]},
        "AppMarksOfIdempotent": {"Fn::Sub": f"{table}marks"},
        "AppMarksOfIdempotent2": "arn:aws:dynamodb:eu-west-1:123456789012:table/marks.eu",
        "AppMarksOfTransactions": {"Fn::Sub": f"{table}payments"},
    }


def test_the_queue_of_dead_letters_is_watched_and_not_the_other_one() -> None:
    made = resources(DEPLOYMENTS["letters on SQS"]())
    alarms = {name: each["Properties"] for name, each in made.items() if "Alarm" in name}
    assert alarms["LettersWaitAlarm"]["Dimensions"] == [{"Name": "QueueName", "Value": "letters"}]
    assert filled(alarms["GivenUpAlarm"]["Dimensions"][0]["Value"], made).endswith("-failures")


def test_notes_are_comments_whatever_they_hold() -> None:
    from dataclasses import replace

    deployment = replace(
        DEPLOYMENTS["no filter"](), notes=("one\nResources: {}", "ü \x85 \u2028 x")
    )
    text = sam.render(deployment)
    assert "# one Resources: {}" in text
    assert yaml_parse(text) == sam.template(deployment)


def test_the_command_makes_what_the_example_has_written_by_hand() -> None:
    """But for the table, which the example makes, too."""
    deployment = deployment_of(
        orders, choices("orders", handler="app.lambda_handler", view_type="NEW_AND_OLD_IMAGES")
    )
    generated, by_hand = resources(deployment), translated()
    for name in sorted({*generated, *by_hand} - {"Table"}):
        assert filled(generated[name], generated) == filled(by_hand[name], by_hand), name


TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
VALUES = st.recursive(
    TEXT | st.integers(-(10**9), 10**9) | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
COMMENTED = st.builds(Commented, VALUES, TEXT)


@settings(max_examples=100)
@given(st.dictionaries(TEXT, VALUES | COMMENTED, max_size=4), st.lists(TEXT, max_size=3))
def test_yaml_is_read_as_it_was_written(document: dict[str, Any], head: list[str]) -> None:
    plain = {
        name: value.value if isinstance(value, Commented) else value
        for name, value in document.items()
    }
    if not plain:
        return
    assert yaml_parse(dumped(document, head=head)) == plain


@pytest.mark.parametrize(
    "text",
    [
        *("", "yes", "No", "1", "1.5", "1e3", "2012-10-17", "null", "~", "a: b", "a #b", "- a"),
        *("'", '"', "it's", '"it\'s"', "a\nb", " a", "a ", "a  b", "é", "𝄞", "\\", "[a]", "a:"),
        *("a" * 200 + " b", "word " * 40 + "end", "%", "@a", "`a`", "&a", "*a", "|", ">", "?"),
        *("a\tb", "{a}", "!Ref x", "a\u2028b", "a\x85b", "\ufeffa", "a\x00b", "a\rb"),
    ],
)
def test_a_text_stays_a_text(text: str) -> None:
    document = {text or "empty": text, "list": [text, text], "map": {"of": [{text: text}]}}
    assert yaml_parse(dumped(document)) == document
    assert dumped(document).isascii()
