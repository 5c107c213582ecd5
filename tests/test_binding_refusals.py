"""Handlers that nothing could be passed to, and how they are refused."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from pydantic import BaseModel

from dynaflow import App, HandlerContext, Image, Record, Router
from tests.support.routers import handled, refusal

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTypeCheckers

Handler = Callable[..., Any]


class Order(BaseModel):
    id: str
    total: int


class Pair(NamedTuple):
    id: str


class Unfinished(BaseModel):
    id: str
    next: Missing  # type: ignore[name-defined]  # noqa: F821 - that it is missing is the test


@dataclasses.dataclass
class UnfinishedRow:
    id: str
    next: Missing  # type: ignore[name-defined]  # noqa: F821 - that it is missing is the test


def positional_only(new: Order, /) -> None: ...
def takes_args(*args: Any) -> None: ...
def takes_kwargs(**kwargs: Any) -> None: ...
def generator(new: Order) -> Iterator[None]:
    yield


async def async_generator(new: Order) -> AsyncIterator[None]:
    yield


class GeneratorObject:
    def __call__(self, new: Order) -> Iterator[None]:
        yield


class AsyncGeneratorObject:
    async def __call__(self, new: Order) -> AsyncIterator[None]:
        yield


AT_THE_DECORATOR: list[tuple[Any, str]] = [
    (
        lambda order: None,
        "parameter 'order' of <lambda>: which image is it? Name it 'new', 'old' or 'keys', "
        "annotate it with Record, HandlerContext or Annotated[..., Depends(...)], or give it a "
        "default.",
    ),
    (lambda new, record: None, "parameter 'record' of <lambda>: which image is it?"),
    (
        positional_only,
        "parameter 'new' of positional_only is positional-only, and handlers are called with "
        "keywords: remove the '/'",
    ),
    (
        takes_args,
        "takes_args takes '*args', so what to pass cannot be told. Name its parameters; if "
        "a decorator wraps it, use functools.wraps there.",
    ),
    (takes_kwargs, "takes_kwargs takes '**kwargs', so what"),
    (
        generator,
        "generator contains 'yield', so that calling it runs nothing. A handler is a plain "
        "function or an 'async def' without yield.",
    ),
    (async_generator, "async_generator contains 'yield'"),
    (GeneratorObject(), "GeneratorObject contains 'yield'"),
    (AsyncGeneratorObject(), "AsyncGeneratorObject contains 'yield'"),
    (Order, "a handler is a function or a callable object, got the class Order"),
    (3, "a handler is a function or a callable object, got int"),
    (None, "a handler is a function or a callable object, got NoneType"),
    (print, "print takes '*args', so what to pass cannot be told"),
]


@pytest.mark.parametrize(("handler", "message"), AT_THE_DECORATOR)
def test_what_can_be_seen_without_annotations_is_refused_at_the_decorator(
    handler: Any, message: str
) -> None:
    router = Router()
    assert refusal(lambda: router.on_insert()(handler)).startswith(message)
    assert refusal(lambda: router.add_route(["INSERT"], handler)).startswith(message)


def wrong_name(order: Order) -> None: ...
def wrong_name_with_dict(item: dict[str, Any]) -> None: ...
def new_int(new: int) -> None: ...
def new_list(new: list[Order]) -> None: ...
def new_none(new: None) -> None: ...
def new_pair(new: Pair) -> None: ...
def new_model_or_int(new: Order | int) -> None: ...
def keys_text(keys: str) -> None: ...
def new_record(new: Record) -> None: ...
def keys_context(keys: HandlerContext) -> None: ...
def only_for_type_checkers(new: OnlyForTypeCheckers) -> None: ...
def nonsense(new: Any) -> None: ...
def unfinished(new: Unfinished) -> None: ...
def unfinished_row(new: UnfinishedRow) -> None: ...


nonsense.__annotations__["new"] = "Order["


def with_local_model() -> Handler:
    class Local(BaseModel):
        id: str

    def handler(new: Local) -> None: ...

    return handler


MODELS = "take a pydantic model, a dataclass, a TypedDict, dict or Image"
AT_APP: list[tuple[Handler, str]] = [
    (
        wrong_name,
        "parameter 'order: Order' of wrong_name: which image is it? Name it 'new', 'old' or "
        "'keys', annotate it with Record, HandlerContext or Annotated[..., Depends(...)], or give "
        "it a default.",
    ),
    (
        wrong_name_with_dict,
        "parameter 'item: dict[str, Any]' of wrong_name_with_dict: which image",
    ),
    (new_int, f"parameter 'new' of new_int: an image cannot become int; {MODELS}"),
    (new_list, f"parameter 'new' of new_list: an image cannot become list; {MODELS}"),
    (new_none, "parameter 'new' of new_none: an image cannot become NoneType"),
    (new_pair, "parameter 'new' of new_pair: an image cannot become Pair"),
    (new_model_or_int, "parameter 'new' of new_model_or_int: an image cannot become int"),
    (keys_text, "parameter 'keys' of keys_text: an image cannot become str"),
    (
        new_record,
        "parameter 'new' of new_record is an image, and a Record is none: call it 'record'",
    ),
    (keys_context, "parameter 'keys' of keys_context is an image, and a HandlerContext is none"),
    (
        only_for_type_checkers,
        "'new: OnlyForTypeCheckers' of only_for_type_checkers: the name 'OnlyForTypeCheckers' is "
        "not there at run time. Import it outside of `if TYPE_CHECKING:`, and define models "
        "and dependencies at module level.",
    ),
    (
        with_local_model(),
        "'new: Local' of with_local_model.<locals>.handler: the name 'Local' is not there at run "
        "time.",
    ),
    (nonsense, "cannot be resolved (SyntaxError)"),
    (
        unfinished,
        "parameter 'new' of unfinished: its model refers to a type that is not there. Define that "
        "one at module level, before App(...) is called.",
    ),
    (unfinished_row, "parameter 'new' of unfinished_row: its model refers to a type"),
]


@pytest.mark.parametrize(("handler", "message"), AT_APP)
def test_annotations_are_refused_at_app(handler: Handler, message: str) -> None:
    router = Router()
    router.on_insert()(handler)
    assert message in refusal(lambda: App(router))


def takes_new(new: Order) -> None: ...
def takes_old(old: Order) -> None: ...
def takes_old_dict(old: dict[str, Any]) -> None: ...
def takes_old_image(old: Image) -> None: ...


@pytest.mark.parametrize(
    ("event_names", "handler", "message"),
    [
        (
            ["INSERT"],
            takes_old,
            "parameter 'old: Order' of takes_old: an INSERT record has no old image; take "
            "'new: Order' instead",
        ),
        (
            ["INSERT", "MODIFY"],
            takes_old,
            "an INSERT record has no old image; write 'old: Order | None'",
        ),
        (
            ["REMOVE"],
            takes_new,
            "parameter 'new: Order' of takes_new: a REMOVE record has no new image; take "
            "'old: Order' instead",
        ),
        (
            ["MODIFY", "REMOVE"],
            takes_new,
            "a REMOVE record has no new image; write 'new: Order | None'",
        ),
        (["INSERT"], takes_old_dict, "take 'new: dict[str, Any]' instead"),
        (["INSERT", "REMOVE"], takes_old_image, "write 'old: Image | None'"),
    ],
)
def test_an_image_that_can_be_absent_has_to_be_optional(
    event_names: list[str], handler: Handler, message: str
) -> None:
    router = Router()
    router.add_route(event_names, handler)
    assert message in refusal(lambda: App(router))


@pytest.mark.parametrize(
    ("event_names", "handler"),
    [
        (["INSERT", "MODIFY"], takes_new),
        (["MODIFY", "REMOVE"], takes_old),
        (["MODIFY"], takes_old_dict),
    ],
)
def test_an_image_that_is_always_there_need_not_be_optional(
    event_names: list[str], handler: Handler
) -> None:
    router = Router()
    router.add_route(event_names, handler)
    assert len(App(router).routes) == 1


def test_a_generator_beneath_a_decorator_that_runs_it_is_fine() -> None:
    router, ran = Router(), []

    def run_it(function: Callable[..., Iterator[None]]) -> Callable[[], None]:
        def handler() -> None:
            with contextmanager(function)():
                ran.append(1)

        return handler

    @router.on_insert(name="ship")
    @run_it
    def ship() -> Iterator[None]:
        yield

    assert handled(router) == ["ship"]
    assert ran == [1]
