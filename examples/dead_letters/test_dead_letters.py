"""What is parked and when, and what becomes of it when it is run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dynaflow import App
from dynaflow.dead_letter import DeadLetterRecord
from dynaflow.demo.stage import Stage
from dynaflow.testing import Stream, TestClient
from examples.dead_letters import app as today
from examples.dead_letters import yesterday
from examples.dead_letters.app import Outdated, UnknownProduct, open_warehouse
from examples.dead_letters.demo import BAD, ORDERS, play

LAMPS = {"id": "A-1", "version": 1, "product": "lamp", "quantity": 2, "unit": "box"}


class FakeWarehouse:
    """A warehouse in memory, which fails as often as it is told.

    Args:
        products: what it knows.
        failures: how many calls fail before it answers.
    """

    def __init__(self, *products: str, failures: int = 0) -> None:
        self.products = set(products)
        self.failures = failures
        self.taken: list[tuple[str, int, int]] = []  # order, version, pieces

    async def take(self, order: str, *, version: int, product: str, pieces: int) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError
        if product not in self.products:
            raise UnknownProduct
        if any(known == order and version <= newest for known, newest, _ in self.taken):
            raise Outdated
        self.taken.append((order, version, pieces))


Letters = list[DeadLetterRecord]


@pytest.fixture
def letters() -> Letters:
    return []


@pytest.fixture
def warehouse() -> FakeWarehouse:
    return FakeWarehouse("lamp")


def standing_for(warehouse: FakeWarehouse) -> dict[Callable[..., Any], Callable[..., Any]]:
    return {open_warehouse: lambda: warehouse}


@contextmanager
def importing(module: Any, warehouse: FakeWarehouse, letters: Letters) -> Iterator[Stream]:
    app = App(module.router, dead_letter=letters.append)
    with TestClient(app, overrides=standing_for(warehouse)) as stream:
        yield stream


def versions(warehouse: FakeWarehouse, order: str) -> list[int]:
    return [version for known, version, _ in warehouse.taken if known == order]


def test_an_order_is_imported_in_pieces(warehouse: FakeWarehouse, letters: Letters) -> None:
    with importing(today, warehouse, letters) as stream:
        stream.insert(LAMPS)
        stream.modify(old=LAMPS, new=LAMPS | {"version": 2, "quantity": "a dozen"})
    assert warehouse.taken == [("A-1", 1, 24), ("A-1", 2, 144)]
    assert letters == []


def test_a_warehouse_that_is_away_for_a_moment_costs_no_delivery(letters: Letters) -> None:
    warehouse = FakeWarehouse("lamp", failures=2)
    with importing(today, warehouse, letters) as stream:
        (outcome,) = stream.insert(LAMPS).outcomes
    assert outcome.is_done
    assert outcome.attempts == 3
    assert letters == []


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"quantity": "lots"}, "dynaflow.errors.InvalidImage"),
        ({"product": "sofa"}, "dynaflow.errors.NonRetryable"),
    ],
)
def test_what_no_further_try_would_help_is_parked_at_once_and_whole(
    warehouse: FakeWarehouse, letters: Letters, wrong: dict[str, Any], error: str
) -> None:
    with importing(today, warehouse, letters) as stream:
        order = stream.records.insert(LAMPS | wrong)
        result = stream.send([order, stream.records.insert(LAMPS | {"id": "A-2"})])
    assert result.failed is None
    assert result.parked_by == ["import"]
    (letter,) = letters
    assert (letter.route, letter.reason, letter.error_type) == ("import", "non_retryable", error)
    assert letter.raw == order
    assert versions(warehouse, "A-2") == [1]  # another order's


def test_what_may_pass_is_parked_after_its_third_delivery_and_its_order_waits_so_long(
    warehouse: FakeWarehouse, letters: Letters
) -> None:
    crates = LAMPS | {"unit": "crate"}  # a KeyError
    with importing(today, warehouse, letters) as stream:
        batch = [
            stream.records.insert(crates),
            stream.records.modify(crates, LAMPS | {"version": 2}),
        ]
        for _ in range(2):
            assert len(stream.send(batch).not_done) == 2
            assert (warehouse.taken, letters) == ([], [])
        assert stream.send(batch).failed is None
    assert [(letter.reason, letter.deliveries) for letter in letters] == [("deliveries", 3)]
    assert versions(warehouse, "A-1") == [2]


@pytest.fixture
def parked(warehouse: FakeWarehouse, letters: Letters) -> Letters:
    """What yesterday's importer could not import of the demo's orders."""
    with importing(yesterday, warehouse, letters) as stream:
        waiting = [stream.records.insert(order) for order in ORDERS]
        while waiting:
            waiting = [dict(record.raw) for record in stream.send(waiting).not_done]
    return sorted(letters, key=lambda letter: int(letter.sequence_number))


def test_yesterdays_importer_parks_the_bad_orders_and_imports_the_others(
    warehouse: FakeWarehouse, parked: Letters
) -> None:
    orders = [letter.raw["dynamodb"]["Keys"]["id"]["S"] for letter in parked]
    assert orders == ["A-102", "A-103", "A-104", "A-104", "A-105"]
    assert sorted(warehouse.taken) == [("A-101", 1, 24), ("A-105", 2, 7)]


@pytest.mark.asyncio
async def test_what_is_run_again_is_imported_in_order_and_never_over_a_newer_version(
    warehouse: FakeWarehouse, parked: Letters
) -> None:
    warehouse.products.add("sofa")
    again: Letters = []
    app = App(today.router, dead_letter=again.append)
    with app.overrides(standing_for(warehouse)):
        async with app.lifespan():
            results = [await app.redrive(letter.record(), letter.route) for letter in parked]
    assert again == []
    assert [result.failed for result in results] == [None] * BAD
    assert [len(result.skipped_by) for result in results] == [0, 0, 0, 0, 1]
    assert versions(warehouse, "A-104") == [1, 2]
    assert versions(warehouse, "A-105") == [2]


@pytest.mark.asyncio
async def test_in_the_end_nothing_is_parked_and_every_order_is_imported(stage: Stage) -> None:
    assert await play(stage)
