"""The index follows the table; what the service refuses comes again, and nothing else does."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import pytest

from dynaflow.demo.history import history, shuffled
from dynaflow.demo.stage import Stage
from dynaflow.testing import Stream, TestClient
from examples.search_index.app import app, open_search
from examples.search_index.demo import (
    TABLE,
    is_equal,
    make_product,
    replay,
)
from examples.search_index.service import SearchService

LAMP = {"id": "p-1", "title": "Lamp", "price": 20, "tags": ["oak"], "supplier": "s-1"}
OAK_LAMP = {**LAMP, "title": "Oak lamp"}


@pytest.fixture
def service() -> SearchService:
    return SearchService()


@pytest.fixture
def stream(service: SearchService) -> Iterator[Stream]:
    with TestClient(app, overrides={open_search: lambda: service}) as stream:
        yield stream


class Refusing(SearchService):
    """Refuses some documents once, and notes what it is sent."""

    def __init__(self, *names: str, status: int = 429) -> None:
        super().__init__()
        self.sent: list[list[str]] = []
        self._refused = set(names)
        self._status = status

    async def bulk(self, *, body: Any, index: str) -> Any:
        names = [line["update"]["_id"] for line in body[::2]]
        self.sent.append(names)
        taken = [line for at, line in enumerate(body) if names[at // 2] not in self._refused]
        answer = iter((await super().bulk(body=taken, index=index))["items"])
        items = [
            {"update": {"_id": name, "status": self._status}}
            if name in self._refused
            else next(answer)
            for name in names
        ]
        self._refused = set()
        return {"errors": True, "items": items}


def products(count: int) -> list[dict[str, Any]]:
    return [{**LAMP, "id": f"p-{number}"} for number in range(count)]


def test_a_product_is_found_as_it_is_now(stream: Stream, service: SearchService) -> None:
    stream.insert(LAMP)
    stream.modify(old=LAMP, new=OAK_LAMP)
    assert service.found == {"p-1": {"title": "Oak lamp", "price": "20", "tags": ["oak"]}}


def test_a_deleted_product_is_not_found(stream: Stream, service: SearchService) -> None:
    stream.insert(LAMP)
    stream.remove(LAMP)
    assert service.found == {}


def test_a_batch_is_one_request_with_the_last_state_of_each_product(
    stream: Stream, service: SearchService
) -> None:
    batch = [stream.records.insert(product) for product in products(50)]
    batch += [
        stream.records.modify(product, product | OAK_LAMP | {"id": product["id"]})
        for product in products(50)
    ]
    result = stream.send(batch)
    assert result.failed is None
    assert service.requests == [50]
    assert {document["title"] for document in service.found.values()} == {"Oak lamp"}


def test_only_what_was_refused_comes_again() -> None:
    service = Refusing("p-1", "p-3")
    with TestClient(app, overrides={open_search: lambda: service}) as stream:
        result = stream.send([stream.records.insert(product) for product in products(5)])
        assert [record.keys["id"] for record in result.not_done if record.keys] == ["p-1", "p-3"]
        result = stream.send([record.raw for record in result.not_done])
    assert result.failed is None
    assert service.sent == [["p-0", "p-1", "p-2", "p-3", "p-4"], ["p-1", "p-3"]]
    assert len(service.found) == 5


def test_a_document_that_the_index_does_not_take_is_not_done_either() -> None:
    service = Refusing("p-0", status=400)
    with TestClient(app, overrides={open_search: lambda: service}) as stream:
        result = stream.send([stream.records.insert(product) for product in products(2)])
    assert [record.keys["id"] for record in result.not_done if record.keys] == ["p-0"]


def test_a_request_that_fails_as_a_whole_leaves_all_of_it_not_done() -> None:
    service = SearchService(down=(1,))
    with TestClient(app, overrides={open_search: lambda: service}) as stream:
        batch = [stream.records.insert(product) for product in products(3)]
        assert len(stream.send(batch).not_done) == 3
        assert stream.send(batch).failed is None
    assert len(service.found) == 3


@pytest.mark.parametrize("repeated", [(0,), (1,), (0, 1)])
def test_a_late_repeat_does_not_bring_a_deleted_product_back(
    stream: Stream, service: SearchService, repeated: Collection[int]
) -> None:
    changes = [stream.records.insert(LAMP), stream.records.modify(LAMP, OAK_LAMP)]
    stream.send([*changes, stream.records.remove(OAK_LAMP)])
    stream.send([changes[at] for at in repeated])
    assert service.found == {}


def test_a_product_that_is_sold_again_is_found_again(
    stream: Stream, service: SearchService
) -> None:
    stream.insert(LAMP)
    stream.remove(LAMP)
    stream.insert(OAK_LAMP)
    assert list(service.found) == ["p-1"]


def test_changes_of_a_new_stream_win_whatever_their_numbers(
    stream: Stream, service: SearchService
) -> None:
    first, second = stream.records.insert(LAMP), stream.records.modify(LAMP, OAK_LAMP)
    first["dynamodb"]["SequenceNumber"] = "9" * 40
    second["eventSourceARN"] = second["eventSourceARN"].replace("2026-01-01", "2026-02-01")
    stream.send(first)
    stream.send(second)
    assert service.found["p-1"]["title"] == "Oak lamp"


@pytest.mark.parametrize("view_type", ["KEYS_ONLY", "OLD_IMAGE"])
def test_a_stream_without_new_images_is_refused_and_not_taken_for_deletes(view_type: str) -> None:
    service = SearchService()
    with TestClient(app, view_type=view_type, overrides={open_search: lambda: service}) as stream:
        result = stream.modify(old=LAMP, new=OAK_LAMP)
    assert result.failed is not None
    assert service.requests == []


@pytest.mark.asyncio
async def test_after_a_storm_the_index_equals_the_table(stage: Stage) -> None:
    service = SearchService(busy=0.3, down=(1, 3))
    await stage.create_table(TABLE)
    await stage.storm(TABLE, writes=120, items=20, seed=7, make=make_product)
    with app.overrides({open_search: lambda: service}):
        async with stage.running(app, TABLE):
            assert await stage.until(lambda: is_equal(stage, service))
        assert len(service.requests) <= 20  # for 120 changes
        assert service.failed == 2
        assert service.refused > 0
        records = await history(stage, TABLE)
        await replay(shuffled(records, seed=8), service)
    assert len(records) == 120
    assert await is_equal(stage, service)
