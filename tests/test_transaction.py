"""Writes that are committed together, once: what is collected, asked for, and made of answers."""

import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from typing import Annotated, Any

import anyio
import anyio.lowlevel
import botocore.session
import pytest
from botocore.exceptions import (
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    ReadTimeoutError,
)
from botocore.validate import ParamValidator

from dynaflow import (
    App,
    Batch,
    BatchResult,
    Deadline,
    Depends,
    DynaflowError,
    HandlerContext,
    Image,
    PartialFailure,
    Record,
    Retry,
    Router,
    Skip,
    Status,
    Transaction,
)
from dynaflow._commit import MarkLayout, mark_of
from dynaflow._host import Host
from dynaflow.context import Many
from dynaflow.errors import (
    AlreadyDone,
    RegistrationError,
    TransactionConditionFailed,
    TransactionError,
    TransactionRefused,
)
from dynaflow.retry import without_waits
from dynaflow.stores import Transactions
from dynaflow.testing import MemoryTransactions, TestClient
from tests.support.batches import batch_of
from tests.support.dynamodb import (
    MARKS,
    AsyncTables,
    Tables,
    cancelled,
    lost_answer,
    service_error,
)

FAILED = "ConditionalCheckFailed"
HIDDEN = "s3cret-of-an-item"


@pytest.fixture(autouse=True)
def no_waits() -> Iterator[None]:
    with without_waits():
        yield


def booking(
    client: Any, *, is_async: bool, then: Exception | None = None, times: int = 1, **options: Any
) -> App:
    """Return an App whose handler adds 1 to a balance, and then perhaps raises."""
    transactions = Transactions(MARKS, client=client)
    router = Router()

    def write(tx: Transaction) -> None:
        for number in range(times):
            tx.update("balances", {"id": str(number)}, "ADD balance :n", values={":n": 1})
        if then is not None:
            raise then

    if is_async:

        @router.on_insert(name="book")
        async def book(tx: Annotated[Transaction, Depends(transactions)]) -> None:
            await anyio.lowlevel.checkpoint()
            write(tx)
    else:

        @router.on_insert(name="book")
        def book_here(tx: Annotated[Transaction, Depends(transactions)]) -> None:
            write(tx)

    return App(router, **options)


def send(app: App, batch: Batch, *, deadline: Deadline | None = None) -> BatchResult:
    """Run a batch as Lambda's door does."""
    host = Host(app)
    try:
        return host.process(Batch(batch.records, batch.source_arn, deadline))
    finally:
        host.close()


def record_of(name: str = "a") -> Record:
    (record,) = batch_of([name]).records
    assert isinstance(record, Record)
    return record


# What is collected


def test_the_request_is_what_dynamodb_takes() -> None:
    tx = Transaction()
    tx.put(
        "log",
        {"id": "1", "at": 3, "raw": b"\x00", "tags": {"a"}, "none": None, "deep": {"l": [True]}},
        condition="attribute_not_exists(#id) AND size(#id) < :n",
        values={":n": Decimal("1.5")},
        names={"#id": "id"},
    )
    tx.update(
        "balances",
        {"id": b"\x01"},
        "SET #b = :b",
        condition="#b < :b",
        values={":b": 2},
        names={"#b": "balance"},
    )
    tx.delete("open", {"pk": "1", "sk": 2})
    tx.condition_check("limits", {"id": "1"}, "most > :n", values={":n": 0})
    assert [write.action for write in tx.writes] == [
        {
            "Put": {
                "TableName": "log",
                "Item": {
                    "id": {"S": "1"},
                    "at": {"N": "3"},
                    "raw": {"B": b"\x00"},
                    "tags": {"SS": ["a"]},
                    "none": {"NULL": True},
                    "deep": {"M": {"l": {"L": [{"BOOL": True}]}}},
                },
                "ConditionExpression": "attribute_not_exists(#id) AND size(#id) < :n",
                "ExpressionAttributeNames": {"#id": "id"},
                "ExpressionAttributeValues": {":n": {"N": "1.5"}},
            }
        },
        {
            "Update": {
                "TableName": "balances",
                "Key": {"id": {"B": b"\x01"}},
                "UpdateExpression": "SET #b = :b",
                "ConditionExpression": "#b < :b",
                "ExpressionAttributeNames": {"#b": "balance"},
                "ExpressionAttributeValues": {":b": {"N": "2"}},
            }
        },
        {"Delete": {"TableName": "open", "Key": {"pk": {"S": "1"}, "sk": {"N": "2"}}}},
        {
            "ConditionCheck": {
                "TableName": "limits",
                "Key": {"id": {"S": "1"}},
                "ConditionExpression": "most > :n",
                "ExpressionAttributeValues": {":n": {"N": "0"}},
            }
        },
    ]
    mark = MarkLayout(MARKS).put("mark", "token", 1)
    request = {"TransactItems": [mark, *(write.action for write in tx.writes)]}
    model = botocore.session.get_session().get_service_model("dynamodb")
    shape = model.operation_model("TransactWriteItems").input_shape
    assert ParamValidator().validate(request, shape).generate_report() == ""


def test_images_are_items_and_keys_and_binaries_arrive_as_bytes() -> None:
    image = Image({"id": {"B": "AAE="}, "n": {"N": "1.0"}})
    key = Image({"id": {"B": "AAE="}})
    tx = Transaction()
    tx.put("copy", image)
    tx.delete("origin", key)
    put, delete = tx.writes
    assert put.request["Item"] == {"id": {"B": b"\x00\x01"}, "n": {"N": "1.0"}}
    assert delete.request["Key"] == {"id": {"B": b"\x00\x01"}}
    assert put.item == {"id": b"\x00\x01", "n": 1}
    assert (delete.key, delete.values, put.table) == ({"id": b"\x00\x01"}, {}, "copy")


def test_what_is_collected_is_not_changed_by_what_the_handler_does_to_it_later() -> None:
    item: dict[str, Any] = {"id": "1", "tags": ["a"]}
    tx = Transaction()
    tx.put("log", item)
    item["tags"].append("b")
    assert tx.writes[0].item == {"id": "1", "tags": ["a"]}


KEY = {"id": "1"}
REFUSED: list[tuple[Callable[[Transaction], None], str]] = [
    (lambda tx: tx.put("t", {"id": "1", "n": 0.1}), r"item\['n'\]: a float is not exact: write De"),
    (lambda tx: tx.put("t", {"id": "1", "n": [{"a": 0.1}]}), r"item\['n'\]: a float is not exact"),
    (lambda tx: tx.put("t", {"id": object()}), "no type for object"),
    (lambda tx: tx.put("t", {"id": set()}), "not empty"),
    (lambda tx: tx.put("t", {"n": Decimal("1e999")}), "range"),
    (lambda tx: tx.put("t", [("id", "1")]), "item is a mapping of names to Python values, got li"),  # type: ignore[arg-type]  # refused
    (lambda tx: tx.put("t", {1: "1"}), "names are text, got int"),  # type: ignore[dict-item]  # refused
    (lambda tx: tx.put("", {"id": "1"}), "named by its name"),
    (lambda tx: tx.delete("t", {"id": {"S": "1"}}), r"write Python values, \{'id': '1'\}"),
    (lambda tx: tx.delete("t", {}), "one or two attributes, and this key= has 0"),
    (lambda tx: tx.update("t", KEY, "ADD n :n"), "uses ':n', and values= does not have it"),
    (lambda tx: tx.update("t", KEY, "ADD n :n", values={"n": 1}), "'n' is none: write ':n'"),
    (lambda tx: tx.update("t", KEY, "ADD #n :n", values={":n": 1}), "uses '#n', and names="),
    (
        lambda tx: tx.update("t", KEY, "ADD n :n", values={":n": 1, ":m": 1}),
        "has ':m', which no expression uses: remove it",
    ),
    (
        lambda tx: tx.update("t", KEY, "ADD n :no", values={":n": 1}),
        "has ':n', which no expression uses",
    ),
    (
        lambda tx: tx.update("t", KEY, "ADD #n :n", values={":n": 1}, names={"n": "n"}),
        "write '#n'",
    ),
    (
        lambda tx: tx.update("t", KEY, "ADD #n :n", values={":n": 1}, names={"#n": 1}),  # type: ignore[dict-item]  # refused
        r"names\['#n'\] is an attribute's name, got int",
    ),
    (lambda tx: tx.update("t", KEY, "ADD n :n", values={":n": 0.1}), r"values\[':n'\]: a float"),
    (lambda tx: tx.update("t", KEY, " "), "not empty"),
    (lambda tx: tx.put("t", KEY, values={":n": 1}), "no expression uses"),
    (lambda tx: tx.put("t", KEY, condition=""), "condition is an expression"),
    (lambda tx: tx.delete("t", KEY, values=[":n"]), "values= is a mapping, got list"),  # type: ignore[arg-type]  # refused
    (lambda tx: tx.condition_check("t", KEY, None), "checks nothing"),  # type: ignore[arg-type]  # refused
]


@pytest.mark.parametrize(("write", "message"), REFUSED)
def test_what_cannot_work_is_refused_where_it_is_written(
    write: Callable[[Transaction], None], message: str
) -> None:
    tx = Transaction()
    with pytest.raises(TransactionRefused, match=message):
        write(tx)
    assert tx.writes == ()


SAME: list[tuple[Callable[[Transaction], None], Callable[[Transaction], None], bool]] = [
    (lambda tx: tx.delete("t", {"n": 1}), lambda tx: tx.delete("t", {"n": Decimal("1.0")}), True),
    (lambda tx: tx.delete("t", {"n": 1}), lambda tx: tx.delete("t", {"n": "1"}), False),
    (lambda tx: tx.delete("t", {"n": 1}), lambda tx: tx.delete("u", {"n": 1}), False),
    (lambda tx: tx.delete("t", {"n": 1}), lambda tx: tx.put("t", {"n": 1, "m": [1]}), True),
    (lambda tx: tx.put("t", {"n": 1, "m": 2}), lambda tx: tx.delete("t", {"n": 1}), True),
    (lambda tx: tx.put("t", {"n": 1, "m": 2}), lambda tx: tx.delete("t", {"n": 2}), False),
    (lambda tx: tx.put("t", {"n": 1}), lambda tx: tx.put("t", {"n": 1}), False),  # DynamoDB says it
    (
        lambda tx: tx.delete("t", {"n": 1, "m": 1}),
        lambda tx: tx.delete("t", {"n": 1, "m": 2}),
        False,
    ),
    (
        lambda tx: tx.condition_check("t", {"n": 1}, "attribute_exists(n)"),
        lambda tx: tx.delete("t", {"n": 1}),
        True,
    ),
]


@pytest.mark.parametrize(("first", "second", "is_same"), SAME)
def test_one_item_is_written_once(
    first: Callable[[Transaction], None], second: Callable[[Transaction], None], is_same: bool
) -> None:
    tx = Transaction()
    first(tx)
    if not is_same:
        second(tx)
        return
    with pytest.raises(TransactionRefused, match=r"write 2 .* and write 1 .* are of the same item"):
        second(tx)
    assert len(tx.writes) == 1


def test_a_hundredth_write_is_refused_and_the_limit_named() -> None:
    tx = Transaction()
    for number in range(99):
        tx.delete("t", {"n": number})
    with pytest.raises(TransactionRefused, match="at most 99 writes"):
        tx.delete("t", {"n": 99})
    assert len(tx.writes) == 99


def test_with_many_records_the_option_that_makes_room_is_named() -> None:
    tx = Transaction(marks=98)
    tx.delete("t", {"n": 1})
    tx.delete("t", {"n": 2})
    with pytest.raises(TransactionRefused, match=r"98 records.*2 writes are left.*max_items="):
        tx.delete("t", {"n": 3})


def test_a_transaction_shows_no_item_data() -> None:
    tx = Transaction()
    tx.put("t", {"id": HIDDEN})
    assert HIDDEN not in repr((tx, tx.writes))


def test_a_write_that_comes_when_the_call_has_ended_is_refused() -> None:
    kept: list[Transaction] = []
    router = Router()
    transactions = Transactions(MARKS, client=Tables())

    @router.on_insert()
    def keep(tx: Annotated[Transaction, Depends(transactions)]) -> None:
        kept.append(tx)

    send(App(router), batch_of("a"))
    with pytest.raises(DynaflowError, match="when its call had ended"):
        kept[0].delete("t", {"n": 1})


# The mark


def test_a_mark_looks_as_in_a_powertools_idempotency_table() -> None:
    tables = Tables()
    send(booking(tables, is_async=False), batch_of("a"))
    (mark,) = tables.marks.values()
    assert mark.keys() == {"id", "status", "expiration", "token"}
    assert mark["id"]["S"].startswith("transaction#book#")
    assert mark["status"] == {"S": "COMPLETED"}
    assert 0 <= time.time() + 7 * 86400 - int(mark["expiration"]["N"]) < 60
    (request,) = tables.requests
    put = request["TransactItems"][0]["Put"]
    assert put["ConditionExpression"] == "attribute_not_exists(#key)"
    assert put["ExpressionAttributeNames"] == {"#key": "id"}
    assert mark["token"] == {"S": request["ClientRequestToken"]}
    assert len(request["ClientRequestToken"]) <= 36


def test_a_mark_takes_the_names_of_another_layout() -> None:
    layout = MarkLayout("m", "pk", "sk", "mine", "ttl", "state")
    put = layout.put("the mark", "the token", 12)["Put"]
    assert put["Item"] == {
        "pk": {"S": "mine"},
        "sk": {"S": "the mark"},
        "state": {"S": "COMPLETED"},
        "ttl": {"N": "12"},
        "token": {"S": "the token"},
    }
    assert put["ExpressionAttributeNames"] == {"#key": "pk"}


def test_a_mark_is_of_one_route_and_one_record() -> None:
    one, other = (r for r in batch_of("aa").records if isinstance(r, Record))
    elsewhere = Record(
        one.raw,
        event_name=one.event_name,
        sequence_number=one.sequence_number,
        position=one.position,
        source_arn=one.source_arn + "x",
    )
    marks = [mark_of(one, "r"), mark_of(other, "r"), mark_of(one, "s"), mark_of(elsewhere, "r")]
    assert len(set(marks)) == 4
    assert mark_of(record_of(), "r") == mark_of(record_of(), "r")
    long = "r" * 5000
    assert len(mark_of(one, long).encode()) < 2048
    assert mark_of(one, long) != mark_of(one, long + "s")


def test_a_record_that_cannot_be_told_from_another_tables_is_refused() -> None:
    record = record_of()
    raw = {name: value for name, value in record.raw.items() if name != "eventID"}
    nameless = Record(
        raw,
        event_name=record.event_name,
        sequence_number=record.sequence_number,
        position=record.position,
        source_arn="",
    )
    with pytest.raises(TransactionRefused, match="neither eventSourceARN nor eventID"):
        mark_of(nameless, "r")


# Committed once

KINDS = pytest.mark.parametrize(
    ("is_async", "make"),
    [(False, Tables), (True, Tables), (False, AsyncTables), (True, AsyncTables)],
    ids=["sync handler", "async handler", "sync handler, async client", "all async"],
)


@KINDS
def test_what_is_delivered_twice_is_committed_once(
    is_async: bool, make: Callable[[], Tables]
) -> None:
    tables = make()
    app = booking(tables, is_async=is_async)
    first = send(app, batch_of("abab"))
    second = send(app, batch_of("abab"))
    assert [o.status for o in first.outcomes] == [Status.DONE] * 4
    assert [o.status for o in second.outcomes] == [Status.REPEATED] * 4
    assert first.failed is second.failed is None
    assert len(tables.requests) == 8  # it was the mark that told, and no memory of this process
    assert tables.commits == 4
    assert set(tables.added.values()) == {4}


@pytest.mark.anyio
@pytest.mark.parametrize("make", [Tables, AsyncTables])
async def test_it_commits_on_asyncio_and_on_trio(make: Callable[..., Tables]) -> None:
    tables = make(cancelled("TransactionConflict", "None"))
    app = booking(tables, is_async=True)
    async with app.lifespan():
        result = await app.process(batch_of("ab"))
    assert result.handled_by == ["book", "book"]
    assert (tables.commits, len(tables.requests)) == (2, 3)


def test_a_route_of_sync_parts_needs_no_loop_and_commits_in_its_own_thread() -> None:
    tables = Tables()
    app = booking(tables, is_async=False)
    work = app.begin(app.plan(batch_of("ab")))
    assert not work.needs_loop
    app.run_without_loop(work)
    assert not work.needs_loop
    assert work.finish().failed is None
    assert tables.commits == 2


@KINDS
@pytest.mark.parametrize("error", [ValueError("no"), Skip("not mine")], ids=["error", "skip"])
def test_nothing_is_written_if_the_handler_raises(
    is_async: bool, make: Callable[[], Tables], error: Exception
) -> None:
    tables = make()
    send(booking(tables, is_async=is_async, then=error), batch_of("a"))
    assert tables.requests == []


@KINDS
def test_a_handler_that_writes_nothing_makes_no_call(
    is_async: bool, make: Callable[[], Tables]
) -> None:
    tables = make()
    result = send(booking(tables, is_async=is_async, times=0), batch_of("a"))
    assert result.handled_by == ["book"]
    assert tables.requests == []


def test_what_a_dependency_collects_is_part_of_the_same_transaction() -> None:
    tables = Tables()
    transactions = Transactions(MARKS, client=tables)

    def audited(tx: Annotated[Transaction, Depends(transactions)]) -> None:
        tx.put("audit", {"id": "1"})

    router = Router()

    @router.on_insert()
    def book(
        tx: Annotated[Transaction, Depends(transactions)], audit: Annotated[None, Depends(audited)]
    ) -> None:
        tx.delete("open", {"id": "1"})

    send(App(router), batch_of("a"))
    (request,) = tables.requests
    assert [list(item) for item in request["TransactItems"]] == [["Put"], ["Put"], ["Delete"]]


def test_an_error_in_another_clean_up_before_the_commit_keeps_it_from_happening() -> None:
    tables = Tables()
    transactions = Transactions(MARKS, client=tables)

    def flushed(tx: Annotated[Transaction, Depends(transactions)]) -> Iterator[None]:
        yield
        raise OSError("disk full")

    router = Router()

    @router.on_insert()
    def book(
        tx: Annotated[Transaction, Depends(transactions)], flush: Annotated[None, Depends(flushed)]
    ) -> None:
        tx.delete("open", {"id": "1"})

    result = send(App(router), batch_of("a"))
    assert isinstance(result.errors[0], OSError)
    assert tables.requests == []


def test_a_client_that_a_dependency_opens_with_the_app_is_used() -> None:
    opened: list[AsyncTables] = []

    async def dynamodb() -> AsyncIterator[AsyncTables]:
        opened.append(AsyncTables())
        yield opened[-1]

    transactions = Transactions(MARKS, client=Depends(dynamodb, scope="app"))
    router = Router()

    @router.on_insert()
    def book(tx: Annotated[Transaction, Depends(transactions)]) -> None:
        tx.delete("open", {"id": "1"})

    assert send(App(router), batch_of("ab")).errors == []
    assert [client.commits for client in opened] == [2]


# Answers that are lost


@KINDS
@pytest.mark.parametrize("knows_tokens", [True, False])
def test_an_answer_that_was_lost_is_asked_for_again_and_the_commit_recognised(
    is_async: bool, make: Callable[..., Tables], knows_tokens: bool
) -> None:
    tables = make(lost_answer(), knows_tokens=knows_tokens)
    result = send(booking(tables, is_async=is_async), batch_of("a"))
    assert result.handled_by == ["book"]
    assert tables.commits == 1
    first, second = tables.requests
    assert first == second


def test_where_every_answer_is_lost_the_next_delivery_finds_the_mark() -> None:
    tables = Tables(lost_answer(), *[EndpointConnectionError(endpoint_url="https://x")] * 4)
    app = booking(tables, is_async=False)
    first = send(app, batch_of("a"))
    (error,) = first.errors
    assert isinstance(error, TransactionError)
    assert "there was no answer" in str(error)
    assert "sent 5 times" in str(error)
    second = send(app, batch_of("a"))
    assert [o.status for o in second.outcomes] == [Status.REPEATED]
    assert tables.commits == 1
    tokens = [request["ClientRequestToken"] for request in tables.requests]
    assert len(set(tokens[:5])) == 1
    assert tokens[5] != tokens[0]


def test_nothing_is_sent_again_when_the_deadline_is_near() -> None:
    tables = Tables(cancelled("TransactionConflict", "None"), fails_always=True)
    now = 0.0

    def clock() -> float:
        return now

    tx = Transaction()
    tx.delete("open", {"id": "1"})
    context = HandlerContext(record_of(), "book", deadline=Deadline(0.4, clock))
    run = Transactions(MARKS, client=tables)(context)
    next(run).delete("open", {"id": "1"})
    with pytest.raises(TransactionError):
        next(run)
    assert len(tables.requests) == 1


# What answers mean

Verdict = tuple[Exception, type[Exception], str, int]
ANSWERS: list[Verdict] = [
    (cancelled("None", FAILED, FAILED), TransactionConditionFailed, "condition of write 1", 1),
    (cancelled("None", "None", FAILED), TransactionConditionFailed, r"write 2 \(update", 1),
    (cancelled("TransactionConflict", FAILED, "None"), TransactionError, "TransactionConflict", 5),
    (cancelled("None", FAILED, "TransactionConflict"), TransactionError, "TransactionConflict", 5),
    (cancelled("None", "ThrottlingError", "None"), TransactionError, "ThrottlingError", 5),
    (
        cancelled("None", "ProvisionedThroughputExceeded", "TransactionConflict"),
        TransactionError,
        "ProvisionedThroughputExceeded and TransactionConflict",
        5,
    ),
    (
        cancelled("None", "None", {"Code": "ValidationError", "Message": "Number overflow"}),
        TransactionRefused,
        r"ValidationError for write 2 \(update, table 'balances'\): Number overflow",
        1,
    ),
    (
        cancelled("None", "ItemCollectionSizeLimitExceeded", "None"),
        TransactionRefused,
        "ItemCollectionSizeLimitExceeded for write 1",
        1,
    ),
    (cancelled("ValidationError", "None", "None"), TransactionError, "see key_attr=", 1),
    (cancelled("None", "AccessDenied", "None"), TransactionError, "allow dynamodb:PutItem", 1),
    (cancelled("None", "None", "None"), TransactionError, "without a reason", 5),
    (service_error("TransactionCanceledException"), TransactionError, "answers Trans", 1),
    (service_error("TransactionInProgressException"), TransactionError, "InProgress", 5),
    (service_error("RequestLimitExceeded"), TransactionError, "RequestLimitExceeded", 5),
    (service_error("ThrottlingException"), TransactionError, "ThrottlingException", 5),
    (service_error("InternalServerError", status=500), TransactionError, "InternalServerErr", 5),
    (service_error("SomethingNew", status=503), TransactionError, "SomethingNew", 5),
    (service_error("AccessDeniedException"), TransactionError, "allow dynamodb:PutItem", 1),
    (service_error("ResourceNotFoundException"), TransactionError, "a table is not there", 1),
    (
        service_error("ValidationException", "Transaction request too big"),
        TransactionRefused,
        r"too big\. A transaction has at most 4 MB",
        1,
    ),
    (service_error("ExpiredTokenException"), TransactionError, "ExpiredTokenException", 1),
    (ReadTimeoutError(endpoint_url="https://x"), TransactionError, "no answer", 5),
    (TimeoutError(), TransactionError, "no answer", 5),
    (
        NoCredentialsError(),
        TransactionError,
        "it was not sent: NoCredentialsError; check credentials and region",
        1,
    ),
    (NoRegionError(), TransactionError, "it was not sent: NoRegionError", 1),
    (ParamValidationError(report=HIDDEN), TransactionRefused, "botocore refuses", 1),
]


@pytest.mark.parametrize(("answer", "expected", "message", "sends"), ANSWERS)
def test_what_an_answer_means(
    answer: Exception, expected: type[Exception], message: str, sends: int
) -> None:
    tables = Tables(answer, fails_always=True)
    result = send(booking(tables, is_async=False, times=2), batch_of("a"))
    (error,) = result.errors
    assert type(error) is expected
    with pytest.raises(expected, match=message):
        raise error
    assert len(tables.requests) == sends
    assert len({request["ClientRequestToken"] for request in tables.requests}) == 1


def test_the_failed_condition_is_named_without_its_item() -> None:
    tables = Tables(cancelled("None", "None", {"Code": FAILED, "Item": {"id": {"S": HIDDEN}}}))
    (error,) = send(booking(tables, is_async=False, times=2), batch_of("a")).errors
    assert isinstance(error, TransactionConditionFailed)
    assert (error.index, error.table, error.operation) == (1, "balances", "update")
    assert HIDDEN not in str(error)


def test_a_router_says_what_a_failed_condition_comes_to() -> None:
    transactions = Transactions(MARKS, client=Tables(cancelled("None", FAILED)))
    router = Router()

    @router.on_insert()
    def book(tx: Annotated[Transaction, Depends(transactions)]) -> None:
        tx.put("log", {"id": "1"}, condition="attribute_not_exists(id)")

    @router.on_error(TransactionConditionFailed)
    def known(error: TransactionConditionFailed) -> None:
        raise Skip(f"{error.table} has it")

    result = send(App(router), batch_of("a"))
    assert [o.status for o in result.outcomes] == [Status.SKIPPED]


@pytest.mark.parametrize(("is_async", "attempts"), [(False, 3), (True, 3), (True, 1)])
def test_a_retry_runs_the_handler_again_where_the_commit_may_pass(
    is_async: bool, attempts: int
) -> None:
    conflict = cancelled("TransactionConflict", "None")
    tables = Tables(*[conflict] * 5, lost_answer())
    app = booking(tables, is_async=is_async, retry=Retry(attempts=attempts))
    result = send(app, batch_of("a"))
    assert (result.failed is None) == (attempts > 1)
    assert tables.commits == (1 if attempts > 1 else 0)


def test_a_mark_that_is_there_wins_over_whatever_its_writes_ran_into() -> None:
    theirs = {"Code": FAILED, "Item": {"id": {"S": "x"}, "token": {"S": "another's"}}}
    for reasons in ([FAILED], ["TransactionConflict"], ["ValidationError"]):
        tables = Tables(cancelled(theirs, *reasons))
        result = send(booking(tables, is_async=False), batch_of("a"))
        assert [o.status for o in result.outcomes] == [Status.REPEATED]


def test_a_conflict_that_passes_is_no_failure() -> None:
    tables = Tables(cancelled("TransactionConflict", "None"), cancelled("None", "ThrottlingError"))
    result = send(booking(tables, is_async=False), batch_of("a"))
    assert result.handled_by == ["book"]
    assert len(tables.requests) == 3


@pytest.mark.parametrize(
    "message",
    [
        f"1 validation error detected: Value '[put(item={{{HIDDEN}}})]' at 'transactItems' failed",
        f"Input collection [{HIDDEN}, {HIDDEN}] contains duplicates",
        f"The parameter cannot be converted to a numeric value: {HIDDEN}",
    ],
)
def test_item_data_in_the_services_words_is_not_logged(
    message: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    tables = Tables(service_error("ValidationException", message))
    (error,) = send(booking(tables, is_async=False), batch_of("a")).errors
    assert isinstance(error, TransactionRefused)
    assert caplog.text
    assert HIDDEN not in caplog.text + str(error)


# Many records in one call


def many(
    tables: Any, handler: Callable[[list[Record], Transaction], None], **options: Any
) -> tuple[App, list[int]]:
    """Return an App with a batch route, and a list that gets the size of each call."""
    transactions = Transactions(MARKS, client=tables)
    router, calls = Router(), list[int]()

    @router.on_batch(name="all", **options)
    def all_of_them(
        records: list[Record], tx: Annotated[Transaction, Depends(transactions)]
    ) -> None:
        calls.append(len(records))
        handler(records, tx)

    return App(router), calls


def add(records: list[Record], tx: Transaction) -> None:
    tx.update("balances", {"id": "1"}, "ADD balance :n", values={":n": len(records)})


NAMES = [f"item-{number}" for number in range(120)]


def test_one_transaction_has_a_mark_for_each_record_and_calls_are_cut_to_98() -> None:
    tables = Tables()
    app, calls = many(tables, add, max_items=500)
    assert [route.batching.max_items for route in app.routes if route.batching] == [98]
    assert send(app, batch_of(NAMES)).failed is None
    assert calls == [98, 22]
    assert [len(request["TransactItems"]) for request in tables.requests] == [99, 23]
    assert len(tables.marks) == 120
    assert list(tables.added.values()) == [120]
    again = send(app, batch_of(NAMES))
    assert again.failed is None
    assert len(tables.requests) == 4
    assert list(tables.added.values()) == [120]


@pytest.mark.parametrize("latest_only", [False, True])
def test_a_record_that_is_twice_in_a_batch_is_committed_once(latest_only: bool) -> None:
    tables, (first, second) = Tables(), batch_of("ab").records
    app, calls = many(tables, add, latest_only=latest_only)
    (copy, _) = batch_of("ab").records
    result = send(app, Batch((first, copy, second)))
    assert result.failed is None
    assert list(tables.added.values()) == [2]
    assert calls == ([2] if latest_only else [1, 2, 1])


def test_a_lower_max_items_is_kept() -> None:
    app, calls = many(Tables(), add, max_items=50)
    assert [route.batching.max_items for route in app.routes if route.batching] == [50]
    send(app, batch_of(NAMES))
    assert calls == [50, 50, 20]


def test_calls_are_cut_for_a_transaction_that_takes_the_place_of_something_else() -> None:
    def nothing() -> None:
        return None

    router, calls = Router(), list[int]()

    @router.on_batch(max_items=500)
    def handler(records: list[Record], tx: Annotated[Any, Depends(nothing)]) -> None:
        calls.append(len(records))

    app = App(router)
    with app.overrides({nothing: MemoryTransactions()}):
        send(app, batch_of(NAMES))
    send(app, batch_of(NAMES))
    assert calls == [98, 22, 120]


def test_too_many_writes_for_the_marks_of_a_call_name_the_option() -> None:
    def write_too_much(records: list[Record], tx: Transaction) -> None:
        for number in range(5):
            tx.delete("t", {"n": number})

    tables = Tables()
    app, _ = many(tables, write_too_much, max_items=98)
    result = send(app, batch_of(NAMES[:96]))
    assert len(result.not_done) == 96
    assert all(isinstance(error, TransactionRefused) for error in result.errors)
    assert "max_items=" in str(result.errors[0])
    assert tables.requests == []


def test_a_partial_failure_fails_all_because_nothing_was_committed() -> None:
    def fail_for_one(records: list[Record], tx: Transaction) -> None:
        add(records, tx)
        raise PartialFailure([1])

    tables = Tables()
    app, _ = many(tables, fail_for_one)
    result = send(app, batch_of("abc"))
    assert len(result.not_done) == 3
    assert all(isinstance(error, TransactionError) for error in result.errors)
    assert "all records of the call or of none" in str(result.errors[0])
    assert tables.requests == []


def test_a_partial_failure_without_writes_is_one() -> None:
    def fail_for_one(records: list[Record], tx: Transaction) -> None:
        raise PartialFailure([1])

    app, _ = many(Tables(), fail_for_one)
    assert len(send(app, batch_of("abc")).not_done) == 1


def test_records_that_another_delivery_has_committed_are_named() -> None:
    tables = Tables()
    records = [r for r in batch_of("abcd").records if isinstance(r, Record)]
    transactions = Transactions(MARKS, client=tables)

    def commit(records: list[Record]) -> None:
        context = HandlerContext(records[0], "all", many=Many(tuple(records), (), []))
        run = transactions(context)
        next(run).delete("open", {"id": "1"})
        next(run, None)

    commit(records[1:3])
    with pytest.raises(AlreadyDone) as caught:
        commit(records)
    assert caught.value.records == tuple(records[1:3])
    with pytest.raises(AlreadyDone) as caught:
        commit(records[1:3])
    assert caught.value.records == ()
    commit([records[0], records[3]])
    assert tables.commits == 2


def test_the_rest_of_a_call_is_committed_when_a_part_of_it_was() -> None:
    tables = Tables()
    app, calls = many(tables, add)
    batch = batch_of("abcd")
    send(app, Batch(batch.records[1:3], batch.source_arn))
    result = send(app, batch)
    assert calls == [2, 4, 2]
    assert result.failed is None
    assert sorted(o.status.value for o in result.outcomes) == ["done"] * 2 + ["repeated"] * 2
    assert list(tables.added.values()) == [4]


# Cut off


def test_a_commit_that_is_cut_off_is_decided_by_the_mark() -> None:
    hangs = True

    async def before() -> None:
        if hangs:
            await anyio.sleep(30)

    tables = AsyncTables(before=before)
    app = booking(tables, is_async=True)
    batch = batch_of("a")
    result = send(app, batch, deadline=Deadline.after(0.4))
    assert [o.status for o in result.outcomes] == [Status.NOT_DONE]
    hangs = False
    assert send(app, batch).handled_by == ["book"]
    assert tables.commits == 1


def test_a_commit_in_a_thread_that_hangs_does_not_keep_the_answer() -> None:
    class Hanging(Tables):
        def transact_write_items(self, **request: Any) -> dict[str, Any]:
            answer = super().transact_write_items(**request)
            released.wait(20)
            return answer

    released = threading.Event()
    tables = Hanging()
    app = booking(tables, is_async=True)
    batch = batch_of("a")
    began = time.monotonic()
    host = Host(app)
    try:
        result = host.process(Batch(batch.records, batch.source_arn, Deadline.after(0.4)))
        assert time.monotonic() - began < 5
        assert len(result.not_done) == 1
    finally:
        released.set()
        host.close()
    assert [o.status for o in send(app, batch).outcomes] == [Status.REPEATED]
    assert tables.commits == 1


# Declared wrongly


def test_two_transactions_of_one_call_are_refused() -> None:
    router = Router()

    @router.on_insert()
    def book(
        one: Annotated[Transaction, Depends(Transactions(MARKS))],
        other: Annotated[Transaction, Depends(Transactions(MARKS))],
    ) -> None: ...

    with pytest.raises(RegistrationError, match=r"ask for a Transaction twice.*Give it a name"):
        App(router)


def test_a_transaction_of_the_whole_app_is_refused() -> None:
    router = Router()

    @router.on_insert()
    def book(tx: Annotated[Transaction, Depends(Transactions(MARKS), scope="app")]) -> None: ...

    with pytest.raises(RegistrationError, match="'context' of Transactions is of a call"):
        App(router)


WRONG: list[tuple[Callable[[], object], str]] = [
    (lambda: Transactions(""), "name of the table of marks"),
    (lambda: Transactions("t", client="dynamodb"), "is a client of DynamoDB.*got str"),
    (lambda: Transactions("t", client=Depends(Tables)), "scope='app'"),
    (lambda: Transactions("t", expires_after_seconds=3600), "at least 86400"),
    (lambda: Transactions("t", key_attr="token"), "not all different"),
    (lambda: Transactions("t", sort_key_attr="id"), "not all different"),
]


@pytest.mark.parametrize(("make", "message"), WRONG)
def test_an_option_that_cannot_work_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(RegistrationError, match=message):
        make()


# Without DynamoDB


def test_in_tests_a_stand_in_has_the_same_rules() -> None:
    transactions = Transactions(MARKS)
    router = Router()

    @router.on_insert()
    async def book(new: dict[str, Any], tx: Annotated[Transaction, Depends(transactions)]) -> None:
        tx.update("balances", {"id": new["id"]}, "ADD n :n", values={":n": new["n"]})
        if new["n"] == 0:
            raise ValueError("nothing")

    memory = MemoryTransactions()
    with TestClient(router, overrides={transactions: memory}) as stream:
        record = stream.records.insert({"id": "a", "n": 3})
        assert stream.send(record).handled_by
        assert not stream.send(record).handled_by
        assert stream.insert({"id": "b", "n": 0}).errors
    (write,) = memory.writes
    assert (write.operation, write.table) == ("update", "balances")
    assert (write.key, write.values) == ({"id": "a"}, {":n": 3})
    assert memory.commits == [(write,)]
