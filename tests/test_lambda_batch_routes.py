"""Batch routes in AWS's own runtime client."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.lambda_function import LambdaFunction, answered, failed, numbers, orders

pytest.importorskip("awslambdaric", reason="AWS publishes its runtime client for Linux only")


def test_what_a_batch_route_did_not_do_is_reported_and_the_process_lives(tmp_path: Path) -> None:
    good = orders(("a", "ok"), ("b", "ok"), ("c", "ok"), ("d", "ok"), ("e", "ok"))
    refused = orders(("a", "ok"), ("b", "refuse"), ("c", "ok"), ("b", "ok"))
    own_fails = orders(("a", "ok"), ("b", "ok"), ("b", "raise"), ("c", "ok"))
    leaves = orders(("a", "ok"), ("b", "exit"))
    with LambdaFunction("batch_routes", tmp_path) as function:
        answers = [function.invoke(event) for event in (good, refused, own_fails, leaves, good)]
        effects = [line for line in function.effects() if line.startswith("bulk")]

    assert [answered(answer) for answer in answers] == [
        failed(),
        failed(numbers(refused)[1]),
        failed(numbers(own_fails)[2]),
        failed(numbers(leaves)[0]),
        failed(),
    ]
    assert effects[:2] == ["bulk a b c d", "bulk e"]
    assert effects[3] == "bulk a b c"
    assert len({answer.pid for answer in answers}) == 1


def test_work_longer_than_the_deadline_advances_with_batch_routes_at_every_delivery(
    tmp_path: Path,
) -> None:
    event = orders(*[("a", "slow")] * 12)
    with LambdaFunction("batch_routes", tmp_path) as function:
        left, deliveries = event["Records"], 0
        while left:
            (failure, *_) = answered(function.invoke({"Records": left}, timeout=1.6))[
                "batchItemFailures"
            ] or [{}]
            lowest = failure.get("itemIdentifier")
            at = next(
                (n for n, r in enumerate(left) if r["dynamodb"]["SequenceNumber"] == lowest),
                len(left),
            )
            assert at > 0, "no progress"
            left, deliveries = left[at:], deliveries + 1
    assert deliveries > 1


def test_a_batch_call_that_hangs_is_answered_for_in_time(tmp_path: Path) -> None:
    event = orders(("a", "ok"), ("b", "ok"), ("c", "ok"), ("d", "ok"), ("e", "hang"))
    with LambdaFunction("batch_routes", tmp_path) as function:
        answer = answered(function.invoke(event, timeout=2))
    assert answer == failed(numbers(event)[4])
