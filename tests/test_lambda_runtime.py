"""The Lambda handler in AWS's own runtime client: answers, the ways to report, foreign events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dynaflow.testing import RecordBuilder
from tests.support.lambda_function import LambdaFunction, answered, failed, numbers, orders

pytest.importorskip("awslambdaric", reason="AWS publishes its runtime client for Linux only")

FLAG = "DYNAFLOW_REPORT_BATCH_ITEM_FAILURES"
MARKER = "marker-that-no-log-may-show"


def test_one_process_answers_every_kind_of_batch(tmp_path: Path) -> None:
    good = orders(("a", "ok"), ("b", "yield"), ("c", "ok"))
    partly = orders(("a", "ok"), ("b", "raise"), ("c", "raise"), ("d", "ok"))
    bad = orders(("a", "raise"), ("b", "raise"))
    with LambdaFunction("orders", tmp_path, REPORT="yes") as function:
        of_pipes = partly["Records"]
        events: list[Any] = [good, partly, bad, orders(), of_pipes, [], good]
        answers = [function.invoke(event) for event in events]

    assert [answered(answer) for answer in answers] == [
        failed(),
        failed(numbers(partly)[1]),
        failed(numbers(bad)[0]),
        failed(),
        failed(numbers(partly)[1]),
        failed(),
        failed(),
    ]
    assert len({answer.pid for answer in answers}) == 1


@pytest.mark.parametrize("sync", [False, True])
def test_the_lowest_number_is_reported_as_a_number_not_as_text(tmp_path: Path, sync: bool) -> None:
    event = orders(("a", "raise"), ("b", "raise"), ("c", "raise"), ("d", "raise"), sync=sync)
    second = {"Records": event["Records"][1:]}
    shuffled = {"Records": [event["Records"][at] for at in (3, 1, 2)]}
    with LambdaFunction("orders", tmp_path, REPORT="yes") as function:
        answers = [answered(function.invoke(each)) for each in (second, shuffled)]

    lowest = numbers(event)[1]
    assert lowest > min(numbers(event)), "as text, the lowest number is another one"
    assert answers == [failed(lowest), failed(lowest)]


def test_a_sequence_number_is_reported_as_the_text_it_came_as(tmp_path: Path) -> None:
    event = orders(("a", "ok"), ("b", "raise"))
    event["Records"][0]["dynamodb"]["SequenceNumber"] = "000000000000000000007"
    event["Records"][1]["dynamodb"]["SequenceNumber"] = "000000000000000000010"
    with LambdaFunction("orders", tmp_path, REPORT="yes") as function:
        assert answered(function.invoke(event)) == failed("000000000000000000010")


@pytest.mark.parametrize("sync", [False, True])
def test_records_of_an_item_are_handled_in_order(tmp_path: Path, sync: bool) -> None:
    names = ["a", "b", "c"] * 20
    with LambdaFunction("orders", tmp_path, REPORT="yes") as function:
        event = orders(*[(name, "yield") for name in names], sync=sync)
        assert answered(function.invoke(event)) == failed()

        for name in "abc":
            of_one = [line for line in function.effects() if line.endswith(f" {name}")]
            assert of_one == [f"start {name}", f"done {name}"] * 20


def test_after_a_failure_the_same_item_waits_and_others_go_on(tmp_path: Path) -> None:
    event = orders(("a", "raise"), ("b", "ok"), ("a", "ok"), ("c", "ok"))
    with LambdaFunction("orders", tmp_path, REPORT="yes") as function:
        assert answered(function.invoke(event)) == failed(numbers(event)[0])
        assert sorted(function.effects()) == ["done b", "done c", "start a", "start b", "start c"]


def test_work_longer_than_the_deadline_advances_with_every_delivery(tmp_path: Path) -> None:
    event = orders(*[(name, "pause") for name in ["a", "b"] * 75])
    names = numbers(event)
    lowest = 0
    for _ in range(10):  # a fresh process each time, so nothing is remembered
        delivered = {"Records": event["Records"][lowest:]}
        with LambdaFunction("orders", tmp_path, REPORT="yes") as function:
            failures = answered(function.invoke(delivered, timeout=1.0))["batchItemFailures"]
        if not failures:
            break
        mark = names.index(failures[0]["itemIdentifier"])
        assert mark > lowest
        lowest = mark

    assert lowest > 0
    assert not failures
    assert function.effects().count("done a") >= 75


def test_handlers_see_the_invocation_and_its_deadline(tmp_path: Path) -> None:
    with LambdaFunction("orders", tmp_path, REPORT="yes") as function:
        answered(function.invoke(orders(("a", "say context")), timeout=8.0))
        _, line, _ = function.effects()

    request_id, table, left = line.split()
    assert (request_id, table) == ("request-1", "orders")
    assert 4.0 < float(left) <= 8.0


@pytest.mark.parametrize("env", [{}, {"REPORT": "no"}, {FLAG: "0"}])
def test_unless_told_that_lambda_listens_a_failure_is_raised(
    tmp_path: Path, env: dict[str, str]
) -> None:
    with LambdaFunction("orders", tmp_path, **env) as function:
        good = function.invoke(orders(("a", "ok")))
        first, second = (function.invoke(orders(("a", "ok"), ("b", "raise"))) for _ in range(2))

    assert answered(good) == failed()
    assert first.error_type == second.error_type == "RecordsFailed"
    assert first.pid == second.pid
    assert "ReportBatchItemFailures" in first.payload["errorMessage"]
    assert "report_batch_item_failures=True" in first.payload["errorMessage"]

    # The runtime's own line about the error has no tabulator; a logger's line has.
    logged = [line for line in function.stdout.splitlines() if "]\t" in line]
    assert len([line for line in logged if "ReportBatchItemFailures" in line]) == 1


def test_the_environment_can_say_that_lambda_listens(tmp_path: Path) -> None:
    event = orders(("a", "ok"), ("b", "raise"))
    with LambdaFunction("orders", tmp_path, **{FLAG: "1"}) as function:
        assert answered(function.invoke(event)) == failed(numbers(event)[1])


def test_what_is_no_stream_event_is_an_error_before_any_handler(tmp_path: Path) -> None:
    streams = orders(("a", "ok"), ("b", "ok"))
    unnumbered = orders(("a", "ok"), ("b", "ok"))
    del unnumbered["Records"][1]["dynamodb"]["SequenceNumber"]
    events: list[Any] = [
        {"Records": [{"eventSource": "aws:sqs", "messageId": "1", "body": "{}"}]},
        {"Records": [{"eventSource": "aws:kinesis", "kinesis": {"partitionKey": "1"}}]},
        {"Records": [{"eventSource": "aws:s3", "s3": {"object": {"key": "k"}}}]},
        {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "{}"}}]},
        {"detail-type": "Scheduled Event", "source": "aws.events"},
        [streams],
        ["text"],
        "text",
        7,
        None,
        {"Records": None},
        {"Records": {"0": streams["Records"][0]}},
        {"Records": [streams["Records"][0], {"eventSource": "aws:sqs"}]},
        {"Records": [None]},
        unnumbered,
    ]
    with LambdaFunction("orders", tmp_path, REPORT="yes") as function:
        answers = [function.invoke(event) for event in events]
        assert function.effects() == []
        afterwards = function.invoke(streams)

    assert [answer.error_type for answer in answers] == ["EventError"] * len(events)
    assert answered(afterwards) == failed()
    assert {answer.pid for answer in answers} == {afterwards.pid}


def test_a_record_that_cannot_be_read_fails_alone_if_its_keys_can(tmp_path: Path) -> None:
    nameless = orders(("a", "ok"), ("b", "ok"), ("b", "ok"), ("c", "ok"))
    nameless["Records"][1]["eventName"] = "UPSERT"
    malformed = orders(("a", "ok"), ("b", "ok"), ("b", "ok"), ("c", "ok"))
    malformed["Records"][1]["dynamodb"]["NewImage"]["n"] = {"N": MARKER}
    with LambdaFunction("orders", tmp_path, REPORT="yes") as function:
        for event in (nameless, malformed):
            assert answered(function.invoke(event)) == failed(numbers(event)[1])

    # That c is done is remembered, so it runs once; a is below what comes again.
    assert sorted(function.effects()) == sorted(["start a", "done a"] * 2 + ["start c", "done c"])
    assert MARKER not in function.stdout + function.stderr


def test_above_a_record_without_readable_keys_nothing_starts(tmp_path: Path) -> None:
    event = orders(("a", "ok"), ("b", "ok"), ("c", "ok"))
    del event["Records"][1]["dynamodb"]["Keys"]
    with LambdaFunction("orders", tmp_path, REPORT="yes") as function:
        assert answered(function.invoke(event)) == failed(numbers(event)[1])
        assert function.effects() == ["start a", "done a"]


def test_what_items_hold_is_in_no_log(tmp_path: Path) -> None:
    builder = RecordBuilder(keys=("id", MARKER), table="orders")
    item = {"id": f"1-{MARKER}", MARKER: MARKER, "do": "raise", "more": {MARKER: [MARKER]}}
    event = builder.event(builder.insert(item), builder.modify(item, item))
    with LambdaFunction("orders", tmp_path, AWS_LAMBDA_LOG_LEVEL="DEBUG") as function:
        assert function.invoke(event).error_type == "RecordsFailed"

    assert "ValueError" in function.stdout
    assert MARKER not in function.stdout + function.stderr
