"""Deletes by Time to Live, told by the item's own attribute where they carry no mark."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

from dynaflow import App, Record, Router
from dynaflow._expiry import TTLDelete
from dynaflow._paths import PathRef
from dynaflow._route import Batching
from dynaflow.codec import decode_records
from dynaflow.errors import ImageMissing, MalformedRecord, MalformedValue
from dynaflow.testing import RecordBuilder, TestClient
from tests.support.batches import processed
from tests.support.routers import nothing, refusal

WRITTEN = 1_767_225_601  # when RecordBuilder's first record was made
DAY = 24 * 3600
FIVE_YEARS = 5 * 365 * DAY


def app() -> App:
    router = Router()
    router.on_expire(ttl_attribute="expires_at", name="expired")(nothing)
    router.on_remove(ttl=False, ttl_attribute="expires_at", name="deleted")(nothing)
    router.on_expire(name="marked")(nothing)
    return App(router)


@pytest.mark.parametrize(
    ("item", "route"),
    [
        ({"expires_at": WRITTEN}, "expired"),
        ({"expires_at": WRITTEN - 1}, "expired"),
        ({"expires_at": WRITTEN - 2 * DAY}, "expired"),
        ({"expires_at": Decimal(f"{WRITTEN - 1}.5")}, "expired"),
        ({"expires_at": WRITTEN - FIVE_YEARS}, "expired"),
        ({"expires_at": WRITTEN - FIVE_YEARS - 1}, "deleted"),
        ({"expires_at": WRITTEN + 1}, "deleted"),
        ({"expires_at": Decimal(f"{WRITTEN}.5")}, "deleted"),
        ({"expires_at": (WRITTEN - DAY) * 1000}, "deleted"),  # milliseconds by mistake
        ({"expires_at": 0}, "deleted"),
        ({"expires_at": -WRITTEN}, "deleted"),
        ({"expires_at": Decimal("9E+125")}, "deleted"),
        ({"expires_at": str(WRITTEN - 1)}, "deleted"),
        ({"expires_at": {WRITTEN - 1}}, "deleted"),
        ({"expires_at": None}, "deleted"),
        ({"expires_at": True}, "deleted"),
        ({"expires": WRITTEN - 1}, "deleted"),
        ({}, "deleted"),
    ],
)
def test_a_delete_of_an_item_that_had_expired_is_a_time_to_live_delete(
    item: dict[str, Any], route: str
) -> None:
    with TestClient(app()) as stream:
        assert stream.remove({"id": "1"} | item).handled_by == [route]


def test_the_mark_alone_is_enough_whatever_the_attribute_says() -> None:
    with TestClient(app()) as stream:
        for item in ({}, {"expires_at": WRITTEN + DAY}, {"expires_at": "soon"}):
            assert stream.expire({"id": "1"} | item).handled_by == ["expired", "marked"]


def test_every_delete_is_for_one_of_two_complements_and_changes_are_for_neither() -> None:
    router = Router()
    rest = ["MODIFY", "REMOVE"]
    router.add_route(["REMOVE"], nothing, ttl=True, ttl_attribute="at", name="same")
    router.add_route(rest, nothing, ttl=False, ttl_attribute="at", name="same")
    with TestClient(App(router)) as stream:
        old = {"id": "1", "at": WRITTEN - 1}
        assert stream.remove(old).handled_by == ["same"]
        assert stream.remove({"id": "1"}).handled_by == ["same"]
        assert stream.modify(old=old, new={"id": "1"}).handled_by == ["same"]


def record_of(item: dict[str, Any], **stream: Any) -> Record:
    raw = RecordBuilder().remove({"id": "1"} | item)
    raw["dynamodb"] |= stream
    (record,) = decode_records([raw], "")
    assert isinstance(record, Record)
    return record


def test_a_record_that_does_not_say_when_it_was_made_is_judged_now() -> None:
    record = record_of({"at": 1000}, ApproximateCreationDateTime=None)
    assert TTLDelete(PathRef("old", ("at",)), now=lambda: 1000)(record)
    assert not TTLDelete(PathRef("old", ("at",)), now=lambda: 999)(record)
    assert TTLDelete(PathRef("old", ("at",)))(
        record_of(
            {"at": int(datetime.now(timezone.utc).timestamp()) - 9},
            ApproximateCreationDateTime=None,
        )
    )


def test_a_time_or_a_value_that_cannot_be_read_fails_the_record() -> None:
    with TestClient(app()) as stream:
        record = stream.records.remove({"id": "1", "expires_at": 1})
        record["dynamodb"]["ApproximateCreationDateTime"] = "yesterday"
        errors = stream.send(record).errors
        assert {type(error) for error in errors} == {MalformedRecord}
        record = stream.records.remove({"id": "1", "expires_at": 1})
        record["dynamodb"]["OldImage"]["expires_at"] = {"N": "soon"}
        error = stream.send(record).errors[0]
        assert isinstance(error, MalformedValue)
        assert error.path == ("old", "expires_at")


@pytest.mark.parametrize("view_type", ["KEYS_ONLY", "NEW_IMAGE"])
def test_an_old_image_that_the_stream_leaves_out_fails_the_record_unless_the_mark_decides(
    view_type: str,
) -> None:
    build = RecordBuilder(view_type=view_type)
    result = processed(app(), build.remove({"id": "1"}))
    assert {type(error) for error in result.errors} == {ImageMissing}
    assert "ttl_attribute='expires_at' reads the old image" in str(result.errors[0])
    assert processed(app(), build.expire({"id": "1"})).handled_by == ["expired", "marked"]


def names_clash(*options: dict[str, Any]) -> bool:
    """Return whether routes of one name are refused."""
    router = Router()
    for option in options:
        router.add_route(["REMOVE"], nothing, name="same", **option)
    try:
        App(router)
    except Exception as error:
        assert "two routes are named 'same'" in str(error)
        return True
    return False


@pytest.mark.parametrize(
    ("expired", "rest", "clash"),
    [
        (None, None, False),
        ("a", "a", False),
        (None, "a", False),  # what has the mark is left out by both
        ("a", None, True),  # expired, but without the mark
        ("a", "b", True),
    ],
)
def test_names_may_be_equal_only_where_no_delete_is_for_both(
    expired: str | None, rest: str | None, clash: bool
) -> None:
    one: dict[str, Any] = {"ttl": True, "ttl_attribute": expired}
    other: dict[str, Any] = {"ttl": False, "ttl_attribute": rest}
    assert names_clash(one, other) is clash
    assert names_clash(other, one) is clash
    assert names_clash(one, one)


class Session(BaseModel):
    id: str
    expires_at: int


def archive(old: Session) -> None: ...
def archive_all(records: list[Record]) -> None: ...


def test_an_attribute_that_is_almost_a_field_of_the_model_is_refused() -> None:
    router = Router()
    router.on_expire(ttl_attribute="expire_at")(archive)
    assert refusal(lambda: App(router)) == (
        "the filter ttl_attribute='expire_at' of archive reads 'expire_at', and its model has no "
        "such field. Did you mean 'expires_at'? An attribute that the model leaves out has to be "
        "a field of it here."
    )
    for fine in ("expires_at", "ttl"):
        router = Router()
        router.on_expire(ttl_attribute=fine)(archive)
        assert App(router).routes[0].ttl_attribute == fine


def test_the_attribute_needs_a_ttl() -> None:
    router, attribute = Router(), "expires_at"
    owner = f"{nothing.__module__}.nothing"
    without = f"ttl_attribute= of {owner} says which deletes are by Time to Live, and without ttl="
    assert refusal(lambda: router.on_remove(ttl_attribute=attribute)(nothing)).startswith(without)
    add = router.add_route
    assert refusal(lambda: add(["REMOVE"], nothing, ttl_attribute=attribute)).startswith(without)


@pytest.mark.parametrize("attribute", ["", 3, ["expires_at"]])
def test_the_attribute_is_a_name(attribute: Any) -> None:
    owner = f"{nothing.__module__}.nothing"
    message = refusal(lambda: Router().on_expire(ttl_attribute=attribute)(nothing))
    assert message == f"ttl_attribute= of {owner} takes the name of an attribute"


def test_an_attribute_s_name_may_be_any_text() -> None:
    router = Router()
    router.on_expire(ttl_attribute="ttl.seconds since", name="expired")(nothing)
    with TestClient(router) as stream:
        result = stream.remove({"id": "1", "ttl.seconds since": WRITTEN - 1})
    assert result.handled_by == ["expired"]


def test_a_batch_route_s_deletes_may_be_told_so_too() -> None:
    router = Router()
    router.add_route(
        ["REMOVE"], archive_all, ttl=True, ttl_attribute="at", batching=Batching(), name="archive"
    )
    with TestClient(router) as stream:
        assert stream.remove({"id": "1", "at": WRITTEN - 1}).handled_by == ["archive"]
        assert stream.remove({"id": "1"}).handled_by == []
