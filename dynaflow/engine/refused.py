"""A failure that is certain before anything is called, in the place of the call that it spares.

Such a record is to be parked, and that has its turn in the record's lane, as a call has.
"""

from __future__ import annotations

from typing import Any, NoReturn

from dynaflow._table import CompiledRoute
from dynaflow.context import HandlerContext
from dynaflow.middleware import Call
from dynaflow.retry import Retry

__all__ = ["Refused"]


class Refused:
    """Stands for a route, or for none, and fails with what is known already.

    Args:
        route: whose call it spares; None for a record that reaches no route.
        error: what it fails with.
    """

    __slots__ = ("_error", "name", "route")

    batching = None
    is_sync = True
    retry: Retry | None = None
    timeout: float | None = None

    def __init__(self, route: CompiledRoute | None, error: BaseException) -> None:
        self.route = route
        self.name = None if route is None else route.name
        self._error = error

    @property
    def after_deliveries(self) -> int | None:
        """The route's own."""
        return None if self.route is None else self.route.after_deliveries

    def call(self, call: Call) -> NoReturn:
        """Fail."""
        raise self._error

    async def process(self, call: Call) -> Any:
        """Fail, on an event loop."""
        raise self._error

    def judged(self, error: BaseException, context: HandlerContext) -> BaseException:
        """Return the error: a router has been asked about no such thing."""
        return error
