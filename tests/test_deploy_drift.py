"""Where a live mapping differs from an App: by meaning, and not by how AWS echoes a setting."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import botocore.session
import pytest

from dynaflow import App, F, Router
from dynaflow.deploy.choices import Choices
from dynaflow.deploy.deployment import MappingSettings
from dynaflow.deploy.drift import Difference, differences
from dynaflow.deploy.from_app import deployment_of, pushdown_of
from dynaflow.deploy.live import LiveMapping
from dynaflow.errors import DynaflowError
from tests.support.deployments import app_of, choices

STREAM = "arn:aws:dynamodb:eu-north-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
APP = app_of(F.new.status == "paid", F.new.kind == "gift")
CHOSEN = choices()


def live_of(app: App = APP, chosen: Choices = CHOSEN, **others: Any) -> dict[str, Any]:
    """Return what AWS answers about the mapping that is wanted, as it was recorded.

    Settings that a stream of a table cannot have are null or absent there; absent is what is tried
    here, and null in a test of its own.
    """
    deployment = deployment_of(app, chosen)
    answer = {
        "UUID": "11614dfc-4bd0-425f-8e05-8f7a98f2bf2a",
        "EventSourceArn": STREAM,
        "FunctionArn": "arn:aws:lambda:eu-north-1:123456789012:function:orders-stream",
        "LastProcessingResult": "OK",
        "State": "Enabled",
        "StateTransitionReason": "User action",
        **deployment.mapping.to_api(),
        "DestinationConfig": {
            "OnFailure": {
                "Destination": "arn:aws:sqs:eu-north-1:123456789012:orders-stream-failures"
            }
        },
        **others,
    }
    return {name: value for name, value in answer.items() if value is not None}


def found(
    live: dict[str, Any], app: App = APP, chosen: Choices = CHOSEN, *, is_named: bool = False
) -> dict[str, Difference]:
    """Return the differences by setting."""
    listed = differences(
        deployment_of(app, chosen),
        pushdown_of(app, chosen),
        LiveMapping.of({"UUID": "a mapping", **live}),
        view_type=chosen.view_type,
        is_named=is_named,
    )
    assert len({difference.setting for difference in listed}) == len(listed)
    return {difference.setting: difference for difference in listed}


def criteria(*patterns: dict[str, Any]) -> dict[str, Any]:
    return {"Filters": [{"Pattern": json.dumps(pattern)} for pattern in patterns]}


def test_the_answers_of_these_tests_are_such_as_aws_gives() -> None:
    model = botocore.session.get_session().get_service_model("lambda")
    members = model.shape_for("EventSourceMappingConfiguration").members
    assert set(live_of()) <= set(members)


def test_a_mapping_as_it_is_wanted_has_no_difference() -> None:
    assert found(live_of()) == {}
    assert found(live_of(), is_named=True) == {}


def test_where_it_began_is_no_difference() -> None:
    assert found(live_of(StartingPosition="LATEST")) == {}


def test_what_aws_takes_by_default_may_be_absent_null_or_said() -> None:
    chosen = choices(batch_window=0, max_retries=-1, max_record_age=-1, name="orders-stream")
    app = app_of(F.new.status == "paid")
    said = live_of(app, chosen)
    for name in (
        *("BatchSize", "MaximumBatchingWindowInSeconds", "ParallelizationFactor"),
        *("MaximumRetryAttempts", "MaximumRecordAgeInSeconds", "TumblingWindowInSeconds"),
    ):
        absent = {key: value for key, value in said.items() if key != name}
        assert found(absent, app, chosen) == {}
        assert found({**said, name: None}, app, chosen) == {}


def test_all_that_is_left_at_aws_defaults_is_a_difference() -> None:
    bare = {
        "UUID": "11614dfc-4bd0-425f-8e05-8f7a98f2bf2a",
        "EventSourceArn": STREAM,
        "FunctionArn": "arn:aws:lambda:eu-north-1:123456789012:function:other",
        "BatchSize": 100,
        "MaximumBatchingWindowInSeconds": 0,
        "ParallelizationFactor": 1,
        "MaximumRecordAgeInSeconds": -1,
        "BisectBatchOnFunctionError": False,
        "MaximumRetryAttempts": -1,
        "TumblingWindowInSeconds": 0,
        "FunctionResponseTypes": [],
        "DestinationConfig": {"OnFailure": {}},
        "State": "Enabled",
    }
    assert list(found(bare)) == [
        "FunctionResponseTypes",
        "FilterCriteria",
        "DestinationConfig",
        "MaximumBatchingWindowInSeconds",
        "MaximumRetryAttempts",
        "MaximumRecordAgeInSeconds",
        "BisectBatchOnFunctionError",
        "MetricsConfig",
    ]
    assert found(bare, is_named=True)["FunctionArn"].live == "other"


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("State", "Disabled", "nothing is delivered"),
        ("State", "Deleting", "nothing is delivered"),
        ("FunctionResponseTypes", [], "every failed record is lost; else every failure repeats"),
        ("DestinationConfig", {"OnFailure": {}}, "dropped, and nobody is told"),
        ("DestinationConfig", None, "dropped, and nobody is told"),
        ("MetricsConfig", None, "NotDone stays silent"),
        ("MetricsConfig", {"Metrics": []}, "NotDone stays silent"),
        ("BatchSize", 1000, "more to do before the time-out"),
        ("BatchSize", 1, "more invocations"),
        ("MaximumBatchingWindowInSeconds", 60, "wait longer"),
        ("MaximumBatchingWindowInSeconds", 0, "fewer records each"),
        ("ParallelizationFactor", 2, "dealt out"),
        ("MaximumRetryAttempts", -1, "stops its shard"),
        ("MaximumRetryAttempts", 1000, "for longer"),
        ("MaximumRetryAttempts", 3, "given up earlier"),
        ("MaximumRecordAgeInSeconds", -1, "until the stream drops them"),
        ("MaximumRecordAgeInSeconds", 86_400, "less time to read"),
        ("MaximumRecordAgeInSeconds", 60, "given up earlier"),
        ("BisectBatchOnFunctionError", False, "takes its whole batch along"),
        ("TumblingWindowInSeconds", 60, "every event is refused"),
    ],
)
def test_each_setting_says_what_follows(setting: str, value: Any, told: str) -> None:
    (difference,) = found(live_of(**{setting: value})).values()
    assert difference.setting == setting
    assert told in difference.follows


def test_what_was_unbounded_and_is_not_any_more_gives_up_earlier() -> None:
    chosen = choices(max_retries=-1, max_record_age=-1)
    live = live_of(chosen=chosen, MaximumRetryAttempts=5, MaximumRecordAgeInSeconds=600)
    listed = found(live, chosen=chosen)
    assert "given up earlier" in listed["MaximumRetryAttempts"].follows
    assert "given up earlier" in listed["MaximumRecordAgeInSeconds"].follows


def test_patterns_are_compared_by_what_they_match() -> None:
    paid = {
        "eventName": ["INSERT", "MODIFY"],
        "dynamodb": {"NewImage": {"status": {"S": ["paid"]}}},
    }
    sent = {"eventName": ["MODIFY"], "dynamodb": {"NewImage": {"status": {"S": ["sent"]}}}}
    router = Router(table="orders")

    @router.on_upsert(F.new.status == "paid")
    def pay(new: dict[str, Any]) -> None: ...

    @router.on_modify(F.new.status == "sent")
    def send(new: dict[str, Any]) -> None: ...

    app = App(router)
    written = {"dynamodb": paid["dynamodb"], "eventName": ["MODIFY", "INSERT"]}
    assert found(live_of(app, FilterCriteria=criteria(sent, written)), app) == {}
    by_event = [{**paid, "eventName": [event]} for event in ("MODIFY", "INSERT")]
    assert found(live_of(app, FilterCriteria=criteria(*by_event, sent)), app) == {}


def test_a_pattern_for_two_events_may_be_covered_by_one_for_each() -> None:
    router = Router(table="orders")

    @router.on_insert()
    def welcome(new: dict[str, Any]) -> None: ...

    @router.on_modify(F.new.status == "paid")
    def pay(new: dict[str, Any]) -> None: ...

    app = App(router)
    paid = {"dynamodb": {"NewImage": {"status": {"S": ["paid"]}}}}
    both = {"eventName": ["INSERT", "MODIFY"], **paid}
    live = live_of(app, FilterCriteria=criteria({"eventName": ["INSERT"]}, both))
    assert found(live, app) == {}


def test_a_pattern_that_is_too_narrow_loses_records_of_its_route() -> None:
    app = app_of(F.new.status == "paid", F.new.kind == "gift")
    narrow = {"eventName": ["INSERT"], "dynamodb": {"NewImage": {"status": {"S": ["paid"]}}}}
    gift = {"dynamodb": {"NewImage": {"kind": {"S": ["gift"]}}}}
    listed = found(live_of(app, FilterCriteria=criteria(narrow, gift)), app)
    assert "may never reach route-0, and nothing tells" in listed["FilterCriteria"].follows


def test_a_pattern_that_is_wider_costs_and_loses_nothing() -> None:
    app = app_of(F.new.status == "paid")
    by_event = criteria({"eventName": ["INSERT", "MODIFY"]})
    live: list[dict[str, Any] | None] = [by_event, {}, {"Filters": []}, None]
    for wider in live:
        (difference,) = found(live_of(app, FilterCriteria=wider), app).values()
        assert difference.follows.startswith("nothing is missed; more records are sent")


def test_a_filter_where_there_is_to_be_none_may_miss_records() -> None:
    app = app_of(F.new.status == "paid", unmatched="fail")
    live = live_of(app, FilterCriteria=criteria({"eventName": ["INSERT", "MODIFY"]}))
    (difference,) = found(live, app).values()
    assert difference.follows == (
        "records may be missed: App(unmatched='fail') has to see what no route takes"
    )


def test_the_pattern_that_notices_another_kind_of_stream_is_no_difference() -> None:
    without = choices(view_type=None)
    with_guard = live_of(chosen=without)["FilterCriteria"]
    assert len(with_guard["Filters"]) > len(live_of()["FilterCriteria"]["Filters"])
    assert found(live_of(FilterCriteria=with_guard)) == {}
    assert found(live_of(), chosen=without) == {}


def test_where_the_kind_of_stream_is_not_known_a_pattern_for_one_counts() -> None:
    without = choices(view_type=None)
    live = live_of(chosen=without)
    both = {"dynamodb": {"StreamViewType": ["NEW_AND_OLD_IMAGES"]}}
    live["FilterCriteria"]["Filters"] += criteria(both)["Filters"]
    assert "more records" in found(live, chosen=without)["FilterCriteria"].follows


def test_filters_that_are_not_shown_are_not_taken_for_none() -> None:
    error = {"ErrorCode": "KMSAccessDeniedException", "Message": "no"}
    live = live_of(FilterCriteria=None, FilterCriteriaError=error)
    (difference,) = found(live).values()
    assert difference.live == "not shown (KMSAccessDeniedException)"


def test_a_pattern_that_is_no_json_is_told() -> None:
    (difference,) = found(live_of(FilterCriteria={"Filters": [{"Pattern": "{"}]})).values()
    assert "no JSON object" in difference.follows


def test_another_table_or_stream_is_told() -> None:
    other = STREAM.replace("/orders/", "/customers/")
    assert found(live_of(EventSourceArn=other))["EventSourceArn"].live == "table customers"
    chosen = choices(stream_arn=STREAM)
    later = STREAM.replace("2026", "2027")
    assert (
        "perhaps an old one"
        in found(live_of(EventSourceArn=later), chosen=chosen)["EventSourceArn"].follows
    )
    assert found(live_of(EventSourceArn=later)) == {}


def test_a_mapping_of_another_source_is_not_compared() -> None:
    queue = "arn:aws:sqs:eu-north-1:123456789012:orders"
    with pytest.raises(DynaflowError, match=r"reads arn:aws:sqs:.*, and not a table's stream"):
        found(live_of(EventSourceArn=queue))


def test_another_destination_counts_where_names_were_chosen() -> None:
    bucket = {"OnFailure": {"Destination": "arn:aws:s3:::given-up"}}
    assert found(live_of(DestinationConfig=bucket)) == {}
    assert list(found(live_of(DestinationConfig=bucket), is_named=True)) == ["DestinationConfig"]


def test_every_setting_that_is_written_is_compared() -> None:
    changed_all = replace(
        MappingSettings(),
        batch_size=1,
        maximum_batching_window_in_seconds=2,
        parallelization_factor=3,
        maximum_retry_attempts=4,
        maximum_record_age_in_seconds=61,
        bisect_batch_on_function_error=False,
        report_batch_item_failures=False,
        filters=("{}",),
    ).to_api()
    written = set(changed_all) - {"StartingPosition", "MetricsConfig"}
    assert set(found(live_of(**changed_all))) == written
