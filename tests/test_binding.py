"""What handlers are given: parameters under every annotation, and every kind of callable."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from typing import Any, Optional, Union

import pytest
from pydantic import BaseModel

from dynaflow import App, HandlerContext, Image, Record, Router
from dynaflow.errors import ImageMissing
from dynaflow.testing import RecordBuilder, TestClient
from tests.support.batches import processed

ITEM = {"id": "1", "total": 5}
LATER = {"id": "1", "total": 6}
Handler = Callable[..., Any]


class Order(BaseModel):
    id: str
    total: int


@dataclasses.dataclass
class Row:
    id: str
    total: int


def noting(name: str, annotation: Any, seen: list[Any]) -> Handler:
    """Return a handler with one parameter of that name, which notes what it is given."""

    def take_new(new: Any) -> None:
        seen.append(new)

    def take_old(old: Any) -> None:
        seen.append(old)

    def take_keys(keys: Any) -> None:
        seen.append(keys)

    def take_anything(anything: Any) -> None:
        seen.append(anything)

    handlers = {"new": take_new, "old": take_old, "keys": take_keys, "anything": take_anything}
    handler = handlers[name]
    handler.__annotations__ = {} if annotation is ... else {name: annotation}
    return handler


def given(verb: str, name: str, annotation: Any) -> list[Any]:
    """Return what a handler gets for one parameter; an insert, a modify and a remove are sent."""
    seen: list[Any] = []
    send_all(verb, noting(name, annotation, seen))
    return seen


def send_all(verb: str, handler: Handler) -> None:
    """Register the handler and send an insert, a modify and a remove, none of which may fail."""
    router = Router()
    getattr(router, verb)(name="route")(handler)
    with TestClient(router) as stream:
        results = [stream.insert(ITEM), stream.modify(old=ITEM, new=LATER), stream.remove(LATER)]
    assert [error for result in results for error in result.errors] == []


# Annotations as objects, and as the text that `from __future__ import annotations` makes of them.
FORMS: list[tuple[Any, type]] = [
    (Order, Order),
    ("Order", Order),
    (Row, Row),
    ("Row", Row),
    (dict, dict),
    ("dict", dict),
    (dict[str, Any], dict),
    ("dict[str, Any]", dict),
    (dict[str, object], dict),
    (typing.Dict[str, Any], dict),  # noqa: UP006 - as older code has it
    (Image, Image),
    ("Image", Image),
    (Mapping, Image),
    (Mapping[str, Any], Image),
    ("Mapping[str, Any]", Image),
    (typing.Mapping[str, Any], Image),
    (Any, Image),
    ("Any", Image),
    (object, Image),
    (..., Image),
]


@pytest.mark.parametrize(("annotation", "kind"), FORMS)
@pytest.mark.parametrize(("verb", "name"), [("on_modify", "new"), ("on_modify", "old")])
def test_an_image_is_given_in_the_form_that_the_annotation_names(
    verb: str, name: str, annotation: Any, kind: type
) -> None:
    (value,) = given(verb, name, annotation)
    assert type(value) is kind
    item = LATER if name == "new" else ITEM
    assert value == (kind(**item) if kind in (Order, Row) else item)


OPTIONAL: list[tuple[Any, type]] = [
    (Order | None, Order),
    ("Order | None", Order),
    ("None | Order", Order),
    (Optional[Order], Order),  # noqa: UP045 - as older code has it
    ("Optional[Order]", Order),
    ('Optional["Order"]', Order),
    (Optional["Order"], Order),
    (Union[Order, None], Order),  # noqa: UP007 - as older code has it
    (Row | None, Row),
    (Order | Row | None, Order),
    (dict | None, dict),
    ("dict[str, Any] | None", dict),
    (Image | None, Image),
    (Mapping[str, Any] | None, Image),
    (Any, Image),
    (object, Image),
    (..., Image),
]


@pytest.mark.parametrize(("annotation", "kind"), OPTIONAL)
def test_an_image_that_can_be_absent_is_none_where_it_is(annotation: Any, kind: type) -> None:
    none = type(None)
    assert [type(value) for value in given("on_any", "new", annotation)] == [kind, kind, none]
    assert [type(value) for value in given("on_any", "old", annotation)] == [none, kind, kind]


@pytest.mark.parametrize(
    ("annotation", "kind"), [(Image, Image), (dict, dict), (dict[str, str], dict), (..., Image)]
)
def test_keys_are_there_on_every_event(annotation: Any, kind: type) -> None:
    keys = given("on_any", "keys", annotation)
    assert [type(value) for value in keys] == [kind] * 3
    assert keys == [{"id": "1"}] * 3


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (Record, Record),
        ("Record", Record),
        (Record | None, Record),
        (HandlerContext, HandlerContext),
        ("HandlerContext", HandlerContext),
    ],
)
def test_records_and_contexts_are_given_by_annotation_whatever_the_name(
    annotation: Any, kind: type
) -> None:
    assert [type(value) for value in given("on_any", "anything", annotation)] == [kind] * 3


def test_all_parameters_come_together_in_any_order() -> None:
    seen: list[tuple[Any, ...]] = []

    def handler(
        context: HandlerContext,
        new: Order | None,
        keys: dict[str, Any],
        *,
        change: Record,
        old: Row | None,
        own: int = 7,
    ) -> None:
        assert context.record is change
        seen.append((new, old, keys, change.event_name, context.route, own))

    send_all("on_any", handler)
    key = {"id": "1"}
    assert seen == [
        (Order(id="1", total=5), None, key, "INSERT", "route", 7),
        (Order(id="1", total=6), Row("1", 5), key, "MODIFY", "route", 7),
        (None, Row("1", 6), key, "REMOVE", "route", 7),
    ]


def test_an_image_without_attributes_is_not_a_missing_one() -> None:
    router, seen = Router(), list[Any]()
    router.on_insert()(noting("new", dict, seen))
    with TestClient(router) as stream:
        record = stream.records.insert(ITEM)
        record["dynamodb"]["NewImage"] = {}
        assert stream.send([record]).errors == []
    assert seen == [{}]


def test_a_handler_may_want_nothing() -> None:
    calls: list[None] = []
    send_all("on_any", lambda: calls.append(None))
    assert len(calls) == 3


def test_two_handlers_of_one_record_do_not_share_what_they_are_given() -> None:
    router = Router()
    seen: list[Any] = []

    @router.on_insert(name="spoils")
    def spoil(new: dict[str, Any]) -> None:
        new["lines"].append("spoiled")
        new["id"] = "spoiled"

    @router.on_insert(name="looks")
    def look(new: dict[str, Any]) -> None:
        seen.append(new)

    item = {"id": "1", "lines": ["one"]}
    with TestClient(router) as stream:
        assert stream.insert(item).handled_by == ["spoils", "looks"]
    assert seen == [item]


# Images that a view type leaves out; the doors refuse such a stream before its first record.

VIEWS = [
    ("KEYS_ONLY", "on_insert", "new"),
    ("KEYS_ONLY", "on_modify", "new"),
    ("KEYS_ONLY", "on_modify", "old"),
    ("KEYS_ONLY", "on_remove", "old"),
    ("NEW_IMAGE", "on_modify", "old"),
    ("NEW_IMAGE", "on_remove", "old"),
    ("OLD_IMAGE", "on_insert", "new"),
    ("OLD_IMAGE", "on_modify", "new"),
]


@pytest.mark.parametrize(("view_type", "verb", "name"), VIEWS)
def test_a_needed_image_that_the_view_type_leaves_out_is_an_error_that_names_it(
    view_type: str, verb: str, name: str
) -> None:
    router = Router()
    getattr(router, verb)(name="ship")(noting(name, dict, []))
    build = RecordBuilder(view_type=view_type)
    raws = build.insert(ITEM), build.modify(ITEM, LATER), build.remove(LATER)
    app = App(router)
    (error,) = [error for raw in raws for error in processed(app, raw).errors]
    assert isinstance(error, ImageMissing)
    event = {"on_insert": "INSERT", "on_modify": "MODIFY", "on_remove": "REMOVE"}[verb]
    assert str(error) == (
        f"ship needs the {name} image, and this {event} record has none: the stream's view type is "
        f"{view_type}. Enable the stream with NEW_AND_OLD_IMAGES, or write '{name}: ... | None'."
    )


@pytest.mark.parametrize(("view_type", "verb", "name"), VIEWS)
def test_an_optional_image_that_the_view_type_leaves_out_is_none(
    view_type: str, verb: str, name: str
) -> None:
    seen: list[Any] = []
    router = Router()
    getattr(router, verb)()(noting(name, "Order | None", seen))
    build = RecordBuilder(view_type=view_type)
    raws = build.insert(ITEM), build.modify(ITEM, LATER), build.remove(ITEM)
    assert processed(App(router), *raws).errors == []
    assert seen == [None]
