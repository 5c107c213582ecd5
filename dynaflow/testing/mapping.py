"""Lambda's event source mapping for DynamoDB Streams, in memory: it drives a handler as AWS does.

The rules are in ``_mapping_rules``, who is called when in ``_mapping_run``. Nothing sleeps: the
mapping's clock jumps. The lanes of all shards run side by side on that clock, and one after the
other in fact, so that a run is the same every time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableSequence, Sequence
from typing import Any

from dynaflow.testing._mapping_filter import filtering
from dynaflow.testing._mapping_lanes import lanes_of, shards_of
from dynaflow.testing._mapping_report import MappingReport
from dynaflow.testing._mapping_rules import Options
from dynaflow.testing._mapping_run import Chance, Run
from dynaflow.testing._mapping_sandbox import Handler, MappingClock, Sandbox

__all__ = ["EventSourceMapping"]

Destination = Callable[[dict[str, Any]], object] | MutableSequence[dict[str, Any]]


class EventSourceMapping:
    """Sends a stream's records to a Lambda handler as AWS's event source mapping would.

    Options have AWS's names, without "InSeconds", its ranges and its defaults; times are seconds.
    What AWS does not document is chosen as follows, and not verified:

    * the wait between tries grows from half a second to a minute;
    * an odd batch is halved with the smaller half first, and halves come without a wait;
    * only a function error halves a batch, not an answer that is malformed or names the first;
    * the rest of a batch that is partly done is not filled up with new records;
    * records that the stream itself has no longer, after 24 hours, are passed without a message;
    * keys are spread over lanes by a hash of our own.

    Shards have no parents here, and there are no tumbling windows.

    Args:
        handler: called with an event and a context, such as ``app.lambda_handler()``. It may raise
            ``SandboxDied`` or ``Throttled``. What is no ``Exception`` ends its sandbox.
        batch_size: 1 to 10,000 records.
        maximum_batching_window: 0 to 300 seconds.
        parallelization_factor: 1 to 10 concurrent batches of a shard, by partition key.
        maximum_retry_attempts: 0 to 10,000; -1 for no limit.
        maximum_record_age: 60 to 604,800 seconds; -1 for no limit.
        bisect_batch_on_function_error: halve a batch whose invocation failed.
        report_batch_item_failures: True if FunctionResponseTypes has it. Without it, what the
            function answers is ignored.
        filter_criteria: FilterCriteria, such as ``app.filter_criteria()``, or a function that says
            of a raw record whether it passes. What does not pass reaches neither the function nor
            the destination. None for no filter.
        on_failure: the destination of messages about what is given up: a list that takes them, or a
            function that is called with each. If it raises, the message is lost, as in AWS.
        partition_key: the name of the table's partition key, wanted with ``parallelization_factor``
            where the table has two key attributes.
        timeout: the function's, up to 900 seconds. AWS's default is 3; here it is 900, so that a
            slow machine changes no test.
        restart: makes the handler of the next sandbox after one has died; None keeps the handler.
        duplicates: how likely it is, 0 to 1, that the outcome of a batch is lost on its way, so
            that the batch comes once more although it was done.
        start: when the mapping begins to read, in seconds since the epoch: records come when they
            were created. None: all of them are in the stream by then.
        real_time: invocations last as long as they do. If not, they take the time by which handlers
            advance ``clock``.
        seed: of chance: duplicates and ids.

    Raises:
        TypeError, ValueError: an option that Lambda refuses, or a destination that takes nothing.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        batch_size: int = 100,
        maximum_batching_window: int = 0,
        parallelization_factor: int = 1,
        maximum_retry_attempts: int = -1,
        maximum_record_age: int = -1,
        bisect_batch_on_function_error: bool = False,
        report_batch_item_failures: bool = False,
        filter_criteria: Mapping[str, Any] | Callable[[Mapping[str, Any]], object] | None = None,
        on_failure: Destination | None = None,
        partition_key: str | None = None,
        timeout: float = 900,
        restart: Callable[[], Handler] | None = None,
        duplicates: float = 0.0,
        start: float | None = None,
        real_time: bool = False,
        seed: int = 0,
    ) -> None:
        self.options = Options(
            batch_size=batch_size,
            maximum_batching_window=maximum_batching_window,
            parallelization_factor=parallelization_factor,
            maximum_retry_attempts=maximum_retry_attempts,
            maximum_record_age=maximum_record_age,
            bisect_batch_on_function_error=bisect_batch_on_function_error,
            report_batch_item_failures=report_batch_item_failures,
        )
        if not 0 < timeout <= 900:
            raise ValueError(f"timeout is up to 900 seconds in Lambda, got {timeout}")
        if not 0 <= duplicates <= 1:
            raise ValueError(f"duplicates is a probability, 0 to 1, got {duplicates}")
        self.clock = MappingClock()
        self._sandbox = Sandbox(
            handler, restart=restart, timeout=timeout, clock=self.clock, real_time=real_time
        )
        if isinstance(filter_criteria, Mapping):
            filter_criteria = filtering(filter_criteria)
        self._filter = filter_criteria
        self._send = _sending(on_failure)
        self._partition_key = partition_key
        self._start = start
        self._chance = Chance(seed, duplicates)
        self._id = self._chance.new_id()

    def run(
        self,
        stream: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        max_invocations: int | None = None,
    ) -> MappingReport:
        """Read records from the first to the last, until each is done or given up.

        Args:
            stream: an event, raw records, or a mapping of shard ids to raw records; each shard's
                in ascending order of sequence number.
            max_invocations: stop after so many; None for no limit.

        Raises:
            ValueError: a record without a sequence number, out of order, or there twice.
        """
        reading = lanes_of(
            shards_of(stream),
            factor=self.options.parallelization_factor,
            partition_key=self._partition_key,
            passes=self._filter,
            start=self._start,
        )
        run = Run(
            reading, self.options, self._sandbox, self._chance, mapping_id=self._id, send=self._send
        )
        while (max_invocations is None or len(run.invocations) < max_invocations) and run.step():
            pass
        return run.report()


def _sending(destination: Destination | None) -> Callable[[dict[str, Any]], object] | None:
    if destination is None or callable(destination):
        return destination
    if not isinstance(destination, MutableSequence):
        raise TypeError(f"on_failure is a list or a function, got {type(destination).__name__}")
    return destination.append
