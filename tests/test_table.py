"""Filters that almost name a field of the handler's model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict  # pydantic wants it on Python < 3.12

from dynaflow import App, F, Router, added, changed
from tests.support.routers import refusal

Handler = Callable[..., Any]


class Order(BaseModel):
    id: str
    total: int


def takes_new(new: Order) -> None: ...
def takes_nothing() -> None: ...
def takes_dict(new: dict[str, Any]) -> None: ...
def takes_both(new: Order, old: Order) -> None: ...


@pytest.mark.parametrize(
    ("condition", "name"),
    [
        (F.new.totla == 1, "totla"),
        (F.new.tota == 1, "tota"),
        (F.old.Total == 1, "Total"),
        (changed("totl"), "totl"),
        (added("total2"), "total2"),
        ((F.new.id == "1") & ~(F.new.totall.exists()), "totall"),
        (F.new.total2.nested[0] == 1, "total2"),
    ],
)
def test_a_filter_that_almost_names_a_field_is_refused(condition: Any, name: str) -> None:
    router = Router()
    router.on_modify(condition)(takes_both)
    message = refusal(lambda: App(router))
    assert message.startswith(
        f"the filter {condition!r} of takes_both reads {name!r}, and its model has no such field. "
        "Did you mean 'total'? An attribute that the model leaves out is written F."
    )
    assert message.endswith(f"[{name!r}].")


def test_a_name_in_brackets_is_meant_as_it_is() -> None:
    router = Router()
    router.on_modify(F.new["totla"] == 1, changed(F.new["total2"].nested))(takes_both)
    App(router)


def test_a_misspelt_filter_of_a_router_is_refused_too() -> None:
    router = Router(when=F.new.totla == 1)
    router.on_modify()(takes_new)
    assert "Did you mean 'total'?" in refusal(lambda: App(router))


@pytest.mark.parametrize(
    ("condition", "handler"),
    [
        (F.new.total == 1, takes_new),
        (F.new.total.totla == 1, takes_new),
        (F.new.elsewhere == 1, takes_new),
        (F.new.is_paid == 1, takes_new),
        (F.keys.ix == 1, takes_new),  # "id" is too short for a guess
        (F.new.totla == 1, takes_dict),
        (F.new.totla == 1, takes_nothing),
        (lambda record: record.new["totla"] == 1, takes_new),
    ],
)
def test_filters_may_read_what_the_model_leaves_out(condition: Any, handler: Handler) -> None:
    router = Router()
    router.on_insert(condition)(handler)
    assert len(App(router).routes) == 1


@dataclasses.dataclass
class Row:
    id: str
    lines: list[str]


class Typed(TypedDict):
    id: str
    total: int


class Renamed(BaseModel):
    id: str
    total: int = Field(alias="grandTotal")


class Card(BaseModel):
    kind: Literal["card"]


class Cash(BaseModel):
    kind: Literal["cash"]


Payment = Annotated[Card | Cash, Field(discriminator="kind")]


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    id: str
    total: int


@pytest.mark.parametrize(
    ("annotation", "misspelt", "field"),
    [
        (Order, "totla", "total"),
        (Order | None, "totla", "total"),
        (Row, "lnes", "lines"),
        (Typed, "totla", "total"),
        (Renamed, "grandTotl", "grandTotal"),
        (Row | Typed, "lnes", "lines"),
        (Payment, "knd", "kind"),
        (Payment, "knnd", "kind"),
        (Payment, "kt", None),  # two typing errors are too many for a name of four letters
        (Loose, "totla", None),
        (dict[str, int], "totla", None),
    ],
)
def test_the_fields_that_a_filter_may_misspell_are_those_of_the_model(
    annotation: Any, misspelt: str, field: str | None
) -> None:
    def handler(new: Any) -> None: ...

    handler.__annotations__ = {"new": annotation}
    router = Router()
    router.on_insert(getattr(F.new, misspelt).exists())(handler)
    if field is None:
        assert len(App(router).routes) == 1
    else:
        assert f"Did you mean '{field}'?" in refusal(lambda: App(router))
