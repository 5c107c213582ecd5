"""Retry: attempts within one delivery, on a loop and in threads."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from dynaflow import (
    App,
    Batch,
    BatchResult,
    Change,
    Deadline,
    HandlerContext,
    NonRetryable,
    PartialFailure,
    Record,
    Retry,
    RetryAfter,
    Router,
    Skip,
    Status,
)
from dynaflow._host import Host
from dynaflow.errors import AlreadyDone, InProgress, RegistrationError
from dynaflow.observe import CallEnded, CallRetried, Event
from dynaflow.testing import TestClient, without_waits
from dynaflow.testing.clock import run_virtual
from tests.support.batches import batch_of, step_of
from tests.support.watching import Noting


class Flaky:
    """A handler that raises what it is given, one after the other, and then returns."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.attempts: list[tuple[int, int]] = []

    def note(self, record: Record, context: HandlerContext) -> None:
        self.attempts.append((step_of(record), context.attempt))
        if self.errors:
            raise self.errors.pop(0)

    def routed(self, *, sync: bool, retry: Retry | None = None) -> Router:
        router = Router()
        if sync:
            router.on_any(name="flaky", retry=retry)(self.note)
        else:

            async def note(record: Record, context: HandlerContext) -> None:
                self.note(record, context)

            router.on_any(name="flaky", retry=retry)(note)
        return router


def run(app: App | Router, items: str = "a", *, deadline: float | None = None) -> BatchResult:
    host = Host(App(app) if isinstance(app, Router) else app)
    batch = batch_of(items, deadline=None if deadline is None else Deadline.after(deadline))
    with without_waits():
        result = host.process(batch)
    host.close()
    return result


def statuses(result: BatchResult) -> list[str]:
    return [outcome.status.value for outcome in result.outcomes]


SYNC = pytest.mark.parametrize("sync", [False, True])


@SYNC
def test_a_failed_call_is_tried_again_until_it_succeeds(sync: bool) -> None:
    flaky = Flaky(ConnectionError(), ConnectionError())
    result = run(flaky.routed(sync=sync, retry=Retry(attempts=3)))
    assert result.failed is None
    assert flaky.attempts == [(0, 1), (0, 2), (0, 3)]
    assert [outcome.attempts for outcome in result.outcomes] == [3]


@SYNC
def test_after_the_last_attempt_it_has_failed_with_what_that_raised(sync: bool) -> None:
    last = ConnectionError("third")
    flaky = Flaky(ConnectionError(), ConnectionError(), last, ConnectionError())
    result = run(flaky.routed(sync=sync, retry=Retry(attempts=3)))
    assert result.errors == [last]
    assert statuses(result) == ["failed"]
    assert len(flaky.attempts) == 3


@SYNC
@pytest.mark.parametrize(
    "error", [NonRetryable("no"), KeyError("k"), InProgress(), SystemExit(1), GeneratorExit()]
)
def test_what_another_attempt_cannot_help_is_not_tried_again(
    sync: bool, error: BaseException
) -> None:
    flaky = Flaky(error)
    result = run(flaky.routed(sync=sync, retry=Retry(on=(OSError, NonRetryable))))
    assert len(flaky.attempts) == 1
    assert result.failed is not None


@SYNC
def test_a_skip_and_what_was_done_before_are_no_failures(sync: bool) -> None:
    for error, status in ((Skip("x"), Status.SKIPPED), (AlreadyDone("y"), Status.REPEATED)):
        flaky = Flaky(error)
        result = run(flaky.routed(sync=sync, retry=Retry()))
        assert [outcome.status for outcome in result.outcomes] == [status]
        assert result.failed is None
        assert len(flaky.attempts) == 1


@SYNC
def test_the_items_later_records_wait_for_all_attempts(sync: bool) -> None:
    flaky = Flaky(OSError(), OSError())
    run(flaky.routed(sync=sync, retry=Retry()), "aa")
    assert flaky.attempts == [(0, 1), (0, 2), (0, 3), (1, 1)]


@SYNC
def test_only_the_failed_route_of_a_record_is_tried_again(sync: bool) -> None:
    flaky, other = Flaky(OSError()), Flaky()
    router = flaky.routed(sync=sync, retry=Retry())
    router.on_any(name="other")(other.note)
    run(router)
    assert (flaky.attempts, other.attempts) == ([(0, 1), (0, 2)], [(0, 1)])


@SYNC
def test_retry_after_is_heeded_without_a_policy_as_often_as_the_default_allows(sync: bool) -> None:
    flaky = Flaky(*(RetryAfter(3_600) for _ in range(9)))
    result = run(flaky.routed(sync=sync))
    assert len(flaky.attempts) == Retry().attempts
    assert result.failed is not None


@SYNC
def test_an_attempt_that_would_come_too_late_is_left_to_the_next_delivery(sync: bool) -> None:
    flaky = Flaky(RetryAfter(3_600))
    router = flaky.routed(sync=sync)
    host, batch = Host(App(router)), batch_of("a", deadline=Deadline.after(5))
    began = time.monotonic()
    result = host.process(batch)
    host.close()
    assert time.monotonic() - began < 4
    assert result.failed is not None
    assert len(flaky.attempts) == 1


def test_the_nearest_policy_counts_the_apps_last() -> None:
    def attempts(app: Retry | None, router: Retry | None, route: Retry | None) -> int:
        flaky = Flaky(*(OSError() for _ in range(9)))
        inner = Router(retry=router)
        inner.on_any(retry=route)(flaky.note)
        outer = Router()
        outer.include_router(inner)
        run(App(outer, retry=app))
        return len(flaky.attempts)

    two, three, four = Retry(2), Retry(3), Retry(4)
    assert attempts(None, None, None) == 1
    assert attempts(two, None, None) == 2
    assert attempts(two, three, None) == 3
    assert attempts(two, three, four) == 4


def test_waits_double_up_to_the_longest_and_are_left_to_chance() -> None:
    retry = Retry(attempts=9, wait_initial=1, wait_max=5, jitter=0)
    assert [retry.wait_after(attempt, 0.5) for attempt in (1, 2, 3, 4, 99)] == [1, 2, 4, 5, 5]
    assert Retry(wait_initial=1, jitter=1).wait_after(1, 0.75) == 0.25
    assert Retry(wait_initial=1, jitter=0.5).wait_after(1, 0.5) == 0.75


def test_the_waits_are_kept_on_the_loop() -> None:
    flaky = Flaky(OSError(), RetryAfter(7), OSError())
    policy = Retry(attempts=5, wait_initial=1, wait_max=5, jitter=0)
    app, times = App(flaky.routed(sync=False, retry=policy)), list[float]()

    async def timed() -> None:
        begin = anyio.current_time()
        await app.process(batch_of("a"))
        times.append(anyio.current_time() - begin)

    run_virtual(timed)
    assert times == [pytest.approx(1 + 7 + 4)]


def test_a_thread_that_waits_is_free_when_the_deadline_has_come() -> None:
    flaky = Flaky(OSError())
    app = App(flaky.routed(sync=True, retry=Retry(wait_initial=0.3, jitter=0)), threads=1)
    host = Host(app)
    first = host.process(batch_of("a", deadline=Deadline.after(0.8)))
    assert first.failed is None or len(flaky.attempts) == 1
    assert host.process(batch_of("b", deadline=Deadline.after(5))).failed is None
    host.close()


@SYNC
@pytest.mark.anyio
async def test_what_may_not_start_any_more_after_a_wait_is_not_tried_again(sync: bool) -> None:
    flaky, answers = Flaky(OSError()), [True, True]  # before the record, and before the wait
    app = App(flaky.routed(sync=sync, retry=Retry(wait_initial=0)))
    result = await app.process(batch_of("a"), may_start=lambda: bool(answers) and answers.pop())
    assert result.failed is not None
    assert flaky.attempts == [(0, 1)]


@pytest.mark.anyio
async def test_a_time_out_ends_an_attempt_and_is_tried_again() -> None:
    router, attempts = Router(), list[int]()

    @router.on_any(timeout=0.05, retry=Retry(attempts=2, wait_initial=0))
    async def hang(context: HandlerContext) -> None:
        attempts.append(context.attempt)
        if context.attempt == 1:
            await anyio.sleep(60)

    result = await App(router).process(batch_of("a"))
    assert result.failed is None
    assert attempts == [1, 2]


@pytest.mark.anyio
async def test_a_time_out_says_of_whom_and_how_long() -> None:
    router = Router(timeout=0.05)

    @router.on_any(name="hang")
    async def hang(record: Record) -> None:
        await anyio.sleep(60)

    result = await App(router).process(batch_of("a"))
    (error,) = result.errors
    assert str(error) == "an attempt of hang did not end within its timeout of 0.05 s"
    assert isinstance(error, TimeoutError)


def test_a_time_out_of_a_sync_handler_is_refused_and_a_routers_is_not_its_own() -> None:
    def handler(record: Record) -> None: ...

    router = Router(timeout=3)
    router.on_any(name="sync")(handler)
    assert App(router, timeout=5).routes[0].timeout is None
    with pytest.raises(RegistrationError, match=r"cannot be kept: a sync handler runs in a thread"):
        router_with_timeout = Router()
        router_with_timeout.on_any(timeout=3)(handler)


@pytest.mark.parametrize(
    "declare",
    [
        lambda: Retry(attempts=0),
        lambda: Retry(attempts=True),
        lambda: Retry(on=()),
        lambda: Retry(on=(ValueError("x"),)),  # type: ignore[arg-type]  # the mistake
        lambda: Retry(wait_initial=-1),
        lambda: Retry(wait_max=float("nan")),
        lambda: Retry(jitter=2),
        lambda: Router(retry=3),  # type: ignore[arg-type]  # the mistake
        lambda: Router(timeout=0),
        lambda: Router(timeout=True),
        lambda: Router(after_deliveries=0),
        lambda: App(retry="always"),  # type: ignore[arg-type]  # the mistake
        lambda: Router().on_any(retry=3),  # type: ignore[arg-type]  # the mistake
        lambda: Router().on_batch(timeout="5"),  # type: ignore[arg-type]  # the mistake
    ],
)
def test_what_cannot_work_is_refused_where_it_is_written(declare: Callable[[], object]) -> None:
    with pytest.raises(RegistrationError):
        declare()


def test_retry_after_is_not_negative() -> None:
    with pytest.raises(ValueError, match="not negative"):
        RetryAfter(-1)


def test_observers_see_each_attempt_that_is_followed_by_another() -> None:
    flaky, watcher = Flaky(OSError(), OSError()), Noting()
    app = App(flaky.routed(sync=False, retry=Retry()), observers=[watcher])
    run(app)
    events: list[Event] = watcher.events
    retried = [event for event in events if isinstance(event, CallRetried)]
    assert [(event.attempt, event.route) for event in retried] == [(1, "flaky"), (2, "flaky")]
    assert [event.outcome.attempts for event in events if isinstance(event, CallEnded)] == [3]


# Batch routes


def partly(failures: dict[int, list[int]], *, sync: bool, calls: list[list[int]]) -> Router:
    """Return a batch route that fails these positions of its list, by its attempt."""
    router = Router()

    def handle(changes: list[Change[Any]], context: HandlerContext) -> None:
        calls.append([step_of(change.record) for change in changes])
        if failed := failures.get(context.attempt):
            raise PartialFailure(failed)

    async def handle_on_loop(changes: list[Change[Any]], context: HandlerContext) -> None:
        handle(changes, context)

    router.on_batch(name="batch", retry=Retry())(handle if sync else handle_on_loop)
    return router


@SYNC
def test_a_batch_call_is_tried_again_with_those_that_failed_and_what_waits_behind_them(
    sync: bool,
) -> None:
    calls: list[list[int]] = []
    result = run(partly({1: [1], 2: [0]}, sync=sync, calls=calls), "abcab")
    assert result.failed is None
    assert calls == [[0, 1, 2, 3, 4], [1, 4], [1, 4]]
    assert [outcome.attempts for outcome in result.outcomes] == [1, 1, 1, 3, 3]


@SYNC
def test_a_batch_call_that_raises_is_tried_again_as_a_whole(sync: bool) -> None:
    router, calls = Router(), list[list[int]]()

    def handle(records: list[Record], context: HandlerContext) -> None:
        calls.append([step_of(record) for record in records])
        if context.attempt < 3:
            raise OSError

    async def on_loop(records: list[Record], context: HandlerContext) -> None:
        handle(records, context)

    router.on_batch(retry=Retry(), max_items=2)(handle if sync else on_loop)
    assert run(router, "abc").failed is None
    assert calls == [[0, 1]] * 3 + [[2]] * 3


@SYNC
def test_records_of_a_batch_call_that_were_done_before_are_left_out_of_the_next(
    sync: bool,
) -> None:
    router, calls = Router(), list[list[int]]()

    def handle(records: list[Record]) -> None:
        calls.append([step_of(record) for record in records])
        if len(calls) == 1:
            raise AlreadyDone(records=[records[0], records[2]])

    async def on_loop(records: list[Record]) -> None:
        handle(records)

    router.on_batch(name="batch")(handle if sync else on_loop)
    result = run(router, "abc")
    assert result.failed is None
    assert calls == [[0, 1, 2], [1]]
    assert sorted(statuses(result)) == ["done", "repeated", "repeated"]


def test_a_handler_that_spoils_its_images_gets_them_anew() -> None:
    router, seen = Router(), list[object]()

    @router.on_batch(retry=Retry())
    def handle(changes: list[Change[dict[str, Any]]], context: HandlerContext) -> None:
        new = changes[0].new
        assert new is not None
        seen.append(new.pop("n"))
        if context.attempt == 1:
            raise OSError

    with TestClient(router) as stream:
        assert stream.insert({"id": "a", "n": 1}).failed is None
    assert seen == [1, 1]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # tasks cancel themselves only there
async def test_a_handler_that_cancels_itself_and_fails_is_tried_again() -> None:
    router, attempts = Router(), list[int]()

    @router.on_any(retry=Retry(wait_initial=0.01))
    async def cancel(context: HandlerContext) -> None:
        attempts.append(context.attempt)
        if context.attempt == 1:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            raise OSError

    batch = batch_of("ab")
    result = await App(router).process(Batch(batch.records, batch.source_arn))
    assert result.failed is None
    assert sorted(attempts) == [1, 1, 2, 2]
