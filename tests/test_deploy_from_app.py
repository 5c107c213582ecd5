"""What is made of an App and of what was chosen for Lambda, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import botocore.session
import pytest

from dynaflow import App, F, Record, Router
from dynaflow.app import REPORT_VARIABLE
from dynaflow.batch import Deadline
from dynaflow.deploy.deployment import Deployment
from dynaflow.deploy.from_app import deployment_of
from dynaflow.deploy.iam import policy_document, statements
from dynaflow.errors import DynaflowError
from dynaflow.idempotency import Idempotent
from dynaflow.stores import MemoryMarks
from tests.support.deployments import DEPLOYMENTS, app_of, choices

PAID = F.new.status == "paid"


def deployed(app: App | None = None, table: str = "orders", **chosen: Any) -> Deployment:
    return deployment_of(app or app_of(PAID), choices(table, **chosen))


def marked(in_progress_for: float = 60, **options: Any) -> App:
    marks = Idempotent(MemoryMarks(), in_progress_for=in_progress_for)
    return app_of(PAID, middleware=[marks], **options)


def test_the_filters_of_the_table_are_those_of_the_mapping() -> None:
    app = app_of(PAID)
    mapping = deployed(app).mapping
    given = app.filter_patterns("orders", view_type="NEW_AND_OLD_IMAGES")
    assert [json.loads(text) for text in mapping.filters] == given


def test_the_mapping_and_the_function_are_told_of_partial_failures_together() -> None:
    deployment = deployed()
    assert deployment.mapping.report_batch_item_failures
    assert deployment.environment == {REPORT_VARIABLE: "1"}


def test_what_is_chosen_is_taken() -> None:
    deployment = DEPLOYMENTS["everything chosen"]()
    assert deployment.name == "my-orders_v-2-stream"
    assert (deployment.runtime, deployment.architecture) == ("python3.12", "x86_64")
    assert (deployment.memory_size, deployment.timeout) == (1769, 900)
    mapping = deployment.mapping.to_api()
    assert mapping["BatchSize"] == 10_000
    assert mapping["MaximumBatchingWindowInSeconds"] == 300
    assert (mapping["MaximumRetryAttempts"], mapping["MaximumRecordAgeInSeconds"]) == (-1, -1)
    assert (mapping["ParallelizationFactor"], mapping["StartingPosition"]) == (10, "LATEST")


def test_a_name_is_short_enough_for_all_that_is_named_after_it() -> None:
    deployment = deployed(app_of(PAID, table="t" * 255), "t" * 255)
    assert len(deployment.name) == 64
    assert len(deployment.failure_queue) <= 80


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({"memory": 127}, "--memory 127: Lambda takes 128 to 10,240 MB"),
        ({"timeout": 0}, "--timeout 0: Lambda takes 1 to 900 seconds"),
        ({"timeout": 901}, "--timeout 901: Lambda takes 1 to 900 seconds"),
        ({"batch_size": 0}, "--batch-size 0: Lambda takes 1 to 10,000 records"),
        ({"batch_window": 301}, "--batch-window 301: Lambda takes 0 to 300 seconds"),
        ({"parallelization": 11}, "--parallelization 11: Lambda takes 1 to 10 batches"),
        ({"max_retries": -2}, "--max-retries -2: Lambda takes 0 to 10,000, or -1"),
        ({"max_record_age": 59}, "--max-record-age 59: Lambda takes 60 to 604,800 seconds, or -1"),
        ({"name": "my function"}, "--name 'my function': a function's name has up to 64 letters"),
        ({"name": "n" * 65}, "up to 64"),
        ({"name": ""}, "--name '': a function's name"),
        ({"handler": "shop"}, "--handler 'shop': write module.function"),
        ({"runtime": "python3.10"}, "--runtime python3.10: write python3.11 to python3.13"),
        ({"runtime": "nodejs24.x"}, "--runtime nodejs24.x: write python3.11"),
        ({"stream_arn": "orders"}, "--stream-arn orders is no stream's ARN. .*describe-table"),
        ({"max_patterns": 11}, "max_patterns=11: a mapping takes 5"),
        ({"view_type": "BOTH"}, "view_type='BOTH' is unknown"),
        ({"view_type": "OLD_IMAGE"}, "has view type OLD_IMAGE, which leaves out images"),
    ],
)
def test_what_lambda_would_refuse_is_refused_here(chosen: dict[str, Any], told: str) -> None:
    with pytest.raises(DynaflowError, match=told):
        deployed(**chosen)


@pytest.mark.parametrize(
    ("option", "shape", "least"),
    [
        ("batch_size", "BatchSize", 1),
        ("batch_window", "MaximumBatchingWindowInSeconds", 0),
        ("parallelization", "ParallelizationFactor", 1),
        ("max_retries", "MaximumRetryAttemptsEventSourceMapping", -1),
        ("max_record_age", "MaximumRecordAgeInSeconds", 60),
    ],
)
def test_the_ranges_are_those_of_lambdas_own_model(option: str, shape: str, least: int) -> None:
    model = botocore.session.get_session().get_service_model("lambda")
    most = model.shape_for(shape).metadata["max"]
    for value in (least, most):
        chosen: dict[str, Any] = {"timeout": 1, "batch_window": 1, option: value}
        deployed(**chosen)
    for value in (min(least, model.shape_for(shape).metadata["min"]) - 1, most + 1):
        with pytest.raises(DynaflowError, match="Lambda takes"):
            deployed(**dict[str, Any]({option: value}))


def test_lambda_has_the_runtimes() -> None:
    runtimes = botocore.session.get_session().get_service_model("lambda").shape_for("Runtime").enum
    for minor in (11, 12, 13):
        assert deployed(runtime=f"python3.{minor}").runtime in runtimes


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("ordes", r"no route takes records of table 'ordes'. Did you mean --table orders\?"),
        ("customers", "no route takes records of table 'customers'. The routes name: orders"),
        (
            "arn:aws:dynamodb:eu-north-1:123456789012:table/orders",
            "write the table's name here, and the stream's ARN with --stream-arn",
        ),
    ],
)
def test_a_table_that_no_route_takes_is_refused(table: str, told: str) -> None:
    with pytest.raises(DynaflowError, match=told):
        deployed(table=table)


def test_a_name_that_no_table_has_is_refused_also_where_routes_take_all_tables() -> None:
    with pytest.raises(DynaflowError, match="3 to 255 letters"):
        deployed(app_of(PAID, table=None), "my table")


def test_an_app_without_routes_has_nothing_to_deploy() -> None:
    with pytest.raises(DynaflowError, match="no route, so that there is nothing to deploy"):
        deployed(App(Router()))


def test_the_stream_is_that_of_the_table() -> None:
    arn = "arn:aws:dynamodb:eu-north-1:123456789012:table/others/stream/2026-01-01T00:00:00.000"
    with pytest.raises(DynaflowError, match="of table 'others', and --table says 'orders'"):
        deployed(stream_arn=arn)


def test_a_shard_in_order_is_not_dealt_out() -> None:
    app = app_of(PAID, order_by="shard")
    assert deployed(app).mapping.parallelization_factor == 1
    with pytest.raises(
        DynaflowError, match=r"Leave it at 1, or write App\(order_by='partition_key'\)"
    ):
        deployed(app, parallelization=2)
    assert deployed(parallelization=2).mapping.parallelization_factor == 2


def test_records_are_not_given_up_while_they_wait_for_the_batch_before() -> None:
    with pytest.raises(DynaflowError, match="become older than 360 seconds, or shorten --timeout"):
        deployed(timeout=300, batch_window=60, max_record_age=360)
    deployed(timeout=300, batch_window=60, max_record_age=361)


def test_without_marks_any_number_of_attempts_will_do() -> None:
    assert deployed(max_retries=0).mapping.maximum_retry_attempts == 0
    assert deployed().mapping.maximum_retry_attempts == 100


def test_attempts_outlast_the_marks_that_a_dead_process_leaves() -> None:
    # 60 s, of which a call waits for 48 at least: one attempt is over before 61 s are, two are not.
    assert deployed(marked(), max_retries=2).mapping.maximum_retry_attempts == 2
    with pytest.raises(
        DynaflowError, match=r"for up to 61 s, .* after 48 s, .* Write --max-retries 2 or"
    ):
        deployed(marked(), max_retries=1)
    assert deployed(marked(), max_retries=-1).mapping.maximum_retry_attempts == -1


def test_marks_that_count_for_long_get_more_attempts_by_themselves() -> None:
    assert deployed(marked(7200)).mapping.maximum_retry_attempts == 151
    note = next(note for note in deployed(marked(7200)).notes if "Idempotent" in note)
    assert "151 at least" in note
    assert "7200 s" in note


def test_a_calls_own_timeout_shortens_the_attempts() -> None:
    # 10 s, at whose end one is kept: nine seconds an attempt.
    with pytest.raises(DynaflowError, match="Write --max-retries 7 or more"):
        deployed(marked(timeout=10), max_retries=1)


def test_marks_of_a_route_are_marks_too() -> None:
    router = Router(table="orders")

    @router.on_any(middleware=[Idempotent(MemoryMarks())], timeout=1)
    async def once(record: Record) -> None: ...

    @router.on_any(timeout=0.1)
    async def often(record: Record) -> None: ...

    # Only the first waits for marks: 0.75 s of its second, of which 82 are more than 61 s.
    with pytest.raises(DynaflowError, match="Write --max-retries 82 or more"):
        deployed(App(router), max_retries=1)


def test_records_become_older_than_marks() -> None:
    with pytest.raises(DynaflowError, match=r"count for up to 600 s, .*in_progress_for="):
        deployed(marked(600), max_record_age=600)


def test_a_mark_in_lambda_counts_until_the_deadline_and_a_bit() -> None:
    # What the rule above stands on: the deadline, and not in_progress_for, ends a mark.
    import anyio

    from dynaflow import Batch
    from dynaflow.codec import decode_event
    from dynaflow.testing import RecordBuilder

    marks = MemoryMarks()
    seen: list[float] = []
    begin = marks.begin

    class Watching:
        async def begin(self, key: str, token: str, *, now: float, until: float) -> Any:
            seen.append(until - now)
            return await begin(key, token, now=now, until=until)

        def __getattr__(self, name: str) -> Any:
            return getattr(marks, name)

    app = app_of(PAID, middleware=[Idempotent(Watching(), in_progress_for=600)])
    event = RecordBuilder(table="orders")
    records, arn = decode_event(event.event(event.insert({"id": "1", "status": "paid"})))
    anyio.run(app.process, Batch(records, arn, Deadline.after(60)))
    assert [round(life) for life in seen] == [61]


def test_notes_tell_what_filters_do_not_say() -> None:
    (need, first, *_) = deployed(app_of(F.new.total > 5)).notes
    assert need == "The routes need a stream of orders that carries NEW_IMAGE at least."
    assert first.startswith("Filters of route-0, widened: F.new.total > 5 orders numbers")
    (need, first, second, *_) = DEPLOYMENTS["no filter"]().notes
    assert need == "The routes need a stream of orders that carries KEYS_ONLY at least."
    assert first == "No filter: Lambda sends every record of the stream."
    assert second.startswith("Filters are wider than the routes: ")


def test_notes_tell_of_choices_that_have_a_price() -> None:
    notes = " ".join(DEPLOYMENTS["everything chosen"]().notes)
    for setting in ("MaximumRetryAttempts", "MaximumRecordAgeInSeconds", "StartingPosition"):
        assert setting in notes
    assert "ParallelizationFactor 10" in notes


def test_a_queue_of_dead_letters_has_an_alarm() -> None:
    (alarm,) = [a for a in DEPLOYMENTS["letters on SQS"]().alarms if a.queue]
    assert (alarm.name, alarm.of, alarm.queue) == ("LettersWait", "queue", "letters")
    assert all(alarm.queue is None for alarm in deployed().alarms)


def test_being_behind_begins_after_what_a_batch_takes() -> None:
    def behind(deployment: Deployment) -> float:
        return next(alarm.threshold for alarm in deployment.alarms if alarm.name == "Behind")

    assert behind(deployed()) == 300_000
    assert behind(deployed(timeout=900, batch_window=300)) == 2_400_000


@pytest.mark.parametrize("make", DEPLOYMENTS.values(), ids=DEPLOYMENTS)
def test_the_role_may_do_what_is_needed_on_single_resources(
    make: Callable[[], Deployment],
) -> None:
    deployment = make()
    document = policy_document(statements(deployment))
    sids = [statement["Sid"] for statement in document["Statement"]]
    assert sids[:3] == ["ReadStream", "NoteWhatIsGivenUp", "WriteLogs"]
    assert len(sids) == len(set(sids)) == 3 + len(deployment.permissions)
    for statement in document["Statement"]:
        assert statement["Sid"].isalnum()
        assert "*" not in (statement["Resource"], statement["Action"])


def test_a_stream_of_another_region_is_read_there() -> None:
    arn = "arn:aws:dynamodb:eu-north-1:123456789012:table/orders/stream/2026-01-01T00:00:00.000"
    read, *_ = statements(deployed(stream_arn=arn))
    assert read.resources == ("arn:aws:dynamodb:eu-north-1:123456789012:table/orders/stream/*",)
