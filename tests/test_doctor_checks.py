"""What ``doctor`` says of settings: each check, by a table, on answers as AWS gives them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dynaflow import App, F, Router, changed
from dynaflow.dead_letters import S3
from dynaflow.deploy.deployment import Deployment, MappingSettings
from dynaflow.deploy.doctor.app_facts import AppFacts, check_app, facts_of
from dynaflow.deploy.doctor.checks_mapping import CHECKS, Case
from dynaflow.deploy.doctor.checks_stream import check_readers, check_stream, chosen
from dynaflow.deploy.doctor.rules import RULES, Severity, found
from dynaflow.deploy.doctor.targets import check_targets, table_needs_of, targets_of
from dynaflow.deploy.live import Function, LiveMapping, Stream, Target
from dynaflow.idempotency import Idempotent
from dynaflow.middleware import Call, Process
from dynaflow.permissions import TableNeeds
from dynaflow.pushdown import Pushed
from dynaflow.stores import DynamoDBMarks, MemoryMarks
from tests.support.documents import ROOT

_ARN = "arn:aws:dynamodb:eu-north-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
_OLD_ARN = "arn:aws:dynamodb:eu-north-1:123456789012:table/orders/stream/2025-01-01T00:00:00.000"
_FUNCTION = "arn:aws:lambda:eu-north-1:123456789012:function:shop"
_VARIABLE = "DYNAFLOW_REPORT_BATCH_ITEM_FAILURES"

router = Router(table="orders")


@router.on_modify(changed("status", to="paid"), name="ship")
def ship(new: dict[str, Any]) -> None:
    """Take a record whose status becomes another one."""


@router.on_remove(name="leave")
def leave(old: dict[str, Any]) -> None:
    """Take every delete."""


APP = App(router)
FACTS = replace(facts_of(APP, "shop", "orders", "NEW_AND_OLD_IMAGES"), told=(None,))


def mapping(**changes: Any) -> LiveMapping:
    """Return the mapping that the documents recommend, changed."""
    filters = APP.filter_criteria("orders", view_type="NEW_AND_OLD_IMAGES")["Filters"]
    settings = MappingSettings(filters=tuple(entry["Pattern"] for entry in filters))
    return LiveMapping.of(
        {
            "UUID": "7",
            "EventSourceArn": _ARN,
            "FunctionArn": _FUNCTION,
            "State": "Enabled",
            "LastProcessingResult": "OK",
            "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sqs:eu-north-1:1:lost"}},
            **settings.to_api(),
            **changes,
        }
    )


def function(*, reserved: int | None = None, **changes: Any) -> Function:
    """Return the function that goes with it, changed."""
    model = Deployment(name="shop", table="orders", handler="shop.lambda_handler")
    answer = {
        "FunctionName": model.name,
        "Handler": model.handler,
        "Runtime": model.runtime,
        "Timeout": model.timeout,
        "MemorySize": model.memory_size,
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "Environment": {"Variables": {_VARIABLE: "1", "SECRET": "x"}},
        **changes,
    }
    return Function.of(answer, reserved)


def table(**changes: Any) -> dict[str, Any]:
    """Return what DescribeTable says of the table, changed."""
    view = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    return {
        "TableName": "orders",
        "TableStatus": "ACTIVE",
        "LatestStreamArn": _ARN,
        "StreamSpecification": view,
        **changes,
    }


STREAM = Stream.of(table(), open_shards=4)


def rules_of(
    *,
    esm: LiveMapping | None = None,
    told: Function | None = None,
    stream: Stream | None = STREAM,
    app: AppFacts = FACTS,
) -> list[str]:
    """Return the rules that are found for a mapping and its function."""
    case = Case(mapping=esm or mapping(), stream=stream, function=told or function(), app=app)
    return [finding.rule for check in CHECKS for finding in check(case)]


def test_what_the_documents_recommend_has_nothing_wrong() -> None:
    assert rules_of() == []


_UNLIMITED = {"MaximumRetryAttempts": -1, "MaximumRecordAgeInSeconds": -1}
_PAID = '{"eventName":["MODIFY"],"dynamodb":{"NewImage":{"status":{"S":["paid"]}}}}'


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        ({"State": "Disabled"}, ["mapping-disabled"]),
        ({"State": "Disabling"}, ["mapping-disabled"]),
        ({"State": "Creating"}, ["mapping-changing"]),
        ({"State": "Updating"}, ["mapping-changing"]),
        ({"LastProcessingResult": "PROBLEM: access\x1b[2J denied"}, ["mapping-problem"]),
        ({"LastProcessingResult": "No records processed"}, []),
        ({"EventSourceArn": _OLD_ARN}, ["mapping-old-stream"]),
        ({"FunctionResponseTypes": []}, ["reports-ignored"]),
        (_UNLIMITED, ["retries-endless"]),
        ({"MaximumRetryAttempts": None, "MaximumRecordAgeInSeconds": None}, ["retries-endless"]),
        ({**_UNLIMITED, "MaximumRecordAgeInSeconds": 604_800}, ["retries-endless"]),
        ({"MaximumRetryAttempts": -1}, []),
        ({"MaximumRecordAgeInSeconds": -1}, ["age-open"]),
        ({"MaximumRecordAgeInSeconds": 79_200}, []),
        ({"MaximumRecordAgeInSeconds": 79_201}, ["age-late"]),
        ({"MaximumRecordAgeInSeconds": 86_400}, ["age-late"]),
        ({"MaximumRecordAgeInSeconds": 61}, ["age-early"]),
        ({"MaximumRecordAgeInSeconds": 62}, []),
        (
            {"MaximumRecordAgeInSeconds": 360, "MaximumBatchingWindowInSeconds": 300},
            ["age-early"],
        ),
        ({"MaximumRetryAttempts": 0}, ["retries-few"]),
        ({"MaximumRetryAttempts": 9}, ["retries-few"]),
        ({"MaximumRetryAttempts": 10}, []),
        ({"BisectBatchOnFunctionError": False}, ["bisect-off"]),
        ({"DestinationConfig": {"OnFailure": {}}}, ["destination-none"]),
        ({"DestinationConfig": None}, ["destination-none"]),
        (
            {"DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sqs:x:1:lost.fifo"}}},
            ["destination-fifo"],
        ),
        ({"TumblingWindowInSeconds": 30}, ["tumbling-window"]),
        ({"ParallelizationFactor": 10}, []),
        ({"StartingPosition": "LATEST"}, ["starts-late"]),
        ({"MaximumBatchingWindowInSeconds": 0}, ["window-none"]),
        ({"MetricsConfig": {"Metrics": []}}, ["events-uncounted"]),
        ({"BatchSize": 10_000}, []),
        ({"FilterCriteria": None}, ["patterns-none"]),
        ({"FilterCriteria": {"Filters": [{"Pattern": _PAID}]}}, ["patterns-narrow"]),
        ({"FilterCriteria": {"Filters": [{"Pattern": "{}"}]}}, ["patterns-wide"]),
        ({"FilterCriteria": {"Filters": [{"Pattern": "[]"}]}}, ["not-checked"]),
        (
            {"FilterCriteria": None, "FilterCriteriaError": {"ErrorCode": "KMSAccessDenied"}},
            ["not-checked"],
        ),
    ],
)
def test_each_setting_of_a_mapping_is_checked(changes: dict[str, Any], rules: list[str]) -> None:
    assert rules_of(esm=mapping(**changes)) == rules


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        ({"State": "Failed", "StateReason": "ImageDeleted"}, ["function-broken"]),
        ({"LastUpdateStatus": "Failed"}, ["function-broken"]),
        ({"State": "Inactive"}, []),
        ({"Runtime": "python3.10"}, ["runtime"]),
        ({"Runtime": "python3.9"}, ["runtime"]),
        ({"Runtime": "nodejs22.x"}, ["runtime"]),
        ({"Runtime": "python3.11"}, []),
        ({"Runtime": "provided.al2023"}, []),
        ({"Runtime": None}, []),
        ({"MemorySize": 128}, ["memory-small"]),
        ({"MemorySize": 256}, []),
        ({"Timeout": 3}, ["timeout-default"]),
        ({"Timeout": None}, ["timeout-default"]),
        ({"Timeout": 4}, []),
        ({"Environment": {"Variables": {_VARIABLE: "maybe"}}}, ["reports-unused", "variable"]),
        ({"Environment": {"Error": {"ErrorCode": "AccessDenied"}}}, ["not-checked"]),
        ({"SnapStart": {"ApplyOn": "PublishedVersions"}}, ["snapstart-unused"]),
        ({"reserved": 0}, ["concurrency-none"]),
        ({"reserved": 3}, ["concurrency-few"]),
        ({"reserved": 4}, []),
    ],
)
def test_each_setting_of_a_function_is_checked(changes: dict[str, Any], rules: list[str]) -> None:
    expected = ["variable-unreadable" if rule == "variable" else rule for rule in rules]
    assert rules_of(told=function(**changes)) == expected


def test_an_alias_has_snapshots() -> None:
    told = function(SnapStart={"ApplyOn": "PublishedVersions"})
    assert rules_of(esm=mapping(FunctionArn=f"{_FUNCTION}:live"), told=told) == []


def variable(text: str | None) -> Function:
    return function(Environment={"Variables": {} if text is None else {_VARIABLE: text}})


@pytest.mark.parametrize(
    ("told", "text", "on", "rules"),
    [
        # what lambda_handler() was told, the function's variable, whether the mapping has it
        ((True,), None, True, []),
        ((True,), "0", True, []),
        ((True,), None, False, ["reports-ignored"]),
        ((True,), "0", False, ["reports-ignored"]),
        ((False,), "1", True, ["reports-unused"]),
        ((False,), "1", False, ["reports-off"]),
        ((None,), "1", True, []),
        ((None,), " True ", True, []),
        ((None,), "1", False, ["reports-ignored"]),
        ((None,), None, True, ["reports-unused"]),
        ((None,), "0", True, ["reports-unused"]),
        ((None,), None, False, ["reports-off"]),
        ((), "1", True, []),
        ((), "1", False, ["reports-ignored"]),
        ((), None, True, ["not-checked"]),
        ((), None, False, ["not-checked"]),
        ((None, True), None, True, []),
        ((None, True), None, False, ["reports-ignored"]),
        ((False, True), None, False, ["reports-ignored"]),
    ],
)
def test_code_variable_and_mapping_are_of_one_mind_about_the_list_of_failures(
    told: tuple[bool | None, ...], text: str | None, on: bool, rules: list[str]
) -> None:
    esm = mapping(FunctionResponseTypes=["ReportBatchItemFailures"] if on else [])
    assert rules_of(esm=esm, told=variable(text), app=replace(FACTS, told=told)) == rules


def test_what_aws_says_cannot_move_the_cursor() -> None:
    esm = mapping(LastProcessingResult="PROBLEM: \x1b[2J")
    told = function(State="Failed", StateReason="\x1b[2J")
    case = Case(mapping=esm, stream=STREAM, function=told, app=FACTS)
    facts = [finding.fact for check in CHECKS for finding in check(case)]
    assert len(facts) == 2 and all(fact.isprintable() for fact in facts)


def test_without_the_functions_settings_only_the_codes_word_counts() -> None:
    esm = mapping(FunctionResponseTypes=[])
    for told, rules in (
        ((True,), ["reports-ignored"]),
        ((None, True), ["reports-ignored"]),
        ((None,), ["not-checked"]),
    ):
        case = Case(mapping=esm, stream=None, function=None, app=replace(FACTS, told=told))
        assert [f.rule for check in CHECKS for f in check(case)] == rules


@pytest.mark.parametrize(
    ("facts", "changes", "rules"),
    [
        ({"orders_shard": True, "workers": 1}, {}, []),
        ({"orders_shard": True, "workers": 1}, {"ParallelizationFactor": 2}, ["order-of-shard"]),
        ({"chooses_lanes": True}, {"ParallelizationFactor": 2}, ["order-of-function"]),
        ({"workers": 1}, {"BatchSize": 960}, []),  # 48 s, 50 ms for each
        ({"workers": 1}, {"BatchSize": 961}, ["timeout-batch"]),
        ({"slowest": ("ship", 53.9)}, {}, []),
        ({"slowest": ("ship", 54.0)}, {}, ["timeout-route"]),
        ({"has_marks": True}, {"MaximumRetryAttempts": 1}, ["retries-few", "retries-marks"]),
        ({"has_marks": True}, {"MaximumRetryAttempts": 2}, ["retries-few"]),
        ({"has_marks": True}, {"MaximumRetryAttempts": -1}, []),
        ({"fails_unmatched": True}, {}, ["patterns-unmatched"]),
        ({"fails_unmatched": True}, {"FilterCriteria": None}, ["patterns-none"]),
        ({"pushdown": None}, {"FilterCriteria": None}, []),
    ],
)
def test_what_the_app_asks_for_is_compared_with_the_mapping(
    facts: dict[str, Any], changes: dict[str, Any], rules: list[str]
) -> None:
    assert rules_of(esm=mapping(**changes), app=replace(FACTS, **facts)) == rules


def test_the_patterns_of_the_app_for_this_view_type_are_compared() -> None:
    of_any = APP.filter_criteria("orders")  # one more, for streams that leave images out
    assert rules_of(esm=mapping(FilterCriteria=of_any)) == ["patterns-wide"]


def test_routes_that_would_miss_records_are_named() -> None:
    esm = mapping(FilterCriteria={"Filters": [{"Pattern": '{"eventName":["REMOVE"]}'}]})
    case = Case(mapping=esm, stream=STREAM, function=function(), app=FACTS)
    (finding,) = [found for check in CHECKS for found in check(case)]
    assert (finding.rule, finding.severity) == ("patterns-narrow", Severity.ERROR)
    assert finding.fact.endswith("that these routes take: ship")


@pytest.mark.parametrize(
    ("changes", "unmet", "rules"),
    [
        ({}, (), []),
        ({"TableStatus": "UPDATING"}, (), []),
        ({"TableStatus": "CREATING"}, (), ["table-not-active"]),
        ({"StreamSpecification": None, "LatestStreamArn": None}, (), ["stream-never"]),
        ({"StreamSpecification": None}, (), ["stream-disabled"]),
        ({"StreamSpecification": {"StreamEnabled": False}}, (), ["stream-disabled"]),
        ({}, ("ship: parameter 'old'",), ["view-type"]),
        ({"Replicas": [{"RegionName": "eu-west-1"}]}, (), ["replicas"]),
    ],
)
def test_each_state_of_a_stream_is_checked(
    changes: dict[str, Any], unmet: tuple[str, ...], rules: list[str]
) -> None:
    stream, app = Stream.of(table(**changes)), replace(FACTS, unmet=unmet)
    assert [finding.rule for finding in check_stream(stream, app)] == rules


@pytest.mark.parametrize(
    ("view_type", "unmet", "least"),
    [
        ("NEW_AND_OLD_IMAGES", 0, "NEW_AND_OLD_IMAGES"),
        ("NEW_IMAGE", 2, "NEW_AND_OLD_IMAGES"),  # the filter changed(), and parameter old
        ("OLD_IMAGE", 2, "NEW_AND_OLD_IMAGES"),  # the same filter, and parameter new
        ("KEYS_ONLY", 4, "NEW_AND_OLD_IMAGES"),
        (None, 0, "NEW_AND_OLD_IMAGES"),
    ],
)
def test_images_that_the_stream_leaves_out_are_told_with_their_readers(
    view_type: str | None, unmet: int, least: str
) -> None:
    facts = facts_of(APP, "shop", "orders", view_type)
    assert (len(facts.unmet), facts.least) == (unmet, least)


def readers(*functions: str, state: str = "Enabled") -> list[LiveMapping]:
    return [mapping(FunctionArn=f"{_FUNCTION}-{name}", State=state) for name in functions]


@pytest.mark.parametrize(
    ("mappings", "changes", "rules"),
    [
        ([], {}, ["mapping-none"]),
        ([], {"StreamSpecification": None}, []),
        (readers("a", "b"), {}, []),
        (readers("a", "b", "c"), {}, ["readers"]),
        (readers("a", "b", "c", state="Disabled"), {}, []),
        ([*readers("a", "b"), mapping(EventSourceArn=_OLD_ARN)], {}, []),
        (readers("a", "b"), {"Replicas": [{"RegionName": "eu-west-1"}]}, ["readers"]),
    ],
)
def test_who_reads_the_stream_is_counted(
    mappings: list[LiveMapping], changes: dict[str, Any], rules: list[str]
) -> None:
    stream = Stream.of(table(**changes))
    assert [finding.rule for finding in check_readers(stream, mappings)] == rules


def test_of_several_functions_that_one_is_ours_whose_handler_is_in_the_module() -> None:
    both = readers("a", "b")
    named = [function(FunctionName=f"shop-{name}", Handler=f"{name}.handler") for name in "ab"]
    assert chosen(both, named, "b") == both[1:]
    assert chosen(both, named, "c") is None
    deeper = [function(FunctionName="shop-a", Handler="src/shop/b.handler")]
    assert chosen(both, deeper, "b") == chosen(both, deeper, "shop.b") == both[:1]
    assert chosen(both, deeper, "op.b") is None
    assert chosen(both[:1], [], "c") == both[:1]


def check(*routers: Router, name: str | None = None, **options: Any) -> list[str]:
    return [finding.rule for finding in check_app(App(*routers, **options), name)]


def test_an_app_is_checked_without_aws() -> None:
    never, of_any, other = Router(table="orders"), Router(), Router(table="carts")
    never.add_route(["INSERT"], leave_any, F.new.a == 1, F.new.a == 2, name="never")
    of_any.add_route(["INSERT"], leave_any, is_odd, name="asks a function")
    other.add_route(["INSERT"], leave_any, F.new.total > 1, name="compares numbers")

    assert check() == ["no-routes"]
    assert check(never) == ["route-never"]
    assert check(of_any) == ["route-not-pushed"]
    assert check(other) == ["route-widened"]
    assert check(router) == []
    assert check(router, name="carts") == ["table-not-routed"]
    assert check(router, other) == ["several-tables", "route-widened"]
    assert check(router, other, name="orders") == ["several-tables"]


def leave_any() -> None:
    """Take whatever comes."""


def is_odd(record: Any) -> bool:
    return bool(record.size_bytes % 2)


def test_facts_of_an_app_are_what_its_options_say() -> None:
    slow = Router(table="orders", timeout=5)
    slow.add_route(["INSERT"], wait, name="slow")
    app = App(slow, order_by="shard", middleware=[Idempotent(MemoryMarks())], unmatched="fail")
    app.lambda_handler(report_batch_item_failures=True)
    app.lambda_handler()
    facts = facts_of(app, "shop", "orders", None)
    assert (facts.told, facts.slowest, facts.workers) == ((True, None), ("slow", 5), 1)
    assert facts.orders_shard and facts.has_marks and facts.fails_unmatched
    assert facts.pushdown is not None and facts.pushdown.routes[0].pushed is Pushed.NOT

    sync = facts_of(App(router, threads=4, order_by=is_odd), "shop", "orders", None)
    assert (sync.workers, sync.chooses_lanes, sync.orders_shard) == (4, True, False)
    assert facts_of(App(router, threads=0), "shop", "orders", None).workers == 1
    assert facts_of(APP, "shop", "carts", None).pushdown is None


async def wait() -> None:
    """Take a while."""


_IN_ACCOUNT = "${Partition}:dynamodb:${Region}:${Account}:table"


def test_what_an_app_writes_to_is_found_by_what_it_says_that_it_needs() -> None:
    marks = Idempotent(DynamoDBMarks("marks"))
    letters = App(router, middleware=[marks], dead_letter=S3("kept", "letters/"))
    assert targets_of(letters) == [
        ("arn:${Partition}:s3:::kept", "dead letters in S3"),
        (f"arn:{_IN_ACCOUNT}/marks", "marks of Idempotent"),
    ]
    assert targets_of(App(router)) == []


class _OnlyNeeds:
    """A middleware that says how its table is made, and not what it may do with it."""

    async def __call__(self, call: Call, call_next: Process) -> None:
        await call_next(call)

    def table_needs(self) -> tuple[TableNeeds, ...]:
        return (TableNeeds("own", ("id",), "expires", "OnlyNeeds"),)


def test_a_table_of_which_only_its_shape_is_said_is_looked_at_too() -> None:
    assert targets_of(App(router, middleware=[_OnlyNeeds()])) == [
        (f"arn:{_IN_ACCOUNT}/own", "OnlyNeeds")
    ]


_MARKS = "arn:aws:dynamodb:eu-north-1:1:table/marks"
_GOOD: Mapping[str, Any] = {
    "arn": _MARKS,
    "reason": "marks",
    "exists": True,
    "key": (("id", "S"),),
    "ttl": "expiration",
    "is_ttl_known": True,
}


@pytest.mark.parametrize(
    ("changes", "rules"),
    [
        ({}, []),
        ({"exists": False}, ["target-missing"]),
        ({"exists": None}, []),
        ({"key": (("id", "N"),)}, ["marks-key"]),
        ({"key": (("id", "S"), ("at", "S"))}, ["marks-key"]),
        ({"ttl": None}, ["marks-kept"]),
        ({"ttl": "expires"}, ["marks-kept"]),
        ({"ttl": None, "is_ttl_known": False}, []),
    ],
)
def test_a_table_of_marks_has_the_key_and_the_time_to_live_that_its_store_says(
    changes: dict[str, Any], rules: list[str]
) -> None:
    app = App(router, middleware=[Idempotent(DynamoDBMarks("marks"))])
    target = Target(**{**_GOOD, **changes})
    assert [finding.rule for finding in check_targets(app, [target])] == rules


def test_marks_that_are_in_no_table_need_none() -> None:
    assert table_needs_of(App(router, middleware=[Idempotent(MemoryMarks())])) == []


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_says_fact_consequence_and_remedy_without_a_gap(rule: str) -> None:
    texts = (RULES[rule].fact, RULES[rule].consequence, RULES[rule].remedy)
    names = set(re.findall(r"\{(\w+)", " ".join(texts)))
    finding = found(rule, "app", **dict.fromkeys(names, 1))
    for text in (finding.fact, finding.consequence, finding.remedy):
        assert text and "{" not in text and not text.endswith(".")


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_used_and_has_a_test(rule: str) -> None:
    quoted = f'"{rule}"'
    folder = Path(ROOT / "dynaflow/deploy/doctor")
    code = [p for p in folder.glob("*.py") if p.stem != "rules"]
    tests = Path(ROOT / "tests").glob("test_doctor*.py")
    assert any(quoted in path.read_text(encoding="utf-8") for path in code)
    assert any(quoted in path.read_text(encoding="utf-8") for path in tests)
