from __future__ import annotations

import asyncio
import threading
import time
from typing import cast

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from dynaflow.testing.clock import VirtualTimeLoop, run_virtual


def test_an_hour_of_sleep_costs_no_time() -> None:
    async def main() -> float:
        await anyio.sleep(3600)
        return anyio.current_time()

    started = time.monotonic()
    assert run_virtual(main) == pytest.approx(3600)
    assert time.monotonic() - started < 1


def test_tasks_wake_in_the_order_of_their_times() -> None:
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await anyio.sleep(seconds)
        woken.append((name, anyio.current_time()))

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sleeper, "late", 2.5)
            tasks.start_soon(sleeper, "early", 1.0)
            tasks.start_soon(sleeper, "middle", 2.0)

    run_virtual(main)
    assert woken == [("early", 1.0), ("middle", 2.0), ("late", 2.5)]


def test_deadlines_are_exact() -> None:
    async def main() -> tuple[bool, float]:
        with anyio.CancelScope(deadline=anyio.current_time() + 30) as scope:
            await anyio.sleep_forever()
        return scope.cancelled_caught, anyio.current_time()

    assert run_virtual(main) == (True, 30.0)


def test_time_stands_still_while_something_can_run() -> None:
    async def main() -> float:
        for _ in range(1000):
            await anyio.lowlevel.checkpoint()
        return anyio.current_time()

    assert run_virtual(main) == 0


def test_a_waiting_worker_thread_is_cut_by_a_deadline() -> None:
    release = threading.Event()

    async def main() -> tuple[bool, float]:
        with anyio.move_on_after(60) as scope:
            await anyio.to_thread.run_sync(release.wait, abandon_on_cancel=True)
        release.set()
        return scope.cancelled_caught, anyio.current_time()

    assert run_virtual(main) == (True, 60.0)


def test_the_clock_waits_for_declared_outside_work() -> None:
    async def main() -> tuple[bool, float]:
        loop = cast(VirtualTimeLoop, asyncio.get_running_loop())
        done = asyncio.Event()
        worker = threading.Timer(0.05, lambda: loop.call_soon_threadsafe(done.set))
        with anyio.move_on_after(0.001) as scope, loop.outside_work():
            worker.start()
            await done.wait()
        worker.join()
        return scope.cancelled_caught, anyio.current_time()

    assert run_virtual(main, patience=0) == (False, 0.0)


def test_a_thread_that_answers_within_the_patience_comes_before_the_jump() -> None:
    async def main() -> float:
        with anyio.fail_after(0.001):
            await anyio.to_thread.run_sync(lambda: None)
        return anyio.current_time()

    assert run_virtual(main, patience=5) == 0


def test_threads_that_were_there_before_do_not_slow_the_clock_down() -> None:
    async def main() -> None:
        for _ in range(1000):
            await anyio.sleep(1)

    end = threading.Event()
    other = threading.Thread(target=end.wait)
    other.start()
    try:
        started = time.monotonic()
        run_virtual(main, patience=0.1)
        assert time.monotonic() - started < 10
    finally:
        end.set()
        other.join()


def test_a_deadlock_is_an_error_and_not_a_hanging_test() -> None:
    with pytest.raises(RuntimeError, match="every task waits"):
        run_virtual(asyncio.Event().wait)
