"""The harness of the Lambda tests, and what AWS's runtime client does without dynaflow."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.runtime_api import EXIT_ERROR, TIMED_OUT, RuntimeApi

pytest.importorskip("awslambdaric", reason="AWS publishes its runtime client for Linux only")


def plain(directory: Path) -> RuntimeApi:
    return RuntimeApi("tests.lambda_apps.plain.handler", directory=directory)


def test_one_process_answers_all_invocations(tmp_path: Path) -> None:
    with plain(tmp_path) as function:
        answers = [function.invoke({"do": "answer", "n": n}, timeout=9.0) for n in range(3)]

    assert [answer.payload["event"]["n"] for answer in answers] == [0, 1, 2]
    assert all(8_000 < answer.payload["left"] <= 9_000 for answer in answers)
    assert len({answer.pid for answer in answers}) == 1


def test_an_exception_is_an_error_that_the_process_survives(tmp_path: Path) -> None:
    with plain(tmp_path) as function:
        raised = function.invoke({"do": "raise"})
        answered = function.invoke({"do": "answer"})

    assert raised.error_type == "ValueError"
    assert raised.payload["errorMessage"] == "no"
    assert "ValueError: no" in function.stdout
    assert answered.error_type is None
    assert answered.pid == raised.pid


@pytest.mark.parametrize("what", ["exit", "system exit", "cancel"])
def test_what_is_no_exception_ends_the_process(tmp_path: Path, what: str) -> None:
    with plain(tmp_path) as function:
        died = function.invoke({"do": what})
        answered = function.invoke({"do": "answer"})

    assert died.error_type == EXIT_ERROR
    assert answered.error_type is None
    assert answered.pid != died.pid


def test_the_platform_ends_a_process_at_its_deadline(tmp_path: Path) -> None:
    with plain(tmp_path) as function:
        hung = function.invoke({"do": "hang"}, timeout=0.2)
        answered = function.invoke({"do": "answer"})

    assert hung.error_type == TIMED_OUT
    assert hung.seconds == pytest.approx(0.2, abs=0.2)
    assert answered.pid != hung.pid


def test_a_coroutine_is_not_an_answer(tmp_path: Path) -> None:
    with plain(tmp_path) as function:
        assert function.invoke({"do": "coroutine"}).error_type == "Runtime.MarshalError"


def test_a_module_that_cannot_be_imported_fails_at_init(tmp_path: Path) -> None:
    with RuntimeApi("tests.lambda_apps.missing.handler", directory=tmp_path) as function:
        failed = function.invoke({"do": "answer"})

    assert failed.error_type == "Runtime.ImportModuleError"
