from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import FrozenInstanceError, replace
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynaflow._plain import Plain
from dynaflow.codec import decode_records
from dynaflow.dead_letter import MAX_BYTES, DeadLetterRecord
from dynaflow.errors import DeadLetterError, MalformedRecord
from dynaflow.record import Record, Undecodable
from dynaflow.testing import RecordBuilder
from tests.support.letters import MARK, PARKED_AT, letter_of, letters, record_of

ARN = RecordBuilder(table="orders").stream_arn
HOSTILE = "\0\n\r\x1b[31m\u2028\ud800 \udfff 😀 \x7f"


def a_letter(text: str = "x") -> DeadLetterRecord:
    return next(letters(text))


def undecodable(raw: Any) -> Undecodable:
    return Undecodable(
        raw,
        reason=MalformedRecord("as the test wants it"),
        sequence_number="42",
        position=42,
        source_arn=ARN,
        keys=None,
    )


# ── What is in it ────────────────────────────────────────────────────────────────────────────────


def test_a_letter_holds_the_whole_record_and_why_it_is_there() -> None:
    raw = RecordBuilder(table="orders").modify({"id": "1", "n": 1}, {"id": "1", "n": b"\0\xff"})
    letter = letter_of(record_of(raw, ARN))
    assert letter.raw == raw
    assert (letter.source_arn, letter.sequence_number) == (ARN, "900000000000000000001")
    assert (letter.event_id, letter.route) == (raw["eventID"], "shop.ship")
    assert (letter.reason, letter.attempts, letter.deliveries) == ("deliveries", 3, 2)
    assert (letter.parked_at, letter.pointer) == (PARKED_AT, None)
    assert letter.has_images
    assert letter.is_exact


def test_a_letter_has_the_error_with_its_traceback_and_the_chain_of_causes() -> None:
    letter = a_letter()
    assert letter.error_type == "ValueError"
    assert letter.error == f"{MARK} is not a number"
    assert "KeyError: 'the cause'" in letter.traceback
    assert "direct cause" in letter.traceback
    assert letter.traceback.endswith(f"ValueError: {MARK} is not a number\n")


def test_the_class_of_an_error_is_named_with_its_module() -> None:
    class Own(Exception):
        pass

    letter = letter_of(a_letter().record(), error=Own())
    assert letter.error_type == f"{__name__}.{Own.__qualname__}"


def test_a_letter_is_a_copy_that_no_handler_can_change() -> None:
    raw = RecordBuilder().insert({"id": "1"})
    letter = letter_of(record_of(raw, ARN))
    raw["dynamodb"]["NewImage"]["id"]["S"] = "2"
    assert letter.raw["dynamodb"]["NewImage"] == {"id": {"S": "1"}}
    with pytest.raises(FrozenInstanceError):
        letter.route = "another"  # type: ignore[misc]  # that it is refused is the test


def test_what_a_poller_read_has_the_shape_of_lambdas_event() -> None:
    raw = {
        "eventID": "1",
        "eventName": "REMOVE",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "eu-west-1",
        "userIdentity": {"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"},
        "dynamodb": {
            "ApproximateCreationDateTime": datetime(2026, 1, 1, tzinfo=timezone.utc),
            "Keys": {"id": {"B": b"\0\xff"}},
            "OldImage": {
                "id": {"B": bytearray(b"\0\xff")},
                "set": {"BS": {b"b", b"a"}},
                "deep": {"L": [{"M": {"m": {"B": memoryview(b"x")}}}]},
            },
            "SequenceNumber": "7",
            "SizeBytes": 12,
        },
    }
    letter = letter_of(record_of(raw, ARN))
    assert letter.is_exact
    assert letter.raw == {
        **raw,
        "eventSourceARN": ARN,
        "userIdentity": {"type": "Service", "principalId": "dynamodb.amazonaws.com"},
        "dynamodb": {
            "ApproximateCreationDateTime": 1_767_225_600.0,
            "Keys": {"id": {"B": "AP8="}},
            "OldImage": {
                "id": {"B": "AP8="},
                "set": {"BS": ["YQ==", "Yg=="]},
                "deep": {"L": [{"M": {"m": {"B": "eA=="}}}]},
            },
            "SequenceNumber": "7",
            "SizeBytes": 12,
        },
    }
    record = letter.record()
    assert isinstance(record, Record)
    assert record.old == {"id": b"\0\xff", "set": {b"a", b"b"}, "deep": [{"m": b"x"}]}
    assert record.is_ttl_delete
    assert record.created_at == raw["dynamodb"]["ApproximateCreationDateTime"]  # type: ignore[index]  # it is a dict


def test_numbers_of_an_event_that_was_read_exactly_stay_as_they_are() -> None:
    text = '{"a": 1.0, "b": 1E9, "c": 12345678901234567890.123456789, "d": 1E999999, "e": 0.1}'
    letter = letter_of(undecodable(json.loads(text, parse_float=Decimal)))
    raw = {"a": 1, "b": 10**9, "c": "12345678901234567890.123456789", "e": 0.1}
    assert {name: letter.raw[name] for name in raw} == raw
    assert "1E+999999" in letter.raw["d"]
    assert not letter.is_exact


# ── Its id ───────────────────────────────────────────────────────────────────────────────────────


def test_the_same_record_and_route_have_the_same_id_at_every_writing() -> None:
    letter = a_letter()
    again = letter_of(
        letter.record(),
        error=RuntimeError("another"),
        reason="over_age",
        attempts=1,
        deliveries=9,
        parked_at=0.0,
    )
    assert again.id == letter.id == letter.without_images().id
    assert again.id == DeadLetterRecord.from_json(letter.to_json()).id
    assert len(letter.id) == 32


def test_ids_of_other_records_and_routes_differ() -> None:
    letter = a_letter()
    others = [
        replace(letter, route=None),
        replace(letter, route=""),
        replace(letter, route="shop.ship2"),
        replace(letter, event_id="x"),
        replace(letter, sequence_number="1"),
        replace(letter, source_arn=""),
        # What would be the same if the parts were only joined:
        replace(letter, event_id="ab", sequence_number="1"),
        replace(letter, event_id="a", sequence_number="b1"),
    ]
    assert len({each.id for each in [letter, *others]}) == len(others) + 1


# ── Whatever is in a record that cannot be read ──────────────────────────────────────────────────


class _Hostile:
    def __repr__(self) -> str:
        raise RuntimeError(MARK)


class _HostileMapping(Mapping[str, Any]):
    def __getitem__(self, name: str) -> Any:
        raise RuntimeError(MARK)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError(MARK)

    def __len__(self) -> int:
        raise RuntimeError(MARK)


def _cycle() -> Any:
    circle: dict[str, Any] = {}
    circle["a"] = circle["b"] = [circle, circle]
    return circle


def _deep(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"a": [value]}
    return value


def _wide() -> Any:
    value: Any = "x"
    for _ in range(60):  # 2 ** 60 values, by reference
        value = [value, value]
    return value


class _BadText(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError(MARK)


@pytest.mark.parametrize(
    ("raw", "is_exact"),
    [
        (None, True),
        ("text", True),
        ([1, 2.5, True, None], True),
        (_BadText("text"), True),
        ({"dynamodb": [], "eventID": 7, "userIdentity": "me"}, True),
        (float("nan"), False),
        (Decimal("NaN"), False),
        (10**5000, False),
        (object(), False),
        (_Hostile(), False),
        (_HostileMapping(), False),
        ({_Hostile(): 1, 2: 3, b"x": 4}, False),
        ({"f": lambda: None, "t": type}, False),
        (_cycle(), False),
        (_deep(5000), False),
        (datetime(2026, 1, 1), True),  # without a zone, as a foreign parser gives it
        ({"dynamodb": {"NewImage": _deep(5000), "Keys": {"id": {"S": 1}}}}, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_an_undecodable_record_holds_its_letter_can_be_kept(
    raw: Any, is_exact: bool
) -> None:
    letter = letter_of(undecodable(raw), route=None, reason="undecodable")
    assert letter.is_exact is is_exact
    text = letter.to_json()
    assert text.isascii()
    again = DeadLetterRecord.from_json(text)
    assert again == letter
    for each in (again, again.without_images(), again.within(4096)):
        record = each.record()
        assert isinstance(record, Undecodable)
        assert record.sequence_number == "42"
        assert record.position == 42


def test_what_holds_itself_many_times_over_ends_somewhere() -> None:
    plain = Plain(most=1000)
    assert len(json.dumps(plain.of(_wide()))) < 20_000
    assert not plain.is_exact


def test_a_record_of_as_many_values_as_dynamodb_takes_is_kept_whole() -> None:
    image = {"a": {"L": [{"S": ""}] * 400_000}}  # one byte each, of 400 KB
    plain = Plain()
    plain.of({"NewImage": image, "OldImage": image})
    assert plain.is_exact


def test_a_letter_is_read_however_many_values_it_has() -> None:
    letter = replace(a_letter(), raw=[0] * 1_000_001)
    assert DeadLetterRecord.from_json(letter.to_json()) == letter


def test_what_json_cannot_say_is_shown_in_its_place() -> None:
    letter = letter_of(undecodable({"a": 1, "b": {1 + 2j}, 5: "five"}))
    assert letter.raw == {
        "a": 1,
        "b": ["<builtins.complex (1+2j)>"],
        "<builtins.int 5>": "five",
        "eventSourceARN": ARN,
    }


class _HostileError(Exception):
    def __str__(self) -> str:
        raise RuntimeError(MARK)


def test_an_error_that_cannot_be_shown_does_not_lose_the_letter() -> None:
    letter = letter_of(a_letter().record(), error=_HostileError())
    assert letter.error == "<it cannot be shown: RuntimeError>"
    assert letter.error_type.endswith("_HostileError")
    assert DeadLetterRecord.from_json(letter.to_json()) == letter


def test_an_error_without_end_is_cut_in_the_middle() -> None:
    letter = letter_of(a_letter().record(), error=ValueError("a" * 10**6 + "😀" * 10 + "end"))
    assert len(letter.error.encode()) <= 4096
    assert len(letter.traceback.encode()) <= 16_384
    for text in (letter.error, letter.traceback):
        assert "bytes and more left out" in text
        assert text.rstrip().endswith("😀end")


def test_a_deep_chain_of_deep_tracebacks_is_cut_too() -> None:
    def deeper(levels: int) -> None:
        if not levels:
            raise ValueError("bottom")
        try:
            deeper(levels - 1)
        except ValueError as error:
            raise ValueError(f"level {levels}") from error

    with pytest.raises(ValueError, match="level 100") as raised:
        deeper(100)
    letter = letter_of(a_letter().record(), error=raised.value)
    assert len(letter.traceback.encode()) <= 16_384
    assert "bottom" in letter.traceback
    assert letter.traceback.endswith("ValueError: level 100\n")


def test_lone_surrogates_stay_in_the_record_and_are_escaped_in_the_error() -> None:
    raw = RecordBuilder().insert({"id": HOSTILE})
    letter = letter_of(record_of(raw, ARN), error=ValueError("\ud800"))
    assert letter.error == "\\ud800"
    again = DeadLetterRecord.from_json(letter.to_json())
    assert again == letter
    record = again.record()
    assert isinstance(record, Record)
    assert record.keys == {"id": HOSTILE}


# ── JSON and back ────────────────────────────────────────────────────────────────────────────────

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(raw=json_values, text=st.text(), route=st.none() | st.text())
def test_a_letter_is_read_as_it_was_written(raw: Any, text: str, route: str | None) -> None:
    letter = letter_of(undecodable(raw), route=route, error=ValueError(text))
    assert letter.is_exact
    for each in (letter, letter.without_images()):
        written = each.to_json()
        assert written.isascii()
        assert written.isprintable()
        assert DeadLetterRecord.from_json(written) == each
        assert DeadLetterRecord.from_json(written.encode()) == each


@given(new=st.dictionaries(st.text(min_size=1), st.binary() | st.text(), max_size=4))
def test_a_record_is_decoded_from_its_letter_as_from_its_event(new: dict[str, Any]) -> None:
    raw = RecordBuilder(("__id",)).insert({"__id": "1", **new})
    (record,) = decode_records([raw], ARN)
    again = DeadLetterRecord.from_json(letter_of(record).to_json()).record()
    assert isinstance(again, Record)
    assert again.raw == raw
    assert again.new == {"__id": "1", **new}


def changed(**values: Any) -> str:
    return json.dumps({**json.loads(a_letter().to_json()), **values})


def without(name: str) -> str:
    written = json.loads(a_letter().to_json())
    del written[name]
    return json.dumps(written)


_POINTER = {"stream_arn": "", "sequence_number": "1", "event_id": "", "left_out": {}}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is not JSON"),
        ("{", "it is not JSON"),
        (b"\xff\xfe", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        (
            changed(attempts=1).replace('"attempts": 1', f'"attempts": {"1" * 5000}'),
            "it is not JSO",
        ),
        ("[]", "it is not an object"),
        ("null", "it is not an object"),
        ("{}", "it has no 'version'"),
        ('{"version": "1.0", "DDBStreamBatchInfo": {}}', "'dynaflow recover' reads"),
        ('{"Type": "Notification", "TopicArn": "", "Message": "{}"}', "with RawMessageDelivery"),
        (changed(version=2), "a newer version of dynaflow wrote it, so update this one"),
        (changed(version=0), "it has no 'version'"),
        (changed(version=True), "it has no 'version'"),
        (changed(version="1"), "it has no 'version'"),
        (changed(version=1.0), "it has no 'version'"),
        (changed(raw=float("nan")), "holds a number that is none"),
        (changed(raw="R").replace('"R"', "1e999"), "holds a number that is none"),
        (changed(raw=_deep(60)), "it is nested too deeply"),
        *[(without(name), f"it has no '{name}'") for name in ("raw", "route", "pointer")],
        (changed(is_exact=1), "its 'is_exact'"),
        (changed(source_arn=None), "its 'source_arn'"),
        (changed(sequence_number=MARK), "its 'sequence_number'"),
        (changed(sequence_number=1), "its 'sequence_number'"),
        (changed(sequence_number="1" * 5000), "its 'sequence_number'"),
        (changed(sequence_number="٣"), "its 'sequence_number'"),
        (changed(event_id=1), "its 'event_id'"),
        (changed(route=1), "its 'route'"),
        (changed(reason=MARK), "its 'reason'"),
        (changed(reason=[]), "its 'reason'"),
        (changed(error_type=None), "its 'error_type'"),
        (changed(error=[MARK]), "its 'error'"),
        (changed(traceback={}), "its 'traceback'"),
        (changed(attempts=-1), "its 'attempts'"),
        (changed(attempts=True), "its 'attempts'"),
        (changed(deliveries=1.5), "its 'deliveries'"),
        (changed(deliveries=10**30), "its 'deliveries'"),
        (changed(parked_at=-1), "its 'parked_at'"),
        (changed(parked_at="2026"), "its 'parked_at'"),
        (changed(parked_at=10**400), "its 'parked_at'"),
        (changed(pointer=True), "its 'pointer'"),
        (changed(pointer={**_POINTER, "left_out": {"NewImage": MARK}}), "its 'pointer'"),
        (changed(pointer={**_POINTER, "event_id": 1}), "its 'pointer'"),
        (changed(pointer={}), "its 'pointer'"),
        (" " * (MAX_BYTES + 1), "it is longer than"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, str) and "'" in value else "-",
)
def test_what_is_no_letter_is_refused_with_one_clear_error(text: str | bytes, why: str) -> None:
    with pytest.raises(DeadLetterError) as refused:
        DeadLetterRecord.from_json(text)
    assert why in str(refused.value)
    assert MARK not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@given(cut=st.integers(0, 2000), junk=st.binary(max_size=3))
def test_a_damaged_letter_is_refused_or_read_and_nothing_else(cut: int, junk: bytes) -> None:
    written = a_letter().to_json().encode()
    cut %= len(written)
    try:
        DeadLetterRecord.from_json(written[:cut] + junk + written[cut + 1 :])
    except DeadLetterError as error:
        assert MARK not in str(error)


def test_what_a_later_version_adds_is_left_alone() -> None:
    assert DeadLetterRecord.from_json(changed(colour="red")) == a_letter()


# ── Room ─────────────────────────────────────────────────────────────────────────────────────────


def large(new: str, old: str) -> DeadLetterRecord:
    builder = RecordBuilder(table="orders")
    raw = builder.modify({"id": "1", "t": old}, {"id": "1", "t": new})
    return letter_of(record_of(raw, ARN))


def test_without_images_there_are_keys_a_position_and_a_pointer() -> None:
    letter = large("n" * 1000, "o" * 100)
    bare = letter.without_images()
    assert letter.has_images
    assert not bare.has_images
    record = bare.record()
    assert isinstance(record, Record)
    assert record.keys == {"id": "1"}
    assert (record.new, record.old) == (None, None)
    assert (record.event_id, record.sequence_number) == (letter.event_id, letter.sequence_number)
    assert record.table == "orders"
    assert bare.pointer is not None
    assert bare.pointer.stream_arn == ARN
    assert bare.pointer.sequence_number == letter.sequence_number
    assert bare.pointer.event_id == letter.event_id
    stream = letter.raw["dynamodb"]
    assert bare.pointer.left_out == {
        name: len(json.dumps(stream[name], separators=(",", ":")))
        for name in ("NewImage", "OldImage")
    }
    assert bare.traceback == letter.traceback
    assert bare.without_images() == bare


def test_the_mark_of_a_delete_by_ttl_stays_without_images() -> None:
    letter = letter_of(record_of(RecordBuilder().expire({"id": "1"}), ARN))
    record = letter.without_images().record()
    assert isinstance(record, Record)
    assert record.is_ttl_delete


def test_a_letter_that_fits_stays_as_it_is() -> None:
    letter = a_letter()
    assert letter.within(len(letter.to_json())) is letter


def test_the_traceback_goes_before_the_record_does() -> None:
    letter = replace(large("n" * 3000, "o"), traceback="t" * 16_000, error="e" * 4000)
    smaller = letter.within(10_000)
    assert smaller.raw == letter.raw
    assert smaller.has_images
    assert "left out" in smaller.traceback
    assert len(smaller.to_json()) <= 10_000


def test_the_images_go_before_the_error_does() -> None:
    letter = large("n" * 300_000, "o" * 300_000)
    smaller = letter.within(262_144)
    assert (smaller.error, smaller.traceback) == (letter.error, letter.traceback)
    assert not smaller.has_images
    assert smaller.without_images().raw == smaller.raw


@pytest.mark.parametrize("max_bytes", [3000, 4000, 8000, 20_000, 100_000, 262_144])
@pytest.mark.parametrize(
    "raw",
    [
        RecordBuilder().insert({"id": "\0" * 300_000, "t": "😀" * 100_000}),
        {"dynamodb": "x" * 300_000, "eventName": "INSERT"},
        ["x" * 300_000],
        "x" * 300_000,
        {"userIdentity": {"a": "x" * 300_000}, "other": "x" * 100_000},
    ],
    ids=["keys", "stream", "list", "text", "identity"],
)
def test_whatever_is_large_a_letter_gets_as_small_as_it_must(raw: Any, max_bytes: int) -> None:
    record: Record | Undecodable = undecodable(raw)
    if "eventID" in raw:
        record = record_of(raw, ARN)
    letter = letter_of(record, error=ValueError("\0" * 100_000))
    smaller = letter.within(max_bytes)
    assert len(smaller.to_json()) <= max_bytes
    assert smaller.id == letter.id
    assert smaller.pointer is not None
    assert sum(smaller.pointer.left_out.values()) > 200_000
    again = DeadLetterRecord.from_json(smaller.to_json())
    assert again == smaller
    assert again.record().sequence_number == letter.sequence_number


def test_a_letter_that_cannot_fit_is_refused_without_its_data() -> None:
    with pytest.raises(DeadLetterError, match="does not fit into 100 bytes") as refused:
        a_letter().within(100)
    assert MARK not in str(refused.value)


# ── What it shows of itself ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r:>200}".format])
def test_a_letter_shows_no_item_data(show: Callable[[object], str]) -> None:
    letter = a_letter(MARK)
    for each in (letter, letter.without_images(), letter.record()):
        assert MARK not in show(each)
    assert "orders" in show(letter)
    assert letter.id in show(letter)
    assert "shop.ship" in show(letter)


def test_a_letter_can_be_a_member_of_a_set() -> None:
    assert len({a_letter(), a_letter(), a_letter("y")}) == 2
