"""Random schedules of everything that can go wrong, through Lambda's door and a mapping.

Nothing is lost, items keep their order, no checkpoint is wrong, letters are written once, and no
process ends but those that the schedule ends. ``tests/support/failures.py`` does the accounting.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynaflow import Retry
from dynaflow.engine.memory import Memory
from dynaflow.testing import EventSourceMapping, MappingReport
from tests.support.accounts import BATCH, ROUTES, Fault, Setup, Step
from tests.support.failures import World

QUICK = ("raise", "raise", "exit", "cancel", "interrupt", "poison", "poison", "later", "skip")
DYING = (*QUICK, "die")
SLOW = (*QUICK, "hang", "hang", "fails too late")
ENDLESS = ("raise", "exit", "cancel", "poison", "part", "hang")


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("dynaflow")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    yield
    logger.setLevel(before)


def faults(kinds: Sequence[str]) -> st.SearchStrategy[Fault]:
    several = st.lists(st.sampled_from(kinds), min_size=1, max_size=3).map(tuple)
    return st.builds(Fault, several, st.booleans())


def steps_of(kinds: Sequence[str]) -> st.SearchStrategy[list[Step]]:
    single, batch = faults(kinds), faults((*kinds, "part", "part"))
    of_routes = st.fixed_dictionaries(
        {},
        optional={
            "own": single,
            "second": single,
            **dict.fromkeys(BATCH, batch),
            "filter": faults(["raise"]),
        },
    )
    usual = st.just(dict[str, Fault]())
    step = st.builds(
        Step,
        item=st.sampled_from("aabc"),
        shape=st.sampled_from(["good"] * 12 + ["spoiled", "keyless"]),
        faults=st.one_of(usual, usual, of_routes),
    )
    return st.lists(step, min_size=1, max_size=12)


SETUPS = st.builds(
    Setup,
    on_loop=st.sets(st.sampled_from(ROUTES)).map(frozenset),
    max_items=st.sampled_from([1, 2, 100]),
    retry=st.sampled_from([None, None, Retry(attempts=2), Retry(attempts=3)]),
    after=st.fixed_dictionaries({}, optional=dict.fromkeys(ROUTES, st.integers(1, 3))),
    sink=st.sampled_from([None, "sync", "sync", "async", "async"]),
    reports=st.sampled_from([True, True, True, False, None]),
    options=st.fixed_dictionaries(
        {
            "threads": st.sampled_from([0, 2, 16]),
            "concurrency": st.integers(1, 5),
            "failure_policy": st.sampled_from(["stop_item", "stop_item", "stop"]),
        }
    ),
)
MAPPINGS = st.fixed_dictionaries(
    {
        "batch_size": st.sampled_from([1, 2, 5, 100]),
        "maximum_retry_attempts": st.sampled_from([-1, -1, 1, 8]),
        "bisect_batch_on_function_error": st.booleans(),
        "report_batch_item_failures": st.booleans(),
        "seed": st.integers(0, 3),
    }
)


def deliver(
    steps: Sequence[Step], setup: Setup, mapping: dict[str, Any], **more: Any
) -> tuple[World, MappingReport]:
    """Run a schedule to its end, and account for it."""
    if setup.sink is None:
        setup = replace(setup, after={})
    if setup.reports:
        mapping = {**mapping, "report_batch_item_failures": True}
    if mapping["maximum_retry_attempts"] == -1:  # then everything has to have an end
        steps = [curable(step, setup) for step in steps]
    world = World(steps, setup)
    try:
        lambda_ = EventSourceMapping(world.invoke, **{**mapping, **more})
        report = lambda_.run(world.raws, max_invocations=600)
    finally:
        world.close()
    world.check(report)
    if mapping["maximum_retry_attempts"] == -1:
        assert report.given_up == ()
    return world, report


def curable(step: Step, setup: Setup) -> Step:
    """Return the step without what fails for ever and is never parked."""

    def cured(what: str, fault: Fault) -> Fault:
        route = "own" if what == "filter" else what
        last = fault.kinds[-1]
        counts = route in setup.after and setup.memory is Memory  # a small one may never get there
        is_parked = last in ENDLESS and (last == "poison" or counts)
        return fault if setup.sink and is_parked else replace(fault, is_endless=False)

    return Step(
        step.item,
        "good" if setup.sink is None else step.shape,
        {what: cured(what, fault) for what, fault in step.faults.items()},
    )


def check_letters(world: World) -> None:
    """Check that no record was parked twice for a route: for one process, and a sink that works."""
    assert all(count == 1 for count in world.letters.values()), world.letters


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=steps_of(QUICK), setup=SETUPS, mapping=MAPPINGS)
def test_in_one_process_nothing_is_lost_and_each_letter_is_written_once(
    steps: list[Step], setup: Setup, mapping: dict[str, Any]
) -> None:
    world, _ = deliver(steps, setup, mapping)
    check_letters(world)


SINK_FAULTS = st.lists(
    st.sampled_from([None, "fails", "fails", "answer is lost", "dies before", "dies after"]),
    max_size=4,
).map(tuple)
MEMORIES = st.sampled_from(
    [Memory, partial(Memory, size=1), partial(Memory, size=3), partial(Memory, lasts=0.0)]
)
TURNS = st.sampled_from([(0,), (0, 1), (0, 0, 1), (0, 1, 1), (1, 0, 0, 1)])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=steps_of(DYING),
    setup=SETUPS,
    mapping=MAPPINGS,
    sink_faults=SINK_FAULTS,
    turns=TURNS,
    memory=MEMORIES,
    duplicates=st.sampled_from([0.0, 0.3]),
)
def test_whatever_dies_repeats_and_is_not_taken_nothing_is_lost(
    *,
    steps: list[Step],
    setup: Setup,
    mapping: dict[str, Any],
    sink_faults: Any,
    turns: tuple[int, ...],
    memory: Callable[[], Memory],
    duplicates: float,
) -> None:
    setup = replace(setup, sink_faults=sink_faults, turns=turns, memory=memory)
    deliver(steps, setup, mapping, duplicates=duplicates)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=steps_of(SLOW),
    setup=SETUPS,
    mapping=MAPPINGS,
    sink_faults=st.lists(st.sampled_from([None, "fails", "hangs"]), max_size=3).map(tuple),
    timeout=st.sampled_from([None, None, 0.005]),
    holds=st.integers(0, 1),
)
def test_whatever_hangs_until_the_deadline_nothing_is_lost(
    *,
    steps: list[Step],
    setup: Setup,
    mapping: dict[str, Any],
    sink_faults: Any,
    timeout: float | None,
    holds: int,
) -> None:
    setup = replace(setup, sink_faults=sink_faults, timeout=timeout, holds=holds)
    deliver(steps, setup, mapping)


def test_a_batch_of_a_function_that_raises_loses_nothing_and_repeats_nothing() -> None:
    steps = [
        Step("a"),
        Step("b", faults={"own": Fault(("raise", "raise"))}),
        Step("c"),
        Step("d", faults={"own": Fault(("poison",))}),
    ]
    world, report = deliver(
        steps,
        Setup(sink="sync", reports=None),
        {"maximum_retry_attempts": 5, "report_batch_item_failures": False},
    )
    assert [each.outcome for each in report.invocations] == ["function error"] * 2 + ["done"]
    assert report.given_up == ()
    every = [(route, n) for route in ROUTES for n in range(4)]
    every.remove(("own", 3))
    assert sorted(world.effects) == sorted(every)  # each once
    assert world.letters == {("own", 3): 1}
