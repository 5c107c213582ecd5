"""The demo, and the ledger that judges it."""

from __future__ import annotations

import logging
import os
import re
from itertools import pairwise
from pathlib import Path

import pytest

from dynaflow.demo.emulator import emulator
from dynaflow.demo.ledger import Effect, Write, judge
from dynaflow.demo.traffic import steps
from tests.support.command_line import Project, run_python

WRITES = [Write("a", version, "seen") for version in (1, 2, 3)]


def seen(*versions: int, item: str = "a") -> list[Effect]:
    return [Effect(item, version, "seen") for version in versions]


def test_the_demo_delivers_every_write_in_order_and_repeats_what_failed(tmp_path: Path) -> None:
    result = Project(tmp_path).run("demo")
    assert result.exit_code == 0, result.output
    head, *lines, summary = result.stdout.splitlines()
    written = steps()
    assert head.split() == ["event", "item", "what", "changed", "handler", "outcome", "ms"]
    assert len(lines) == len(written) + 1
    assert re.fullmatch(
        rf"{len(written)} records, {len(lines)} handler calls, 1 retried, lost 0, "
        r"order kept for 10 items, \d+\.\d s",
        summary,
    )
    assert max(map(len, [*lines, summary])) <= 80
    tries = [line for line in lines if "A-104" in line and " ship " in line]
    assert ["failed: ConnectionError" in line for line in tries] == [True, False]
    assert "done on retry" in tries[1]
    assert "Traceback" not in result.output


def test_a_delivery_that_loses_an_effect_exits_with_1_and_says_which() -> None:
    process = run_python("""
        import sys
        from dynaflow.demo import shop

        shop.services.archive = lambda document, order, version: None
        sys.argv[1:] = ["demo", "--patience", "0.3"]
        from dynaflow.cli import main
        main()
    """)
    lost = [step.write for step in steps() if step.write.due in ("invoice", "order")]
    assert process.returncode == 1
    assert ", lost 0, " not in process.stdout
    for write in lost:
        assert f"lost: {write.item} version {write.version} ({write.due})" in process.stdout


def test_the_emulator_leaves_environment_and_logging_as_they_were(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    monkeypatch.setenv("NO_PROXY", "internal.example")
    before, level = dict(os.environ), logging.getLogger("werkzeug").level
    with emulator() as url:
        assert url.startswith("http://127.0.0.1:")
        assert "AWS_PROFILE" not in os.environ
    assert dict(os.environ) == before
    assert logging.getLogger("werkzeug").level == level


def test_traffic_writes_each_orders_versions_in_order_and_mixes_the_orders() -> None:
    writes = [step.write for step in steps()]
    items = {write.item for write in writes}
    assert len(items) == 10
    for item in items:
        versions = [write.version for write in writes if write.item == item]
        assert versions == list(range(1, len(versions) + 1))
    assert sum(a.item != b.item for a, b in pairwise(writes)) > len(writes) / 2
    assert steps() == steps()


def test_every_effect_once_and_in_order_is_fine() -> None:
    verdict = judge(WRITES, seen(1, 2, 3))
    assert verdict.is_ok
    assert verdict.in_order == ("a",)


@pytest.mark.parametrize(
    "versions",
    [(1, 1, 2, 3), (1, 2, 1, 2, 3), (1, 2, 3, 3), (1, 2, 3, 1, 2, 3), (1, 2, 3, 2, 3)],
)
def test_a_stretch_may_come_again(versions: tuple[int, ...]) -> None:
    assert judge(WRITES, seen(*versions)).is_ok


@pytest.mark.parametrize(
    "versions", [(2, 1, 3), (1, 3, 2), (3, 2, 1), (1, 2, 3, 2), (1, 2, 3, 1), (1, 2, 1, 3, 2, 3)]
)
def test_versions_in_another_order_are_found(versions: tuple[int, ...]) -> None:
    verdict = judge(WRITES, seen(*versions))
    assert verdict.out_of_order == ("a",)
    assert verdict.in_order == ()
    assert verdict.lost == ()
    assert not verdict.is_ok


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_write_without_its_effect_is_lost_and_not_out_of_order(missing: int) -> None:
    verdict = judge(WRITES, seen(*{1, 2, 3} - {missing}))
    assert verdict.lost == (Write("a", missing, "seen"),)
    assert verdict.out_of_order == ()
    assert not verdict.is_ok


def test_another_effect_does_not_stand_in_for_the_one_that_is_due() -> None:
    assert judge([Write("a", 1, "mail")], [Effect("a", 1, "parcel")]).lost


def test_items_are_judged_apart() -> None:
    writes = [*WRITES, Write("b", 1, "seen"), Write("b", 2, "seen")]
    effects = [*seen(1), *seen(2, item="b"), *seen(2), *seen(1, item="b"), *seen(3)]
    verdict = judge(writes, effects)
    assert verdict.in_order == ("a",)
    assert verdict.out_of_order == ("b",)
