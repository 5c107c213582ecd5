"""One commit: what DynamoDB is asked for, and what its answers mean. Pure.

An error of the service becomes one of ours without the service's own, whose text may quote items.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from dynaflow.change import PartialFailure
from dynaflow.context import HandlerContext
from dynaflow.errors import (
    AlreadyDone,
    DynaflowError,
    TransactionConditionFailed,
    TransactionError,
    TransactionRefused,
)
from dynaflow.record import Record
from dynaflow.transaction import MAX_ACTIONS, Transaction

__all__ = ["MAX_RECORDS", "Commit", "MarkLayout", "already_done", "collecting", "mark_of"]

MAX_RECORDS = MAX_ACTIONS - 2
"""How many records one call has at most: their marks leave room for two writes."""

_SENDS = 5  # of one commit; together their waits are below a second
_WAIT, _WAIT_MAX = 0.05, 0.5  # seconds
_RESERVE = 0.5  # seconds before the deadline, in which nothing is sent again
_LONGEST_NAME = 200  # characters of a route's name in a mark; the hash has all of it

# Reasons for which a transaction was cancelled, and that pass. (API reference: TransactWriteItems)
_PASSING = {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
# Errors of the whole request after which the same request is sent again.
_AGAIN = {
    "InternalFailure",
    "InternalServerError",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestTimeout",
    "ServiceUnavailable",
    "ThrottlingError",
    "ThrottlingException",
    "TransactionInProgressException",
}
# What the bases of an error are called if no answer came: botocore's, aiohttp's, Python's.
_NO_ANSWER = {"ClientConnectionError", "ConnectionError", "HTTPClientError", "TimeoutError"}
_NOT_SENT = {"CredentialRetrievalError", "NoCredentialsError", "NoRegionError"}
_REMEDIES = {
    "AccessDenied": "allow dynamodb:PutItem on the marks' table, and PutItem, UpdateItem, "
    "DeleteItem and ConditionCheckItem on those that handlers write to",
    "ResourceNotFound": "a table is not there, in this account and region: check the names, also "
    "that of the marks' table",
}
_DATA = re.compile(r"Value '.*' at|\[.*\]|(?<=value: )(?![:#]).*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class MarkLayout:
    """Where marks are, and what their attributes are called: as in Powertools' idempotency table.

    Args:
        table: the table's name, or its ARN.
        key_attr: its partition key.
        sort_key_attr: its sort key; None if it has none.
        static_pk_value: what the partition key holds where there is a sort key, which then has the
            mark's id.
        expiry_attr: when a mark may be deleted, in seconds since the epoch.
        status_attr: holds "COMPLETED".
    """

    table: str
    key_attr: str = "id"
    sort_key_attr: str | None = None
    static_pk_value: str = "dynaflow"
    expiry_attr: str = "expiration"
    status_attr: str = "status"

    @property
    def attributes(self) -> tuple[str, ...]:
        """The names of all attributes."""
        names = (self.key_attr, self.sort_key_attr, self.expiry_attr, self.status_attr, "token")
        return tuple(name for name in names if name is not None)

    def put(self, mark: str, token: str, expires_at: int) -> dict[str, Any]:
        """Return the action that writes a mark where there is none.

        One that has expired still counts: it tells of this very record.
        """
        if self.sort_key_attr is None:
            key = {self.key_attr: mark}
        else:
            key = {self.key_attr: self.static_pk_value, self.sort_key_attr: mark}
        texts = {**key, self.status_attr: "COMPLETED", "token": token}
        item = {name: {"S": text} for name, text in texts.items()}
        item[self.expiry_attr] = {"N": str(expires_at)}
        return {
            "Put": {
                "TableName": self.table,
                "Item": item,
                "ConditionExpression": "attribute_not_exists(#key)",
                "ExpressionAttributeNames": {"#key": self.key_attr},
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        }


def mark_of(record: Record, route: str) -> str:
    """Return the id of the mark that a route has done a record.

    Raises:
        TransactionRefused: nothing says which record it is.
    """
    if not (record.source_arn or record.event_id):
        raise TransactionRefused(
            f"the record {record.sequence_number} has neither eventSourceARN nor eventID, so its "
            "mark could be another one's: pass events on as they came"
        )
    identity = json.dumps([route, *record.identity])
    digest = hashlib.sha256(identity.encode()).hexdigest()
    return f"transaction#{route[:_LONGEST_NAME]}#{digest}"


@contextmanager
def collecting(context: HandlerContext) -> Iterator[Transaction]:
    """Give the handler of a call its Transaction.

    Raises:
        TransactionError: the handler raised PartialFailure; of a transaction no part is done.
    """
    tx = Transaction(marks=len(context.records))
    try:
        yield tx
    except PartialFailure as error:
        if not tx.writes:
            raise
        raise TransactionError(
            f"{context.route} raised PartialFailure, and its transaction is of all records of the "
            "call or of none: nothing was written, so none of them is done. Leave what failed out "
            "with on_batch(max_items=1), or write without a Transaction."
        ) from error
    finally:
        tx.seal()


def already_done(context: HandlerContext, done: Sequence[bool]) -> AlreadyDone:
    """Return what is raised because some records of a call, or all, have marks already."""
    records = [record for record, is_done in zip(context.records, done, strict=True) if is_done]
    all_of_them = len(records) == len(context.records)
    return AlreadyDone(
        "an earlier delivery has committed its transaction", () if all_of_them else records
    )


class Commit:
    """One commit of what a call has collected, from its first request to what becomes of it.

    Args:
        tx: what was collected; at least one write.
        context: the call's.
        layout: how marks look.
        token: new for every commit, at most 36 characters; the mark holds it, so that an answer
            that was lost can be told from another delivery's commit.
        expires_at: when the marks may be deleted, in seconds since the epoch.

    ``request`` is what ``transact_write_items`` is called with, each time.
    """

    def __init__(
        self,
        tx: Transaction,
        context: HandlerContext,
        layout: MarkLayout,
        *,
        token: str,
        expires_at: int,
    ) -> None:
        self._writes = tx.writes
        self._context = context
        self._layout = layout
        self._token = token
        self._sends = 0
        marks = [
            layout.put(mark_of(record, context.route), token, expires_at)
            for record in context.records
        ]
        self.request: dict[str, Any] = {
            "TransactItems": [*marks, *(write.action for write in tx.writes)],
            "ClientRequestToken": token,
        }

    def failed(self, error: Exception, *, chance: float) -> float | None:
        """Return after how many seconds to send the request again; None if it is committed.

        Args:
            error: what the client raised.
            chance: a random number from 0 to below 1.

        Raises:
            AlreadyDone: an earlier delivery has committed it, for all records or for some.
            TransactionConditionFailed: a condition of the handler's is not true.
            TransactionRefused: DynamoDB does not take it.
            TransactionError: it may be tried again, later.
        """
        self._sends += 1
        again, verdict = self._judged(error)
        if verdict is None:
            return None
        wait = min(_WAIT_MAX, _WAIT * 2.0**self._sends) * chance
        deadline = self._context.deadline
        is_in_time = deadline is None or deadline.remaining() - wait > _RESERVE
        if again and self._sends < _SENDS and is_in_time:
            return wait
        raise verdict from None

    def _judged(self, error: Exception) -> tuple[bool, DynaflowError | None]:
        """Return whether to send it again, and what it came to if not; None for a success."""
        if isinstance(error, DynaflowError):
            return False, error
        names = {base.__name__ for base in type(error).__mro__}
        response = getattr(error, "response", None)
        if not isinstance(response, Mapping):
            if "ParamValidationError" in names:
                return False, TransactionRefused(self._says("botocore refuses its parameters"))
            told = f"there was no answer ({type(error).__name__}), so it may be written or not"
            if not names.isdisjoint(_NOT_SENT):
                told = f"it was not sent: {type(error).__name__}; check credentials and region"
            return not names.isdisjoint(_NO_ANSWER), TransactionError(self._says(told))
        code, message = _code_and_message(response.get("Error"))
        if code == "TransactionCanceledException" and response.get("CancellationReasons"):
            return self._judge_reasons(response["CancellationReasons"])
        status = (response.get("ResponseMetadata") or {}).get("HTTPStatusCode") or 0
        if code in _AGAIN or status >= 500:
            return True, TransactionError(self._says(f"DynamoDB answers {code}"))
        return False, self._refused(code, message, "")

    def _judge_reasons(self, reasons: Sequence[Any]) -> tuple[bool, DynaflowError | None]:
        codes = [_code_and_message(reason)[0] for reason in reasons]
        count = len(self._context.records)
        done = [code == "ConditionalCheckFailed" for code in codes[:count]]
        if any(done):  # whatever the writes ran into: the first delivery's writes, no doubt
            if any(self._is_ours(reasons[at]) for at, is_done in enumerate(done) if is_done):
                return False, None
            return False, already_done(self._context, done)
        # Before the conditions: what is in conflict may be the first delivery's commit, and then
        # its mark is the better reason.
        passing = sorted(_PASSING.intersection(codes))
        if passing:
            told = f"it was cancelled for {' and '.join(passing)}"
            return True, TransactionError(self._says(told))
        for at, code in enumerate(codes):
            if code == "None":
                continue
            if at < count:
                told = f"the mark's table {self._layout.table!r} does not take the mark ({code})"
                remedy = f"; its key is said to be {self._layout.attributes[0]!r}: see key_attr="
                return False, TransactionError(self._says(told + remedy))
            write = self._writes[at - count]
            if code == "ConditionalCheckFailed":
                failed = TransactionConditionFailed(at - count, write.table, write.operation)
                return False, failed
            _, message = _code_and_message(reasons[at])
            where = f" for write {at - count + 1} ({write.operation}, table {write.table!r})"
            return False, self._refused(code, message, where)
        return True, TransactionError(self._says("it was cancelled without a reason"))

    def _is_ours(self, reason: Mapping[str, Any]) -> bool:
        """Return True if a mark is there because this very commit has put it there."""
        return bool((reason.get("Item") or {}).get("token") == {"S": self._token})

    def _refused(self, code: str, message: str, where: str) -> DynaflowError:
        kind = code.removesuffix("Exception")
        if kind in ("ValidationError", "Validation", "ItemCollectionSizeLimitExceeded"):
            return TransactionRefused(
                self._says(f"DynamoDB answers {code}{where}: {_DATA.sub('…', message)[:300]}")
                + " A transaction has at most 4 MB, an item 400 KB; no item is written twice; and "
                "keys are complete, also the mark's: see key_attr=."
            )
        remedy = _REMEDIES.get(kind)
        told = f"DynamoDB answers {code}{where}" + (f": {remedy}" if remedy else "")
        return TransactionError(self._says(told))

    def _says(self, what: str) -> str:
        times = "" if self._sends == 1 else f" (sent {self._sends} times)"
        return f"the transaction of {self._context.route} is not committed: {what}{times}."


def _code_and_message(error: Any) -> tuple[str, str]:
    error = error if isinstance(error, Mapping) else {}
    return str(error.get("Code") or "None"), str(error.get("Message") or "")
