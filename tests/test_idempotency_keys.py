"""Which records share a mark, and which declarations of that are refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from dynaflow import F, Idempotent, Record
from dynaflow._mark_keys import MarkKeys
from dynaflow.codec import decode_event
from dynaflow.errors import ImageMissing, MalformedValue, NonRetryable, RegistrationError
from dynaflow.stores import MemoryMarks, MemoryStore
from dynaflow.testing import RecordBuilder

BUILD = RecordBuilder(keys=("id",), table="orders")


def decoded(raw: dict[str, Any], **changes: Any) -> Record:
    """Return the record of a raw one, some of whose fields are replaced."""
    (record,), _ = decode_event({"Records": [raw | changes]})
    assert isinstance(record, Record)
    return record


def record_with(**attributes: Any) -> Record:
    return decoded(BUILD.insert({"id": "A-1", **attributes}))


def key_of(value: Any) -> str:
    """Return the key of a record for which ``key=`` returns this value."""
    return MarkKeys(lambda record: value, "").of(record_with(), "ship")


EQUAL = [
    (1, Decimal("1.0")),
    (Decimal("1E+2"), 100),
    (0, Decimal("-0.00")),
    (Decimal("0.10"), Decimal("0.1")),
    (("a", 1), ["a", Decimal(1)]),
    ({"x": 1, "y": 2}, {"y": 2, "x": 1}),
    ({1, 2, 3}, {3, 2, 1}),
    (b"ab", bytearray(b"ab")),
]


@pytest.mark.parametrize(("one", "other"), EQUAL)
def test_values_that_dynamodb_calls_equal_are_one_key(one: object, other: object) -> None:
    assert key_of(one) == key_of(other)


DIFFERENT = [
    *("1", 1, (True,), b"1", 10, -1, Decimal("0.1"), 0, (False,), ("1",), (1,), {"1": 1}),
    *(("a", "b"), ("ab",), ("a,b",), {"a", "b"}, ("b", "a"), "a", "A", b"a", "61", {b"a"}),
    *(10**37, 10**37 + 1, Decimal("1E-130"), [["a"], "b"], [["a", "b"]], "\ud800", "e", "1e0"),
]


def test_all_other_values_are_keys_of_their_own() -> None:
    assert len({key_of(value) for value in DIFFERENT}) == len(DIFFERENT)


def test_a_path_and_a_function_that_read_the_same_have_one_key() -> None:
    record = record_with(order={"id": Decimal("7.0")})
    path = MarkKeys(F.new.order.id, "").of(record, "ship")
    assert path == MarkKeys(lambda record: record.new["order"]["id"], "").of(record, "ship")
    assert path == key_of(7)


@pytest.mark.parametrize(
    "value",
    [None, "", b"", (), [], {}, ("a", None), ("a", ""), [["a"], [None]]],
    ids=repr,
)
def test_nothing_is_no_key(value: object) -> None:
    with pytest.raises(NonRetryable, match="finds nothing, or an empty part, in <Record INSERT"):
        key_of(value)


def test_what_is_only_true_or_false_is_no_key() -> None:
    with pytest.raises(NonRetryable, match="is only true or false for <Record INSERT"):
        key_of(True)
    with pytest.raises(NonRetryable, match=r"Idempotent\(key=F.new.paid\) of ship is only true"):
        MarkKeys(F.new.paid, "").of(record_with(paid=False), "ship")


@pytest.mark.parametrize("value", [1.5, object(), float("nan"), {1, "a"}, 10**200, iter("ab")])
def test_what_dynamodb_cannot_hold_is_no_key_and_is_not_shown(value: object) -> None:
    with pytest.raises(NonRetryable, match="cannot be a key") as refused:
        key_of(value)
    assert repr(value) not in str(refused.value)


def test_a_path_to_nothing_is_no_key() -> None:
    for record in (record_with(), record_with(order=None), decoded(BUILD.remove({"id": "1"}))):
        with pytest.raises(NonRetryable, match=r"Idempotent\(key=F.new.order\) of ship finds"):
            MarkKeys(F.new.order, "").of(record, "ship")


def test_a_path_into_an_image_that_the_stream_leaves_out_says_so() -> None:
    build = RecordBuilder(keys=("id",), view_type="KEYS_ONLY")
    with pytest.raises(ImageMissing, match=r"Idempotent\(key=F.new.order\) reads the new image"):
        MarkKeys(F.new.order, "").of(decoded(build.insert({"id": "1"})), "ship")


def test_a_path_to_a_malformed_value_says_so() -> None:
    raw = BUILD.insert({"id": "1", "order": "x"})
    raw["dynamodb"]["NewImage"]["order"] = {"N": "many"}
    with pytest.raises(MalformedValue, match=r"\['new'\]\['order'\]"):
        MarkKeys(F.new.order, "").of(decoded(raw), "ship")


def test_a_function_that_fails_makes_the_record_one_that_cannot_be_handled() -> None:
    def order(record: Record) -> Any:
        return record.raw["dynamodb"]["secret"]

    with pytest.raises(NonRetryable, match=r"order\) of ship raised KeyError for <Record") as error:
        MarkKeys(order, "").of(record_with(), "ship")
    assert "secret" not in str(error.value)


def test_by_default_each_record_of_each_stream_has_a_key_of_its_own() -> None:
    raw, keys = BUILD.insert({"id": "1"}), MarkKeys(None, "")
    arn = raw["eventSourceARN"]
    number = raw["dynamodb"] | {"SequenceNumber": "9" * 28}
    records = [
        decoded(raw),
        decoded(raw, eventSourceARN=f"{arn}2"),
        decoded(raw, eventID="another"),
        decoded(raw, dynamodb=number),
    ]
    made = [keys.of(record, "ship") for record in records]
    made += [keys.of(decoded(raw), "bill"), MarkKeys(None, "app").of(decoded(raw), "ship")]
    assert len(set(made)) == 6
    assert keys.of(decoded(raw), "ship") == made[0]


def test_a_record_that_nothing_tells_from_those_of_other_streams_is_refused() -> None:
    raw, keys = BUILD.insert({"id": "1"}), MarkKeys(None, "")
    assert keys.of(decoded(raw, eventID=None), "ship"), "the ARN and the sequence number will do"
    without_arn = {name: raw[name] for name in raw if name != "eventSourceARN"}
    assert keys.of(decoded(without_arn), "ship"), "and so will the event id"
    with pytest.raises(NonRetryable, match="has neither a stream's ARN nor an event id"):
        keys.of(decoded(without_arn, eventID=None), "ship")


def test_a_key_names_application_and_route_and_hides_what_the_item_holds() -> None:
    record = record_with(mail="someone@example.com")
    key = MarkKeys(F.new.mail, "billing").of(record, "shop.ship")
    prefix, application, route, hashed = key.split("#")
    assert (prefix, application, route) == ("dynaflow", "billing", "shop.ship")
    assert len(hashed) == 64
    assert "someone" not in key


def test_a_key_is_short_and_long_names_stay_apart() -> None:
    keys, record = MarkKeys(None, "a" * 500), record_with()
    long = [keys.of(record, "x" * 500), keys.of(record, "x" * 501)]
    assert len(set(long)) == 2
    assert max(map(len, long)) <= 300


def test_a_key_is_the_same_in_every_version() -> None:
    """Guards marks that are in stores: another key would be another mark."""
    assert key_of(("a", Decimal("1.50"), {"x": True, "y": b"z"})) == (
        "dynaflow#ship#4e4e9878c08acead62b4f646313c9a352f3c73ac807affc31befc9db14e3d86a"
    )


async def is_async(record: Record) -> str:
    return record.event_id


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"key": F.new}, "is a whole image: name an attribute"),
    ({"key": F.new.id == "1"}, "is a filter, which is only true or false"),
    ({"key": "id"}, "is a path, such as F.new.order_id, or a function of the record, got str"),
    ({"key": lambda: 1}, "is a path, such as F.new.order_id, or a function of the record"),
    ({"key": is_async}, "is async, and a key is read from the record alone"),
    ({"application": "a#b"}, "is a text without '#'"),
    ({"expires_after": 0}, r"Idempotent\(expires_after=...\) is a number of seconds above 0"),
    ({"in_progress_for": "60"}, r"Idempotent\(in_progress_for=...\) is a number of seconds"),
    ({"in_progress_for": float("nan")}, "is a number of seconds above 0"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[text for _, text in REFUSED])
def test_what_cannot_work_is_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RegistrationError, match=message):
        Idempotent(MemoryMarks(), **options)


def test_a_store_of_something_else_is_refused() -> None:
    with pytest.raises(RegistrationError, match="takes a store of marks, got MemoryStore"):
        Idempotent(MemoryStore())  # type: ignore[arg-type]  # the mistake that is refused
