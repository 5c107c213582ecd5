"""Apps of many kinds, and what each needs in Lambda."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dynaflow import App, F, Record, Router, changed
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.deploy.choices import Choices
from dynaflow.deploy.deployment import Deployment
from dynaflow.deploy.from_app import deployment_of
from dynaflow.idempotency import Idempotent
from dynaflow.permissions import Permission
from dynaflow.stores import MemoryMarks

__all__ = ["DEPLOYMENTS", "app_of", "choices"]

_DYNAMODB = "arn:${Partition}:dynamodb:${Region}:${Account}:table/"
_LETTERS = {
    "sqs": Permission(
        ("sqs:SendMessage",), ("arn:aws:sqs:eu-north-1:123456789012:letters",), "dead letters"
    ),
    "sns": Permission(
        ("sns:Publish",), ("arn:aws:sns:eu-north-1:123456789012:letters",), "dead letters"
    ),
    "s3": Permission(
        ("s3:PutObject",), ("arn:${Partition}:s3:::my-bucket/dead-letters/*",), "dead letters"
    ),
}
_MARKS = Permission(
    ("dynamodb:DeleteItem", "dynamodb:PutItem", "dynamodb:UpdateItem"),
    (f"{_DYNAMODB}marks",),
    "marks of Idempotent",
)
_TRANSACTIONS = Permission(
    ("dynamodb:ConditionCheckItem", "dynamodb:PutItem"),
    (f"{_DYNAMODB}marks", f"{_DYNAMODB}balances.eu"),
    "transactions: marks of Idempotent",
)


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


def _with_permissions(*permissions: Permission) -> Callable[[], Deployment]:
    def make() -> Deployment:
        return replace(deployment_of(app_of(F.new.a == "1"), choices()), permissions=permissions)

    return make


def _with_marks() -> Deployment:
    app = app_of(changed("status"), middleware=[Idempotent(MemoryMarks(), in_progress_for=600)])
    return replace(deployment_of(app, choices()), permissions=(_MARKS, _MARKS, _TRANSACTIONS))


class _Letters:
    def __call__(self, letter: DeadLetterRecord) -> None: ...

    def permissions(self) -> tuple[Permission, ...]:
        return (_LETTERS["sqs"],)


def _with_a_queue_to_watch() -> Deployment:
    return deployment_of(app_of(F.new.a == "1", dead_letter=_Letters()), choices())


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
    "letters on SQS": _with_permissions(_LETTERS["sqs"]),
    "letters in a queue": _with_a_queue_to_watch,
    "letters on SNS": _with_permissions(_LETTERS["sns"]),
    "letters on S3": _with_permissions(_LETTERS["s3"]),
    "marks and transactions": _with_marks,
    "everything chosen": _of_another_kind,
}
