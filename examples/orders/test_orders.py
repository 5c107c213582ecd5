"""How an app is tested: in memory, with records such as the table would write them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dynaflow.demo.stage import Stage
from dynaflow.testing import Stream, TestClient
from examples.orders.app import MailService, app, archive, open_mail
from examples.orders.demo import ShakyMail, play

EVENT = Path(__file__).with_name("event.json")
ORDER = {"id": "A-100", "email": "ada@example.org", "status": "open", "total": 20}
PAID = {**ORDER, "status": "paid"}


@pytest.fixture
def mail() -> MailService:
    service = MailService()
    service.is_open = True
    return service


@pytest.fixture
def stream(mail: MailService) -> Iterator[Stream]:
    archive.clear()
    with TestClient(app, overrides={open_mail: lambda: mail}) as stream:
        yield stream


def test_a_paid_order_is_told_to_its_customer(stream: Stream, mail: MailService) -> None:
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


def test_a_mail_that_is_sent_again_has_the_reference_of_the_first() -> None:
    mail = ShakyMail()
    with TestClient(app, overrides={open_mail: lambda: mail}) as stream:
        big = stream.records.modify(ORDER, PAID | {"total": 2000})
        for _ in range(2):
            stream.send(big)
    assert len(mail.refused) == 1  # the fourth
    assert len(mail.sent) == 2  # one of notify's, one of thank's


def test_an_event_copied_from_cloudwatch_runs_as_it_is(stream: Stream) -> None:
    result = stream.send(EVENT.read_text(encoding="utf-8"))
    assert result.failed is None
    assert sorted(result.handled_by) == ["file", "notify", "notify", "thank"]


@pytest.mark.asyncio
async def test_in_a_storm_with_failing_mails_each_status_is_told_in_order(stage: Stage) -> None:
    assert await play(stage)
