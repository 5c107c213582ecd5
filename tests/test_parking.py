"""Parking: when a record goes into a dead letter, in which order, and what then counts as done."""

from __future__ import annotations

import copy
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from dynaflow import (
    App,
    Batch,
    BatchResult,
    Change,
    Deadline,
    DynaflowError,
    NonRetryable,
    PartialFailure,
    Record,
    Retry,
    Router,
    Skip,
    Status,
)
from dynaflow._host import Host
from dynaflow.codec import decode_event
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.errors import (
    AlreadyDone,
    DeadLetterError,
    InProgress,
    RegistrationError,
    ThreadsExhausted,
    Unmatched,
)
from dynaflow.testing import RecordBuilder
from tests.support.batches import batch_of, step_of

ORDERS = RecordBuilder(keys=("id",), table="orders")


class Sink:
    """A sink that keeps letters; it fails as often as it is told."""

    def __init__(self, fails: int = 0) -> None:
        self.letters: list[DeadLetterRecord] = []
        self.fails = fails
        self.threads: set[int] = set()

    def __call__(self, letter: DeadLetterRecord) -> None:
        self.threads.add(threading.get_ident())
        if self.fails:
            self.fails -= 1
            raise ConnectionError("the queue is away")
        self.letters.append(letter)

    @property
    def routes(self) -> list[str | None]:
        return [letter.route for letter in self.letters]

    @property
    def reasons(self) -> list[str]:
        return [letter.reason for letter in self.letters]


class AsyncSink(Sink):
    """The same on the event loop."""

    is_async = True

    def __call__(self, letter: DeadLetterRecord) -> Awaitable[None]:  # type: ignore[override]  # a sink may be either
        return self._put(letter)

    async def _put(self, letter: DeadLetterRecord) -> None:
        await checkpoint()
        super().__call__(letter)


KINDS = pytest.mark.parametrize(
    ("kind", "sync", "threads"),
    [
        (Sink, True, 4),
        (Sink, True, 0),
        (Sink, False, 4),
        (AsyncSink, True, 4),
        (AsyncSink, True, 0),
        (AsyncSink, False, 4),
    ],
)


class Desk:
    """A handler that notes its steps and fails those that it is told to."""

    def __init__(self, failing: Mapping[int, BaseException]) -> None:
        self.failing = dict(failing)
        self.steps: list[int] = []

    def handle(self, record: Record) -> None:
        step = step_of(record)
        self.steps.append(step)
        if step in self.failing:
            raise self.failing[step]

    def router(self, *, sync: bool, **options: Any) -> Router:
        router = Router()
        if sync:
            router.on_any(name="desk", **options)(self.handle)
        else:

            async def handle(record: Record) -> None:
                self.handle(record)

            router.on_any(name="desk", **options)(handle)
        return router


def run(app: App, batch: Batch | str) -> BatchResult:
    host = Host(app)
    try:
        return host.process(batch_of(batch) if isinstance(batch, str) else batch)
    finally:
        host.close()


def steps(records: Sequence[object]) -> list[int]:
    return [step_of(record) for record in records]


def decoded(*raws: dict[str, Any]) -> Batch:
    records, arn = decode_event(ORDERS.event(*raws))
    return Batch(records, arn)


def spoilt(raw: Mapping[str, Any], *, keys: bool) -> dict[str, Any]:
    """Return a record that cannot be read, with keys that can be or not."""
    broken = copy.deepcopy(dict(raw))
    if keys:
        broken["eventName"] = "RENAME"
    else:
        del broken["dynamodb"]["Keys"]
    return broken


@KINDS
def test_what_cannot_succeed_later_is_parked_at_once_and_its_item_goes_on(
    kind: type[Sink], sync: bool, threads: int
) -> None:
    sink, desk = kind(), Desk({0: NonRetryable("no such account")})
    app = App(desk.router(sync=sync), dead_letter=sink, threads=threads)
    batch = batch_of("aab")
    result = run(app, batch)
    assert result.failed is None
    assert sorted(desk.steps) == [0, 1, 2]
    assert result.parked_by == ["desk"]
    (letter,) = sink.letters
    assert (letter.reason, letter.route, letter.attempts) == ("non_retryable", "desk", 1)
    assert letter.deliveries == 1
    assert letter.record().sequence_number == batch.records[0].sequence_number


@KINDS
def test_an_ordinary_failure_is_parked_after_so_many_deliveries(
    kind: type[Sink], sync: bool, threads: int
) -> None:
    sink, desk = kind(), Desk({0: ConnectionError()})
    router = desk.router(sync=sync, after_deliveries=3)
    app, batch = App(router, dead_letter=sink, threads=threads), batch_of("a")
    assert [run(app, batch).failed is None for _ in range(3)] == [False, False, True]
    assert [letter.deliveries for letter in sink.letters] == [3]
    assert sink.reasons == ["deliveries"]


@KINDS
def test_a_sink_that_fails_leaves_the_record_not_done_and_its_item_waiting(
    kind: type[Sink], sync: bool, threads: int
) -> None:
    sink, desk = kind(fails=1), Desk({0: NonRetryable("no")})
    app = App(desk.router(sync=sync), dead_letter=sink, threads=threads)
    batch = batch_of("aab")
    first = run(app, batch)
    assert steps(first.not_done) == [0, 1]
    second = run(app, Batch(first.not_done, batch.source_arn))
    assert second.failed is None
    assert len(sink.letters) == 1


@KINDS
def test_without_a_limit_an_ordinary_failure_is_never_parked(
    kind: type[Sink], sync: bool, threads: int
) -> None:
    sink, desk = kind(), Desk({0: ConnectionError()})
    app, batch = App(desk.router(sync=sync), dead_letter=sink, threads=threads), batch_of("a")
    assert all(run(app, batch).failed for _ in range(5))
    assert sink.letters == []


@KINDS
def test_all_attempts_are_made_before_a_record_is_parked(
    kind: type[Sink], sync: bool, threads: int
) -> None:
    sink, desk = kind(), Desk({0: ConnectionError()})
    router = desk.router(sync=sync, after_deliveries=1, retry=Retry(attempts=3, wait_initial=0))
    result = run(App(router, dead_letter=sink, threads=threads), "a")
    assert result.failed is None
    assert desk.steps == [0, 0, 0]
    assert [letter.attempts for letter in sink.letters] == [3]


@KINDS
def test_only_the_failed_route_is_in_the_letter_and_the_others_run_once(
    kind: type[Sink], sync: bool, threads: int
) -> None:
    sink, desk, other = kind(), Desk({0: NonRetryable("no")}), Desk({})
    router = desk.router(sync=sync)
    router.on_any(name="other")(other.handle)
    assert run(App(router, dead_letter=sink, threads=threads), "a").failed is None
    assert sink.routes == ["desk"]
    assert other.steps == [0]


@KINDS
@pytest.mark.parametrize("has_keys", [True, False])
def test_a_record_that_cannot_be_read_is_parked_and_what_waits_for_it_goes_on(
    kind: type[Sink], sync: bool, threads: int, has_keys: bool
) -> None:
    sink, desk = kind(), Desk({})
    raws = [ORDERS.insert({"id": name, "step": step}) for step, name in enumerate("abab")]
    raws[1] = spoilt(raws[1], keys=has_keys)
    app = App(desk.router(sync=sync), dead_letter=sink, threads=threads)
    result = run(app, decoded(*raws))
    assert result.failed is None
    assert sorted(desk.steps) == [0, 2, 3]
    (letter,) = sink.letters
    assert (letter.reason, letter.route) == ("undecodable", None)
    assert letter.raw["eventID"] == raws[1]["eventID"]


@KINDS
def test_nothing_starts_above_an_unreadable_record_that_the_sink_does_not_take(
    kind: type[Sink], sync: bool, threads: int
) -> None:
    sink, desk = kind(fails=1), Desk({})
    raws = [ORDERS.insert({"id": name, "step": step}) for step, name in enumerate("abcd")]
    raws[1], raws[2] = spoilt(raws[1], keys=False), spoilt(raws[2], keys=False)
    app = App(desk.router(sync=sync), dead_letter=sink, threads=threads)
    result = run(app, decoded(*raws))
    assert desk.steps == [0]
    assert len(result.not_done) == 3
    assert run(app, decoded(*raws[1:])).failed is None
    assert sorted(desk.steps) == [0, 3]
    assert len(sink.letters) == 2


@KINDS
def test_a_filter_that_cannot_tell_is_parked_for_its_route_only(
    kind: type[Sink], sync: bool, threads: int
) -> None:
    sink, desk, other = kind(), Desk({}), Desk({})
    router = desk.router(sync=sync, after_deliveries=2)
    broken = Router(after_deliveries=2)

    def explode(record: Record) -> bool:
        if step_of(record) == 0:
            raise ZeroDivisionError
        return True

    broken.on_any(explode, name="broken")(other.handle)
    app = App(router, broken, dead_letter=sink, threads=threads)
    first = run(app, batch_of("aa"))
    assert steps(first.not_done) == [0, 1]
    second = run(app, Batch(first.not_done, first.not_done[0].source_arn))
    assert second.failed is None
    assert [(letter.route, letter.error_type) for letter in sink.letters] == [
        ("broken", "ZeroDivisionError")
    ]
    # An item's records on one route come again together, or an older effect could stand last.
    assert (desk.steps, other.steps) == ([0, 0, 1], [1])


def test_what_was_cut_off_in_so_many_deliveries_is_parked_before_it_runs_again() -> None:
    sink, calls = Sink(), list[int]()
    router = Router()

    @router.on_any(name="hang", after_deliveries=2)
    async def hang(record: Record) -> None:
        calls.append(step_of(record))
        if step_of(record) == 0:
            await anyio.sleep(60)

    app, batch = App(router, dead_letter=sink), batch_of("aa")

    def deliver() -> BatchResult:
        return run(app, Batch(batch.records, batch.source_arn, Deadline.after(0.4)))

    assert [steps(deliver().not_done) for _ in range(2)] == [[0, 1], [0, 1]]
    assert deliver().failed is None
    assert calls == [0, 0, 1]
    (letter,) = sink.letters
    assert letter.reason == "deliveries"
    assert "came to no end" in letter.error


def test_what_another_delivery_works_on_is_never_parked() -> None:
    sink, desk = Sink(), Desk({0: InProgress()})
    app, batch = App(desk.router(sync=True, after_deliveries=1), dead_letter=sink), batch_of("a")
    for _ in range(3):
        assert steps(run(app, batch).not_done) == [0]
    assert sink.letters == []


@KINDS
@pytest.mark.parametrize(
    ("error", "status"),
    [(Skip("not ours"), Status.SKIPPED), (AlreadyDone("before"), Status.REPEATED)],
)
def test_what_was_skipped_has_not_failed_and_is_never_parked(
    kind: type[Sink], sync: bool, threads: int, error: BaseException, status: Status
) -> None:
    sink, desk = kind(), Desk({0: error})
    app = App(desk.router(sync=sync, after_deliveries=1), dead_letter=sink, threads=threads)
    result = run(app, "a")
    assert [outcome.status for outcome in result.outcomes] == [status]
    assert sink.letters == []


def test_a_parked_record_is_not_parked_again_when_its_stretch_comes_again() -> None:
    sink, desk = Sink(), Desk({0: ConnectionError(), 1: NonRetryable("no")})
    app, batch = App(desk.router(sync=True), dead_letter=sink), batch_of("ab")
    assert steps(run(app, batch).not_done) == [0]
    again = run(app, batch)
    assert again.repeated_by == ["desk"]
    assert len(sink.letters) == 1


def test_a_parked_record_stays_parked_while_earlier_ones_of_its_item_run_again() -> None:
    sink, desk = Sink(), Desk({0: ConnectionError(), 2: NonRetryable("no")})
    app, batch = App(desk.router(sync=True), dead_letter=sink, threads=0), batch_of("baab")
    for _ in range(3):
        assert steps(run(app, batch).not_done) == [0, 3]
    desk.failing.clear()
    assert run(app, batch).failed is None
    assert len(sink.letters) == 1
    assert desk.steps.count(2) == 1
    assert desk.steps.count(1) == 4  # one of several: another process may have run the later one


def test_a_plain_function_that_returns_something_to_await_takes_nothing() -> None:
    desk = Desk({0: NonRetryable("no")})

    def sink(letter: DeadLetterRecord) -> Any:
        return checkpoint()

    assert run(App(desk.router(sync=True), dead_letter=sink), "a").failed is not None


@pytest.mark.parametrize("kind", [Sink, AsyncSink])
def test_what_fails_after_the_answer_has_been_given_is_not_parked(kind: type[Sink]) -> None:
    sink, release, calls = kind(), threading.Event(), list[int]()
    router = Router()

    @router.on_any(name="late")
    def late(record: Record) -> None:
        calls.append(step_of(record))
        if len(calls) == 1:
            release.wait(10)
            raise NonRetryable("too late")

    app, batch = App(router, dead_letter=sink), batch_of("a")
    cut = Batch(batch.records, batch.source_arn, Deadline.after(0.3))
    assert run(app, cut).failed is not None
    release.set()
    assert run(app, batch).failed is None  # it has waited for the end of the first call
    assert calls == [0, 0]
    assert sink.letters == []


def test_an_unreadable_record_is_not_parked_before_an_earlier_one_that_failed() -> None:
    sink, router = Sink(), Router()

    def explode(record: Record) -> bool:
        raise ZeroDivisionError

    @router.on_any(explode)
    def handle(record: Record) -> None: ...

    raws = [ORDERS.insert({"id": "a", "step": step}) for step in range(2)]
    result = run(App(router, dead_letter=sink), decoded(raws[0], spoilt(raws[1], keys=True)))
    assert len(result.not_done) == 2
    assert sink.letters == []


def test_a_hanging_async_sink_is_cut_at_the_deadline() -> None:
    desk = Desk({0: NonRetryable("no")})

    async def sink(letter: DeadLetterRecord) -> None:
        await anyio.sleep(60)

    app = App(desk.router(sync=False), dead_letter=sink)
    assert run(app, batch_of("a", deadline=Deadline.after(0.5))).failed is not None


def test_a_sink_that_hangs_in_its_thread_counts_among_the_lost_ones() -> None:
    release = threading.Event()
    desk = Desk({0: NonRetryable("no")})

    def sink(letter: DeadLetterRecord) -> None:
        release.wait(10)

    app = App(desk.router(sync=False), dead_letter=sink, threads=1)
    try:
        assert run(app, batch_of("a", deadline=Deadline.after(0.4))).failed is not None
        with pytest.raises(ThreadsExhausted):
            run(app, "b")
    finally:
        release.set()


def test_an_item_that_waits_for_a_lost_call_gets_it_back_behind_an_unreadable_record() -> None:
    sink, calls = Sink(), list[int]()
    router = Router()

    @router.on_any(name="stubborn")
    async def stubborn(record: Record) -> None:
        calls.append(step_of(record))
        if step_of(record) == 0:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.4)

    host = Host(App(router, dead_letter=sink))
    raws = [ORDERS.insert({"id": "a", "step": step}) for step in range(3)]
    first = decoded(raws[0])
    cut = Batch(first.records, first.source_arn, Deadline.after(0.2))
    assert host.process(cut).failed is not None
    second = decoded(spoilt(raws[1], keys=False), raws[2])
    result = host.process(Batch(second.records, second.source_arn, Deadline.after(3)))
    host.close()
    assert result.failed is None
    assert calls == [0, 2]


# Batch routes


def batch_router(handle: Callable[[list[Record]], None], *, sync: bool, **options: Any) -> Router:
    router = Router()
    if sync:

        def on_thread(records: list[Record]) -> None:
            handle(records)

        router.on_batch(name="batch", **options)(on_thread)
    else:

        async def on_loop(records: list[Record]) -> None:
            handle(records)

        router.on_batch(name="batch", **options)(on_loop)
    return router


@KINDS
def test_the_named_records_of_a_batch_call_are_parked_and_those_behind_them_wait(
    kind: type[Sink], sync: bool, threads: int
) -> None:
    sink, calls = kind(), list[list[int]]()

    def handle(records: list[Record]) -> None:
        calls.append(steps(records))
        if 1 in calls[-1]:
            raise PartialFailure([calls[-1].index(1)])

    router = batch_router(handle, sync=sync, after_deliveries=1)
    app, batch = App(router, dead_letter=sink, threads=threads), batch_of("abab")
    first = run(app, batch)
    assert [letter.record().sequence_number for letter in sink.letters] == [
        batch.records[1].sequence_number
    ]
    assert steps(first.not_done) == [3]
    assert run(app, Batch(first.not_done, batch.source_arn)).failed is None
    assert calls == [[0, 1, 2, 3], [3]]


@KINDS
def test_a_batch_call_that_fails_for_good_parks_all_of_its_records(
    kind: type[Sink], sync: bool, threads: int
) -> None:
    sink = kind()

    def handle(records: list[Record]) -> None:
        raise NonRetryable("no index")

    app = App(batch_router(handle, sync=sync), dead_letter=sink, threads=threads)
    assert run(app, "abc").failed is None
    assert sink.routes == ["batch"] * 3


@pytest.mark.parametrize("kind", [Sink, AsyncSink])
@pytest.mark.parametrize("threads", [0, 4])
def test_an_image_that_the_model_refuses_is_parked_and_the_other_changes_are_passed(
    kind: type[Sink], threads: int
) -> None:
    pydantic = pytest.importorskip("pydantic")
    model = pydantic.create_model("Order", id=(str, ...), n=(int, ...))
    sink, calls, router = kind(), list[list[str]](), Router()

    def index(changes: Any) -> None:
        calls.append([change.keys["id"] for change in changes])

    index.__annotations__["changes"] = list[Change[model]]  # type: ignore[valid-type]  # made above
    router.on_batch(name="index", on_invalid="dead_letter")(index)
    raws = [
        ORDERS.insert({"id": "a", "n": 1}),
        ORDERS.insert({"id": "b", "n": "x"}),
        ORDERS.insert({"id": "c", "n": 3}),
    ]
    app = App(router, dead_letter=sink, threads=threads)
    assert run(app, decoded(*raws)).failed is None
    assert calls == [["a", "c"]]
    assert sink.routes == ["index"]


def test_letters_that_the_sink_has_taken_count_though_the_next_one_hangs() -> None:
    taken: list[DeadLetterRecord] = []

    async def sink(letter: DeadLetterRecord) -> None:
        if len(taken) == 1:
            await anyio.sleep(60)
        taken.append(letter)

    def handle(records: list[Record]) -> None:
        raise NonRetryable("no index")

    app = App(batch_router(handle, sync=False), dead_letter=sink)
    result = run(app, batch_of("abc", deadline=Deadline.after(1.5)))
    assert steps(result.not_done) == [1, 2]
    assert result.parked_by == ["batch"]


# Redrive


@pytest.mark.anyio
async def test_redrive_runs_exactly_the_named_route_whatever_its_filter_says() -> None:
    one, other = Desk({}), Desk({})
    router = Router()
    router.on_any(lambda record: False, name="one")(one.handle)
    router.on_any(name="other")(other.handle)
    (record,) = batch_of("a").records
    result = await App(router).redrive(record, "one")
    assert (result.failed, one.steps, other.steps) == (None, [0], [])


@pytest.mark.anyio
async def test_redrive_parks_nothing_and_runs_what_is_remembered_as_done() -> None:
    sink, desk = Sink(), Desk({0: NonRetryable("no")})
    app = App(desk.router(sync=False), dead_letter=sink)
    (record,) = batch_of("a").records
    for _ in range(2):
        assert (await app.redrive(record, "desk")).failed is record
    assert sink.letters == []
    assert desk.steps == [0, 0]


@pytest.mark.anyio
async def test_redrive_of_a_batch_route_calls_it_with_the_one_record() -> None:
    calls: list[list[int]] = []
    router = batch_router(lambda records: calls.append(steps(records)), sync=True)
    (record,) = batch_of("a").records
    assert (await App(router).redrive(record, "batch")).failed is None
    assert calls == [[0]]


@pytest.mark.anyio
async def test_redrive_without_a_route_runs_all_that_match() -> None:
    desk, batch = Desk({}), batch_of("a")
    assert (await App(desk.router(sync=True)).redrive(batch.records[0], None)).failed is None
    assert desk.steps == [0]


@pytest.mark.anyio
async def test_redrive_of_what_no_route_takes_fails_where_the_app_wants_one_to() -> None:
    router, sink = Router(), Sink()
    router.on_any(lambda record: False, name="desk")(Desk({}).handle)
    app, batch = App(router, dead_letter=sink, unmatched="fail"), batch_of("a")
    assert (await app.process(batch)).failed is None
    (letter,) = sink.letters
    result = await app.redrive(letter.record(), letter.route)
    assert result.failed is not None
    assert isinstance(result.outcomes[0].error, Unmatched)


@pytest.mark.anyio
async def test_redrive_names_the_routes_that_there_are() -> None:
    (record,) = batch_of("a").records
    with pytest.raises(DynaflowError, match=r"no route named 'gone' .* Those that do: desk"):
        await App(Desk({}).router(sync=True)).redrive(record, "gone")


# What is refused


class NotCalled: ...


@pytest.mark.parametrize(
    ("sink", "message"),
    [
        (Sink, r"dead_letter=Sink is a class: write Sink\(...\)"),
        ("given-up.jsonl", "takes something that is called with a DeadLetterRecord"),
        (NotCalled(), "got NotCalled"),
        (lambda: None, "takes something that is called"),
    ],
)
def test_a_sink_that_cannot_be_called_is_refused(sink: Any, message: str) -> None:
    with pytest.raises(RegistrationError, match=message):
        App(dead_letter=sink)


def test_a_limit_without_a_place_for_dead_letters_is_refused() -> None:
    with pytest.raises(RegistrationError, match=r"there is no place for it: write App"):
        App(Desk({}).router(sync=True), after_deliveries=3)


def test_a_sink_says_in_its_own_words_what_it_refused(caplog: pytest.LogCaptureFixture) -> None:
    def full(letter: DeadLetterRecord) -> None:
        raise DeadLetterError("the disk is full")

    run(App(Desk({0: NonRetryable("no")}).router(sync=True), dead_letter=full), "a")
    assert "did not take record" in caplog.text
    assert "the disk is full" in caplog.text
