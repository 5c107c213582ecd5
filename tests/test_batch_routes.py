"""Batch routes on both backends, on a virtual clock, and in threads."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import anyio
import pytest
import trio.testing

from dynaflow import (
    App,
    Batch,
    BatchResult,
    Call,
    Change,
    Deadline,
    F,
    HandlerContext,
    Image,
    PartialFailure,
    Process,
    Record,
    Router,
    Status,
)
from dynaflow._host import Host
from dynaflow.codec import decode_records
from dynaflow.testing import RecordBuilder, Stream, TestClient
from dynaflow.testing.clock import VirtualTimeLoop
from tests.support.batches import batch_of, rest_of, step_of

BUILD = RecordBuilder(keys=("id",), table="orders")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    if request.param == "asyncio":
        return "asyncio", {"loop_factory": lambda: VirtualTimeLoop(patience=0)}
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


class Calls:
    """A batch handler that notes the steps of each call, and fails where it is told to."""

    def __init__(self, *, fails: dict[int, object] | None = None, seconds: float = 0.0) -> None:
        self.steps: list[list[int]] = []
        self.fails = fails or {}
        self.seconds = seconds

    async def __call__(self, records: list[Record]) -> None:
        self.note(records)
        await anyio.sleep(self.seconds)
        self.end(records)

    def note(self, records: list[Record]) -> None:
        self.steps.append([step_of(record) for record in records])

    def end(self, records: list[Record]) -> None:
        failed = [record for record in records if step_of(record) in self.fails]
        if failed:
            raise PartialFailure(failed)

    def sync(self, records: list[Record]) -> None:
        self.note(records)
        self.end(records)


async def nothing(new: Image | None) -> None:
    """Take any record."""


def app_of(
    handler: Callable[..., Any], own: Callable[..., Any] | None = nothing, **options: Any
) -> App:
    router = Router()
    names = ("max_items", "max_bytes", "latest_only", "when")
    batching = {name: options.pop(name) for name in names if name in options}
    if own is not None:
        router.on_insert(name="own")(own)
    router.on_batch(name="batch", **batching)(handler)
    return App(router, **options)


def steps(records: tuple[Any, ...]) -> list[int]:
    return [step_of(record) for record in records]


def run(app: App, batch: Batch) -> BatchResult:
    """Run a batch as Lambda's door does: in threads, or on a loop where one is needed."""
    host = Host(app)
    try:
        return host.process(batch)
    finally:
        host.close()


def in_seconds(seconds: float) -> Deadline:
    return Deadline(anyio.current_time() + seconds, anyio.current_time)


# What one call gets.


@pytest.mark.anyio
async def test_all_matching_records_come_in_stream_order_chunk_after_chunk() -> None:
    calls = Calls()
    result = await app_of(calls, max_items=3).process(batch_of("abcabca"))
    assert calls.steps == [[0, 1, 2], [3, 4, 5], [6]]
    assert result.failed is None
    assert result.handled_by.count("batch") == 7


@pytest.mark.anyio
async def test_a_chunk_ends_where_its_records_would_be_larger_than_it_may_be() -> None:
    size = max(r.size_bytes or 0 for r in batch_of("abcde").records if isinstance(r, Record))
    calls = Calls()
    await app_of(calls, max_bytes=2 * size).process(batch_of("abcde"))
    assert calls.steps == [[0, 1], [2, 3], [4]]
    calls.steps.clear()
    await app_of(calls, max_bytes=1).process(batch_of("abc"))
    assert calls.steps == [[0], [1], [2]]


@pytest.mark.anyio
async def test_a_record_that_does_not_say_its_size_is_measured() -> None:
    raws = [BUILD.insert({"id": str(n), "step": n}) for n in range(4)]
    for raw in raws:
        del raw["dynamodb"]["SizeBytes"]
    calls = Calls()
    app = app_of(calls, max_bytes=400)
    await app.process(Batch(decode_records(raws, BUILD.stream_arn)))
    assert [n for call in calls.steps for n in call] == [0, 1, 2, 3]
    assert len(calls.steps) > 1


@pytest.mark.anyio
async def test_batch_routes_run_after_the_lanes_and_see_only_what_those_have_done() -> None:
    seen: list[str] = []

    async def own(new: Image) -> None:
        await anyio.sleep(0.1)
        seen.append(f"own {new['step']}")
        if new["step"] == 1:
            raise ValueError("no")

    async def batch(records: list[Record], context: HandlerContext) -> None:
        seen.append(f"batch {[step_of(r) for r in records]}")
        assert context.records == tuple(records)
        assert context.record is records[0]
        assert context.route == "batch"

    result = await app_of(batch, own).process(batch_of("abbc"))
    assert seen[-1] == "batch [0, 3]"
    assert steps(result.not_done) == [1, 2]


@pytest.mark.anyio
async def test_the_batch_route_with_the_lowest_record_left_goes_first() -> None:
    seen: list[tuple[str, list[int]]] = []
    router = Router()
    for name, last in (("few", 2), ("all", 9)):

        async def handler(records: list[Record], context: HandlerContext) -> None:
            seen.append((context.route, [step_of(record) for record in records]))

        router.on_batch(name=name, max_items=2, when=F.new.step >= 9 - last)(handler)
    await App(router).process(batch_of("abcdefghij"))
    firsts = [numbers[0] for _, numbers in seen]
    assert firsts == sorted(firsts)
    assert [number for name, numbers in seen if name == "all" for number in numbers] == [*range(10)]


@pytest.mark.anyio
async def test_middleware_stands_around_a_batch_call_and_sees_its_records() -> None:
    seen: list[int] = []

    async def counting(call: Call, call_next: Process) -> None:
        seen.append(len(call.records))
        await call_next(call)

    await app_of(Calls(), None, middleware=[counting]).process(batch_of("abc"))
    assert seen == [3]


# Who is not done.


@pytest.mark.anyio
async def test_a_partial_failure_leaves_its_members_and_what_follows_of_their_items() -> None:
    calls = Calls(fails={1: "no"})
    result = await app_of(calls).process(batch_of("abcb"))
    assert steps(result.not_done) == [1, 3]
    assert [
        (outcome.status, step_of(outcome.record))
        for outcome in result.outcomes
        if outcome.route == "batch"
    ] == [(Status.DONE, 0), (Status.FAILED, 1), (Status.DONE, 2), (Status.NOT_DONE, 3)]


@pytest.mark.anyio
async def test_an_error_leaves_every_member_of_the_call_and_no_other_call() -> None:
    async def batch(records: list[Record]) -> None:
        if step_of(records[0]) == 0:
            raise ValueError("no")

    result = await app_of(batch, max_items=2).process(batch_of("abcd"))
    assert steps(result.not_done) == [0, 1]


@pytest.mark.anyio
@pytest.mark.parametrize("form", ["position", "record", "change"])
async def test_members_are_named_by_position_by_record_or_by_change(form: str) -> None:
    async def batch(changes: list[Change[Image]]) -> None:
        named: dict[str, int | Record | Change[Image]] = {
            "position": 1,
            "record": changes[1].record,
            "change": changes[1],
        }
        raise PartialFailure([named[form]])

    result = await app_of(batch).process(batch_of("abc"))
    assert steps(result.not_done) == [1]


@pytest.mark.anyio
@pytest.mark.parametrize("named", [7, -1, "b", None, True])
async def test_a_partial_failure_that_names_a_stranger_fails_the_whole_call(named: Any) -> None:
    async def batch(records: list[Record]) -> None:
        raise PartialFailure([named])

    result = await app_of(batch).process(batch_of("abc"))
    assert steps(result.not_done) == [0, 1, 2]
    error = result.errors[0]
    assert "batch raised PartialFailure for a change that is not of its call" in str(error)
    assert isinstance(error.__cause__, PartialFailure)


@pytest.mark.anyio
@pytest.mark.parametrize("takes", ["records", "changes"])
async def test_positions_in_a_list_that_the_handler_has_changed_fail_the_whole_call(
    takes: str,
) -> None:
    async def of_records(records: list[Record]) -> None:
        del records[0]
        raise PartialFailure([0])  # the second one, for the handler

    async def of_changes(changes: list[Change[Image]]) -> None:
        changes.reverse()
        raise PartialFailure([0])

    handler = of_records if takes == "records" else of_changes
    result = await app_of(handler, None).process(batch_of("abc"))
    assert steps(result.not_done) == [0, 1, 2]


@pytest.mark.anyio
async def test_records_of_a_list_that_the_handler_has_changed_are_still_named() -> None:
    async def batch(records: list[Record]) -> None:
        records.reverse()
        raise PartialFailure([records.pop()])

    result = await app_of(batch, None).process(batch_of("abc"))
    assert steps(result.not_done) == [0]


@pytest.mark.anyio
async def test_what_an_earlier_attempt_has_done_to_its_list_does_not_matter() -> None:
    async def twice(call: Call, call_next: Process) -> None:
        with contextlib.suppress(ZeroDivisionError):
            await call_next(call)
        await call_next(call)

    lengths: list[int] = []

    async def batch(records: list[Record]) -> None:
        lengths.append(len(records))
        if len(lengths) == 1:
            records.clear()
            raise ZeroDivisionError
        raise PartialFailure([1])

    result = await app_of(batch, None, middleware=[twice]).process(batch_of("abc"))
    assert lengths == [3, 3]
    assert steps(result.not_done) == [1]


@pytest.mark.anyio
async def test_a_partial_failure_that_has_lost_its_names_fails_the_whole_call() -> None:
    async def batch(records: list[Record]) -> None:
        error = PartialFailure([0])
        error.failed = ()
        raise error

    result = await app_of(batch, None).process(batch_of("abc"))
    assert steps(result.not_done) == [0, 1, 2]


class Forgetful(PartialFailure):
    def __init__(self) -> None:
        """Forget whom it names."""


@pytest.mark.anyio
async def test_a_partial_failure_of_a_kind_that_names_nobody_fails_the_whole_call() -> None:
    async def batch(records: list[Record]) -> None:
        raise Forgetful

    result = await app_of(batch).process(batch_of("abc"))
    assert steps(result.not_done) == [0, 1, 2]


def test_a_partial_failure_names_somebody() -> None:
    with pytest.raises(ValueError, match="names nobody"):
        PartialFailure([])


@pytest.mark.anyio
async def test_a_record_that_one_batch_route_has_failed_still_comes_to_the_others() -> None:
    first, second = Calls(fails={0: "no", 1: "no"}), Calls()
    router = Router()
    router.on_batch(name="first")(first)
    router.on_batch(name="second")(second)
    result = await App(router).process(batch_of("aab"))
    assert first.steps == [[0, 1, 2]]
    assert second.steps == [[0, 2]]
    assert steps(result.not_done) == [0, 1]


@pytest.mark.anyio
async def test_a_record_without_batch_routes_waits_for_its_items_earlier_ones() -> None:
    calls = Calls(fails={0: "no"})
    result = await app_of(calls, when=F.new.step != 1).process(batch_of("aab"))
    assert calls.steps == [[0, 2]]
    assert steps(result.not_done) == [0, 1]


@pytest.mark.anyio
async def test_under_the_policy_stop_no_call_starts_above_a_failure() -> None:
    calls = Calls(fails={1: "no"})
    app = app_of(calls, max_items=2, failure_policy="stop")
    result = await app.process(batch_of("abcdef"))
    assert calls.steps == [[0, 1]]
    assert steps(result.not_done) == [1, 2, 3, 4, 5]


RELEASE = threading.Event()


@dataclass
class Numbered:
    """A model whose validation fails where the item says so; ``made`` notes all steps."""

    id: str
    step: int
    raises: str = ""
    made: ClassVar[list[int]] = []

    def __post_init__(self) -> None:
        self.made.append(self.step)
        if self.raises == "late":
            RELEASE.wait(20)
            return
        errors = {"interrupt": KeyboardInterrupt, "memory": MemoryError, "value": ValueError}
        if self.raises:
            raise errors[self.raises]


def batch_with_invalid(step: int, raises: str) -> Batch:
    raws = [BUILD.insert({"id": str(n), "step": n}) for n in range(4)]
    raws[step]["dynamodb"]["NewImage"]["raises"] = {"S": raises}
    return Batch(decode_records(raws, BUILD.stream_arn))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("policy", "called", "left"), [("stop", [0], [1, 2, 3]), ("stop_item", [0, 2, 3], [1])]
)
async def test_under_the_policy_stop_an_invalid_image_keeps_the_rest_of_its_call_from_starting(
    policy: Any, called: list[int], left: list[int]
) -> None:
    seen: list[int] = []

    async def batch(changes: list[Change[Numbered]]) -> None:
        seen.extend(change.new.step for change in changes if change.new)

    result = await app_of(batch, None, failure_policy=policy).process(
        batch_with_invalid(1, "value")
    )
    assert seen == called
    assert steps(result.not_done) == left


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("raises", "error"), [("interrupt", KeyboardInterrupt), ("memory", MemoryError)]
)
async def test_an_interrupt_or_no_memory_in_a_model_starts_no_call(
    raises: str, error: type[BaseException]
) -> None:
    seen: list[int] = []

    async def batch(changes: list[Change[Numbered]]) -> None:
        seen.extend(change.new.step for change in changes if change.new)

    with pytest.raises(error):
        await app_of(batch, None).process(batch_with_invalid(1, raises))
    assert seen == []


def test_models_are_asked_nothing_more_once_the_answer_has_been_given() -> None:
    Numbered.made.clear()
    RELEASE.clear()

    def batch(changes: list[Change[Numbered]]) -> None:
        """Is not called."""

    late, free = batch_with_invalid(1, "late"), threading.Event()
    app = app_of(batch, None, threads=1)
    result = run(app, Batch(late.records, late.source_arn, Deadline.after(0.8)))
    RELEASE.set()
    app._threads.start(free.set)
    assert free.wait(20)
    assert Numbered.made == [0, 1]
    assert len(result.not_done) == 4


@pytest.mark.anyio
async def test_an_interrupt_in_a_model_cuts_off_what_runs_beside_batch_routes() -> None:
    async def own(new: Image) -> None:
        await anyio.sleep(99 if new["step"] == 1 else 0)

    async def batch(changes: list[Change[Numbered]]) -> None:
        """Is not called."""

    batch_ = batch_with_invalid(0, "interrupt")
    began = anyio.current_time()
    with pytest.raises(KeyboardInterrupt):
        await app_of(batch, own).process(Batch(batch_.records, batch_.source_arn, in_seconds(100)))
    assert anyio.current_time() - began < 50


@pytest.mark.anyio
async def test_above_an_unreadable_record_no_batch_route_runs() -> None:
    raws = [BUILD.insert({"id": str(n), "step": n}) for n in range(4)]
    del raws[2]["dynamodb"]["Keys"]
    calls = Calls()
    result = await app_of(calls).process(Batch(decode_records(raws, BUILD.stream_arn)))
    assert calls.steps == [[0, 1]]
    assert len(result.not_done) == 2


@pytest.mark.anyio
async def test_the_mark_moves_with_every_chunk() -> None:
    told: list[int] = []
    app = app_of(Calls(seconds=0.1), max_items=2)
    await app.process(batch_of("abcde"), on_progress=lambda record: told.append(step_of(record)))
    assert told == [1, 3, 4]


# Only the last record of an item.


def only_last(*raws: dict[str, Any], filters: Any = ()) -> list[list[Any]]:
    """Return what a batch route for puts is called with: item and version."""
    seen: list[list[Any]] = []
    router = Router()

    @router.on_batch("INSERT", "MODIFY", latest_only=True, when=filters, name="index")
    async def index(changes: list[Change[dict[str, Any]]]) -> None:
        seen.append([(c.new["id"], int(c.new["v"])) for c in changes if c.new])

    with TestClient(router) as stream:
        assert stream.send(list(raws)).failed is None
    return seen


def put(item: str, version: int, **attributes: Any) -> dict[str, Any]:
    return BUILD.insert({"id": item, "v": version, **attributes})


def test_the_last_record_of_each_item_is_passed_and_earlier_ones_are_done_with_it() -> None:
    assert only_last(put("a", 1), put("b", 1), put("a", 2), put("b", 2), put("a", 3)) == [
        [("b", 2), ("a", 3)]
    ]


def test_a_delete_that_the_route_does_not_take_still_supersedes_the_update() -> None:
    assert only_last(put("a", 1), BUILD.remove({"id": "a", "v": 1})) == []


def test_a_change_that_the_filter_refuses_still_supersedes_an_earlier_one() -> None:
    first, second = put("a", 1, kind="product"), put("a", 2, kind="draft")
    assert only_last(first, second, filters=F.new.kind == "product") == []


@pytest.mark.anyio
async def test_a_change_that_no_route_takes_supersedes_from_behind_another_items_failure() -> None:
    raws = [put(item, version) for version, item in enumerate("abcb")]
    seen: list[int] = []
    router = Router()

    async def own(new: Image) -> None:
        if new["v"] == 2:
            raise ValueError("no")

    async def batch(records: list[Record]) -> None:
        seen.extend(int(record.new["v"]) for record in records if record.new)

    router.add_route(["INSERT"], own, F.new.v != 3, name="own")
    router.on_batch(name="batch", latest_only=True, when=F.new.v != 3)(batch)
    records = decode_records(raws, BUILD.stream_arn)
    result = await App(router, order_by="shard").process(Batch(records))
    assert seen == [0]
    assert result.not_done == records[2:]


@pytest.mark.anyio
async def test_the_item_with_the_lowest_record_comes_first_with_its_last_one() -> None:
    calls = Calls()
    await app_of(calls, latest_only=True, max_items=1).process(batch_of("abba"))
    assert calls.steps == [[3], [2]]


@pytest.mark.anyio
async def test_what_a_failed_record_stands_for_is_not_passed_in_its_place() -> None:
    calls = Calls(fails={1: "no"})

    async def own(new: Image) -> None:
        await anyio.sleep(5 if new["step"] == 2 else 0)  # and then they look again

    app = app_of(calls, own, latest_only=True, failure_policy="stop")
    batch = batch_of("aab")
    await app.process(Batch(batch.records, batch.source_arn, in_seconds(10)))
    assert calls.steps == [[1]]


@pytest.mark.anyio
async def test_what_a_failed_record_stands_for_holds_back_all_that_comes_later_in_its_lane() -> (
    None
):
    calls = Calls(fails={2: "no"})
    app = app_of(calls, None, latest_only=True, order_by="shard")
    result = await app.process(batch_of("aba"))
    assert [outcome.status for outcome in result.outcomes] == [Status.NOT_DONE, Status.FAILED]
    assert steps(result.not_done) == [0, 1, 2]


def test_items_are_told_apart_where_lanes_hold_several() -> None:
    seen: list[int] = []

    async def batch(records: list[Record]) -> None:
        seen.extend(map(step_of, records))

    app = app_of(batch, None, latest_only=True, order_by="shard")
    run(app, batch_of("abab"))
    assert seen == [2, 3]


@pytest.mark.anyio
async def test_where_the_last_record_fails_the_one_before_it_is_passed() -> None:
    calls = Calls()

    async def own(new: Image) -> None:
        if new["step"] == 2:
            raise ValueError("no")

    result = await app_of(calls, own, latest_only=True).process(batch_of("aaa"))
    assert calls.steps == [[1]]
    assert steps(result.not_done) == [2]


@pytest.mark.anyio
async def test_where_the_passed_record_fails_those_before_it_are_not_done() -> None:
    calls = Calls(fails={3: "no"})
    result = await app_of(calls, latest_only=True).process(batch_of("aaba"))
    assert calls.steps == [[2, 3]]
    assert steps(result.not_done) == [0, 1, 3]


@pytest.mark.anyio
@pytest.mark.parametrize("last", ["put", "unmatched"])
async def test_a_record_above_a_failure_that_stops_all_keeps_none_before_it_from_its_turn(
    last: str,
) -> None:
    raws = [put(item, step, step=step) for step, item in enumerate("abxa")]
    del raws[2]["dynamodb"]["Keys"]
    if last == "unmatched":
        raws[3]["dynamodb"]["NewImage"]["v"] = {"N": "99"}
    calls = Calls()
    app = app_of(calls, None, latest_only=True, when=F.new.v != 99)
    records = decode_records(raws, BUILD.stream_arn)
    result = await app.process(Batch(records))
    assert calls.steps == [[0, 1] if last == "put" else [1]]
    assert result.failed is records[2]


@pytest.mark.anyio
async def test_an_unmatched_record_behind_an_unreadable_one_of_its_item_comes_again() -> None:
    raws = [BUILD.insert({"id": "a", "step": 0}), BUILD.remove({"id": "a", "step": 0})]
    raws[0]["eventName"] = "RENAME"
    router = Router()
    router.on_batch("INSERT", latest_only=True, name="batch")(Calls().sync)
    records = decode_records(raws, BUILD.stream_arn)
    result = await App(router).process(Batch(records))
    assert result.not_done == records


# Deadlines.


@pytest.mark.anyio
@pytest.mark.parametrize("latest_only", [False, True])
@pytest.mark.parametrize("seconds", [0.5, 2.9])
@pytest.mark.parametrize("items", ["abcdefghijklmnopqrst", "aaaaaaaaaaaaaaaaaaaa", "aabbaabbccab"])
async def test_work_longer_than_the_deadline_advances_with_every_delivery(
    items: str, seconds: float, *, latest_only: bool
) -> None:
    calls = Calls(seconds=0.5)

    async def own(new: Image) -> None:
        await anyio.sleep(seconds)

    batch, before = batch_of(items), -1
    for _ in range(len(items) + 1):
        app = app_of(calls, own, max_items=4, latest_only=latest_only, concurrency=2)
        deadline = in_seconds(10)
        result = await app.process(Batch(batch.records, batch.source_arn, deadline))
        assert deadline.remaining() > 0
        if result.failed is None:
            return
        assert step_of(result.failed) > before
        before = step_of(result.failed)
        batch = rest_of(batch, result.failed)
    raise AssertionError("it never ends")


@pytest.mark.anyio
async def test_the_lowest_record_comes_first_even_if_its_lane_ends_last() -> None:
    calls = Calls(seconds=1)

    async def own(new: Image) -> None:
        await anyio.sleep(5 if new["step"] == 0 else 0)

    batch = batch_of("abcdefgh")
    await app_of(calls, own, max_items=1).process(
        Batch(batch.records, batch.source_arn, in_seconds(10))
    )
    assert calls.steps == [[1], [0], [2], [3]]


@pytest.mark.anyio
async def test_no_batch_call_starts_that_the_deadline_may_cut_off() -> None:
    calls = Calls(seconds=0.7)
    batch = batch_of("abcdefghijklmnop")
    result = await app_of(calls, None, max_items=1).process(
        Batch(batch.records, batch.source_arn, in_seconds(10))
    )
    assert len(calls.steps) == 12  # the last one at 7.7 s: from 8 s on nothing starts
    assert {outcome.status for outcome in result.outcomes} == {Status.DONE}


@pytest.mark.anyio
async def test_no_batch_call_starts_once_the_caller_says_so() -> None:
    calls = Calls()
    result = await app_of(calls, None, max_items=2).process(
        batch_of("abcdef"), may_start=lambda: sum(map(len, calls.steps)) < 4
    )
    assert calls.steps == [[0, 1], [2, 3]]
    assert steps(result.not_done) == [4, 5]


@pytest.mark.anyio
async def test_a_lane_that_hangs_takes_no_turn_from_batch_routes_over_the_others() -> None:
    calls = Calls()

    async def own(new: Image) -> None:
        await anyio.sleep({0: 1, 1: 99, 2: 5.5}[int(new["step"])])

    app = app_of(calls, own)
    batch = batch_of("abc")
    result = await app.process(Batch(batch.records, batch.source_arn, in_seconds(10)))
    assert calls.steps == [[0], [2]]
    assert steps(result.not_done) == [1]


@pytest.mark.anyio
async def test_no_batch_call_meets_a_call_of_the_same_item_that_still_runs() -> None:
    calls = Calls()

    async def own(new: Image) -> None:
        await anyio.sleep(99 if new["step"] == 1 else 0)

    batch = batch_of("aab")
    app = app_of(calls, own)
    result = await app.process(Batch(batch.records, batch.source_arn, in_seconds(10)))
    assert calls.steps == [[2]]
    assert steps(result.not_done) == [0, 1]


def test_in_threads_a_call_that_hangs_takes_no_turn_from_batch_routes_over_the_others() -> None:
    release, calls = threading.Event(), Calls()

    def own(new: Image) -> None:
        if new["step"] == 1:
            release.wait(20)

    batch = batch_of("aabc")
    deadline = Deadline.after(0.6)
    result = run(app_of(calls.sync, own), Batch(batch.records, batch.source_arn, deadline))
    release.set()
    assert calls.steps == [[2, 3]]
    assert steps(result.not_done) == [0, 1]


def test_no_batch_call_meets_a_call_that_a_thread_has_begun_and_handed_over() -> None:
    events: list[str] = []
    handed_over, ended = threading.Event(), threading.Event()

    async def rest() -> None:
        events.append("own 1 ends")

    def own(new: Image) -> Any:
        step = int(new["step"])
        if step == 1:
            events.append("own 1 begins")
            handed_over.wait(20)
            return rest()
        if step == 2:
            ended.wait(0.6)  # long enough for another look at what is ready
        return None

    def batch(records: list[Record]) -> None:
        events.append(f"batch {steps(tuple(records))}")
        handed_over.set()

    app = app_of(batch, own, max_items=1)
    run(app, batch_of("aabc", deadline=Deadline.after(1.2)))
    assert "batch [0]" not in itertools.takewhile(lambda event: event != "own 1 ends", events)


@pytest.mark.anyio
async def test_a_clock_that_goes_slow_lets_no_lane_start_beside_its_batch_call() -> None:
    running: set[str] = set()

    async def busy(items: set[str], seconds: float) -> None:
        assert not running & items
        running.update(items)
        await anyio.sleep(seconds)
        running.difference_update(items)

    async def own(new: Image) -> None:
        await busy({new["id"]}, 1)

    async def batch(records: list[Record]) -> None:
        await busy({record.keys["id"] for record in records}, 3)

    slow = Deadline(anyio.current_time() / 3 + 4, lambda: anyio.current_time() / 3)
    router = Router()
    router.on_insert(name="own")(own)
    router.on_batch(name="batch", when=F.new.step != 1)(batch)
    result = await App(router, concurrency=2).process(
        batch_of("abcabcabcabc", deadline=slow), shared=True
    )
    assert result.errors == []


@pytest.mark.anyio
async def test_a_batch_call_beyond_the_deadline_is_cut_off_and_none_of_it_is_done() -> None:
    calls = Calls(seconds=99)
    batch = batch_of("abc")
    result = await app_of(calls, max_items=2).process(
        Batch(batch.records, batch.source_arn, in_seconds(10))
    )
    assert steps(result.not_done) == [0, 1, 2]
    assert [outcome.status for outcome in result.outcomes if outcome.route == "batch"] == [
        Status.NOT_DONE,
        Status.NOT_DONE,
    ]


def test_in_threads_a_hanging_call_is_lost_with_the_items_that_it_works_on() -> None:
    release, calls = threading.Event(), Calls()

    def batch(records: list[Record]) -> None:
        calls.note(records)
        if len(calls.steps) == 1:
            release.wait(20)

    app = app_of(batch, None, max_items=2, threads=2)
    host, records = Host(app), batch_of("abcd")
    first = host.process(Batch(records.records, records.source_arn, Deadline.after(0.8)))
    assert steps(first.not_done) == [0, 1, 2, 3]
    second = host.process(Batch(records.records, records.source_arn, Deadline.after(0.8)))
    assert steps(second.not_done) == [0, 1]  # c and d are free, a and b are still worked on
    release.set()
    assert host.process(records).failed is None
    assert calls.steps == [[0, 1], [2, 3], [0, 1]]  # that c and d are done is remembered


class Impatient:
    """Sync handlers in threads that a middleware gives up on; notes where two of an item meet."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.running: list[str] = []
        self.met: list[str] = []
        self.called: list[tuple[str, list[int]]] = []

    async def __call__(self, call: Call, call_next: Process) -> None:
        with anyio.move_on_after(0.01):
            await call_next(call)

    def waits(self, records: list[Record], context: HandlerContext) -> None:
        self._note(context)
        items = [str(record.keys["id"]) for record in records]
        self.running += items
        self.release.wait(20)
        for item in items:
            self.running.remove(item)

    def waits_alone(self, record: Record, context: HandlerContext) -> None:
        self.waits([record], context)

    async def looks(self, records: list[Record], context: HandlerContext) -> None:
        self._note(context)
        self.met += [r.keys["id"] for r in records if r.keys["id"] in self.running]

    def _note(self, context: HandlerContext) -> None:
        self.called.append((context.route, steps(context.records)))

    async def process(self, app: App, batch: Batch) -> BatchResult:
        async with anyio.create_task_group() as group:
            group.start_soon(self._release_later)
            return await app.process(batch)
        raise AssertionError("unreachable")

    async def _release_later(self) -> None:
        with anyio.move_on_after(0.5):
            while len(self.called) < 2:
                await anyio.sleep(0.01)
        await anyio.sleep(0.1)
        self.release.set()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_batch_call_waits_for_lost_calls_of_its_records_own_routes(backend: str) -> None:
    handlers = Impatient()
    lone, router = Router(middleware=[handlers]), Router()
    lone.add_route(["INSERT"], handlers.waits_alone, F.new.id != "c", name="own")
    router.on_batch(name="batch")(handlers.looks)
    result = anyio.run(handlers.process, App(lone, router), batch_of("abc"), backend=backend)
    assert handlers.met == []
    assert result.failed is None


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_batch_call_waits_for_lost_calls_of_batch_routes(backend: str) -> None:
    handlers = Impatient()
    first, router = Router(middleware=[handlers]), Router()
    first.on_batch(name="first", max_items=1)(handlers.waits)
    router.on_batch(name="second", max_items=1)(handlers.looks)
    result = anyio.run(handlers.process, App(first, router), batch_of("aba"), backend=backend)
    assert handlers.met == []
    assert result.failed is None


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_lost_call_that_does_not_come_back_costs_its_items_only(backend: str) -> None:
    handlers = Impatient()
    lone, router = Router(middleware=[handlers]), Router()
    lone.add_route(["INSERT"], handlers.waits_alone, F.new.id == "b", name="own")
    router.on_batch(name="batch")(handlers.looks)
    batch = batch_of("abc", deadline=Deadline.after(0.8))
    result = anyio.run(App(lone, router).process, batch, backend=backend)
    handlers.release.set()
    assert steps(result.not_done) == [1]


# Threads, loops, and what is no Exception.


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_sync_batch_routes_run_without_a_loop(threads: int) -> None:
    names: set[str] = set()
    calls = Calls(fails={1: "no"})

    def batch(records: list[Record]) -> None:
        names.add(threading.current_thread().name)
        calls.sync(records)

    def own(new: Image) -> None:
        """Take any record."""

    app = app_of(batch, own, threads=threads)
    work = app.begin(app.plan(batch_of("abc")))
    assert not work.needs_loop
    app.run_without_loop(work)
    assert not work.needs_loop
    assert steps(work.finish().not_done) == [1]
    assert names == {"dynaflow" if threads else threading.main_thread().name}


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("is_async", [True, False])
def test_sync_and_async_routes_mix(threads: int, *, is_async: bool) -> None:
    calls = Calls()

    def own(new: Image) -> None:
        """Take any record."""

    app = app_of(calls if is_async else calls.sync, own if is_async else nothing, threads=threads)
    assert run(app, batch_of("abc")).failed is None
    assert calls.steps == [[0, 1, 2]]


@pytest.mark.parametrize("threads", [0, 2])
def test_what_a_sync_batch_route_returns_to_be_awaited_is_awaited(threads: int) -> None:
    calls = Calls(fails={1: "no"})

    def batch(records: list[Record]) -> Any:  # not async, as far as can be seen
        return calls(records)

    app = app_of(batch, None, threads=threads, max_items=2)
    result = run(app, batch_of("abcd"))
    assert calls.steps == [[0, 1], [2, 3]]
    assert steps(result.not_done) == [1]
    assert app.begin(app.plan(batch_of("a"))).needs_loop  # from now on


def test_what_own_routes_return_to_be_awaited_keeps_no_record_from_its_call() -> None:
    calls = Calls()

    async def rest() -> None:
        """Be awaited."""

    def own(new: Image) -> Any:
        return rest() if new["step"] == 1 else None

    assert run(app_of(calls.sync, own, threads=2), batch_of("abc")).failed is None
    assert calls.steps == [[0, 1, 2]]


@pytest.mark.parametrize("in_time", [True, False])
def test_a_coroutine_that_nobody_will_await_is_closed(*, in_time: bool) -> None:
    returned: list[Any] = []
    release, returns = threading.Event(), threading.Event()

    async def rest() -> None:
        """Is not awaited."""

    def batch(records: list[Record]) -> Any:
        if not in_time:
            release.wait(20)
        returned.append(rest())
        return returned[0]

    app = app_of(batch, None, threads=1)
    work = app.begin(app.plan(batch_of("abc", deadline=Deadline.after(0.8))))
    app.run_without_loop(work)
    assert work.finish().failed is not None
    release.set()
    app._lost.tell_when_free(work.lanes[0].key, returns.set)
    assert returns.wait(20)
    while inspect.getcoroutinestate(returned[0]) != inspect.CORO_CLOSED:
        assert not in_time
        returns.wait()


def test_images_are_made_once_for_a_call_that_is_handed_over() -> None:
    Numbered.made.clear()

    async def rest() -> None:
        raise PartialFailure([1])

    def batch(changes: list[Change[Numbered]]) -> Any:
        return rest()

    result = run(app_of(batch, None), batch_of("abc"))
    assert Numbered.made == [0, 1, 2]
    assert steps(result.not_done) == [1]


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("error", [SystemExit, GeneratorExit, PartialFailure([0])])
def test_whatever_is_raised_is_a_failure_and_nothing_more(threads: int, error: Any) -> None:
    def batch(records: list[Record]) -> None:
        raise error

    result = run(app_of(batch, None, threads=threads), batch_of("abc"))
    assert steps(result.not_done)[0] == 0


@pytest.mark.anyio
async def test_concurrency_bounds_batch_calls_too() -> None:
    running, peak = 0, 0

    async def busy(*_: object) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await anyio.sleep(0.1)
        running -= 1

    async def own(new: Image) -> None:
        await busy()

    async def batch(records: list[Record]) -> None:
        await busy()

    app = app_of(batch, own, concurrency=1, max_items=1)
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(app.process, batch_of("ab"))
    assert peak == 1


def test_no_more_threads_than_the_app_has_run_batch_routes_beside_lanes() -> None:
    release = threading.Event()
    running: list[int] = []
    peak: list[int] = []

    def busy(step: int) -> None:
        running.append(step)
        peak.append(len(running))
        if step == 1:
            release.wait(20)
        running.remove(step)

    def own(new: Image) -> None:
        busy(int(new["step"]))

    def batch(records: list[Record]) -> None:
        busy(9)

    run(app_of(batch, own, threads=1), batch_of("abc", deadline=Deadline.after(0.8)))
    release.set()
    assert max(peak) == 1


@pytest.mark.anyio
async def test_a_batch_that_is_done_waits_for_no_slot() -> None:
    ended: dict[int, float] = {}

    async def batch(records: list[Record]) -> None:
        await anyio.sleep(99 if len(records) == 2 else 1)

    app = app_of(batch, None, concurrency=1)

    async def process(size: int) -> None:
        await app.process(batch_of("abc"[:size]))
        ended[size] = anyio.current_time()

    async with anyio.create_task_group() as group:
        group.start_soon(process, 3)
        await anyio.sleep(0.5)
        group.start_soon(process, 2)
    assert ended[2] - ended[3] == pytest.approx(99)


def test_a_failed_call_is_one_log_line_whatever_its_size(caplog: pytest.LogCaptureFixture) -> None:
    def batch(records: list[Record]) -> None:
        raise ValueError("no")

    with caplog.at_level(logging.INFO, "dynaflow"):
        run(app_of(batch, None), batch_of("abcdef"))
    assert len(caplog.records) == 1


def test_ten_thousand_records(stream_records: RecordBuilder) -> None:
    calls: list[int] = []

    async def batch(changes: list[Change[Image]]) -> None:
        calls.append(len(changes))

    with TestClient(app_of(batch, None, max_items=500)) as stream:
        assert _send_many(stream, 10_000) is None
    assert calls == [500] * 20


def _send_many(stream: Stream, count: int) -> object:
    raws = [stream.records.insert({"id": str(n % 997), "step": n}) for n in range(count)]
    return stream.send(raws).failed
