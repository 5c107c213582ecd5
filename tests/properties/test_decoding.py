from __future__ import annotations

import json
from base64 import b64encode
from decimal import Decimal, DecimalException
from typing import Any

from boto3.dynamodb.types import Binary, TypeDeserializer
from botocore.serialize import create_serializer
from botocore.session import get_session
from hypothesis import given, settings
from hypothesis import strategies as st

from dynaflow.encoding import encode
from dynaflow.errors import MalformedValue
from dynaflow.record import Image
from dynaflow.values import Canonical, canonical, decode, to_boto

some = settings(max_examples=60, deadline=None)

# --- strategies -----------------------------------------------------------------------------------

texts = st.text(st.characters(exclude_categories=()), max_size=8)  # lone surrogates, too
names = st.text(max_size=4)
binaries = st.binary(max_size=8)


@st.composite
def numbers(draw: st.DrawFn) -> Decimal:
    """Any number that DynamoDB can store, with up to 38 digits."""
    digits = str(draw(st.integers(1, 10**38 - 1)))
    exponent = draw(st.one_of(st.integers(-3, 3), st.integers(-130, 125)))
    sign = draw(st.sampled_from(["", "-"]))
    return Decimal(f"{sign}{digits[0]}.{digits[1:] or '0'}E{exponent}")


@st.composite
def number_texts(draw: st.DrawFn) -> str:
    """A stored number, written with an exponent or without."""
    number = draw(st.one_of(numbers(), st.just(Decimal(0))))
    return format(number, draw(st.sampled_from(["", "f", "e"])))


def containers(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.builds(lambda items: {"L": items}, st.lists(values, max_size=4))
    return lists | st.builds(
        lambda members: {"M": members}, st.dictionaries(names, values, max_size=4)
    )


def sets_of(members: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(members, min_size=1, max_size=4, unique=True)


scalars = st.one_of(
    st.builds(lambda text: {"S": text}, texts),
    st.builds(lambda text: {"N": text}, number_texts()),
    st.builds(lambda data: {"B": data}, binaries),
    st.builds(lambda yes: {"BOOL": yes}, st.booleans()),
    st.just({"NULL": True}),
    st.builds(lambda members: {"SS": members}, sets_of(texts)),
    st.builds(lambda members: {"NS": members}, sets_of(number_texts())),
    st.builds(lambda members: {"BS": members}, sets_of(binaries)),
)
values = st.recursive(scalars, containers, max_leaves=6)  # in botocore's form: binaries as bytes
images = st.dictionaries(names, values, max_size=3)

python_values = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), texts, numbers(), binaries),
        *(st.sets(member, min_size=1, max_size=3) for member in (texts, numbers(), binaries)),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=5,
)


def lambda_form(wire: Any) -> Any:
    """Return botocore's form as it stands in a Lambda event: JSON, binaries as base64."""
    if isinstance(wire, dict):
        return {name: lambda_form(member) for name, member in wire.items()}
    if isinstance(wire, list):
        return [lambda_form(member) for member in wire]
    return b64encode(wire).decode() if isinstance(wire, bytes) else wire


def with_sorted_binaries(wire: Any) -> Any:
    """Return a wire value with the members of its binary sets in order."""
    if isinstance(wire, dict):
        return {
            name: sorted(member) if name == "BS" and isinstance(member, list) else member
            for name, member in ((n, with_sorted_binaries(m)) for n, m in wire.items())
        }
    return [with_sorted_binaries(member) for member in wire] if isinstance(wire, list) else wire


# --- against boto3 and botocore -------------------------------------------------------------------


def without_boto_types(value: Any) -> Any:
    """Return boto3's Python form with bytes instead of its Binary."""
    if isinstance(value, Binary):
        return value.value
    if isinstance(value, dict):
        return {name: without_boto_types(member) for name, member in value.items()}
    if isinstance(value, list):
        return [without_boto_types(member) for member in value]
    return set(map(without_boto_types, value)) if isinstance(value, set) else value


@some
@given(values)
def test_decode_equals_boto3_wherever_boto3_can_read(wire: dict[str, Any]) -> None:
    try:
        theirs = without_boto_types(TypeDeserializer().deserialize(wire))
    except DecimalException:  # boto3's context traps what its 38 digits and exponents cannot hold
        decode(wire)
        return
    assert decode(wire) == theirs


@some
@given(values)
def test_the_lambda_form_decodes_as_the_form_of_botocore(wire: dict[str, Any]) -> None:
    event = json.loads(json.dumps(lambda_form(wire)))
    assert decode(event) == decode(wire)
    assert canonical(event) == canonical(wire)


PUT_ITEM = get_session().get_service_model("dynamodb").operation_model("PutItem")
SERIALIZER = create_serializer("json", include_validation=True)


@some
@given(images)
def test_an_image_goes_back_through_botocore_as_it_came(image: dict[str, Any]) -> None:
    raw = lambda_form(image)
    item = Image(raw).to_dynamodb()
    request = SERIALIZER.serialize_to_request({"TableName": "orders", "Item": item}, PUT_ITEM)
    sent = json.loads(request["body"])["Item"]
    # Each binary set is sorted by its bytes, which is not the order of their base64 texts.
    assert {name: with_sorted_binaries(value) for name, value in sent.items()} == {
        name: with_sorted_binaries(value) for name, value in raw.items()
    }


# --- our own forms --------------------------------------------------------------------------------


@some
@given(values)
def test_encode_undoes_decode(wire: dict[str, Any]) -> None:
    assert canonical(encode(decode(wire))) == canonical(wire)


@some
@given(python_values)
def test_decode_undoes_encode(value: Any) -> None:
    wire = json.loads(json.dumps(encode(value)))
    assert decode(wire) == value
    assert decode(to_boto(wire)) == value


@some
@given(images)
def test_an_image_becomes_json_whatever_it_holds(image: dict[str, Any]) -> None:
    assert json.loads(Image(lambda_form(image)).to_json()).keys() == image.keys()


@settings(some, max_examples=250)
@given(st.text("0123456789eE+-._ nafiNI١１", max_size=10) | st.from_regex(r"\A-?\d+e-?1\d\d\Z"))
def test_a_number_is_exact_or_refused_for_a_reason(text: str) -> None:
    try:
        number = Decimal(text)
    except DecimalException:
        number = Decimal("NaN")
    digits = "".join(map(str, number.as_tuple().digits)).strip("0")
    exponent = number.adjusted() if digits and number.is_finite() else 0
    stored = number.is_finite() and len(digits) <= 38 and -130 <= exponent <= 125
    try:
        decoded = decode({"N": text})
    except MalformedValue:
        odd = not text.isascii() or "_" in text or text != text.strip()
        assert not stored or odd or abs(int(number.as_tuple().exponent)) > 9_999
    else:
        assert stored
        assert decoded.as_tuple() == number.as_tuple()


# --- equality -------------------------------------------------------------------------------------


def same(one: Any, other: Any) -> bool:
    """DynamoDB's equality, spelt out: the same type, then the same contents."""
    ((kind, _),), ((other_kind, _),) = one.items(), other.items()
    if kind != other_kind:
        return False
    if kind == "L":
        return len(one["L"]) == len(other["L"]) and all(map(same, one["L"], other["L"]))
    if kind == "M":
        return one["M"].keys() == other["M"].keys() and all(
            same(member, other["M"][name]) for name, member in one["M"].items()
        )
    return bool(decode(one) == decode(other))


def respelt(wire: Any) -> Any:
    """Return an equal value, written differently."""
    ((kind, payload),) = wire.items()
    if kind == "N":
        return {kind: format(Decimal(payload), "f" if "E" in payload.upper() else "e")}
    if kind == "L":
        return {kind: [respelt(member) for member in payload]}
    if kind == "M":
        return {kind: {name: respelt(payload[name]) for name in reversed(payload)}}
    return {kind: payload[::-1] if kind in ("SS", "NS", "BS") else payload}


# So few that two of them are often equal, and of every type.
few = st.recursive(
    st.sampled_from(
        [
            *({"S": "1"}, {"N": "1"}, {"N": "1.0"}, {"B": b"1"}, {"B": "MQ=="}, {"BOOL": True}),
            *({"NULL": True}, {"SS": ["1"]}, {"NS": ["1"]}, {"NS": ["1.0"]}, {"BS": [b"1"]}),
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=2).map(lambda items: {"L": items})
        | st.dictionaries(st.sampled_from("ab"), inner, max_size=2).map(lambda m: {"M": m})
    ),
    max_leaves=3,
)


@settings(some, max_examples=150)
@given(few, few)
def test_canonical_forms_are_equal_exactly_where_values_are(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert (canonical(one) == canonical(other)) is same(one, other)


@some
@given(values, values)
def test_equality_ignores_how_a_value_is_written(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    first, second = canonical(one), canonical(lambda_form(respelt(one)))
    assert first == second
    assert second == first
    assert hash(first) == hash(second)
    assert (first == canonical(other)) == (second == canonical(other))


def payload(form: Canonical) -> Any:
    return form[1]


@some
@given(st.lists(st.text(max_size=4), max_size=6), st.lists(number_texts(), max_size=6))
def test_canonical_payloads_order_as_dynamodb_does(
    some_texts: list[str], digits: list[str]
) -> None:
    by_bytes = sorted(some_texts, key=lambda text: text.encode())
    assert sorted(some_texts, key=lambda text: payload(canonical({"S": text}))) == by_bytes
    by_value = sorted(digits, key=Decimal)
    assert sorted(digits, key=lambda text: payload(canonical({"N": text}))) == by_value
