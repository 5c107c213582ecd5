"""Apps of many kinds, and what each needs in Lambda."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from dynaflow import App, Depends, F, Record, Router, Transaction, changed
from dynaflow.dead_letter import DeadLetter
from dynaflow.dead_letters import S3, SNS, SQS
from dynaflow.deploy.choices import Choices
from dynaflow.deploy.deployment import Deployment
from dynaflow.deploy.from_app import deployment_of
from dynaflow.idempotency import Idempotent
from dynaflow.stores import DynamoDBMarks, Transactions

__all__ = ["DEPLOYMENTS", "app_of", "choices"]


_Tx = Annotated[Transaction, Depends(Transactions("payments"))]


def choices(table: str = "orders", **others: Any) -> Choices:
    """Return choices with a handler, and a stream of both images."""
    given = {"handler": "shop.lambda_handler", "view_type": "NEW_AND_OLD_IMAGES", **others}
    return Choices(table=table, **given)


def app_of(*filters: Any, table: str | None = "orders", **options: Any) -> App:
    """Return an App with a route for each filter, for what is inserted or modified."""
    router = Router(table=table)
    for number, condition in enumerate(filters):

        @router.on_upsert(condition, name=f"route-{number}")
        async def handle(new: dict[str, Any]) -> None: ...

    return App(router, **options)


def _callable(record: Record) -> bool:
    return "x" in record.keys


def _unfiltered() -> Deployment:
    router = Router(table="orders")

    @router.on_any(_callable)
    def handle(record: Record) -> None: ...

    return deployment_of(App(router), choices())


def _five_patterns() -> Deployment:
    paths = [F.new.a, F.new.b, F.new.c, F.new.d, F.new.e]
    app = app_of(*(path == str(number) for number, path in enumerate(paths)))
    return deployment_of(app, choices())


def _written_badly() -> Deployment:
    """Values that a template could take for something else."""
    values = [
        "it's",
        'say "x"',
        "ü𝄞",
        "${AWS::Region}",
        "%{if}",
        "{{resolve:ssm:x}}",
        "a\nb\\c",
        "#",
    ]
    return deployment_of(app_of(F.new.status.is_in(values)), choices())


def _with_letters_in(sink: DeadLetter) -> Callable[[], Deployment]:
    return lambda: deployment_of(app_of(F.new.a == "1", dead_letter=sink), choices())


def _with_marks() -> Deployment:
    router = Router(table="orders")
    eu = "arn:aws:dynamodb:eu-west-1:123456789012:table/marks.eu"

    @router.on_upsert(changed("status"), middleware=[Idempotent(DynamoDBMarks(eu))])
    async def once(new: dict[str, Any]) -> None: ...

    @router.on_insert()
    def book(new: dict[str, Any], tx: _Tx) -> None: ...

    marks = Idempotent(DynamoDBMarks("marks"), in_progress_for=600)
    return deployment_of(App(router, middleware=[marks]), choices())


def _of_another_kind() -> Deployment:
    table = "arn:aws:dynamodb:eu-north-1:123456789012:table/my.orders_v-2"
    chosen = choices(
        "my.orders_v-2",
        stream_arn=f"{table}/stream/2026-01-01T00:00:00.000",
        runtime="python3.12",
        architecture="x86_64",
        memory=1769,
        timeout=900,
        batch_size=10_000,
        batch_window=300,
        max_retries=-1,
        max_record_age=-1,
        parallelization=10,
        starting_position="LATEST",
    )
    return deployment_of(app_of(F.new.a == "1", table=None), chosen)


DEPLOYMENTS: dict[str, Callable[[], Deployment]] = {
    "no filter": _unfiltered,
    "five patterns": _five_patterns,
    "odd values": _written_badly,
    "letters on SQS": _with_letters_in(
        SQS("https://sqs.eu-north-1.amazonaws.com/123456789012/letters")
    ),
    "letters on SNS": _with_letters_in(SNS("arn:aws:sns:eu-north-1:123456789012:letters")),
    "letters on S3": _with_letters_in(S3("my-bucket", kms_key_id="alias/mine")),
    "marks and transactions": _with_marks,
    "everything chosen": _of_another_kind,
}
