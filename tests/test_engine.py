"""The engine on both backends, on a virtual clock: lanes, deadlines, cancellation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
import trio.testing

from dynaflow import App, Batch, BatchResult, Deadline, Image, Record, Router, Status
from dynaflow.codec import decode_records
from dynaflow.testing import RecordBuilder
from dynaflow.testing.clock import VirtualTimeLoop
from tests.support.batches import batch_of, rest_of, step_of

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    if request.param == "asyncio":
        # No threads here, so the clock need not wait for any that other tests left behind.
        return "asyncio", {"loop_factory": lambda: VirtualTimeLoop(patience=0)}
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def app_of(handler: Callable[..., Any], **options: Any) -> App:
    router = Router()
    router.add_route(["INSERT", "MODIFY"], handler, name="handler")
    return App(router, **options)


def in_seconds(seconds: float) -> Deadline:
    return Deadline(anyio.current_time() + seconds, anyio.current_time)


def steps(records: tuple[Any, ...]) -> list[int]:
    return [step_of(record) for record in records]


class Watch:
    """A handler that notes when each record runs, and how many run at a time."""

    def __init__(self, seconds: float | dict[str, float] = 0.0) -> None:
        self.seconds = seconds
        self.started: list[tuple[str, int]] = []
        self.ended: list[tuple[str, int]] = []
        self.running = Counter[str]()
        self.peak = 0

    async def __call__(self, new: Image) -> None:
        item, step = new["id"], int(new["step"])
        self.started.append((item, step))
        self.running[item] += 1
        assert self.running[item] == 1, "two records of one item at a time"
        self.peak = max(self.peak, self.running.total())
        seconds = self.seconds if isinstance(self.seconds, float) else self.seconds.get(item, 0.0)
        if seconds:
            await anyio.sleep(seconds)
        self.running[item] -= 1
        self.ended.append((item, step))

    def order_of(self, item: str) -> list[int]:
        return [step for name, step in self.started if name == item]


async def test_a_thousand_records_of_a_hundred_items_use_the_concurrency_they_may() -> None:
    watch = Watch(0.01)
    batch = batch_of(f"item-{n % 100}" for n in range(1000))
    began = anyio.current_time()
    result = await app_of(watch, concurrency=64).process(batch)
    took = anyio.current_time() - began
    assert result.failed is None
    assert watch.peak >= 60
    assert took <= 1.15 * max(10, 1000 / 64) * 0.01
    for n in range(100):
        assert watch.order_of(f"item-{n}") == sorted(watch.order_of(f"item-{n}"))


@pytest.mark.parametrize(
    ("items", "concurrency"),
    [
        (["hot"] * 80 + [f"cold-{n}" for n in range(120)], 8),
        ([f"cold-{n}" for n in range(120)] + ["hot"] * 80, 8),
        ([f"item-{n * n % 37}" for n in range(300)], 16),
        (["only"] * 40, 64),
    ],
)
async def test_the_makespan_stays_near_the_bound_whatever_the_lanes_look_like(
    items: list[str], concurrency: int
) -> None:
    watch = Watch(0.01)
    longest = max(Counter(items).values())
    began = anyio.current_time()
    await app_of(watch, concurrency=concurrency).process(batch_of(items))
    took = anyio.current_time() - began
    assert took <= 1.15 * max(longest, math.ceil(len(items) / concurrency)) * 0.01


async def test_calls_of_an_item_never_overlap_and_keep_the_order_of_the_stream() -> None:
    watch = Watch({"slow": 0.5, "fast": 0.001})
    items = ["slow", "fast", "fast", "slow", "fast", "slow"]
    assert (await app_of(watch).process(batch_of(items))).failed is None
    assert watch.order_of("slow") == [0, 3, 5]
    assert watch.order_of("fast") == [1, 2, 4]
    assert watch.ended[-1] == ("slow", 5)


async def test_concurrency_one_runs_one_record_at_a_time_in_stream_order() -> None:
    watch = Watch(0.01)
    await app_of(watch, concurrency=1).process(batch_of("abcabc"))
    assert watch.peak == 1
    assert [step for _, step in watch.started] == [0, 1, 2, 3, 4, 5]


async def test_a_failure_holds_back_only_the_later_records_of_its_item() -> None:
    async def handler(new: Image) -> None:
        if new["step"] == 2:
            raise ValueError("no")

    result = await app_of(handler).process(batch_of("abbcbab"))
    assert steps(result.not_done) == [2, 4, 6]
    assert result.failed is not None
    assert step_of(result.failed) == 2
    assert [type(error) for error in result.errors] == [ValueError]


async def test_under_the_policy_stop_nothing_above_the_lowest_failure_starts() -> None:
    watch = Watch(0.01)

    async def handler(new: Image) -> None:
        await watch(new)
        if new["step"] == 3:
            raise ValueError("no")

    app = app_of(handler, failure_policy="stop", concurrency=1)
    result = await app.process(batch_of("abcdefg"))
    assert [step for _, step in watch.started] == [0, 1, 2, 3]
    assert steps(result.not_done) == [3, 4, 5, 6]


async def test_every_matching_route_of_a_record_is_tried_and_one_failure_fails_it() -> None:
    router, called = Router(), []

    @router.on_insert()
    async def first() -> None:
        called.append("first")
        raise ValueError("no")

    @router.on_insert()
    async def second() -> None:
        called.append("second")

    result = await App(router).process(batch_of("a"))
    assert called == ["first", "second"]
    assert len(result.not_done) == 1
    assert [outcome.status for outcome in result.outcomes] == [Status.FAILED, Status.DONE]


async def test_a_filter_that_raises_fails_its_record_and_holds_back_its_item() -> None:
    def broken(record: Record) -> bool:
        return bool(1 // (step_of(record) - 1))

    router, seen = Router(), []

    @router.on_insert(broken)
    async def picky(new: Image) -> None:
        seen.append(int(new["step"]))

    @router.on_insert()
    async def other(new: Image) -> None:
        seen.append(int(new["step"]) + 100)

    result = await App(router).process(batch_of("abba"))
    assert steps(result.not_done) == [1, 2]
    assert sorted(seen) == [0, 100, 101, 103]
    assert isinstance(result.errors[0], ZeroDivisionError)


async def test_an_undecodable_record_with_keys_fails_in_its_lane() -> None:
    raws = _raws("abbab")
    raws[2]["eventName"] = "REPLACE"
    watch = Watch()
    result = await app_of(watch).process(Batch(decode_records(raws, "arn")))
    assert [batch_index(raws, record) for record in result.not_done] == [2, 4]
    assert sorted(step for _, step in watch.started) == [0, 1, 3]


async def test_nothing_above_an_undecodable_record_without_keys_starts() -> None:
    raws = _raws("abcab")
    del raws[2]["dynamodb"]["Keys"]
    watch = Watch()
    result = await app_of(watch).process(Batch(decode_records(raws, "arn")))
    assert [batch_index(raws, record) for record in result.not_done] == [2, 3, 4]
    assert sorted(step for _, step in watch.started) == [0, 1]


async def test_nothing_above_a_record_whose_key_cannot_be_read_starts() -> None:
    raws = _raws("abca")
    raws[1]["dynamodb"]["Keys"] = {"id": {"S": 1}}
    watch = Watch()
    result = await app_of(watch).process(Batch(decode_records(raws, "arn")))
    assert [batch_index(raws, record) for record in result.not_done] == [1, 2, 3]
    assert [step for _, step in watch.started] == [0]


async def test_records_that_no_route_takes_are_done() -> None:
    result = await App(Router()).process(batch_of("abc"))
    assert result == BatchResult()


async def test_the_same_record_twice_runs_twice_one_after_the_other() -> None:
    batch = batch_of("a")
    watch = Watch(0.01)
    result = await app_of(watch).process(Batch(batch.records * 2))
    assert len(watch.started) == 2
    assert result.failed is None


async def test_keys_that_are_equal_by_value_share_a_lane() -> None:
    build = RecordBuilder(keys=("n",))
    raws = [
        build.insert({"n": 1, "id": "x", "step": 0}),
        build.insert({"n": 1, "id": "x", "step": 1}),
    ]
    raws[1]["dynamodb"]["Keys"] = {"n": {"N": "1.0"}}
    watch = Watch(0.01)
    result = await app_of(watch).process(Batch(decode_records(raws, "arn")))
    assert watch.peak == 1
    assert result.failed is None


# -- deadlines ------------------------------------------------------------------------------------


async def test_nothing_starts_at_twice_the_margin_and_calls_are_cut_at_the_margin() -> None:
    began = anyio.current_time()
    starts: list[float] = []
    cut: list[float] = []

    async def handler(new: Image) -> None:
        starts.append(anyio.current_time() - began)
        try:
            await anyio.sleep(1 if new["id"] == "steady" else math.inf)
        except anyio.get_cancelled_exc_class():
            cut.append(anyio.current_time() - began)
            raise

    batch = batch_of(["hangs"] + ["steady"] * 12, deadline=in_seconds(10))
    result = await app_of(handler).process(batch)
    # 10 s at entry: the margin is 1 s, so nothing starts from 8 s on and all is cut at 9 s.
    assert max(starts) == pytest.approx(7)
    assert cut == pytest.approx([9])
    assert steps(result.not_done) == [0, 9, 10, 11, 12]
    assert anyio.current_time() - began == pytest.approx(9)
    assert [o.status for o in result.outcomes if step_of(o.record) == 0] == [Status.NOT_DONE]


@pytest.mark.parametrize(("left", "margin"), [(1.0, 0.25), (3.0, 0.5), (60.0, 6.0)])
async def test_the_margin_depends_on_the_time_that_is_left(left: float, margin: float) -> None:
    began = anyio.current_time()

    async def handler() -> None:
        await anyio.sleep(math.inf)

    await app_of(handler).process(batch_of("a", deadline=in_seconds(left)))
    assert anyio.current_time() - began == pytest.approx(left - margin)


async def test_a_deadline_that_has_passed_starts_nothing() -> None:
    watch = Watch()
    result = await app_of(watch).process(batch_of("ab", deadline=in_seconds(-1)))
    assert watch.started == []
    assert steps(result.not_done) == [0, 1]


@pytest.mark.parametrize(
    "items",
    [
        [f"item-{n}" for n in range(400)],
        ["hot"] * 100 + [f"cold-{n}" for n in range(300)],
        [f"cold-{n}" for n in range(300)] + ["hot"] * 100,
        [f"item-{n % 7}" for n in range(400)],
        ["hot" if n % 3 else f"cold-{n}" for n in range(300)],
    ],
)
async def test_work_twice_as_long_as_the_deadline_advances_the_mark_at_every_delivery(
    items: list[str],
) -> None:
    batch, concurrency, seconds = batch_of(items), 4, 0.1
    needed = max(math.ceil(len(items) / concurrency), *Counter(items).values()) * seconds
    for _ in range(40):
        deadline = in_seconds(needed / 2)
        app = app_of(Watch(seconds), concurrency=concurrency)  # a fresh process remembers nothing
        result = await app.process(rest_of(batch, batch.records[0], deadline=deadline))
        if result.failed is None:
            return
        assert result.failed is not batch.records[0], "the mark did not advance"
        batch = rest_of(batch, result.failed)
    pytest.fail("the batch never ended")


# -- cancellation ---------------------------------------------------------------------------------


async def test_a_cancellation_from_outside_really_cancels_and_tells_the_progress() -> None:
    cancelled: list[int] = []
    told: list[int] = []

    async def handler(new: Image) -> None:
        if new["step"] < 2:
            return
        try:
            await anyio.sleep(math.inf)
        except anyio.get_cancelled_exc_class():
            cancelled.append(int(new["step"]))
            raise

    with anyio.move_on_after(1) as scope:
        await app_of(handler).process(
            batch_of("abcdea"), on_progress=lambda record: told.append(step_of(record))
        )
        pytest.fail("process returned although it was cancelled")
    assert scope.cancelled_caught
    assert sorted(cancelled) == [2, 3, 4, 5]
    assert told[-1] == 1


async def test_no_record_starts_once_the_batch_is_cancelled() -> None:
    started: list[int] = []

    async def handler(new: Image) -> None:
        started.append(int(new["step"]))
        try:
            await anyio.sleep(math.inf)
        except anyio.get_cancelled_exc_class():
            if new["step"] == 0:
                raise RuntimeError("swallows its cancellation") from None
            raise

    async with anyio.create_task_group() as group:
        group.start_soon(app_of(handler, concurrency=1).process, batch_of("abc"))
        await anyio.sleep(1)
        group.cancel_scope.cancel()
    assert started == [0]


async def test_a_scope_of_the_handlers_own_that_times_out_is_no_failure() -> None:
    async def handler() -> None:
        with anyio.move_on_after(0.1):
            await anyio.sleep(math.inf)

    result = await app_of(handler).process(batch_of("aab", deadline=in_seconds(60)))
    assert result.failed is None


# -- errors that are no Exception -----------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [SystemExit(3), GeneratorExit(), BaseExceptionGroup("g", [SystemExit()])]
)
async def test_a_handlers_base_exception_is_the_failure_of_its_record(error: BaseException) -> None:
    async def handler(new: Image) -> None:
        if new["step"] == 1:
            raise error

    result = await app_of(handler).process(batch_of("abc"))
    assert steps(result.not_done) == [1]
    assert result.errors == [error]


async def test_a_keyboard_interrupt_ends_the_batch_and_is_raised() -> None:
    told: list[int] = []

    async def handler(new: Image) -> None:
        if new["step"] == 1:
            raise KeyboardInterrupt
        if new["step"] == 2:
            await anyio.sleep(math.inf)

    app = app_of(handler)
    with pytest.raises(KeyboardInterrupt):
        await app.process(batch_of("abc"), on_progress=lambda r: told.append(step_of(r)))
    assert told == [0]


async def test_a_memory_error_stops_new_records_and_is_raised_after_the_others_have_ended() -> None:
    watch = Watch(1.0)

    async def handler(new: Image) -> None:
        if new["step"] == 1:
            raise MemoryError
        await watch(new)

    with pytest.raises(MemoryError):
        await app_of(handler, concurrency=2).process(batch_of("abcdef"))
    assert [step for _, step in watch.ended] == [0]


# -- progress and gates ---------------------------------------------------------------------------


async def test_progress_is_the_end_of_the_contiguous_prefix_and_only_grows() -> None:
    told: list[int] = []
    durations = {"a": 0.3, "b": 0.1, "c": 0.2, "d": 0.05}
    await app_of(Watch(durations)).process(
        batch_of("abcd"), on_progress=lambda record: told.append(step_of(record))
    )
    assert told == [3]
    told.clear()
    await app_of(Watch(durations)).process(
        batch_of("dbca"), on_progress=lambda record: told.append(step_of(record))
    )
    assert told == [0, 1, 2, 3]


async def test_a_failed_record_is_never_below_the_progress() -> None:
    told: list[int] = []

    async def handler(new: Image) -> None:
        if new["step"] == 2:
            raise ValueError("no")

    await app_of(handler).process(batch_of("abcd"), on_progress=lambda r: told.append(step_of(r)))
    assert told[-1] == 1


async def test_may_start_is_asked_before_each_record() -> None:
    watch = Watch(0.01)
    app = app_of(watch, concurrency=1)
    result = await app.process(batch_of("abcd"), may_start=lambda: len(watch.started) < 2)
    assert [step for _, step in watch.started] == [0, 1]
    assert steps(result.not_done) == [2, 3]


async def test_calls_that_never_suspend_still_let_other_tasks_run() -> None:
    turns = 0
    done = anyio.Event()

    async def other() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            await anyio.lowlevel.checkpoint()

    async def handler() -> None:
        sum(range(20_000))

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        await app_of(handler, concurrency=1).process(batch_of("a" * 400))
        done.set()
    assert turns > 3


# -- several batches at a time --------------------------------------------------------------------


async def test_concurrency_bounds_all_batches_of_an_app_together() -> None:
    watch = Watch(0.01)
    app = app_of(watch, concurrency=5)
    async with anyio.create_task_group() as group:
        for shard in "xyz":
            group.start_soon(app.process, batch_of(f"{shard}{n}" for n in range(20)))
    assert watch.peak == 5
    assert len(watch.ended) == 60


async def test_a_batch_whose_calls_hang_leaves_a_slot_to_the_others() -> None:
    watch = Watch({"stuck": math.inf} | {f"stuck-{n}": math.inf for n in range(50)})
    app = app_of(watch, concurrency=4)
    with anyio.move_on_after(100):
        async with anyio.create_task_group() as group:
            stuck = batch_of(f"stuck-{n}" for n in range(50))
            group.start_soon(lambda: app.process(stuck, shared=True))
            await anyio.sleep(1)
            assert watch.peak == 3
            result = await app.process(batch_of("abc"), shared=True)
            assert result.failed is None
            group.cancel_scope.cancel()
    assert watch.order_of("a") == [0]


@pytest.mark.parametrize("shared", [False, True])
async def test_a_hot_batch_yields_to_one_that_has_nothing(*, shared: bool) -> None:
    watch = Watch(0.1)
    app = app_of(watch, concurrency=4)
    ended: list[str] = []

    async def run(name: str, batch: Batch) -> None:
        await app.process(batch, shared=shared)
        ended.append(name)

    async with anyio.create_task_group() as group:
        group.start_soon(run, "hot", batch_of(f"hot-{n}" for n in range(100)))
        await anyio.sleep(0.05)
        for shard in "xyz":
            group.start_soon(run, shard, batch_of([shard]))
    assert ended[-1] == "hot"
    assert watch.peak == 4


def _raws(items: str) -> list[dict[str, Any]]:
    build = RecordBuilder(keys=("id",))
    return [build.insert({"id": item, "step": step}) for step, item in enumerate(items)]


def batch_index(raws: list[dict[str, Any]], record: Any) -> int:
    return raws.index(record.raw)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level("CRITICAL", logger="dynaflow"):
        yield
