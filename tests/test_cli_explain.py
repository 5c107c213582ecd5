"""``dynaflow explain``: why a record is, or is not, for each route."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from dynaflow.testing import RecordBuilder
from tests.support.command_line import Project, start

SHOP = """
    from dynaflow import App, F, Router, changed

    router = Router(table="orders")

    @router.on_modify(changed("status", to="paid"))
    def ship(new): print("shipped")

    @router.on_upsert((F.new.total > 100) & changed("status"), F.new.id.exists())
    def big(new): ...

    @router.on_remove(name="gone")
    def gone(old): ...

    def needs_note(record):
        return record.new["note"] == "x"

    strict = Router()

    @strict.on_upsert(needs_note)
    def note(new): ...

    app = App(router)
"""
ORDER = {"id": "A-1", "status": "open", "total": 20}
BUILD = RecordBuilder(table="orders")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    project.write("shop.py", SHOP)
    return project


def event(*raws: dict[str, Any]) -> dict[str, Any]:
    return BUILD.event(*raws)


def paid() -> dict[str, Any]:
    return BUILD.modify(ORDER, {**ORDER, "status": "paid"})


def test_each_route_has_a_line_that_says_why(project: Project) -> None:
    raw = paid()
    result = project.run("explain", "shop:app", project.write_event(event(raw)))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"MODIFY  orders  {raw['dynamodb']['SequenceNumber']}",
        "  shop.ship  runs     all its filters are true",
        "  shop.big   no       F.new.total > 100 is false: F.new.total is N",
        "    (F.new.total > 100) & changed('status')  false",
        "      F.new.total > 100                      false      F.new.total is N",
        "      changed('status')                      not asked",
        "    F.new.id.exists()                        not asked",
        "  gone       no       it takes REMOVE",
    ]
    assert result.stderr == ""


def test_every_record_of_an_event_is_explained(project: Project) -> None:
    raws = [BUILD.insert(ORDER), paid(), BUILD.remove(ORDER)]
    result = project.run("explain", "shop:app", project.write_event(event(*raws)))
    heads = [line for line in result.stdout.splitlines() if not line.startswith(" ")]
    assert [head.split()[0] for head in heads] == ["INSERT", "MODIFY", "REMOVE"]


def test_as_json_every_part_of_a_filter_says_what_it_found(project: Project) -> None:
    path = project.write_event(event(paid()))
    result = project.run("explain", "shop:app", path, "--json")
    (record,) = json.loads(result.stdout)
    assert record["eventName"] == "MODIFY"
    assert record["table"] == "orders"
    assert record["unreadable"] is None
    assert "keys" not in record
    ship, big, gone = record["routes"]
    assert (ship["verdict"], ship["cause"], ship["filters"]) == ("runs", None, [])
    assert (gone["verdict"], gone["cause"]) == ("not", "event")
    assert big["cause"] == "filter"
    assert big["filters"][0]["parts"] == [
        {
            "filter": "F.new.total > 100",
            "result": False,
            "found": "F.new.total is N",
            "error": None,
            "parts": [],
        },
        {
            "filter": "changed('status')",
            "result": None,
            "found": None,
            "error": None,
            "parts": [],
        },
    ]


def test_data_is_shown_only_on_request(project: Project) -> None:
    path = project.write_event(event(paid()))
    hidden = project.run("explain", "shop:app", path)
    assert "A-1" not in hidden.output
    shown = project.run("explain", "shop:app", path, "--show-data")
    assert '{"id": "A-1"}' in shown.stdout.splitlines()[0]
    assert "F.new.total is N 20" in shown.stdout
    (record,) = json.loads(project.run("explain", "shop:app", path, "--show-data", "--json").stdout)
    assert record["keys"] == {"id": "A-1"}


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_a_terminal_cannot_show_is_escaped(
    project: Project, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    path = project.write_event(event(BUILD.insert({"id": "\u2192", "total": 1})))
    with start("explain", "shop:app", path, "--show-data") as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert '{"id": "\\u2192"}' in out


def test_a_filter_that_cannot_tell_exits_with_1(project: Project) -> None:
    path = project.write_event(event(BUILD.insert(ORDER)))
    result = project.run("explain", "shop:strict", path)
    assert result.exit_code == 1
    assert "shop.note  unclear  needs_note raised KeyError" in result.stdout


def test_a_record_that_cannot_be_read_exits_with_1_and_the_others_are_explained(
    project: Project,
) -> None:
    batch = event(BUILD.insert(ORDER), paid())
    del batch["Records"][0]["dynamodb"]["Keys"]
    path = project.write_event(batch)
    for options in ((), ("--show-data",)):
        result = project.run("explain", "shop:app", path, *options)
        assert result.exit_code == 1
        first, second, third, *_ = result.stdout.splitlines()
        assert first.startswith("unreadable")
        assert second == "  dynamodb.Keys is missing or empty"
        assert third.startswith("MODIFY")
    report = json.loads(project.run("explain", "shop:app", path, "--json").stdout)
    assert report[0]["unreadable"] == "dynamodb.Keys is missing or empty"
    assert report[0]["routes"] == []


def test_nothing_runs_but_filters(project: Project) -> None:
    result = project.run("explain", "shop:app", project.write_event(event(paid())))
    assert "shipped" not in result.output


def test_an_event_without_records_says_so(project: Project) -> None:
    path = project.write_event({"Records": []})
    result = project.run("explain", "shop:app", path)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "the event has no records\n"
    assert json.loads(project.run("explain", "shop:app", path, "--json").stdout) == []


def test_an_app_without_routes_says_so(project: Project) -> None:
    project.write("empty.py", "from dynaflow import App\n\napp = App()\n")
    result = project.run("explain", "empty:app", project.write_event(event(paid())))
    assert result.stdout.splitlines()[1:] == ["  no routes"]


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (b"", "stdin is not JSON"),
        (b'{"Records": [{"eventSource": "aws:sqs"}]}', "'aws:sqs'"),
        (b'{"Records": [{"eventSource": "aws:dynamodb"}]}', "SequenceNumber"),
        (b'{"detail-type": "x"}', "the event has no 'Records'"),
    ],
)
def test_what_is_no_event_is_a_usage_error_of_one_line(
    project: Project, text: bytes, fact: str
) -> None:
    result = project.run("explain", "shop:app", "-", stdin=text)
    assert result.exit_code == 2
    assert fact in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_ten_thousand_records_are_explained_in_a_few_seconds(project: Project) -> None:
    path = project.write_event(event(*(paid() for _ in range(10_000))))
    started = time.monotonic()
    result = project.run("explain", "shop:app", path)
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 80_000
    assert time.monotonic() - started < 20  # seconds; it takes about 2


def test_a_reader_that_goes_away_ends_it_quietly(project: Project) -> None:
    path = project.write_event(event(*(paid() for _ in range(1000))))
    process = start("explain", "shop:app", path)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(30) == 141
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()
