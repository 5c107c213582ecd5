"""Items that Time to Live deleted are archived in S3; those that users deleted are not."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from random import Random
from typing import Any

from dynaflow.demo.stage import Stage
from dynaflow.demo.storm import Item, Written

from .app import app, get_bucket

BUCKET = "archive"
HOUR = 3600  # seconds


async def play(stage: Stage) -> bool:
    """Let a storm of writes go over the sessions, and compare the bucket with what had expired.

    The emulator deletes nothing by itself, so the storm does: a delete of a session whose time has
    passed stands for Time to Live, and is told by the session's ``expires_at``, as in a replica.
    """
    await stage.create_table("sessions", ttl_attribute="expires_at")
    async with stage.client("s3") as s3:
        await create_bucket(s3, stage.region)
        with app.overrides({get_bucket: lambda: BUCKET}):
            async with stage.running(app, "sessions"):
                written = await stage.storm("sessions", writes=150, items=8, seed=2, make=change)
                due = expired(written)
                stage.say(
                    "the emulator expires nothing: deletes of sessions whose time has passed stand "
                    "for it"
                )
                removed = sum(write.new is None for write in written)
                stage.say(f"{removed} sessions were deleted, {len(due)} of them had expired")

                async def all_came() -> bool:
                    return len(await object_keys(s3)) >= len(due)

                await stage.until(all_came)
            keys = await object_keys(s3)
            for key in keys[:3]:
                stage.say(f"s3://{BUCKET}/{key}")
            stage.say(f"and {len(keys) - 3} more")
            archived = [await body(s3, key) for key in keys]
    return stage.judge(
        in_order(archived) == in_order(due),
        f"{len(archived)} sessions in the archive, {len(due)} had expired",
    )


def change(chance: Random, key: Item, old: Item | None) -> Item | None:
    """Make up a session's next state: some expire in an hour, some an hour ago, some never."""
    if old is not None and chance.random() < 0.4:
        return None
    session: dict[str, Any] = {"user": chance.choice(("ada", "grace")), "hits": chance.randrange(9)}
    at = chance.choice((-HOUR, HOUR, None))
    return session if at is None else {**session, "expires_at": int(time.time()) + at}


def expired(written: Iterable[Written]) -> list[Item]:
    """Return the sessions that were deleted when their time had passed."""
    deleted = [write.old for write in written if write.new is None and write.old is not None]
    return [old for old in deleted if old.get("expires_at", float("inf")) < time.time()]


def in_order(sessions: Iterable[Item]) -> list[str]:
    """Return sessions as texts, in an order of their own."""
    return sorted(json.dumps(dict(session), sort_keys=True) for session in sessions)


async def create_bucket(s3: Any, region: str) -> None:
    """Create the archive's bucket."""
    await s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": region})


async def object_keys(s3: Any) -> list[str]:
    """Return the keys of all objects in the archive."""
    page = await s3.list_objects_v2(Bucket=BUCKET)
    return [found["Key"] for found in page.get("Contents", ())]


async def body(s3: Any, key: str) -> Any:
    """Return an archived session."""
    answer = await s3.get_object(Bucket=BUCKET, Key=key)
    return json.loads(await answer["Body"].read())
