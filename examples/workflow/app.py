"""Starts a workflow when an order is paid: one execution for each payment, and never a second."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Annotated, Any

import aioboto3
from pydantic import BaseModel

from dynaflow import App, Depends, Record, Router, changed

__all__ = ["app", "execution_name", "fulfil", "lambda_handler", "open_step_functions"]


class Order(BaseModel):
    """An order, as the shop writes it. Attributes that are not named here are left out."""

    id: str
    status: str


async def open_step_functions() -> AsyncIterator[Any]:
    """Make one client for as long as the app runs."""
    async with aioboto3.Session().client("stepfunctions") as client:
        yield client


def get_state_machine() -> str:
    """Return the ARN of the state machine that fulfils an order. It is of the STANDARD type.

    Executions of an EXPRESS state machine have no names of their own: each start is another one.
    """
    return os.environ["STATE_MACHINE_ARN"]


router = Router(table="orders")


@router.on_upsert(changed("status", to="paid"), name="fulfil")
async def fulfil(
    new: Order,
    record: Record,
    step_functions: Annotated[Any, Depends(open_step_functions, scope="app")],
    state_machine: Annotated[str, Depends(get_state_machine, scope="app")],
) -> None:
    """Start the execution that is named after this change.

    Step Functions gives a name to one execution only, for 90 days: longer than any stream keeps a
    record. While that execution runs, a start of the same name and input answers as the first did;
    once it has ended, it is refused, and that is as good: it has been started.
    """
    with suppress(step_functions.exceptions.ExecutionAlreadyExists):
        await step_functions.start_execution(
            stateMachineArn=state_machine,
            name=execution_name(record),
            input=new.model_dump_json(),
        )


def execution_name(record: Record) -> str:
    """Return the same name whenever this record comes, and another one for every other record.

    At most 80 characters, and none that Step Functions refuses. The order's id is for people who
    look for it; the event's id is what makes the name unique.
    """
    order = re.sub(r"[^A-Za-z0-9-]", "_", record.keys["id"])[:40]
    return f"{order}-{record.event_id}"


app = App(router)
lambda_handler = app.lambda_handler(report_batch_item_failures=True)
