"""What stores, sinks and an App say they need permission for: what they call, and nothing else."""

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import anyio
import pytest
from botocore.exceptions import ClientError

from dynaflow import App, Depends, Idempotent, Router, Transaction
from dynaflow.dead_letters import S3, SNS, SQS, JsonLines
from dynaflow.errors import DynaflowError
from dynaflow.middleware import Call, Process
from dynaflow.permissions import Permission, Permitted, key_arn, merged, permissions_of, queue_arn
from dynaflow.stores import DynamoDBMarks, MemoryMarks, Transactions
from dynaflow.testing import TestClient
from tests.support.documents import Document
from tests.support.letters import letters

QUEUE_URL = "https://sqs.eu-north-1.amazonaws.com/123456789012/letters"
TOPIC_ARN = "arn:aws:sns:eu-north-1:123456789012:letters"
MARKS_ARN = "arn:${Partition}:dynamodb:${Region}:${Account}:table/marks"

# Which action an operation wants, by the Service Authorization Reference; of TransactWriteItems
# each action by itself.
ACTIONS = {
    "send_message": "sqs:SendMessage",
    "publish": "sns:Publish",
    "put_object": "s3:PutObject",
    "put_item": "dynamodb:PutItem",
    "update_item": "dynamodb:UpdateItem",
    "delete_item": "dynamodb:DeleteItem",
    "get_item": "dynamodb:GetItem",
}


class Client:
    """Notes which actions are wanted by what it is called with; a put finds another's mark."""

    def __init__(self) -> None:
        self.actions = set[str]()

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        if operation.startswith("_"):
            raise AttributeError(operation)
        return functools.partial(self._call, operation)

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        if operation == "transact_write_items":
            kinds = {kind for action in arguments["TransactItems"] for kind in action}
            tables = {part["TableName"] for a in arguments["TransactItems"] for part in a.values()}
            assert tables == {"marks"}
            self.actions |= {f"dynamodb:{kind}Item" for kind in kinds}
            return {}
        self.actions.add(ACTIONS[operation])
        if operation == "put_item" and len(self.actions) == 1:
            error = {"Error": {"Code": "ConditionalCheckFailedException", "Message": ""}}
            raise ClientError(error, operation)
        return {}


def declared(user: Permitted) -> set[str]:
    return {action for permission in user.permissions() for action in permission.actions}


@pytest.mark.parametrize(
    "sink",
    [
        functools.partial(SQS, QUEUE_URL),
        functools.partial(SNS, TOPIC_ARN),
        functools.partial(S3, "bucket", "given-up/"),
    ],
)
def test_a_sink_says_exactly_what_it_calls(sink: Callable[..., Any]) -> None:
    client = Client()
    made = sink(client=client)
    made(next(letters("x")))
    assert declared(made) == client.actions


def test_marks_say_exactly_what_they_call() -> None:
    client = Client()
    marks = DynamoDBMarks("marks", client=client)

    async def use() -> None:
        await marks.begin("key", "token", now=1.0, until=2.0)
        await marks.renew("key", "token", until=3.0)
        await marks.complete("key", "token", until=4.0)
        await marks.release("key", "token")

    anyio.run(use)
    assert declared(marks) == client.actions


def test_transactions_say_what_their_marks_call() -> None:
    client = Client()
    transactions = Transactions("marks", client=client)
    router = Router()

    @router.on_insert(name="pay")
    def pay(tx: Annotated[Transaction, Depends(transactions)]) -> None:
        tx.put("marks", {"id": "an effect"})

    with TestClient(router) as stream:
        assert stream.insert({"id": "1"}).handled_by == ["pay"]
    assert declared(transactions) == client.actions == {"dynamodb:PutItem"}


def test_an_app_says_what_its_parts_need() -> None:
    class Audit:
        async def __call__(self, call: Call, call_next: Process) -> None:
            await call_next(call)

        def permissions(self) -> tuple[Permission, ...]:
            return (Permission(("events:PutEvents",), ("*",), "audit"),)

    class Mailer:
        def get(self) -> object:
            return self

        def permissions(self) -> tuple[Permission, ...]:
            return (Permission(("ses:SendEmail",), ("*",), "mail"),)

    router = Router(middleware=[Idempotent(DynamoDBMarks("marks"))])
    transactions = Transactions("tx")

    @router.on_insert(name="one")
    async def one(
        tx: Annotated[Transaction, Depends(transactions)],
        mailer: Annotated[object, Depends(Mailer().get, scope="app")],
    ) -> None: ...

    @router.on_remove(name="other", middleware=[Idempotent(MemoryMarks())])
    async def other(old: dict[str, Any]) -> None: ...

    app = App(router, middleware=[Audit()], dead_letter=SQS(QUEUE_URL))
    assert app.permissions() == (
        Permission(
            ("sqs:SendMessage",),
            ("arn:${Partition}:sqs:eu-north-1:123456789012:letters",),
            "dead letters in SQS",
        ),
        Permission(("events:PutEvents",), ("*",), "audit"),
        Permission(
            (
                "dynamodb:DeleteItem",
                "dynamodb:GetItem",
                "dynamodb:PutItem",
                "dynamodb:UpdateItem",
            ),
            (MARKS_ARN,),
            "marks of Idempotent",
        ),
        Permission(
            ("dynamodb:PutItem",),
            ("arn:${Partition}:dynamodb:${Region}:${Account}:table/tx",),
            "marks of Transactions",
        ),
        Permission(("ses:SendEmail",), ("*",), "mail"),
    )


def test_an_app_of_plain_functions_needs_nothing(tmp_path: Path) -> None:
    router = Router()

    @router.on_any(name="it")
    def it(keys: dict[str, Any]) -> None: ...

    assert App(router, dead_letter=JsonLines(tmp_path / "letters.jsonl")).permissions() == ()
    assert App(router, dead_letter=lambda letter: None).permissions() == ()


def test_statements_of_one_resource_and_reason_become_one() -> None:
    put, get = (
        Permission((f"dynamodb:{name}Item",), (MARKS_ARN,), "marks") for name in ("Put", "Get")
    )
    other = Permission(("dynamodb:GetItem",), (MARKS_ARN,), "transactions")
    both = Permission(("dynamodb:GetItem", "dynamodb:PutItem"), (MARKS_ARN,), "marks")
    assert merged([put, other, get, put]) == (both, other)


def test_what_says_something_else_than_permissions_is_named() -> None:
    class Wrong:
        def permissions(self) -> list[str]:
            return ["s3:PutObject"]

    class Other:
        permissions = ("admin",)  # of another meaning

    with pytest.raises(DynaflowError, match=r"Wrong\.permissions\(\) returned list: it returns"):
        permissions_of(Wrong())
    assert permissions_of(Other(), Wrong) == ()


@pytest.mark.parametrize(
    ("url", "arn"),
    [
        (QUEUE_URL, "eu-north-1:123456789012:letters"),
        (
            "https://sqs-fips.us-gov-west-1.amazonaws.com/123456789012/a.fifo",
            "us-gov-west-1:123456789012:a.fifo",
        ),
        ("https://eu-west-1.queue.amazonaws.com/123456789012/old", "eu-west-1:123456789012:old"),
        (
            "https://vpce-1a.sqs.us-east-1.vpce.amazonaws.com/123456789012/own",
            "us-east-1:123456789012:own",
        ),
        ("https://sqs.us-east-1.api.aws/123456789012/new", "us-east-1:123456789012:new"),
        ("http://127.0.0.1:5000/123456789012/letters", "${Region}:${Account}:letters"),
        ("http://localhost:4566/000000000000/letters", "${Region}:${Account}:letters"),
    ],
)
def test_a_queue_is_known_by_its_url_as_far_as_that_tells(url: str, arn: str) -> None:
    assert queue_arn(url) == f"arn:${{Partition}}:sqs:{arn}"


@pytest.mark.parametrize(
    ("key", "arn"),
    [
        (
            "arn:aws:kms:eu-north-1:123456789012:key/1-2",
            "arn:aws:kms:eu-north-1:123456789012:key/1-2",
        ),
        ("1-2", "arn:${Partition}:kms:${Region}:${Account}:key/1-2"),
        ("alias/letters", "arn:${Partition}:kms:${Region}:${Account}:key/*"),
    ],
)
def test_a_bucket_with_a_key_of_its_own_needs_that_key(key: str, arn: str) -> None:
    assert key_arn(key) == arn
    put, encrypt = S3("bucket", kms_key_id=key).permissions()
    assert put.resources == ("arn:${Partition}:s3:::bucket/dead-letters/*",)
    assert (encrypt.actions, encrypt.resources) == (("kms:GenerateDataKey",), (arn,))


def test_the_documents_list_the_same_actions() -> None:
    text = Document("docs/dead-letters.md").text
    for name, sink in (("SQS", SQS(QUEUE_URL)), ("SNS", SNS(TOPIC_ARN)), ("S3", S3("my-bucket"))):
        (to_keep,) = re.findall(rf"^\| {name} \| ([^|]*:[^|]*) \|", text, re.MULTILINE)
        assert set(re.findall(r"`(\w+:\w+)`", to_keep)) == declared(sink)
    (policy,) = [
        json.loads(block.text)
        for block in Document("docs/idempotency.md").blocks
        if block.language == "json" and '"Action"' in block.text
    ]
    assert set(policy["Action"]) == declared(DynamoDBMarks("marks"))
