"""Nothing of an item is in what is said of an image that its model refuses, whatever refuses it."""

from __future__ import annotations

import dataclasses
import json
import logging
import traceback
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import (
    AfterValidator,
    AliasPath,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Json,
    RootModel,
    Tag,
    ValidationError,
    field_validator,
)
from pydantic_core import PydanticCustomError, PydanticUseDefault
from typing_extensions import TypedDict

from dynaflow import App, Router, Skip
from dynaflow._core_schema import CoreSchema
from dynaflow.errors import InvalidImage, NonRetryable
from dynaflow.testing import TestClient

MARKER = "secret-marker-4711"


class Part(BaseModel):
    sku: str
    n: int = 1


class A(BaseModel):
    kind: Literal["a"]
    x: int


class B(BaseModel):
    kind: Literal["b"]
    x: int


class Checked(BaseModel):
    x: int

    @field_validator("x")
    @classmethod
    def check(cls, value: int) -> int:
        raise ValueError(f"bad {value} {MARKER}")


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    n: int = 0


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, int]


class Rooted(RootModel[dict[str, Part]]):
    pass


class Typed(TypedDict):
    n: int


@dataclasses.dataclass
class Row:
    parts: dict[str, Part]


def kind_of(value: Any) -> Any:
    return value.get("kind") if isinstance(value, dict) else MARKER


def into_rooted(value: Any) -> Any:
    return Rooted.model_validate(value)


def raised_at_a_key(value: Any) -> Any:
    line: Any = {"type": "missing", "loc": (MARKER, "A", 3), "input": value}
    raise ValidationError.from_exception_data(MARKER, [line])


class Order(BaseModel):
    counts: dict[str, int] = {}
    parts: dict[str, Part] = {}
    lists: dict[str, list[int]] = {}
    keys: dict[int, int] = {}
    text: Json[dict[str, int]] | None = None
    tagged: Annotated[A | B, Field(discriminator="kind")] | None = None
    called: (
        Annotated[Annotated[A, Tag("a")] | Annotated[B, Tag("b")], Discriminator(kind_of)] | None
    ) = None
    either: A | Checked | list[Part] | dict[str, int] | None = None
    closed: Closed | None = None
    extra: Extra | None = None
    rooted: Rooted | None = None
    typed: Typed | None = None
    row: Row | None = None
    deep: int = Field(0, validation_alias=AliasPath("meta", "deep", 1))
    nested: Annotated[Any, AfterValidator(into_rooted)] = None
    union_of_nested: Annotated[A | B, AfterValidator(into_rooted)] | None = None
    strange: Annotated[dict[str, Any], AfterValidator(raised_at_a_key)] = {}
    choice: Literal["x"] = "x"


def refused(annotation: Any, item: dict[str, Any], **options: Any) -> BaseException:
    """Send an item to a handler with this annotation and return how that failed."""

    def handler(new: Any) -> None: ...

    handler.__annotations__ = {"new": annotation}
    router = Router()
    router.on_insert(name="ship", **options)(handler)
    with TestClient(App(router)) as stream:
        (outcome,) = stream.insert({"id": "1"} | item).outcomes
    assert outcome.error is not None
    return outcome.error


def told(error: BaseException) -> str:
    """Return all that can be told of an error, what it is chained to among it."""
    chained = [error.__cause__, error.__context__]
    texts = [*traceback.format_exception(error), str(error), repr(error), *map(str, chained)]
    return "\n".join(texts)


A_PART = {"kind": "a", "x": MARKER}


@pytest.mark.parametrize(
    ("item", "problems"),
    [
        ({"counts": {MARKER: "x"}}, "counts.*: int_parsing"),
        ({"parts": {MARKER: {}}}, "parts.*.sku: missing"),
        ({"lists": {MARKER: [1, MARKER]}}, "lists.*.1: int_parsing"),
        ({"keys": {MARKER: 1}}, "keys.*.[key]: int_parsing"),
        ({"text": f'{{"{MARKER}": "x"}}'}, "text.*: int_parsing"),
        ({"text": MARKER}, "text: json_invalid"),
        ({"tagged": {"kind": MARKER}}, "tagged: union_tag_invalid"),
        ({"tagged": A_PART}, "tagged.a.x: int_parsing"),
        ({"called": {"kind": MARKER}}, "called: union_tag_invalid"),
        ({"called": A_PART}, "called.a.x: int_parsing"),
        (
            {"either": {MARKER: MARKER}},
            "either.A.kind: missing; either.A.x: missing; either.Checked.x: missing; "
            "either.list: list_type; either.dict.*: int_parsing",
        ),
        ({"closed": {MARKER: 1}}, "closed.*: extra_forbidden"),
        ({"extra": {MARKER: "x"}}, "extra.*: int_parsing"),
        ({"rooted": {MARKER: {"n": MARKER}}}, "rooted.*.sku: missing; rooted.*.n: int_parsing"),
        ({"typed": {MARKER: 1}}, "typed.n: missing"),
        ({"row": {"parts": {MARKER: {}}}}, "row.parts.*.sku: missing"),
        ({"meta": {"deep": [1, MARKER]}}, "meta.deep.1: int_parsing"),
        ({"nested": {MARKER: {}}}, "nested.*.*: missing"),
        ({"strange": {"x": 1}}, "strange.*.*.*: missing"),
        ({"choice": MARKER}, "choice: literal_error"),
    ],
)
def test_keys_of_the_data_are_hidden_and_names_of_the_model_shown(
    item: dict[str, Any], problems: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        error = refused(Order, item)
    assert type(error) is InvalidImage
    assert str(error) == f"ship: the new image is not what its model wants ({problems})"
    assert MARKER not in told(error)
    assert MARKER not in caplog.text
    assert (error.__cause__, error.__context__) == (None, None)


class Hiding(BaseModel):
    either: Annotated[A | B, AfterValidator(raised_at_a_key)] | None = None
    tagged: (
        Annotated[A | B, Field(discriminator="kind"), AfterValidator(raised_at_a_key)] | None
    ) = None


@pytest.mark.parametrize("field", ["either", "tagged"])
def test_what_looks_like_a_label_is_hidden_unless_it_is_a_member_of_the_union(field: str) -> None:
    error = refused(Hiding, {field: {"kind": "a", "x": 1}})
    assert str(error).endswith(f"({field}.*.*.*: missing)")
    assert MARKER not in told(error)


class Unprintable(ValueError):
    def __str__(self) -> str:
        raise RuntimeError(MARKER)


def raising(make: Callable[[Any], BaseException]) -> Any:
    def check(value: Any) -> Any:
        raise make(value)

    class Model(BaseModel):
        text: Annotated[str, AfterValidator(check)] = ""

    return Model


def asserting(value: Any) -> Any:
    assert value == "x", value
    return value


class Asserting(BaseModel):
    text: Annotated[str, AfterValidator(asserting)]


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        (raising(lambda v: ValueError(f"bad {v}")), "text: value_error"),
        (raising(AssertionError), "text: assertion_error"),
        (Asserting, "text: assertion_error"),
        (raising(lambda v: PydanticCustomError("no_sku", "{v}", {"v": v})), "text: no_sku"),
        (raising(lambda v: PydanticCustomError(f"no_{v}", "no")), "text: custom_error"),
    ],
)
def test_a_validator_that_quotes_the_value_is_not_quoted(
    model: Any, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = refused(model, {"text": MARKER})
    assert type(error) is InvalidImage
    assert str(error).endswith(f"({problem})")
    assert MARKER not in told(error) + caplog.text


@pytest.mark.parametrize("kind", [TypeError, KeyError, RecursionError, OSError, RuntimeError])
@pytest.mark.parametrize("on_invalid", ["fail", "skip"])
def test_a_mistake_in_a_validator_fails_the_record_and_says_where(
    kind: type[Exception], on_invalid: str, caplog: pytest.LogCaptureFixture
) -> None:
    error = refused(raising(kind), {"text": MARKER}, on_invalid=on_invalid)
    assert type(error) is NonRetryable
    text = f"ship: a validator of the new image's model raised {kind.__name__} in {__name__}."
    assert str(error).startswith(f"{text}raising.<locals>.check, line ")
    assert MARKER not in told(error) + caplog.text
    assert "Traceback" in caplog.text
    assert (error.__cause__, error.__context__) == (None, None)


def use_default(value: Any) -> Any:
    raise PydanticUseDefault


class WithoutDefault(BaseModel):
    text: Annotated[str, AfterValidator(use_default)]


@pytest.mark.parametrize("model", [WithoutDefault, raising(Unprintable)])
def test_what_pydantic_versions_take_differently_never_quotes_the_value(
    model: Any, caplog: pytest.LogCaptureFixture
) -> None:
    error = refused(model, {"text": MARKER})
    assert isinstance(error, NonRetryable)
    assert MARKER not in told(error) + caplog.text


def test_a_validator_may_skip_or_refuse_the_record_in_dynaflow_s_own_words() -> None:
    assert type(refused(raising(lambda _: Skip("not ours")), {"text": "x"})) is Skip
    error = refused(raising(lambda _: NonRetryable("never")), {"text": "x"})
    assert str(error) == "never"


def test_a_memory_error_of_a_validator_is_the_process_s_and_not_the_image_s() -> None:
    with pytest.raises(MemoryError):
        refused(raising(lambda _: MemoryError()), {"text": "x"})


class Many(BaseModel):
    lines: list[int]


def test_only_so_many_problems_are_named() -> None:
    text = str(refused(Many, {"lines": ["x"] * 500}))
    assert text.endswith("lines.9: int_parsing; and 490 more)")
    assert text.count("int_parsing") == 10


def test_a_core_schema_of_another_shape_hides_everything_and_checks_no_spelling() -> None:
    for shape in ({}, {"type": "model"}, {"type": "new-kind"}, {"type": "union", "choices": 3}):
        schema = CoreSchema(shape)
        assert schema.shown(("a", 1)) == "*.*"
        assert schema.names_read() == frozenset()


texts = st.sampled_from([MARKER, "a", "kind", "x", "sku", "1"])
leaves = texts | st.integers(-3, 3) | st.none() | st.booleans() | st.binary(max_size=2)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
items = st.dictionaries(st.sampled_from([*Order.model_fields, MARKER, "meta"]), values, max_size=5)
kinds = st.sampled_from(
    [Order, Order | None, A | Order, dict[str, int], Rooted, Extra, Closed, Typed, Row]
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=kinds, item=items, on_invalid=st.sampled_from(["fail", "skip"]))
def test_no_item_leaves_a_trace_in_errors_or_logs(
    kind: Any, item: dict[str, Any], on_invalid: str, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(new: Any) -> None: ...

    handler.__annotations__ = {"new": kind}
    router = Router()
    router.on_insert(name="ship", on_invalid=on_invalid)(handler)  # type: ignore[arg-type]  # a str
    caplog.clear()
    with TestClient(router) as stream:
        outcomes = stream.insert(item | {"id": MARKER}).outcomes
    for outcome in outcomes:
        assert outcome.error is None or MARKER not in told(outcome.error)
    assert MARKER not in caplog.text
    assert MARKER not in json.dumps([record.getMessage() for record in caplog.records])
