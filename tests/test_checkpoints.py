from __future__ import annotations

import json

import pytest

from dynaflow.checkpoints import (
    Checkpoint,
    Deliveries,
    deliveries_from_json,
    deliveries_to_json,
    supersedes,
)


def numbers(count: int, first: int = 10**27) -> list[str]:
    return [str(first + number) for number in range(count)]


@pytest.mark.parametrize(
    ("position", "kept"),
    [
        ("TRIM_HORIZON", {"9", "10", "11"}),
        ("LATEST", {"9", "10", "11"}),
        ("8", {"9", "10", "11"}),
        ("9", {"10", "11"}),
        ("010", {"11"}),
        ("11", set()),
        ("SHARD_END", set()),
    ],
)
def test_only_records_above_the_position_are_counted(position: str, kept: set[str]) -> None:
    checkpoint = Checkpoint(position, deliveries={(n, "route"): 2 for n in ("11", "9", "10")})
    assert checkpoint.deliveries == {(number, "route"): 2 for number in kept}


def test_a_row_has_room_for_a_thousand_counts_of_the_lowest_records() -> None:
    all_numbers = numbers(1200, 10**21 - 600)  # of 21 and of 22 digits
    checkpoint = Checkpoint("1", deliveries={(n, "route"): 1 for n in reversed(all_numbers)})
    assert list(checkpoint.deliveries) == [(number, "route") for number in all_numbers[:1000]]


@pytest.mark.parametrize("route", ["r" * 500, "é" * 100, None])
def test_a_row_has_room_for_64_kilobytes_of_counts(route: str | None) -> None:
    counts = {(n, f"{route}{m}" if route else None): 1 for n in numbers(900) for m in range(2)}
    kept = Checkpoint("1", deliveries=counts).deliveries
    size = len(deliveries_to_json(kept).encode())
    assert size <= 64 * 1024
    assert list(kept) == list(counts)[: len(kept)]
    if len(kept) < min(1000, len(counts)):
        following = list(counts)[len(kept)]
        more = {**kept, following: 1}
        assert len(deliveries_to_json(more).encode()) > 64 * 1024


def test_a_checkpoint_keeps_its_counts_whatever_becomes_of_the_mapping() -> None:
    counts: dict[tuple[str, str | None], int] = {}
    checkpoint = Checkpoint("1", deliveries=counts)
    counts["2", None] = 1
    assert checkpoint == Checkpoint("1")
    assert hash(checkpoint) == hash(Checkpoint("1", deliveries=counts))


@pytest.mark.parametrize(
    "counts", [{}, {("2", None): 1}, {("2", "a"): 1, ("10", "ü\ud800"): 10**9}]
)
def test_counts_are_read_as_they_were_written(counts: Deliveries) -> None:
    text = deliveries_to_json(counts)
    assert text.isascii()
    assert deliveries_from_json(text) == counts
    assert json.loads(text) == [[number, route, n] for (number, route), n in counts.items()]


def test_the_same_row_supersedes_nothing() -> None:
    row = Checkpoint("1", deliveries={("2", None): 1})
    assert not supersedes(row, Checkpoint("1", deliveries={("2", None): 1}))
    assert supersedes(row, Checkpoint("1"))
    assert supersedes(Checkpoint("1"), row)
    assert supersedes(Checkpoint("2"), row)
    assert not supersedes(row, Checkpoint("2"))
