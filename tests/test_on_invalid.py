"""Images that the handler's model does not accept: failed, or left alone; and ``Skip``."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from dynaflow import (
    App,
    BatchResult,
    Call,
    Change,
    Depends,
    Process,
    Record,
    Router,
    Skip,
    Status,
)
from dynaflow.errors import ImageMissing, InvalidImage, MalformedValue, NonRetryable
from dynaflow.observe import CallEnded, Event
from dynaflow.testing import RecordBuilder, TestClient
from tests.support.batches import processed
from tests.support.command_line import Project
from tests.support.routers import nothing, refusal

MARKER = "secret-marker-4711"


class Order(BaseModel):
    id: str
    total: int


GOOD = {"id": "1", "total": 5}
BAD = {"id": "1", "total": MARKER}


def order_router(seen: list[Order], *, is_async: bool = False, **options: Any) -> Router:
    """Return a router whose one route, "ship", takes orders."""
    router = Router()

    async def on_loop(new: Order) -> None:
        seen.append(new)

    def in_thread(new: Order) -> None:
        seen.append(new)

    router.on_upsert(name="ship", **options)(on_loop if is_async else in_thread)
    return router


def insert(router: Router, item: dict[str, Any], **options: Any) -> BatchResult:
    with TestClient(App(router, **options)) as stream:
        return stream.insert(item)


def test_an_invalid_image_fails_its_record_unless_something_else_is_said() -> None:
    seen: list[Order] = []
    for options in ({}, {"on_invalid": "fail"}, {"on_invalid": None}):
        result = insert(order_router(seen, **options), BAD)
        assert [type(error) for error in result.errors] == [InvalidImage]
        assert isinstance(result.errors[0], NonRetryable)
        assert result.failed is not None
    assert seen == []


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("threads", [0, 2])
def test_skip_leaves_the_record_alone_as_done_and_counts_it_apart(
    is_async: bool, threads: int
) -> None:
    seen: list[Order] = []
    router = order_router(seen, is_async=is_async, on_invalid="skip")
    with TestClient(App(router, threads=threads)) as stream:
        bad, good = stream.insert(BAD), stream.insert(GOOD)
    assert (bad.failed, bad.not_done, bad.errors, bad.handled_by) == (None, (), [], [])
    assert bad.skipped_by == ["ship"]
    (outcome,) = bad.outcomes
    assert outcome.status is Status.SKIPPED
    assert type(outcome.error) is InvalidImage
    assert (good.handled_by, good.skipped_by) == (["ship"], [])
    assert seen == [Order(id="1", total=5)]


def test_a_skipped_record_holds_back_nothing() -> None:
    seen: list[Order] = []
    app = App(order_router(seen, on_invalid="skip"), failure_policy="stop")
    with TestClient(app) as stream:
        records = [stream.records.insert(BAD), stream.records.modify(BAD, GOOD)]
        result = stream.send(records)
    assert (result.failed, result.skipped_by, result.handled_by) == (None, ["ship"], ["ship"])


def test_a_skip_is_one_warning_that_names_route_record_path_and_type_but_no_value(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        result = insert(order_router([], on_invalid="skip"), BAD | {"id": f"id-{MARKER}"})
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    assert line.exc_info is None
    number = result.outcomes[0].record.sequence_number
    message = line.getMessage()
    assert message.startswith(f"ship skipped record {number} of arn:")
    assert message.endswith("ship: the new image is not what its model wants (total: int_parsing)")
    assert MARKER not in caplog.text


def test_the_other_routes_of_the_record_decide_for_themselves() -> None:
    router = Router()

    @router.on_insert(name="lenient", on_invalid="skip")
    async def lenient(new: Order) -> None:
        raise AssertionError

    @router.on_insert(name="plain")
    async def plain(new: dict[str, Any]) -> None: ...

    assert insert(router, BAD).handled_by == ["plain"]


def test_one_route_that_fails_keeps_a_record_that_another_skipped_from_being_done() -> None:
    router = Router()

    @router.on_insert(name="lenient", on_invalid="skip")
    async def lenient(new: Order) -> None: ...

    @router.on_insert(name="strict")
    async def strict(new: Order) -> None: ...

    result = insert(router, BAD)
    assert (result.skipped_by, len(result.errors)) == (["lenient"], 1)
    assert result.failed is not None


def test_only_the_binder_s_own_invalid_image_is_skipped() -> None:
    router = Router(on_invalid="skip")

    @router.on_insert(name="ship")
    def ship(new: Order) -> None:
        raise InvalidImage("of my own")

    (error,) = insert(router, GOOD).errors
    assert str(error) == "of my own"


def test_malformed_values_and_missing_images_are_never_skipped() -> None:
    router = order_router([], on_invalid="skip")
    with TestClient(router) as stream:
        record = stream.records.insert(GOOD)
        record["dynamodb"]["NewImage"]["total"] = {"N": "x"}
        assert [type(error) for error in stream.send(record).errors] == [MalformedValue]
    keys_only = RecordBuilder(view_type="KEYS_ONLY").insert(GOOD)
    result = processed(order_router([], on_invalid="skip"), keys_only)
    assert [type(error) for error in result.errors] == [ImageMissing]


def test_the_nearest_router_counts_and_the_route_before_it() -> None:
    outer, middle, inner = Router(on_invalid="skip"), Router(), Router(on_invalid="fail")
    outer.on_any(name="a")(nothing)
    outer.include_router(middle)
    middle.on_any(name="b")(nothing)
    middle.include_router(inner)
    inner.on_any(name="c")(nothing)
    inner.on_any(name="d", on_invalid="skip")(nothing)
    inner.add_route(["INSERT"], nothing, name="e", on_invalid="skip")
    alone = Router()
    alone.on_any(name="f")(nothing)
    policies = {route.name: route.on_invalid for route in App(outer, alone).routes}
    assert policies == {
        "a": "skip",
        "b": "skip",
        "c": "fail",
        "d": "skip",
        "e": "skip",
        "f": "fail",
    }


@pytest.mark.parametrize(
    "declare",
    [
        lambda router: router.on_insert(name="ship", on_invalid="dead_letter")(nothing),
        lambda router: router.include_router(_dead_letters()),
    ],
)
def test_dead_letters_are_known_and_refused_at_app(declare: Callable[[Router], object]) -> None:
    router = Router()
    declare(router)
    assert refusal(lambda: App(router)) == (
        "on_invalid='dead_letter' of ship needs a place where dead letters go: write "
        "App(dead_letter=...), for example dead_letter=JsonLines('given-up.jsonl')"
    )


def _dead_letters() -> Router:
    router = Router(on_invalid="dead_letter")
    router.on_any(name="ship")(nothing)
    return router


def test_a_router_of_dead_letters_none_of_whose_routes_wants_them_is_fine() -> None:
    router = Router(on_invalid="dead_letter")
    router.on_any(name="ship", on_invalid="skip")(nothing)
    App(router)


@pytest.mark.parametrize(("value", "shown"), [("drop", "'drop'"), (True, "bool"), ([], "list")])
def test_an_unknown_policy_is_refused_at_the_decorator_and_the_router(
    value: Any, shown: str
) -> None:
    text = f"on_invalid={shown} of {{}} is unknown: write 'fail', 'skip' or 'dead_letter'"
    router = Router()
    assert refusal(lambda: Router(on_invalid=value)) == text.format("Router(...)")
    assert refusal(lambda: router.on_insert(on_invalid=value)) == text.format("on_insert(...)")
    owner = f"{nothing.__module__}.nothing"
    assert refusal(lambda: router.add_route(["INSERT"], nothing, on_invalid=value)) == text.format(
        owner
    )


def test_middleware_sees_a_skip_as_what_it_is() -> None:
    seen: list[BaseException] = []

    async def watch(call: Call, call_next: Process) -> None:
        try:
            await call_next(call)
        except Skip as skip:
            seen.append(skip)
            raise

    result = insert(order_router([], on_invalid="skip", middleware=[watch]), BAD)
    assert result.skipped_by == ["ship"]
    assert isinstance(seen[0].__cause__, InvalidImage)


def skipping(is_async: bool) -> Router:
    router = Router()

    def in_thread() -> None:
        raise Skip("not ours")

    async def on_loop() -> None:
        raise Skip("not ours")

    def pending() -> Awaitable[None]:
        return on_loop()

    router.on_any(name="ship")(on_loop if is_async else in_thread)
    router.on_any(name="pending")(pending)
    return router


@pytest.mark.parametrize("is_async", [True, False])
def test_a_handler_that_raises_skip_is_done_and_counted_apart(
    is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        result = insert(skipping(is_async), GOOD)
    assert (result.failed, result.errors, result.handled_by) == (None, [], [])
    assert result.skipped_by == ["ship", "pending"]
    assert [type(outcome.error) for outcome in result.outcomes] == [Skip, Skip]
    assert {line.levelno for line in caplog.records} == {logging.INFO}
    assert caplog.records[0].getMessage().startswith("ship skipped record ")
    assert caplog.records[0].getMessage().endswith(": not ours")


def test_a_skip_says_why_and_is_no_failure_that_could_be_retried() -> None:
    assert Skip().reason == ""
    assert Skip("because").reason == str(Skip("because")) == "because"
    assert not isinstance(Skip(), NonRetryable)


def test_observers_are_told_of_skipped_calls() -> None:
    events: list[Event] = []
    insert(order_router([], on_invalid="skip"), BAD, observers=[events.append])
    (ended,) = [event for event in events if isinstance(event, CallEnded)]
    assert ended.outcome.status is Status.SKIPPED


def test_lambda_is_answered_that_a_skipped_record_is_done() -> None:
    build = RecordBuilder()
    handler = App(order_router([], on_invalid="skip")).lambda_handler()
    assert handler(build.event(build.insert(BAD))) == {"batchItemFailures": []}


def test_invoke_shows_what_was_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    project, build = Project(tmp_path), RecordBuilder()
    project.write(
        "shop.py",
        """
        from dataclasses import dataclass
        from dynaflow import App, Router, Skip

        @dataclass
        class Order:
            total: int

        router = Router(on_invalid="skip")

        @router.on_insert()
        def ship(new: Order): ...

        @router.on_insert()
        def leave(new): raise Skip("why")

        app = App(router)
        """,
    )
    path = project.write_event(build.event(build.insert(BAD)))
    result = project.run("invoke", "shop:app", path)
    assert result.exit_code == 0
    _, ship, leave, answer = result.stdout.splitlines()
    assert "shop.ship   skipped: InvalidImage" in ship
    assert "shop.leave  skipped  " in leave
    assert json.loads(answer) == {"batchItemFailures": []}
    (entry,) = json.loads(project.run("invoke", "shop:app", path, "--json").stdout)["records"]
    assert entry["status"] == "done"
    assert [call["status"] for call in entry["calls"]] == ["skipped", "skipped"]
    assert MARKER not in result.stdout + result.stderr


def seen_by_batch_route(*items: dict[str, Any], **options: Any) -> tuple[BatchResult, list[str]]:
    """Send inserts to a batch route with these options, and return what it was called with."""
    router, seen = Router(), list[str]()

    @router.on_batch("INSERT", name="index", **options)
    def index(changes: list[Change[Order]]) -> None:
        seen.extend(change.new.id for change in changes if change.new is not None)

    with TestClient(App(router)) as stream:
        return stream.send([stream.records.insert(item) for item in items]), seen


def test_a_batch_route_is_called_without_the_records_that_it_skips() -> None:
    good, bad, later = GOOD | {"id": "2"}, BAD, GOOD | {"id": "1"}  # of the bad one's item
    result, seen = seen_by_batch_route(good, bad, later, on_invalid="skip")
    assert seen == ["2", "1"]
    assert (result.failed, result.skipped_by) == (None, ["index"])
    result, seen = seen_by_batch_route(good, bad, later)
    assert seen == ["2"]
    assert [type(error) for error in result.errors] == [InvalidImage]
    assert len(result.not_done) == 2


def test_a_batch_route_whose_records_are_all_skipped_is_not_called() -> None:
    result, seen = seen_by_batch_route(BAD, BAD | {"id": "2"}, on_invalid="skip", max_items=1)
    assert seen == []
    assert (result.failed, result.skipped_by) == (None, ["index", "index"])


@pytest.mark.parametrize("is_async", [True, False])
def test_a_batch_handler_that_raises_skip_leaves_all_of_its_records_alone(is_async: bool) -> None:
    router = Router()

    def here(records: list[Record]) -> None:
        raise Skip("not now")

    async def on_loop(records: list[Record]) -> None:
        raise Skip("not now")

    router.on_batch(name="index")(on_loop if is_async else here)
    with TestClient(App(router)) as stream:
        records = [stream.records.insert(GOOD | {"id": name}) for name in "abc"]
        result = stream.send(records)
    assert (result.failed, result.errors, result.skipped_by) == (None, [], ["index"] * 3)


def total_of(new: Order) -> int:
    return new.total


async def total_on_loop(new: Order) -> int:
    return new.total


def refusing(new: dict[str, Any]) -> int:
    raise InvalidImage("of my own")


@pytest.mark.parametrize("dependency", [total_of, total_on_loop])
def test_a_dependency_s_model_counts_as_the_handler_s(dependency: Callable[..., Any]) -> None:
    router = Router(on_invalid="skip")

    def ship(total: int) -> None: ...

    ship.__annotations__["total"] = Annotated[int, Depends(dependency)]
    router.on_insert(name="ship")(ship)
    assert insert(router, BAD).skipped_by == ["ship"]


def test_a_dependency_that_raises_invalid_image_itself_fails() -> None:
    router = Router(on_invalid="skip")

    @router.on_insert(name="ship")
    def ship(total: Annotated[int, Depends(refusing)]) -> None: ...

    assert [str(error) for error in insert(router, GOOD).errors] == ["of my own"]
