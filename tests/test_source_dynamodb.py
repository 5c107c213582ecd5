"""DynamoDBSource against a scripted service: botocore's own parsing, over a real connection."""

from __future__ import annotations

import json
import sys
import traceback
from collections import defaultdict
from collections.abc import AsyncIterator
from functools import cache
from typing import Any, TypeAlias

import aioboto3
import anyio
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from dynaflow.errors import (
    ExtraMissing,
    RecordsTrimmed,
    ShardGone,
    SourceError,
    StreamRefused,
)
from dynaflow.source import LATEST, TRIM_HORIZON, Page, Position, Reader, Shard, after
from dynaflow.sources import DynamoDBSource
from dynaflow.sources._client import Clients

pytestmark = pytest.mark.anyio

ARN = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
SHARD = "shardId-00000001767225600000-0000000a"
A, B, C = (SHARD[:-1] + letter for letter in "abc")
MARK = "item data that belongs into no message"
ITERATOR = f"{ARN}|1|secret"

Answer: TypeAlias = dict[str, Any] | bytes | tuple[int, dict[str, str]] | str


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


class Service:
    """Answers each operation with the next of its scripted answers, and the last one for ever."""

    def __init__(self) -> None:
        self.url = ""
        self.reset()

    def reset(self) -> None:
        self.answers: dict[str, list[Answer]] = {
            "DescribeTable": [{"Table": {"LatestStreamArn": ARN, **ENABLED}}],
            "DescribeStream": [listing({"ShardId": SHARD})],
            "GetShardIterator": [{"ShardIterator": ITERATOR}],
            "GetRecords": [page()],
        }
        self.requests: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)

    def script(self, operation: str, *answers: Answer) -> None:
        self.answers[operation] = list(answers)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        operation = request.headers["X-Amz-Target"].partition(".")[2]
        self.requests[operation].append(await request.json())
        answers = self.answers[operation]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if answer == "reset":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if answer == "truncated":
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b'{"Records": [')
            assert request.transport is not None
            request.transport.close()
            return response
        if isinstance(answer, tuple):
            status, body = answer
            return web.json_response(body, status=status)
        body_text = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return web.Response(body=body_text, content_type="application/x-amz-json-1.0")


ENABLED = {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}}


def listing(*shards: dict[str, Any], last: str | None = None) -> dict[str, Any]:
    description: dict[str, Any] = {"StreamArn": ARN, "Shards": list(shards)}
    if last is not None:
        description["LastEvaluatedShardId"] = last
    return {"StreamDescription": description}


def page(*numbers: str, following: str | None = ITERATOR, **extra: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {"Records": [raw(number) for number in numbers], **extra}
    if following is not None:
        answer["NextShardIterator"] = following
    return answer


def number_of(digits: str) -> str:
    """Return a sequence number; botocore wants at least 21 digits of one."""
    return digits.zfill(21)


def numbers_of(page: Page) -> list[str]:
    return [record.sequence_number.lstrip("0") for record in page.records]


def raw(number: str) -> dict[str, Any]:
    return {
        "eventID": number,
        "eventName": "INSERT",
        "dynamodb": {
            "ApproximateCreationDateTime": 1_767_225_600,
            "Keys": {"id": {"S": MARK}},
            "SequenceNumber": number_of(number),
        },
    }


def error(code: str, status: int = 400) -> tuple[int, dict[str, str]]:
    return status, {"__type": f"com.amazonaws.dynamodb#{code}", "message": f"{MARK} {ITERATOR}"}


@pytest.fixture(scope="module")
async def server() -> AsyncIterator[Service]:
    service = Service()
    app = web.Application()
    app.router.add_post("/", service.answer)
    async with TestServer(app) as server:
        service.url = f"http://127.0.0.1:{server.port}"
        yield service


@pytest.fixture
def service(server: Service) -> Service:
    server.reset()
    return server


@cache
def make_session() -> Any:
    """One for all tests: a new one reads botocore's models again."""
    return aioboto3.Session(
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",  # noqa: S106 - the service takes any
        region_name="eu-west-1",
    )


def make_source(service: Service, table: str = "orders", **options: Any) -> DynamoDBSource:
    return DynamoDBSource(table, session=make_session(), endpoint_url=service.url, **options)


@pytest.fixture(scope="module")
async def shared_source(server: Service) -> AsyncIterator[DynamoDBSource]:
    """One for many tests: it takes a while to make botocore's clients."""
    async with make_source(server) as source:
        yield source


@pytest.fixture
def source(shared_source: DynamoDBSource, service: Service) -> DynamoDBSource:
    """A source of the service, which has its first answers again."""
    assert service.requests == {}
    return shared_source


@pytest.fixture
async def reader(source: DynamoDBSource) -> Reader:
    return await source.open(SHARD, TRIM_HORIZON)


def assert_quiet(caught: pytest.ExceptionInfo[BaseException]) -> None:
    """Neither the message nor the traceback holds item data or an iterator."""
    text = "".join(traceback.format_exception(caught.value))
    assert MARK not in text
    assert ITERATOR not in text


# Finding the stream


async def test_the_newest_stream_of_a_table_is_read(service: Service) -> None:
    async with make_source(service) as source:
        assert source.stream_arn == ARN
    assert service.requests["DescribeTable"] == [{"TableName": "orders"}]


async def test_a_streams_arn_needs_no_table(service: Service) -> None:
    async with make_source(service, ARN) as source:
        assert source.stream_arn == ARN
        await source.shards()
    assert service.requests["DescribeTable"] == []


async def test_a_tables_arn_is_taken(service: Service) -> None:
    table_arn = ARN.partition("/stream/")[0]
    async with make_source(service, table_arn) as source:
        assert source.stream_arn == ARN
    assert service.requests["DescribeTable"] == [{"TableName": table_arn}]


async def test_a_source_that_is_not_entered_says_so(service: Service) -> None:
    source = make_source(service, ARN)
    with pytest.raises(RuntimeError, match="async with"):
        _ = source.stream_arn


async def test_a_table_without_a_stream_is_refused_with_the_command_to_enable_one(
    service: Service,
) -> None:
    service.script("DescribeTable", {"Table": {"TableName": "orders"}})
    with pytest.raises(StreamRefused, match="--table-name orders --stream-specification"):
        await make_source(service).__aenter__()


async def test_a_disabled_stream_is_read_with_a_warning(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.script("DescribeTable", {"Table": {"LatestStreamArn": ARN}})
    async with make_source(service) as source:
        assert source.stream_arn == ARN
    assert "is disabled" in caplog.text


@pytest.mark.parametrize("table", ["arn:aws:s3:::bucket", f"{ARN.partition('/')[0]}", "arn:"])
async def test_another_services_arn_is_refused(table: str) -> None:
    with pytest.raises(StreamRefused, match="neither a table's ARN nor a stream's"):
        DynamoDBSource(table)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("ResourceNotFoundException", "check its name, the region and the account"),
        ("AccessDeniedException", "allow it in the IAM policy"),
        ("UnrecognizedClientException", "use credentials that exist"),
        ("ValidationException", "check the name"),
    ],
)
async def test_what_waiting_cannot_mend_is_refused_with_a_remedy(
    service: Service, code: str, remedy: str
) -> None:
    service.script("DescribeTable", error(code))
    with pytest.raises(StreamRefused, match=remedy) as caught:
        await make_source(service).__aenter__()
    assert f"DescribeTable of orders in eu-west-1 failed: {code}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert_quiet(caught)


async def test_without_credentials_the_message_names_them(
    service: Service, aws_environment: pytest.MonkeyPatch
) -> None:
    aws_environment.delenv("AWS_ACCESS_KEY_ID")
    aws_environment.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(StreamRefused, match="AWS_ACCESS_KEY_ID"):
        await DynamoDBSource("orders", region="eu-west-1", endpoint_url=service.url).__aenter__()


async def test_an_endpoint_that_is_no_url_is_refused() -> None:
    with pytest.raises(StreamRefused, match="Invalid endpoint"):
        await DynamoDBSource("t", session=make_session(), endpoint_url="nowhere").__aenter__()


async def test_an_endpoint_where_nobody_listens_may_be_tried_again() -> None:
    source = DynamoDBSource("t", session=make_session(), endpoint_url="http://127.0.0.1:9")
    with pytest.raises(SourceError, match=r"nobody answers at .*:9\. Check") as caught:
        await source.__aenter__()
    assert not isinstance(caught.value, StreamRefused)


@pytest.mark.parametrize(
    ("endpoint", "is_aws"),
    [
        ("https://dynamodb.eu-north-1.amazonaws.com", True),
        ("https://dynamodb.EU-north-1.amazonaws.com.", True),
        ("https://vpce-1-a.dynamodb.eu-north-1.vpce.amazonaws.com", True),
        ("https://123456789012.ddb.eu-north-1.amazonaws.com", True),
        ("https://dynamodb.eu-north-1.api.aws", True),
        ("https://dynamodb.cn-north-1.amazonaws.com.cn", True),
        ("https://dynamodb.cn-north-1.api.amazonwebservices.com.cn", True),
        ("https://dynamodb.eusc-de-east-1.amazonaws.eu", True),
        ("https://dynamodb.us-iso-east-1.c2s.ic.gov", True),
        ("https://dynamodb.us-isob-east-1.sc2s.sgov.gov", True),
        ("http://127.0.0.1:8000", False),
        ("http://amazonaws.com.example.org", False),
        ("http://localaws:8000", False),
    ],
)
async def test_aws_itself_is_told_from_a_stand_in(endpoint: str, is_aws: bool) -> None:
    async with Clients(make_session(), "eu-north-1", endpoint, None) as clients:
        assert clients.is_aws is is_aws


async def test_a_missing_extra_is_named(aws_environment: pytest.MonkeyPatch) -> None:
    aws_environment.setitem(sys.modules, "aioboto3", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'dynaflow\[aws\]'"):
        await DynamoDBSource("orders", region="eu-west-1").__aenter__()


# Region and endpoints from the environment


async def connect(service: Service, **options: Any) -> str:
    """Enter a source of the environment, list its shards, and return the client's region."""
    async with DynamoDBSource("orders", **options) as source:
        await source.shards()
        return str(source._clients._dynamodb.meta.region_name)


async def test_aws_region_alone_names_the_region(
    service: Service, aws_environment: pytest.MonkeyPatch
) -> None:
    aws_environment.setenv("AWS_ENDPOINT_URL", service.url)
    with pytest.raises(StreamRefused, match="AWS_REGION"):
        await connect(service)
    aws_environment.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    assert await connect(service) == "eu-west-2"
    aws_environment.setenv("AWS_REGION", "eu-west-3")
    assert await connect(service) == "eu-west-3"
    assert await connect(service, region="eu-north-1") == "eu-north-1"


async def test_the_region_of_an_arn_and_of_a_session_come_before_the_environments(
    service: Service, aws_environment: pytest.MonkeyPatch
) -> None:
    aws_environment.setenv("AWS_REGION", "us-east-1")
    for table in (ARN, "orders"):
        async with make_source(service, table) as source:
            assert source._clients._dynamodb.meta.region_name == "eu-west-1"


async def test_the_made_up_region_of_dynamodb_local_is_not_signed_for(
    service: Service, aws_environment: pytest.MonkeyPatch
) -> None:
    aws_environment.setenv("AWS_REGION", "us-east-1")
    arn = ARN.replace("eu-west-1", "ddblocal")
    async with DynamoDBSource(arn, endpoint_url=service.url) as source:
        assert source._clients._dynamodb.meta.region_name == "us-east-1"


async def test_the_endpoint_of_dynamodb_serves_its_streams_too(
    service: Service, aws_environment: pytest.MonkeyPatch
) -> None:
    aws_environment.setenv("AWS_ENDPOINT_URL_DYNAMODB", service.url)
    await connect(service, region="eu-west-1")
    assert len(service.requests["DescribeStream"]) == 1


async def streams_url(**options: Any) -> str:
    async with DynamoDBSource(ARN, **options) as source:
        return str(source._clients._streams.meta.endpoint_url)


async def test_an_endpoint_for_streams_is_used_where_one_is_named(
    aws_environment: pytest.MonkeyPatch,
) -> None:
    aws_environment.setenv("AWS_ENDPOINT_URL_DYNAMODB", "http://dynamodb")
    assert await streams_url() == "http://dynamodb"
    assert await streams_url(endpoint_url="http://other") == "http://other"
    aws_environment.setenv("AWS_ENDPOINT_URL_DYNAMODB_STREAMS", "http://streams")
    assert await streams_url() == "http://streams"
    assert await streams_url(streams_endpoint_url="http://here") == "http://here"


async def test_aws_own_endpoint_of_dynamodb_does_not_serve_streams(
    aws_environment: pytest.MonkeyPatch,
) -> None:
    own = "https://dynamodb.eu-west-1.amazonaws.com"
    streams = "https://streams.dynamodb.eu-west-1.amazonaws.com"
    assert await streams_url(endpoint_url=own) == streams
    aws_environment.setenv("AWS_ENDPOINT_URL_DYNAMODB", own)
    assert await streams_url() == streams


# Listing


async def test_a_listing_has_parents_and_closed_shards_of_all_pages(
    service: Service, source: DynamoDBSource
) -> None:
    closed = {"StartingSequenceNumber": "1", "EndingSequenceNumber": "2"}
    service.script(
        "DescribeStream",
        listing({"ShardId": A, "SequenceNumberRange": closed}, last=A),
        listing({"ShardId": B, "ParentShardId": A, "SequenceNumberRange": {}}, last=B),
        listing({"ShardId": C, "ParentShardId": A}),
    )
    assert await source.shards() == [
        Shard(A, is_closed=True, first=1, last=2),
        Shard(B, A),
        Shard(C, A),
    ]
    starts = [
        request.get("ExclusiveStartShardId") for request in service.requests["DescribeStream"]
    ]
    assert starts == [None, A, B]


async def test_a_page_of_a_listing_that_fails_is_asked_for_again(
    service: Service, source: DynamoDBSource
) -> None:
    service.script(
        "DescribeStream",
        listing({"ShardId": A}, last=A),
        error("LimitExceededException"),
        listing({"ShardId": B}),
    )
    assert await source.shards() == [Shard(A), Shard(B)]


async def test_a_listing_that_runs_in_a_circle_is_an_error(
    service: Service, source: DynamoDBSource
) -> None:
    service.script("DescribeStream", listing({"ShardId": A}, last=A))
    with pytest.raises(SourceError, match="circle"), anyio.fail_after(10):
        await source.shards()


async def test_a_listing_that_is_refused_is_not_asked_for_again(
    service: Service, source: DynamoDBSource
) -> None:
    service.script("DescribeStream", error("ResourceNotFoundException"))
    with pytest.raises(StreamRefused, match=f"DescribeStream of {ARN} in eu-west-1"):
        await source.shards()
    assert len(service.requests["DescribeStream"]) == 1


# Reading


async def test_a_page_knows_how_far_it_is_behind(service: Service) -> None:
    service.script("GetRecords", page("1", "2"))
    async with make_source(service, wall_clock=lambda: 1_767_225_690.0) as source:
        reader = await source.open(SHARD, TRIM_HORIZON)
        answer = await reader.next()
    assert numbers_of(answer) == ["1", "2"]
    assert answer.behind == 90
    assert not answer.ended


async def test_a_shard_ends_only_with_records_and_without_a_next_iterator(
    service: Service, reader: Reader
) -> None:
    service.script("GetRecords", page(), page("1", following=None))
    assert not (await reader.next()).ended
    last = await reader.next()
    assert (len(last.records), last.ended) == (1, True)
    assert (await reader.next()).ended
    assert len(service.requests["GetRecords"]) == 2


BROKEN: list[Answer] = [
    {},
    b"",
    b"not json",
    b"<html>a proxy's greeting</html>",
    b"[]",
    b"null",
    b'"text"',
    {"Records": None},
    {"Records": "text"},
    {"Records": {"a": 1}},
    {"Records": [None]},
    {"Records": ["text"]},
    {"Records": [{}]},
    {"Records": [{"dynamodb": {}}]},
    {"Records": [{"dynamodb": {"SequenceNumber": "x"}}]},
    {"NextShardIterator": ITERATOR},
    page(following=""),
    "truncated",
    "reset",
    (500, {}),
    (503, {"__type": "AccessDeniedException"}),
    (400, {}),
]


@pytest.mark.parametrize("answer", BROKEN, ids=str)
async def test_a_broken_answer_may_be_tried_again_and_loses_nothing(
    service: Service, reader: Reader, answer: Answer
) -> None:
    service.script("GetRecords", page("1"), answer, page("2"))
    assert len((await reader.next()).records) == 1
    with pytest.raises(SourceError) as caught:
        await reader.next()
    assert not isinstance(caught.value, (StreamRefused, ShardGone, RecordsTrimmed))
    assert_quiet(caught)
    assert numbers_of(await reader.next()) == ["2"]
    assert {request["ShardIterator"] for request in service.requests["GetRecords"]} == {ITERATOR}


@pytest.mark.parametrize("operation", ["DescribeStream", "GetShardIterator"])
@pytest.mark.parametrize(
    "answer", [{}, b"not json", {"Other": 1}, {"StreamDescription": {}}], ids=str
)
async def test_an_answer_without_its_key_is_an_error(
    service: Service, source: DynamoDBSource, operation: str, answer: Answer
) -> None:
    service.script(operation, answer)
    with pytest.raises(SourceError) as caught:
        if operation == "DescribeStream":
            await source._describe(None)
        else:
            await source.open(SHARD, TRIM_HORIZON)
    assert not isinstance(caught.value, StreamRefused)


async def test_a_table_that_is_not_described_may_be_tried_again(service: Service) -> None:
    service.script("DescribeTable", {}, b"not json", (500, {}))
    with pytest.raises(SourceError) as caught:
        await make_source(service).__aenter__()
    assert not isinstance(caught.value, StreamRefused)
    assert len(service.requests["DescribeTable"]) == 2


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("LimitExceededException", SourceError),
        ("ThrottlingException", SourceError),
        ("Throttling", SourceError),
        ("ProvisionedThroughputExceededException", SourceError),
        ("RequestLimitExceeded", SourceError),
        ("InternalServerError", SourceError),
        ("ServiceUnavailable", SourceError),
        ("ExpiredTokenException", SourceError),
        ("InvalidSignatureException", SourceError),
        ("SomethingNew", SourceError),
        ("TrimmedDataAccessException", RecordsTrimmed),
        ("ResourceNotFoundException", ShardGone),
        ("AccessDeniedException", StreamRefused),
        ("UnrecognizedClientException", StreamRefused),
    ],
)
@pytest.mark.parametrize("operation", ["GetRecords", "GetShardIterator"])
async def test_each_error_of_the_service_has_one_meaning(
    service: Service,
    source: DynamoDBSource,
    operation: str,
    code: str,
    expected: type[SourceError],
) -> None:
    service.script(operation, error(code))
    with pytest.raises(SourceError, match=code) as caught:
        await (await source.open(SHARD, TRIM_HORIZON)).next()
    assert type(caught.value) is expected
    assert_quiet(caught)


@pytest.mark.parametrize(
    ("start", "first", "reopened"),
    [
        (TRIM_HORIZON, page("7", "8"), ("AFTER_SEQUENCE_NUMBER", "8")),
        (LATEST, page("7"), ("AFTER_SEQUENCE_NUMBER", "7")),
        (after(number_of("5")), page(), ("AFTER_SEQUENCE_NUMBER", "5")),
        (TRIM_HORIZON, page(), ("TRIM_HORIZON", "")),
        (LATEST, page(), ("TRIM_HORIZON", "")),  # not LATEST: that would skip records
    ],
)
async def test_an_expired_iterator_is_replaced_by_one_after_the_last_record(
    service: Service,
    source: DynamoDBSource,
    start: Position,
    first: Answer,
    reopened: tuple[str, str],
) -> None:
    service.script("GetShardIterator", {"ShardIterator": ITERATOR}, {"ShardIterator": "fresh"})
    service.script("GetRecords", first, error("ExpiredIteratorException"), page("9"))
    reader = await source.open(SHARD, start)
    await reader.next()
    assert numbers_of(await reader.next()) == ["9"]
    opened = service.requests["GetShardIterator"][-1]
    kind, number = opened["ShardIteratorType"], opened.get("SequenceNumber", "").lstrip("0")
    assert (kind, number) == reopened
    assert service.requests["GetRecords"][-1] == {"ShardIterator": "fresh"}


async def test_iterators_that_expire_at_once_are_an_error_and_no_loop(
    service: Service, reader: Reader
) -> None:
    service.script("GetRecords", error("ExpiredIteratorException"))
    with pytest.raises(SourceError, match="expired"):
        await reader.next()
    assert len(service.requests["GetRecords"]) == 2


async def test_a_position_becomes_the_services_own_words(
    service: Service, source: DynamoDBSource
) -> None:
    for position in (TRIM_HORIZON, LATEST, after("000000000000000000042")):
        await source.open(SHARD, position)
    shard = {"StreamArn": ARN, "ShardId": SHARD}
    assert service.requests["GetShardIterator"] == [
        shard | {"ShardIteratorType": "TRIM_HORIZON"},
        shard | {"ShardIteratorType": "LATEST"},
        shard
        | {
            "ShardIteratorType": "AFTER_SEQUENCE_NUMBER",
            "SequenceNumber": "000000000000000000042",
        },
    ]
