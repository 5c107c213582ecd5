"""A Lambda function of tests/lambda_apps, with what its handlers did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dynaflow.testing import RecordBuilder
from tests.support.runtime_api import Answer, RuntimeApi

__all__ = ["LambdaFunction", "answered", "failed", "numbers", "orders"]


class LambdaFunction(RuntimeApi):
    """One app of tests/lambda_apps in AWS's runtime client.

    Args:
        app: the app's module.
        directory: for output, and for what handlers did.
        env: environment variables beside those that Lambda sets.
    """

    def __init__(self, app: str, directory: Path, **env: str) -> None:
        self._effects = directory / "effects"
        env["EFFECTS"] = str(self._effects)
        super().__init__(f"tests.lambda_apps.{app}.handler", directory=directory, env=env)

    def effects(self) -> list[str]:
        """Return the lines that handlers have noted so far, in the order in which they did."""
        if not self._effects.exists():
            return []
        return self._effects.read_text(encoding="utf-8").splitlines()


def orders(*items: tuple[str, str], sync: bool = False) -> dict[str, Any]:
    """Return an event for the app ``orders``: one record for each (item's id, what to do).

    Args:
        items: in stream order; the first two sequence numbers have 21 digits, the others 28.
        sync: call the sync handler.
    """
    builder = RecordBuilder(table="orders")
    records = []
    for name, what in items:
        new = {"id": name, "do": what}
        records.append(builder.modify({"id": name}, new) if sync else builder.insert(new))
    return builder.event(*records)


def numbers(event: dict[str, Any]) -> list[str]:
    """Return the sequence numbers of an event's records."""
    return [record["dynamodb"]["SequenceNumber"] for record in event["Records"]]


def failed(number: str | None = None) -> dict[str, Any]:
    """Return the answer that names this sequence number; without one, that of a batch all done."""
    return {"batchItemFailures": [] if number is None else [{"itemIdentifier": number}]}


def answered(answer: Answer) -> Any:
    """Return the function's response; an error of any kind fails the test."""
    assert answer.error_type is None, answer
    return answer.payload
