"""Which shards of a stream may be read now. Pure: no clocks, no I/O.

A shard's records come after all records of its parent, so a child starts only when its parent is
ended: read to its end, all its records done (Kinesis Client Library, "shard synchronization").

Listings are eventually consistent (DynamoDB Streams API reference, DescribeStream): an open parent
may be listed beside its child, and a parent that is named but not listed may be trimmed or only
hidden. So a parent that is not known counts as not ended until someone asked for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

from dynaflow.checkpoints import SHARD_END, Checkpoint
from dynaflow.source import Shard

__all__ = ["latest_checkpoints", "startable", "unlisted_parents"]


def startable(
    shards: Iterable[Shard], *, ended: AbstractSet[str], started: AbstractSet[str]
) -> list[str]:
    """Return the ids of the shards that may start now, in a stable order.

    Args:
        shards: all shards that are known.
        ended: the ids of the shards that are ended, or are known to be gone.
        started: the ids of the shards that were started already.
    """
    return sorted(
        shard.shard_id
        for shard in shards
        if shard.shard_id not in ended
        and shard.shard_id not in started
        and (shard.parent_id is None or shard.parent_id in ended)
    )


def unlisted_parents(shards: Iterable[Shard], *, ended: AbstractSet[str]) -> list[str]:
    """Return the ids of parents that are named by a shard but neither known nor ended, sorted.

    Each has to be asked for: if the service does not keep it, it is gone and counts as ended;
    otherwise its records come first.
    """
    known = {shard.shard_id: shard for shard in shards}
    return sorted(
        {
            shard.parent_id
            for shard in known.values()
            if shard.parent_id is not None
            and shard.shard_id not in ended
            and shard.parent_id not in known
            and shard.parent_id not in ended
        }
    )


def latest_checkpoints(shards: Iterable[Shard], now: float) -> Mapping[str, Checkpoint]:
    """Return the checkpoints with which reading starts at LATEST, when there are none yet.

    Open shards start at LATEST. Closed shards and parents that are not listed are taken as ended:
    what they hold is older than now. An open shard below an open parent has no checkpoint here,
    like every shard that is found later: it starts at its oldest record, after its parent.

    Args:
        shards: the shards of the first listing.
        now: seconds since the epoch.
    """
    known = {shard.shard_id: shard for shard in shards}
    ended = {shard.shard_id for shard in known.values() if shard.is_closed}
    ended.update(unlisted_parents(known.values(), ended=frozenset()))
    checkpoints = {shard_id: Checkpoint(SHARD_END) for shard_id in sorted(ended)}
    for shard_id in startable(known.values(), ended=ended, started=frozenset()):
        checkpoints[shard_id] = Checkpoint("LATEST", pinned_at=now)
    return checkpoints
