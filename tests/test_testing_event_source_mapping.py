"""The model of Lambda's event source mapping, against what was recorded and documented of AWS."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import pytest

from dynaflow.testing import (
    EventSourceMapping,
    Invocation,
    MappingReport,
    RecordBuilder,
    SandboxDied,
    Throttled,
)

KEY = (
    "aws/lambda/{uuid}/shardId-00000001573689847184-864758bb/2026/01/01/2026-01-01T00.00.05-{uuid}"
)
UUID = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"


def records(count: int, *, item: Callable[[int], str] = str) -> list[dict[str, Any]]:
    build = RecordBuilder(("id",))
    return [build.insert({"id": item(n), "n": n}) for n in range(count)]


def numbers(raws: Sequence[Mapping[str, Any]]) -> list[str]:
    return [raw["dynamodb"]["SequenceNumber"] for raw in raws]


def which(event: Any) -> list[int]:
    return [int(raw["dynamodb"]["NewImage"]["n"]["N"]) for raw in event["Records"]]


def failing(*poison: int) -> Callable[[Any, Any], Any]:
    """Return a handler that reports these records whenever it has them."""

    def handler(event: Any, context: Any) -> Any:
        at = [place for place, n in enumerate(which(event)) if n in poison]
        return {
            "batchItemFailures": [
                {"itemIdentifier": numbers(event["Records"])[place]} for place in reversed(at)
            ]
        }

    return handler


def raising(*poison: int) -> Callable[[Any, Any], Any]:
    """Return a handler that raises whenever it has one of these records."""

    def handler(event: Any, context: Any) -> Any:
        if set(poison) & set(which(event)):
            raise ValueError("no")

    return handler


def batches(report: MappingReport, raws: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    at = {number: place for place, number in enumerate(numbers(raws))}
    return [[at[number] for number in each.numbers] for each in report.invocations]


def given_up(report: MappingReport, raws: Sequence[Mapping[str, Any]]) -> list[list[int]]:
    at = {number: place for place, number in enumerate(numbers(raws))}
    return [[at[number] for number in each.numbers] for each in report.given_up]


# 2.4: what is answered, and from which of three records on the batch comes again.
SECOND, THIRD = numbers(records(3))[1:]
ANSWERS: list[tuple[Any, int | None]] = [
    ({"batchItemFailures": []}, None),
    ({"batchItemFailures": None}, None),
    ({}, None),
    (None, None),
    ([], None),
    ("", None),
    ({"statusCode": 200}, None),
    ({"batchItemFailure": [{"itemIdentifier": SECOND}]}, None),
    ({"batchItemFailures": [{"itemIdentifier": ""}]}, 0),
    ({"batchItemFailures": [{"itemIdentifier": None}]}, 0),
    ({"batchItemFailures": [{"foo": 123}]}, 0),
    ({"batchItemFailures": [{"foo": None}]}, 0),
    ({"batchItemFailures": [{"itemIdentifier": 123}]}, 0),
    ({"batchItemFailures": [{"itemIdentifier": int(SECOND)}]}, 0),
    ({"batchItemFailures": [{"itemIdentifier": f"0{SECOND}"}]}, 0),
    ({"batchItemFailures": [{"itemIdentifier": "12345"}]}, 0),
    ({"batchItemFailures": [{"itemIdentifier": SECOND}, {"itemIdentifier": "12345"}]}, 0),
    ({"batchItemFailures": [SECOND]}, 0),
    ({"batchItemFailures": [None]}, 0),
    ({"batchItemFailures": {"itemIdentifier": SECOND}}, 0),
    ({"batchItemFailures": SECOND}, 0),
    ("done", 0),
    (b"no JSON", 0),
    (["done"], 0),
    (1, 0),
    ({"batchItemFailures": [{"itemIdentifier": SECOND}]}, 1),
    ({"batchItemFailures": [{"itemIdentifier": THIRD}]}, 2),
    # As text, the third number comes before the second.
    ({"batchItemFailures": [{"itemIdentifier": THIRD}, {"itemIdentifier": SECOND}]}, 1),
    ({"batchItemFailures": [{"itemIdentifier": SECOND, "why": "x"}], "more": Decimal("1.5")}, 1),
    (json.dumps({"batchItemFailures": [{"itemIdentifier": THIRD}]}).encode(), 2),
]


@pytest.mark.parametrize(("answer", "first"), ANSWERS, ids=repr)
def test_an_answer_means_what_lambda_takes_it_for(answer: Any, first: int | None) -> None:
    assert THIRD < SECOND
    raws = records(3)
    answers = iter([answer])
    mapping = EventSourceMapping(
        lambda event, context: next(answers, None), report_batch_item_failures=True
    )
    report = mapping.run(raws)

    everything = [0, 1, 2]
    again = [] if first is None else [everything[first:]]
    outcomes = {None: "done", 0: "failed"}
    assert batches(report, raws) == [everything, *again]
    assert report.invocations[0].outcome == outcomes.get(first, "partly done")
    assert report.done == tuple(numbers(raws))


@pytest.mark.parametrize(("answer", "first"), ANSWERS, ids=repr)
def test_without_the_flag_no_answer_matters(answer: Any, first: int | None) -> None:
    raws = records(3)
    report = EventSourceMapping(lambda event, context: answer).run(raws)
    assert batches(report, raws) == [[0, 1, 2]]
    assert report.done == tuple(numbers(raws))


async def _awaited() -> None: ...


@pytest.mark.parametrize("answer", [{1, 2}, object(), {"when": object()}, "x" * 7_000_000])
@pytest.mark.parametrize("reports", [True, False])
def test_an_answer_that_the_runtime_cannot_write_is_a_function_error(
    answer: Any, reports: bool
) -> None:
    mapping = EventSourceMapping(
        lambda event, context: answer,
        report_batch_item_failures=reports,
        maximum_retry_attempts=0,
    )
    report = mapping.run(records(2))
    assert [each.outcome for each in report.invocations] == ["function error"]


def test_a_coroutine_is_not_awaited_but_a_function_error() -> None:
    mapping = EventSourceMapping(lambda event, context: _awaited(), maximum_retry_attempts=0)
    (invocation,) = mapping.run(records(1)).invocations
    assert isinstance(invocation.error, TypeError)


@pytest.mark.parametrize("attempts", [0, 1, 3])
def test_retries_come_on_top_of_the_first_try(attempts: int) -> None:
    raws = records(2)
    mapping = EventSourceMapping(raising(1), maximum_retry_attempts=attempts)
    report = mapping.run(raws)

    assert batches(report, raws) == [[0, 1]] * (attempts + 1)
    assert given_up(report, raws) == [[0, 1]]
    (lost,) = report.given_up
    assert lost.message is not None
    assert lost.message["requestContext"]["approximateInvokeCount"] == attempts + 1
    assert lost.message["requestContext"]["requestId"] == report.invocations[-1].request_id
    assert set(report.deliveries.values()) == {attempts + 1}
    assert report.done == ()


def test_partial_progress_gives_the_rest_all_its_tries_as_recorded() -> None:
    raws = records(3)
    sent: list[dict[str, Any]] = []
    mapping = EventSourceMapping(
        failing(2),
        batch_size=3,
        maximum_retry_attempts=3,
        report_batch_item_failures=True,
        on_failure=sent,
    )
    report = mapping.run(raws)

    assert batches(report, raws) == [[0, 1, 2], [2], [2], [2], [2]]
    assert list(report.deliveries.values()) == [1, 1, 5]
    assert sent[0]["requestContext"]["approximateInvokeCount"] == 4
    assert sent[0]["DDBStreamBatchInfo"]["batchSize"] == 1
    assert sent[0]["responseContext"]["functionError"] is None


def test_a_list_that_names_the_first_record_counts_and_takes_the_good_along() -> None:
    raws = records(3)
    mapping = EventSourceMapping(
        failing(0),
        maximum_retry_attempts=1,
        report_batch_item_failures=True,
        bisect_batch_on_function_error=True,
    )
    report = mapping.run(raws)
    assert batches(report, raws) == [[0, 1, 2], [0, 1, 2]]
    assert given_up(report, raws) == [[0, 1, 2]]


@pytest.mark.parametrize("reports", [True, False])
def test_halving_costs_no_tries_and_finds_the_poison(reports: bool) -> None:
    raws = records(5)
    mapping = EventSourceMapping(
        raising(3),
        maximum_retry_attempts=1,
        bisect_batch_on_function_error=True,
        report_batch_item_failures=reports,
    )
    report = mapping.run(raws)
    assert batches(report, raws) == [
        [0, 1, 2, 3, 4],
        [0, 1],
        [2, 3, 4],
        [2],
        [3, 4],
        [3],
        [3],
        [4],
    ]
    assert given_up(report, raws) == [[3]]
    assert report.done == tuple(numbers([raws[0], raws[1], raws[2], raws[4]]))
    assert report.checkpoints == {report.invocations[0].shard_id: numbers(raws)[-1]}


def test_throttles_and_a_service_that_fails_cost_no_tries() -> None:
    raws = records(2)
    calls: list[int] = []

    def handler(event: Any, context: Any) -> None:
        calls.append(1)
        if len(calls) <= 5:
            raise Throttled

    mapping = EventSourceMapping(handler, maximum_retry_attempts=0)
    report = mapping.run(raws)
    assert [each.outcome for each in report.invocations] == ["throttled"] * 5 + ["done"]
    assert set(report.deliveries.values()) == {1}
    assert report.given_up == ()


def test_throttles_last_until_the_records_are_too_old() -> None:
    def handler(event: Any, context: Any) -> None:
        raise Throttled

    report = EventSourceMapping(handler, maximum_record_age=60).run(records(1))
    assert [lost.condition for lost in report.given_up] == ["RecordAgeExceeded"]
    assert set(report.deliveries.values()) == {0}


# 2.5: the messages.


def test_the_message_after_a_function_error_is_the_recorded_one() -> None:
    raws = records(5)
    sent: list[dict[str, Any]] = []
    mapping = EventSourceMapping(raising(0), maximum_retry_attempts=0, on_failure=sent)
    report = mapping.run(raws)

    assert sent == [
        {
            "requestContext": {
                "requestId": report.invocations[0].request_id,
                "functionArn": "arn:aws:lambda:us-east-1:123456789012:function:function",
                "condition": "RetryAttemptsExhausted",
                "approximateInvokeCount": 1,
            },
            "responseContext": {
                "statusCode": 200,
                "executedVersion": "$LATEST",
                "functionError": "Unhandled",
            },
            "version": "1.0",
            "timestamp": "2026-01-01T00:00:05.000Z",
            "DDBStreamBatchInfo": {
                "shardId": "shardId-00000001573689847184-864758bb",
                "startSequenceNumber": numbers(raws)[0],
                "endSequenceNumber": numbers(raws)[4],
                "approximateArrivalOfFirstRecord": "2026-01-01T00:00:01Z",
                "approximateArrivalOfLastRecord": "2026-01-01T00:00:05Z",
                "batchSize": 5,
                "streamArn": RecordBuilder().stream_arn,
            },
        }
    ]
    (lost,) = report.given_up
    assert lost.delivered
    assert lost.message == sent[0]
    assert list(sent[0]) == [
        "requestContext",
        "responseContext",
        "version",
        "timestamp",
        "DDBStreamBatchInfo",
    ]


def test_s3_gets_the_records_too_under_a_key_with_dots_in_the_time() -> None:
    raws = records(5)
    report = EventSourceMapping(raising(0), maximum_retry_attempts=0).run(raws)
    (lost,) = report.given_up
    assert lost.message is not None
    assert lost.s3_object == {**lost.message, "payload": {"Records": raws}}
    assert lost.s3_key is not None
    assert re.fullmatch(KEY.replace("{uuid}", UUID), lost.s3_key)


def test_of_records_that_are_too_old_there_is_no_response_and_one_count_as_recorded() -> None:
    sent: list[dict[str, Any]] = []
    raws = records(1)
    report = EventSourceMapping(raising(0), maximum_record_age=60, on_failure=sent).run(raws)

    assert 6 <= len(report.invocations) <= 9  # "about eight" were measured
    (body,) = sent
    assert list(body) == ["requestContext", "version", "timestamp", "DDBStreamBatchInfo"]
    assert body["requestContext"]["condition"] == "RecordAgeExceeded"
    assert body["requestContext"]["approximateInvokeCount"] == 1
    assert body["timestamp"].endswith(".500Z")


def test_only_the_records_that_are_too_old_are_dropped_from_a_batch() -> None:
    raws = records(5)  # the second is just as old as it may be
    for raw, created in zip(raws, (0, 40, 0, 90, 100), strict=True):
        raw["dynamodb"]["ApproximateCreationDateTime"] = created
    sent: list[dict[str, Any]] = []
    mapping = EventSourceMapping(
        raising(), maximum_record_age=60, maximum_retry_attempts=0, on_failure=sent
    )
    report = mapping.run(raws)

    assert batches(report, raws) == [[1, 3, 4]]
    assert given_up(report, raws) == [[0], [2]]
    assert [body["DDBStreamBatchInfo"]["batchSize"] for body in sent] == [1, 1]


def test_by_default_poison_blocks_its_shard_until_the_stream_loses_it() -> None:
    raws = records(2)
    sent: list[dict[str, Any]] = []
    report = EventSourceMapping(raising(0), batch_size=1, on_failure=sent).run(raws)

    assert [lost.condition for lost in report.given_up] == ["Trimmed", "Trimmed"]
    assert given_up(report, raws) == [[0], [1]]
    assert report.invocations[-1].at - report.invocations[0].at > 86_000
    assert sent == []
    (lost, _) = report.given_up
    assert (lost.message, lost.s3_key, lost.s3_object, lost.delivered) == (None, None, None, False)


def test_a_destination_that_fails_loses_the_message_and_nothing_waits() -> None:
    def refuse(body: dict[str, Any]) -> None:
        raise ConnectionError("no")

    raws = records(2)
    mapping = EventSourceMapping(
        raising(0), batch_size=1, maximum_retry_attempts=0, on_failure=refuse
    )
    report = mapping.run(raws)
    assert [lost.delivered for lost in report.given_up] == [False]
    assert report.done == tuple(numbers(raws)[1:])


# 2.2: batches and lanes.


def test_batches_are_cut_by_their_size_and_never_mix_shards() -> None:
    raws = records(7)
    report = EventSourceMapping(raising(), batch_size=2).run({"a": raws[:3], "b": raws[3:]})
    assert [(each.shard_id, len(each.numbers)) for each in report.invocations] == [
        ("a", 2),
        ("a", 1),
        ("b", 2),
        ("b", 2),
    ]
    assert report.checkpoints == {"a": numbers(raws)[2], "b": numbers(raws)[-1]}


def test_a_batch_stays_below_six_megabytes_of_json() -> None:
    build = RecordBuilder()
    raws = [build.insert({"id": str(n), "text": "x" * 390_000}) for n in range(17)]
    report = EventSourceMapping(raising_nothing).run(raws)
    assert [len(each.numbers) for each in report.invocations] == [16, 1]


def raising_nothing(event: Any, context: Any) -> None:
    assert len(json.dumps(event).encode()) <= 6 * 1024 * 1024


def test_without_a_window_a_batch_is_what_was_there() -> None:
    raws = records(4)
    started = raws[0]["dynamodb"]["ApproximateCreationDateTime"]
    report = EventSourceMapping(raising(), start=started + 1).run(raws)
    assert batches(report, raws) == [[0, 1], [2], [3]]


def test_a_window_opens_when_the_last_invocation_has_ended() -> None:
    raws = records(8)
    started = raws[0]["dynamodb"]["ApproximateCreationDateTime"]

    def handler(event: Any, context: Any) -> None:
        mapping.clock.advance(1)

    mapping = EventSourceMapping(
        handler, start=started - 1, maximum_batching_window=2, batch_size=4
    )
    report = mapping.run(raws)
    assert batches(report, raws) == [[0, 1], [2, 3, 4], [5, 6, 7]]
    assert [each.at - started for each in report.invocations] == [1, 4, 7]


def test_a_window_in_which_nothing_comes_opens_again() -> None:
    raws = records(1)
    started = raws[0]["dynamodb"]["ApproximateCreationDateTime"]
    mapping = EventSourceMapping(raising(), start=started - 5, maximum_batching_window=2)
    assert [each.at - started for each in mapping.run(raws).invocations] == [1]


def test_a_full_batch_does_not_wait_for_its_window() -> None:
    raws = records(4)
    started = raws[0]["dynamodb"]["ApproximateCreationDateTime"]
    mapping = EventSourceMapping(
        raising(), start=started, maximum_batching_window=300, batch_size=2
    )
    report = mapping.run(raws)
    assert [each.at - started for each in report.invocations] == [1, 3]


def test_a_partition_key_stays_in_its_lane_and_others_go_on_beside_it() -> None:
    build = RecordBuilder(("pk", "sk"))
    raws = [build.insert({"pk": f"p{n % 5}", "sk": n, "n": n}) for n in range(20)]
    mapping = EventSourceMapping(
        raising(0), parallelization_factor=10, partition_key="pk", maximum_retry_attempts=1
    )
    report = mapping.run(raws)

    lanes = {number: each.lane for each in report.invocations for number in each.numbers}
    for n in range(5):
        assert len({lanes[number] for number in numbers(raws[n::5])}) == 1
    assert len(set(lanes.values())) > 1
    assert {each.at for each in report.invocations if each.outcome == "done"} == {
        report.invocations[0].at
    }, "lanes run side by side"
    assert report.checkpoints[report.invocations[0].shard_id] == numbers(raws)[-1]


def test_the_checkpoint_of_a_shard_stays_below_its_slowest_lane() -> None:
    raws = records(20)
    mapping = EventSourceMapping(raising(0), parallelization_factor=10)
    report = mapping.run(raws, max_invocations=20)
    assert list(report.checkpoints.values()) == [None]
    assert numbers(raws)[0] in report.pending
    assert set(report.pending) | set(report.done) == set(numbers(raws))


def test_equal_keys_share_a_lane_however_they_are_written() -> None:
    build = RecordBuilder()
    raws = [build.insert({"id": 1, "n": n}) for n in range(2)]
    raws[1]["dynamodb"]["Keys"]["id"]["N"] = "1.0"
    report = EventSourceMapping(raising(), parallelization_factor=10).run(raws)
    assert batches(report, raws) == [[0, 1]]


def test_what_the_filter_keeps_out_advances_the_position() -> None:
    raws = records(4)
    mapping = EventSourceMapping(
        raising(2),
        batch_size=2,
        maximum_retry_attempts=0,
        filter_criteria=lambda raw: raw["dynamodb"]["NewImage"]["n"]["N"] not in ("1", "3"),
    )
    report = mapping.run(raws)
    assert batches(report, raws) == [[0, 2]]
    assert report.filtered == tuple(numbers([raws[1], raws[3]]))
    assert list(report.checkpoints.values()) == [numbers(raws)[3]]


def test_if_all_is_filtered_nothing_is_invoked() -> None:
    report = EventSourceMapping(raising(0), filter_criteria=lambda raw: False).run(records(3))
    assert report.invocations == ()
    assert report.pending == ()


# Time, death and chance.


def test_a_function_that_takes_too_long_has_answered_nothing() -> None:
    left: list[int] = []

    def handler(event: Any, context: Any) -> Any:
        left.append(context.get_remaining_time_in_millis())
        mapping.clock.advance(4)
        left.append(context.get_remaining_time_in_millis())
        return {"batchItemFailures": []}

    mapping = EventSourceMapping(
        handler, timeout=3, maximum_retry_attempts=0, report_batch_item_failures=True
    )
    report = mapping.run(records(1))
    (invocation,) = report.invocations
    assert left == [3000, 0]
    assert invocation.outcome == "function error"
    assert isinstance(invocation.error, TimeoutError)
    assert mapping.clock.time() - invocation.at == 3


def test_in_real_time_the_time_left_goes_down_by_itself() -> None:
    left: list[int] = []

    def handler(event: Any, context: Any) -> None:
        while context.get_remaining_time_in_millis() == 900_000:
            pass
        left.append(context.get_remaining_time_in_millis())

    mapping = EventSourceMapping(handler, real_time=True)
    (invocation,) = mapping.run(records(1)).invocations
    assert 890_000 < left[0] < 900_000
    assert mapping.clock.time() > invocation.at


@pytest.mark.parametrize(
    "death",
    [SandboxDied, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError],
)
def test_what_is_no_exception_ends_the_sandbox(death: type[BaseException]) -> None:
    made: list[int] = []

    def start() -> Callable[[Any, Any], Any]:
        made.append(1)
        mine = len(made)

        def handler(event: Any, context: Any) -> None:
            if mine < 3:
                raise death

        return handler

    mapping = EventSourceMapping(start(), restart=start)
    report = mapping.run(records(2))
    assert len(made) == 3
    assert [type(each.error) for each in report.invocations] == [death, death, type(None)]
    assert [each.outcome for each in report.invocations][:2] == ["function error"] * 2
    assert set(report.deliveries.values()) == {3}


def test_an_exception_leaves_the_sandbox_alive() -> None:
    def restart() -> Callable[[Any, Any], Any]:
        raise AssertionError("nothing died")

    mapping = EventSourceMapping(raising(0), restart=restart, maximum_retry_attempts=1)
    assert len(mapping.run(records(1)).invocations) == 2


def test_with_duplicates_every_batch_may_come_once_more_and_does_not_count() -> None:
    raws = records(3)
    mapping = EventSourceMapping(
        failing(1),
        batch_size=3,
        duplicates=1,
        report_batch_item_failures=True,
        maximum_retry_attempts=0,
    )
    report = mapping.run(raws)
    assert batches(report, raws) == [[0, 1, 2], [0, 1, 2], [1, 2]]
    assert [each.again for each in report.invocations] == [True, False, False]
    assert report.done == tuple(numbers(raws)[:1])
    assert given_up(report, raws) == [[1, 2]]


def test_a_run_is_the_same_every_time_and_chance_depends_on_the_seed() -> None:
    def run(seed: int) -> tuple[Invocation, ...]:
        mapping = EventSourceMapping(
            failing(5),
            batch_size=3,
            duplicates=0.5,
            seed=seed,
            parallelization_factor=3,
            report_batch_item_failures=True,
            maximum_retry_attempts=2,
        )
        return mapping.run(records(20)).invocations

    assert run(1) == run(1)
    assert [each.again for each in run(1)] != [each.again for each in run(2)]


def test_the_function_gets_a_fresh_event_and_what_the_runtime_gives_it() -> None:
    raws = records(1)
    seen: list[Any] = []

    def handler(event: Any, context: Any) -> None:
        seen.append((json.dumps(event), context.aws_request_id))
        event["Records"].clear()
        context.log("nothing")
        if len(seen) == 1:
            raise ValueError("no")

    report = EventSourceMapping(handler).run({"Records": raws})
    assert [json.loads(event) for event, _ in seen] == [{"Records": raws}] * 2
    assert [each.request_id for each in report.invocations] == [each for _, each in seen]
    assert seen[0][1] != seen[1][1]


def test_binaries_arrive_as_text() -> None:
    (raw,) = records(1)
    raw["dynamodb"]["NewImage"]["b"] = {"B": b"foobar"}
    seen: list[Any] = []
    EventSourceMapping(lambda event, context: seen.append(event)).run([raw])
    assert seen[0]["Records"][0]["dynamodb"]["NewImage"]["b"] == {"B": "Zm9vYmFy"}


@pytest.mark.parametrize("created", [None, "1678831218.0", 1479499740, "soon"])
def test_a_creation_time_may_be_written_in_any_way_or_not_at_all(created: Any) -> None:
    raws = records(2)
    raws[0]["dynamodb"]["ApproximateCreationDateTime"] = created
    report = EventSourceMapping(raising()).run(raws[:1])
    assert report.done == tuple(numbers(raws[:1]))


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"batch_size": 0}, ValueError),
        ({"batch_size": 10_001}, ValueError),
        ({"batch_size": True}, TypeError),
        ({"batch_size": 1.5}, TypeError),
        ({"maximum_batching_window": 301}, ValueError),
        ({"maximum_batching_window": -1}, ValueError),
        ({"parallelization_factor": 0}, ValueError),
        ({"parallelization_factor": 11}, ValueError),
        ({"maximum_retry_attempts": -2}, ValueError),
        ({"maximum_retry_attempts": 10_001}, ValueError),
        ({"maximum_record_age": -2}, ValueError),
        ({"maximum_record_age": 0}, ValueError),
        ({"maximum_record_age": 59}, ValueError),
        ({"maximum_record_age": 604_801}, ValueError),
        ({"bisect_batch_on_function_error": 1}, TypeError),
        ({"report_batch_item_failures": ["ReportBatchItemFailures"]}, TypeError),
        ({"timeout": 901}, ValueError),
        ({"timeout": 0}, ValueError),
        ({"duplicates": 1.1}, ValueError),
        ({"on_failure": "arn:aws:sqs:us-east-1:123456789012:queue"}, TypeError),
    ],
    ids=repr,
)
def test_what_lambda_refuses_is_refused(options: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(options))):
        EventSourceMapping(raising(), **options)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 10_000, "maximum_batching_window": 300, "parallelization_factor": 10},
        {"maximum_retry_attempts": 10_000, "maximum_record_age": 604_800, "timeout": 900},
        {"maximum_retry_attempts": -1, "maximum_record_age": 60, "batch_size": 1},
    ],
)
def test_the_ends_of_the_ranges_are_taken(options: Any) -> None:
    assert EventSourceMapping(raising(), **options).run(records(1)).done


def test_the_defaults_are_those_of_aws() -> None:
    options = EventSourceMapping(raising()).options
    assert options.batch_size == 100
    assert options.maximum_batching_window == 0
    assert options.parallelization_factor == 1
    assert options.maximum_retry_attempts == -1
    assert options.maximum_record_age == -1
    assert not options.bisect_batch_on_function_error
    assert not options.report_batch_item_failures


def test_records_that_no_stream_has_are_refused() -> None:
    raws = records(3)
    mapping = EventSourceMapping(raising())
    with pytest.raises(ValueError, match="ascending order"):
        mapping.run([raws[2], raws[1]])
    with pytest.raises(ValueError, match="ascending order"):
        mapping.run([raws[0], raws[0]])
    with pytest.raises(ValueError, match="in two shards"):
        mapping.run({"a": raws, "b": raws[:1]})
    del raws[1]["dynamodb"]["SequenceNumber"]
    with pytest.raises(ValueError, match=r"no dynamodb\.SequenceNumber"):
        mapping.run(raws)


def test_which_key_parts_a_table_of_two_has_to_be_said() -> None:
    build = RecordBuilder(("pk", "sk"))
    raws = [build.insert({"pk": "a", "sk": 1})]
    with pytest.raises(ValueError, match="'pk', 'sk'"):
        EventSourceMapping(raising(), parallelization_factor=2).run(raws)
    with pytest.raises(ValueError, match="'pk', 'sk'"):
        EventSourceMapping(raising(), parallelization_factor=2, partition_key="x").run(raws)


def test_an_empty_stream_is_no_invocation() -> None:
    report = EventSourceMapping(raising()).run([])
    assert report.invocations == ()
    assert list(report.checkpoints.values()) == [None]
