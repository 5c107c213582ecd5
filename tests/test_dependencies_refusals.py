"""Mistakes about dependencies: refused at the decorator or at App(...), with what to write."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel
from typing_extensions import TypeAliasType

from dynaflow import App, Call, Depends, HandlerContext, Image, Record, Router
from dynaflow._attempt import InThread
from dynaflow._binding import context_reader
from dynaflow._dependencies import AppValues
from dynaflow._invocation import build_call
from dynaflow.errors import RegistrationError
from dynaflow.testing import TestClient
from tests.support.batches import batch_of
from tests.support.routers import ITEM, refusal

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForTypeCheckers


class Order(BaseModel):
    id: str


def get_mailer() -> str:
    return "mailer"


def get_other() -> str:
    return "other"


def refused(handler: Callable[..., Any], *, events: str = "INSERT") -> str:
    """Return why an App does not take a handler, which a decorator took."""
    router = Router()
    router.add_route(events.split(), handler, name="route")
    return refusal(lambda: App(router))


Mailer = Annotated[str, Depends(get_mailer)]
Alias = TypeAliasType("Alias", Annotated[str, Depends(get_mailer)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Depends("mailer"),  # type: ignore[arg-type]  # the mistake
            "Depends(...) takes a function, got str: write Depends(get_mailer), not "
            "Depends(get_mailer())",
        ),
        (
            lambda: Depends(get_mailer, scope="request"),  # type: ignore[arg-type]  # the mistake
            "scope='request' is unknown: write scope='call' or scope='app'",
        ),
    ],
)
def test_depends_refuses_what_it_cannot_be(make: Callable[[], Any], message: str) -> None:
    assert refusal(make) == message


def test_depends_shows_what_it_stands_for() -> None:
    assert repr(Depends(get_mailer)) == "Depends(get_mailer)"
    assert repr(Depends(get_mailer, scope="app")) == "Depends(get_mailer, scope='app')"


def as_default(mailer: str = Depends(get_mailer)) -> None: ...  # type: ignore[assignment]  # the mistake
def as_type(mailer: Depends(get_mailer)) -> None: ...  # type: ignore[valid-type]  # the mistake
def as_bare_type(mailer: Depends) -> None: ...
def twice(mailer: Annotated[str, Depends(get_mailer), Depends(get_other)]) -> None: ...
def bare(mailer: Annotated[str, Depends]) -> None: ...
def inside(mailer: Annotated[str, Depends(get_mailer)] | None) -> None: ...
def inside_a_list(mailer: list[Annotated[str, Depends(get_mailer)]]) -> None: ...
def bare_function(mailer: Annotated[str, get_mailer]) -> None: ...
def named_new(new: Annotated[str, Depends(get_mailer)]) -> None: ...
def named_changes(changes: Annotated[str, Depends(get_mailer)]) -> None: ...


WRITE = "write 'mailer: Annotated[TheType, Depends(...)]'"
MISPLACED: list[tuple[Callable[..., Any], str]] = [
    (
        bare_function,
        "parameter 'mailer' of bare_function has a function in its Annotated: what makes its value "
        "is written Depends(get_mailer)",
    ),
    (
        as_default,
        f"parameter 'mailer' of as_default has Depends(...) as its default value: {WRITE}",
    ),
    (as_type, f"parameter 'mailer' of as_type has Depends(...) for its type: {WRITE}"),
    (as_bare_type, f"parameter 'mailer' of as_bare_type has Depends(...) for its type: {WRITE}"),
    (twice, "parameter 'mailer' of twice has 2 Depends(...): leave one of them"),
    (bare, "parameter 'mailer' of bare has Depends without what to call: write Depends(f)"),
    (
        inside,
        "parameter 'mailer' of inside: Depends(...) is inside of another type. Put Annotated "
        "outermost: 'mailer: Annotated[TheType | None, Depends(...)]'",
    ),
    (inside_a_list, "parameter 'mailer' of inside_a_list: Depends(...) is inside of another type"),
    (
        named_new,
        "parameter 'new' of named_new has Depends(...), and that name stands for what the call is "
        "about: give it another",
    ),
    (named_changes, "parameter 'changes' of named_changes has Depends(...), and that name stands"),
]


@pytest.mark.parametrize(("handler", "message"), MISPLACED)
def test_a_depends_in_the_wrong_place_is_refused_at_the_decorator(
    handler: Callable[..., Any], message: str
) -> None:
    assert refusal(lambda: Router().on_insert()(handler)).startswith(message)


def text_as_type(mailer: "Depends(get_mailer)") -> None: ...  # type: ignore[valid-type]  # the mistake
def text_twice(mailer: "Annotated[str, Depends(get_mailer), Depends(get_other)]") -> None: ...
def text_called(mailer: "Annotated[str, Depends(get_mailer())]") -> None: ...


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (text_as_type, "parameter 'mailer' of text_as_type has Depends(...) for its type"),
        (text_twice, "parameter 'mailer' of text_twice has 2 Depends(...)"),
        (
            text_called,
            "'mailer: Annotated[str, Depends(get_mailer())]' of text_called: Depends(...) takes a "
            "function, got str",
        ),
    ],
)
def test_where_annotations_are_text_it_is_refused_at_app(
    handler: Callable[..., Any], message: str
) -> None:
    assert refused(handler).startswith(message)


def handler_of(dependency: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    def ship(value: Annotated[Any, Depends(dependency, **options)]) -> None: ...

    ship.__qualname__ = "ship"
    return ship


def positional(mailer: str, /) -> None: ...
def takes_args(*args: Any) -> None: ...
def takes_kwargs(**kwargs: Any) -> None: ...
def wrong_name(order: Order) -> None: ...
def hidden(order: "OnlyForTypeCheckers") -> None: ...
def takes_int(new: int) -> None: ...


@asynccontextmanager
async def decorated_async() -> AsyncIterator[str]:
    yield "value"


@contextmanager
def decorated() -> Iterator[str]:
    yield "value"


@pytest.mark.parametrize(
    ("dependency", "message"),
    [
        (
            positional,
            "parameter 'mailer' of positional is positional-only, and dependencies are called with "
            "keywords: remove the '/' (by way of ship → positional)",
        ),
        (takes_args, "takes_args takes '*args', so what to pass cannot be told."),
        (takes_kwargs, "takes_kwargs takes '**kwargs', so what to pass cannot be told."),
        (wrong_name, "parameter 'order: Order' of wrong_name: which image is it?"),
        (
            hidden,
            "'order: OnlyForTypeCheckers' of hidden: the name 'OnlyForTypeCheckers' is not there at"
            " run time. Import it outside of `if TYPE_CHECKING:`",
        ),
        (takes_int, "parameter 'new' of takes_int: an image cannot become int"),
        (
            decorated_async,
            "the dependency decorated_async is decorated with @asynccontextmanager, so that its "
            "value would be a context manager that nobody enters. Remove the decorator: a function "
            "with 'yield' is all that Depends needs.",
        ),
        (decorated, "the dependency decorated is decorated with @contextmanager"),
        (dict, "the parameters of dict cannot be read; wrap it in a function"),
    ],
)
def test_what_cannot_be_called_is_refused_with_the_way_to_it(
    dependency: Callable[..., Any], message: str
) -> None:
    found = refused(handler_of(dependency))
    assert found.startswith(message)
    assert found.endswith(f"(by way of ship → {dependency.__qualname__})")


def test_the_way_to_a_mistake_is_told_from_the_handler_on() -> None:
    def third(order: Order) -> None: ...
    def second(_: Annotated[None, Depends(third)]) -> None: ...
    def first(
        _: Annotated[None, Depends(get_mailer)], __: Annotated[None, Depends(second)]
    ) -> None: ...

    prefix = "test_the_way_to_a_mistake_is_told_from_the_handler_on.<locals>."
    way = f"(by way of ship → {prefix}first → {prefix}second → {prefix}third)"
    assert refused(handler_of(first)).endswith(way)


@pytest.mark.parametrize("scope", ["call", "app"])
def test_a_cycle_is_refused(scope: Any) -> None:
    def first(_: Any) -> None: ...
    def second(_: Annotated[None, Depends(first, scope=scope)]) -> None: ...

    first.__annotations__["_"] = Annotated[None, Depends(second, scope=scope)]
    found = refused(handler_of(first, scope=scope))
    assert "first depends on itself (by way of ship → " in found
    assert found.count("→") == 3


def of_image(new: Image) -> None: ...
def of_optional_image(old: Image | None) -> None: ...
def of_record(record: Record) -> None: ...
def of_context(context: HandlerContext) -> None: ...
def of_call(mailer: Annotated[str, Depends(get_mailer)]) -> None: ...
def of_nothing(client: str) -> None: ...


OF_A_CALL = "is of a call, and a dependency of scope='app' is opened before there is any."


@pytest.mark.parametrize(
    ("dependency", "message"),
    [
        (of_image, f"parameter 'new' of of_image {OF_A_CALL}"),
        (of_optional_image, f"parameter 'old' of of_optional_image {OF_A_CALL}"),
        (of_record, f"parameter 'record' of of_record {OF_A_CALL}"),
        (of_context, f"parameter 'context' of of_context {OF_A_CALL}"),
        (
            of_call,
            "of_call has scope='app' and is opened once, before any call; get_mailer is evaluated "
            "for each call. Give it scope='app', too, or leave of_call in scope 'call'.",
        ),
        (of_nothing, "parameter 'client: str' of of_nothing: what is it? Annotate it with "),
    ],
)
def test_what_is_opened_with_the_app_takes_nothing_of_a_call(
    dependency: Callable[..., Any], message: str
) -> None:
    assert refused(handler_of(dependency, scope="app")).startswith(message)


def test_one_function_has_one_scope_in_all_of_an_app() -> None:
    message = "get_mailer has scope='app' in one place and scope='call' in another"
    router = Router()
    router.on_insert(name="one")(handler_of(get_mailer))
    router.on_insert(name="other")(handler_of(get_mailer, scope="app"))
    assert refusal(lambda: App(router)).startswith(message)

    def both(
        _: Annotated[str, Depends(get_mailer, scope="app")], __: Annotated[None, Depends(of_call)]
    ) -> None: ...

    assert refused(both).startswith(message)


def of_old(old: Order) -> Order:
    return old


@pytest.mark.parametrize("events", ["INSERT", "INSERT MODIFY"])
def test_an_image_that_can_be_absent_has_to_be_optional_in_dependencies_too(events: str) -> None:
    found = refused(handler_of(of_old), events=events)
    assert found.startswith("parameter 'old: Order' of of_old: an INSERT record has no old image; ")
    assert found.endswith("(by way of ship → of_old)")


def test_an_image_that_is_always_there_need_not_be() -> None:
    router = Router()
    router.on_modify()(handler_of(of_old))
    App(router)


def test_a_partial_has_what_it_was_given_already() -> None:
    router = Router()
    router.on_insert()(handler_of(functools.partial(of_nothing, client="given")))
    App(router)


def test_a_name_for_a_type_may_hold_depends() -> None:
    seen: list[str] = []

    def handler(one: Mailer, two: Alias, three: Annotated[Mailer, "more"]) -> None:
        seen.extend([one, two, three])

    router = Router()
    router.on_insert()(handler)
    with TestClient(router) as stream:
        assert stream.insert(ITEM).errors == []
    assert seen == ["mailer"] * 3


# -- calls of many records, which another binder makes ---------------------------------------------


async def no_thread(call: Any, function: Callable[[], Any], *, shield: bool = False) -> Any:
    raise AssertionError(call, function, shield)


def many(handler: Callable[..., Any]) -> Any:
    in_thread: InThread = no_thread
    return build_call(
        handler,
        read=context_reader,
        in_thread=in_thread,
        app_values=AppValues(),
        own={"records": lambda context: [context.record]},
    )


def test_a_call_of_many_records_brings_its_own_parameters() -> None:
    def route(context: HandlerContext) -> str:
        return context.route

    def handler(records: list[Record], route: Annotated[str, Depends(route)]) -> Any:
        return records, route

    record = batch_of("a").records[0]
    assert isinstance(record, Record)
    call = many(handler)
    assert call.is_sync
    assert call.here(Call(HandlerContext(record, "index"))) == ([record], "index")


@pytest.mark.parametrize("dependency", [of_image, of_record, of_old])
def test_dependencies_of_a_call_with_many_records_take_none_of_them(
    dependency: Callable[..., Any],
) -> None:
    def handler(records: list[Record], _: Annotated[Any, Depends(dependency)]) -> None: ...

    with pytest.raises(RegistrationError, match=r"is of one record, and this call has many: take"):
        many(handler)
