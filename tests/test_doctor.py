"""``dynaflow doctor``: an App, what is deployed for it, and what AWS refuses to say of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import botocore.exceptions
import pytest
from botocore.exceptions import ClientError

from dynaflow import App, Router, changed
from dynaflow.deploy.deployment import MappingSettings
from dynaflow.deploy.doctor.examination import Report, Severity, Wanted, examine
from dynaflow.deploy.doctor.reading import Reading
from dynaflow.idempotency import Idempotent
from dynaflow.stores import DynamoDBMarks
from tests.support.command_line import Project
from tests.support.deployed import Account
from tests.support.tables import REGION, Table

SHOP = """
    from typing import Any
    from dynaflow import App, Router, changed

    router = Router(table="{table}")

    @router.on_modify(changed("status", to="paid"), name="ship")
    def ship(new: dict[str, Any]) -> None:
        raise AssertionError("doctor runs no handler")

    app = App(router)
    lambda_handler = app.lambda_handler({told})
"""


@pytest.fixture
def project(aws_project: Project, aws_environment: pytest.MonkeyPatch, moto_url: str) -> Project:
    aws_environment.setenv("AWS_ENDPOINT_URL", moto_url)
    return aws_project


@pytest.fixture(scope="module")
def account(moto_url: str) -> Account:
    return Account(moto_url)


def doctor(project: Project, *options: str) -> tuple[int, dict[str, list[str]]]:
    """Return the exit code, and by subject the rules that were found."""
    result = project.run("doctor", "shop:app", "--json", *options)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    by_subject: dict[str, list[str]] = {}
    for finding in json.loads(result.stdout)["findings"]:
        by_subject.setdefault(finding["subject"].split(" ")[0], []).append(finding["rule"])
    return result.exit_code, by_subject


def deploy_right(
    account: Account, name: str, stream: str, patterns: list[Any], **settings: Any
) -> str:
    """Deploy a function with what the documents recommend; return the mapping's id."""
    variables = {"Variables": {"DYNAFLOW_REPORT_BATCH_ITEM_FAILURES": "1"}}
    account.function(name, Timeout=60, MemorySize=512, Environment=variables)
    mapped = MappingSettings(filters=tuple(json.dumps(pattern) for pattern in patterns)).to_api()
    given = {"DestinationConfig": {"OnFailure": {"Destination": account.queue(f"{name}-lost")}}}
    return account.mapping(name, stream, **{**mapped, **given, **settings})


def test_what_is_deployed_as_the_documents_say_has_nothing_wrong(
    project: Project, account: Account, table: Table
) -> None:
    project.write("shop.py", SHOP.format(table=table.name, told=""))
    patterns = json.loads(
        project.run("filters", "shop:app", "--json", "--view-type", "NEW_AND_OLD_IMAGES").stdout
    )["patterns"]
    uuid = deploy_right(account, "right", account.stream_of(table.name), patterns)

    assert doctor(project) == (0, {"AWS": ["stand-in"]})
    result = project.run("doctor", "shop:app", "--function", "right")
    assert result.exit_code == 0
    assert f"mapping {uuid} of right\n  checked  its settings" in result.stdout
    assert "1 note" in result.stderr


def test_everything_that_can_be_wrong_with_a_mapping_is_found_in_one_go(
    project: Project, account: Account, table: Table
) -> None:
    project.write("shop.py", SHOP.format(table=table.name, told="report_batch_item_failures=True"))
    account.function("wrong", MemorySize=128)
    account.mapping(
        "wrong",
        account.stream_of(table.name),
        StartingPosition="LATEST",
        Enabled=False,
        ParallelizationFactor=2,
        TumblingWindowInSeconds=30,
        BatchSize=10_000,
        FilterCriteria={"Filters": [{"Pattern": '{"eventName":["INSERT"]}'}]},
    )
    code, found = doctor(project)
    assert code == 1
    assert found == {
        "AWS": ["stand-in"],
        "mapping": [
            "mapping-disabled",
            "reports-ignored",
            "retries-endless",
            "bisect-off",
            "destination-none",
            "tumbling-window",
            "patterns-narrow",
            "starts-late",
            "window-none",
            "events-uncounted",
        ],
        "function": ["memory-small", "timeout-default", "timeout-batch"],
    }
    shown = project.run("doctor", "shop:app").stdout
    assert "  error    the mapping's FilterCriteria may leave out" in shown
    assert shown.index("[reports-ignored]") < shown.index("[bisect-off]")
    assert "so: Lambda ignores the list of failures" in shown
    assert "do: add it now: aws lambda update-event-source-mapping --uuid" in shown


def app_of(table: str | None) -> App:
    router = Router(table=table)
    router.add_route(["MODIFY"], ship, changed("status", to="paid"), name="ship")
    app = App(router)
    app.lambda_handler()
    return app


def ship(new: dict[str, Any]) -> None:
    raise AssertionError("doctor runs no handler")


PAID = app_of("orders").filter_patterns(view_type="NEW_AND_OLD_IMAGES")


def look(account: Account, of: str | None, **wanted: str) -> dict[str, list[str]]:
    """Look at an App for a table without the command line; return rules by subject."""
    report = examine(app_of(of), "shop", Wanted(**wanted), lambda: Reading(account, REGION))
    by_subject: dict[str, list[str]] = {}
    for finding in report.findings:
        by_subject.setdefault(finding.subject, []).append(finding.rule)
    assert by_subject.pop("AWS") == ["stand-in"]
    return by_subject


def test_a_stream_that_was_enabled_anew_leaves_its_mapping_behind(
    account: Account, table: Table
) -> None:
    uuid = deploy_right(account, "behind", account.stream_of(table.name), PAID)
    update = account("dynamodb").update_table
    update(TableName=table.name, StreamSpecification={"StreamEnabled": False})
    assert look(account, table.name) == {f"table {table.name}": ["stream-disabled"]}

    account("dynamodb").delete_table(TableName=table.name)
    Table(table.url, table.name, view_type="KEYS_ONLY").client.close()
    found = look(account, table.name)
    assert found[f"table {table.name}"] == ["view-type"]
    assert "mapping-old-stream" in found[f"mapping {uuid} of behind"]

    account.mapping("behind", account.stream_of(table.name))
    assert "mapping-left" in look(account, table.name)[f"mapping {uuid} of behind"]


def test_the_function_is_chosen_by_its_handler_or_by_an_option(
    account: Account, table: Table
) -> None:
    stream, at = account.stream_of(table.name), f"table {table.name}"
    update = account("lambda").update_function_configuration
    first = deploy_right(account, "bill", stream, PAID)
    update(FunctionName="bill", Handler="bill.handle")
    assert look(account, table.name) == {}  # it is alone

    deploy_right(account, "count", stream, PAID, BisectBatchOnFunctionError=False)
    update(FunctionName="count", Handler="count.handle")
    assert look(account, table.name) == {at: ["mapping-which"]}
    (bisect,) = look(account, table.name, function="count").values()
    assert bisect == ["bisect-off"]
    assert look(account, table.name, mapping=first) == {}

    update(FunctionName="count", Handler="shop.any")
    assert list(look(account, table.name).values()) == [["bisect-off"]]
    assert look(account, table.name, function="nobody") == {
        "function nobody": ["mapping-none-of-function"]
    }


def test_what_is_not_there_is_said(account: Account, table: Table) -> None:
    assert look(account, table.name) == {f"table {table.name}": ["mapping-none"]}
    assert look(account, "nobodys") == {"table nobodys": ["table-missing"]}
    missing = "14e0db71-5d35-4eb5-b481-8945cf9d10c2"
    assert look(account, None, mapping=missing) == {f"mapping {missing}": ["mapping-missing"]}

    gone = {"OnFailure": {"Destination": f"arn:aws:sqs:{REGION}:123456789012:gone"}}
    stream = account.stream_of(table.name)
    uuid = deploy_right(account, "gone", stream, PAID, DestinationConfig=gone)
    account("lambda").delete_function(FunctionName="gone")
    found = look(account, table.name)
    assert found["function gone"] == ["function-missing"]
    assert "destination-missing" in found[f"mapping {uuid} of gone"]


def test_a_mapping_of_a_queue_is_told_from_one_of_a_stream(account: Account) -> None:
    account.function("queued")
    uuid = account("lambda").create_event_source_mapping(
        FunctionName="queued", EventSourceArn=account.queue("queued")
    )["UUID"]
    assert look(account, "orders", mapping=uuid) == {f"mapping {uuid}": ["mapping-elsewhere"]}


def test_a_mapping_of_another_table_than_the_one_that_is_named_is_told(
    account: Account, table: Table
) -> None:
    function = account.function("other")
    uuid = account.mapping(function, account.stream_of(table.name))
    found = look(account, "orders", mapping=uuid, table="orders")
    assert found == {f"mapping {uuid}": ["mapping-elsewhere"], "table orders": ["table-missing"]}


def test_an_app_that_names_no_table_is_asked_for_one(account: Account, table: Table) -> None:
    assert look(account, None) == {"app": ["table-unknown"]}
    arn = table.client.describe_table(TableName=table.name)["Table"]["TableArn"]
    for name in (table.name, arn, account.stream_of(table.name)):
        assert look(account, None, table=name) == {f"table {table.name}": ["mapping-none"]}
    deploy_right(account, "any", account.stream_of(table.name), PAID)
    assert look(account, None, function="any") == {}


# What AWS does not answer.


def test_without_credentials_region_or_network_that_is_what_is_found(
    project: Project, aws_environment: pytest.MonkeyPatch
) -> None:
    project.write("shop.py", SHOP.format(table="orders", told=""))
    nowhere = ("--endpoint-url", "http://127.0.0.1:9")
    code, found = doctor(project, *nowhere)
    assert (code, set(found["AWS"])) == (4, {"stand-in", "unreachable"})
    assert set(doctor(project, "--endpoint-url", "nowhere")[1]["AWS"]) == {"unreachable"}

    aws_environment.delenv("AWS_ACCESS_KEY_ID")
    assert set(doctor(project)[1]["AWS"]) == {"stand-in", "no-credentials"}
    aws_environment.setenv("AWS_PROFILE", "nobodys")
    assert doctor(project) == (4, {"AWS": ["no-credentials"]})
    aws_environment.delenv("AWS_PROFILE")
    aws_environment.delenv("AWS_REGION")
    assert doctor(project) == (4, {"AWS": ["no-region"]})


def test_two_variables_for_the_region_that_differ_are_told(
    project: Project, aws_environment: pytest.MonkeyPatch, table: Table
) -> None:
    project.write("shop.py", SHOP.format(table=table.name, told=""))
    aws_environment.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    assert doctor(project)[1]["AWS"] == ["stand-in", "regions-differ"]
    assert doctor(project, "--region", "eu-west-1")[1]["AWS"] == ["stand-in"]


def test_a_wrong_command_line_is_a_usage_error(project: Project) -> None:
    result = project.run("doctor", "shop:app", "--function", "f", "--mapping", "u")
    assert (result.exit_code, "leave out --function" in result.stderr) == (2, True)
    assert project.run("doctor", "shop:app").exit_code == 3  # there is no such module


def refusal(code: str, message: str = "") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Any")


class FakeAws:
    """Services that answer what they are told to; all else is denied.

    Args:
        answers: by operation, an answer or what is raised.
        endpoint: where they say they are.
    """

    def __init__(
        self, answers: Mapping[str, Any], endpoint: str = "https://dynamodb.amazonaws.com"
    ) -> None:
        self._answers = answers
        self.meta = SimpleNamespace(endpoint_url=endpoint)

    def __call__(self, service: str) -> FakeAws:
        return self

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(**_: Any) -> Any:
            answer = self._answers.get(operation, refusal("AccessDeniedException"))
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def orders() -> App:
    router = Router(table="orders")
    router.add_route(["INSERT"], lambda: None, name="any")
    return App(router, middleware=[Idempotent(DynamoDBMarks("marks"))])


def examined(answers: Mapping[str, Any], wanted: Wanted | None = None) -> Report:
    reading = Reading(FakeAws(answers), "eu-north-1")
    return examine(orders(), "shop", wanted or Wanted(), lambda: reading)


def test_what_is_denied_is_noted_with_its_permission_and_nothing_ends() -> None:
    report = examined({})
    assert report.is_answered
    notes = [finding for finding in report.findings if finding.rule == "not-checked"]
    assert {finding.severity for finding in notes} == {Severity.NOTE}
    assert [finding.fact for finding in notes] == [
        "its stream could not be checked: it needs dynamodb:DescribeTable",
        "whether a mapping reads the stream could not be checked: it needs "
        "lambda:ListEventSourceMappings",
        "table marks could not be checked: it needs dynamodb:DescribeTable",
    ]
    assert not report.count(Severity.ERROR)


MAPPING = {
    "UUID": "7",
    "EventSourceArn": "arn:aws:dynamodb:eu-north-1:1:table/orders/stream/2026",
    "FunctionArn": "arn:aws:lambda:eu-north-1:1:function:shop",
    "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sqs:eu-north-1:1:lost"}},
}


def test_a_mapping_is_checked_as_far_as_its_neighbours_are_not_denied() -> None:
    report = examined({"get_event_source_mapping": MAPPING}, Wanted(mapping="7"))
    rules = [finding.rule for finding in report.findings]
    assert {"retries-endless", "bisect-off"} <= set(rules)
    denied = [finding.fact for finding in report.findings if "it needs" in finding.fact]
    assert [fact.rpartition(" ")[2] for fact in denied] == [
        "dynamodb:DescribeTable",
        "lambda:GetFunctionConfiguration",
        "sqs:GetQueueUrl",
        "dynamodb:DescribeTable",
    ]
    assert "mapping-none" not in rules


@pytest.mark.parametrize(
    ("error", "rule"),
    [
        (refusal("ExpiredTokenException"), "credentials-expired"),
        (refusal("ExpiredToken"), "credentials-expired"),
        (
            botocore.exceptions.UnauthorizedSSOTokenError(),
            "credentials-expired",
        ),
        (refusal("UnrecognizedClientException"), "credentials-refused"),
        (
            refusal("InvalidSignatureException", "The signature does not match"),
            "credentials-refused",
        ),
        (
            refusal("InvalidSignatureException", "Signature expired: 2020 is now earlier than"),
            "clock-skew",
        ),
        (refusal("InvalidSignatureException", "Signature not yet current: 20"), "clock-skew"),
        (refusal("RequestTimeTooSkewed"), "clock-skew"),
        (botocore.exceptions.NoCredentialsError(), "no-credentials"),
        (botocore.exceptions.PartialCredentialsError(provider="x", cred_var="y"), "no-credentials"),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="x"), "unreachable"),
        (botocore.exceptions.ConnectTimeoutError(endpoint_url="x"), "unreachable"),
        (refusal("InternalServerError"), "not-checked"),
        (KeyError("nobody knows"), "not-checked"),
    ],
)
def test_why_there_is_no_answer_is_told_and_nothing_else_is_asked(
    error: Exception, rule: str
) -> None:
    report = examined({"describe_table": error})
    assert not report.is_answered
    assert [finding.rule for finding in report.findings] == [rule]
    assert report.findings[0].subject == "AWS"


def test_one_service_that_fails_does_not_hide_the_others() -> None:
    described = {**DESCRIBED, "StreamSpecification": None}
    report = examined(
        {"describe_table": {"Table": described}, "list_event_source_mappings": refusal("Any")}
    )
    facts = [finding.fact for finding in report.findings]
    assert "the stream of table orders is disabled" in facts
    assert any("lambda:ListEventSourceMappings failed with Any" in fact for fact in facts)


def test_an_answer_without_what_it_must_have_is_none() -> None:
    report = examined({"describe_table": {}})
    assert [finding.rule for finding in report.findings] == ["not-checked"]


DESCRIBED = {
    "TableName": "orders",
    "LatestStreamArn": MAPPING["EventSourceArn"],
    "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
    "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"},
}


def test_that_no_mapping_reads_the_stream_is_said_only_where_all_could_be_listed() -> None:
    stream = {"describe_table": {"Table": DESCRIBED}}
    listed: dict[str, Any] = {"list_event_source_mappings": {"EventSourceMappings": []}}
    assert "mapping-none" in [f.rule for f in examined(stream | listed).findings]
    assert "mapping-none" not in [f.rule for f in examined(stream).findings]


def test_shards_that_are_closed_take_no_part() -> None:
    opened = {"ShardId": "a", "SequenceNumberRange": {"StartingSequenceNumber": "1"}}
    closed = {"ShardId": "b", "SequenceNumberRange": {"EndingSequenceNumber": "2"}}
    report = examined(
        {
            "describe_table": {"Table": DESCRIBED},
            "describe_stream": {"StreamDescription": {"Shards": [opened, closed]}},
        }
    )
    told = [checked.fact for checked in report.checked if checked.subject == "table orders"]
    assert told == ["its stream is enabled with KEYS_ONLY, open shards: 1"]


def test_a_time_to_live_that_is_turned_off_counts_as_none() -> None:
    rules = []
    for status in ("ENABLED", "ENABLING", "DISABLED", "DISABLING"):
        life = {"TimeToLiveStatus": status, "AttributeName": "expiration"}
        answers = {
            "describe_table": {"Table": DESCRIBED},
            "describe_time_to_live": {"TimeToLiveDescription": life},
        }
        rules.append("marks-kept" in [f.rule for f in examined(answers).findings])
    assert rules == [False, False, True, True]


def test_a_destination_in_another_region_is_not_looked_for() -> None:
    elsewhere = {"OnFailure": {"Destination": "arn:aws:sqs:eu-west-1:1:lost"}}
    answers = {
        "get_event_source_mapping": {**MAPPING, "DestinationConfig": elsewhere},
        "get_queue_url": refusal("QueueDoesNotExist"),
    }
    facts = [finding.fact for finding in examined(answers, Wanted(mapping="7")).findings]
    assert "arn:aws:sqs:eu-west-1:1:lost could not be checked: it is in eu-west-1" in facts


def test_a_function_with_two_mappings_is_told_about_once() -> None:
    both = [MAPPING, {**MAPPING, "UUID": "8"}]
    report = examined(
        {
            "list_event_source_mappings": {"EventSourceMappings": both},
            "get_function_configuration": {"FunctionName": "shop", "Timeout": 60},
        }
    )
    of_function = [f.rule for f in report.findings if f.subject == "function shop"]
    assert of_function == ["memory-small", "not-checked"]


def test_pages_are_read_to_their_end() -> None:
    last = {"EventSourceMappings": [MAPPING]}
    pages = [{"EventSourceMappings": [], "NextMarker": "m"}, last]

    class Paged(FakeAws):
        def list_event_source_mappings(self, Marker: str | None = None) -> Any:  # noqa: N803 - AWS
            assert Marker == (None if len(pages) == 2 else "m")
            return pages.pop(0)

    reading = Reading(Paged({}), "eu-north-1")
    report = examine(orders(), "shop", Wanted(), lambda: reading)
    assert "retries-endless" in [finding.rule for finding in report.findings]


def test_lambda_of_aws_is_not_asked_about_a_stand_in() -> None:
    at = {"dynamodb": "http://127.0.0.1:8000", "lambda": "https://lambda.eu-north-1.amazonaws.com"}
    reading = Reading(lambda service: FakeAws({}, at.get(service, at["dynamodb"])), "eu-north-1")
    report = examine(orders(), "shop", Wanted(), lambda: reading)
    assert not {action for action in reading.asked if action.startswith("lambda:")}
    assert any("Lambda would be AWS's" in finding.fact for finding in report.findings)
