"""Which records of a batch route's call an exception means. Pure."""

from __future__ import annotations

from collections.abc import Collection

from dynaflow.change import PartialFailure, positions_named
from dynaflow.engine.chunks import Chunk, Member
from dynaflow.engine.jobs import Lane
from dynaflow.errors import AlreadyDone

__all__ = ["done_before", "failed_by", "lowest_of", "misnamed_by"]


def failed_by(error: BaseException, chunk: Chunk) -> set[Member]:
    """Return the members that a call has failed: those that a PartialFailure names, else all."""
    named = _named_by(error, chunk) if isinstance(error, PartialFailure) else set()
    return named or set(chunk.members)


def lowest_of(members: Collection[Member]) -> dict[Lane, int]:
    """Return by lane the lowest of its jobs that these members stand for."""
    lowest: dict[Lane, int] = {}
    for member in members:
        lowest[member.lane] = min(member.first.at, lowest.get(member.lane, member.first.at))
    return lowest


def misnamed_by(error: BaseException, chunk: Chunk) -> ValueError | None:
    """Return the error of an exception that does not say clearly whom it means."""
    if isinstance(error, PartialFailure):
        is_clear = bool(_named_by(error, chunk))
    else:
        is_clear = not isinstance(error, AlreadyDone) or bool(done_before(error, chunk))
    if is_clear:
        return None
    misnamed = ValueError(
        f"{chunk.route.name} raised {type(error).__name__} for a change that is not of its call, "
        "or for a position in a list that it has changed, so all of them count as failed. Name the "
        "changes or records themselves, or their positions in the list as given."
    )
    misnamed.__cause__ = error
    return misnamed


def done_before(error: AlreadyDone, chunk: Chunk) -> set[Member]:
    """Return the members that an earlier delivery has done: those that it names, else all."""
    named = {id(record) for record in error.records}
    return {member for member in chunk.members if not named or id(member.record) in named}


def _named_by(error: PartialFailure, chunk: Chunk) -> set[Member]:
    """Return the members that a PartialFailure names; none if that is not clear."""
    return {chunk.members[at] for at in positions_named(error, chunk.records, chunk.given)}
