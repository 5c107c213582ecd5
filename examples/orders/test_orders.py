"""How an app is tested: in memory, with records such as the table would write them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynaflow.testing import Stream, TestClient
from examples.orders.app import app, archive, mail

EVENT = Path(__file__).with_name("event.json")
ORDER = {"id": "A-100", "email": "ada@example.org", "status": "open", "total": 20}
PAID = {**ORDER, "status": "paid"}


@pytest.fixture
def stream() -> Iterator[Stream]:
    mail.sent.clear()
    archive.clear()
    with TestClient(app, keys=("id",)) as stream:
        yield stream


def test_a_paid_order_is_told_to_its_customer(stream: Stream) -> None:
    result = stream.modify(old=ORDER, new=PAID)
    assert result.handled_by == ["notify"]
    assert mail.sent == [("ada@example.org", "Order A-100 was open and is paid now")]


@pytest.mark.parametrize(
    "new", [{**ORDER, "status": "cancelled"}, {**ORDER, "note": "gift"}], ids=["cancelled", "note"]
)
def test_other_changes_are_not(stream: Stream, new: dict[str, Any]) -> None:
    assert stream.modify(old=ORDER, new=new).handled_by == []


@pytest.mark.parametrize(
    ("before", "after", "is_thanked"), [(900, 1001, True), (1001, 1500, False), (900, 1000, False)]
)
def test_customers_are_thanked_once_an_order_is_big(
    stream: Stream, before: int, after: int, *, is_thanked: bool
) -> None:
    result = stream.modify(old={**ORDER, "total": before}, new={**ORDER, "total": after})
    assert result.handled_by == (["thank"] if is_thanked else [])


def test_a_deleted_order_is_filed_once_however_often_its_record_comes(stream: Stream) -> None:
    deleted = stream.records.remove(PAID)
    stream.send([deleted])
    stream.send([deleted])
    assert [json.loads(text) for text in archive.values()] == [PAID]


def test_a_mail_that_is_not_accepted_leaves_the_record_not_done(stream: Stream) -> None:
    paid = stream.records.modify(ORDER | {"email": ""}, PAID | {"email": ""})
    other = stream.records.modify(ORDER | {"id": "A-101"}, PAID | {"id": "A-101"})
    result = stream.send([paid, other])
    assert result.failed is not None
    assert result.failed.sequence_number == paid["dynamodb"]["SequenceNumber"]
    assert [type(error) for error in result.errors] == [ConnectionError]
    assert result.handled_by == ["notify"]  # the other order's


def test_an_event_copied_from_cloudwatch_runs_as_it_is(stream: Stream) -> None:
    result = stream.send(EVENT.read_text(encoding="utf-8"))
    assert result.failed is None
    assert sorted(result.handled_by) == ["file", "notify", "notify", "thank"]


def test_the_mail_service_is_open_only_while_records_are_processed(stream: Stream) -> None:
    was_open = mail.is_open
    with TestClient(app):
        pass
    assert (was_open, mail.is_open) == (True, False)
