from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dynaflow.codec import decode_event
from dynaflow.errors import DynaflowError, EventError
from dynaflow.record import Record, Undecodable
from dynaflow.testing.records import RecordBuilder

MARKER = "pa55w0rd"  # stands for item data, which no text of ours may show

junk = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-1, 10**30),
        st.floats(),
        st.text(max_size=5),
        st.sampled_from([MARKER, "INSERT", "111", "aws:dynamodb", "aws:sqs", "MQ=="]),
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["S", "N", "B", "M", "L", "SS", "Keys", MARKER]), inner, max_size=2
        )
    ),
    max_leaves=4,
)


def good_event() -> dict[str, Any]:
    make = RecordBuilder(keys=("id", "at"))
    item = {"id": MARKER, "at": 1, "deep": [{"a": {b"x", b"y"}}, None, True], "tags": {MARKER}}
    return make.event(
        make.insert(item), make.modify(item, item | {"n": 2}), make.expire(item), make.remove(item)
    )


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key or index) of everything inside of a JSON value."""
    members = node.items() if isinstance(node, dict) else enumerate(node)
    for at, member in members:
        yield node, at
        if isinstance(member, (dict, list)):
            yield from places(member)


@st.composite
def spoiled_events(draw: st.DrawFn) -> dict[str, Any]:
    """A good event with one or two things in it deleted or replaced."""
    event = good_event()
    for _ in range(draw(st.integers(1, 2))):
        found = list(places(event))
        if not found:
            break
        container, at = found[draw(st.integers(0, len(found) - 1))]
        if draw(st.booleans()):
            del container[at]
        else:
            container[at] = draw(junk)
    return event


def read_everything(record: Record) -> None:
    """Read all that a record has; only our own errors may come of it, and they quote no data."""
    reads: list[Callable[[], object]] = [
        record.keys.to_dict,
        lambda: record.new and record.new.to_json(),
        lambda: record.old and record.old.to_dynamodb(),
        lambda: record.created_at,
        lambda: (record.event_id, record.table, record.view_type, record.size_bytes),
        lambda: record.is_ttl_delete,
    ]
    for read in reads:
        try:
            read()
        except DynaflowError as error:
            # A path names attributes, so only what is behind the last of them is looked at.
            assert MARKER not in str(error).rpartition(": ")[2]


@settings(max_examples=250, deadline=None)
@given(spoiled_events())
def test_a_spoiled_event_fails_as_a_whole_or_returns_each_record_once(
    event: dict[str, Any],
) -> None:
    before = copy.deepcopy(event)
    try:
        records, _ = decode_event(event)
    except EventError as error:
        # What stands as the event's source is no item data, and the error has to name it.
        assert MARKER not in str(error).replace(f"comes from {MARKER!r}", "")
        return
    raws = event["Records"]
    assert repr(event) == repr(before)
    assert sorted(map(id, raws)) == sorted(id(record.raw) for record in records)
    assert [record.position for record in records] == sorted(record.position for record in records)
    untouched = [repr(raw) for raw in good_event()["Records"]]
    for record in records:
        assert record.sequence_number == record.raw["dynamodb"]["SequenceNumber"]
        assert record.position == int(record.sequence_number)
        assert repr(record.raw) not in untouched or isinstance(record, Record)
        if isinstance(record, Record):
            read_everything(record)
        else:
            assert isinstance(record, Undecodable)
            assert MARKER not in repr(record) + repr(record.reason)
