"""OpenTelemetry: a span around each call, and metrics; through the API package only.

Names of attributes: OpenTelemetry's semantic conventions for messaging, as far as they have any;
the others begin with ``dynaflow.``. No attribute holds item data.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from dynaflow._told import type_of
from dynaflow.errors import ExtraMissing, Skip
from dynaflow.middleware import Call, Process
from dynaflow.observe import BatchEnded, CallEnded, CallRetried, Event
from dynaflow.record import table_of

try:
    from opentelemetry import metrics, trace
except ImportError:
    raise ExtraMissing("opentelemetry-api", "otel") from None

__all__ = ["OpenTelemetry"]

_SCOPE = "dynaflow"
_SYSTEM = "aws.dynamodb_streams"
# Seconds; the SDK's own are meant for milliseconds.
_CALL_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_BATCH_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900)
_AGE_BUCKETS = (1, 2, 5, 10, 30, 60, 120, 300, 900, 1800, 3600, 3 * 3600, 12 * 3600, 24 * 3600)


class OpenTelemetry:
    """Spans by ``App(middleware=[otel.trace])``, metrics by ``App(observers=[otel])``.

    Metrics: ``dynaflow.records`` (by route and status), ``dynaflow.call.duration`` and
    ``dynaflow.call.retries`` (by route), ``dynaflow.batch.records``, ``dynaflow.batch.duration``
    and ``dynaflow.iterator_age`` (by table); times in seconds.

    Args:
        tracer_provider: None for the global one.
        meter_provider: None for the global one.
        record_exceptions: whether spans get the message and the traceback of what a handler
            raised, which may hold item data; otherwise only its type.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
        record_exceptions: bool = False,
    ) -> None:
        self._record_exceptions = record_exceptions
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        meter = metrics.get_meter(_SCOPE, meter_provider=meter_provider)
        self._records = meter.create_counter(
            "dynaflow.records", "{record}", "Records by route and by how their call ended"
        )
        self._call_duration = meter.create_histogram(
            "dynaflow.call.duration",
            "s",
            "How long the calls of a route took",
            explicit_bucket_boundaries_advisory=_CALL_BUCKETS,
        )
        self._call_retries = meter.create_counter(
            "dynaflow.call.retries",
            "{attempt}",
            "Attempts that failed and were followed by another",
        )
        self._batch_records = meter.create_counter(
            "dynaflow.batch.records",
            "{record}",
            "Records that came, whether a route took them or not",
        )
        self._batch_duration = meter.create_histogram(
            "dynaflow.batch.duration",
            "s",
            "How long batches took",
            explicit_bucket_boundaries_advisory=_BATCH_BUCKETS,
        )
        self._iterator_age = meter.create_histogram(
            "dynaflow.iterator_age",
            "s",
            "The age of a batch's last record when the batch began",
            explicit_bucket_boundaries_advisory=_AGE_BUCKETS,
        )

    async def trace(self, call: Call, call_next: Process) -> None:
        """Run the call in a span, which is the current one wherever its handler runs."""
        with self._tracer.start_as_current_span(
            f"process {call.context.route}",
            kind=trace.SpanKind.CONSUMER,
            attributes=_attributes_of(call),
            record_exception=self._record_exceptions,
            set_status_on_exception=False,  # it would hold the exception's message
        ) as span:
            try:
                await call_next(call)
            except Skip:  # the record is done
                raise
            except BaseException as error:
                span.set_attribute("error.type", type_of(error))
                span.set_status(trace.Status(trace.StatusCode.ERROR))
                raise

    def __call__(self, event: Event, /) -> None:
        """Count a call or a batch that has ended, or an attempt that was not the last."""
        if isinstance(event, CallEnded):
            self._count_call(event)
        elif isinstance(event, CallRetried):
            self._call_retries.add(1, {"dynaflow.route": event.route})
        elif isinstance(event, BatchEnded):
            self._count_batch(event)

    def _count_call(self, event: CallEnded) -> None:
        first = event.outcome
        route = {} if first.route is None else {"dynaflow.route": first.route}
        for status, count in Counter(outcome.status for outcome in event.outcomes).items():
            self._records.add(count, {**route, "dynaflow.status": status.value})
        if first.duration:  # else it never began
            self._call_duration.record(first.duration, route)

    def _count_batch(self, event: BatchEnded) -> None:
        table = table_of(event.source_arn)
        labels: dict[str, Any] = {} if table is None else {"messaging.destination.name": table}
        self._batch_records.add(event.records, labels)
        self._batch_duration.record(event.duration, labels)
        if event.iterator_age is not None:
            self._iterator_age.record(event.iterator_age, labels)


def _attributes_of(call: Call) -> dict[str, Any]:
    context, record, table = call.context, call.record, call.record.table
    attributes: dict[str, Any] = {
        "messaging.system": _SYSTEM,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "dynaflow.route": context.route,
        "dynaflow.attempt": context.attempt,
        "dynaflow.sequence_number": record.sequence_number,
    }
    if context.many is not None:
        attributes["messaging.batch.message_count"] = len(context.records)
    else:
        attributes["dynaflow.event_name"] = record.event_name.value
        if record.event_id:
            attributes["messaging.message.id"] = record.event_id
    if table is not None:
        attributes["messaging.destination.name"] = table
        attributes["aws.dynamodb.table_names"] = (table,)
    return attributes
