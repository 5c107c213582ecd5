"""A client of DynamoDB that keeps in memory what transactions write, and fails when it is told."""

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from botocore.exceptions import ClientError, ConnectionClosedError

__all__ = ["MARKS", "AsyncTables", "Tables", "cancelled", "lost_answer", "service_error"]

MARKS = "marks"


class Tables:
    """Does transactions of marks, ``ADD`` updates and puts; not what it is told to fail.

    Args:
        failures: what the next requests raise instead; None for one that goes well. A
            ConnectionClosedError is raised behind the commit: its answer was lost.
        knows_tokens: whether a request that comes again within 10 minutes is recognised.

    ``requests`` are all requests, ``added`` what ADD has come to, by table and key.
    """

    def __init__(
        self, *failures: Exception | None, knows_tokens: bool = False, fails_always: bool = False
    ) -> None:
        self.requests: list[dict[str, Any]] = []
        self.threads: list[str] = []
        self.marks: dict[str, dict[str, Any]] = {}
        self.added: dict[tuple[str, str], int] = {}
        self.commits = 0
        self._failures = list(failures)
        self._fails_always = fails_always
        self._tokens: set[str] | None = set() if knows_tokens else None
        self._lock = threading.Lock()

    def transact_write_items(self, **request: Any) -> dict[str, Any]:
        with self._lock:
            self.threads.append(threading.current_thread().name)
            self.requests.append(request)
            failure = self._next_failure()
            if failure is not None and not isinstance(failure, ConnectionClosedError):
                raise failure
            self._apply(request)
            if failure is not None:
                raise failure
            return {}

    def _next_failure(self) -> Exception | None:
        if self._fails_always:
            return self._failures[0]
        return self._failures.pop(0) if self._failures else None

    def _apply(self, request: dict[str, Any]) -> None:
        token, items = request["ClientRequestToken"], request["TransactItems"]
        if self._tokens is not None and token in self._tokens:
            return
        marks = [item["Put"]["Item"] for item in items if _is_mark(item)]
        held = [self.marks.get(mark["id"]["S"]) for mark in marks]
        if any(held):
            codes = [
                {"Code": "ConditionalCheckFailed", "Item": mark} if mark else {} for mark in held
            ]
            raise cancelled(*codes, *({} for _ in items[len(marks) :]))
        self.marks.update({mark["id"]["S"]: mark for mark in marks})
        self.commits += 1
        if self._tokens is not None:
            self._tokens.add(token)
        for update in (item["Update"] for item in items if "Update" in item):
            place = (update["TableName"], json.dumps(update["Key"]))
            (value,) = update["ExpressionAttributeValues"].values()
            self.added[place] = self.added.get(place, 0) + int(value["N"])


class AsyncTables(Tables):
    """The same as an async client; ``before`` is awaited in each request."""

    def __init__(
        self, *failures: Exception | None, before: Callable[[], Any] | None = None, **options: Any
    ) -> None:
        super().__init__(*failures, **options)
        self._before = before

    async def transact_write_items(  # type: ignore[override]  # async, as aioboto3's are
        self, **request: Any
    ) -> dict[str, Any]:
        if self._before is not None:
            await self._before()
        return super().transact_write_items(**request)


def _is_mark(item: Mapping[str, Any]) -> bool:
    return "Put" in item and item["Put"]["TableName"] == MARKS


def service_error(code: str, message: str = "no", *, status: int = 400) -> ClientError:
    """Return what boto3 raises for an answer that is an error."""
    error = {"Code": code, "Message": message}
    response = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "TransactWriteItems")


def cancelled(*reasons: str | Mapping[str, Any]) -> ClientError:
    """Return what boto3 raises for a cancelled transaction; a reason is a code, or all of it."""
    error = service_error("TransactionCanceledException", f"cancelled: {list(reasons)}")
    error.response["CancellationReasons"] = list(_reasons(reasons))
    return error


def _reasons(reasons: Iterable[str | Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    for reason in reasons:
        yield {"Code": reason} if isinstance(reason, str) else {"Code": "None", **reason}


def lost_answer() -> ConnectionClosedError:
    """Return what botocore raises where the connection breaks before the answer."""
    return ConnectionClosedError(endpoint_url="https://dynamodb.example")
