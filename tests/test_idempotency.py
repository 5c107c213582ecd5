"""The middleware Idempotent: what it calls, waits for, completes and releases."""

from __future__ import annotations

import logging
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import pytest
import trio.testing

from dynaflow import (
    Call,
    Deadline,
    F,
    HandlerContext,
    Idempotent,
    PartialFailure,
    Record,
    Skip,
)
from dynaflow._mark_keys import MarkKeys
from dynaflow.context import Many
from dynaflow.errors import AlreadyDone, InProgress, NonRetryable, RetryAfter, StoreError
from dynaflow.idempotency import Mark
from dynaflow.retry import without_waits
from dynaflow.stores import MemoryMarks
from dynaflow.testing.clock import VirtualTimeLoop
from tests.support.batches import batch_of

T = TypeVar("T")

BASE = 1_800_000_000.0
"""What time it is, in seconds since the epoch, when a loop's clock says 0."""


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """A loop of each kind, whose time costs nothing."""
    if request.param == "asyncio":
        return "asyncio", {"loop_factory": VirtualTimeLoop}
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


def now() -> float:
    return BASE + anyio.current_time()


def deadline_in(seconds: float) -> Deadline:
    return Deadline.after(seconds, anyio.current_time)


def idempotent(store: MemoryMarks, **options: Any) -> Idempotent:
    return Idempotent(store, clock=now, chance=lambda: 0.0, **options)


def records_of(items: Iterable[str]) -> tuple[Record, ...]:
    records = batch_of(items).records
    assert all(isinstance(record, Record) for record in records)
    return records  # type: ignore[return-value]  # as just asserted


def call_of(
    *records: Record, deadline: Deadline | None = None, lanes: Sequence[str] | None = None
) -> Call:
    """Return a call of the route "ship", of a batch route if there are several records."""
    many = Many(records, (), []) if len(records) > 1 else None
    context = HandlerContext(records[0], "ship", deadline=deadline, many=many)
    if lanes is None:
        lanes = [str(record.keys["id"]) for record in records]
    return Call(context, tuple(lanes))


def key_of(record: Record) -> str:
    return MarkKeys(None, "").of(record, "ship")


async def mark_of(store: MemoryMarks, record: Record) -> Mark | None:
    """Return a record's mark; where there is none, it leaves none."""
    mark = await store.begin(key_of(record), "the test", now=now(), until=now())
    await store.release(key_of(record), "the test")
    return mark


async def state_of(store: MemoryMarks, *records: Record) -> str:
    """Return a letter for each record's mark: done, in progress, or none."""
    marks = [await mark_of(store, record) for record in records]
    return "".join("-" if m is None else "d" if m.is_completed else "p" for m in marks)


@dataclass
class Handler:
    """What a middleware calls on to.

    Args:
        seconds: how long it takes.
        errors: what it raises, call after call; None for success, also when they are used up.
    """

    seconds: float = 0.0
    errors: list[BaseException | None] = field(default_factory=list)
    calls: int = 0
    running: int = 0
    most: int = 0

    async def __call__(self, call: Call) -> None:
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await anyio.sleep(self.seconds)
            error = self.errors.pop(0) if self.errors else None
            if error is not None:
                raise error
        finally:
            self.running -= 1


class Unreachable(MemoryMarks):
    """A store of which some methods fail, the first so many times that they are called.

    Args:
        applied: whether they do their work before they fail: as if the answer were lost.
    """

    def __init__(self, *, applied: bool = False, **failures: int) -> None:
        super().__init__()
        self.failures = failures
        self._applied = applied

    async def begin(self, key: str, token: str, *, now: float, until: float) -> Mark | None:
        return await self._call("begin", super().begin, key, token, now=now, until=until)

    async def renew(self, key: str, token: str, *, until: float) -> bool:
        return await self._call("renew", super().renew, key, token, until=until)

    async def complete(self, key: str, token: str, *, until: float) -> bool:
        return await self._call("complete", super().complete, key, token, until=until)

    async def release(self, key: str, token: str) -> bool:
        return await self._call("release", super().release, key, token)

    async def _call(
        self, name: str, method: Callable[..., Awaitable[T]], *args: str, **times: float
    ) -> T:
        await anyio.lowlevel.checkpoint()
        if self.failures.get(name, 0) <= 0:
            return await method(*args, **times)
        self.failures[name] -= 1
        if self._applied:
            await method(*args, **times)
        raise StoreError("nobody answers")


class Picky(MemoryMarks):
    """A store that completes and releases all marks but those whose keys are ``refused``."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[str] = set()

    async def complete(self, key: str, token: str, *, until: float) -> bool:
        if key in self.refused:
            raise StoreError("not this one")
        return await super().complete(key, token, until=until)

    async def release(self, key: str, token: str) -> bool:
        if key in self.refused:
            raise StoreError("not this one")
        return await super().release(key, token)


class Slow(MemoryMarks):
    """A store of which some methods take so many seconds, before they do anything."""

    def __init__(self, **seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    async def begin(self, key: str, token: str, *, now: float, until: float) -> Mark | None:
        mark = await super().begin(key, token, now=now, until=until)
        await anyio.sleep(self.seconds.get("begin", 0))
        return mark

    async def complete(self, key: str, token: str, *, until: float) -> bool:
        await anyio.sleep(self.seconds.get("complete", 0))
        return await super().complete(key, token, until=until)

    async def release(self, key: str, token: str) -> bool:
        await anyio.sleep(self.seconds.get("release", 0))
        return await super().release(key, token)


# Once


@pytest.mark.anyio
async def test_a_record_that_is_done_is_not_called_again() -> None:
    (record,), handler, layer = records_of("a"), Handler(), idempotent(MemoryMarks())
    await layer(call_of(record), handler)
    with pytest.raises(AlreadyDone):
        await layer(call_of(record), handler)
    assert handler.calls == 1


@pytest.mark.anyio
async def test_another_record_and_another_route_are_called() -> None:
    first, second = records_of("ab")
    handler, layer = Handler(), idempotent(MemoryMarks())
    await layer(call_of(first), handler)
    await layer(call_of(second), handler)
    await layer(Call(HandlerContext(first, "another")), handler)
    assert handler.calls == 3


@pytest.mark.anyio
async def test_a_completed_mark_counts_for_as_long_as_it_is_told_to() -> None:
    (record,), handler = records_of("a"), Handler()
    layer = idempotent(MemoryMarks(), expires_after=100)
    await layer(call_of(record), handler)
    await anyio.sleep(99)
    with pytest.raises(AlreadyDone):
        await layer(call_of(record), handler)
    await anyio.sleep(2)
    await layer(call_of(record), handler)
    assert handler.calls == 2


@pytest.mark.anyio
@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("away"),
        NonRetryable("no"),
        RetryAfter(1),
        InProgress("elsewhere"),
        PartialFailure([0]),
        SystemExit(3),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("seconds", [None, 30])
async def test_a_failure_comes_out_as_itself_and_releases(
    error: BaseException, seconds: float | None
) -> None:
    (record,), store, handler = records_of("a"), MemoryMarks(), Handler(errors=[error])
    deadline = None if seconds is None else deadline_in(seconds)
    layer = idempotent(store)
    with pytest.raises(type(error)) as raised:
        await layer(call_of(record, deadline=deadline), handler)
    assert raised.value is error
    assert await state_of(store, record) == "-"
    await layer(call_of(record, deadline=deadline), handler)
    assert await state_of(store, record) == "d"


@pytest.mark.anyio
@pytest.mark.parametrize("error", [Skip("not for us"), AlreadyDone("by another layer")])
async def test_what_is_left_alone_is_done(error: Skip) -> None:
    (record,), store = records_of("a"), MemoryMarks()
    with pytest.raises(type(error)) as raised:
        await idempotent(store)(call_of(record), Handler(errors=[error]))
    assert raised.value is error
    assert await state_of(store, record) == "d"


@pytest.mark.anyio
async def test_a_second_layer_with_the_same_marks_does_not_wait_for_the_first() -> None:
    (record,), handler, store = records_of("a"), Handler(), MemoryMarks()
    outer, inner = idempotent(store), idempotent(store)

    async def inside(call: Call) -> None:
        await inner(call, handler)

    await outer(call_of(record), inside)
    assert handler.calls == 1
    assert anyio.current_time() == 0
    assert await state_of(store, record) == "d"


@pytest.mark.anyio
async def test_a_second_layer_with_another_store_has_a_mark_of_its_own() -> None:
    (record,), handler = records_of("a"), Handler()
    stores = MemoryMarks(), MemoryMarks()
    outer, inner = map(idempotent, stores)

    async def inside(call: Call) -> None:
        await inner(call, handler)

    await outer(call_of(record), inside)
    assert [await state_of(store, record) for store in stores] == ["d", "d"]


# Held by another


@pytest.mark.anyio
async def test_of_two_calls_at_a_time_one_waits_for_the_other() -> None:
    (record,), handler, layer = records_of("a"), Handler(seconds=3), idempotent(MemoryMarks())
    done: list[str] = []

    async def call() -> None:
        try:
            await layer(call_of(record, deadline=deadline_in(60)), handler)
            done.append("called")
        except AlreadyDone:
            done.append("waited")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call)
        tasks.start_soon(call)
    assert done == ["called", "waited"]
    assert handler.calls == 1
    assert 3 <= anyio.current_time() < 4.1


@pytest.mark.anyio
async def test_a_mark_that_is_released_is_taken_over() -> None:
    (record,), store = records_of("a"), MemoryMarks()
    handler = Handler(seconds=2, errors=[ConnectionError()])
    layer = idempotent(store)

    async def fail() -> None:
        with pytest.raises(ConnectionError):
            await layer(call_of(record), handler)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fail)
        await anyio.sleep(0.5)
        await layer(call_of(record), handler)
    assert handler.calls == 2
    assert handler.most == 1
    assert await state_of(store, record) == "d"


@pytest.mark.anyio
@pytest.mark.parametrize("seconds", [None, 60])
async def test_the_mark_of_a_process_that_died_is_taken_over_when_it_has_expired(
    seconds: float | None,
) -> None:
    (record,), store, handler = records_of("a"), MemoryMarks(), Handler()
    await store.begin(key_of(record), "killed", now=now(), until=now() + 20)
    deadline = None if seconds is None else deadline_in(seconds)
    await idempotent(store)(call_of(record, deadline=deadline), handler)
    assert handler.calls == 1
    assert 20 < anyio.current_time() < 20.2
    assert await state_of(store, record) == "d"


@pytest.mark.anyio
@pytest.mark.parametrize(("seconds", "until"), [(60, 48), (4, 3), (0.8, 0.4), (0.01, 0.005)])
async def test_it_waits_no_longer_than_to_twice_the_margin(seconds: float, until: float) -> None:
    (record,), store, handler = records_of("a"), MemoryMarks(), Handler()
    await store.begin(key_of(record), "another", now=now(), until=now() + 900)
    with pytest.raises(InProgress, match="another delivery works on"):
        await idempotent(store)(call_of(record, deadline=deadline_in(seconds)), handler)
    assert handler.calls == 0
    assert anyio.current_time() == pytest.approx(until)
    assert await state_of(store, record) == "p"


@pytest.mark.anyio
@pytest.mark.parametrize("seconds", [60.0, None])
async def test_it_waits_no_longer_than_to_the_margin_before_a_time_out(
    seconds: float | None,
) -> None:
    (record,), store = records_of("a"), MemoryMarks()
    await store.begin(key_of(record), "another", now=now(), until=now() + 50)
    deadline = None if seconds is None else deadline_in(seconds)
    with anyio.fail_after(5), pytest.raises(InProgress):
        await idempotent(store)(call_of(record, deadline=deadline), Handler())
    assert anyio.current_time() == pytest.approx(4.5, abs=0.02)


@pytest.mark.anyio
async def test_without_a_deadline_it_waits_up_to_the_end_that_the_mark_had_at_first() -> None:
    (record,), store, handler = records_of("a"), MemoryMarks(), Handler(seconds=500)
    layer = idempotent(store)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(layer, call_of(record), handler)
        await anyio.sleep(1)
        with pytest.raises(InProgress):
            await layer(call_of(record), Handler())
        assert 60 <= anyio.current_time() < 63
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_where_nothing_waits_a_held_mark_is_not_waited_for() -> None:
    (record,), store = records_of("a"), MemoryMarks()
    await store.begin(key_of(record), "another", now=now(), until=now() + 20)
    with without_waits(), pytest.raises(InProgress):
        await idempotent(store)(call_of(record, deadline=deadline_in(60)), Handler())
    assert anyio.current_time() == 0


@pytest.mark.anyio
async def test_looks_at_a_held_mark_grow_rarer() -> None:
    (record,), store, looks = records_of("a"), MemoryMarks(), []

    class Watched(MemoryMarks):
        async def begin(self, key: str, token: str, *, now: float, until: float) -> Mark | None:
            looks.append(round(anyio.current_time(), 3))
            return await store.begin(key, token, now=now, until=until)

    await store.begin(key_of(record), "another", now=now(), until=now() + 900)
    with pytest.raises(InProgress):
        await idempotent(Watched())(call_of(record, deadline=deadline_in(6)), Handler())
    assert looks == [0, 0.1, 0.3, 0.7, 1.5, 2.5, 3.5, 4.5, 4.8]


# While it runs


@pytest.mark.anyio
async def test_with_a_deadline_a_mark_lives_until_then_and_a_moment_longer() -> None:
    (record,), store = records_of("a"), MemoryMarks()

    async def look(call: Call) -> None:
        mark = await mark_of(store, record)
        assert mark is not None
        assert mark.expires_at - BASE == pytest.approx(31)

    await idempotent(store)(call_of(record, deadline=deadline_in(30)), look)


@pytest.mark.anyio
async def test_without_a_deadline_a_mark_is_renewed_while_the_call_runs() -> None:
    (record,), store, handler = records_of("a"), Unreachable(renew=3), Handler(seconds=200)
    ends: list[float] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(idempotent(store, in_progress_for=30), call_of(record), handler)
        for _ in range(19):
            await anyio.sleep(10.5)
            mark = await mark_of(store, record)
            assert mark is not None, "it has been taken by the test"
            ends.append(mark.expires_at - BASE)
    assert ends[:3] == pytest.approx([30, 50.2, 60.2]), "the store did not take the first renewal"
    assert await state_of(store, record) == "d"


@pytest.mark.anyio
async def test_a_call_whose_mark_was_taken_over_changes_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    (record,), store = records_of("a"), MemoryMarks()

    async def slow(call: Call) -> None:
        await anyio.sleep(5)
        await store.begin(key_of(record), "new", now=now() + 100, until=now() + 200)

    with caplog.at_level(logging.WARNING, "dynaflow"):
        await idempotent(store)(call_of(record, deadline=deadline_in(30)), slow)
    mark = await mark_of(store, record)
    assert mark == Mark("new", is_completed=False, expires_at=BASE + 205)
    assert "another delivery has taken it over" in caplog.text


@pytest.mark.anyio
async def test_a_renewal_that_finds_another_holder_says_so_and_stops(
    caplog: pytest.LogCaptureFixture,
) -> None:
    (record,), store, handler = records_of("a"), MemoryMarks(), Handler(seconds=100)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(idempotent(store, in_progress_for=30), call_of(record), handler)
        await anyio.sleep(5)
        await store.begin(key_of(record), "new", now=now() + 100, until=now() + 1000)
        await anyio.sleep(50)
        assert caplog.text.count("another delivery has taken it over") == 1
    assert caplog.text.count("another delivery has taken it over") == 2, "at its end, again"


# Cut off


@pytest.mark.anyio
@pytest.mark.parametrize("seconds", [None, 30])
async def test_a_cancelled_call_releases_its_mark(seconds: float | None) -> None:
    (record,), store = records_of("a"), Slow(release=0.3)
    deadline = None if seconds is None else deadline_in(seconds)
    with anyio.move_on_after(27) as scope:
        await idempotent(store)(call_of(record, deadline=deadline), Handler(seconds=100))
    assert scope.cancelled_caught
    assert anyio.current_time() == pytest.approx(27.3)
    assert await state_of(store, record) == "-"


@pytest.mark.anyio
async def test_a_release_after_a_cancellation_takes_less_than_half_of_what_is_left() -> None:
    (record,), store = records_of("a"), Slow(release=10)
    with anyio.move_on_after(27) as scope:
        await idempotent(store)(call_of(record, deadline=deadline_in(30)), Handler(seconds=100))
    assert scope.cancelled_caught
    assert 27 < anyio.current_time() < 28.5
    assert await state_of(store, record) == "p", "it stays until its end"


@pytest.mark.anyio
async def test_a_cancellation_while_a_mark_is_taken_gives_it_back() -> None:
    (record,), store, handler = records_of("a"), Slow(begin=10), Handler()
    with anyio.move_on_after(1) as scope:
        await idempotent(store)(call_of(record), handler)
    assert scope.cancelled_caught
    assert handler.calls == 0
    assert await state_of(store, record) == "-"


@pytest.mark.anyio
async def test_a_cancellation_while_many_marks_are_taken_gives_all_of_them_back() -> None:
    records, store, handler = records_of("abcdefghijklmnopqrstuvwxyz"), Slow(begin=10), Handler()
    with anyio.move_on_after(11) as scope:
        await idempotent(store)(call_of(*records), handler)
    assert scope.cancelled_caught
    assert handler.calls == 0
    assert len(store) == 0


@pytest.mark.anyio
async def test_a_cancellation_while_a_mark_is_completed_completes_it_all_the_same() -> None:
    (record,), store, handler = records_of("a"), Slow(complete=0.5), Handler()
    with anyio.move_on_after(0.1) as scope:
        await idempotent(store)(call_of(record, deadline=deadline_in(3)), handler)
    assert scope.cancelled_caught
    assert await state_of(store, record) == "d"


@pytest.mark.anyio
async def test_a_cancellation_that_the_handler_swallows_is_none_of_ours() -> None:
    (record,), store = records_of("a"), Slow()

    async def swallow(call: Call) -> None:
        try:
            await anyio.sleep(100)
        except anyio.get_cancelled_exc_class():
            raise ConnectionError from None

    with anyio.move_on_after(1) as scope:
        await idempotent(store)(call_of(record), swallow)
    assert scope.cancelled_caught
    assert await state_of(store, record) == "-"


@pytest.mark.anyio
@pytest.mark.parametrize("error", [ConnectionError(), None])
async def test_while_a_lost_thread_works_on_its_item_a_mark_stays(
    error: ConnectionError | None,
) -> None:
    (record,), store = records_of("a"), MemoryMarks()
    lost = {"a"}
    call = Call(HandlerContext(record, "ship", deadline=deadline_in(30)), ("a",), lost)
    assert call.still_runs
    handler = Handler(seconds=100 if error is None else 0, errors=[error])
    with anyio.move_on_after(27):
        try:
            await idempotent(store)(call, handler)
        except ConnectionError:
            assert error is not None
    assert await state_of(store, record) == "p"


# The store


@pytest.mark.anyio
async def test_a_store_that_is_away_fails_the_record_before_the_call() -> None:
    (record,), store, handler = records_of("a"), Unreachable(begin=1, release=1), Handler()
    with pytest.raises(StoreError, match="nobody answers"):
        await idempotent(store)(call_of(record), handler)
    assert handler.calls == 0


@pytest.mark.anyio
async def test_a_mark_that_was_taken_although_its_answer_was_lost_is_given_back() -> None:
    (record,), store = records_of("a"), Unreachable(begin=1, applied=True)
    with pytest.raises(StoreError):
        await idempotent(store)(call_of(record), Handler())
    assert await state_of(store, record) == "-"


@pytest.mark.anyio
async def test_a_completion_is_tried_again() -> None:
    (record,), store, handler = records_of("a"), Unreachable(complete=2), Handler()
    await idempotent(store)(call_of(record), handler)
    assert await state_of(store, record) == "d"


@pytest.mark.anyio
async def test_what_is_done_without_a_mark_fails_and_is_not_called_again_by_this_process() -> None:
    (record,), store, handler = records_of("a"), Unreachable(complete=3), Handler()
    layer = idempotent(store)
    with pytest.raises(StoreError, match="the mark that says so was not written"):
        await layer(call_of(record, deadline=deadline_in(30)), handler)
    assert await state_of(store, record) == "p", "another process waits for its end"
    with pytest.raises(AlreadyDone):
        await layer(call_of(record, deadline=deadline_in(30)), handler)
    assert handler.calls == 1
    assert await state_of(store, record) == "d"


@pytest.mark.anyio
async def test_what_is_done_without_a_mark_counts_no_longer_than_its_mark_would() -> None:
    (record,), store, handler = records_of("a"), Unreachable(complete=3), Handler()
    layer = idempotent(store, key=F.new.id, expires_after=3600, in_progress_for=60)
    with pytest.raises(StoreError):
        await layer(call_of(record), handler)
    await anyio.sleep(3601)
    await layer(call_of(record), handler)
    assert handler.calls == 2


@pytest.mark.anyio
async def test_what_is_written_late_counts_from_when_it_was_done() -> None:
    (record,), store, handler = records_of("a"), Unreachable(complete=3), Handler()
    layer = idempotent(store, expires_after=3600)
    with pytest.raises(StoreError):
        await layer(call_of(record), handler)
    await anyio.sleep(3500)
    with pytest.raises(AlreadyDone):
        await layer(call_of(record), handler)
    await anyio.sleep(101)
    await layer(call_of(record), handler)
    assert handler.calls == 2


@pytest.mark.anyio
async def test_a_release_is_tried_again() -> None:
    (record,), store = records_of("a"), Unreachable(release=2)
    with pytest.raises(ConnectionError):
        await idempotent(store)(call_of(record), Handler(errors=[ConnectionError()]))
    assert await state_of(store, record) == "-"


@pytest.mark.anyio
async def test_a_renewal_is_tried_again_at_once() -> None:
    (record,), store = records_of("a"), Unreachable(renew=2)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(idempotent(store), call_of(record), Handler(100))
        await anyio.sleep(21)
        mark = await mark_of(store, record)
    assert mark is not None
    assert mark.expires_at == pytest.approx(BASE + 80, abs=0.5)


@pytest.mark.anyio
@pytest.mark.parametrize(("error", "state"), [(None, "d"), (ConnectionError(), "-")])
async def test_what_the_store_fails_to_do_for_some_marks_it_is_asked_for_all_others(
    error: Exception | None, state: str
) -> None:
    records, store = records_of(map(str, range(60))), Picky()
    store.refused = {key_of(records[7]), key_of(records[8])}
    with pytest.raises(StoreError if error is None else ConnectionError):
        await idempotent(store)(call_of(*records), Handler(errors=[error]))
    store.refused.clear()
    assert await state_of(store, *records) == 7 * state + "pp" + 51 * state


@pytest.mark.anyio
async def test_a_release_that_fails_hides_no_failure(caplog: pytest.LogCaptureFixture) -> None:
    (record,), store = records_of("a"), Unreachable(release=3)
    with pytest.raises(ConnectionError):
        await idempotent(store)(call_of(record), Handler(errors=[ConnectionError()]))
    assert await state_of(store, record) == "p"
    assert "could not be released; it stays until it expires: nobody answers" in caplog.text


# Many records in one call


@pytest.mark.anyio
async def test_a_batch_call_has_a_mark_for_each_record() -> None:
    records, store, handler = records_of("abcdefghijklmnopqrstuvwxyz"), Slow(), Handler()
    await idempotent(store)(call_of(*records), handler)
    assert await state_of(store, *records) == "d" * 26
    with pytest.raises(AlreadyDone) as done:
        await idempotent(store)(call_of(*records), handler)
    assert done.value.records == ()
    assert handler.calls == 1


@pytest.mark.anyio
async def test_those_that_are_done_are_named_and_the_others_not_kept() -> None:
    records, store, handler = records_of("abcde"), MemoryMarks(), Handler()
    layer = idempotent(store)
    for record in (records[1], records[3]):
        await layer(call_of(record), handler)
    with pytest.raises(AlreadyDone) as done:
        await layer(call_of(*records), handler)
    assert done.value.records == (records[1], records[3])
    assert await state_of(store, *records) == "-d-d-"


@pytest.mark.anyio
async def test_one_that_is_held_holds_up_the_call_and_nothing_else() -> None:
    records, store, handler = records_of("abc"), MemoryMarks(), Handler()
    await store.begin(key_of(records[1]), "another", now=now(), until=now() + 900)
    with pytest.raises(InProgress):
        await idempotent(store)(call_of(*records, deadline=deadline_in(10)), handler)
    assert await state_of(store, *records) == "-p-"
    assert handler.calls == 0


@pytest.mark.anyio
async def test_of_several_that_are_held_it_waits_for_the_last_to_expire() -> None:
    records, store, handler = records_of("abc"), MemoryMarks(), Handler()
    for record, seconds in zip(records, (5, 20, 10), strict=True):
        await store.begin(key_of(record), "killed", now=now(), until=now() + seconds)
    await idempotent(store)(call_of(*records), handler)
    assert 20 < anyio.current_time() < 21
    assert handler.calls == 1


@pytest.mark.anyio
async def test_two_calls_that_share_records_do_not_wait_for_each_other() -> None:
    records, store, handler = records_of("abcdef"), Slow(begin=0.01), Handler(seconds=1)
    # In step for ever, neither would ever get all of its marks: chance sees to that.
    layer = Idempotent(store, clock=now, chance=random.Random(1).random)  # noqa: S311 - of waits
    outcomes: list[str] = []

    async def call(*records: Record) -> None:
        try:
            await layer(call_of(*records, deadline=deadline_in(60)), handler)
            outcomes.append("called")
        except AlreadyDone:
            outcomes.append("done")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call, *records)
        tasks.start_soon(call, *reversed(records))
    assert "called" in outcomes
    assert handler.most == 1
    assert anyio.current_time() < 10
    assert await state_of(store, *records) == "dddddd"


@pytest.mark.anyio
async def test_records_with_one_key_share_a_mark() -> None:
    records, store, handler = records_of("aab"), MemoryMarks(), Handler()
    layer = idempotent(store, key=F.new.id)
    await layer(call_of(*records, deadline=deadline_in(10)), handler)
    with pytest.raises(AlreadyDone):
        await layer(call_of(*records, deadline=deadline_in(10)), handler)
    assert handler.calls == 1
    assert anyio.current_time() == 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("items", "failed", "left"),
    [
        ("abc", [1], "d-d"),
        ("abab", [1], "d-d-"),
        ("abab", [0, 3], "-d--"),
        ("aaaa", [2], "dd--"),
        ("abc", [7], "---"),
        ("abc", [True], "---"),
    ],
)
async def test_of_a_partial_failure_those_are_done_that_are_not_behind_a_failed_one(
    items: str, failed: list[int], left: str
) -> None:
    records, store = records_of(items), MemoryMarks()
    error = PartialFailure(failed)
    with pytest.raises(PartialFailure) as raised:
        await idempotent(store)(call_of(*records), Handler(errors=[error]))
    assert raised.value is error
    assert await state_of(store, *records) == left


@pytest.mark.anyio
async def test_what_is_done_is_entered_before_what_is_not_is_released() -> None:
    records, store = records_of("ab"), Slow(release=10)
    handler = Handler(errors=[PartialFailure([records[1]])])
    with anyio.move_on_after(1):
        await idempotent(store)(call_of(*records, deadline=deadline_in(30)), handler)
    store.seconds.clear()
    assert await state_of(store, *records) == "dp"


@pytest.mark.anyio
async def test_where_lanes_are_wider_than_items_all_behind_a_failure_is_left() -> None:
    records, store = records_of("abcd"), MemoryMarks()
    call = call_of(*records, lanes=["1", "2", "1", "2"])
    with pytest.raises(PartialFailure):
        await idempotent(store)(call, Handler(errors=[PartialFailure([records[0]])]))
    assert await state_of(store, *records) == "-d-d"


@pytest.mark.anyio
async def test_a_shared_mark_is_released_if_one_of_its_records_is_not_done() -> None:
    records, store = records_of("aba"), MemoryMarks()
    layer = idempotent(store, key=F.new.id)
    with pytest.raises(PartialFailure):
        await layer(call_of(*records), Handler(errors=[PartialFailure([2])]))
    again = Handler()
    await layer(call_of(records[2]), again)
    assert again.calls == 1
    with pytest.raises(AlreadyDone):
        await layer(call_of(records[1]), again)


@pytest.mark.anyio
async def test_a_store_that_fails_for_one_record_gives_back_the_others() -> None:
    records, store = records_of("abc"), Unreachable(begin=1, applied=True)
    with pytest.raises(StoreError):
        await idempotent(store)(call_of(*records), Handler())
    assert await state_of(store, *records) == "---"


@pytest.mark.anyio
async def test_what_another_layer_has_found_done_is_done_and_the_rest_is_not() -> None:
    records, store = records_of("abc"), MemoryMarks()
    error = AlreadyDone("by another layer", [records[1]])
    with pytest.raises(AlreadyDone):
        await idempotent(store)(call_of(*records), Handler(errors=[error]))
    assert await state_of(store, *records) == "-d-"
