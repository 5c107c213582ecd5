"""``dynaflow run``: a stream, a store, and an orderly end."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.support.command_line import Project, start
from tests.support.tables import Table

SHOP = """
    import asyncio
    from dynaflow import Router

    router = Router()

    @router.on_insert()
    async def handle(new):
        if new["id"] == "bad":
            raise ValueError("no")
        print("handled", new["id"], flush=True)
        if new["id"] == "slow":
            await asyncio.sleep(60)
"""


@pytest.fixture
def project(aws_project: Project) -> Project:
    aws_project.write("shop.py", SHOP)
    return aws_project


def test_once_gives_up_a_record_that_keeps_failing_and_exits_with_1(
    project: Project, table: Table
) -> None:
    table.put("a", "bad")
    result = project.run("run", "shop:router", *table.options, "--once", "--store", "memory")
    assert result.exit_code == 1
    assert "1 given up" in result.stderr
    assert result.stdout == "handled a\n"


def read_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def test_sigterm_ends_in_order_and_the_next_run_goes_on_from_there(
    project: Project, table: Table
) -> None:
    table.put("a")
    process = start("run", "shop:router", *table.options)
    assert read_line(process) == "handled a\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "checkpoints of application 'default': sqlite:///dynaflow.sqlite" in err
    assert "1 records done" in err
    assert (project.directory / "dynaflow.sqlite").exists()

    table.put("b")
    process = start("run", "shop:router", *table.options)
    assert read_line(process) == "handled b\n"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_sigterm_cuts_off_calls_in_flight_when_their_grace_is_over(
    project: Project, table: Table
) -> None:
    table.put("slow")
    process = start("run", "shop:router", *table.options, "--grace", "0.1", "--store", "memory")
    assert read_line(process) == "handled slow\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "Exception in callback" not in err
    assert "0 records done" in err


def test_a_second_ctrl_c_does_not_wait_for_calls_in_flight(project: Project, table: Table) -> None:
    table.put("slow")
    process = start("run", "shop:router", *table.options, "--grace", "60", "--store", "memory")
    assert read_line(process) == "handled slow\n"
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        (("--table", "nowhere"), "ResourceNotFoundException"),
        (("--table", "arn:aws:s3:::bucket"), "neither a table's ARN nor a stream's"),
    ],
)
def test_what_aws_refuses_exits_with_4_and_one_line(
    project: Project, moto_url: str, options: tuple[str, ...], fact: str
) -> None:
    result = project.run("run", "shop:router", *options, "--endpoint-url", moto_url)
    assert result.exit_code == 4
    assert fact in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr


def test_no_region_and_no_credentials_exit_with_4_and_the_remedy(
    project: Project, monkeypatch: pytest.MonkeyPatch, moto_url: str
) -> None:
    arguments = ("run", "shop:router", "--table", "t", "--endpoint-url", moto_url)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    result = project.run(*arguments)
    assert result.exit_code == 4
    assert "AWS_ACCESS_KEY_ID" in result.stderr

    monkeypatch.delenv("AWS_REGION")
    result = project.run(*arguments)
    assert result.exit_code == 4
    assert "--region" in result.stderr


@pytest.mark.parametrize(
    ("options", "fact"),
    [
        (("--store", "redis://x"), "'redis://x' names no checkpoint store"),
        (("--application", ""), "--application is empty"),
        (("--from", "yesterday"), "yesterday"),
        (("--grace", "-1"), "--grace"),
    ],
)
def test_an_option_that_cannot_work_exits_with_2(
    project: Project, options: tuple[str, ...], fact: str
) -> None:
    result = project.run("run", "shop:router", "--table", "t", *options)
    assert result.exit_code == 2
    assert fact in result.stderr


def test_a_store_that_is_something_else_exits_with_2_and_is_left_alone(
    project: Project, table: Table
) -> None:
    path = project.write("notes.db", "these are no checkpoints" * 100)
    before = path.read_bytes()
    result = project.run("run", "shop:router", *table.options, "--store", "sqlite:///notes.db")
    assert result.exit_code == 2
    assert "notes.db" in result.stderr.splitlines()[-1]
    assert path.read_bytes() == before
