"""The replica follows the table, and stale or repeated changes do it no harm."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
import pytest_asyncio
from botocore.exceptions import ClientError

from dynaflow import Status
from dynaflow.demo.history import history, shuffled
from dynaflow.demo.stage import Stage
from dynaflow.errors import ViewTypeMismatch
from dynaflow.testing import AsyncStream, TestClient
from examples.replication.app import POSITIONS, REGION, REPLICA, app, open_client
from examples.replication.demo import (
    KEYS,
    ORDERS,
    TABLE,
    as_written_down,
    differing,
    is_caught_up,
    is_equal,
    make_order,
    make_tables,
    replay,
)

pytestmark = pytest.mark.asyncio

ORDER = {"customer": "ada", "number": "1", "status": "open"}
PAID = {**ORDER, "status": "paid"}
SHIPPED = {**ORDER, "status": "shipped"}


@pytest_asyncio.fixture
async def stream(stage: Stage) -> AsyncIterator[AsyncStream]:
    await make_tables(stage)
    async with TestClient(app, keys=KEYS) as stream:
        yield stream


async def replica(stage: Stage) -> list[dict[str, Any]]:
    return await stage.scan(REPLICA, region=REGION)


async def test_the_replica_follows_the_table(stage: Stage, stream: AsyncStream) -> None:
    await stream.insert(ORDER)
    assert await replica(stage) == [ORDER]
    await stream.modify(old=ORDER, new=PAID)
    assert await replica(stage) == [PAID]
    await stream.remove(PAID)
    assert await replica(stage) == []


async def test_every_type_and_every_digit_arrives(stage: Stage) -> None:
    await make_tables(stage)
    item = {
        "customer": {"S": "ada"},
        "number": {"S": "1"},
        "precise": {"N": "0.12345678901234567890123456789012345678"},
        "large": {"N": "-9.9999999999999999999999999999999999999E+125"},
        "binary": {"B": b"\x00\xff"},
        "empty": {"S": ""},
        "none": {"NULL": True},
        "flag": {"BOOL": False},
        "binaries": {"BS": [b"", b"\xff"]},
        "numbers": {"NS": ["1", "2.5"]},
        "texts": {"SS": ["", "a"]},
        "nested": {"M": {"list": {"L": [{"B": b"\x01"}, {"M": {}}, {"L": []}]}}},
    }
    key = {name: item[name] for name in KEYS}
    async with stage.client("dynamodb") as here, stage.client("dynamodb", region=REGION) as there:
        await here.put_item(TableName=TABLE, Item=item)
        async with stage.running(app, TABLE):

            async def arrived() -> bool:
                answer = await there.get_item(TableName=REPLICA, Key=key, ConsistentRead=True)
                return bool(answer.get("Item") == item)

            assert await stage.until(arrived)


async def test_binaries_of_a_lambda_event_arrive_as_they_were_written(
    stage: Stage, stream: AsyncStream
) -> None:
    item = {**ORDER, "signature": b"\x00\xff", "pages": {b"a", b"\xfe"}, "more": [{"x": b"\x01"}]}
    await stream.insert(item)  # a Lambda event has them as base64 text
    assert await replica(stage) == [item]


async def test_a_repeat_changes_nothing_and_is_counted_apart(
    stage: Stage, stream: AsyncStream
) -> None:
    change = stream.records.insert(ORDER)
    await stream.send(change)
    result = await stream.send(change)
    assert [outcome.status for outcome in result.outcomes] == [Status.SKIPPED]
    assert result.failed is None
    assert await replica(stage) == [ORDER]


async def test_an_older_change_does_not_undo_a_newer_one(stage: Stage, stream: AsyncStream) -> None:
    changes = [
        stream.records.insert(ORDER),
        stream.records.modify(ORDER, PAID),
        stream.records.modify(PAID, SHIPPED),  # its number has more digits, and a smaller first one
    ]
    for change in reversed(changes):
        assert (await stream.send(change)).failed is None
    assert await replica(stage) == [SHIPPED]


async def test_a_late_repeat_does_not_bring_a_deleted_item_back(
    stage: Stage, stream: AsyncStream
) -> None:
    written = stream.records.insert(ORDER)
    await stream.send([written, stream.records.remove(ORDER)])
    await stream.send(written)
    assert await replica(stage) == []


async def test_a_late_repeat_of_a_delete_does_not_delete_what_was_written_again(
    stage: Stage, stream: AsyncStream
) -> None:
    deleted = stream.records.remove(ORDER)
    await stream.send([deleted, stream.records.insert(PAID)])
    await stream.send(deleted)
    assert await replica(stage) == [PAID]


async def test_changes_of_a_new_stream_win_whatever_their_numbers(
    stage: Stage, stream: AsyncStream
) -> None:
    first, second = stream.records.insert(ORDER), stream.records.modify(ORDER, PAID)
    first["dynamodb"]["SequenceNumber"] = "9" * 40
    second["eventSourceARN"] = second["eventSourceARN"].replace("2026-01-01", "2026-02-01")
    await stream.send(first)
    await stream.send(second)
    assert await replica(stage) == [PAID]


async def test_positions_outlive_what_can_come_again_and_no_longer(
    stage: Stage, stream: AsyncStream
) -> None:
    await stream.insert(ORDER)
    await stream.remove(ORDER)
    (position,) = await stage.scan(POSITIONS, region=REGION)
    assert position["expires_at"] > Decimal(24 * 3600)
    assert {name: position[name] for name in KEYS} == {name: ORDER[name] for name in KEYS}


@pytest.mark.parametrize("view_type", ["KEYS_ONLY", "OLD_IMAGE"])
async def test_a_stream_without_new_images_is_refused(stage: Stage, view_type: str) -> None:
    await make_tables(stage)
    async with TestClient(app, keys=KEYS, view_type=view_type) as stream:
        with pytest.raises(ViewTypeMismatch):
            await stream.modify(old=ORDER, new=PAID)
    assert await replica(stage) == []


class Busy:
    """A client that says that somebody else writes the same item."""

    async def transact_write_items(self, **_: Any) -> Any:
        reasons = [{"Code": "TransactionConflict"}, {"Code": "None"}]
        answer = {
            "Error": {"Code": "TransactionCanceledException"},
            "CancellationReasons": reasons,
        }
        raise ClientError(answer, "TransactWriteItems")


async def test_a_write_that_did_not_get_through_is_not_done() -> None:
    async with TestClient(app, keys=KEYS, overrides={open_client: Busy}) as stream:
        result = await stream.insert(ORDER)
    assert [type(error) for error in result.errors] == [ClientError]
    assert result.failed is not None


async def test_after_a_storm_and_a_shuffled_replay_both_tables_are_equal(stage: Stage) -> None:
    await make_tables(stage)
    async with stage.running(app, TABLE):
        await stage.storm(TABLE, writes=60, items=ORDERS[:8], seed=3, make=make_order)
        records = await history(stage, TABLE)
        assert await stage.until(lambda: is_caught_up(stage, records))
    assert await is_equal(stage)
    shuffle = shuffled(records, seed=4)
    assert differing(as_written_down(records), as_written_down(shuffle)) > 0  # it is hostile
    assert await replay(shuffle) == len(records) == 60
    assert await is_equal(stage)
