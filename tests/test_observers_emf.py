"""Metrics in the embedded metric format, checked against its specification."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from dynaflow import App, NonRetryable, Retry, Router, Status
from dynaflow.batch import BatchResult, Outcome
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.observe import BatchEnded, CallEnded
from dynaflow.observers.emf import EMF
from dynaflow.testing import RecordBuilder, TestClient
from tests.support.batches import batch_of
from tests.support.lambda_function import LambdaFunction, orders
from tests.support.routers import refusal, router_named

_UNITS = {"Count", "Milliseconds"}  # of those that CloudWatch has
_RESERVED = {"AWS/Lambda", "AWS/DynamoDB"}


def check(line: str) -> dict[str, Any]:
    """Return a line's object; fail if it breaks a rule of the specification."""
    assert len(line.encode()) < 256 * 1024
    root = json.loads(line)
    assert isinstance(root, dict)
    aws = root["_aws"]
    assert set(aws) == {"Timestamp", "CloudWatchMetrics"}
    assert type(aws["Timestamp"]) is int
    assert abs(aws["Timestamp"] - time.time() * 1000) < 60_000
    assert isinstance(aws["CloudWatchMetrics"], list)
    for directive in aws["CloudWatchMetrics"]:
        _check_directive(directive, root)
    return root


def _check_directive(directive: Mapping[str, Any], root: Mapping[str, Any]) -> None:
    assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
    assert isinstance(directive["Namespace"], str)
    assert 1 <= len(directive["Namespace"]) <= 256
    assert directive["Namespace"] not in _RESERVED
    assert isinstance(directive["Dimensions"], list)
    assert len(directive["Dimensions"]) >= 1
    for names in directive["Dimensions"]:
        assert len(names) == len(set(names)) <= 30
        for name in names:
            assert isinstance(name, str)
            assert 1 <= len(name) <= 250
            assert isinstance(root[name], str)
            assert 1 <= len(root[name]) <= 1024
            assert root[name].isascii()
            assert root[name].isprintable()
            assert root[name].strip()
    metrics = directive["Metrics"]
    assert 1 <= len(metrics) <= 100
    assert len({metric["Name"] for metric in metrics}) == len(metrics)
    for metric in metrics:
        assert set(metric) == {"Name", "Unit"}
        assert metric["Unit"] in _UNITS
        target = root[metric["Name"]]
        values = target if isinstance(target, list) else [target]
        assert 1 <= len(values) <= 100
        for value in values:
            assert type(value) in (int, float)
            assert math.isfinite(value)
            assert value >= 0


def lines_of(text: str) -> list[dict[str, Any]]:
    assert text.endswith("\n")
    return [check(line) for line in text.splitlines()]


def shop() -> Router:
    router = Router()

    @router.on_insert(name="ship")
    def ship(new: dict[str, Any]) -> None:
        if new["id"] == "bad":
            raise ValueError

    @router.on_insert(name="bill")
    async def bill() -> None: ...

    return router


def printed(emf: EMF, stream: io.StringIO, *raws: dict[str, Any]) -> list[dict[str, Any]]:
    with TestClient(App(shop(), observers=[emf])) as client:
        client.send(list(raws))
    return lines_of(stream.getvalue())


def ended(*outcomes: Outcome, records: int = 1) -> BatchEnded:
    return BatchEnded(BatchResult(outcomes), records, 0.5)


def outcome(status: Status, *, route: str = "ship", duration: float = 0.0) -> Outcome:
    (record,) = batch_of("a").records
    return Outcome(record, route, status, None, duration)


def test_a_batch_is_one_line_and_one_for_each_route() -> None:
    stream, build = io.StringIO(), RecordBuilder(table="orders")
    raws = [build.insert({"id": item}) for item in ("a", "bad", "c")]
    for raw in raws:
        raw["dynamodb"]["ApproximateCreationDateTime"] = time.time() - 60
    batch, *routes = printed(EMF("shop", stream=stream), stream, *raws)
    assert batch["_aws"]["CloudWatchMetrics"][0]["Namespace"] == "shop"
    assert batch["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [[]]
    assert (batch["Records"], batch["RecordsNotDone"], batch["Undecodable"]) == (3, 1, 0)
    assert 0 < batch["BatchDuration"] < 20_000
    assert 59_000 < batch["IteratorAge"] < 80_000
    assert batch["table"] == "orders"
    counts = {
        line["route"]: [line[name] for name in ("Done", "Failed", "NotDone", "Skipped")]
        for line in routes
    }
    assert counts == {"ship": [2, 1, 0, 0], "bill": [3, 0, 0, 0]}
    assert [len(line["Duration"]) for line in routes] == [3, 3]
    for line in routes:
        assert line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["route"]]


def test_ten_thousand_records_are_a_handful_of_lines() -> None:
    stream, build = io.StringIO(), RecordBuilder()
    raws = [build.insert({"id": str(n)}) for n in range(10_000)]
    batch, *routes = printed(EMF(stream=stream), stream, *raws)
    assert batch["Records"] == 10_000
    assert [line["Done"] for line in routes] == [10_000, 10_000]
    assert len(routes) == 2


def test_of_more_than_a_hundred_calls_a_hundred_stand_for_all() -> None:
    stream = io.StringIO()
    emf = EMF(stream=stream)
    outcomes = [outcome(Status.DONE, duration=n / 1000) for n in range(1000, 0, -1)]
    for one in outcomes:
        emf(CallEnded((one,)))
    emf(ended(*outcomes, records=1000))
    values = lines_of(stream.getvalue())[1]["Duration"]
    assert len(values) == 100
    assert (min(values), max(values)) == (1, 1000)
    assert sum(values) / 100 == pytest.approx(500, rel=0.01)
    assert sorted(values)[90] == pytest.approx(910, rel=0.01)


def test_a_call_of_many_records_has_one_duration() -> None:
    stream = io.StringIO()
    emf = EMF(stream=stream)
    members = tuple(outcome(Status.DONE, duration=0.25) for _ in range(50))
    emf(CallEnded(members))
    emf(ended(*members, records=50))
    (line,) = lines_of(stream.getvalue())[1:]
    assert (line["Done"], line["Duration"]) == (50, [250])


def test_what_was_never_called_has_no_duration() -> None:
    stream = io.StringIO()
    emf = EMF(stream=stream)
    refused = outcome(Status.FAILED)
    emf(CallEnded((refused,)))
    emf(ended(refused))
    (line,) = lines_of(stream.getvalue())[1:]
    assert line["Failed"] == 1
    assert "Duration" not in line


def test_no_duration_is_counted_twice() -> None:
    stream = io.StringIO()
    emf = EMF(stream=stream)
    one = outcome(Status.DONE, duration=0.5)
    for _ in range(3):
        emf(CallEnded((one,)))
        emf(ended(one))
    assert [line["Duration"] for line in lines_of(stream.getvalue())[1::2]] == [[500]] * 3


def test_the_end_of_one_batch_loses_no_duration_of_another() -> None:
    stream = io.StringIO()
    emf = EMF(stream=stream)
    ship, bill = (
        outcome(Status.DONE, duration=1.0),
        outcome(Status.DONE, route="bill", duration=0.5),
    )
    emf(CallEnded((ship,)))
    emf(CallEnded((bill,)))
    emf(ended(ship))
    emf(ended(bill))
    shipped, billed = lines_of(stream.getvalue())[1::2]
    assert (shipped["Duration"], billed["Duration"]) == ([1000], [500])


def test_skipped_records_are_counted_apart() -> None:
    stream = io.StringIO()
    EMF(stream=stream)(ended(outcome(Status.SKIPPED), outcome(Status.NOT_DONE)))
    (line,) = lines_of(stream.getvalue())[1:]
    assert [line[name] for name in ("Done", "Failed", "NotDone", "Skipped")] == [0, 0, 1, 1]


def test_what_is_tried_again_parked_and_repeated_is_counted_by_its_route() -> None:
    stream, router = io.StringIO(), Router()
    failures: dict[str, list[Exception]] = {
        "flaky": [TimeoutError()],
        "bad": [NonRetryable("no")],
        "away": [OSError()] * 4,
    }

    @router.on_insert(name="ship")
    async def ship(new: dict[str, Any]) -> None:
        if failures.get(new["id"]):
            raise failures[new["id"]].pop()

    letters: list[DeadLetterRecord] = []
    emf = EMF(stream=stream)
    app = App(
        router, observers=[emf], retry=Retry(attempts=2, jitter=0), dead_letter=letters.append
    )
    with TestClient(app) as client:
        batch = [client.records.insert({"id": item}) for item in ("away", "flaky", "bad", "a")]
        for _ in range(2):
            client.send(batch)
    first, first_ship, second, second_ship = lines_of(stream.getvalue())
    assert (len(letters), first["DeadLettered"], second["DeadLettered"]) == (1, 1, 0)
    names = ("Done", "Failed", "DeadLettered", "Repeated", "Retried")
    assert [first_ship[name] for name in names] == [2, 1, 1, 0, 2]
    assert [second_ship[name] for name in names] == [0, 1, 0, 3, 1]


def test_an_undecodable_record_that_is_parked_is_counted_as_both() -> None:
    stream, broken = io.StringIO(), RecordBuilder().insert({"id": "1"})
    del broken["dynamodb"]["Keys"]
    app = App(shop(), observers=[EMF(stream=stream)], dead_letter=lambda letter: None)
    with TestClient(app) as client:
        client.send(broken)
    (batch,) = lines_of(stream.getvalue())
    counts = (batch["Undecodable"], batch["DeadLettered"], batch["RecordsNotDone"])
    assert counts == (1, 1, 0)


def test_an_undecodable_record_is_counted_without_a_route() -> None:
    stream = io.StringIO()
    broken = RecordBuilder().insert({"id": "1"})
    del broken["dynamodb"]["Keys"]
    (batch,) = printed(EMF(stream=stream), stream, broken)
    assert (batch["Undecodable"], batch["RecordsNotDone"]) == (1, 1)
    assert "IteratorAge" not in batch


def test_own_dimensions_are_on_every_metric() -> None:
    stream = io.StringIO()
    emf = EMF(stream=stream, dimensions={"service": "shop", "stage": "dev"})
    lines = printed(emf, stream, RecordBuilder().insert({"id": "1"}))
    for line in lines:
        assert (line["service"], line["stage"]) == ("shop", "dev")
    dimensions = [line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] for line in lines]
    assert dimensions == [[["service", "stage"]], *[[["route", "service", "stage"]]] * 2]


@pytest.mark.parametrize("name", ["Über\nweisung", "x" * 2000, "\N{SNOWMAN}" * 500, "\x00", "a b"])
def test_any_name_of_a_route_makes_a_dimension(name: str) -> None:
    stream = io.StringIO()
    EMF(stream=stream)(ended(outcome(Status.DONE, route=name)))
    assert len(lines_of(stream.getvalue())) == 2


@pytest.mark.parametrize("namespace", ["", " ", "AWS/Lambda", "x" * 256, "shop?", "Ü", None])
def test_a_namespace_that_cloudwatch_refuses_is_refused(namespace: Any) -> None:
    assert "EMF(namespace=...)" in refusal(lambda: EMF(namespace))


@pytest.mark.parametrize(
    ("dimensions", "says"),
    [
        ({"route": "x"}, "'route' is a name that EMF uses itself"),
        ({"Done": "x"}, "'Done' is a name that EMF uses itself"),
        ({"": "x"}, "a name is 1 to 250 characters"),
        ({":a": "x"}, "does not begin with a colon"),
        ({"n" * 251: "x"}, "a name is 1 to 250 characters"),
        ({"service": ""}, "the value of 'service' is 1 to 1024 characters"),
        ({"service": "  "}, "the value of 'service'"),
        ({"service": "x" * 1025}, "the value of 'service'"),
        ({"service": 3}, "the value of 'service'"),
        ({f"d{n}": "x" for n in range(30)}, "has 30 of them"),
    ],
)
def test_a_dimension_that_cloudwatch_refuses_is_refused(dimensions: Any, says: str) -> None:
    assert says in refusal(lambda: EMF(dimensions=dimensions))


def test_as_many_dimensions_as_cloudwatch_takes_are_taken() -> None:
    stream = io.StringIO()
    emf = EMF("a" * 255, stream=stream, dimensions={f"d{n}": "x" * 1024 for n in range(29)})
    printed(emf, stream, RecordBuilder().insert({"id": "1"}))


def test_lines_go_to_whatever_standard_output_is(capsys: pytest.CaptureFixture[str]) -> None:
    with TestClient(App(router_named("x"), observers=[EMF()])) as stream:
        stream.insert({"id": "1"})
    assert len(lines_of(capsys.readouterr().out)) == 2


def test_lines_are_flushed_because_lambda_freezes_the_process() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw)
    EMF(stream=stream)(ended(outcome(Status.DONE)))
    assert len(lines_of(raw.getvalue().decode())) == 2


def test_a_closed_output_hurts_no_record(caplog: pytest.LogCaptureFixture) -> None:
    closed = io.StringIO()
    closed.close()
    with TestClient(App(router_named("x"), observers=[EMF(stream=closed)])) as stream:
        for _ in range(3):
            assert stream.insert({"id": "1"}).failed is None
    assert [line.message for line in caplog.records] == [
        "observer dynaflow.observers.emf.EMF raised ValueError; the event is dropped"
    ]


def test_a_process_without_standard_output_prints_nothing() -> None:
    with redirect_stdout(None):  # as pythonw and some daemons have it
        EMF()(ended(outcome(Status.DONE)))


def test_in_lambda_the_lines_are_out_before_the_answer(tmp_path: Path) -> None:
    pytest.importorskip("awslambdaric", reason="AWS publishes its runtime client for Linux only")
    batches = [
        orders(("a", "ok")),
        orders(("a", "ok"), sync=True),
        orders(("a", "ok"), ("b", "raise")),
    ]
    with LambdaFunction("with_emf", tmp_path, AWS_LAMBDA_LOG_FORMAT="JSON") as function:
        for number, batch in enumerate(batches, start=1):
            function.invoke(batch)
            lines = [line for line in function.stdout.splitlines() if line.startswith('{"_aws"')]
            assert len(lines) == 2 * number
    routes = [check(line) for line in lines][1::2]
    assert [line["route"].rpartition(".")[2] for line in routes] == [
        "on_loop",
        "in_thread",
        "on_loop",
    ]
    assert [(line["Done"], line["Failed"]) for line in routes] == [(1, 0), (1, 0), (1, 1)]
