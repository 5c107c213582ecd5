"""Transactions in DynamoDB: what a handler collects is committed when it has returned."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Iterator
from inspect import Parameter, Signature
from typing import Annotated, Any, Self
from uuid import uuid4

from dynaflow._aws import AwsClient
from dynaflow._commit import MAX_RECORDS, Commit, MarkLayout, collecting
from dynaflow.context import HandlerContext
from dynaflow.errors import RegistrationError
from dynaflow.params import Depends
from dynaflow.permissions import Permission, TableNeeds, table_arn
from dynaflow.retry import waits
from dynaflow.transaction import Transaction

__all__ = ["Transactions"]

_OPERATION = "transact_write_items"
_WEEK = 7 * 24 * 3600


class Transactions:
    """A dependency that gives each call a ``Transaction``, and commits it once for each record.

    ``Tx = Annotated[Transaction, Depends(Transactions("marks")))]``, then ``tx: Tx``. A route has
    one; with another it would commit twice. With boto3's client it is a sync dependency, so that a
    sync route stays in its thread; with an async client an async one.

    The table of marks may be a Powertools idempotency table; the attributes' options are called as
    they are there. Its Time to Live is on ``expiry_attr``.

    Args:
        table: the table of marks: its name, or its ARN.
        client: DynamoDB's client: boto3's or an async one such as aioboto3's; or the
            ``Depends(..., scope="app")`` that opens it with the App. None makes boto3's when it is
            first needed.
        expires_after_seconds: how long marks are kept. A stream keeps records for 24 hours; what is
            driven again from a dead letter comes later.
        key_attr: the partition key of the table of marks, text.
        sort_key_attr: its sort key, text, if it has one.
        static_pk_value: what the partition key of all marks is where there is a sort key.
        expiry_attr: holds when a mark may be deleted, in seconds since the epoch.
        status_attr: holds "COMPLETED".

    Raises:
        RegistrationError: (when it is made) an option that cannot work. (When it is called, as part
            of a handler's call, it raises what ``dynaflow.errors`` has under Transaction.)
    """

    max_records = MAX_RECORDS
    one_per_call = "a Transaction"

    def __new__(cls, *_: Any, client: Any = None, **__: Any) -> Self:
        # Two classes, because whether calling something is async is seen in its class.
        chosen = _OnLoop if cls is Transactions and _is_async(client) else cls
        return super().__new__(chosen)  # type: ignore[return-value]  # mypy does not see that _OnLoop is a cls

    def __init__(
        self,
        table: str,
        *,
        client: Any = None,
        expires_after_seconds: int = _WEEK,
        key_attr: str = "id",
        sort_key_attr: str | None = None,
        static_pk_value: str = "dynaflow",
        expiry_attr: str = "expiration",
        status_attr: str = "status",
    ) -> None:
        if not isinstance(table, str) or not table:
            raise RegistrationError("Transactions(table) is the name of the table of marks")
        if not isinstance(expires_after_seconds, int) or expires_after_seconds < 24 * 3600:
            raise RegistrationError(
                "Transactions(expires_after_seconds=...) is a whole number, at least 86400: a mark "
                "stays for as long as a stream keeps its record"
            )
        self._layout = MarkLayout(
            table, key_attr, sort_key_attr, static_pk_value, expiry_attr, status_attr
        )
        if len(set(self._layout.attributes)) < len(self._layout.attributes):
            raise RegistrationError(
                f"Transactions(...): the attributes {', '.join(self._layout.attributes)} of a mark "
                "are not all different"
            )
        self._expires_after = expires_after_seconds
        self._client = client
        self._aws = AwsClient("dynamodb", None if isinstance(client, Depends) else client)

    def permissions(self) -> tuple[Permission, ...]:
        """Return what the marks need; which tables handlers write, only they know."""
        table = table_arn(self._layout.table)
        return (Permission(("dynamodb:PutItem",), (table,), "marks of Transactions"),)

    def table_needs(self) -> tuple[TableNeeds, ...]:
        """Return how the table of marks has to be made."""
        layout = self._layout
        key = tuple(n for n in (layout.key_attr, layout.sort_key_attr) if n is not None)
        return (TableNeeds(layout.table, key, layout.expiry_attr, "Transactions"),)

    def __call__(self, context: HandlerContext) -> Iterator[Transaction]:
        """Give a call its Transaction, and commit it when the handler has returned."""
        with collecting(context) as tx:
            yield tx
        commit = self._commit(tx, context)
        while commit is not None:
            try:
                self._aws.call_here(_OPERATION, **commit.request)
            except Exception as error:
                wait = commit.failed(error, chance=random.random())  # noqa: S311 - spreads waits
                if wait is not None:
                    time.sleep(wait if waits() else 0)
                    continue
            return

    def _commit(self, tx: Transaction, context: HandlerContext) -> Commit | None:
        """Return what is to be committed; None if the handler has written nothing."""
        if not tx.writes:
            return None
        expires_at = int(time.time()) + self._expires_after
        return Commit(tx, context, self._layout, token=str(uuid4()), expires_at=expires_at)


class _OnLoop(Transactions):
    """The same with an async client, or with one that a dependency opens."""

    __qualname__ = "Transactions"  # how errors name it

    @property
    def __signature__(self) -> Signature:
        parameters = [_parameter("context", HandlerContext)]
        if isinstance(self._client, Depends):
            parameters.append(_parameter("client", Annotated[Any, self._client]))
        return Signature(parameters)

    async def __call__(  # type: ignore[override]  # nobody but the engine calls it
        self, context: HandlerContext, client: Any = None
    ) -> AsyncIterator[Transaction]:
        from anyio import sleep

        with collecting(context) as tx:
            yield tx
        commit = self._commit(tx, context)
        aws = self._aws if client is None else AwsClient("dynamodb", client)
        while commit is not None:
            try:
                await aws.call(_OPERATION, **commit.request)
            except Exception as error:
                wait = commit.failed(error, chance=random.random())  # noqa: S311 - spreads waits
                if wait is not None:
                    await sleep(wait if waits() else 0)
                    continue
            return


def _parameter(name: str, annotation: Any) -> Parameter:
    return Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, annotation=annotation)


def _is_async(client: Any) -> bool:
    if isinstance(client, Depends):
        if client.scope != "app":
            raise RegistrationError(
                "Transactions(client=Depends(...)): a client is opened once, with the App: "
                "Depends(..., scope='app')"
            )
        return True
    if client is not None and not hasattr(client, _OPERATION):
        raise RegistrationError(
            f"Transactions(client=...) is a client of DynamoDB, such as boto3.client('dynamodb'), "
            f"got {type(client).__name__}"
        )
    return AwsClient("dynamodb", client).is_async(_OPERATION)
