"""Whether an event is for an App, asked by functions with several sources."""

from __future__ import annotations

import json
from collections import UserDict
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from aws_lambda_powertools.utilities.data_classes import DynamoDBStreamEvent, SQSEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from dynaflow import App, F
from dynaflow.errors import EventError
from dynaflow.testing import RecordBuilder
from tests.support.routers import app_for, router_named

BUILD = RecordBuilder(table="orders")
EVENT = BUILD.event(BUILD.insert({"id": "1"}), BUILD.remove({"id": "2"}))


@pytest.mark.parametrize(
    ("tables", "accepted"),
    [
        (("orders",), True),
        (("users", "orders"), True),
        ((None,), True),
        (("users", None), True),
        (("users",), False),
        (("Orders",), False),
        ((), False),
    ],
)
def test_an_event_is_accepted_if_some_route_takes_its_table(
    tables: tuple[str | None, ...], accepted: bool
) -> None:
    assert app_for(*tables).accepts(EVENT) is accepted


def test_a_router_s_table_counts_and_filters_do_not() -> None:
    assert App(router_named("ship", table="orders")).accepts(EVENT)
    assert not App(router_named("ship", table="users")).accepts(EVENT)
    assert App(router_named("ship", when=F.keys.id == "3")).accepts(EVENT)


@pytest.mark.parametrize(
    "event",
    [
        EVENT,
        EVENT["Records"],
        tuple(EVENT["Records"]),
        UserDict(EVENT),
        MappingProxyType(EVENT),
        DynamoDBStreamEvent(EVENT),
        json.loads(json.dumps(EVENT)),
    ],
    ids=["event", "pipes", "tuple", "UserDict", "proxy", "powertools", "json"],
)
def test_every_form_of_an_event_that_the_door_takes_is_accepted(event: Any) -> None:
    app = app_for("orders")
    assert app.accepts(event)
    assert app.lambda_handler()(event) == {"batchItemFailures": []}


SQS = {"Records": [{"messageId": "1", "eventSource": "aws:sqs", "body": "{}"}]}
KINESIS = {"Records": [{"eventSource": "aws:kinesis", "kinesis": {"data": ""}}]}
SNS = {"Records": [{"EventSource": "aws:sns", "Sns": {"Message": "{}"}}]}


@pytest.mark.parametrize(
    "event",
    [
        SQS,
        SQSEvent(SQS),
        KINESIS,
        SNS,
        {"Records": [*EVENT["Records"], *SQS["Records"]]},
        {"version": "2.0", "routeKey": "$default", "requestContext": {}},
        {"source": "aws.events", "detail-type": "Scheduled Event", "detail": {}},
        {"Records": []},
        {"Records": None},
        {},
        [],
        None,
        "Records",
        b"Records",
        3,
        object(),
    ],
)
def test_events_of_other_sources_are_not(event: Any) -> None:
    assert app_for(None, "orders").accepts(event) is False


def test_an_event_of_a_tumbling_window_is_accepted_so_that_the_door_says_what_is_wrong() -> None:
    window = EVENT | {"window": {"start": "", "end": ""}, "state": {}}
    app = app_for("orders")
    assert app.accepts(window)
    with pytest.raises(EventError, match="TumblingWindowInSeconds"):
        app.lambda_handler()(window)


def test_records_without_an_arn_are_accepted_so_that_they_fail_instead_of_being_lost() -> None:
    (record,) = [
        {k: v for k, v in r.items() if k != "eventSourceARN"} for r in EVENT["Records"][:1]
    ]
    assert app_for("orders").accepts({"Records": [record]})
    assert not app_for().accepts({"Records": [record]})


class Spiteful(Mapping[str, Any]):
    """A mapping that refuses to be read."""

    def __getitem__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError

    def __len__(self) -> int:
        raise RuntimeError


class Incomparable:
    __hash__ = None  # type: ignore[assignment]  # unhashable on purpose

    def __eq__(self, other: object) -> bool:
        raise RuntimeError


@pytest.mark.parametrize(
    "event",
    [
        Spiteful(),
        {"Records": [Spiteful()]},
        {"Records": [{"eventSource": Incomparable()}]},
        {"Records": Spiteful()},
    ],
)
def test_what_raises_when_it_is_read_is_not_accepted(event: Any) -> None:
    assert app_for(None).accepts(event) is False


scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5)
names = st.sampled_from(["Records", "eventSource", "eventSourceARN", "dynamodb", "x"])
values = scalars | st.just("aws:dynamodb") | st.just(BUILD.stream_arn)
anything = st.recursive(
    values,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(event=anything, table=st.sampled_from([None, "orders", "users"]))
def test_no_event_whatsoever_makes_it_raise(event: Any, table: str | None) -> None:
    assert app_for(table).accepts(event) in (True, False)
