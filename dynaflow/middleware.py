"""The one shape of everything that stands around a call.

A middleware is a plain function ``async def m(call, call_next)``. It awaits ``call_next(call)`` to
go on; what it raises is the call's failure; if it returns without going on, the call is done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from dynaflow.context import HandlerContext
from dynaflow.record import Record

__all__ = ["Call", "Middleware", "Process", "compose"]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one route: for one record, or for the records of a batch route's call.

    Args:
        context: what the handler may know: record, route name, attempt, deadline.
        lanes: each record's, in the same order; calls that share one run one after the other, in
            stream order.
        lost: the lanes on which something still works that was cut off.
        judged: returns what the route's routers make of an exception; None if they are not asked.
    """

    context: HandlerContext
    lanes: tuple[Hashable, ...] = field(default=(), repr=False)  # they hold the items' keys
    lost: Container[Hashable] = field(default=(), repr=False, compare=False)
    judged: Callable[[BaseException, HandlerContext], BaseException] | None = field(
        default=None, repr=False, compare=False
    )

    @property
    def record(self) -> Record:
        """The record that is handled; the first one of a batch route's call."""
        return self.context.record

    @property
    def records(self) -> tuple[Record, ...]:
        """All records of the call, in stream order: several for a batch route, else one."""
        return self.context.records

    @property
    def still_runs(self) -> bool:
        """True if a worker thread still works on an item of this call that was cut off."""
        return any(lane in self.lost for lane in self.lanes)

    def meaning_of(self, error: BaseException) -> BaseException:
        """Return what an exception of this call counts as: what ``on_error`` made of it."""
        return error if self.judged is None else self.judged(error, self.context)


Process: TypeAlias = Callable[[Call], Awaitable[None]]
Middleware: TypeAlias = Callable[[Call, Process], Awaitable[None]]


def compose(middleware: Sequence[Middleware], endpoint: Process) -> Process:
    """Return the endpoint with the middleware around it, the first outermost."""
    for layer in reversed(middleware):
        endpoint = _around(layer, endpoint)
    return endpoint


def _around(layer: Middleware, inner: Process) -> Process:
    async def process(call: Call) -> None:
        await layer(call, inner)

    return process
