"""``dynaflow recover``: what Lambda gave up, run or parked after all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import Any

import boto3
import pytest

from dynaflow.cli._event import read_documents
from dynaflow.cli._messages import Foreign, Stretch, stretches_in
from dynaflow.cli.recover import Found, read_all
from dynaflow.codec import decode_records
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.errors import RecordsTrimmed, ShardGone, SourceError, StreamRefused
from dynaflow.record import Record
from dynaflow.retry import without_waits
from dynaflow.source import at
from dynaflow.sources import MemorySource
from dynaflow.testing import RecordBuilder
from tests.support.command_line import Project
from tests.support.tables import REGION, Table

SHOP = """
    from dynaflow import F, NonRetryable, App, Router

    router = Router()

    @router.on_insert(F.new.id == "bad", name="refuse")
    async def refuse(new):
        raise ValueError("no")

    @router.on_insert(~F.new.id.is_in(["bad", "filtered"]), name="note")
    def note(new):
        print("noted", new["id"])

    app = App(router)
"""
SHARD = "shardId-00000001573689847184-864758bb"
BUILD = RecordBuilder(table="orders")
ARN = BUILD.stream_arn


@pytest.fixture
def project(aws_project: Project) -> Project:
    aws_project.write("shop.py", SHOP)
    return aws_project


class Stream:
    """A table's stream on moto, and what Lambda writes about stretches of it.

    Args:
        table: the table.
        ids: of the items that are put into it, in this order.
    """

    def __init__(self, table: Table, *ids: str) -> None:
        table.put(*ids)
        self.ids = ids
        client: Any = boto3.client("dynamodbstreams", region_name=REGION, endpoint_url=table.url)
        (described,) = client.list_streams(TableName=table.name)["Streams"]
        self.arn = described["StreamArn"]
        (shard,) = client.describe_stream(StreamArn=self.arn)["StreamDescription"]["Shards"]
        self.shard = shard["ShardId"]
        iterator = client.get_shard_iterator(
            StreamArn=self.arn, ShardId=self.shard, ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        records = client.get_records(ShardIterator=iterator)["Records"]
        self.numbers = [record["dynamodb"]["SequenceNumber"] for record in records]
        client.close()

    def message(self, first: str, last: str, size: int, **context: Any) -> dict[str, Any]:
        """Return the message about the records from one item's to another's."""
        return message(
            self.numbers[self.ids.index(first)],
            self.numbers[self.ids.index(last)],
            size,
            arn=self.arn,
            shard=self.shard,
            **context,
        )


def message(
    first: str,
    last: str,
    size: int,
    *,
    arn: str = ARN,
    shard: str = SHARD,
    condition: str = "RetryAttemptsExhausted",
    count: int = 4,
) -> dict[str, Any]:
    """Return a message as AWS was recorded to write it."""
    response = {"statusCode": 200, "executedVersion": "$LATEST", "functionError": None}
    return {
        "requestContext": {
            "requestId": "5e4f1a1c-0d5f-4b6d-8f1c-0f8a1f3b9a11",
            "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:shop",
            "condition": condition,
            "approximateInvokeCount": count,
        },
        **({} if condition == "RecordAgeExceeded" else {"responseContext": response}),
        "version": "1.0",
        "timestamp": "2019-11-14T00:13:49.717Z",
        "DDBStreamBatchInfo": {
            "shardId": shard,
            "startSequenceNumber": first,
            "endSequenceNumber": last,
            "approximateArrivalOfFirstRecord": "2019-11-14T00:13:19Z",
            "approximateArrivalOfLastRecord": "2019-11-14T00:13:19Z",
            "batchSize": size,
            "streamArn": arn,
        },
    }


NOTE = message("800000000003126276362", "800000000003126276364", 3)
BODY = json.dumps(NOTE)
NOTIFICATION = {"Type": "Notification", "MessageId": "1", "TopicArn": "arn:…", "Message": BODY}


# What the message may come wrapped in


@pytest.mark.parametrize(
    "written",
    [
        NOTE,
        BODY,
        [NOTE],
        NOTIFICATION,
        {"Messages": [{"MessageId": "1", "ReceiptHandle": "x", "Body": BODY}]},
        {"Messages": [{"Body": json.dumps(NOTIFICATION)}]},
        {"MessageId": "1", "Body": BODY},
        {"Records": [{"messageId": "1", "eventSource": "aws:sqs", "body": BODY}]},
        {"Records": [{"eventSource": "aws:sqs", "body": json.dumps(NOTIFICATION)}]},
        {"Records": [{"EventSource": "aws:sns", "Sns": NOTIFICATION}]},
        [BODY],
        {**NOTE, "payload": None},
    ],
)
def test_a_message_is_found_in_whatever_it_came(written: Any) -> None:
    (found,) = stretches_in(written)
    assert found == Stretch(
        ARN,
        SHARD,
        "800000000003126276362",
        "800000000003126276364",
        3,
        condition="RetryAttemptsExhausted",
        deliveries=4,
        arrived="2019-11-14T00:13:19Z",
    )


def test_of_records_that_were_too_old_there_is_no_response() -> None:
    (found,) = stretches_in(message("1", "1", 1, condition="RecordAgeExceeded", count=1))
    assert isinstance(found, Stretch)
    assert (found.condition, found.deliveries) == ("RecordAgeExceeded", 1)


@pytest.mark.parametrize("is_text", [False, True])
def test_an_object_in_s3_has_the_records(is_text: bool) -> None:
    raws = [BUILD.insert({"id": name}) for name in "ab"]
    payload: Any = {"Records": raws}
    (found,) = stretches_in({**NOTE, "payload": json.dumps(payload) if is_text else payload})
    assert isinstance(found, Stretch)
    assert found.records is not None
    assert [record.raw for record in found.records] == raws
    assert {record.source_arn for record in found.records} == {ARN}


def test_records_in_s3_that_do_not_name_their_stream_are_of_the_messages() -> None:
    raw = BUILD.insert({"id": "a"})
    del raw["eventSourceARN"]
    (found,) = stretches_in({**NOTE, "payload": {"Records": [raw]}})
    assert isinstance(found, Stretch)
    assert found.records is not None
    assert found.records[0].source_arn == ARN


def test_many_messages_are_found_in_their_order() -> None:
    bodies = [message(str(n), str(n), 1) for n in range(1, 6)]
    wrapped = {"Messages": [{"Body": json.dumps(bodies[0])}, {"Body": json.dumps(bodies[1:3])}]}
    found = list(stretches_in([wrapped, *bodies[3:]]))
    assert [part.first for part in found if isinstance(part, Stretch)] == ["1", "2", "3", "4", "5"]


def without(name: str, **others: Any) -> dict[str, Any]:
    info = {**NOTE["DDBStreamBatchInfo"], **others}
    info.pop(name, None)
    return {**NOTE, "DDBStreamBatchInfo": info}


def nested(value: Any, times: int) -> Any:
    for _ in range(times):
        value = {"Message": value}
    return value


@pytest.mark.parametrize(
    ("written", "where", "reason"),
    [
        ({}, "", "it has no DDBStreamBatchInfo"),
        (7, "", "neither an object nor a list"),
        (None, "", "neither an object nor a list"),
        ({"Messages": [{"Body": "hello"}]}, "Messages[0].Body", "it is text that is not JSON"),
        ({"Messages": None}, "Messages", "neither an object nor a list"),
        ({"Messages": [NOTE, {}][1:]}, "Messages[0]", "it has no DDBStreamBatchInfo"),
        ({"Records": [BUILD.insert({"id": "a"})]}, "Records[0]", "dynaflow invoke"),
        ({"Records": [{"s3": {}}]}, "Records[0]", "aws s3 cp"),
        ({"KinesisBatchInfo": {}}, "", "Kinesis"),
        (without("streamArn"), "", "streamArn is not the ARN"),
        (without("", streamArn="arn:aws:kinesis:x:1:stream/a"), "", "streamArn is not the ARN"),
        (without("", streamArn="arn:aws:dynamodb:x:1:table/a"), "", "streamArn is not the ARN"),
        (without("", streamArn="orders"), "", "streamArn is not the ARN"),
        (without("", streamArn=ARN.replace("orders", "\x1b[2J")), "", "streamArn is not the ARN"),
        (without("", streamArn=f"{ARN}\x1b[2J"), "", "streamArn is not the ARN"),
        (without("shardId"), "", "shardId is missing"),
        (without("", shardId="\x1b[2J"), "", "shardId is missing"),
        (without("startSequenceNumber"), "", "from which sequence number"),
        (without("", endSequenceNumber="79"), "", "from which sequence number"),
        (without("", endSequenceNumber=8 * 10**20), "", "from which sequence number"),
        (without("", endSequenceNumber="９" * 21), "", "from which sequence number"),
        (without("batchSize"), "", "batchSize"),
        (without("", batchSize=True), "", "batchSize"),
        ({**NOTE, "payload": {"Records": [{}]}}, "", "payload: a record has no usable"),
        ({**NOTE, "payload": "hello"}, "", "payload: the text is not JSON"),
        (
            {**NOTE, "payload": {"Records": [RecordBuilder(table="b").insert({"id": "a"})]}},
            "",
            "of another stream",
        ),
        (
            {**NOTE, "payload": {"Records": [RecordBuilder(table="\x1b").insert({"id": "a"})]}},
            "",
            r"table/\u001b/",
        ),
        ("[" * 100_000, "", "it is text that is not JSON"),
    ],
)
def test_what_is_no_message_is_said_with_its_place(written: Any, where: str, reason: str) -> None:
    (found,) = stretches_in(written)
    assert isinstance(found, Foreign)
    assert found.where == where
    assert reason in found.reason


def test_a_message_that_is_wrapped_without_end_is_given_up() -> None:
    (found,) = stretches_in(nested(NOTE, 400))
    assert isinstance(found, Foreign)
    assert found.reason == "it is wrapped too often"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (f"{BODY}\n", 1),
        (f"{BODY}\t{BODY}\n", 2),
        (f"\ufeff{BODY}\r\n\r\n{BODY}", 2),
        (" \n", 0),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_file_may_have_one_message_behind_the_other(
    project: Project, text: str, count: int, encoding: str
) -> None:
    path = project.directory / "message.json"
    path.write_bytes(text.encode(encoding))
    assert read_documents(path) == [NOTE] * count


# Reading a stretch


@pytest.fixture
def source() -> MemorySource:
    """A stream with the records 1 to 6 in a shard, three on a page."""
    source = MemorySource(ARN, page_size=3)
    source.add_shard(SHARD)
    source.append(SHARD, *decode_records([raw(n) for n in range(1, 7)], ARN))
    return source


def raw(number: int) -> dict[str, Any]:
    stream = {"SequenceNumber": str(number), "Keys": {"id": {"S": "a"}}}
    return {"eventName": "MODIFY", "dynamodb": stream}


def read(source: MemorySource, *messages: dict[str, Any]) -> Found:
    @asynccontextmanager
    async def open_source(arn: str) -> Any:
        assert arn == ARN
        yield source

    with without_waits():
        (found,) = asyncio.run(read_all(stretches(*messages), open_source))
    return found


def stretches(*messages: dict[str, Any]) -> Iterator[Stretch]:
    for found in stretches_in(list(messages)):
        assert isinstance(found, Stretch)
        yield found


def numbers(found: Found) -> list[int]:
    return [record.position for record in found.batch.records]


def test_a_stretch_is_read_from_its_first_record_to_its_last(source: MemorySource) -> None:
    found = read(source, message("2", "5", 4))
    assert numbers(found) == [2, 3, 4, 5]
    assert found.gone == 0
    assert found.batch.source_arn == ARN
    assert source.calls[0] == ("open", SHARD, at("2"))  # not the whole shard from its beginning


def test_reading_goes_on_over_empty_pages_and_ends_with_the_stretch(source: MemorySource) -> None:
    source.add_shard("b")
    source.append("b", *decode_records([raw(8)], ARN))
    source.fail("next", SourceError("throttled"), SourceError("throttled"))
    found = read(source, message("8", "8", 1, shard="b"), message("1", "1", 1))
    assert numbers(found) == [1, 8]
    assert [call for call, _, _ in source.calls].count("next") == 4


def test_records_of_two_shards_with_one_number_are_two_records(source: MemorySource) -> None:
    source.add_shard("b")
    source.append("b", *decode_records([raw(2)], ARN))
    found = read(source, message("1", "3", 3), message("2", "2", 1, shard="b"))
    assert numbers(found) == [1, 2, 2, 3]


def test_reading_ends_with_the_shard(source: MemorySource) -> None:
    source.close(SHARD)
    assert read(source, message("5", "7", 3)).gone == 1
    assert [call for call, _, _ in source.calls] == ["open", "next"]


def test_messages_that_overlap_are_one_stretch_in_the_order_of_the_stream(
    source: MemorySource,
) -> None:
    found = read(source, message("4", "5", 2), message("2", "4", 3), message("4", "5", 2, count=9))
    assert numbers(found) == [2, 3, 4, 5]


def test_records_between_those_of_another_message_come_in_between(source: MemorySource) -> None:
    in_s3 = {**message("2", "4", 2), "payload": {"Records": [raw(2), raw(4)]}}
    assert numbers(read(source, message("3", "3", 1), in_s3)) == [2, 3, 4]


def test_more_records_than_lambda_had_are_what_its_filters_left_out(
    source: MemorySource, capsys: pytest.CaptureFixture[str]
) -> None:
    found = read(source, message("2", "5", 2))
    assert (numbers(found), found.gone) == ([2, 3, 4, 5], 0)
    assert "4 records, of which 2 were for the function" in capsys.readouterr().err


def test_of_a_stretch_that_is_trimmed_in_part_the_rest_is_read_and_the_loss_is_said(
    source: MemorySource, capsys: pytest.CaptureFixture[str]
) -> None:
    source.trim(SHARD, 3)
    found = read(source, message("2", "5", 4))
    assert (numbers(found), found.gone) == ([4, 5], 2)
    said = capsys.readouterr().err
    assert f"{SHARD} from 2 to 5: at least 2 of 4 records are gone" in said
    assert "24 hours" in said
    assert "2019-11-14T00:13:19Z" in said


def test_a_loss_shows_even_where_filters_hide_how_many(source: MemorySource) -> None:
    source.trim(SHARD, 3)
    found = read(source, message("2", "5", 2))
    assert (numbers(found), found.gone) == ([4, 5], 1)


def test_of_a_stretch_that_is_trimmed_altogether_all_is_gone(
    source: MemorySource, capsys: pytest.CaptureFixture[str]
) -> None:
    source.trim(SHARD, 6)
    found = read(source, message("2", "5", 4))
    assert (numbers(found), found.gone) == ([], 4)
    assert "all 4 records are gone" in capsys.readouterr().err


def test_a_shard_that_nothing_is_left_of_is_gone_though_it_can_be_opened(
    source: MemorySource,
) -> None:
    source.fail("next", RecordsTrimmed("quirk"), RecordsTrimmed("quirk"))
    assert read(source, message("2", "5", 4)).gone == 4


def test_of_a_shard_that_is_no_longer_kept_all_is_gone(source: MemorySource) -> None:
    source.remove(SHARD)
    assert read(source, message("2", "5", 4)).gone == 4


def test_a_shard_that_is_listed_as_open_is_not_gone_whatever_is_said(source: MemorySource) -> None:
    source.fail("open", ShardGone("hiccup"))
    with pytest.raises(ShardGone):
        read(source, message("2", "5", 4))


def test_a_stream_that_is_not_there_is_not_taken_for_one_that_has_lost_its_records(
    source: MemorySource,
) -> None:
    source.remove(SHARD)
    source.fail("shards", StreamRefused("no such stream"))
    with pytest.raises(StreamRefused):
        read(source, message("2", "5", 4))


def test_what_keeps_failing_is_an_error_and_no_loss(source: MemorySource) -> None:
    source.fail("next", *(SourceError("throttled") for _ in range(50)))
    with pytest.raises(SourceError, match="throttled"):
        read(source, message("2", "5", 4))


def test_an_object_in_s3_is_not_read_from_the_stream(source: MemorySource) -> None:
    payload = {"Records": [raw(2), raw(3)]}
    found = read(source, {**message("2", "3", 2), "payload": payload})
    assert (numbers(found), found.gone, source.calls) == ([2, 3], 0, [])


# The command


def test_given_up_records_run_through_the_app_and_its_filters(
    project: Project, table: Table
) -> None:
    stream = Stream(table, "before", "a", "filtered", "b", "after")
    path = project.write_event(stream.message("a", "b", 2))
    result = project.run("recover", path, "--app", "shop:app", "--endpoint-url", table.url)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    *_, first, second, last = result.stderr.splitlines()
    assert [first, second, last] == [
        "noted a",
        "noted b",
        "3 records read: 2 done, 1 that no route takes",
    ]


def recover(project: Project, table: Table, *arguments: str, stdin: str | None = None) -> Any:
    return project.run("recover", *arguments, "--endpoint-url", table.url, stdin=stdin)


def test_what_fails_is_shown_and_exits_with_1(project: Project, table: Table) -> None:
    stream = Stream(table, "a", "bad", "b")
    path = project.write_event(stream.message("a", "b", 3))
    result = recover(project, table, path, "--app", "shop:app")
    assert result.exit_code == 1
    head, row = result.stdout.splitlines()
    assert head.split() == ["event", "sequence", "number", "route", "outcome", "ms"]
    assert row.split()[:5] == ["INSERT", stream.numbers[1], "refuse", "failed:", "ValueError"]
    assert "3 records read: 2 done, 1 failed" in result.stderr.splitlines()


def test_what_fails_goes_into_the_apps_dead_letter_and_lambdas_deliveries_count(
    project: Project,
) -> None:
    project.write(
        "parking.py",
        """
        from dynaflow import App, NonRetryable, Router
        from dynaflow.dead_letters import JsonLines
        router = Router()
        @router.on_insert(name="often", after_deliveries=5)
        def often(new):
            print("called", new["id"])
            raise NonRetryable("no") if new["id"] == "hopeless" else ValueError("no")
        app = App(router, dead_letter=JsonLines("letters.jsonl"))
        """,
    )
    builder = RecordBuilder(table="orders")
    written = []
    for name, count in (("a", 3), ("b", 4), ("c", 100), ("hopeless", 1)):
        record = builder.insert({"id": name})
        number = record["dynamodb"]["SequenceNumber"]
        given_up = message(number, number, 1, arn=builder.stream_arn, count=count)
        written.append({**given_up, "payload": {"Records": [record]}})
    result = project.run("recover", project.write_event(written), "--app", "parking:app")
    assert result.exit_code == 1
    called = [line for line in result.stderr.splitlines() if line.startswith("called")]
    assert sorted(called) == ["called a", "called b", "called c", "called hopeless"]
    assert result.stderr.splitlines()[-1] == "4 records read: 1 failed, 3 parked"
    assert [row.split()[3] for row in result.stdout.splitlines()[1:]] == [
        "failed:",
        "parked:",
        "parked:",
        "parked:",
    ]
    letters = [
        DeadLetterRecord.from_json(line)
        for line in (project.directory / "letters.jsonl").read_text().splitlines()
    ]
    assert {(letter.route, letter.reason, letter.deliveries) for letter in letters} == {
        ("often", "deliveries", 5),
        ("often", "non_retryable", 2),
    }


def test_records_without_an_image_that_the_app_asks_for_are_not_run(project: Project) -> None:
    builder = RecordBuilder(table="orders", view_type="OLD_IMAGE")
    record = builder.insert({"id": "a"})
    number = record["dynamodb"]["SequenceNumber"]
    given_up = message(number, number, 1, arn=builder.stream_arn)
    path = project.write_event({**given_up, "payload": {"Records": [record]}})
    result = project.run("recover", path, "--app", "shop:app")
    assert result.exit_code == 2
    assert "note: parameter 'new' reads the new image on INSERT" in result.stderr.splitlines()[-1]
    assert "noted" not in result.stderr
    assert project.run("recover", path).exit_code == 0  # to list them, nothing is asked for


def test_without_app_or_park_records_are_only_listed_and_without_data(
    project: Project, table: Table
) -> None:
    stream = Stream(table, "secret-1", "secret-2")
    path = project.write_event(stream.message("secret-1", "secret-2", 2))
    result = recover(project, table, path)
    assert result.exit_code == 0
    head, *rows = result.stdout.splitlines()
    assert head.split() == ["event", "table", "sequence", "number", "written"]
    assert [row.split()[:3] for row in rows] == [
        ["INSERT", table.name, number] for number in stream.numbers
    ]
    assert result.stderr == "2 records read\n"
    assert "secret" not in result.output


def test_parked_records_are_letters_without_a_route_with_lambdas_reasons(
    project: Project, table: Table
) -> None:
    stream = Stream(table, "a", "b", "c")
    old = stream.message("c", "c", 1, condition="RecordAgeExceeded", count=1)
    path = project.write_event([old, stream.message("a", "b", 2, count=7)])
    result = recover(project, table, path, "--park", "letters.jsonl")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "3 records read: 3 parked\n"
    text = (project.directory / "letters.jsonl").read_text(encoding="utf-8")
    letters = [DeadLetterRecord.from_json(line) for line in text.splitlines()]
    assert [letter.sequence_number for letter in letters] == stream.numbers
    assert {letter.route for letter in letters} == {None}
    assert [letter.reason for letter in letters] == ["deliveries", "deliveries", "over_age"]
    assert [letter.deliveries for letter in letters] == [7, 7, 1]
    assert [letter.attempts for letter in letters] == [0, 0, 0]
    assert letters[0].error_type == "RetryAttemptsExhausted"
    assert letters[2].error_type == "RecordAgeExceeded"
    record = letters[0].record()
    assert isinstance(record, Record)
    assert record.new == {"id": "a"}
    assert record.source_arn == stream.arn


def test_an_object_of_s3_runs_without_any_stream_and_messages_come_by_stdin(
    project: Project,
) -> None:
    builder = RecordBuilder(table="orders")
    raws = [builder.insert({"id": name}) for name in "ab"]
    first, last = (str(record["dynamodb"]["SequenceNumber"]) for record in raws)
    written = {**message(first, last, 2), "payload": {"Records": raws}}
    result = project.run("recover", "-", "--app", "shop:app", stdin=json.dumps(written))
    assert result.exit_code == 0
    assert result.stderr.splitlines() == ["noted a", "noted b", "2 records read: 2 done"]


def test_a_record_that_cannot_be_read_is_parked_as_such(project: Project) -> None:
    raw = RecordBuilder(table="orders").insert({"id": "a"})
    del raw["dynamodb"]["Keys"]
    number = raw["dynamodb"]["SequenceNumber"]
    written = {**message(number, number, 1), "payload": {"Records": [raw]}}
    path = project.write_event(written)
    result = project.run("recover", path, "--park", "letters.jsonl")
    assert result.exit_code == 0
    text = (project.directory / "letters.jsonl").read_text(encoding="utf-8")
    letter = DeadLetterRecord.from_json(text)
    assert letter.reason == "undecodable"
    assert letter.error == "dynamodb.Keys is missing or empty"

    listed = project.run("recover", path)
    assert listed.stdout.splitlines()[1].split() == ["unreadable", "orders", number]
    run = project.run("recover", path, "--app", "shop:app")
    assert run.exit_code == 1
    assert "unreadable" in run.stdout


def test_as_json_all_records_are_told_and_what_is_gone(project: Project, table: Table) -> None:
    stream = Stream(table, "a", "bad")
    path = project.write_event(stream.message("a", "bad", 4))
    result = recover(project, table, path, "--app", "shop:app", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["gone"] == 2
    assert [entry["status"] for entry in report["records"]] == ["done", "failed"]
    assert report["records"][1]["calls"][0]["error"] == "ValueError"
    assert "2 records read: 1 done, 1 failed; 2 are gone" in result.stderr


def test_records_that_are_gone_exit_with_1_though_the_others_are_done(
    project: Project, table: Table
) -> None:
    stream = Stream(table, "a", "b")
    path = project.write_event(stream.message("a", "b", 5))
    result = recover(project, table, path, "--app", "shop:app")
    assert result.exit_code == 1
    assert "at least 3 of 5 records are gone" in result.stderr


def test_what_is_no_message_is_left_out_and_said_and_the_others_are_taken(
    project: Project, table: Table
) -> None:
    stream = Stream(table, "a")
    bodies = ["hello", json.dumps(stream.message("a", "a", 1))]
    path = project.write_event({"Messages": [{"Body": body} for body in bodies]})
    result = recover(project, table, path, "--app", "shop:app")
    assert result.exit_code == 1
    assert "left out: Messages[0].Body: it is text that is not JSON" in result.stderr
    assert "1 records read: 1 done" in result.stderr


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("", "it is empty"),
        ("[]", "it is empty"),
        ("{}", "it has no DDBStreamBatchInfo"),
        ("None", "message.json is not JSON"),
        ('{"Records": [{"dynamodb": {}}]}', "dynaflow invoke"),
    ],
)
def test_a_file_without_a_message_is_a_usage_error(project: Project, text: str, fact: str) -> None:
    project.write("message.json", text)
    result = project.run("recover", "message.json", "--app", "shop:app")
    assert result.exit_code == 2
    assert fact in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        (("--app", "shop:app", "--park", "letters.jsonl"), "leave one of them out"),
        (("--park", "somewhere"), "'somewhere' names no place of dead letters"),
        (("--park", "arn:aws:sns:us-east-1:1:topic"), "is a topic"),
        (("--app", "shop:nothing"), "has no attribute 'nothing'"),
    ],
)
def test_an_option_that_cannot_work_is_said_before_anything_is_read(
    project: Project, options: tuple[str, ...], fact: str
) -> None:
    result = project.run("recover", project.write_event(NOTE), *options)
    assert result.exit_code in (2, 3)
    assert fact in result.stderr


def test_a_stream_that_refuses_exits_with_4_and_nothing_is_run(
    project: Project, table: Table
) -> None:
    stream = Stream(table, "a")
    elsewhere = {**stream.message("a", "a", 1)}
    info = {**elsewhere["DDBStreamBatchInfo"], "streamArn": ARN, "shardId": stream.shard}
    path = project.write_event(
        [stream.message("a", "a", 1), {**elsewhere, "DDBStreamBatchInfo": info}]
    )
    result = recover(project, table, path, "--app", "shop:app")
    assert result.exit_code == 4
    assert "noted" not in result.stderr
    assert "Traceback" not in result.stderr


def test_an_app_for_another_table_takes_none_of_the_records(project: Project) -> None:
    project.write(
        "other.py",
        """
        from dynaflow import Router
        router = Router(table="customers")
        @router.on_any()
        def handle(new: dict | None): ...
        """,
    )
    raw = RecordBuilder(table="orders").insert({"id": "a"})
    number = raw["dynamodb"]["SequenceNumber"]
    path = project.write_event({**message(number, number, 1), "payload": {"Records": [raw]}})
    result = project.run("recover", path, "--app", "other:router")
    assert result.stderr == "1 records read: 1 that no route takes\n"
