"""Each payment starts one Step Functions execution, though answers are lost and records repeat."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from dynaflow.demo.stage import Stage
from dynaflow.demo.storm import Item, Written

from .app import app, get_state_machine, open_step_functions

_DEFINITION = {"StartAt": "Ship", "States": {"Ship": {"Type": "Pass", "End": True}}}
_ROLE = "arn:aws:iam::123456789012:role/demo"


class Line:
    """The line to Step Functions. On a bad one the start arrives, and the answer does not always.

    Args:
        client: of Step Functions.
        lose_every: of how many names one has no answer at its first start; 0 for a good line.
    """

    def __init__(self, client: Any, *, lose_every: int = 0) -> None:
        self.exceptions = client.exceptions
        self.starts: Counter[str] = Counter()
        self.answers: dict[str, str] = {}
        self._client = client
        self._lose_every = lose_every

    async def start_execution(self, **request: Any) -> None:
        """Start an execution.

        Raises:
            TimeoutError: the answer is lost.
        """
        name = request["name"]
        self.starts[name] += 1
        is_first = self._lose_every and self.starts[name] == 1
        is_lost = is_first and len(self.starts) % self._lose_every == 0
        try:
            await self._client.start_execution(**request)
        except self.exceptions.ExecutionAlreadyExists:
            self.answers[name] = "refused"
            raise
        if is_lost:
            raise TimeoutError("no answer")
        self.answers[name] = "started"


async def play(stage: Stage) -> bool:
    """Deliver a storm of writes on a bad line; end all executions; deliver everything again."""
    await stage.create_table("orders")
    async with stage.client("stepfunctions") as client:
        arn = await create_state_machine(client)
        line = Line(client, lose_every=3)
        async with running(stage, line, arn):
            written = await stage.storm("orders", writes=90, items=6, seed=5, make=change)
            due = payments(written)
            stage.say(f"{len(written)} writes to 6 orders, {due.total()} of them payments")
            await stage.until(lambda: len(line.answers) == due.total())
        repeats = line.starts.total() - len(line.starts)
        stage.say(f"{line.starts.total()} starts, {repeats} of them after a lost answer")
        await end_all(client, arn)
        line = Line(client)
        async with running(stage, line, arn):
            await stage.until(lambda: len(line.answers) == due.total())
        refused = Counter(line.answers.values())["refused"]
        stage.say(f"when all have ended, everything comes again: {refused} starts are refused")
        started = await executions(client, arn)
    return stage.judge(started == due, f"{started.total()} executions for {due.total()} payments")


@asynccontextmanager
async def running(stage: Stage, line: Line, state_machine: str) -> AsyncIterator[None]:
    """Run the app on the orders from their first change on, with this line."""
    overrides = {open_step_functions: lambda: line, get_state_machine: lambda: state_machine}
    with app.overrides(overrides):
        async with stage.running(app, "orders"):
            yield


def change(chance: Random, key: Item, old: Item | None) -> Item | None:
    """Make up an order's next state; it may be paid, be opened again, and be paid again."""
    if old is not None and chance.random() < 0.1:
        return None
    return {"status": chance.choice(("open", "paid", "shipped")), "total": chance.randrange(9)}


def payments(written: Iterable[Written]) -> Counter[str]:
    """Count each order's changes to paid, from what was written."""
    return Counter(
        write.key["id"]
        for write in written
        if write.new is not None
        and write.new["status"] == "paid"
        and (write.old is None or write.old["status"] != "paid")
    )


async def executions(client: Any, state_machine: str) -> Counter[str]:
    """Count the executions that there are for each order."""
    found: Counter[str] = Counter()
    async for page in client.get_paginator("list_executions").paginate(
        stateMachineArn=state_machine
    ):
        found.update(each["name"].rpartition("-")[0] for each in page["executions"])
    return found


async def create_state_machine(client: Any) -> str:
    """Create a state machine of one state, and return its ARN. The emulator does not run it."""
    machine = await client.create_state_machine(
        name="fulfil", definition=json.dumps(_DEFINITION), roleArn=_ROLE
    )
    return str(machine["stateMachineArn"])


async def end_all(client: Any, state_machine: str) -> None:
    """Stop what runs, after which Step Functions refuses a name instead of answering as before."""
    async for page in client.get_paginator("list_executions").paginate(
        stateMachineArn=state_machine, statusFilter="RUNNING"
    ):
        for execution in page["executions"]:
            await client.stop_execution(executionArn=execution["executionArn"])
