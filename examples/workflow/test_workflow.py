"""The workflow's tests: in memory with a stand-in for Step Functions, and on the emulator."""

from __future__ import annotations

import re
from typing import Any

import pytest

from dynaflow.demo.stage import Stage
from dynaflow.testing import TestClient
from examples.workflow.app import app, get_state_machine, open_step_functions
from examples.workflow.demo import play

OPEN = {"id": "A-100", "status": "open", "total": 20}
PAID = {**OPEN, "status": "paid"}


class StepFunctions:
    """Refuses a name that was used, as Step Functions does once the execution has ended."""

    class ExecutionAlreadyExists(Exception):
        pass

    def __init__(self) -> None:
        self.exceptions = self
        self.started: dict[str, dict[str, Any]] = {}
        self.refused = 0

    async def start_execution(self, **request: Any) -> None:
        if request["name"] in self.started:
            self.refused += 1
            raise self.ExecutionAlreadyExists
        self.started[request["name"]] = request


class OutOfService(StepFunctions):
    async def start_execution(self, **request: Any) -> None:
        raise ConnectionError("Step Functions is not there")


@pytest.fixture
def step_functions() -> StepFunctions:
    return StepFunctions()


def client(step_functions: StepFunctions) -> TestClient:
    overrides = {open_step_functions: lambda: step_functions, get_state_machine: lambda: "arn"}
    return TestClient(app, overrides=overrides)


def test_a_payment_starts_an_execution_with_the_order(step_functions: StepFunctions) -> None:
    with client(step_functions) as stream:
        assert stream.modify(old=OPEN, new=PAID).handled_by == ["fulfil"]
    (request,) = step_functions.started.values()
    assert request["stateMachineArn"] == "arn"
    assert request["input"] == '{"id":"A-100","status":"paid"}'


def test_an_order_that_is_born_paid_starts_one_too(step_functions: StepFunctions) -> None:
    with client(step_functions) as stream:
        stream.insert(PAID)
    assert len(step_functions.started) == 1


@pytest.mark.parametrize(
    ("old", "new"), [(PAID, {**PAID, "total": 30}), (PAID, OPEN)], ids=["total", "opened again"]
)
def test_other_changes_start_none(
    step_functions: StepFunctions, old: dict[str, Any], new: dict[str, Any]
) -> None:
    with client(step_functions) as stream:
        assert stream.modify(old=old, new=new).handled_by == []


def test_a_record_that_comes_again_is_done_and_starts_none(step_functions: StepFunctions) -> None:
    with client(step_functions) as stream:
        paid = stream.records.modify(OPEN, PAID)
        results = [stream.send(paid) for _ in range(3)]
    assert [result.failed for result in results] == [None] * 3
    assert (len(step_functions.started), step_functions.refused) == (1, 2)


def test_a_second_payment_of_the_order_starts_a_second_one(step_functions: StepFunctions) -> None:
    with client(step_functions) as stream:
        stream.modify(old=OPEN, new=PAID)
        stream.modify(old=OPEN, new=PAID)
    assert len(step_functions.started) == 2


def test_a_start_that_fails_leaves_the_record_not_done() -> None:
    with client(OutOfService()) as stream:
        result = stream.modify(old=OPEN, new=PAID)
    assert result.failed is not None
    assert [type(error) for error in result.errors] == [ConnectionError]


@pytest.mark.parametrize("id_", ["A-100", "a b/c:d", "ø" * 100, "x" * 2048])
def test_names_are_such_as_step_functions_takes(step_functions: StepFunctions, id_: str) -> None:
    with client(step_functions) as stream:
        stream.insert({**PAID, "id": id_})
    (name,) = step_functions.started
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name)


@pytest.mark.asyncio
async def test_in_a_storm_with_lost_answers_each_payment_starts_one_execution(
    stage: Stage,
) -> None:
    assert await play(stage)
