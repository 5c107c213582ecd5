"""One call of a function as Lambda's Python runtime makes it: event, context, answer, death."""

from __future__ import annotations

import inspect
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias

from dynaflow.testing._mapping_report import FUNCTION_ARN

__all__ = [
    "Called",
    "Handler",
    "LambdaContext",
    "MappingClock",
    "Sandbox",
    "SandboxDied",
    "Throttled",
]

Handler: TypeAlias = Callable[[Any, Any], Any]

_LARGEST_ANSWER = 6 * 1024 * 1024  # bytes


class SandboxDied(BaseException):
    """Raised by a handler in a test: its process died here, as by a kill or for want of memory."""


class Throttled(Exception):
    """Raised by a handler in a test: Lambda did not run it (429, or an error of the service)."""


class MappingClock:
    """The time of a mapping: it stands still unless the mapping waits or a handler advances it.

    Args:
        now: seconds since the epoch.
    """

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def time(self) -> float:
        """Return the seconds since the epoch."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Let time pass, as a handler does that takes so long.

        Raises:
            ValueError: a negative number.
        """
        if not seconds >= 0:
            raise ValueError(f"time does not go back: {seconds} seconds")
        self._now += seconds

    def set(self, now: float) -> None:
        """Set the time; the mapping does so for each of its lanes, which run side by side."""
        self._now = now


class LambdaContext:
    """The context object of one invocation, with what Lambda's Python runtime gives it."""

    function_name = "function"
    function_version = "$LATEST"
    invoked_function_arn = FUNCTION_ARN
    memory_limit_in_mb = "128"
    log_group_name = "/aws/lambda/function"
    log_stream_name = "2026/01/01/[$LATEST]0"
    client_context = None
    identity = None
    tenant_id = None

    def __init__(self, request_id: str, remaining: Callable[[], float]) -> None:
        self.aws_request_id = request_id
        self._remaining = remaining

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until Lambda ends the invocation, 0 if they are over."""
        return max(0, int(self._remaining() * 1000))

    def log(self, message: str) -> None:
        """Say nothing: the test's output is not the function's log."""


@dataclass(frozen=True, slots=True)
class Called:
    """What came of a call.

    Args:
        answer: after JSON.
        error: why there is no answer.
        died: the process did not live on.
    """

    answer: Any = None
    error: BaseException | None = None
    died: bool = False


class Sandbox:
    """Where a function runs: one process after the other.

    Args:
        handler: the function.
        restart: makes the function of the next process; None keeps it.
        timeout: seconds that an invocation may take.
        clock: the mapping's.
        real_time: an invocation's real seconds pass on the clock, too.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        restart: Callable[[], Handler] | None,
        timeout: float,
        clock: MappingClock,
        real_time: bool,
    ) -> None:
        self.clock = clock
        self._handler = handler
        self._restart = restart
        self._timeout = timeout
        self._real_time = real_time

    def call(self, records: Sequence[str], request_id: str) -> Called:
        """Call the function with the event of these records' JSON, and read its answer.

        Every ``Exception`` is a function error. Whatever else is raised ends the process, as it
        does in Lambda's Python runtime; so does a time-out.
        """
        called = self._timed(records, request_id)
        if called.died and self._restart is not None:
            self._handler = self._restart()
        return called

    def _timed(self, records: Sequence[str], request_id: str) -> Called:
        started, real_start = self.clock.time(), time.monotonic()

        def elapsed() -> float:
            real = time.monotonic() - real_start if self._real_time else 0.0
            return self.clock.time() - started + real

        context = LambdaContext(request_id, lambda: self._timeout - elapsed())
        called = self._run(json.loads(f'{{"Records": [{", ".join(records)}]}}'), context)
        taken = elapsed()
        self.clock.set(started + min(taken, self._timeout))
        if taken <= self._timeout or isinstance(called.error, Throttled):
            return called
        late = TimeoutError(f"the function timed out after {self._timeout} seconds")
        late.__cause__ = called.error
        return Called(error=late, died=True)

    def _run(self, event: Any, context: LambdaContext) -> Called:
        try:
            return Called(_received(self._handler(event, context)))
        except Exception as error:
            return Called(error=error)
        except BaseException as error:  # as the runtime: nothing but an Exception leaves it alive
            return Called(error=error, died=True)


def _received(answer: Any) -> Any:
    """Return what Lambda receives for what a function returned.

    Raises:
        TypeError, ValueError: the runtime could not write it, which makes it a function error.
    """
    if inspect.iscoroutine(answer):
        answer.close()
        raise TypeError("the function returned a coroutine: Lambda's runtime does not await it")
    text = answer if isinstance(answer, bytes) else json.dumps(answer, default=_plain).encode()
    if len(text) > _LARGEST_ANSWER:
        raise ValueError("the answer is larger than 6 MB")
    try:
        return json.loads(text)
    except ValueError:  # bytes are sent as they are
        return text


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bytes):
        return value.decode()
    raise TypeError(f"Lambda's runtime cannot write {type(value).__name__} as JSON")
