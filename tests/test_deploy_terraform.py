"""The Terraform document, against the AWS provider's documentation and against the model."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dynaflow.deploy import terraform
from tests.support.renderings import DEPLOYMENTS, STREAM_ARN, of_model, of_terraform
from tests.support.terraform_arguments import ARGUMENTS, problems

# What Terraform's templates make something of, and what only looks so.
TEXTS = ["${x}", "%{x}", "$${x}", "$$${x}", "%%{x}", "$", "%", "$$", "a${", "a%{", "$%{", "%${"]
TEXTS += ['"', "\\", "\\${x}", "\n", "\t", "é😀\u2028", '{"a":["${b}"]}', "${~ x ~}", "$ {x}"]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_it_says_what_the_model_says(name: str) -> None:
    deployment = DEPLOYMENTS[name]
    assert of_terraform(terraform.render(deployment)) == of_model(deployment)


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_every_argument_is_documented_and_of_its_type(name: str) -> None:
    assert problems(json.loads(terraform.render(DEPLOYMENTS[name]))) == []


def test_an_argument_that_is_not_documented_is_found() -> None:
    document = json.loads(terraform.render(DEPLOYMENTS["ordinary"]))
    stream = document["resource"]["aws_lambda_event_source_mapping"]["stream"]
    stream["bisect_batch"] = True
    stream["batch_size"] = "100"
    stream["filter_criteria"]["filter"][0]["patern"] = "{}"
    del stream["function_name"]
    assert sorted(problems(document)) == [
        "aws_lambda_event_source_mapping.batch_size: '100' is no number",
        "aws_lambda_event_source_mapping.bisect_batch is not documented",
        "aws_lambda_event_source_mapping.filter_criteria.filter.patern is not documented",
        "aws_lambda_event_source_mapping.function_name is required",
    ]


def test_every_reference_is_to_something_in_the_document() -> None:
    for deployment in (*DEPLOYMENTS.values(), replace(DEPLOYMENTS["bare"], code="build/function")):
        document = json.loads(terraform.render(deployment))
        for expression in expressions(document):
            for path in re.findall(r"\b(?:aws_\w+|data|var|local)(?:\.\w+)+", expression):
                root, *names = path.split(".")
                if root == "var":
                    assert names[0] in document["variable"], path
                elif root == "local":
                    assert names[0] in document["locals"], path
                elif root == "data":
                    assert names[1] in document["data"][names[0]], path
                else:
                    assert names[0] in document["resource"][root], path


def test_the_mapping_waits_for_the_role_to_be_allowed_to_read() -> None:
    document = json.loads(terraform.render(DEPLOYMENTS["ordinary"]))
    mapping = document["resource"]["aws_lambda_event_source_mapping"]["stream"]
    assert mapping["depends_on"] == ["aws_iam_role_policy.role"]


def test_names_are_within_awss_limits() -> None:
    resources = json.loads(terraform.render(DEPLOYMENTS["hostile"]))["resource"]
    assert len(resources["aws_iam_role"]["role"]["name_prefix"]) == 38
    assert len(resources["aws_sqs_queue"]["failures"]["name"]) <= 80


def test_the_stream_is_a_variable_and_has_to_be_of_the_table() -> None:
    asked = json.loads(terraform.render(DEPLOYMENTS["ordinary"]))["variable"]["stream_arn"]
    known = json.loads(terraform.render(DEPLOYMENTS["hostile"]))["variable"]["stream_arn"]
    assert "default" not in asked
    assert known["default"] == STREAM_ARN

    expression = asked["validation"]["condition"].removeprefix("${can(regex(")
    pattern, _ = json.JSONDecoder().raw_decode(expression)
    assert re.search(pattern, STREAM_ARN)
    assert not re.search(pattern, STREAM_ARN.replace("my.orders", "myxorders"))
    assert not re.search(pattern, STREAM_ARN.replace("_v-2", "_v-20"))


def test_a_folder_is_zipped_and_a_zip_is_taken_as_it_is() -> None:
    zipped = json.loads(terraform.render(replace(DEPLOYMENTS["bare"], code="/far/f.zip")))
    assert zipped["locals"] == {"code": "/far/f.zip"}
    assert "archive" not in zipped["terraform"]["required_providers"]

    folder = json.loads(terraform.render(replace(DEPLOYMENTS["bare"], code="build/${x}")))
    assert folder["locals"] == {"code": "${path.module}/build/$${x}"}
    assert folder["data"]["archive_file"]["code"]["source_dir"] == "${local.code}"
    assert "archive" in folder["terraform"]["required_providers"]
    assert problems(folder) == []


def test_a_literal_dollar_is_never_an_expression() -> None:
    for name in DEPLOYMENTS:
        allowed = r"data|var|local|path|aws_\w+|compact|can|filebase64sha256"
        for expression in expressions(json.loads(terraform.render(DEPLOYMENTS[name]))):
            assert re.match(rf"\$\{{(?:{allowed})\b", expression), expression


@pytest.mark.packages
@pytest.mark.timeout(120)
def test_the_provider_takes_it(tmp_path: Path) -> None:
    program = terraform_program()
    code = tmp_path / "function.zip"
    code.write_bytes(b"")
    for name, deployment in DEPLOYMENTS.items():
        text = terraform.render(replace(deployment, code=str(code)))
        (tmp_path / "main.tf.json").write_text(text, encoding="utf-8")
        # Where the registry cannot be reached: TF_CLI_ARGS_init=-plugin-dir=FOLDER
        init = run([program, "init", "-input=false", "-no-color"], tmp_path, ends_with=None)
        if init.returncode and "available provider packages" in init.stderr:
            pytest.skip("the AWS provider cannot be had here")
        assert init.returncode == 0, init.stderr
        validated = json.loads(run([program, "validate", "-json"], tmp_path).stdout)
        assert validated["diagnostics"] == [], name


@pytest.mark.packages
def test_terraform_gives_every_text_back_as_it_was(tmp_path: Path) -> None:
    program = terraform_program()
    bare = DEPLOYMENTS["bare"]
    mapping = replace(bare.mapping, filters=tuple(TEXTS))
    document = json.loads(terraform.render(replace(bare, table="t_1", mapping=mapping)))
    stream = document["resource"]["aws_lambda_event_source_mapping"]["stream"]
    texts = [each["pattern"] for each in stream["filter_criteria"]["filter"]]

    # What needs no provider: that is somewhere on the network.
    values = {"texts": {"value": texts}, "topics": {"value": "${compact([var.alarm_topic_arn])}"}}
    alone = {"//": document["//"], "variable": document["variable"], "output": values}
    (tmp_path / "main.tf.json").write_text(json.dumps(alone), encoding="utf-8")
    arn = STREAM_ARN.replace("my.orders_v-2", "t_1")
    apply = [program, "apply", "-auto-approve", "-no-color", "-input=false", "-var"]
    run([*apply, f"stream_arn={arn}"], tmp_path)
    answered = json.loads(run([program, "output", "-json"], tmp_path).stdout)
    assert answered["texts"]["value"] == TEXTS
    assert answered["topics"]["value"] == []

    refused = run([*apply, f"stream_arn={STREAM_ARN}"], tmp_path, ends_with=1)
    assert "This is no stream of table t_1" in refused.stdout + refused.stderr


def terraform_program() -> str:
    """Return where Terraform or OpenTofu is, or skip the test."""
    program = shutil.which("tofu") or shutil.which("terraform")
    if program is None:
        pytest.skip("neither tofu nor terraform is here")
    return program


def run(
    command: list[str], directory: Path, ends_with: int | None = 0
) -> subprocess.CompletedProcess[str]:
    """Run Terraform, which asks its maker for a newer version unless told not to."""
    env = {**os.environ, "CHECKPOINT_DISABLE": "1", "TF_LOG": ""}
    done = subprocess.run(
        command, cwd=directory, env=env, capture_output=True, text=True, timeout=50, check=False
    )
    assert ends_with is None or done.returncode == ends_with, done.stdout + done.stderr
    return done


def expressions(value: Any) -> list[str]:
    """Return what Terraform would evaluate in a document."""
    match value:
        case dict():
            bodies = [each for name, each in value.items() if name != "//"]
            return [found for each in (*value, *bodies) for found in expressions(each)]
        case list():
            return [found for each in value for found in expressions(each)]
        case str():
            return re.findall(r"(?<![$%])[$%]\{.*", value, re.DOTALL)
    return []


def test_the_table_of_arguments_has_every_resource() -> None:
    document = json.loads(terraform.render(replace(DEPLOYMENTS["ordinary"], code="build/function")))
    used = {*document["resource"], *(f"data.{kind}" for kind in document["data"])}
    assert used == set(ARGUMENTS)


def test_without_alarms_there_is_no_empty_block_of_them() -> None:
    # Terraform: "All resource blocks must have 2 labels (type, name)".
    assert all(json.loads(terraform.render(DEPLOYMENTS["bare"]))["resource"].values())
