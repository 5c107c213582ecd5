"""What lives as long as the process, in AWS's own runtime client: imports, loop, lifespan."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.lambda_function import LambdaFunction, answered, failed, orders

pytest.importorskip("awslambdaric", reason="AWS publishes its runtime client for Linux only")


def test_the_lifespan_opens_once_and_before_the_first_event(tmp_path: Path) -> None:
    with LambdaFunction("with_lifespan", tmp_path) as function:
        assert function.initialize() is None
        assert function.effects() == ["opened"]

        answers = [function.invoke(orders((name, ""), (name, ""))) for name in "abc"]
        assert [answered(answer) for answer in answers] == [failed()] * 3

    sent = [f"sent {name}" for name in "aabbcc"]
    assert function.effects() == ["opened", *sent]


def test_under_snapstart_the_lifespan_opens_after_the_restore(tmp_path: Path) -> None:
    env = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
    with LambdaFunction("with_lifespan", tmp_path, **env) as function:
        assert answered(function.invoke(orders(("a", "")))) == failed()

    assert function.effects() == ["snapshot", "restored", "opened", "sent a"]


def test_a_lifespan_that_cannot_open_shows_at_init(tmp_path: Path) -> None:
    with LambdaFunction("with_lifespan", tmp_path, LIFESPAN="fails") as function:
        failure = function.initialize()

    assert failure is not None
    assert failure.error_type == "ConnectionError"
    assert function.effects() == ["opened"]


def test_a_lifespan_that_ends_by_itself_is_said_once_and_opened_again(tmp_path: Path) -> None:
    with LambdaFunction("with_lifespan", tmp_path) as function:
        answers = [function.invoke(orders((name, ""))) for name in ("a", "poison", "b", "c")]

    first, poisoned, told, last = answers
    assert answered(first) == answered(poisoned) == answered(last) == failed()
    assert told.error_type == "ExceptionGroup"
    assert function.effects() == ["opened", "sent a", "opened", "sent c"]
    assert last.pid == first.pid


def test_a_function_of_sync_handlers_loads_no_loop(tmp_path: Path) -> None:
    with LambdaFunction("sync_only", tmp_path) as function:
        for name in "ab":
            assert answered(function.invoke(orders((name, "")), timeout=5.0)) == failed()

    assert function.effects() == ["done a", "imported []", "done b", "imported []"]


def test_a_mistake_in_the_app_shows_at_init(tmp_path: Path) -> None:
    with LambdaFunction("mistaken", tmp_path) as function:
        failure = function.initialize()

    assert failure is not None
    assert failure.error_type == "RegistrationError"
    assert "announce" in failure.payload["errorMessage"]
