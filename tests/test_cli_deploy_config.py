"""``dynaflow deploy-config``: what it prints and refuses, and how it looks at a live mapping."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any
from uuid import uuid4

import boto3
import pytest
from samtranslator.yaml_helper import yaml_parse

from tests.support.command_line import Project, start
from tests.support.tables import REGION, Table

SHOP = """
    from dynaflow import App, F, Router

    router = Router(table={table!r})

    @router.on_upsert(F.new.status == "paid", name="ship")
    def ship(new): ...

    @router.on_upsert(F.new.total > 100, name="praise")
    def praise(new): ...

    app = App(router)
    lambda_handler = app.lambda_handler()
    print("loaded")
"""
COMMAND = ("deploy-config", "shop:app", "--table", "orders")
NOWHERE = "11614dfc-4bd0-425f-8e05-8f7a98f2bf2a"


@pytest.fixture
def project(aws_project: Project) -> Project:
    aws_project.write("shop.py", SHOP.format(table="orders"))
    return aws_project


def test_a_template_goes_to_stdout_and_what_to_know_to_stderr(project: Project) -> None:
    ran = project.run(*COMMAND, "--format", "sam")
    assert ran.exit_code == 0, ran.output
    function = yaml_parse(ran.stdout)["Resources"]["Function"]["Properties"]
    assert function["Handler"] == "shop.lambda_handler"
    assert function["FunctionName"] == "orders-stream"
    first, second, third, *_ = ran.stderr.splitlines()
    assert first == "loaded"
    assert second == "note: The routes need a stream of orders that carries NEW_IMAGE at least."
    assert third.startswith("note: Filters of praise, widened: F.new.total > 100 orders numbers")


def test_json_is_for_any_tool(project: Project) -> None:
    ran = project.run(*COMMAND, "--format", "json")
    mapping = json.loads(ran.stdout)["EventSourceMapping"]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert len(mapping["FilterCriteria"]["Filters"]) == 3


def test_options_are_in_what_is_printed(project: Project) -> None:
    stream = "arn:aws:dynamodb:eu-north-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
    options = {
        "--name": "shop",
        "--handler": "other.handler",
        "--code": "build/shop.zip",
        "--stream-arn": stream,
        "--view-type": "NEW_AND_OLD_IMAGES",
        "--max-patterns": "1",
        "--runtime": "python3.12",
        "--architecture": "x86_64",
        "--memory": "1024",
        "--timeout": "30",
        "--batch-size": "10",
        "--batch-window": "2",
        "--max-retries": "50",
        "--max-record-age": "3600",
        "--parallelization": "3",
        "--starting-position": "LATEST",
    }
    given = [part for option in options.items() for part in option]
    ran = project.run(*COMMAND, "--format", "json", *given)
    assert ran.exit_code == 0, ran.output
    printed = json.loads(ran.stdout)
    function, mapping = printed["Function"], printed["EventSourceMapping"]
    assert printed["CodePath"] == "build/shop.zip"
    assert (function["FunctionName"], function["Handler"]) == ("shop", "other.handler")
    assert (function["Runtime"], function["Architectures"]) == ("python3.12", ["x86_64"])
    assert (function["MemorySize"], function["Timeout"]) == (1024, 30)
    assert mapping["EventSourceArn"] == stream
    assert len(mapping["FilterCriteria"]["Filters"]) == 1
    assert (mapping["BatchSize"], mapping["MaximumBatchingWindowInSeconds"]) == (10, 2)
    assert (mapping["MaximumRetryAttempts"], mapping["MaximumRecordAgeInSeconds"]) == (50, 3600)
    assert (mapping["ParallelizationFactor"], mapping["StartingPosition"]) == (3, "LATEST")


def test_a_file_is_written_whole_or_stays_as_it_was(project: Project) -> None:
    file = project.write("template.yaml", "before")
    refused = project.run(*COMMAND, "--format", "sam", "--output", "template.yaml", "--memory", "1")
    assert refused.exit_code == 2
    assert file.read_text() == "before"
    ran = project.run(*COMMAND, "--format", "sam", "--output", "template.yaml")
    assert (ran.exit_code, ran.stdout) == (0, "")
    assert yaml_parse(file.read_text())["Transform"] == "AWS::Serverless-2016-10-31"
    left = {path.name for path in project.directory.iterdir() if not path.name.startswith("__")}
    assert left == {"shop.py", "template.yaml"}


@pytest.mark.parametrize("place", ["no/such/folder.yaml", "."])
def test_a_file_that_cannot_be_written_is_told(project: Project, place: str) -> None:
    ran = project.run(*COMMAND, "--format", "sam", "--output", place)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert f"dynaflow: --output {place}: " in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (
            (*COMMAND, "--format", "clodformation"),
            2,
            "Write sam: CloudFormation takes its template",
        ),
        (
            (*COMMAND, "--format", "CloudFormation"),
            2,
            "Write sam: CloudFormation takes its template",
        ),
        ((*COMMAND, "--format", "sma"), 2, "--format sma is unknown. Did you mean sam? Write sam"),
        ((*COMMAND, "--format", "yaml"), 2, "--format yaml is unknown. Write sam"),
        (COMMAND, 2, "write --format sam"),
        ((*COMMAND, "--format", "sam", "--check", NOWHERE), 2, "leave one out"),
        ((*COMMAND, "--check", NOWHERE, "--output", "x"), 2, "leave one out"),
        ((*COMMAND, "--format", "sam", "--json"), 2, "write --format json"),
        ((*COMMAND, "--check", "1234"), 2, "'1234' is no UUID of an event source mapping: aws"),
        ((*COMMAND, "--format", "sam", "--timeout", "901"), 2, "Lambda takes 1 to 900 seconds"),
        ((*COMMAND, "--format", "sam", "--architecture", "arm"), 2, "arm64"),
        (("deploy-config", "shop:app", "--format", "sam"), 2, "--table"),
        (
            ("deploy-config", "shop:app", "--table", "ordres", "--format", "sam"),
            2,
            "no route takes records of table 'ordres'. Did you mean --table orders?",
        ),
        (("deploy-config", "shop:ap", "--table", "orders", "--format", "sam"), 3, "It has: shop:"),
        (("deploy-config", "shp:app", "--table", "orders", "--format", "sam"), 3, "named 'shp'"),
        (("deploy-config", "shop.py", "--table", "orders", "--format", "sam"), 2, "shop:app"),
    ],
)
def test_a_mistake_is_told_with_what_to_write(
    project: Project, arguments: tuple[str, ...], code: int, told: str
) -> None:
    ran = project.run(*arguments)
    assert ran.exit_code == code, ran.output
    assert told in ran.stderr
    assert ran.stdout == ""


@pytest.mark.parametrize(
    ("ending", "target", "told"),
    [
        ("", "shop:app", "Write 'lambda_handler = app.lambda_handler()' in it, or name another"),
        ("", "shop:router", "Write 'lambda_handler = App(router).lambda_handler()' in it"),
        ("handler = app.lambda_handler()", "shop:app", "Write --handler shop.handler"),
    ],
)
def test_a_module_without_a_handler_is_told_what_to_write(
    project: Project, ending: str, target: str, told: str
) -> None:
    project.write(
        "shop.py",
        f"""
        from dynaflow import App, Router
        router = Router(table="orders")
        @router.on_any()
        def ship(record): ...
        {"app = App(router)" if target == "shop:app" else ""}
        {ending}
        """.replace("(record)", "(keys)"),
    )
    ran = project.run("deploy-config", target, "--table", "orders", "--format", "sam")
    assert ran.exit_code == 2
    assert "the module 'shop' has no 'lambda_handler' that Lambda could call" in ran.stderr
    assert told in ran.stderr
    named = project.run(
        "deploy-config", target, "--table", "orders", "--format", "sam", "--handler", "main.handle"
    )
    assert named.exit_code == 0, named.output


class Live:
    """A mapping in moto, of the stream of one test's table.

    Args:
        table: whose stream.
        project: whose app is for this table, from now on.
    """

    def __init__(self, table: Table, project: Project) -> None:
        options: Any = {"region_name": REGION, "endpoint_url": table.url}
        self.table = table
        self.client: Any = boto3.client("lambda", **options)
        iam: Any = boto3.client("iam", **options)
        role = f"shop-{uuid4()}"
        project.write("shop.py", SHOP.format(table=table.name))
        code = io.BytesIO()
        zipfile.ZipFile(code, "w").close()
        self.client.create_function(
            FunctionName=role,
            Runtime="python3.13",
            Handler="shop.lambda_handler",
            Role=iam.create_role(RoleName=role, AssumeRolePolicyDocument="{}")["Role"]["Arn"],
            Code={"ZipFile": code.getvalue()},
        )
        self.name = role
        printed = project.run(*self.command("--format", "json"))
        given = json.loads(printed.stdout)["EventSourceMapping"]
        text = json.dumps(given["DestinationConfig"])
        for name, value in (("Partition", "aws"), ("Region", REGION), ("Account", "123456789012")):
            text = text.replace(f"${{{name}}}", value)
        stream = table.client.describe_table(TableName=table.name)["Table"]["LatestStreamArn"]
        given |= {"EventSourceArn": stream, "DestinationConfig": json.loads(text)}
        self.uuid = str(self.client.create_event_source_mapping(**given)["UUID"])

    def command(self, *others: str) -> tuple[str, ...]:
        return (
            "deploy-config",
            "shop:app",
            "--table",
            self.table.name,
            "--name",
            self.name,
            *others,
        )

    def check(self, *others: str) -> tuple[str, ...]:
        return self.command("--check", self.uuid, "--endpoint-url", self.table.url, *others)


@pytest.fixture
def live(table: Table, aws_project: Project) -> Live:
    return Live(table, aws_project)


def test_a_mapping_that_was_made_of_it_does_not_differ(live: Live, aws_project: Project) -> None:
    ran = aws_project.run(*live.check())
    assert (ran.exit_code, ran.stdout) == (0, ""), ran.output
    assert "the mapping is as it should be" in ran.stderr
    assert aws_project.run(*live.check("--view-type", "NEW_AND_OLD_IMAGES")).exit_code == 0
    assert aws_project.run(*live.check("--json")).stdout == "[]\n"


def test_drift_is_listed_and_is_a_five(live: Live, aws_project: Project) -> None:
    narrow = json.dumps({"eventName": ["INSERT"]})
    live.client.update_event_source_mapping(
        UUID=live.uuid,
        FunctionResponseTypes=[],
        FilterCriteria={"Filters": [{"Pattern": narrow}]},
        BatchSize=5,
    )
    ran = aws_project.run(*live.check())
    assert ran.exit_code == 5
    head, *rows = ran.stdout.splitlines()
    assert head.split() == ["setting", "wanted", "live", "what", "follows"]
    assert [row.split()[0] for row in rows] == [
        "FunctionResponseTypes",
        "FilterCriteria",
        "BatchSize",
    ]
    assert "may never reach ship, praise" in rows[1]
    assert "3 settings differ" in ran.stderr
    (first, *_) = json.loads(aws_project.run(*live.check("--json")).stdout)
    assert first["setting"] == "FunctionResponseTypes"
    assert first["live"] == "none"


def test_what_the_options_say_counts(live: Live, aws_project: Project) -> None:
    ran = aws_project.run(*live.check("--batch-size", "7"))
    assert ran.exit_code == 5
    assert ran.stdout.splitlines()[1].split()[:3] == ["BatchSize", "7", "100"]


def test_the_functions_name_counts_where_it_is_said(live: Live, aws_project: Project) -> None:
    ran = aws_project.run(*live.check("--name", "shop"))
    assert ran.exit_code == 5
    assert [row.split()[0] for row in ran.stdout.splitlines()[1:]] == [
        "DestinationConfig",
        "FunctionArn",
    ]


def test_a_mapping_of_something_else_is_a_usage_error(live: Live, aws_project: Project) -> None:
    queue = boto3.client("sqs", region_name=REGION, endpoint_url=live.table.url)
    url = queue.create_queue(QueueName=live.name)["QueueUrl"]
    arn = queue.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    made = live.client.create_event_source_mapping(
        FunctionName=live.name, EventSourceArn=arn["QueueArn"]
    )
    ran = aws_project.run(*live.command("--check", made["UUID"], "--endpoint-url", live.table.url))
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert "and not a table's stream: check the UUID" in ran.stderr


def test_a_mapping_that_is_not_there_is_told(live: Live, aws_project: Project) -> None:
    command = live.command("--check", NOWHERE, "--endpoint-url", live.table.url)
    ran = aws_project.run(*command)
    assert (ran.exit_code, ran.stdout) == (4, "")
    assert (
        f"{NOWHERE} could not be read: ResourceNotFoundException: there is none here" in ran.stderr
    )


@pytest.mark.parametrize(
    ("missing", "told"),
    [
        ("AWS_REGION", "NoRegionError: name one with --region, or set AWS_REGION"),
        ("", "EndpointConnectionError: check the region and the network"),
    ],
)
def test_aws_that_is_not_reached_is_told(
    project: Project, monkeypatch: pytest.MonkeyPatch, missing: str, told: str
) -> None:
    if missing:
        monkeypatch.delenv(missing)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    endpoint = ("--endpoint-url", "http://127.0.0.1:9")
    ran = project.run(*COMMAND, "--check", NOWHERE, *endpoint)
    assert ran.exit_code == 4, ran.output
    assert told in ran.stderr
    assert ran.stderr.count("\n") == 2  # "loaded", and one line


def test_credentials_that_are_not_there_are_told(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    process = start(*COMMAND, "--check", NOWHERE)  # boto3 keeps those of its process
    _, told = process.communicate(timeout=30)
    assert process.returncode == 4
    assert "NoCredentialsError: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and" in told
