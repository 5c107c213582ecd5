"""What handlers do to their process, in AWS's own runtime client: nothing is lost by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.lambda_function import LambdaFunction, answered, failed, numbers, orders
from tests.support.runtime_api import EXIT_ERROR, TIMED_OUT

pytest.importorskip("awslambdaric", reason="AWS publishes its runtime client for Linux only")

BASE_EXCEPTIONS = ("exit", "interrupt", "generator exit", "cancelled")


@pytest.mark.parametrize(("sync", "threads"), [(False, "16"), (True, "16"), (True, "0")])
def test_what_is_no_exception_is_its_records_failure(
    tmp_path: Path, sync: bool, threads: str
) -> None:
    with LambdaFunction("orders", tmp_path, REPORT="yes", THREADS=threads) as function:
        answers = []
        for what in BASE_EXCEPTIONS:
            event = orders(("a", "ok"), ("b", what), ("c", "ok"), ("b", "ok"), sync=sync)
            answers.append(function.invoke(event))
            assert answered(answers[-1]) == failed(numbers(event)[1]), what

        done = [line for line in function.effects() if line.startswith("done")]
        assert done.count("done a") == len(BASE_EXCEPTIONS)
        assert done.count("done c") == 1  # from the second event on it is remembered
        assert len(done) == len(BASE_EXCEPTIONS) + 1
        assert len({answer.pid for answer in answers}) == 1


@pytest.mark.parametrize("sync", [False, True])
def test_out_of_memory_is_answered_and_never_taken_for_done(tmp_path: Path, sync: bool) -> None:
    event = orders(("a", "ok"), ("b", "out of memory"), ("b", "ok"), sync=sync)
    with LambdaFunction("orders", tmp_path, REPORT="yes") as function:
        answers = [function.invoke(event) for _ in range(2)]

        reported = [
            answered(answer)["batchItemFailures"][0]["itemIdentifier"] for answer in answers
        ]
        assert set(reported) <= set(numbers(event)[:2])
        if numbers(event)[1] in reported:
            assert "done a" in function.effects()
        assert "done b" not in function.effects()
        assert answers[0].pid == answers[1].pid


def test_what_a_handlers_tasks_raise_is_its_records_failure(tmp_path: Path) -> None:
    with LambdaFunction("orders", tmp_path, REPORT="yes") as function:
        answers = []
        for what in ("task exits", "group exits", "cancel own task"):
            event = orders(("a", "ok"), ("b", what), ("c", "yield"))
            answers.append(function.invoke(event))
            assert answered(answers[-1]) == failed(numbers(event)[1]), what

        assert answered(function.invoke(orders(("d", "yield")))) == failed()
        assert len({answer.pid for answer in answers}) == 1
        assert function.effects().count("done a") == 3
        assert function.effects().count("done c") == 1  # from the second event on: remembered
        assert "done b" not in function.effects()


@pytest.mark.parametrize("what", ["lost task exits", "stop loop"])
def test_a_handler_cannot_end_the_loop_for_others(tmp_path: Path, what: str) -> None:
    event = orders(("a", "ok"), ("b", what), ("c", "yield"), ("b", "yield"))
    with LambdaFunction("orders", tmp_path, REPORT="yes") as function:
        first = function.invoke(event)
        assert answered(first) == failed()
        every_step = [f"{step} {name}" for name in "abcb" for step in ("start", "done")]
        assert sorted(function.effects()) == sorted(every_step)

        second = function.invoke(orders(("d", "yield")))
        assert answered(second) == failed()
        assert function.effects()[8:] == ["start d", "done d"]
        assert first.pid == second.pid


def test_a_handler_that_cancels_everything_fails_its_batch_and_no_other(tmp_path: Path) -> None:
    event = orders(("a", "ok"), ("b", "cancel all tasks"), ("c", "yield"))
    with LambdaFunction("orders", tmp_path, REPORT="yes") as function:
        first = function.invoke(event)
        assert first.error_type == "RecordsFailed"
        assert "done b" not in function.effects()

        before = function.effects()
        second = function.invoke(orders(("d", "yield")))
        assert answered(second) == failed()
        assert function.effects() == [*before, "start d", "done d"]
        assert first.pid == second.pid


def test_an_async_handler_that_hangs_is_cut_and_the_rest_is_kept(tmp_path: Path) -> None:
    event = orders(("a", "ok"), ("b", "hang"), ("c", "yield"), ("b", "ok"))
    good = orders(("b", "yield"))
    with LambdaFunction("orders", tmp_path, REPORT="yes") as function:
        cut = function.invoke(event, timeout=2.0)
        again = function.invoke(good)

        assert answered(cut) == failed(numbers(event)[1])
        assert cut.seconds < 2.0
        assert answered(again) == failed()
        assert again.pid == cut.pid
        started = [line for line in function.effects() if line.startswith("start")]
        assert sorted(started) == ["start a", "start b", "start b", "start c"]
        assert function.effects()[-1] == "done b"


def test_a_sync_handler_that_hangs_is_left_behind_and_its_item_waits(tmp_path: Path) -> None:
    event = orders(("a", "ok"), ("b", "hang"), ("c", "ok"), sync=True)
    again = orders(("b", "ok"), ("c", "ok"), sync=True)
    released = orders(("b", "ok"), ("c", "ok"), ("d", "release"), sync=True)
    with LambdaFunction("orders", tmp_path, REPORT="yes") as function:
        cut = function.invoke(event, timeout=2.0)
        assert answered(cut) == failed(numbers(event)[1])
        assert cut.seconds < 2.0

        held = function.invoke(again, timeout=1.0)
        assert answered(held) == failed(numbers(again)[0])
        assert function.effects().count("start b") == 1
        assert function.effects().count("done c") == 2

        last = function.invoke(released)
        assert answered(last) == failed()
        assert function.effects().count("start b") == 2
        assert last.pid == cut.pid


def test_when_as_many_threads_are_lost_as_there_are_the_process_ends_itself(
    tmp_path: Path,
) -> None:
    event = orders(("a", "hang"), sync=True)
    with LambdaFunction("orders", tmp_path, REPORT="yes", THREADS="1") as function:
        cut = function.invoke(event, timeout=1.0)
        ended = function.invoke(orders(("b", "ok"), sync=True))
        fresh = function.invoke(orders(("b", "ok"), sync=True))

    assert answered(cut) == failed(numbers(event)[0])
    assert ended.error_type == EXIT_ERROR
    assert "outlived their deadline" in function.stdout
    assert answered(fresh) == failed()
    assert fresh.pid != cut.pid


@pytest.mark.parametrize(("sync", "name"), [(False, "orders.reserve"), (True, "orders.ship")])
def test_a_handler_that_blocks_the_callers_thread_is_named_before_the_platform_ends_it(
    tmp_path: Path, sync: bool, name: str
) -> None:
    event = orders(("a", "block"), ("b", "ok"), sync=sync)
    with LambdaFunction("orders", tmp_path, REPORT="yes", THREADS="0") as function:
        good = function.invoke(orders(("a", "ok"), sync=sync), timeout=1.2)
        assert "blocks its thread" not in function.stdout
        blocked = function.invoke(event, timeout=1.2)
        afterwards = function.invoke(orders(("a", "ok"), sync=sync))

    assert answered(good) == failed()
    assert blocked.error_type == TIMED_OUT
    assert f"{name} blocks its thread" in function.stdout
    assert answered(afterwards) == failed()
    assert afterwards.pid != blocked.pid


def test_a_process_that_dies_has_done_nothing(tmp_path: Path) -> None:
    event = orders(("a", "ok"), ("b", "die"))
    again = orders(("a", "ok"), ("b", "ok"))
    with LambdaFunction("orders", tmp_path, REPORT="yes") as function:
        died, delivered = function.invoke(event), function.invoke(again)

        assert died.error_type == EXIT_ERROR
        assert answered(delivered) == failed()
        assert delivered.pid != died.pid
        assert function.effects().count("start b") == 2
        assert function.effects()[-1].startswith("done")


@pytest.mark.parametrize("sync", [False, True])
def test_logging_that_fails_fails_no_batch(tmp_path: Path, sync: bool) -> None:
    with LambdaFunction("orders", tmp_path, REPORT="yes") as function:
        answers = []
        for what in ("break logging", "close stdout", "raise"):
            event = orders(("a", "ok"), ("b", what), ("c", "ok"), sync=sync)
            answers.append(function.invoke(event))
            assert answered(answers[-1]) == failed(numbers(event)[1]), what

        assert len({answer.pid for answer in answers}) == 1
        assert function.effects().count("done c") == 1  # from the second event on it is remembered


def test_logging_that_fails_changes_no_raise(tmp_path: Path) -> None:
    with LambdaFunction("orders", tmp_path) as function:
        answers = [function.invoke(orders(("a", "break logging"))) for _ in range(2)]

    assert [answer.error_type for answer in answers] == ["RecordsFailed"] * 2
