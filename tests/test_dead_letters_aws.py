"""The sinks at AWS: what they send, what is too large, what goes wrong. And what addresses name."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.exceptions import ClientError

from dynaflow.dead_letter import MAX_BYTES, DeadLetter, DeadLetterRecord
from dynaflow.dead_letters import S3, SNS, SQS, JsonLines, Kept, open_dead_letters
from dynaflow.errors import DeadLetterError
from dynaflow.retry import without_waits
from tests.support.letters import MARK, letters
from tests.support.tables import REGION

pytestmark = pytest.mark.anyio

URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/letters"
ARN = "arn:aws:sns:eu-west-1:123456789012:letters"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def a_letter(text: str = "x", **changes: Any) -> DeadLetterRecord:
    return replace(next(letters(text)), **changes)


class FakeClient:
    """Notes what it is called with, and answers or raises what it is told to."""

    def __init__(self, **answers: Any) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._answers = answers

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        if operation.startswith("_"):
            raise AttributeError(operation)

        def call(**arguments: Any) -> Any:
            self.calls.append((operation, arguments))
            answer = self._answers.get(operation, {})
            if isinstance(answer, list):
                answer = answer.pop(0) if answer else {}
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    @property
    def sent(self) -> dict[str, Any]:
        ((_, arguments),) = self.calls
        return arguments


class FakeAsyncClient(FakeClient):
    """The same, async."""

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        call = super().__getattr__(operation)

        async def call_async(**arguments: Any) -> Any:
            return call(**arguments)

        return call_async


def of_each(client: Any) -> list[DeadLetter]:
    return [SQS(URL, client), SNS(ARN, client), S3("bucket", client=client)]


async def read(sink: SQS | S3) -> list[Kept]:
    with without_waits():
        return [kept async for kept in sink.letters()]


# ── What is sent ─────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("sink_type", "body"), [(SQS, "MessageBody"), (SNS, "Message")])
@pytest.mark.parametrize("suffix", ["", ".fifo"])
def test_a_message_has_the_letter_and_attributes_to_choose_by(
    sink_type: Any, body: str, suffix: str
) -> None:
    client = FakeClient()
    address = URL if sink_type is SQS else ARN
    letter = a_letter()
    sink_type(f"{address}{suffix}", client)(letter)
    assert DeadLetterRecord.from_json(client.sent[body]) == letter
    attributes = client.sent["MessageAttributes"]
    assert {name: value["StringValue"] for name, value in attributes.items()} == {
        "route": "shop.ship",
        "reason": "deliveries",
        "error_type": "ValueError",
    }
    assert MARK not in json.dumps(attributes)
    sink_type(address, long := FakeClient())(replace(letter, route="r" * 5000))
    assert len(long.sent["MessageAttributes"]["route"]["StringValue"]) == 256
    groups = {name for name in client.sent if name.startswith(("MessageGroup", "MessageDedup"))}
    assert groups == ({"MessageGroupId", "MessageDeduplicationId"} if suffix else set())


def test_a_fifo_queue_takes_a_later_letter_of_the_same_record_and_drops_a_repeated_one() -> None:
    """It drops what has the same deduplication id for five minutes, even after a deletion."""
    client = FakeClient()
    sink = SQS(f"{URL}.fifo", client)
    for letter in (a_letter(), a_letter(), a_letter(parked_at=1.0)):
        sink(letter)
    first, again, later = [arguments["MessageDeduplicationId"] for _, arguments in client.calls]
    assert first == again != later
    assert len({arguments["MessageGroupId"] for _, arguments in client.calls}) == 1


@pytest.mark.parametrize("route", [None, "", "r" * 5000, "a\0b\n\ud800 😀", " "])
async def test_whatever_a_route_is_called_the_queue_takes_its_letter(
    route: str | None, moto_url: str, aws_environment: pytest.MonkeyPatch
) -> None:
    client = boto3.client("sqs", region_name=REGION, endpoint_url=moto_url)
    sink = SQS(client.create_queue(QueueName=uuid4().hex)["QueueUrl"], client)
    letter = a_letter(route=route)
    sink(letter)
    (kept,) = await read(sink)
    assert kept.letter == letter
    client.close()


@pytest.mark.parametrize("sink_type", [SQS, SNS])
@pytest.mark.parametrize("text", ["y" * 300_000, "\0" * 50_000, "😀" * 30_000])
def test_a_letter_that_is_too_large_goes_without_its_images(sink_type: Any, text: str) -> None:
    client = FakeClient()
    sink_type(URL if sink_type is SQS else ARN, client)(a_letter(text))
    attributes = client.sent["MessageAttributes"]
    texts = [each for name, value in attributes.items() for each in (name, *value.values())]
    body = client.sent["MessageBody" if sink_type is SQS else "Message"]
    assert len(body) + len("".join(texts)) <= 262_144
    sent = DeadLetterRecord.from_json(body)
    assert sent == a_letter(text).without_images()
    assert sent.id == a_letter(text).id


@pytest.mark.parametrize("more", [0, 1])
def test_a_message_may_be_exactly_as_large_as_is_allowed(more: int) -> None:
    # Names, types and values count, and not the fields of the API that they are in.
    attributes = "routeStringshop.ship reasonStringdeliveries error_typeStringValueError"
    attributes = attributes.replace(" ", "")
    room = 262_144 - len(attributes)
    text = "y" * (200_000 + room - len(a_letter("y" * 200_000).to_json()) + more)
    assert len(a_letter(text).to_json()) == room + more
    client = FakeClient()
    SQS(URL, client)(a_letter(text))
    sent = DeadLetterRecord.from_json(client.sent["MessageBody"])
    assert (sent == a_letter(text)) is (more == 0)


@pytest.mark.parametrize("sink", [SQS(URL, FakeClient()), SNS(ARN, FakeClient())])
def test_that_images_are_left_to_the_stream_is_logged(
    sink: SQS | SNS, caplog: pytest.LogCaptureFixture
) -> None:
    letter = a_letter("y" * 300_000)
    with caplog.at_level(logging.WARNING):
        sink(letter)
        sink(letter.without_images())  # it had none
        sink(a_letter())
    (line,) = caplog.messages
    assert letter.id in line
    assert "its images are kept by the stream alone, for 24 hours" in line
    assert repr(sink) in line
    assert MARK not in line


def test_a_queue_of_one_mebibyte_takes_a_larger_letter_whole() -> None:
    client = FakeClient()
    SQS(URL, client, max_bytes=2**20)(a_letter("y" * 1_000_000))
    assert DeadLetterRecord.from_json(client.sent["MessageBody"]) == a_letter("y" * 1_000_000)


def test_an_object_has_the_same_key_at_every_writing_and_no_item_data_in_it() -> None:
    client = FakeClient()
    sink = S3("bucket", client=client)
    sink(a_letter())
    sink(a_letter(parked_at=1.0, reason="over_age"))
    (_, first), (_, second) = client.calls
    assert first["Key"] == second["Key"] == f"dead-letters/{a_letter().id}.json"
    assert DeadLetterRecord.from_json(first["Body"]) == a_letter()
    assert "ServerSideEncryption" not in first  # the bucket's own is not to be overridden


def test_an_object_is_encrypted_with_the_key_that_is_named() -> None:
    client = FakeClient()
    S3("bucket", "letters", client, kms_key_id="alias/letters")(a_letter())
    assert client.sent["ServerSideEncryption"] == "aws:kms"
    assert client.sent["SSEKMSKeyId"] == "alias/letters"
    assert client.sent["Key"].startswith("letters/")


async def test_a_topic_hands_the_letter_to_a_queue_from_which_it_is_read(
    moto_url: str, aws_environment: pytest.MonkeyPatch
) -> None:
    where = {"region_name": REGION, "endpoint_url": moto_url}
    topics, queues = boto3.client("sns", **where), boto3.client("sqs", **where)
    topic = topics.create_topic(Name=uuid4().hex)["TopicArn"]
    url = queues.create_queue(QueueName=uuid4().hex)["QueueUrl"]
    queue = queues.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]
    topics.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=queue["QueueArn"],
        Attributes={"RawMessageDelivery": "true"},
    )
    assert SNS(topic, topics)(a_letter()) is None
    (kept,) = await read(SQS(url, queues))
    assert kept.letter == a_letter()
    topics.close()
    queues.close()


async def test_a_client_is_made_from_the_environment_when_it_is_first_needed(
    moto_url: str, aws_environment: pytest.MonkeyPatch
) -> None:
    aws_environment.setenv("AWS_ENDPOINT_URL", moto_url)
    aws_environment.setenv("AWS_DEFAULT_REGION", REGION)
    client = boto3.client("s3")
    bucket = uuid4().hex
    client.create_bucket(Bucket=bucket)
    sink = open_dead_letters(f"s3://{bucket}/parked")
    assert not sink.is_async
    sink(a_letter())
    assert isinstance(sink, S3)
    (kept,) = await read(sink)
    assert kept.letter == a_letter()
    assert kept.receipt == f"parked/{a_letter().id}.json"
    client.close()


@pytest.mark.parametrize(
    "host", ["sqs.eu-west-1.amazonaws.com", "eu-west-1.queue.amazonaws.com", "sqs-fips.eu-west-1.x"]
)
async def test_a_queue_of_another_region_than_the_environments_is_reached_there(
    moto_url: str, aws_environment: pytest.MonkeyPatch, host: str
) -> None:
    aws_environment.setenv("AWS_ENDPOINT_URL", moto_url)
    aws_environment.setenv("AWS_REGION", REGION)
    here, there = (boto3.client("sqs", region_name=name) for name in (REGION, "eu-west-1"))
    name = uuid4().hex
    urls = [client.create_queue(QueueName=name)["QueueUrl"] for client in (here, there)]
    sink = SQS(f"https://{host}/123456789012/{name}")
    sink(a_letter())
    assert await read(SQS(urls[0], here)) == []
    (kept,) = await read(sink)
    assert kept.letter == a_letter()
    here.close()
    there.close()


async def test_a_topic_of_another_region_than_the_environments_is_reached_there(
    moto_url: str, aws_environment: pytest.MonkeyPatch
) -> None:
    aws_environment.setenv("AWS_ENDPOINT_URL", moto_url)
    aws_environment.setenv("AWS_REGION", REGION)
    topics = boto3.client("sns", region_name="eu-west-1")
    topic = topics.create_topic(Name=uuid4().hex)["TopicArn"]
    SNS(topic)(a_letter())
    topics.close()


# ── What goes wrong ──────────────────────────────────────────────────────────────────────────────

DENIED = ClientError({"Error": {"Code": "AccessDenied", "Message": MARK}}, "Put")


@pytest.mark.parametrize("error", [DENIED, TimeoutError(MARK), ValueError(MARK), KeyError(MARK)])
@pytest.mark.parametrize("client_type", [FakeClient, FakeAsyncClient])
async def test_a_sink_that_fails_says_so_and_names_no_data(
    error: Exception, client_type: type[FakeClient]
) -> None:
    client = client_type(send_message=error, publish=error, put_object=error)
    for sink in of_each(client):
        with pytest.raises(DeadLetterError) as refused:
            answer = sink(a_letter())
            assert answer is not None
            await answer
        told = str(refused.value)
        assert type(sink).__name__ in told
        assert type(error).__name__ in told
        assert ("AccessDenied" in told) is (error is DENIED)
        assert MARK not in told
        assert refused.value.__cause__ is error


@pytest.mark.parametrize(
    "response", [None, [], {}, {"Error": None}, {"Error": {"Code": 7}}, {"Error": {"Code": "\n"}}]
)
def test_an_odd_answer_of_a_service_is_an_error_like_others(response: Any) -> None:
    error = RuntimeError()
    error.response = response  # type: ignore[attr-defined]  # as botocore's errors have it
    with pytest.raises(DeadLetterError, match=r"failed with RuntimeError\. Check"):
        SQS(URL, FakeClient(send_message=error))(a_letter())


async def test_what_cannot_be_read_or_removed_says_so() -> None:
    kept = Kept(a_letter(), None, "receipt")
    queue = SQS(URL, FakeClient(receive_message=DENIED, delete_message=DENIED))
    bucket = S3("bucket", client=FakeClient(list_objects_v2=DENIED, delete_object=DENIED))
    for sink in (queue, bucket):
        with pytest.raises(DeadLetterError, match="AccessDenied"):
            await read(sink)
        with pytest.raises(DeadLetterError, match="AccessDenied"):
            await sink.remove(kept)


async def test_a_queue_that_is_not_there_is_an_error(
    moto_url: str, aws_environment: pytest.MonkeyPatch
) -> None:
    client = boto3.client("sqs", region_name=REGION, endpoint_url=moto_url)
    sink = SQS(f"{moto_url}/123456789012/none-such", client)
    with pytest.raises(DeadLetterError, match="NonExistentQueue"):
        sink(a_letter())
    with pytest.raises(DeadLetterError, match="NonExistentQueue"):
        await read(sink)
    client.close()


async def test_without_the_permission_to_give_back_letters_are_read_all_the_same() -> None:
    message = {"MessageId": "1", "ReceiptHandle": "r", "Body": a_letter().to_json()}
    client = FakeClient(
        receive_message=[{"Messages": [message]}], change_message_visibility_batch=DENIED
    )
    (kept,) = await read(SQS(URL, client))
    assert kept.letter == a_letter()


async def test_a_message_that_comes_again_while_it_is_read_is_yielded_once() -> None:
    def page(receipt: str) -> dict[str, Any]:
        message = {"MessageId": "1", "ReceiptHandle": receipt, "Body": a_letter().to_json()}
        return {"Messages": [message]}

    client = FakeClient(receive_message=[page("r1"), page("r2")])
    assert len(await read(SQS(URL, client, visibility_timeout=7))) == 1
    received = [arguments for name, arguments in client.calls if name == "receive_message"]
    assert [each["VisibilityTimeout"] for each in received] == [7, 7, 7]
    (given_back,) = [a for name, a in client.calls if name == "change_message_visibility_batch"]
    assert [entry["ReceiptHandle"] for entry in given_back["Entries"]] == ["r1", "r2"]


async def test_reading_ends_though_a_long_queue_begins_again_before_its_end() -> None:
    messages = [
        {"MessageId": str(n), "ReceiptHandle": f"r{n}", "Body": a_letter().to_json()}
        for n in range(3)
    ]
    pages = [{"Messages": messages[:2]}, {"Messages": messages[1:]}]
    client = FakeClient(receive_message=pages * 50)
    assert len(await read(SQS(URL, client))) == 3
    assert [name for name, _ in client.calls].count("receive_message") < 10


async def test_what_was_removed_is_not_given_back() -> None:
    messages = [
        {"MessageId": str(n), "ReceiptHandle": f"r{n}", "Body": a_letter().to_json()}
        for n in range(3)
    ]
    client = FakeClient(receive_message=[{"Messages": messages}])
    sink = SQS(URL, client)
    with without_waits():
        async for kept in sink.letters():
            if kept.receipt == "r1":
                await sink.remove(kept)
    (given_back,) = [a for name, a in client.calls if name == "change_message_visibility_batch"]
    assert [entry["ReceiptHandle"] for entry in given_back["Entries"]] == ["r0", "r2"]
    assert len({entry["Id"] for entry in given_back["Entries"]}) == 2


def listed(key: str, size: int = 10) -> Mapping[str, Any]:
    return {"Contents": [{"Key": key, "Size": size}]}


async def test_an_object_that_another_reader_removed_meanwhile_is_left_out() -> None:
    gone = ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
    client = FakeClient(
        list_objects_v2=listed(f"dead-letters/{a_letter().id}.json"), get_object=gone
    )
    assert await read(S3("bucket", client=client)) == []


async def test_an_object_that_is_too_large_is_not_fetched() -> None:
    key = f"dead-letters/{a_letter().id}.json"
    client = FakeClient(list_objects_v2=listed(key, MAX_BYTES + 1))
    (kept,) = await read(S3("bucket", client=client))
    assert kept.problem is not None
    assert "longer than" in kept.problem
    assert [name for name, _ in client.calls] == ["list_objects_v2"]


@pytest.mark.parametrize(
    "name", ["README", "x.json", f"sub/{'0' * 32}.json", f"{'0' * 32}.json.gz"]
)
async def test_other_objects_in_the_folder_are_left_alone(name: str) -> None:
    client = FakeClient(list_objects_v2=listed(f"dead-letters/{name}"))
    assert await read(S3("bucket", client=client)) == []
    assert [name for name, _ in client.calls] == ["list_objects_v2"]


# ── What is declared ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: SQS("letters"), "write its URL"),
        (lambda: SQS("arn:aws:sqs:eu-west-1:123456789012:letters"), "write its URL"),
        (lambda: SQS(URL, max_bytes=100), "max_bytes"),
        (lambda: SQS(URL, max_bytes=2**21), "max_bytes"),
        (lambda: SQS(URL, visibility_timeout=0), "visibility_timeout"),
        (lambda: SQS(URL, visibility_timeout=50_000), "visibility_timeout"),
        (lambda: SNS("letters"), "write its ARN"),
        (lambda: SNS(ARN, max_bytes=2**20), "max_bytes"),
        (lambda: S3(""), "names no bucket"),
        (lambda: S3("s3://bucket"), "names no bucket"),
        (lambda: S3("bucket/folder"), "names no bucket"),
    ],
)
def test_a_sink_that_cannot_work_is_refused_when_it_is_made(
    make: Callable[[], object], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        make()


@pytest.mark.parametrize(
    ("address", "sink"),
    [
        ("letters.jsonl", "JsonLines('letters.jsonl')"),
        ("/var/lib/app/letters.jsonl", "JsonLines('/var/lib/app/letters.jsonl')"),
        ("./a:b/letters.jsonl", "JsonLines('a:b/letters.jsonl')"),
        ("file:letters.txt", "JsonLines('letters.txt')"),
        ("file:///var/letters", "JsonLines('/var/letters')"),
        (URL, f"SQS('{URL}')"),
        ("https://eu-west-1.queue.amazonaws.com/1/q", "SQS('https://eu-west-1.queue.amazonaws.com"),
        ("sqs:http://127.0.0.1:4566/1/q", "SQS('http://127.0.0.1:4566/1/q')"),
        ("s3://bucket", "S3('bucket', 'dead-letters/')"),
        ("s3://bucket/", "S3('bucket', 'dead-letters/')"),
        ("s3://bucket/a/b", "S3('bucket', 'a/b/')"),
    ],
)
def test_an_address_names_a_sink(address: str, sink: str) -> None:
    assert repr(open_dead_letters(address)).startswith(sink)


@pytest.mark.parametrize(
    "address",
    [
        *("", "letters", "letters.json", "file:", "sqs:", "sqs:letters", "s3:bucket", "s3://", ARN),
        *("https://example.com/queue", "http://[", "s3:///x", "ftp://host/letters.jsonl", "x:y"),
    ],
)
def test_what_is_no_address_is_refused_with_what_can_be_written(address: str) -> None:
    with pytest.raises(
        ValueError, match=r"names no place of dead letters\. Write 'letters\.jsonl'"
    ):
        open_dead_letters(address)


def test_every_sink_is_what_an_app_takes() -> None:
    sinks: list[DeadLetter] = [*of_each(FakeClient()), JsonLines("letters.jsonl")]
    assert [getattr(sink, "is_async") for sink in sinks] == [False] * 4  # noqa: B009 - see above
    sinks = of_each(FakeAsyncClient())
    assert [getattr(sink, "is_async") for sink in sinks] == [True] * 3  # noqa: B009 - see above


async def test_what_is_held_is_given_back_only_when_that_ends() -> None:
    """A FIFO queue lets a message be removed only while it is held."""
    messages = [
        {"MessageId": str(number), "ReceiptHandle": f"receipt-{number}", "Body": "{}"}
        for number in range(3)
    ]
    client = FakeClient(receive_message=[{"Messages": messages}])
    sink = SQS(f"{URL}.fifo", client)
    async with sink.holding():
        first, *_ = await read(sink)
        await sink.remove(first)
        assert [call for call, _ in client.calls][-1] == "delete_message"
    call, arguments = client.calls[-1]
    assert call == "change_message_visibility_batch"
    given_back = {entry["ReceiptHandle"] for entry in arguments["Entries"]}
    assert given_back == {"receipt-1", "receipt-2"}
    assert [call for call, _ in client.calls].count("change_message_visibility_batch") == 1
