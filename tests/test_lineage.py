from __future__ import annotations

import pytest

from dynaflow.checkpoints import Checkpoint
from dynaflow.lineage import latest_checkpoints, startable, unlisted_parents
from dynaflow.source import Shard

FAMILY = [Shard("a", is_closed=True), Shard("b", "a", is_closed=True), Shard("c", "b")]


@pytest.mark.parametrize(
    ("shards", "ended", "started", "expected"),
    [
        ([], set(), set(), []),
        ([Shard("a"), Shard("b")], set(), set(), ["a", "b"]),
        ([Shard("a"), Shard("b")], set(), {"a"}, ["b"]),
        (FAMILY, set(), set(), ["a"]),
        (FAMILY, set(), {"a"}, []),
        (FAMILY, {"a"}, {"a"}, ["b"]),
        (FAMILY, {"a", "b"}, {"a", "b"}, ["c"]),
        (FAMILY, {"a", "b", "c"}, set(), []),
        # Split: both children, whatever the order of the listing.
        ([Shard("y", "p"), Shard("x", "p"), Shard("p")], {"p"}, {"p"}, ["x", "y"]),
        # An ending sequence number in the listing is not the end.
        ([Shard("p", is_closed=True), Shard("c", "p")], set(), {"p"}, []),
        # An open parent beside its child.
        ([Shard("p"), Shard("c", "p")], set(), {"p"}, []),
        # A parent that nobody knows anything about.
        ([Shard("c", "p")], set(), set(), []),
        ([Shard("c", "p")], {"p"}, set(), ["c"]),
    ],
)
def test_a_shard_starts_only_when_its_parent_is_ended(
    shards: list[Shard], ended: set[str], started: set[str], expected: list[str]
) -> None:
    assert startable(shards, ended=ended, started=started) == expected
    assert startable(reversed(shards), ended=ended, started=started) == expected


@pytest.mark.parametrize(
    ("shards", "ended", "expected"),
    [
        (FAMILY, set(), []),
        ([Shard("c", "p"), Shard("d", "p"), Shard("e", "q")], set(), ["p", "q"]),
        ([Shard("c", "p")], {"p"}, []),
        # Nobody waits for the parent of a shard that is ended itself.
        ([Shard("c", "p")], {"c"}, []),
    ],
)
def test_a_parent_that_is_neither_known_nor_ended_is_named(
    shards: list[Shard], ended: set[str], expected: list[str]
) -> None:
    assert unlisted_parents(shards, ended=ended) == expected


def test_a_start_at_latest_pins_open_shards_and_ends_all_others() -> None:
    shards = [*FAMILY, Shard("x", "trimmed"), Shard("y", "open"), Shard("open")]
    latest, end = Checkpoint("LATEST", pinned_at=7.0), Checkpoint("SHARD_END")
    assert latest_checkpoints(shards, 7.0) == {
        "a": end,
        "b": end,
        "trimmed": end,
        "c": latest,
        "x": latest,
        "open": latest,
        # not "y": its parent's records come first, so it starts at its oldest record
    }
