"""Records that no route takes: passed over, warned of, or failed."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from dynaflow import App, BatchResult, F, Router, Status
from dynaflow.errors import MalformedRecord, NonRetryable, Unmatched
from dynaflow.testing import RecordBuilder, TestClient
from tests.support.command_line import Project
from tests.support.routers import nothing, refusal

MARKER = "secret-marker-4711"


def send(*ids: str, **options: Any) -> BatchResult:
    """Send one insert per id to an App whose only route takes those that begin with "ours"."""
    router = Router()
    router.on_insert(F.new.id.startswith("ours"), name="ship")(nothing)
    with TestClient(App(router, **options)) as stream:
        return stream.send([stream.records.insert({"id": item}) for item in ids])


@pytest.mark.parametrize("options", [{}, {"unmatched": "ignore"}])
def test_a_record_that_no_route_takes_is_done_and_nothing_is_said(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "dynaflow"):
        result = send("a", "ours", **options)
    assert (result.failed, result.handled_by) == (None, ["ship"])
    assert [line for line in caplog.records if line.name == "dynaflow"] == []


def test_warn_says_once_per_batch_how_many_and_from_where(
    caplog: pytest.LogCaptureFixture,
) -> None:
    result = send("ours", MARKER, "ours-2", MARKER, unmatched="warn")
    assert result.failed is None
    (line,) = caplog.records
    assert line.levelno == logging.WARNING
    arn = RecordBuilder().stream_arn
    assert line.getMessage() == (
        f"no route takes 2 records of {arn}, the lowest is 900000000000000000002; "
        "they count as done"
    )
    assert MARKER not in caplog.text


def test_warn_says_nothing_of_a_batch_that_routes_take(caplog: pytest.LogCaptureFixture) -> None:
    send("ours", "ours-2", unmatched="warn")
    assert caplog.records == []


def test_fail_fails_the_record_and_holds_back_its_item_s_later_ones(
    caplog: pytest.LogCaptureFixture,
) -> None:
    router, seen = Router(), []

    @router.on_insert(F.new.step != 1, name="ship")
    def ship(new: dict[str, Any]) -> None:
        seen.append((new["id"], int(new["step"])))

    with TestClient(App(router, unmatched="fail")) as stream:
        items = [("a", 0), ("a", 1), ("b", 0), ("a", 2)]
        records = [stream.records.insert({"id": i, "step": step}) for i, step in items]
        result = stream.send(records)
    assert sorted(seen) == [("a", 0), ("b", 0)]
    assert [record.position for record in result.not_done] == [
        int(records[at]["dynamodb"]["SequenceNumber"]) for at in (1, 3)
    ]
    (error,) = result.errors
    assert isinstance(error, Unmatched)
    assert isinstance(error, NonRetryable)
    assert str(error) == "no route takes this record, and the App has unmatched='fail'"
    (outcome,) = [o for o in result.outcomes if o.status is Status.FAILED]
    assert outcome.route is None
    assert "no route failed for record 900000000000000000002" in caplog.text


def test_fail_under_the_policy_stop_starts_nothing_above() -> None:
    result = send("ours-1", "a", "ours-2", unmatched="fail", failure_policy="stop")
    assert result.handled_by == ["ship"]
    assert len(result.not_done) == 2


def test_a_record_whose_filter_could_not_tell_fails_for_that_reason_only() -> None:
    router = Router()
    router.on_insert(F.new.n == 1, name="ship")(nothing)
    with TestClient(App(router, unmatched="fail")) as stream:
        record = stream.records.insert({"id": "a", "n": 1})
        record["dynamodb"]["NewImage"]["n"] = {"N": "x"}
        result = stream.send(record)
    assert [outcome.route for outcome in result.outcomes] == ["ship"]


def test_an_unmatched_record_whose_key_cannot_be_read_lets_nothing_above_it_start() -> None:
    router = Router()
    router.on_insert(F.new.id.startswith("ours"), name="ship")(nothing)
    for unmatched, handled in (("ignore", ["ship"]), ("fail", [])):
        app = App(router, unmatched=unmatched)  # type: ignore[arg-type]  # a str, for the loop
        with TestClient(app) as stream:
            spoiled = stream.records.insert({"id": "a"})
            spoiled["dynamodb"]["Keys"]["id"] = {"N": "x"}
            result = stream.send([spoiled, stream.records.insert({"id": "ours"})])
        assert result.handled_by == handled
        assert [type(error) for error in result.errors] == [MalformedRecord] * (not handled)


@pytest.mark.parametrize(("value", "shown"), [("drop", "'drop'"), (None, "NoneType")])
def test_an_unknown_choice_is_refused(value: Any, shown: str) -> None:
    assert refusal(lambda: App(unmatched=value)) == (
        f"unmatched={shown} is unknown: write 'ignore', 'warn' or 'fail'"
    )


def test_invoke_shows_an_unmatched_record_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    project, build = Project(tmp_path), RecordBuilder()
    project.write("shop.py", "from dynaflow import App\napp = App(unmatched='fail')\n")
    event = build.event(build.insert({"id": "a"}))
    result = project.run("invoke", "shop:app", project.write_event(event), "--json")
    assert result.exit_code == 1
    (entry,) = json.loads(result.stdout)["records"]
    assert entry["status"] == "failed"
    assert [call["error"] for call in entry["calls"]] == ["Unmatched"]
