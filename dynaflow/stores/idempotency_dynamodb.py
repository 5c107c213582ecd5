"""Marks in a DynamoDB table: for processes anywhere.

The layout is that of Powertools for AWS Lambda (``DynamoDBPersistenceLayer``), so that a table made
for it will do; a mark has one attribute more, ``token``.
"""

from __future__ import annotations

import math
import os
from typing import Any, NoReturn

from dynaflow._aws import AwsClient, error_code
from dynaflow._marks import Mark
from dynaflow.errors import DynaflowError, StoreError, StoreRefused
from dynaflow.permissions import Permission, TableNeeds, table_arn

__all__ = ["DynamoDBMarks"]

_IN_PROGRESS, _COMPLETED = "INPROGRESS", "COMPLETED"

_CAN_BE_TAKEN = (
    "attribute_not_exists(#id) OR #expiration < :now OR (#status = :in_progress AND "
    "((attribute_exists(#in_progress) AND #in_progress < :now_in_ms) OR #token = :token))"
)
_IS_OURS = "#token = :token AND #status = :in_progress"


class DynamoDBMarks:
    """A store of marks in a DynamoDB table.

    The table has a partition key ``id`` of type S, and should have Time to Live on ``expiration``:
    nothing else removes marks. All changes are conditional, and what is read is consistent. IAM has
    to allow ``dynamodb:PutItem``, ``UpdateItem``, ``DeleteItem`` and ``GetItem`` on the table.

    Args:
        table: its name or ARN.
        client: boto3's client of DynamoDB, or an async one, entered. By default boto3's is made
            when it is first needed, with the region and the credentials of the environment.
        key_attr: the partition key.
        sort_key_attr: the sort key, where the table has one. Marks then stand in it, under one
            partition key.
        static_pk_value: that partition key; by default "idempotency#" and the name of the Lambda
            function, as in Powertools.
        expiry_attr: until when an item counts, in seconds since the epoch.
        in_progress_expiry_attr: until when one in progress counts, in milliseconds.
        status_attr: INPROGRESS or COMPLETED.
        token_attr: whose it is.
    """

    def __init__(
        self,
        table: str,
        *,
        client: Any = None,
        key_attr: str = "id",
        sort_key_attr: str | None = None,
        static_pk_value: str | None = None,
        expiry_attr: str = "expiration",
        in_progress_expiry_attr: str = "in_progress_expiration",
        status_attr: str = "status",
        token_attr: str = "token",  # noqa: S107 - the name of an attribute
    ) -> None:
        if sort_key_attr == key_attr:
            raise ValueError("DynamoDBMarks(sort_key_attr=...) is another attribute than key_attr")
        if static_pk_value is None:
            static_pk_value = f"idempotency#{os.environ.get('AWS_LAMBDA_FUNCTION_NAME', '')}"
        self._client = AwsClient("dynamodb", client)
        self._table = table
        self._key_attr = key_attr
        self._sort_key_attr = sort_key_attr
        self._static_pk_value = static_pk_value
        self._names = {
            "#id": key_attr,
            "#expiration": expiry_attr,
            "#in_progress": in_progress_expiry_attr,
            "#status": status_attr,
            "#token": token_attr,
        }

    def permissions(self) -> tuple[Permission, ...]:
        """Return what the marks need."""
        operations = ("DeleteItem", "GetItem", "PutItem", "UpdateItem")
        actions = tuple(f"dynamodb:{operation}" for operation in operations)
        return (Permission(actions, (table_arn(self._table),), "marks of Idempotent"),)

    def table_needs(self) -> tuple[TableNeeds, ...]:
        """Return how the table has to be made."""
        keys = (self._key_attr, self._sort_key_attr)
        key = tuple(name for name in keys if name is not None)
        return (TableNeeds(self._table, key, self._names["#expiration"], "DynamoDBMarks"),)

    async def begin(self, key: str, token: str, *, now: float, until: float) -> Mark | None:
        """Take a key that has no mark, or an expired one, or one in progress with this token."""
        names = self._names
        item = {
            **self._key(key),
            names["#expiration"]: _seconds(until),
            names["#in_progress"]: _milliseconds(until),
            names["#status"]: {"S": _IN_PROGRESS},
            names["#token"]: {"S": token},
        }
        values = {
            ":now": {"N": str(int(now))},
            ":now_in_ms": {"N": str(int(now * 1000))},
            ":in_progress": {"S": _IN_PROGRESS},
            ":token": {"S": token},
        }
        for _ in range(3):
            is_taken, found = await self._change("put_item", _CAN_BE_TAKEN, values, key, Item=item)
            if is_taken:
                return None
            if found is not None:
                return self._mark(found)
        raise StoreError(f"a mark in {self._table!r} comes and goes: {key.rpartition('#')[0]}")

    async def renew(self, key: str, token: str, *, until: float) -> bool:
        """Move the end of a mark in progress; return False if there is none with this token."""
        values = {
            ":expiration": _seconds(until),
            ":until": _milliseconds(until),
            ":in_progress": {"S": _IN_PROGRESS},
            ":token": {"S": token},
        }
        update = "SET #expiration = :expiration, #in_progress = :until"
        is_ours, _ = await self._change(
            "update_item", _IS_OURS, values, key, Key=self._key(key), UpdateExpression=update
        )
        return is_ours

    async def complete(self, key: str, token: str, *, until: float) -> bool:
        """Enter that the key is done; return False if the mark is another token's."""
        values = {
            ":expiration": _seconds(until),
            ":completed": {"S": _COMPLETED},
            ":token": {"S": token},
        }
        update = "SET #expiration = :expiration, #status = :completed, #token = :token"
        condition = "attribute_not_exists(#id) OR #token = :token"
        is_ours, _ = await self._change(
            "update_item", condition, values, key, Key=self._key(key), UpdateExpression=update
        )
        return is_ours

    async def release(self, key: str, token: str) -> bool:
        """Remove a mark in progress; return False if it is another token's, or completed."""
        values = {":in_progress": {"S": _IN_PROGRESS}, ":token": {"S": token}}
        is_ours, found = await self._change(
            "delete_item", _IS_OURS, values, key, Key=self._key(key)
        )
        return is_ours or found is None

    def _key(self, key: str) -> dict[str, Any]:
        if self._sort_key_attr is None:
            return {self._key_attr: {"S": key}}
        return {self._key_attr: {"S": self._static_pk_value}, self._sort_key_attr: {"S": key}}

    async def _change(
        self, operation: str, condition: str, values: dict[str, Any], key: str, **arguments: Any
    ) -> tuple[bool, dict[str, Any] | None]:
        """Make a conditional change; return whether it was made, and the item that forbids it."""
        used = condition + arguments.get("UpdateExpression", "")
        try:
            await self._client.call(
                operation,
                TableName=self._table,
                ConditionExpression=condition,
                ExpressionAttributeNames={n: a for n, a in self._names.items() if n in used},
                ExpressionAttributeValues=values,
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
                **arguments,
            )
        except Exception as error:
            if error_code(error) != "ConditionalCheckFailedException":
                self._fail(operation, error)
            found = error.response.get("Item")  # type: ignore[attr-defined]  # it has a code
            return False, await self._read(key) if found is None else found
        return True, None

    async def _read(self, key: str) -> dict[str, Any] | None:
        try:
            answer = await self._client.call(
                "get_item", TableName=self._table, Key=self._key(key), ConsistentRead=True
            )
        except Exception as error:
            self._fail("get_item", error)
        item: dict[str, Any] | None = answer.get("Item")
        return item

    def _mark(self, item: dict[str, Any]) -> Mark:
        names = self._names
        try:
            status = item[names["#status"]]["S"]
            expires_at = float(item[names["#expiration"]]["N"])
            if status == _IN_PROGRESS and names["#in_progress"] in item:
                expires_at = min(expires_at, float(item[names["#in_progress"]]["N"]) / 1000)
            token = item.get(names["#token"], {"S": ""})["S"]
        except (KeyError, TypeError, ValueError):
            status, token, expires_at = "", "", 0.0
        if status not in (_IN_PROGRESS, _COMPLETED) or not isinstance(token, str):
            raise StoreRefused(
                f"an item in {self._table!r} under a key of dynaflow's is no mark: another program "
                "writes there, or its attributes have other names. Name another table, or these"
            )
        return Mark(token, status == _COMPLETED, expires_at)

    def _fail(self, operation: str, error: Exception) -> NoReturn:
        if isinstance(error, DynaflowError):
            raise error
        why = error_code(error) or type(error).__name__
        raise StoreError(
            f"{operation} on the table of marks {self._table!r} failed: {why}. Check that it is "
            f"there, and that its IAM actions are allowed, if that stays so"
        ) from error


def _seconds(at: float) -> dict[str, str]:
    return {"N": str(math.ceil(at))}


def _milliseconds(at: float) -> dict[str, str]:
    return {"N": str(math.ceil(at * 1000))}
