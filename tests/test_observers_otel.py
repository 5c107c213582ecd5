"""OpenTelemetry, with its SDK: spans around calls wherever they run, and metrics."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, Tracer

from dynaflow import App, Middleware, Record, Retry, Router
from dynaflow.observers.otel import OpenTelemetry
from dynaflow.testing import RecordBuilder, TestClient
from tests.support.command_line import run_python


class Telemetry:
    """An OpenTelemetry SDK in memory, and dynaflow's observer on top of it."""

    def __init__(self, **options: Any) -> None:
        self._spans = InMemorySpanExporter()
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self._reader = InMemoryMetricReader()
        self.tracer: Tracer = provider.get_tracer("test")
        self.otel = OpenTelemetry(
            tracer_provider=provider,
            meter_provider=MeterProvider([self._reader], shutdown_on_exit=False),
            **options,
        )

    def app(self, *routers: Router, middleware: tuple[Middleware, ...] = ()) -> App:
        layers = [self.otel.trace, *middleware]
        return App(*routers, middleware=layers, observers=[self.otel])

    @property
    def all_spans(self) -> tuple[ReadableSpan, ...]:
        return self._spans.get_finished_spans()

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        spans = {span.name: span for span in self.all_spans}
        assert len(spans) == len(self.all_spans), "two spans of one name"
        return spans

    @property
    def points(self) -> dict[str, list[Any]]:
        data = self._reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def is_child(self, inner: str, outer: str) -> bool:
        parent, context = self.spans[inner].parent, self.spans[outer].context
        assert context is not None
        return parent is not None and parent.span_id == context.span_id


def router_of(handler: Callable[..., Any], name: str = "ship") -> Router:
    router = Router(table="orders")
    router.add_route(["INSERT"], handler, name=name)
    return router


def test_a_call_is_a_span() -> None:
    telemetry, build = Telemetry(), RecordBuilder(table="orders")
    with TestClient(telemetry.app(router_of(lambda: None))) as stream:
        stream.send(build.insert({"id": "secret"}))
    span = telemetry.spans["process ship"]
    assert span.kind is SpanKind.CONSUMER
    assert span.status.status_code is StatusCode.UNSET
    attributes = dict(span.attributes or {})
    assert attributes.pop("messaging.message.id")
    assert attributes == {
        "messaging.system": "aws.dynamodb_streams",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": "orders",
        "aws.dynamodb.table_names": ("orders",),
        "dynaflow.route": "ship",
        "dynaflow.attempt": 1,
        "dynaflow.event_name": "INSERT",
        "dynaflow.sequence_number": "900000000000000000001",
    }


def test_a_record_that_names_neither_table_nor_id_is_a_span_without_them() -> None:
    telemetry, raw = Telemetry(), RecordBuilder().insert({"id": "1"})
    del raw["eventSourceARN"], raw["eventID"]
    router = Router()
    router.on_insert(name="ship")(lambda: None)
    with TestClient(telemetry.app(router)) as stream:
        stream.send(raw)
    attributes = telemetry.spans["process ship"].attributes or {}
    assert not {"messaging.message.id", "messaging.destination.name"} & set(attributes)


def test_a_call_of_a_batch_route_is_one_span_that_says_how_many_records_it_has() -> None:
    telemetry, router = Telemetry(), Router(table="orders")

    @router.on_batch(name="index")
    async def index(records: list[Record]) -> None: ...

    with TestClient(telemetry.app(router)) as stream:
        stream.send([stream.records.insert({"id": item}) for item in "abc"])
    attributes = telemetry.spans["process index"].attributes or {}
    assert attributes["messaging.batch.message_count"] == 3
    assert attributes["dynaflow.sequence_number"] == "900000000000000000001"
    assert not {"messaging.message.id", "dynaflow.event_name"} & set(attributes)
    (records,) = telemetry.points["dynaflow.records"]
    (calls,) = telemetry.points["dynaflow.call.duration"]
    assert (records.value, calls.count) == (3, 1)


def test_a_span_that_an_async_handler_starts_is_a_child() -> None:
    telemetry = Telemetry()

    async def handler() -> None:
        with telemetry.tracer.start_as_current_span("inner"):
            pass

    with TestClient(telemetry.app(router_of(handler))) as stream:
        stream.insert({"id": "1"})
    assert telemetry.is_child("inner", "process ship")


def test_a_span_that_a_sync_handler_starts_in_its_thread_is_a_child() -> None:
    telemetry, threads = Telemetry(), []

    def handler() -> None:
        threads.append(threading.current_thread())
        with telemetry.tracer.start_as_current_span("inner"):
            pass

    with TestClient(telemetry.app(router_of(handler))) as stream:
        stream.insert({"id": "1"})
    assert threads != [threading.main_thread()]
    assert telemetry.is_child("inner", "process ship")


def test_handlers_that_run_side_by_side_have_spans_of_their_own() -> None:
    telemetry, meet = Telemetry(), threading.Barrier(2)

    def handler(new: dict[str, Any]) -> None:
        meet.wait(10)
        with telemetry.tracer.start_as_current_span(f"inner {new['id']}"):
            meet.wait(10)

    routers = [Router(when=lambda record, item=item: record.keys["id"] == item) for item in "ab"]
    for router, item in zip(routers, "ab", strict=True):
        router.add_route(["INSERT"], handler, name=item)
    with TestClient(telemetry.app(*routers)) as stream:
        result = stream.send([stream.records.insert({"id": item}) for item in "ab"])
    assert result.errors == []
    assert telemetry.is_child("inner a", "process a")
    assert telemetry.is_child("inner b", "process b")


@pytest.mark.parametrize("sync", [True, False])
def test_the_span_around_the_invocation_is_the_parent(sync: bool) -> None:
    telemetry = Telemetry()

    async def on_loop() -> None: ...

    router = router_of((lambda: None) if sync else on_loop)
    client, outer = TestClient(telemetry.app(router)), telemetry.tracer
    with client as stream, outer.start_as_current_span("invocation"):
        stream.insert({"id": "1"})  # runs the batch as Lambda's handler does
    assert telemetry.is_child("process ship", "invocation")


def test_middleware_inside_of_the_span_is_part_of_it() -> None:
    telemetry = Telemetry()

    async def layer(call: Any, call_next: Any) -> None:
        with telemetry.tracer.start_as_current_span("layer"):
            await call_next(call)

    with TestClient(telemetry.app(router_of(lambda: None), middleware=(layer,))) as stream:
        stream.insert({"id": "1"})
    assert telemetry.is_child("layer", "process ship")


class CarrierError(Exception):
    """What a handler raises, with item data in it."""


def failing() -> None:
    raise CarrierError("secret")


def test_a_failure_is_on_the_span_by_type_and_without_its_message() -> None:
    telemetry = Telemetry()
    with TestClient(telemetry.app(router_of(failing))) as stream:
        assert stream.insert({"id": "1"}).failed is not None
    span = telemetry.spans["process ship"]
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == f"{__name__}.CarrierError"
    assert "secret" not in span.to_json()


def test_messages_of_failures_are_on_the_span_if_they_are_wanted() -> None:
    telemetry = Telemetry(record_exceptions=True)
    with TestClient(telemetry.app(router_of(failing))) as stream:
        stream.insert({"id": "1"})
    (event,) = telemetry.spans["process ship"].events
    assert (event.attributes or {})["exception.message"] == "secret"


def test_a_call_that_the_deadline_cuts_off_is_an_error() -> None:
    telemetry = Telemetry()
    with TestClient(telemetry.app(router_of(anyio.sleep_forever)), timeout=0.2) as stream:
        stream.insert({"id": "1"})
    span = telemetry.spans["process ship"]
    assert span.status.status_code is StatusCode.ERROR
    assert "CancelledError" in str((span.attributes or {})["error.type"])


def test_metrics_count_records_by_route_and_status_and_time_calls_and_batches() -> None:
    telemetry, build = Telemetry(), RecordBuilder(table="orders")

    def handler(new: dict[str, Any]) -> None:
        if new["id"] == "bad":
            raise CarrierError("secret")

    with TestClient(telemetry.app(router_of(handler))) as stream:
        stream.send([build.insert({"id": item}) for item in ("a", "bad", "c")])
    points = telemetry.points
    counted = {
        tuple(sorted(point.attributes.items())): point.value for point in points["dynaflow.records"]
    }
    assert counted == {
        (("dynaflow.route", "ship"), ("dynaflow.status", "done")): 2,
        (("dynaflow.route", "ship"), ("dynaflow.status", "failed")): 1,
    }
    (calls,) = points["dynaflow.call.duration"]
    assert (calls.count, dict(calls.attributes)) == (3, {"dynaflow.route": "ship"})
    assert max(calls.explicit_bounds) == 30
    (records,) = points["dynaflow.batch.records"]
    assert (records.value, dict(records.attributes)) == (
        3,
        {"messaging.destination.name": "orders"},
    )
    (batches,) = points["dynaflow.batch.duration"]
    assert batches.count == 1
    (age,) = points["dynaflow.iterator_age"]
    assert age.sum > 0
    assert "secret" not in str(points)


def test_an_attempt_that_is_followed_by_another_is_counted_and_has_a_span_of_its_own() -> None:
    telemetry, failures = Telemetry(), [TimeoutError()]

    def handler() -> None:
        if failures:
            raise failures.pop()

    router = Router(retry=Retry(attempts=2))
    router.on_insert(name="ship")(handler)
    with TestClient(telemetry.app(router)) as stream:
        stream.insert({"id": "1"})
    (retries,) = telemetry.points["dynaflow.call.retries"]
    assert (retries.value, dict(retries.attributes)) == (1, {"dynaflow.route": "ship"})
    (records,) = telemetry.points["dynaflow.records"]
    assert (records.value, records.attributes["dynaflow.status"]) == (1, "done")
    spans = telemetry.all_spans
    assert [(span.attributes or {})["dynaflow.attempt"] for span in spans] == [1, 2]
    assert [span.status.status_code for span in spans] == [StatusCode.ERROR, StatusCode.UNSET]


def test_an_undecodable_record_is_counted_without_route_or_duration() -> None:
    telemetry, broken = Telemetry(), RecordBuilder().insert({"id": "1"})
    del broken["dynamodb"]["Keys"], broken["eventSourceARN"]
    with TestClient(telemetry.app(Router())) as stream:
        stream.send(broken)
    points = telemetry.points
    assert [dict(point.attributes) for point in points["dynaflow.records"]] == [
        {"dynaflow.status": "failed"}
    ]
    assert "dynaflow.call.duration" not in points
    assert "dynaflow.iterator_age" not in points


def test_without_an_sdk_nothing_is_made_and_nothing_fails() -> None:
    script = """
        from dynaflow import App, Router
        from dynaflow.observers.otel import OpenTelemetry
        from dynaflow.testing import TestClient
        import sys
        otel, router = OpenTelemetry(), Router()
        router.on_insert(name="ship")(lambda: None)
        with TestClient(App(router, middleware=[otel.trace], observers=[otel])) as stream:
            print(stream.insert({"id": "1"}).handled_by, "opentelemetry.sdk" in sys.modules)
    """
    ran = run_python(script)
    assert (ran.stdout, ran.stderr) == ("['ship'] False\n", "")


def test_without_the_package_the_error_says_what_to_install() -> None:
    script = """
        import sys
        sys.modules["opentelemetry"] = None
        try:
            import dynaflow.observers.otel
        except Exception as error:
            print(type(error).__name__, error)
    """
    ran = run_python(script)
    assert ran.stdout == (
        "ExtraMissing opentelemetry-api is not installed. "
        "Install it with: pip install 'dynaflow[otel]'\n"
    )
