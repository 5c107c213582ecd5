"""No item data in logs, metrics or spans, whatever goes wrong, but for what a handler raises.

A marker stands in every attribute, in every way of being wrong that dynaflow knows. A handler's own
exception is logged as it is: that is documented, and the last test here.
"""

from __future__ import annotations

import copy
import io
import logging
from typing import Any

import pytest
from pydantic import BaseModel

from dynaflow import App, Image, Router, changed
from dynaflow.errors import EventError, InvalidImage, MalformedValue
from dynaflow.observe import BatchEnded, CallEnded
from dynaflow.observers.emf import EMF
from dynaflow.testing import RecordBuilder, TestClient
from tests.support.watching import Noting
from tests.test_observers_otel import Telemetry

MARKER = "hunter2"
ITEM = {
    "id": f"{MARKER}-key",
    "text": MARKER,
    "list": [MARKER, {"deep": MARKER}],
    "set": {MARKER, f"{MARKER}-2"},
    "binary": MARKER.encode(),
    "map": {"inner": {"most": MARKER}},
}


class Order(BaseModel):
    id: str
    text: int  # never what the item has
    missing: str


def reads_everything(new: dict[str, Any]) -> None: ...


async def reads_everything_on_the_loop(new: dict[str, Any]) -> None: ...


def wants_a_model(new: Order) -> None: ...


def looks_into_it(new: Image) -> None:
    new["text"]
    new["map"]


def router_of_everything() -> Router:
    router = Router()
    router.add_route(["INSERT", "MODIFY"], reads_everything)
    router.add_route(["INSERT", "MODIFY"], reads_everything_on_the_loop)
    router.add_route(["INSERT", "MODIFY"], wants_a_model)
    router.add_route(["INSERT", "MODIFY"], looks_into_it)
    router.add_route(["MODIFY"], lambda: None, changed("text", to="other"), name="filtered")
    return router


def spoiled() -> list[dict[str, Any]]:
    """Return a good record, and others with something wrong in them that quotes the marker."""
    build = RecordBuilder()
    good = build.insert(ITEM)
    wrong: list[Any] = [
        {"N": MARKER},
        {"B": f"{MARKER}!"},
        {"X": MARKER},
        {"S": [MARKER]},
        {"M": {"inner": {"N": MARKER}}},
        {"L": [{"N": MARKER}]},
        {"SS": [MARKER, MARKER]},
        MARKER,
        [MARKER],
        {MARKER: {"S": MARKER}},
    ]
    records = [good, build.modify(ITEM, {**ITEM, "text": f"{MARKER}-new"}), build.remove(ITEM)]
    for value in wrong:
        for image in ("NewImage", "Keys"):
            record = copy.deepcopy(build.insert(ITEM))
            record["dynamodb"][image]["text" if image == "NewImage" else "id"] = value
            records.append(record)
    for field, value in (
        ("eventName", MARKER),
        ("userIdentity", MARKER),
        ("dynamodb.NewImage", MARKER),
        ("dynamodb.Keys", MARKER),
        ("dynamodb.ApproximateCreationDateTime", MARKER),
        ("dynamodb.StreamViewType", MARKER),
        ("dynamodb.SizeBytes", MARKER),
    ):
        record = copy.deepcopy(build.insert(ITEM))
        place = record["dynamodb"] if field.startswith("dynamodb.") else record
        place[field.removeprefix("dynamodb.")] = value
        records.append(record)
    return records


@pytest.mark.parametrize("record", spoiled())
def test_no_item_data_gets_out(record: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    telemetry, lines, noting = Telemetry(), io.StringIO(), Noting()

    def raising(event: object) -> None:
        raise ValueError(str(event), record)

    app = App(
        router_of_everything(),
        middleware=[telemetry.otel.trace],
        observers=[EMF(stream=lines), telemetry.otel, noting, raising],
    )
    with caplog.at_level(logging.DEBUG), TestClient(app) as stream:
        stream.send(record)
    assert len(noting.batches) == 1
    assert MARKER not in caplog.text
    assert MARKER not in lines.getvalue()
    assert all(MARKER not in span.to_json() for span in telemetry.spans.values())
    assert MARKER not in str(telemetry.points)
    assert all(MARKER not in repr(event) for event in noting.events)


def test_an_event_that_is_refused_as_a_whole_is_not_quoted() -> None:
    record = {**RecordBuilder().insert(ITEM), "dynamodb": [ITEM]}
    with TestClient(router_of_everything()) as stream, pytest.raises(EventError) as refused:
        stream.send([record])
    assert MARKER not in str(refused.value)


def test_what_the_marker_spoils_does_fail() -> None:
    noting = Noting()
    with TestClient(App(router_of_everything(), observers=[noting])) as stream:
        for record in spoiled():
            stream.send(record)
    errors = {type(error) for batch in noting.batches for error in batch.result.errors}
    assert {InvalidImage, MalformedValue} <= errors
    assert {type(event) for event in noting.events} == {CallEnded, BatchEnded}


def test_a_handlers_own_exception_is_logged_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    telemetry, lines, router = Telemetry(), io.StringIO(), Router()

    @router.on_insert()
    def handler(new: dict[str, Any]) -> None:
        raise ValueError(new["text"])

    app = App(
        router,
        middleware=[telemetry.otel.trace],
        observers=[EMF(stream=lines), telemetry.otel],
    )
    with TestClient(app) as stream:
        stream.insert(ITEM)
    assert MARKER in caplog.text
    assert MARKER not in lines.getvalue()
    assert all(MARKER not in span.to_json() for span in telemetry.spans.values())
