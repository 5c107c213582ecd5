"""The CDK app: good Python, and what CDK makes of it against the model and CloudFormation.

CDK runs in node. Where it or aws-cdk-lib is missing, what CDK makes is not looked at; and as it
takes its time, ``pytest -m packages`` is what asks for it.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from dynaflow.deploy import cdk
from tests.support.renderings import DEPLOYMENTS, STREAM_ARN, of_model, of_template

Test = TypeVar("Test", bound=Callable[..., None])

# One process for all, because loading CDK takes most of the time. Each app is run as `cdk` runs it.
SYNTHESISE = """
import runpy, sys
for file in sys.argv[1:]:
    runpy.run_path(file, run_name="__main__")
"""
STACKS = {"ordinary": "orders-stream", "hostile": f"function-9-{62 * 'n'}", "bare": "bare"}
TOPIC_ARN = "arn:aws:sns:eu-north-1:123456789012:alarms"
EMPTY_ZIP = b"PK\5\6" + bytes(18)


def in_cdk(test: Test) -> Test:
    """Mark a test that starts CDK."""
    marks = (
        pytest.mark.packages,
        pytest.mark.timeout(240),
        pytest.mark.skipif(shutil.which("node") is None, reason="CDK runs in node"),
        pytest.mark.skipif(
            importlib.util.find_spec("aws_cdk") is None, reason="pip install aws-cdk-lib"
        ),
    )
    for mark in marks:
        test = mark(test)
    return test


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_the_app_is_python_whatever_the_texts_say(name: str) -> None:
    deployment = DEPLOYMENTS[name]
    module = ast.parse(cdk.render(deployment))
    about = ast.get_docstring(module)
    assert about is not None
    assert deployment.table in about
    constants = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in module.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Constant)
    }
    assert constants["NAME"] == deployment.name
    assert constants["TABLE"] == deployment.table


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_its_filters_are_the_patterns_and_can_be_the_apps(name: str) -> None:
    module = ast.parse(cdk.render(DEPLOYMENTS[name]))
    (filters,) = (node for node in module.body if isinstance(node, ast.AnnAssign))
    assert filters.value is not None
    written = DEPLOYMENTS[name].mapping.filters
    assert ast.literal_eval(filters.value) == [json.loads(text) for text in written]


def test_every_reason_and_note_is_told() -> None:
    deployment = DEPLOYMENTS["ordinary"]
    text = cdk.render(deployment)
    assert "# marks of Idempotent" in text
    about = ast.get_docstring(ast.parse(text)) or ""
    assert deployment.notes[0] in " ".join(about.split())


def test_a_log_that_cloudwatch_does_not_keep_for_so_long_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no log for 31 days; it takes 1, 3, 5, 7, 14, 30,"):
        cdk.render(replace(DEPLOYMENTS["bare"], logs_kept_for=31))


@pytest.mark.parametrize("name", ["ordinary", "bare"])
@pytest.mark.skipif(
    shutil.which("ruff", path=Path(sys.executable).parent) is None, reason="no ruff"
)
def test_its_lines_are_as_a_formatter_would_have_them(name: str) -> None:
    # Without its own settings: what users have.
    ruff = [str(Path(sys.executable).parent / "ruff"), "format", "--isolated", "--diff", "-"]
    done = subprocess.run(
        ruff, input=cdk.render(DEPLOYMENTS[name]), capture_output=True, text=True, check=False
    )
    assert done.stdout == ""


@in_cdk
def test_cdk_makes_of_it_what_the_model_says() -> None:
    for name, resources in synthesised().items():
        told = of_template(resources)
        assert told == of_model(DEPLOYMENTS[name]), name


@in_cdk
def test_cloudformation_finds_nothing_to_put_in_the_place_of_a_pattern() -> None:
    assert "{{resolve:" in DEPLOYMENTS["hostile"].mapping.filters[0]
    assert "{{resolve:" not in templates()["hostile"].read_text(encoding="utf-8")


@in_cdk
def test_cdk_adds_no_resource_and_no_parameter_of_its_own() -> None:
    kinds = ["AWS::IAM::Role", "AWS::Lambda::EventSourceMapping", "AWS::Lambda::Function"]
    kinds += ["AWS::Logs::LogGroup", "AWS::Logs::MetricFilter", "AWS::SQS::Queue"]
    for name, resources in synthesised().items():
        alarms = len(DEPLOYMENTS[name].alarms) * ["AWS::CloudWatch::Alarm"]
        assert sorted(each["Type"] for each in resources.values()) == [*alarms, *kinds]


@in_cdk
def test_alarms_reach_the_topic_and_the_mapping_reads_the_stream() -> None:
    for resources in synthesised().values():
        for resource in resources.values():
            if resource["Type"] == "AWS::CloudWatch::Alarm":
                assert resource["Properties"]["AlarmActions"] == [TOPIC_ARN]
        (mapping,) = (
            each["Properties"]
            for each in resources.values()
            if each["Type"] == "AWS::Lambda::EventSourceMapping"
        )
        assert mapping["EventSourceArn"] == STREAM_ARN


@in_cdk
def test_cfn_lint_finds_nothing_in_what_cdk_makes() -> None:
    lint = "import sys; from cfnlint.runner import main; sys.exit(main())"
    # W3005: CDK says itself that a function depends on its role.
    command = [sys.executable, "-c", lint, "--ignore-checks", "W3005", "--"]
    command += map(str, templates().values())
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


@functools.cache
def templates() -> dict[str, Path]:
    """Synthesise every deployment, and return where the templates are."""
    directory = Path(tempfile.mkdtemp(prefix="cdk"))
    files = []
    for name, deployment in DEPLOYMENTS.items():
        files.append(directory / f"{name}.py")
        files[-1].write_text(cdk.render(deployment), encoding="utf-8")
        code = directory / deployment.code
        code.parent.mkdir(exist_ok=True)
        code.write_bytes(EMPTY_ZIP)
    context = {"stream_arn": STREAM_ARN, "alarm_topic_arn": TOPIC_ARN}
    env = {
        **os.environ,
        "CDK_OUTDIR": str(directory / "out"),
        "CDK_CONTEXT_JSON": json.dumps(context),
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "1",
    }
    command = [sys.executable, "-c", SYNTHESISE, *map(str, files)]
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return {name: directory / "out" / f"{stack}.template.json" for name, stack in STACKS.items()}


def synthesised() -> dict[str, dict[str, Any]]:
    """Return the resources that CDK makes of each deployment."""
    return {name: json.loads(path.read_text())["Resources"] for name, path in templates().items()}
