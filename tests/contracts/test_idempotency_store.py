"""What every store of marks promises (the contract in dynaflow/_marks.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import aioboto3
import anyio
import boto3
import pytest

from dynaflow.idempotency import IdempotencyStore, Mark
from dynaflow.stores import DynamoDBMarks, MemoryMarks, SqliteMarks
from tests.support.tables import REGION

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.25
LATER = NOW + 60
DAY = NOW + 86_400

Again: TypeAlias = Callable[[], IdempotencyStore]

STORES = ["memory", "sqlite", "dynamodb", "dynamodb with an async client", "a Powertools table"]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def options(moto_url: str) -> dict[str, str]:
    """What makes a client of moto; one table is for all tests, and each has keys of its own."""
    options = {
        "region_name": REGION,
        "endpoint_url": moto_url,
        "aws_access_key_id": "nobody",
        "aws_secret_access_key": "nothing",
    }
    client: Any = boto3.client("dynamodb", **options)
    for name, keys in (("marks", ["id"]), ("powertools", ["id", "sort"])):
        client.create_table(
            TableName=name,
            KeySchema=[
                {"AttributeName": name, "KeyType": kind}
                for name, kind in zip(keys, ("HASH", "RANGE"), strict=False)
            ],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in keys],
            BillingMode="PAY_PER_REQUEST",
        )
    client.close()
    return options


@pytest.fixture(scope="module")
def boto3_client(options: dict[str, str]) -> Iterator[Any]:
    client: Any = boto3.client("dynamodb", **options)
    yield client
    client.close()


@pytest.fixture(scope="module")
async def async_client(options: dict[str, str]) -> AsyncIterator[Any]:
    async with aioboto3.Session().client("dynamodb", **options) as client:
        yield client


@pytest.fixture(params=STORES)
async def again(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Again]:
    """A function that opens the same store again: from another process, where that can be."""
    if request.param == "memory":
        memory = MemoryMarks()
        yield lambda: memory
    elif request.param == "sqlite":
        opened = []

        def reopen() -> IdempotencyStore:
            opened.append(SqliteMarks(tmp_path / "marks.db"))
            return opened[-1]

        yield reopen
        for each in opened:
            await each.aclose()
    elif request.param == "dynamodb":
        yield lambda: DynamoDBMarks("marks", client=request.getfixturevalue("boto3_client"))
    elif request.param == "dynamodb with an async client":
        yield lambda: DynamoDBMarks("marks", client=request.getfixturevalue("async_client"))
    else:
        client = request.getfixturevalue("boto3_client")
        yield lambda: DynamoDBMarks(
            "powertools", client=client, sort_key_attr="sort", static_pk_value="ours"
        )


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return f"dynaflow#ship#{request.node.name}"


@pytest.fixture
def store(again: Again) -> IdempotencyStore:
    return again()


async def test_a_key_without_a_mark_is_taken_and_then_held(
    store: IdempotencyStore, key: str, again: Again
) -> None:
    assert await store.begin(key, "a", now=NOW, until=LATER) is None
    held = await again().begin(key, "b", now=NOW, until=DAY)
    assert held == Mark("a", is_completed=False, expires_at=LATER)


async def test_a_key_that_this_token_has_taken_is_its_own(
    store: IdempotencyStore, key: str
) -> None:
    assert await store.begin(key, "a", now=NOW, until=LATER) is None
    assert await store.begin(key, "a", now=NOW, until=LATER) is None, "its answer was lost"


async def test_what_is_completed_is_not_taken_even_by_who_completed_it(
    store: IdempotencyStore, key: str, again: Again
) -> None:
    await store.begin(key, "a", now=NOW, until=LATER)
    assert await store.complete(key, "a", until=DAY)
    for token in ("a", "b"):
        mark = await again().begin(key, token, now=LATER + 100, until=DAY)
        assert mark is not None
        assert mark.is_completed
        assert mark.token == "a"  # noqa: S105 - no password
        assert DAY <= mark.expires_at < DAY + 1


async def test_what_is_released_can_be_taken(
    store: IdempotencyStore, key: str, again: Again
) -> None:
    await store.begin(key, "a", now=NOW, until=LATER)
    assert await store.release(key, "a")
    assert await again().begin(key, "b", now=NOW, until=LATER) is None


async def test_a_mark_in_progress_counts_up_to_its_end(store: IdempotencyStore, key: str) -> None:
    await store.begin(key, "a", now=NOW, until=LATER)
    assert await store.begin(key, "b", now=LATER, until=DAY) is not None
    assert await store.begin(key, "b", now=LATER + 0.002, until=DAY) is None


async def test_a_completed_mark_counts_up_to_its_end(store: IdempotencyStore, key: str) -> None:
    await store.begin(key, "a", now=NOW, until=LATER)
    end = int(DAY)
    await store.complete(key, "a", until=end)
    assert await store.begin(key, "b", now=end, until=end + 60) is not None
    assert await store.begin(key, "b", now=end + 1, until=end + 60) is None


async def test_a_renewed_mark_lives_longer(store: IdempotencyStore, key: str) -> None:
    await store.begin(key, "a", now=NOW, until=LATER)
    assert await store.renew(key, "a", until=LATER + 60)
    held = await store.begin(key, "b", now=LATER + 59, until=DAY)
    assert held == Mark("a", is_completed=False, expires_at=LATER + 60)


async def test_nothing_of_another_token_is_changed(store: IdempotencyStore, key: str) -> None:
    await store.begin(key, "old", now=NOW, until=LATER)
    assert await store.begin(key, "new", now=LATER + 1, until=DAY) is None
    assert not await store.renew(key, "old", until=DAY + 60)
    assert not await store.complete(key, "old", until=DAY + 60)
    assert not await store.release(key, "old")
    held = await store.begin(key, "b", now=LATER + 2, until=DAY)
    assert held == Mark("new", is_completed=False, expires_at=DAY)


async def test_what_is_completed_is_neither_renewed_nor_released(
    store: IdempotencyStore, key: str
) -> None:
    await store.begin(key, "a", now=NOW, until=LATER)
    await store.complete(key, "a", until=DAY)
    assert not await store.renew(key, "a", until=DAY + 60)
    assert not await store.release(key, "a")
    mark = await store.begin(key, "b", now=NOW, until=LATER)
    assert mark is not None
    assert mark.is_completed


async def test_a_change_may_be_made_again(store: IdempotencyStore, key: str) -> None:
    await store.begin(key, "a", now=NOW, until=LATER)
    assert await store.complete(key, "a", until=DAY)
    assert await store.complete(key, "a", until=DAY)
    await store.begin(f"{key}2", "a", now=NOW, until=LATER)
    assert await store.release(f"{key}2", "a")
    assert await store.release(f"{key}2", "a")


async def test_what_is_done_is_entered_even_if_its_mark_has_gone(
    store: IdempotencyStore, key: str
) -> None:
    assert not await store.renew(key, "a", until=LATER)
    assert await store.complete(key, "a", until=DAY)
    mark = await store.begin(key, "b", now=NOW, until=LATER)
    assert mark is not None
    assert mark.is_completed


async def test_a_key_whose_mark_expired_can_be_completed_by_its_last_holder(
    store: IdempotencyStore,
    key: str,
) -> None:
    await store.begin(key, "a", now=NOW, until=LATER)
    assert await store.complete(key, "a", until=DAY)


async def test_keys_are_apart(store: IdempotencyStore, key: str) -> None:
    assert await store.begin(key, "a", now=NOW, until=LATER) is None
    assert await store.begin(f"{key}2", "a", now=NOW, until=LATER) is None
    await store.complete(key, "a", until=DAY)
    assert await store.release(f"{key}2", "a")
    assert await store.begin(f"{key}2", "b", now=NOW, until=LATER) is None


async def test_one_of_many_takes_a_key(store: IdempotencyStore, key: str, again: Again) -> None:
    stores = [store, again(), again()]
    taken: list[int] = []

    async def begin(number: int) -> None:
        mark = await stores[number % 3].begin(key, f"t{number}", now=NOW, until=LATER)
        if mark is None:
            taken.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(12):
            tasks.start_soon(begin, number)
    assert len(taken) == 1


async def test_the_longest_key_is_one(store: IdempotencyStore, key: str) -> None:
    assert await store.begin(key.ljust(300, "k"), "a", now=NOW, until=LATER) is None
    assert await store.complete(key.ljust(300, "k"), "a", until=DAY)
