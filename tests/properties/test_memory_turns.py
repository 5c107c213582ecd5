"""Processes that take turns on one stretch, each with its own memory of what it did.

The rules of the memory are taken out here, one by one, to see that each of them is what keeps an
older effect from standing last.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynaflow.engine.memory import Memory
from dynaflow.record import Record, Undecodable
from dynaflow.testing import EventSourceMapping, MappingReport
from tests.support.accounts import SINGLE, Fault, Kind, Setup, Step
from tests.support.failures import World


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("dynaflow")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(before)


def deliver(steps: list[Step], setup: Setup, **mapping: Any) -> tuple[World, MappingReport]:
    world = World(steps, setup)
    try:
        report = EventSourceMapping(world.invoke, **mapping).run(world.raws, max_invocations=400)
    finally:
        world.close()
    world.check(report)
    assert report.given_up == ()
    return world, report


def step(item: str, **calls: list[Kind | None]) -> Step:
    """Return a record that fails as the lists say, call after call: by route, None for success."""
    return Step(item, faults={route: Fault(tuple(kinds)) for route, kinds in calls.items()})


def forgetful(every: int) -> Memory:
    """Return a memory whose clock jumps so far that it forgets in the middle of a delivery."""
    clock = count()
    return Memory(clock=lambda: float(next(clock)), lasts=every)


CALLS = st.lists(st.sampled_from([None, None, "raise", "raise", "poison", "part"]), max_size=6)
STEPS = st.lists(
    st.builds(
        lambda item, of_routes: step(item, **of_routes),
        st.sampled_from("aabc"),
        st.fixed_dictionaries(
            {}, optional=dict.fromkeys(("own", "second", "every", "latest"), CALLS)
        ),
    ),
    min_size=2,
    max_size=8,
)
MEMORIES = st.one_of(
    st.just(Memory),
    st.integers(1, 3).map(lambda size: partial(Memory, size=size)),
    st.integers(0, 12).map(lambda every: partial(forgetful, every)),
)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=STEPS,
    turns=st.lists(st.integers(0, 1), min_size=1, max_size=6).map(tuple),
    memory=MEMORIES,
    on_loop=st.sampled_from([frozenset[str](), frozenset(SINGLE)]),
    reports=st.booleans(),
    bisects=st.booleans(),
    batch_size=st.sampled_from([2, 4, 100]),
)
def test_an_items_last_effect_is_its_last_records_whoever_had_the_stretch_in_between(
    *,
    steps: list[Step],
    turns: tuple[int, ...],
    memory: Callable[[], Memory],
    on_loop: frozenset[str],
    reports: bool,
    bisects: bool,
    batch_size: int,
) -> None:
    setup = Setup(turns=turns, memory=memory, on_loop=on_loop, reports=reports)
    deliver(
        steps,
        setup,
        report_batch_item_failures=reports,
        bisect_batch_on_function_error=bisects,
        batch_size=batch_size,
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, size=st.integers(1, 12))
def test_who_runs_a_stretch_alone_may_skip_all_and_forget_any_of_it(
    steps: list[Step], size: int
) -> None:
    deliver(steps, Setup(memory=partial(Memory, exclusive=True, size=size), reports=False))


# The rules, taken out. "x" keeps the stretch coming; "a" is the item that is looked at.

SEVERAL = [step("x", own=["raise", "raise"]), step("a"), step("a", own=[None, "raise"])]
EVICTED = [step("x", own=["raise", "raise"]), step("a"), step("a")]


class Hasty(Memory):
    """Minds no earlier record that runs again."""

    def has_done(
        self, record: Record | Undecodable, route: str | None, *, parked: bool = False
    ) -> bool:
        """Say what is known, whatever runs again before it."""
        return super().has_done(record, route)


def test_of_several_records_of_an_item_none_is_skipped_where_others_may_have_run_them() -> None:
    mapping = {"report_batch_item_failures": True}
    deliver(SEVERAL, Setup(turns=(0, 1)), **mapping)
    with pytest.raises(AssertionError, match="an older effect"):
        deliver(SEVERAL, Setup(turns=(0, 1), memory=partial(Memory, exclusive=True)), **mapping)


def test_behind_a_record_that_runs_again_its_item_runs_again() -> None:
    mapping = {"report_batch_item_failures": True}
    deliver(EVICTED, Setup(memory=partial(Memory, exclusive=True, size=6)), **mapping)
    # Each record has four routes; of the eight entries of "a" the first few are forgotten.
    with pytest.raises(AssertionError, match="an older effect"):
        deliver(EVICTED, Setup(memory=partial(Hasty, exclusive=True, size=6)), **mapping)
