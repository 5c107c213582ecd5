"""Images as pydantic models, dataclasses and TypedDicts; and what is said when they do not fit."""

from __future__ import annotations

import dataclasses
import logging
import traceback
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict  # pydantic wants it on Python < 3.12

from dynaflow import App, Router
from dynaflow.errors import InvalidImage, MalformedValue, RegistrationError
from dynaflow.testing import TestClient

MARKER = "secret-marker-4711"


class Colour(Enum):
    RED = "red"


class Everything(BaseModel):
    id: str
    whole: int
    fraction: float
    exact: Decimal
    data: bytes
    tags: list[str]
    numbers: frozenset[int]
    flag: bool
    colour: Colour
    nothing: None
    lines: list[Line]


class Line(BaseModel):
    sku: str
    amount: int = 1


@dataclasses.dataclass
class Row:
    id: str
    total: int
    lines: list[Line] = dataclasses.field(default_factory=list)
    note: str = dataclasses.field(default="", init=False)

    def __post_init__(self) -> None:
        self.note = f"order {self.id}"


@pydantic_dataclass(frozen=True)
class StrictRow:
    id: str
    total: Annotated[int, Field(ge=0)]


class Typed(TypedDict):
    id: str
    total: int


class Renamed(BaseModel):
    id: str
    total: int = Field(alias="grandTotal")
    state: str = Field(default="", validation_alias=AliasChoices("status", "state"))


class Card(BaseModel):
    kind: Literal["card"]
    id: str


class Cash(BaseModel):
    kind: Literal["cash"]
    id: str


Payment = Annotated[Card | Cash, Field(discriminator="kind")]
T = TypeVar("T")


class Boxed(BaseModel, Generic[T]):
    id: str
    content: T


def converted(annotation: Any, item: dict[str, Any]) -> Any:
    """Return what a handler with this annotation is given for an item."""
    seen: list[Any] = []
    result = handle(annotation, item, seen.append)
    assert result == []
    return seen[0]


def handle(
    annotation: Any, item: dict[str, Any], use: Callable[[Any], object] = id
) -> list[BaseException]:
    """Send an item to a handler with this annotation and return how that failed."""

    def handler(new: Any) -> None:
        use(new)

    handler.__annotations__ = {"new": annotation}
    router = Router()
    router.on_insert(name="ship")(handler)
    with TestClient(router) as stream:
        return stream.insert(item).errors


def test_a_model_chooses_the_type_of_every_attribute() -> None:
    value = converted(
        Everything,
        {
            "id": "1",
            "whole": 7,
            "fraction": Decimal("0.5"),
            "exact": Decimal("1E-130"),
            "data": b"\xff\x00",
            "tags": {"a"},
            "numbers": {1, 2},
            "flag": True,
            "colour": "red",
            "nothing": None,
            "lines": [{"sku": "x", "amount": 2}, {"sku": "y"}],
            "more than the model knows": 1,
        },
    )
    assert value == Everything(
        id="1",
        whole=7,
        fraction=0.5,
        exact=Decimal("1E-130"),
        data=b"\xff\x00",
        tags=["a"],
        numbers=frozenset({1, 2}),
        flag=True,
        colour=Colour.RED,
        nothing=None,
        lines=[Line(sku="x", amount=2), Line(sku="y")],
    )
    assert (type(value.whole), type(value.fraction)) == (int, float)


def test_numbers_keep_all_their_digits_in_a_decimal() -> None:
    digits = Decimal("12345678901234567890123456789012345678")
    assert converted(Boxed[Decimal], {"id": "1", "content": digits}).content == digits


def test_a_dataclass_is_made_with_its_defaults_and_its_post_init() -> None:
    row = converted(Row, {"id": "1", "total": 5, "lines": [{"sku": "x"}], "other": 1})
    assert type(row) is Row
    assert row == Row("1", 5, [Line(sku="x")])
    assert row.note == "order 1"
    assert converted(StrictRow, {"id": "1", "total": 5}) == StrictRow("1", 5)


def test_a_typed_dict_is_a_dict_of_the_types_it_names() -> None:
    value = converted(Typed, {"id": "1", "total": 5})
    assert value == {"id": "1", "total": 5}
    assert type(value["total"]) is int


def test_a_dict_may_name_the_type_of_its_values() -> None:
    assert converted(dict[str, str], {"id": "1", "x": "y"}) == {"id": "1", "x": "y"}
    (error,) = handle(dict[str, int], {"id": "x"})
    assert str(error) == "ship: the new image is not what its model wants (*: int_parsing)"


def test_aliases_are_the_names_of_the_attributes() -> None:
    value = converted(Renamed, {"id": "1", "grandTotal": 5, "status": "paid"})
    assert (value.total, value.state) == (5, "paid")


def test_a_union_of_models_gives_the_one_that_fits() -> None:
    assert converted(Card | Cash, {"id": "1", "kind": "cash"}) == Cash(id="1", kind="cash")
    assert converted(Payment, {"id": "1", "kind": "card"}) == Card(id="1", kind="card")
    assert converted(Payment | None, {"id": "1", "kind": "card"}) == Card(id="1", kind="card")


class Picky(BaseModel):
    model_config = ConfigDict(extra="forbid", title=MARKER)
    id: str
    total: int
    lines: list[Line] = []

    @field_validator("id")
    @classmethod
    def check(cls, value: str) -> str:
        if value == f"id-{MARKER}":
            raise ValueError(f"no such id: {value}")
        return value


@pytest.mark.parametrize(
    ("annotation", "item", "problems"),
    [
        (Picky, {"total": MARKER}, "total: int_parsing"),
        (Picky, {"total": Decimal("0.5")}, "total: int_from_float"),
        (Picky, {}, "total: missing"),
        (Picky, {"total": 1, MARKER: 1}, "*: extra_forbidden"),
        (Picky, {"total": 1, "id": f"id-{MARKER}"}, "id: value_error"),
        (Picky, {"total": 1, "lines": [{"sku": "x"}, {"sku": 3}]}, "lines.1.sku: string_type"),
        (Picky, {"total": 1, "lines": MARKER}, "lines: list_type"),
        (Picky, {"total": MARKER, "lines": [{}]}, "total: int_parsing; lines.0.sku: missing"),
        (Row, {"total": MARKER}, "total: int_parsing"),
        (StrictRow, {"total": -1}, "total: greater_than_equal"),
        (Typed, {"total": [MARKER]}, "total: int_type"),
        (Payment, {"kind": MARKER}, "new: union_tag_invalid"),
        (Picky | None, {"total": MARKER}, "total: int_parsing"),
    ],
)
def test_an_image_that_does_not_fit_names_route_path_and_type_and_no_value(
    annotation: Any, item: dict[str, Any], problems: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        (error,) = handle(annotation, {"id": f"key-{MARKER}"} | item)
    assert type(error) is InvalidImage
    assert str(error) == f"ship: the new image is not what its model wants ({problems})"
    assert MARKER not in "".join(traceback.format_exception(error))
    assert "InvalidImage" in caplog.text  # with its traceback
    assert "Traceback" in caplog.text
    assert MARKER not in caplog.text


def test_a_malformed_value_under_a_model_names_its_path_and_no_value(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router = Router()

    @router.on_insert()
    def ship(new: Line) -> None:
        raise AssertionError

    with TestClient(router, keys=("id",)) as stream:
        record = stream.records.insert({"id": "1", "lines": [{"amount": 1}]})
        record["dynamodb"]["NewImage"]["lines"]["L"][0]["M"]["amount"] = {"N": MARKER}
        (error,) = stream.send([record]).errors
    assert isinstance(error, MalformedValue)
    assert error.path == ("lines", 0, "amount")
    assert MARKER not in caplog.text


def test_which_model_of_which_image_is_named() -> None:
    router = Router()

    @router.on_modify(name="compare")
    def compare(old: Line, new: Line, keys: Typed) -> None:
        raise AssertionError

    with TestClient(router, keys=("sku",)) as stream:
        good, bad = {"sku": "1"}, {"sku": "1", "amount": "many"}
        (error,) = stream.modify(old=bad, new=good).errors
        assert "compare: the old image is not what its model wants (amount: " in str(error)
        (error,) = stream.modify(old=good, new=bad).errors
        assert "compare: the new image" in str(error)
        (error,) = stream.modify(old=good, new=good).errors
        assert "compare: the keys image is not what its model wants (id: missing; " in str(error)


class Odd:
    pass


@dataclasses.dataclass
class Holder:
    odd: Odd


def test_a_type_that_pydantic_refuses_is_refused_with_its_words() -> None:
    def handler(new: Any) -> None: ...

    handler.__annotations__ = {"new": Holder}
    router = Router()
    router.on_insert()(handler)
    with pytest.raises(RegistrationError) as refused:
        App(router)
    text = str(refused.value)
    assert "parameter 'new' of " in text
    assert "pydantic cannot use its type: Unable to generate pydantic-core schema" in text
    assert "\n" not in text
