"""The audit's tests: in memory with a stand-in for the audit table, and on the emulator."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock
from typing import Any

import boto3
import pytest

from dynaflow.demo.stage import Stage
from dynaflow.record import Image
from dynaflow.testing import TestClient
from examples.audit.app import TRAIL, app, open_dynamodb
from examples.audit.demo import change, replay

FREE = {"id": "A-1", "plan": "free", "logo": b"\x00", "updated_by": "ada"}
TEAM = {"id": "A-1", "plan": "team", "seats": 5, "updated_by": "grace"}


class AuditTable:
    """A table that takes an entry once, as its condition demands."""

    class ConditionalCheckFailedException(Exception):
        pass

    def __init__(self) -> None:
        self.exceptions = self
        self.entries: dict[str, dict[str, Any]] = {}
        self.refused = 0

    def put_item(self, *, TableName: str, Item: Any, ConditionExpression: str) -> None:  # noqa: N803 - boto3's
        assert (TableName, ConditionExpression) == (TRAIL, "attribute_not_exists(account)")
        entry = Image(Item).to_dict()
        if entry["change"] in self.entries:
            self.refused += 1
            raise self.ConditionalCheckFailedException
        self.entries[entry["change"]] = entry


class Shaky:
    """Writes each entry, but every fourth answer is lost on the way back."""

    def __init__(self, client: Any) -> None:
        self.exceptions = client.exceptions
        self.answers = 0
        self.lost = 0
        self._client = client
        self._lock = Lock()  # the handler runs in several threads

    def put_item(self, **request: Any) -> None:
        try:
            self._client.put_item(**request)
        except self.exceptions.ConditionalCheckFailedException:
            self._answer()
            raise
        self._answer()

    def _answer(self) -> None:
        with self._lock:
            if (self.answers + self.lost) % 4 == 3:
                self.lost += 1
                raise TimeoutError("no answer")
            self.answers += 1


@pytest.fixture
def table() -> AuditTable:
    return AuditTable()


def client(table: AuditTable) -> TestClient:
    return TestClient(app, overrides={open_dynamodb: lambda: table})


def test_an_entry_says_what_was_and_what_is_of_the_attributes_that_differ(
    table: AuditTable,
) -> None:
    with client(table) as stream:
        stream.modify(old=FREE, new=TEAM)
    (entry,) = table.entries.values()
    assert entry["account"] == "A-1"
    assert entry["event"] == "MODIFY"
    assert entry["at"] == "2026-01-01T00:00:01+00:00"
    assert entry["by"] == "grace"
    assert entry["old"] == {"plan": "free", "logo": b"\x00", "updated_by": "ada"}
    assert entry["new"] == {"plan": "team", "seats": 5, "updated_by": "grace"}


def test_it_says_who_as_far_as_that_is_known(table: AuditTable) -> None:
    with client(table) as stream:
        stream.insert(FREE)
        stream.insert({"id": "A-2"})
        stream.remove(TEAM)
        stream.expire(TEAM)
    assert [table.entries[change]["by"] for change in sorted(table.entries)] == [
        "ada",
        "unknown",
        "unknown, after grace",
        "time to live",
    ]


def test_a_record_that_comes_again_is_done_and_adds_nothing(table: AuditTable) -> None:
    with client(table) as stream:
        changed = stream.records.modify(FREE, TEAM)
        results = [stream.send(changed) for _ in range(2)]
    assert [result.failed for result in results] == [None, None]
    assert (len(table.entries), table.refused) == (1, 1)


def test_entries_are_in_the_order_of_the_changes_whatever_their_numbers_lengths(
    table: AuditTable,
) -> None:
    with client(table) as stream:
        stream.insert(FREE)
        for seats in range(3):  # the third record's number has more digits than the first's
            stream.modify(old=TEAM | {"seats": seats - 1}, new=TEAM | {"seats": seats})
    entries = [table.entries[change] for change in sorted(table.entries)]
    assert [entry["new"].get("seats") for entry in entries] == [None, 0, 1, 2]


def test_the_trail_replayed_is_the_table(table: AuditTable) -> None:
    with client(table) as stream:
        stream.insert(FREE)
        stream.modify(old=FREE, new=TEAM)
        stream.insert({"id": "A-2"})
        stream.remove({"id": "A-2"})
    assert replay(table.entries.values()) == [TEAM]


@pytest.mark.asyncio
async def test_in_a_storm_with_lost_answers_the_trail_has_every_change_once(stage: Stage) -> None:
    await stage.create_table("accounts")
    await stage.create_table(TRAIL, keys=("account", "change"))
    shaky: list[Shaky] = []

    def open_shaky() -> Iterator[Shaky]:
        dynamodb = boto3.client("dynamodb")
        shaky.append(Shaky(dynamodb))
        yield shaky[-1]
        dynamodb.close()

    with app.overrides({open_dynamodb: open_shaky}):
        async with stage.running(app, "accounts"):
            written = await stage.storm("accounts", writes=100, items=6, seed=3, make=change)
            assert await stage.until(lambda: shaky[0].answers == len(written))
    trail = await stage.scan(TRAIL)
    assert shaky[0].lost > 0
    assert len(trail) == len(written)
    assert replay(trail) == await stage.scan("accounts")
