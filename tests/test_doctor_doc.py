"""docs/doctor.md: every finding as the code says it, and a policy for all that is asked."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import Any

import botocore.session
import pytest

from dynaflow import App, Router
from dynaflow.deploy.doctor.examination import Wanted, examine
from dynaflow.deploy.doctor.reading import ACTIONS, Reading
from dynaflow.deploy.doctor.rules import RULES, Severity
from dynaflow.idempotency import Idempotent
from dynaflow.stores import DynamoDBMarks
from tests.support.deployed import Account
from tests.support.documents import Document
from tests.support.tables import REGION, Table

DOCUMENT = Document("docs/doctor.md")


def shown(text: str) -> str:
    """Return a rule's text as the document has it."""
    return re.sub(r"\{(\w+)(?::[^}]*)?\}", lambda name: name[1].upper(), text)


def test_every_finding_is_told_as_the_code_tells_it() -> None:
    told = [row for row in DOCUMENT.text.splitlines() if re.match(r"\| `[\w-]+` \| \w+ \|", row)]
    assert told == [
        f"| `{name}` | {rule.severity} | {shown(rule.fact)} | {shown(rule.consequence)} | "
        f"{shown(rule.remedy)} |"
        for name, rule in RULES.items()
    ]


def test_every_severity_has_its_row_in_the_table() -> None:
    assert DOCUMENT.column("Severity") == [str(severity) for severity in Severity]


def policy() -> set[str]:
    """Return the actions of the document's policy."""
    (text,) = (block.text for block in DOCUMENT.blocks if block.language == "json")
    statements: list[dict[str, Any]] = json.loads(text)["Statement"]
    assert {statement["Effect"] for statement in statements} == {"Allow"}
    actions = [statement["Action"] for statement in statements]
    return {name for each in actions for name in ([each] if isinstance(each, str) else each)}


def test_the_policy_allows_what_is_asked_and_nothing_else() -> None:
    assert policy() == set(ACTIONS.values())


@pytest.mark.parametrize(("service", "operation"), ACTIONS)
def test_what_is_asked_changes_nothing_and_reads_no_item(service: str, operation: str) -> None:
    model = botocore.session.get_session().get_service_model(service)
    names = {botocore.xform_name(name) for name in model.operation_names}
    assert operation in names
    assert operation.startswith(
        ("describe_", "list_", "get_event_", "get_function_con", "head_")
    ) or (operation in ("get_queue_url", "get_topic_attributes"))


def test_everything_in_the_policy_is_really_asked(table: Table, moto_url: str) -> None:
    account = Account(moto_url)
    topic = account("sns").create_topic(Name="asked")["TopicArn"]
    account("s3").create_bucket(Bucket="asked")
    asked = set[str]()
    for number, arn in enumerate((account.queue("asked"), topic, "arn:aws:s3:::asked")):
        given = {"OnFailure": {"Destination": arn}}
        function = account.function(f"asked-{number}")
        uuid = account.mapping(function, account.stream_of(table.name), DestinationConfig=given)
        for wanted in (Wanted(function=function), Wanted(mapping=uuid)):
            reading = Reading(account, REGION)
            report = examine(app(table.name), "shop", wanted, partial(_same, reading))
            assert "destination-missing" not in {f.rule for f in report.findings}
            assert not reading.findings
            asked |= reading.asked
    assert asked == policy()


def _same(reading: Reading) -> Reading:
    return reading


def app(table: str) -> App:
    router = Router(table=table)
    router.add_route(["INSERT"], lambda: None, name="any")
    return App(router, middleware=[Idempotent(DynamoDBMarks(table))])
