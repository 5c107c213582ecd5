"""A batch at work, where it is closed while threads are still at it."""

from __future__ import annotations

from dynaflow import App, Image, Router, Status
from dynaflow.engine.lost import LostCalls
from dynaflow.engine.work import Work
from tests.support.batches import batch_of


def work_of(items: str, lost: LostCalls) -> Work:
    router = Router()

    @router.on_insert()
    def handler(new: Image) -> None: ...

    return Work(App(router).plan(batch_of(items)), lost=lost)


def test_no_call_begins_once_the_work_is_closed() -> None:
    lost = LostCalls()
    work = work_of("ab", lost)
    lane = work.in_threads.take(lowest=True)
    assert lane is not None
    work.close()
    assert work.begin(lane) is None
    assert len(lost) == 0


def test_a_call_that_runs_when_the_work_is_closed_is_lost_until_it_ends() -> None:
    lost = LostCalls()
    work = work_of("ab", lost)
    lane = work.in_threads.take(lowest=True)
    assert lane is not None
    assert work.begin(lane) is not None
    work.close()
    assert lane.key in lost
    assert not work.succeeded(lane)
    assert lane.key not in lost
    result = work.finish()
    assert [outcome.status for outcome in result.outcomes] == [Status.NOT_DONE]
    assert len(result.not_done) == 2


def test_a_call_that_ended_before_the_work_is_closed_counts() -> None:
    lost = LostCalls()
    work = work_of("a", lost)
    lane = work.in_threads.take(lowest=True)
    assert lane is not None
    assert work.begin(lane) is not None
    assert work.succeeded(lane)
    assert work.job_ended(lane)
    work.close()
    assert len(lost) == 0
    assert work.finish().not_done == ()


def test_who_waits_for_a_lost_call_is_told_once_the_last_one_is_back() -> None:
    lost, told = LostCalls(), []
    lost.lose("lane")
    lost.lose("lane")
    lost.tell_when_free("lane", lambda: told.append("waited"))
    lost.tell_when_free("other", lambda: told.append("at once"))
    lost.come_back("lane")
    assert told == ["at once"]
    lost.come_back("lane")
    assert told == ["at once", "waited"]
