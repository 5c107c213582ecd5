"""The archive's tests: in memory with a stand-in for S3, and on the emulator."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from threading import Lock
from typing import Any

import boto3
import pytest

from dynaflow.demo.stage import Stage
from dynaflow.testing import TestClient
from examples.expiry_archive.app import app, get_bucket, open_s3
from examples.expiry_archive.demo import (
    BUCKET,
    HOUR,
    body,
    change,
    create_bucket,
    expired,
    in_order,
    object_keys,
)

_WRITTEN = (
    1_767_225_600  # when the first record of a TestClient is written: seconds since the epoch
)
SESSION = {"id": "s/1", "user": "ada", "expires_at": _WRITTEN - HOUR}


class Bucket:
    """Keeps objects by key, as S3 does."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}

    def put_object(self, **request: Any) -> None:
        assert request["Bucket"] == BUCKET
        self.objects[request["Key"]] = request


class Shaky:
    """Writes each object, but the first answer to every second key is lost."""

    def __init__(self, client: Any) -> None:
        self.puts: Counter[str] = Counter()
        self.lost: set[str] = set()
        self._client = client
        self._lock = Lock()  # the handler runs in several threads

    def put_object(self, **request: Any) -> None:
        self._client.put_object(**request)
        key = request["Key"]
        with self._lock:
            self.puts[key] += 1
            self.lost.discard(key)
            if self.puts[key] == 1 and len(self.puts) % 2 == 0:
                self.lost.add(key)
                raise TimeoutError("no answer")


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


def client(bucket: Bucket) -> TestClient:
    return TestClient(app, overrides={open_s3: lambda: bucket, get_bucket: lambda: BUCKET})


def test_a_session_that_expired_is_archived_as_json(bucket: Bucket) -> None:
    with client(bucket) as stream:
        expiry = stream.records.expire(SESSION)
        assert stream.send(expiry).handled_by == ["archive"]
    ((key, archived),) = bucket.objects.items()
    assert key == f"sessions/s%2F1/{expiry['eventID']}.json"
    assert json.loads(archived["Body"]) == SESSION
    assert archived["ContentType"] == "application/json"


def test_one_whose_time_had_passed_is_archived_without_the_mark(bucket: Bucket) -> None:
    with client(bucket) as stream:
        assert stream.remove(SESSION).handled_by == ["archive"]


@pytest.mark.parametrize("expires_at", [_WRITTEN + HOUR, "soon", None])
def test_one_that_a_user_deletes_is_not(bucket: Bucket, expires_at: Any) -> None:
    with client(bucket) as stream:
        assert stream.remove({**SESSION, "expires_at": expires_at}).handled_by == []


def test_a_record_that_comes_again_writes_the_same_object(bucket: Bucket) -> None:
    with client(bucket) as stream:
        expiry = stream.records.expire(SESSION)
        stream.send(expiry)
        stream.send(expiry)
    assert len(bucket.objects) == 1


def test_a_session_of_the_same_id_later_on_gets_an_object_of_its_own(bucket: Bucket) -> None:
    with client(bucket) as stream:
        stream.expire(SESSION)
        stream.expire(SESSION)
    assert len(bucket.objects) == 2


@pytest.mark.asyncio
async def test_in_a_storm_with_lost_answers_each_expiry_leaves_one_object(stage: Stage) -> None:
    await stage.create_table("sessions")
    shaky: list[Shaky] = []

    def open_shaky() -> Iterator[Shaky]:
        s3 = boto3.client("s3")
        shaky.append(Shaky(s3))
        yield shaky[-1]
        s3.close()

    async with stage.client("s3") as s3:
        await create_bucket(s3, stage.region)
        with app.overrides({open_s3: open_shaky, get_bucket: lambda: BUCKET}):
            async with stage.running(app, "sessions"):
                due = expired(
                    await stage.storm("sessions", writes=100, items=6, seed=4, make=change)
                )
                assert await stage.until(
                    lambda: len(shaky[0].puts) == len(due) and not shaky[0].lost
                )
        archived = [await body(s3, key) for key in await object_keys(s3)]
    assert shaky[0].puts.total() > len(due) > 5
    assert in_order(archived) == in_order(due)
    assert max(session["expires_at"] for session in archived) < time.time()
