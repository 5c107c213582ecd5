"""``dynaflow invoke``: an event through an App, and Lambda's answer."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from dynaflow.testing import RecordBuilder
from tests.support.command_line import Project, start

SHOP = """
    from contextlib import asynccontextmanager
    from dynaflow import App, F, Router

    router = Router()

    @asynccontextmanager
    async def lifespan(app):
        print("opened")
        yield
        print("closed")

    @router.on_insert(F.new.id == "bad")
    async def refuse(new):
        raise ValueError("no")

    @router.on_insert()
    def note(new):
        print("noted", new["id"])

    app = App(router, lifespan=lifespan)
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    project.write("shop.py", SHOP)
    return project


def event(*ids: str) -> dict[str, Any]:
    builder = RecordBuilder(table="orders")
    return builder.event(*(builder.insert({"id": name}) for name in ids))


def number(of: dict[str, Any], index: int) -> str:
    return str(of["Records"][index]["dynamodb"]["SequenceNumber"])


def test_a_good_event_exits_with_0_and_shows_each_call_and_the_answer(project: Project) -> None:
    result = project.run("invoke", "shop:app", project.write_event(event("a", "b")))
    assert result.exit_code == 0
    head, first, second, answer = result.stdout.splitlines()
    assert head.split() == ["event", "sequence", "number", "route", "outcome", "ms"]
    assert first.split()[:4] == ["INSERT", number(event("a"), 0), "shop.note", "done"]
    assert second.split()[2:4] == ["shop.note", "done"]
    assert json.loads(answer) == {"batchItemFailures": []}


def test_what_handlers_print_goes_to_stderr_and_the_lifespan_is_closed(project: Project) -> None:
    result = project.run("invoke", "shop:app", project.write_event(event("a")))
    assert result.stderr == "opened\nnoted a\nclosed\n"


def test_a_failure_exits_with_1_and_is_in_the_answer(project: Project) -> None:
    batch = event("a", "bad", "c")
    result = project.run("invoke", "shop:app", project.write_event(batch), "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["answer"] == {"batchItemFailures": [{"itemIdentifier": number(batch, 1)}]}
    assert [record["status"] for record in report["records"]] == ["done", "failed", "done"]
    calls = {
        call["route"]: (call["status"], call["error"]) for call in report["records"][1]["calls"]
    }
    assert calls == {"shop.refuse": ("failed", "ValueError"), "shop.note": ("done", None)}


def test_a_failure_is_logged_to_stderr_with_its_traceback(project: Project) -> None:
    process = start("invoke", "shop:app", project.write_event(event("bad")))
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert err.count("shop.refuse failed for record") == 1
    assert "shop.py" in err
    assert "ValueError: no" in err
    assert "Traceback" not in out


def test_logging_that_the_user_has_set_up_is_left_alone(project: Project) -> None:
    project.write(
        "logged.py",
        """
        import logging, sys
        logging.basicConfig(stream=sys.stdout, format="mine: %(message)s")
        from shop import app
        """,
    )
    process = start("invoke", "logged:app", project.write_event(event("bad")))
    _, err = process.communicate(timeout=30)
    assert err.count("shop.refuse failed for record") == 1
    assert "mine: shop.refuse failed" in err


def test_the_table_names_the_error_of_a_failed_call(project: Project) -> None:
    result = project.run("invoke", "shop:app", project.write_event(event("bad")))
    assert "shop.refuse  failed: ValueError" in result.stdout


def test_a_record_that_no_route_takes_is_done_and_shown(project: Project) -> None:
    builder = RecordBuilder()
    path = project.write_event(builder.event(builder.remove({"id": "a"})))
    result = project.run("invoke", "shop:app", path)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[1].split()[2:] == ["none", "matches", "done"]


def test_an_undecodable_record_holds_back_what_is_above_it(project: Project) -> None:
    batch = event("a", "b", "c")
    del batch["Records"][1]["dynamodb"]["Keys"]
    result = project.run("invoke", "shop:app", project.write_event(batch), "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert [record["status"] for record in report["records"]] == ["done", "failed", "not done"]
    assert report["records"][1]["calls"][0]["error"] == "MalformedRecord"
    assert report["answer"]["batchItemFailures"][0]["itemIdentifier"] == number(batch, 1)
    assert "unreadable" in project.run("invoke", "shop:app", "event.json").stdout


def test_an_event_is_read_from_stdin(project: Project) -> None:
    result = project.run("invoke", "shop:app", "-", "--json", stdin=json.dumps(event("a")))
    assert result.exit_code == 0
    assert json.loads(result.stdout)["records"][0]["calls"][0]["route"] == "shop.note"


def test_an_event_without_records_is_answered(project: Project) -> None:
    result = project.run("invoke", "shop:app", project.write_event({"Records": []}), "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"records": [], "answer": {"batchItemFailures": []}}


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (b"", "stdin is not JSON"),
        (b"{'Records': []}", "stdin is not JSON"),
        (b"\xff\xfe\xfd", "stdin is not JSON"),
        (b"[" * 100_000, "stdin is not JSON"),
        (b"{}", "the event has no 'Records'"),
        (b'{"Records": [{"eventSource": "aws:sqs"}]}', "'aws:sqs'"),
        (b'{"Records": [{"eventSource": "aws:dynamodb"}]}', "SequenceNumber"),
    ],
)
def test_what_is_no_event_is_a_usage_error_of_one_line(
    project: Project, text: bytes, fact: str
) -> None:
    result = project.run("invoke", "shop:app", "-", stdin=text)
    assert result.exit_code == 2
    assert fact in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("path", "fact"), [("nowhere.json", "No such file"), (".", "Is a directory")]
)
def test_a_file_that_cannot_be_read_is_a_usage_error(
    project: Project, path: str, fact: str
) -> None:
    result = project.run("invoke", "shop:app", path)
    assert result.exit_code == 2
    assert f"{path} cannot be read: {fact}" in result.stderr


def test_ctrl_c_exits_with_130_and_no_traceback(project: Project) -> None:
    project.write(
        "slow.py",
        """
        import asyncio
        from dynaflow import Router

        router = Router()

        @router.on_insert()
        async def hang(new):
            # Not from here: the signal is to come while the loop waits.
            asyncio.get_running_loop().call_later(0.1, print, "hanging")
            await asyncio.sleep(60)
        """,
    )
    process = start("invoke", "slow:router", project.write_event(event("a")))
    assert process.stderr is not None
    assert process.stderr.readline() == "hanging\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
