"""The stage that examples are played on, and the storm of writes on it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from io import StringIO
from itertools import pairwise
from random import Random
from typing import Any

import anyio
import boto3
import pytest
import pytest_asyncio
from rich.console import Console

from dynaflow import App, Record, Router
from dynaflow.codec import decode_event
from dynaflow.demo.history import history, shuffled
from dynaflow.demo.stage import Stage, open_stage
from dynaflow.demo.storm import Item, Written, standing, storm_of
from dynaflow.testing.records import RecordBuilder


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    async with open_stage(Console(file=StringIO())) as stage:
        yield stage


def change(chance: Random, key: Item, old: Item | None) -> Item | None:
    if old is not None and chance.random() < 0.2:
        return None
    marks = {name: chance.randrange(3) for name in ("a.b", "size", "#x") if chance.random() < 0.7}
    return {"n": chance.randrange(5), **marks}


@pytest.mark.asyncio
async def test_a_storm_is_what_the_stream_tells_and_leaves_what_it_says(stage: Stage) -> None:
    router, seen = Router(), list[Record]()

    @router.on_any()
    async def note(record: Record) -> None:
        seen.append(record)

    await stage.create_table("things")
    async with stage.running(App(router), "things"):
        written = await stage.storm("things", writes=120, items=6, seed=1, make=change)
        assert await stage.until(lambda: len(seen) >= len(written))
    told = [(r.keys, r.event_name, r.old, r.new) for r in seen]
    for item in range(6):
        key = {"id": f"item-{item}"}
        assert [tell[1:] for tell in told if tell[0] == key] == [
            (write.event_name, write.old, write.new) for write in written if write.key == key
        ]
    assert {write.event_name for write in written} == {"INSERT", "MODIFY", "REMOVE"}
    assert await stage.scan("things") == standing(written)


def test_a_storm_is_the_same_at_every_run_and_another_with_another_seed() -> None:
    first, again, other = (
        storm_of(writes=50, items=3, seed=seed, make=change) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert sum(map(len, first)) == 50
    for life in first:
        assert life[0].old is None
        assert all(a.new == b.old != b.new for a, b in pairwise(life))


def test_a_storm_takes_keys_of_two_attributes() -> None:
    keys = [{"pk": "a", "sk": "1"}, {"pk": "a", "sk": "2"}]
    lives = storm_of(writes=4, items=keys, seed=1, make=lambda c, k, o: {"n": c.random() > 0.5})
    assert [{write.key["sk"] for write in life} for life in lives] == [{"1"}, {"2"}]
    assert [item["sk"] for item in standing(lives[1] + lives[0])] == ["1", "2"]


def test_a_storm_without_changes_is_refused() -> None:
    with pytest.raises(ValueError, match="the same state"):
        storm_of(writes=3, items=1, seed=1, make=lambda chance, key, old: {"n": 1})


def test_what_is_deleted_last_does_not_stand() -> None:
    there: Item = {"id": "a"}
    assert standing([Written(there, None, there), Written(there, there, None)]) == []


@pytest.mark.asyncio
async def test_on_a_stage_clients_are_made_as_in_production(stage: Stage) -> None:
    bucket: dict[str, Any] = {"Bucket": "a.bucket"}
    s3 = boto3.client("s3")
    s3.create_bucket(
        **bucket, CreateBucketConfiguration={"LocationConstraint": s3.meta.region_name}
    )
    async with stage.client("s3") as client:
        await client.put_object(**bucket, Key="a key", Body=b"text")
    assert s3.get_object(**bucket, Key="a key")["Body"].read() == b"text"
    s3.close()


@pytest.mark.asyncio
async def test_a_region_has_tables_of_its_own(stage: Stage) -> None:
    for region, id_ in ((None, "here"), ("us-west-2", "there")):
        await stage.create_table("things", region=region)
        await stage.put("things", {"id": id_, "data": b"\x00"}, region=region)
    assert await stage.scan("things") == [{"id": "here", "data": b"\x00"}]
    assert await stage.scan("things", region="us-west-2") == [{"id": "there", "data": b"\x00"}]


@pytest.mark.asyncio
async def test_a_stage_forgets_and_a_table_can_have_a_time_to_live() -> None:
    for _ in range(2):
        async with open_stage(Console(file=StringIO())) as stage:
            await stage.create_table("things", keys=("pk", "sk"), ttl_attribute="expires_at")
            client = stage.boto3("dynamodb")
            ttl = client.describe_time_to_live(TableName="things")["TimeToLiveDescription"]
            client.close()
            assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}


@pytest.mark.asyncio
async def test_waiting_ends_with_the_condition_or_with_patience(stage: Stage) -> None:
    answers = iter([False, False, True])

    async def condition() -> bool:
        return next(answers)

    assert await stage.until(condition)
    assert not await stage.until(lambda: False, patience=0)


@pytest.mark.asyncio
async def test_writes_at_the_same_time_do_not_both_meet_a_condition(stage: Stage) -> None:
    await stage.create_table("things")
    won: list[int] = []
    async with stage.client("dynamodb") as client, anyio.create_task_group() as tasks:

        async def claim(number: int) -> None:
            try:
                await client.put_item(
                    TableName="things",
                    Item={"id": {"S": "one"}, "by": {"N": str(number)}},
                    ConditionExpression="attribute_not_exists(id)",
                )
                won.append(number)
            except client.exceptions.ConditionalCheckFailedException:
                pass

        for number in range(20):
            tasks.start_soon(claim, number)
    assert len(won) == 1


@pytest.mark.asyncio
async def test_writes_at_the_same_time_have_sequence_numbers_of_their_own(stage: Stage) -> None:
    positions: list[int] = []
    router = Router()

    @router.on_any()
    async def note(record: Record) -> None:
        positions.append(record.position)

    await stage.create_table("things")
    between = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # the emulator's threads take turns as often as they can
    try:
        await stage.storm("things", writes=90, items=30, seed=1, make=change)
    finally:
        sys.setswitchinterval(between)
    async with stage.running(App(router), "things"):
        assert await stage.until(lambda: len(positions) >= 90)
    assert len(set(positions)) == 90


@pytest.mark.asyncio
async def test_what_is_said_is_text_and_a_verdict_is_returned() -> None:
    output = StringIO()
    async with open_stage(Console(file=output, markup=False)) as stage:
        stage.say("[bold]a line")
        assert stage.judge(True, "fine")
        assert not stage.judge(False, "not so")
    assert output.getvalue() == "[bold]a line\nfine\nnot so\n"


@pytest.mark.asyncio
async def test_the_history_of_a_table_is_its_records_as_lambda_has_them(stage: Stage) -> None:
    await stage.create_table("things", region="us-west-2")
    written = await stage.storm(
        "things", writes=40, items=4, seed=1, make=change, region="us-west-2"
    )
    records, source_arn = decode_event(await history(stage, "things", region="us-west-2"))
    assert source_arn.startswith("arn:aws:dynamodb:us-west-2:")
    for item in range(4):
        key = {"id": f"item-{item}"}
        told = [
            (record.event_name, record.old, record.new)
            for record in records
            if isinstance(record, Record) and record.keys == key
        ]
        assert told == [(w.event_name, w.old, w.new) for w in written if w.key == key]


@pytest.mark.asyncio
async def test_a_table_without_a_stream_has_none(stage: Stage) -> None:
    await stage.create_table("things", stream=False)
    await stage.put("things", {"id": "a"})
    async with stage.client("dynamodbstreams") as streams:
        assert (await streams.list_streams(TableName="things"))["Streams"] == []


def test_a_shuffle_does_not_depend_on_how_items_fell_in_among_each_other() -> None:
    builder = RecordBuilder()
    a, b = ([builder.insert({"id": item, "n": n}) for n in range(5)] for item in "ab")
    first, again, other = (
        shuffled(records, seed=seed) for records, seed in (([*a, *b], 1), ([*b, *a], 1), (a + b, 2))
    )
    assert first == again != other
    assert first != sorted(first, key=lambda record: record["eventID"])
