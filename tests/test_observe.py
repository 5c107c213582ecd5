"""What observers are shown, and what the one that logs makes of it."""

from __future__ import annotations

import logging
import time
from dataclasses import FrozenInstanceError
from datetime import datetime, timezone
from functools import partial
from typing import Any

import pytest

from dynaflow import App, NonRetryable, PartialFailure, Record, Router, Status
from dynaflow.batch import Outcome
from dynaflow.observe import CallEnded, Event, log_event, observer_name
from dynaflow.testing import RecordBuilder, TestClient
from tests.support.batches import batch_of
from tests.support.routers import refusal, router_named
from tests.support.watching import Noting


def shop() -> Router:
    router = Router()

    @router.on_insert(name="sync")
    def sync(new: dict[str, Any]) -> None:
        if new["id"] == "bad":
            raise ValueError(new["id"])

    @router.on_insert(name="async")
    async def on_loop() -> None: ...

    return router


def watched(*raws: dict[str, Any], router: Router | None = None) -> Noting:
    noting = Noting()
    with TestClient(App(router or shop(), observers=[noting])) as stream:
        stream.send(list(raws))
    return noting


def outcomes(*statuses: Status, error: BaseException | None = None) -> tuple[Outcome, ...]:
    records = batch_of(["a"] * len(statuses)).records
    return tuple(
        Outcome(record, "shop.index", status, None if status is Status.DONE else error)
        for record, status in zip(records, statuses, strict=True)
    )


def test_every_call_is_shown_and_then_the_batch() -> None:
    records = RecordBuilder()
    noting = watched(records.insert({"id": "good"}), records.insert({"id": "bad"}))
    shown = [(call.outcome.route, call.outcome.status) for call in noting.calls]
    assert sorted(shown, key=str) == [
        ("async", Status.DONE),
        ("async", Status.DONE),
        ("sync", Status.DONE),
        ("sync", Status.FAILED),
    ]
    (batch,) = noting.batches
    assert noting.events[-1] is batch
    assert batch.records == 2
    assert len(batch.result.outcomes) == 4
    assert [record.keys for record in batch.result.not_done] == [{"id": "bad"}]
    assert 0 < batch.duration < 20
    assert batch.source_arn == records.stream_arn


def test_a_record_that_no_route_takes_is_in_the_batch_only() -> None:
    noting = watched(RecordBuilder().remove({"id": "1"}))
    assert noting.calls == []
    assert [batch.records for batch in noting.batches] == [1]


def test_a_call_of_a_batch_route_is_one_event_and_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router()

    @router.on_batch(name="index")
    def index(records: list[Record]) -> None:
        raise PartialFailure(failed=[1])

    build = RecordBuilder()
    noting = watched(*[build.insert({"id": item}) for item in "abc"], router=router)
    (call,) = noting.calls
    statuses = [outcome.status for outcome in call.outcomes]
    assert statuses == [Status.DONE, Status.FAILED, Status.DONE]
    (line,) = caplog.records
    assert line.message.startswith("index failed for 1 of 3 records of arn:")


def test_an_undecodable_record_is_shown() -> None:
    broken = RecordBuilder().insert({"id": "1"})
    del broken["dynamodb"]["Keys"]
    noting = watched(broken)
    (call,) = noting.calls
    assert (call.outcome.route, call.outcome.status) == (None, Status.FAILED)


def test_events_are_frozen() -> None:
    call = CallEnded(outcomes(Status.DONE))
    with pytest.raises(FrozenInstanceError):
        call.outcomes = ()  # type: ignore[misc]  # that it cannot be set is the point


def test_the_outcome_of_a_call_is_that_of_its_first_record() -> None:
    two = outcomes(Status.DONE, Status.FAILED)
    assert CallEnded(two).outcome is two[0]


def aged(*created: object) -> float | None:
    raws = []
    records = RecordBuilder()
    for number, value in enumerate(created):
        raw = records.insert({"id": str(number)})
        raw["dynamodb"]["ApproximateCreationDateTime"] = value
        raws.append(raw)
    (batch,) = watched(*raws).batches
    return batch.iterator_age


def test_the_iterator_age_is_that_of_the_last_record() -> None:
    age = aged(time.time() - 5000, time.time() - 100)
    assert age is not None
    assert 99 < age < 120


def test_the_iterator_age_is_never_negative() -> None:
    assert aged(time.time() + 500) == 0


@pytest.mark.parametrize("created", [None, "yesterday", {"not": "a time"}])
def test_the_iterator_age_is_unknown_where_the_record_does_not_say(created: object) -> None:
    assert aged(created) is None


def test_the_iterator_age_is_as_the_batch_began() -> None:
    router = Router()

    @router.on_insert()
    def slow() -> None:
        time.sleep(0.2)

    record = RecordBuilder().insert({"id": "1"})
    created = datetime.now(timezone.utc)
    record["dynamodb"]["ApproximateCreationDateTime"] = created.isoformat()
    (batch,) = watched(record, router=router).batches
    assert batch.duration >= 0.2
    assert batch.iterator_age is not None
    assert batch.iterator_age < 0.2


def test_a_batch_of_nothing_but_undecodable_records_has_no_age() -> None:
    broken = RecordBuilder().insert({"id": "1"})
    broken["eventName"] = "TRUNCATE"
    (batch,) = watched(broken).batches
    assert batch.iterator_age is None


@pytest.mark.parametrize(
    ("observers", "says"),
    [
        (Noting(), "takes a list: write [tests.support.watching.Noting(...)]"),
        ([lambda: None], "cannot be called with an event"),
        ([Noting], "Noting is a class: write Noting()"),
        (["log"], "str is not callable"),
    ],
)
def test_what_cannot_observe_is_refused(observers: Any, says: str) -> None:
    assert says in refusal(lambda: App(router_named("x"), observers=observers))


def test_an_async_observer_is_refused_because_nothing_would_await_it() -> None:
    class Async:
        async def __call__(self, event: Event, /) -> None: ...

    async def function(event: Event) -> None: ...

    for observer in (Async(), function, Async().__call__):
        wrong: Any = [observer]
        says = refusal(partial(App, router_named("x"), observers=wrong))
        assert "is async, and nothing would await it" in says


def test_an_observer_is_named_by_function_or_class_and_never_by_its_repr() -> None:
    class Secret(Noting):
        def __repr__(self) -> str:
            raise AssertionError

    assert observer_name(Secret()).endswith("Secret")
    assert observer_name(log_event) == "dynaflow.observe.log_event"


def logged(caplog: pytest.LogCaptureFixture, *members: Outcome) -> list[tuple[str, str]]:
    with caplog.at_level(logging.DEBUG, "dynaflow"):
        log_event(CallEnded(members))
    return [(line.levelname, line.message) for line in caplog.records]


def test_a_call_that_is_done_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert logged(caplog, *outcomes(Status.DONE)) == []
    assert logged(caplog, *outcomes(Status.DONE, Status.DONE)) == []


def test_batches_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    noting = watched(RecordBuilder().insert({"id": "1"}))
    with caplog.at_level(logging.DEBUG, "dynaflow"):
        log_event(noting.batches[0])
    assert caplog.records == []


def test_a_failed_call_of_many_records_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    error = ValueError("of the handler")
    members = outcomes(Status.DONE, Status.FAILED, Status.FAILED, error=error)
    lowest = members[1].record
    assert logged(caplog, *reversed(members)) == [
        (
            "ERROR",
            f"shop.index failed for 2 of 3 records of {lowest.source_arn}, the lowest is "
            f"{lowest.sequence_number} (ValueError); they are not done and come again",
        )
    ]
    assert caplog.records[0].exc_info is not None
    assert caplog.records[0].exc_info[1] is error


def test_a_call_of_many_records_that_was_cut_off_is_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ((level, line),) = logged(caplog, *outcomes(Status.NOT_DONE, Status.NOT_DONE))
    assert level == "WARNING"
    assert "was cut off for 2 of 2 records of" in line


def test_a_skipped_record_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    for members in (
        outcomes(Status.SKIPPED),
        outcomes(Status.SKIPPED, error=RuntimeError("secret")),
        outcomes(Status.SKIPPED, Status.DONE),
    ):
        logged(caplog, *members)
    assert {line.levelname for line in caplog.records} == {"INFO"}
    assert "secret" not in caplog.text


def test_a_skipped_image_is_news_for_an_operator(caplog: pytest.LogCaptureFixture) -> None:
    ((level, line),) = logged(caplog, *outcomes(Status.SKIPPED, error=NonRetryable("secret")))
    assert level == "WARNING"
    assert "shop.index skipped record" in line
    assert line.endswith("(NonRetryable)")
    assert "secret" not in caplog.text


def test_the_record_of_an_outcome_is_the_one_that_the_handler_had() -> None:
    seen: list[Record] = []
    router = Router()

    @router.on_insert()
    def handler(record: Record) -> None:
        seen.append(record)

    noting = watched(RecordBuilder().insert({"id": "1"}), router=router)
    assert noting.calls[0].outcome.record is seen[0]
