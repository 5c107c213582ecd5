"""What every sink that can be read back promises (the contract of ``DeadLetter``, and reading)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias
from uuid import uuid4

import aioboto3
import anyio
import boto3
import pytest

from dynaflow.dead_letter import DeadLetter, DeadLetterRecord
from dynaflow.dead_letters import S3, SQS, JsonLines, Kept
from dynaflow.errors import DeadLetterError
from dynaflow.retry import without_waits
from tests.support.letters import MARK, letters
from tests.support.tables import REGION

pytestmark = pytest.mark.anyio

Sink: TypeAlias = JsonLines | SQS | S3


@dataclass
class Place:
    """Where one test's letters are."""

    again: Callable[[], Sink]
    """Makes the sink, as another process would."""
    spoil: Callable[[str], Awaitable[object]]
    """Puts something there that is no letter."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def clients(moto_url: str) -> AsyncIterator[dict[str, Any]]:
    """boto3's clients, and async ones: made once, because that takes long."""
    options = {
        "region_name": REGION,
        "endpoint_url": moto_url,
        "aws_access_key_id": "nobody",
        "aws_secret_access_key": "nothing",
    }
    session = aioboto3.Session()
    async with AsyncExitStack() as stack:
        made = {name: boto3.client(name, **options) for name in ("sqs", "s3")}
        for name, client in list(made.items()):
            stack.callback(client.close)
            entered = await stack.enter_async_context(session.client(name, **options))
            made[f"{name} async"] = entered
        yield made


@pytest.fixture(params=["jsonl", "sqs", "sqs fifo", "sqs async", "s3", "s3 async"])
def place(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    clients: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> Place:
    kind, _, variant = request.param.partition(" ")
    if kind == "jsonl":
        return _file(tmp_path / "letters.jsonl")
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "2")  # so that a few letters have pages
    boto, client = clients[kind], clients[f"{kind} async" if variant == "async" else kind]
    return _queue(boto, client, variant == "fifo") if kind == "sqs" else _bucket(boto, client)


def _file(path: Path) -> Place:
    async def spoil(text: str) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)

    return Place(lambda: JsonLines(path), spoil)


def _queue(boto: Any, client: Any, is_fifo: bool) -> Place:
    attributes = {"FifoQueue": "true"} if is_fifo else {}
    name = f"{uuid4().hex}.fifo" if is_fifo else uuid4().hex
    url = boto.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    fifo = {"MessageGroupId": "g", "MessageDeduplicationId": "d"} if is_fifo else {}

    async def spoil(text: str) -> None:
        boto.send_message(QueueUrl=url, MessageBody=text, **fifo)

    return Place(lambda: SQS(url, client), spoil)


def _bucket(boto: Any, client: Any) -> Place:
    bucket = uuid4().hex
    boto.create_bucket(Bucket=bucket)
    boto.put_object(Bucket=bucket, Key="dead-letters/README", Body=b"another's")
    boto.put_object(Bucket=bucket, Key="other/0123456789abcdef0123456789abcdef.json", Body=b"{}")

    async def spoil(text: str) -> None:
        boto.put_object(Bucket=bucket, Key=f"dead-letters/{'f' * 32}.json", Body=text.encode())

    return Place(lambda: S3(bucket, client=client), spoil)


@pytest.fixture
def sink(place: Place) -> Sink:
    return place.again()


async def keep(sink: DeadLetter, letter: DeadLetterRecord) -> None:
    """Call the sink as the engine does."""
    is_async = getattr(sink, "is_async")  # noqa: B009 - no part of the protocol: it may be missing
    if is_async:
        answer = sink(letter)
        assert answer is not None
        await answer
    else:
        assert await anyio.to_thread.run_sync(sink, letter) is None


async def read(sink: Sink) -> list[Kept]:
    with without_waits():
        return [kept async for kept in sink.letters()]


async def ids(sink: Sink) -> list[str]:
    return sorted(kept.letter.id for kept in await read(sink) if kept.letter is not None)


def some(count: int, text: str = "x") -> list[DeadLetterRecord]:
    return list(islice(letters(text), count))


async def test_a_sink_says_truly_whether_it_is_async(
    sink: Sink, request: pytest.FixtureRequest
) -> None:
    assert sink.is_async is ("async" in request.node.callspec.id)


async def test_where_nothing_was_kept_there_is_nothing(sink: Sink) -> None:
    assert await read(sink) == []


@pytest.mark.parametrize("text", ["x", "\0\n\r\u2028\ud800😀\x7f\x1b[31m\t\\\"'", "y" * 150_000])
async def test_a_letter_is_read_by_another_process_as_it_was_written(
    sink: Sink, place: Place, text: str
) -> None:
    (letter,) = some(1, text)
    await keep(sink, letter)
    (kept,) = await read(place.again())
    assert kept.letter == letter
    assert kept.problem is None


async def test_many_letters_are_all_read(sink: Sink, place: Place) -> None:
    written = some(11)  # SQS hands over ten at a time
    for letter in written:
        await keep(sink, letter)
    assert await ids(place.again()) == sorted(letter.id for letter in written)


async def test_letters_that_are_written_side_by_side_are_all_kept(sink: Sink, place: Place) -> None:
    written = some(4)
    async with anyio.create_task_group() as tasks:
        for number, letter in enumerate(written):
            tasks.start_soon(keep, sink if number % 2 else place.again(), letter)
    assert await ids(sink) == sorted(letter.id for letter in written)


async def test_a_letter_that_is_written_twice_is_there(sink: Sink) -> None:
    (letter,) = some(1)
    await keep(sink, letter)
    await keep(sink, replace(letter, parked_at=letter.parked_at + 1))
    found = await read(sink)
    assert {kept.letter.id for kept in found if kept.letter} == {letter.id}
    for kept in found:
        await sink.remove(kept)
    assert await read(sink) == []


async def test_what_was_removed_is_gone_and_the_others_stay(sink: Sink, place: Place) -> None:
    first, second, third = some(3)
    for letter in (first, second, third):
        await keep(sink, letter)
    with without_waits():
        async for kept in sink.letters():  # while it is being read, as a redrive does
            if kept.letter == second:
                await sink.remove(kept)
    assert await ids(place.again()) == sorted([first.id, third.id])


async def test_what_was_only_read_can_be_read_again_at_once(sink: Sink, place: Place) -> None:
    written = some(4)
    for letter in written:
        await keep(sink, letter)
    everything = sorted(letter.id for letter in written)
    assert await ids(sink) == everything
    reading = sink.letters()
    with without_waits():
        await anext(reading)
        await reading.aclose()  # type: ignore[attr-defined]  # every one of them is a generator
    assert await ids(place.again()) == everything


async def test_a_letter_that_comes_again_after_it_was_removed_is_there_again(sink: Sink) -> None:
    (letter,) = some(1)
    await keep(sink, letter)
    (kept,) = await read(sink)
    await sink.remove(kept)
    assert await read(sink) == []
    later = replace(letter, parked_at=letter.parked_at + 0.5)
    await keep(sink, later)
    (kept,) = await read(sink)
    assert kept.letter == later


async def test_what_is_no_letter_is_told_and_the_others_are_read(sink: Sink, place: Place) -> None:
    first, second = some(2)
    await keep(sink, first)
    await place.spoil(f'{{"version": 1, "id": "{MARK}')
    await keep(sink, second)
    found = await read(sink)
    assert sorted(kept.letter.id for kept in found if kept.letter) == sorted([first.id, second.id])
    (problem,) = [kept for kept in found if kept.letter is None]
    assert problem.problem is not None
    assert "this is no dead letter that can be read" in problem.problem
    assert MARK not in repr(problem)


async def test_what_is_no_letter_can_be_removed_or_says_how(sink: Sink, place: Place) -> None:
    await place.spoil("{}")
    (problem,) = await read(sink)
    if isinstance(sink, JsonLines):
        with pytest.raises(DeadLetterError, match="take it out with an editor"):
            await sink.remove(problem)
    else:
        await sink.remove(problem)
        assert await read(sink) == []
