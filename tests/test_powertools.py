"""AWS Lambda Powertools' decorators stacked on the Lambda handler, in AWS's own runtime client."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from dynaflow import App, Router
from tests.support.lambda_function import LambdaFunction, answered, failed, numbers, orders

pytest.importorskip("awslambdaric", reason="AWS publishes its runtime client for Linux only")


def json_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("order", ["as written", "reversed"])
def test_decorators_stack_in_either_order(tmp_path: Path, order: str) -> None:
    good = orders(("a", "ok"), ("b", "ok"))
    partly = orders(("a", "ok"), ("b", "raise"), ("c", "ok"), sync=True)
    env = {"REPORT": "yes", "ORDER": order, "AWS_LAMBDA_LOG_FORMAT": "JSON"}
    with LambdaFunction("with_powertools", tmp_path, **env) as function:
        answers = [function.invoke(event) for event in (good, partly, good)]

    assert [answered(a) for a in answers] == [failed(), failed(numbers(partly)[1]), failed()]
    assert len({answer.pid for answer in answers}) == 1

    lines = json_lines(function.stdout)
    logged = [(line.get("message"), line.get("function_request_id")) for line in lines]
    assert [line for line in logged if line[1]] == (
        [("reserved", "request-1")] * 2
        + [("shipped", "request-2")] * 3
        + [("reserved", "request-3")] * 2
    )
    metrics = [line for line in lines if "_aws" in line]
    assert [sum(line.get("reserved", [])) for line in metrics] == [2.0, 0.0, 2.0]
    assert [sum(line.get("shipped", [])) for line in metrics] == [0.0, 3.0, 0.0]


def test_a_raise_passes_through_the_decorators(tmp_path: Path) -> None:
    with LambdaFunction("with_powertools", tmp_path) as function:
        raised = function.invoke(orders(("a", "ok"), ("b", "raise")))
        again = function.invoke(orders(("a", "ok")))

    assert raised.error_type == "RecordsFailed"
    assert answered(again) == failed()
    assert again.pid == raised.pid


def test_the_handler_is_a_function_with_lambdas_two_parameters() -> None:
    handler = App(Router()).lambda_handler(report_batch_item_failures=True)

    assert inspect.isfunction(handler)
    assert not inspect.iscoroutinefunction(handler)
    assert list(inspect.signature(handler).parameters) == ["event", "context"]
