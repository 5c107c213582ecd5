"""Every kind of model that an image can become, what of it, and what is refused at App(...)."""

from __future__ import annotations

import dataclasses
import sys
import typing
from datetime import date, datetime, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    NotRequired,
    Required,
    TypeVar,
)
from uuid import UUID

import pydantic
import pytest
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    RootModel,
    Tag,
    computed_field,
    model_validator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypeAliasType, TypedDict

from dynaflow import App, F, Router
from dynaflow.errors import InvalidImage
from dynaflow.testing import TestClient
from tests.support.routers import refusal
from tests.test_models import converted, handle

T = TypeVar("T")
VERSION = tuple(map(int, pydantic.VERSION.split(".")[:2]))


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Plain(Enum):
    ONE = 1


class Values(BaseModel):
    at: datetime
    day: date
    uid: UUID
    colour: Colour
    level: Level
    text: Literal["a", "b"]
    price: Annotated[Decimal, Field(max_digits=5, decimal_places=2)]
    share: Annotated[float, Field(ge=0, le=1)]
    count: Annotated[int, Field(gt=0)]
    names: list[str]
    unique: set[Decimal]
    blobs: list[bytes]
    pair: tuple[str, int]
    either: int | str
    by_name: dict[str, int]


def test_attribute_values_become_what_the_fields_say() -> None:
    item = {
        "id": "1",
        "at": 1_700_000_000,  # seconds since the epoch, as Time to Live wants them
        "day": "2026-01-31",
        "uid": "12345678-1234-5678-1234-567812345678",
        "colour": "red",
        "level": 3,
        "text": "a",
        "price": Decimal("1.50"),
        "share": Decimal("0.25"),
        "count": 7,
        "names": {"x"},
        "unique": {1, 2},
        "blobs": {b"\x00"},
        "pair": ["x", 1],
        "either": "x",
        "by_name": {"a": 1},
    }
    value = converted(Values, item)
    assert value == Values(
        at=datetime(2023, 11, 14, 22, 13, 20, tzinfo=timezone.utc),
        day=date(2026, 1, 31),
        uid=UUID("12345678123456781234567812345678"),
        colour=Colour.RED,
        level=Level.HIGH,
        text="a",
        price=Decimal("1.50"),
        share=0.25,
        count=7,
        names=["x"],
        unique={Decimal(1), Decimal(2)},
        blobs=[b"\x00"],
        pair=("x", 1),
        either="x",
        by_name={"a": 1},
    )
    assert type(value.pair[1]) is int
    iso = converted(Values, item | {"at": "2023-11-14T22:13:20Z", "either": 5})
    assert (iso.at, iso.either) == (value.at, 5)


class Numbered(BaseModel):
    version: Literal[1, 2]
    plain: Plain


@pytest.mark.skipif(VERSION < (2, 10), reason="pydantic compares them with int alone before 2.10")
def test_numbers_may_be_literals_and_members_of_enums() -> None:
    value = converted(Numbered, {"id": "1", "version": 2, "plain": 1})
    assert (value.version, value.plain) == (2, Plain.ONE)


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    id: str
    total: Decimal
    count: Annotated[int, Field(strict=False)]


class StrictInt(BaseModel):
    model_config = ConfigDict(strict=True)
    id: str
    count: int


def test_a_strict_model_takes_numbers_as_decimal() -> None:
    assert converted(Strict, {"id": "1", "total": 5, "count": 1}).total == 5
    (error,) = handle(StrictInt, {"id": "1", "count": 1})
    assert str(error).endswith("(count: int_type)")


class Base(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")
    id: str

    @model_validator(mode="before")
    @classmethod
    def rename(cls, data: Any) -> Any:
        return {"total": data.pop("sum"), **data} if "sum" in data else data

    @model_validator(mode="after")
    def check(self) -> Base:
        if self.id == "bad":
            raise ValueError(self.id)
        return self

    @computed_field  # type: ignore[prop-decorator]  # as pydantic's own documents say
    @property
    def shouted(self) -> str:
        return self.id.upper()


class Derived(Base):
    total: int


def test_validators_inheritance_extra_attributes_and_computed_fields_work() -> None:
    value = converted(Derived, {"id": "a", "sum": 5, "more": "x"})
    assert (value.total, value.shouted, value.model_extra) == (5, "A", {"more": "x"})
    (error,) = handle(Derived, {"id": "bad", "total": 1})
    assert str(error).endswith("(new: value_error)")


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    total: int = Field(alias="grandTotal")
    city: str = Field(validation_alias=AliasPath("address", "lines", 0))
    state: str = Field(validation_alias=AliasChoices("status", AliasPath("meta", "status")))


def test_aliases_of_every_kind_are_read() -> None:
    address = {"lines": ["Oslo"]}
    item = {"id": "1", "grandTotal": 5, "address": address, "meta": {"status": "paid"}}
    value = converted(Aliased, item)
    assert (value.total, value.city, value.state) == (5, "Oslo", "paid")
    assert converted(Aliased, {"id": "1", "total": 5, "address": address, "status": "x"}).total == 5


class Orders(RootModel[dict[str, Any]]):
    pass


class Either(BaseModel, Generic[T]):
    content: T


@dataclasses.dataclass(slots=True, kw_only=True, frozen=True)
class Row:
    id: str
    total: int = 3
    factor: dataclasses.InitVar[int] = 2
    lines: list[Line] = dataclasses.field(default_factory=list)
    double: int = dataclasses.field(init=False, default=0)

    def __post_init__(self, factor: int) -> None:
        object.__setattr__(self, "double", self.total * factor)


@dataclasses.dataclass
class Line:
    sku: str


@pydantic_dataclass(kw_only=True)
class PydanticRow:
    id: str
    total: int = Field(alias="sum")


class Part(TypedDict, total=False):
    id: Required[str]
    note: str


class Whole(Part):
    total: int
    tags: NotRequired[list[str]]


OrderId = NewType("OrderId", Row)
Alias = TypeAliasType("Alias", Row)


def test_root_models_and_generic_models() -> None:
    assert converted(Orders, {"id": "1"}).root == {"id": "1"}
    assert converted(Either[list[int]], {"id": "1", "content": [1]}).content == [1]
    assert converted(Either[Line], {"id": "1", "content": {"sku": "x"}}).content == Line("x")


def test_dataclasses_of_every_kind() -> None:
    row = converted(Row, {"id": "1", "factor": 4, "lines": [{"sku": "x"}]})
    assert (row.total, row.double, row.lines) == (3, 12, [Line("x")])
    assert converted(PydanticRow, {"id": "1", "sum": 5}).total == 5
    assert converted(Alias, {"id": "1"}) == Row(id="1")


def test_a_new_type_of_a_model_is_that_model() -> None:
    assert converted(OrderId, {"id": "1"}) == Row(id="1")


def test_typed_dicts_with_optional_keys_and_inheritance() -> None:
    assert converted(Whole, {"id": "1", "total": 5}) == {"id": "1", "total": 5}
    (error,) = handle(Whole, {"total": 5} | {"id": 5, "tags": "x"})
    assert type(error) is InvalidImage
    assert str(error).endswith("(id: string_type; tags: list_type)")


class Order(BaseModel):
    id: str
    total: int


class Refund(BaseModel):
    id: str
    total: int
    reason: str


def kind_of(value: Any) -> str:
    return "refund" if "reason" in value else "order"


Discriminated = Annotated[
    Annotated[Order, Tag("order")] | Annotated[Refund, Tag("refund")], Discriminator(kind_of)
]


def test_unions_are_told_apart_as_pydantic_does() -> None:
    order, refund = {"id": "1", "total": 5}, {"id": "1", "total": 5, "reason": "late"}
    # Before 2.8 pydantic takes the first that fits, so the one that wants less belongs last.
    by_fields = (Order | Refund,) if VERSION >= (2, 8) else ()
    for union in (Refund | Order, Discriminated, Discriminated | None, *by_fields):
        assert type(converted(union, order)) is Order
        assert type(converted(union, refund)) is Refund
    (error,) = handle(Order | Refund, {"total": "x"} | {"id": "1"})
    assert str(error).endswith(
        "(Order.total: int_parsing; Refund.total: int_parsing; Refund.reason: missing)"
    )
    (error,) = handle(Discriminated, {"id": "1", "total": "x"})
    assert str(error).endswith("(order.total: int_parsing)")


def checked(value: Order) -> Order:
    return value


def test_an_annotated_model_keeps_what_it_is_annotated_with() -> None:
    assert converted(Annotated[Order, AfterValidator(checked)], {"id": "1", "total": 5}).total == 5


class Later(BaseModel):
    model_config = ConfigDict(defer_build=True)
    id: str
    part: LaterPart | None = None


class LaterPart(BaseModel):
    n: int


def test_a_model_may_be_built_later_and_name_one_that_is_defined_after_it() -> None:
    assert converted(Later, {"id": "1", "part": {"n": 1}}).part == LaterPart(n=1)


class Node(BaseModel):
    id: str = ""
    children: list[Node] = []


def test_a_model_may_contain_itself_and_a_deep_path_is_named() -> None:
    (error,) = handle(Node, {"id": "1", "children": [{"children": [{"children": 3}]}]})
    assert str(error).endswith("(children.0.children.0.children: list_type)")


class Pair(NamedTuple):
    id: str


class Class:
    id: str


class Numbers(RootModel[list[int]]):
    pass


class Whatever(RootModel[int]):
    pass


@pytest.mark.parametrize(
    ("annotation", "shown"),
    [
        (list[Order], "list"),
        (set[str], "set"),
        (tuple[Order, ...], "tuple"),
        (str, "str"),
        (Decimal, "Decimal"),
        (Order | str, "str"),
        (Order | list[Order] | None, "list"),
        (Pair, "Pair"),
        (Class, "Class"),
        (Colour, "Colour"),
        (Numbers, "list"),
        (Whatever, "int"),
        (Annotated[int, Field(gt=0)], "int"),
        (Literal["a"], "Literal"),
        (TypeAliasType("Ids", list[str]), "list"),
        (T, "T"),
    ],
)
def test_what_no_image_can_become_is_refused_at_app(annotation: Any, shown: str) -> None:
    def handler(new: Any) -> None: ...

    handler.__annotations__ = {"new": annotation}
    router = Router()
    router.on_insert()(handler)
    message = refusal(lambda: App(router))
    assert f"an image cannot become {shown}; take a pydantic model, a dataclass, a" in message


class Hooked:
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        raise LookupError("no schema here")


@dataclasses.dataclass
class Holder:
    hooked: Hooked


class OldTypedDict(typing.TypedDict):
    id: str


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (Holder, "parameter 'new' of {}: pydantic cannot use its type (LookupError)"),
        pytest.param(
            OldTypedDict,
            "parameter 'new' of {}: pydantic cannot use its type: Please use `typing_extensions.",
            marks=pytest.mark.skipif(sys.version_info >= (3, 12), reason="it is fine there"),
        ),
    ],
)
def test_what_pydantic_cannot_use_is_refused_at_app_with_handler_and_parameter(
    annotation: Any, message: str
) -> None:
    def handler(new: Any) -> None: ...

    handler.__annotations__ = {"new": annotation}
    router = Router()
    router.on_insert()(handler)
    assert refusal(lambda: App(router)).startswith(message.format(handler.__qualname__))


def test_routers_tell_the_entity_types_of_a_table_apart() -> None:
    orders = Router(when=F.keys.id.startswith("ORDER#"))
    refunds = Router(when=F.keys.id.startswith("REFUND#"))
    seen: list[object] = []

    @orders.on_insert(name="order")
    def order(new: Order) -> None:
        seen.append(new)

    @refunds.on_insert(name="refund")
    async def refund(new: Refund) -> None:
        seen.append(new)

    with TestClient(App(orders, refunds)) as stream:
        item = {"total": 1, "reason": "late"}
        results = [stream.insert(item | {"id": f"{kind}#1"}) for kind in ("ORDER", "REFUND", "X")]
    assert [result.handled_by for result in results] == [["order"], ["refund"], []]
    assert [type(model) for model in seen] == [Order, Refund]
    assert [result.failed for result in results] == [None] * 3


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=lambda name: name.title().replace("_", ""))
    order_total: int


class CamelToo(Camel):
    model_config = ConfigDict(populate_by_name=True)


@dataclasses.dataclass
class Renamed:
    total: Annotated[int, Field(alias="grandTotal")] = 0


@pydantic_dataclass(config=ConfigDict(extra="allow"))
class Loose:
    total: int


@pytest.mark.parametrize(
    ("annotation", "read", "suggested"),
    [
        (Aliased, "grandTotl", "grandTotal"),
        (Aliased, "totl", "total"),  # read by name, too
        (Aliased, "adress", "address"),
        (Aliased, "mets", "meta"),
        (Aliased, "statuss", "status"),
        (Aliased, "cityy", "city"),  # so too
        (Camel, "OrderTotl", "OrderTotal"),
        (Camel, "order_totall", None),
        (CamelToo, "order_totall", "order_total"),
        (Renamed, "grandTota", "grandTotal"),
        (Renamed, "totl", None),
        (Row, "totl", "total"),
        (Row, "factr", "factor"),
        (Row, "doubl", None),  # init=False: not read
        (PydanticRow, "sums", "sum"),
        (Loose, "totl", None),
        (Whole, "totl", "total"),
        (Whole, "nte", "note"),  # from the base
        (Whole, "tgs", "tags"),
        (Derived, "totl", None),  # extra="allow"
        (Orders, "totl", None),
        (RootModel[Order], "totl", "total"),
        (Order | Refund, "resaon", "reason"),
        (Discriminated, "resaon", "reason"),
        (Order | dict[str, Any], "totl", None),
        (Alias, "totl", "total"),
        (OrderId, "totl", "total"),
        (Annotated[Order, AfterValidator(checked)], "totl", "total"),
        (Node, "childen", "children"),
    ],
)
def test_the_names_that_a_filter_may_misspell_are_those_that_are_read(
    annotation: Any, read: str, suggested: str | None
) -> None:
    def handler(new: Any) -> None: ...

    handler.__annotations__ = {"new": annotation}
    router = Router()
    router.on_insert(getattr(F.new, read).exists())(handler)
    if suggested is None:
        assert len(App(router).routes) == 1
    else:
        assert f"Did you mean '{suggested}'?" in refusal(lambda: App(router))
