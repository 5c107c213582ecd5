"""Filters that read an image which no item has at their route's events are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from dynaflow import App, F, Record, Router, added, changed, crossed, removed
from tests.support.routers import nothing, refusal


def route(events: Sequence[str], *filters: Any) -> App:
    router = Router()
    router.add_route(events, nothing, *filters, name="r")
    return App(router)


def is_true(record: Record) -> bool:
    return True


REFUSED: list[tuple[Sequence[str], Any]] = [
    (["INSERT"], F.old.a == "x"),
    (["INSERT"], F.old.a.exists()),
    (["INSERT"], F.old.a > F.new.a),
    (["INSERT"], ~(F.old.a != "x")),
    (["INSERT"], (F.new.a == 1) & (F.old.b == 2)),
    (["INSERT"], (F.old.a == 1) | (F.old.b == 2)),
    (["INSERT"], changed("a", was="x")),
    (["INSERT"], removed("a")),
    (["REMOVE"], F.new.a.startswith("x")),
    (["REMOVE"], changed("a", to="x")),
    (["REMOVE"], added("a")),
    (["REMOVE"], crossed("a", above=1)),
    (["INSERT", "REMOVE"], F.new.a == F.old.a),
]
TAKEN: list[tuple[Sequence[str], Any]] = [
    (["INSERT"], F.old.a != "x"),
    (["INSERT"], ~F.old.a.exists()),
    (["INSERT"], (F.old.a == 1) | (F.new.b == 2)),
    (["INSERT"], changed("a")),
    (["INSERT"], added("a")),
    (["INSERT"], crossed("a", above=1)),
    (["REMOVE"], removed("a")),
    (["REMOVE"], changed("a", was="x")),
    (["REMOVE"], is_true),
    (["INSERT", "MODIFY"], F.old.a == "x"),
    (["INSERT", "REMOVE"], F.old.a == "x"),
    (["MODIFY"], F.new.a == F.old.a),
    (["INSERT", "MODIFY", "REMOVE"], F.keys.id == "x"),
]


@pytest.mark.parametrize(
    ("events", "condition"), REFUSED, ids=lambda value: getattr(value, "__name__", repr(value))
)
def test_a_filter_that_is_never_true_is_refused(events: Sequence[str], condition: Any) -> None:
    message = refusal(lambda: route(events, F.keys.id == "x", condition))
    assert f"the filter {condition!r} of " in message
    assert f" is never true on {' or '.join(events)}: " in message


@pytest.mark.parametrize(
    ("events", "condition"), TAKEN, ids=lambda value: getattr(value, "__name__", repr(value))
)
def test_a_filter_that_may_be_true_at_one_of_the_events_is_taken(
    events: Sequence[str], condition: Any
) -> None:
    assert route(events, condition).routes


def test_the_message_says_which_image_is_missing_and_what_to_write() -> None:
    assert refusal(lambda: route(["REMOVE"], F.new.status == "paid")) == (
        "the filter F.new.status == 'paid' of nothing is never true on REMOVE: a deleted item has "
        "no new image. Read F.old, or register the handler for INSERT or MODIFY, which have one."
    )


def test_a_filter_of_the_router_counts_too() -> None:
    router = Router(when=F.new.tenant == "a")
    router.on_remove(name="gone")(nothing)
    assert "F.new.tenant == 'a'" in refusal(lambda: App(router))
