"""What a batch route's handler is called with, and what is refused at registration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from dynaflow import (
    App,
    Change,
    Depends,
    EventName,
    F,
    HandlerContext,
    Image,
    Record,
    Router,
    Status,
    changed,
)
from dynaflow.errors import ImageMissing, InvalidImage
from dynaflow.testing import RecordBuilder, TestClient
from tests.support.routers import refusal

BUILD = RecordBuilder(keys=("id",))


class Order(BaseModel):
    id: str
    total: int


class Refund(BaseModel):
    id: str
    refund: int


@dataclasses.dataclass
class Plain:
    id: str
    total: int


def given(handler: Callable[..., Any], *raws: dict[str, Any]) -> list[Any]:
    """Return what the handler notes in ``seen`` of these records."""
    router = Router()
    router.on_batch(name="batch")(handler)
    seen.clear()
    with TestClient(router) as stream:
        result = stream.send(list(raws))
    assert result.errors == []
    return list(seen)


seen: list[Any] = []
INSERT = BUILD.insert({"id": "a", "total": 1})
MODIFY = BUILD.modify({"id": "a", "total": 1}, {"id": "a", "total": 2})
REMOVE = BUILD.remove({"id": "a", "total": 2})


def test_changes_have_both_images_in_the_form_of_the_annotation() -> None:
    async def handler(changes: list[Change[Order]]) -> None:
        seen.extend((c.event_name, c.old and c.old.total, c.new and c.new.total) for c in changes)

    assert given(handler, INSERT, MODIFY, REMOVE) == [
        (EventName.INSERT, None, 1),
        (EventName.MODIFY, 1, 2),
        (EventName.REMOVE, 2, None),
    ]


async def dicts(changes: list[Change[dict[str, Any]]]) -> None:
    seen.extend(change.new for change in changes)


async def plain(changes: Sequence[Change[Plain]]) -> None:
    seen.extend(change.new for change in changes)


async def unions(changes: list[Change[Order | Refund]]) -> None:
    seen.extend(change.new for change in changes)


async def optional(changes: list[Change[Order | None]]) -> None:
    seen.extend(change.new for change in changes)


async def images(changes: list[Change[Image]]) -> None:
    seen.extend(type(change.new) for change in changes)


async def bare(changes: list[Change]) -> None:  # type: ignore[type-arg]  # what is tested
    seen.extend(type(change.new) for change in changes)


async def untyped(changes) -> None:  # type: ignore[no-untyped-def]  # what is tested
    seen.extend(type(change.new) for change in changes)


@pytest.mark.parametrize(
    ("handler", "new"),
    [
        (dicts, {"id": "a", "total": 1}),
        (plain, Plain("a", 1)),
        (unions, Order(id="a", total=1)),
        (optional, Order(id="a", total=1)),
        (images, Image),
        (bare, Image),
        (untyped, Image),
    ],
)
def test_images_can_be_anything_that_an_image_can_become(
    handler: Callable[..., Any], new: Any
) -> None:
    assert given(handler, INSERT) == [new]


def test_a_change_shows_its_key_and_record_and_no_data_in_its_repr() -> None:
    async def handler(changes: list[Change[Order]]) -> None:
        change = changes[0]
        seen.append((change.keys.to_dict(), change.record.event_name, repr(change)))

    ((keys, event_name, shown),) = given(handler, INSERT)
    assert (keys, event_name) == ({"id": "a"}, "INSERT")
    assert shown.startswith("<Change of <Record INSERT")
    assert "total" not in shown


@pytest.mark.parametrize(
    ("view_type", "raw", "missing"),
    [
        ("KEYS_ONLY", "insert", ["new"]),
        ("KEYS_ONLY", "modify", ["old", "new"]),
        ("NEW_IMAGE", "modify", ["old"]),
        ("OLD_IMAGE", "modify", ["new"]),
        ("NEW_IMAGE", "remove", ["old"]),
        ("NEW_AND_OLD_IMAGES", "insert", []),
        ("NEW_AND_OLD_IMAGES", "remove", []),
    ],
)
def test_an_image_that_the_view_type_leaves_out_is_never_taken_for_one_that_is_not_there(
    view_type: str, raw: str, missing: list[str]
) -> None:
    build = RecordBuilder(keys=("id",), view_type=view_type)
    item = {"id": "a", "total": 1}
    raws = {
        "insert": lambda: build.insert(item),
        "modify": lambda: build.modify(item, {**item, "total": 2}),
        "remove": lambda: build.remove(item),
    }

    async def handler(changes: list[Change[Order]]) -> None:
        for name in ("old", "new"):
            try:
                getattr(changes[0], name)
            except ImageMissing as error:
                assert view_type in str(error)
                seen.append(name)

    assert given(handler, raws[raw]()) == missing


def test_records_come_as_they_are() -> None:
    def handler(records: list[Record], context: HandlerContext) -> None:
        seen.extend(records)
        assert context.records == tuple(records)
        assert context.changes == ()

    assert [record.event_name for record in given(handler, INSERT, REMOVE)] == ["INSERT", "REMOVE"]


class Connection:
    def __init__(self) -> None:
        self.is_open = True


def connect(context: HandlerContext) -> Iterator[Connection]:
    connection = Connection()
    seen.append(("open", len(context.records)))
    yield connection
    connection.is_open = False
    seen.append("closed")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_dependencies_are_evaluated_once_for_each_call(kind: str) -> None:
    async def on_loop(
        changes: list[Change[Order]], connection: Annotated[Connection, Depends(connect)]
    ) -> None:
        assert connection.is_open

    def in_thread(
        records: list[Record], connection: Annotated[Connection, Depends(connect)], limit: int = 5
    ) -> None:
        assert (connection.is_open, limit) == (True, 5)

    handler = on_loop if kind == "async" else in_thread
    assert given(handler, INSERT, MODIFY) == [("open", 2), "closed"]


def transaction() -> Iterator[None]:
    yield
    raise ConnectionError("the commit failed")


def test_a_clean_up_that_fails_fails_the_whole_call() -> None:
    async def handler(
        records: list[Record], session: Annotated[None, Depends(transaction)]
    ) -> None:
        """Write."""

    router = Router()
    router.on_batch(name="batch")(handler)
    with TestClient(router) as stream:
        result = stream.send([INSERT, BUILD.insert({"id": "b", "total": 1})])
    assert len(result.not_done) == 2


def test_an_image_that_is_no_order_fails_its_own_record_and_what_follows_of_its_item() -> None:
    called: list[int] = []

    async def handler(changes: list[Change[Order]]) -> None:
        called.extend(change.new.total for change in changes if change.new)

    router = Router()
    router.on_batch("INSERT", name="batch")(handler)
    with TestClient(router) as stream:
        result = stream.send(
            [
                BUILD.insert({"id": "a", "total": 1}),
                BUILD.insert({"id": "b", "total": "secret"}),
                BUILD.insert({"id": "b", "total": 2}),
                BUILD.insert({"id": "c", "total": 3}),
            ]
        )
    assert called == [1, 3]
    assert [record.keys and record.keys["id"] for record in result.not_done] == ["b", "b"]
    (error,) = result.errors
    assert isinstance(error, InvalidImage)
    assert "batch: the new image" in str(error)
    assert "total" in str(error)
    assert "secret" not in str(error)
    assert [outcome.status for outcome in result.outcomes] == [
        Status.FAILED,
        Status.DONE,
        Status.DONE,
    ]


def test_a_call_of_which_every_image_is_wrong_is_not_made() -> None:
    async def handler(changes: list[Change[Order]]) -> None:
        raise AssertionError("it is called")

    router = Router()
    router.on_batch("INSERT", name="batch")(handler)
    with TestClient(router) as stream:
        result = stream.insert({"id": "a"})
    assert [type(error) for error in result.errors] == [InvalidImage]


# Refused at registration.


def nothing_of_it(context: HandlerContext) -> None: ...
def both(changes: list[Change[Order]], records: list[Record]) -> None: ...
def one_order(changes: Order) -> None: ...
def orders(changes: list[Order]) -> None: ...
def numbers(changes: list[Change[int]]) -> None: ...
def record(records: Record) -> None: ...
def many_changes(records: list[Change[Order]]) -> None: ...
def new(changes: list[Change[Order]], new: Order) -> None: ...
def one(changes: list[Change[Order]], record: Record) -> None: ...
def stranger(changes: list[Change[Order]], mailer: Order) -> None: ...


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (nothing_of_it, "takes neither 'changes' nor 'records': write 'changes: list[Change"),
        (both, "takes both 'changes' and 'records'"),
        (one_order, "write 'changes: list[Change[Order]]'"),
        (orders, "write 'changes: list[Change[Order]]'"),
        (numbers, "an image cannot become int"),
        (record, "write 'records: list[Record]'"),
        (many_changes, "write 'records: list[Record]'"),
        (new, "is of one record, and this call has many"),
        (one, "is of one record, and this call has many"),
        (stranger, "which image is it?"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_handler_that_no_batch_can_be_given_to_is_refused(
    handler: Callable[..., Any], text: str
) -> None:
    def register() -> None:
        router = Router()
        router.on_batch(name="batch")(handler)
        App(router)

    assert text in refusal(register)


def test_a_handler_of_one_record_cannot_ask_for_all() -> None:
    def register() -> None:
        router = Router()
        router.on_insert(name="one")(dicts)
        App(router)

    assert "'changes' is for on_batch" in refusal(register)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_items": 0}, "on_batch(max_items=...) is a whole number, at least 1"),
        ({"max_items": None}, "on_batch(max_items=...)"),
        ({"max_items": 1.5}, "on_batch(max_items=...)"),
        ({"max_items": True}, "on_batch(max_items=...)"),
        ({"max_bytes": 0}, "on_batch(max_bytes=...) is a whole number, at least 1"),
        ({"latest_only": 1}, "on_batch(latest_only=...) is True or False"),
        ({"maximum": 5}, "has no option maximum="),
    ],
    ids=str,
)
def test_options_that_cannot_work_are_refused(options: dict[str, Any], text: str) -> None:
    assert text in refusal(lambda: Router().on_batch(**options))


def test_a_filter_among_the_event_names_is_refused() -> None:
    condition: Any = F.new.total > 1
    assert "when=" in refusal(lambda: Router().on_batch(condition))


def test_a_misspelt_field_is_refused() -> None:
    async def handler(changes: list[Change[Order]]) -> None: ...

    router = Router()
    router.on_batch(when=changed("totla"), name="batch")(handler)
    assert "Did you mean 'total'?" in refusal(lambda: App(router))


def test_a_batch_route_and_another_cannot_have_one_name() -> None:
    router = Router()
    router.on_batch(name="same")(dicts)
    router.on_insert(name="same")(nothing_of_it)
    assert "two routes are named 'same'" in refusal(lambda: App(router))


def test_of_alternatives_only_the_first_is_called_be_it_a_batch_route_or_not() -> None:
    router = Router(match="first")
    router.on_batch(when=F.new.total > 1, name="batch")(dicts)
    router.on_insert(name="one")(nothing_of_it)
    with TestClient(router) as stream:
        result = stream.send(
            [BUILD.insert({"id": "a", "total": 1}), BUILD.insert({"id": "b", "total": 2})]
        )
    assert sorted(result.handled_by) == ["batch", "one"]
