"""The recipes of docs/observability.md do what the text says; tests/test_docs.py runs the rest."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from tests.support.command_line import run_python
from tests.support.documents import Document

_DOCUMENT = Document("docs/observability.md")


def run_recipe(directory: Path, name: str, script: str) -> str:
    """Save a file of the document, run a script beside it and return what was printed."""
    (directory / name).write_text(_DOCUMENT.files[name], encoding="utf-8")
    begin = f"import sys\nsys.path.insert(0, {str(directory)!r})\n"
    ran = run_python(begin + textwrap.dedent(script))
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def lines_of(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def test_the_metrics_of_the_table_are_those_that_are_printed(tmp_path: Path) -> None:
    script = """
        from dynaflow.testing import TestClient
        from metrics import app
        with TestClient(app) as stream:
            stream.insert({"id": "A-1"})
    """
    printed = set()
    for line in lines_of(run_recipe(tmp_path, "metrics.py", script)):
        for directive in line["_aws"]["CloudWatchMetrics"]:
            assert directive["Namespace"] == "shop"
            assert "service" in directive["Dimensions"][0]
            printed |= {metric["Name"] for metric in directive["Metrics"]}
    names = " ".join(_DOCUMENT.column("Metric")).replace("`", "").split()
    assert printed == set(names)


def test_powertools_logger_has_the_keys_of_each_call(tmp_path: Path) -> None:
    script = """
        from types import SimpleNamespace
        from dynaflow.testing import RecordBuilder
        from with_powertools import lambda_handler
        build = RecordBuilder(table="orders")
        records = [build.insert({"id": str(n)}) for n in range(40)]
        context = SimpleNamespace(
            function_name="f", memory_limit_in_mb="128", invoked_function_arn="arn",
            aws_request_id="request-1", get_remaining_time_in_millis=lambda: 30_000,
        )
        for _ in range(2):
            assert lambda_handler(build.event(*records), context) == {"batchItemFailures": []}
    """
    lines = lines_of(run_recipe(tmp_path, "with_powertools.py", script))
    logged = [line for line in lines if line.get("message") == "welcome"]
    numbers = [line["sequence_number"] for line in logged]
    assert len(numbers) == 80
    assert len(set(numbers)) == 40
    assert {line["route"] for line in logged} == {"welcome"}
    assert {line["function_request_id"] for line in logged} == {"request-1"}
    counted = [line["Handled"] for line in lines if "_aws" in line]
    assert sum(map(sum, counted)) == 80


def test_powertools_formats_the_lines_of_dynaflow_too(tmp_path: Path) -> None:
    script = """
        from dynaflow.testing import TestClient
        from with_powertools import app
        with TestClient(app) as stream:
            broken = stream.records.insert({"id": "A-1"})
            broken["dynamodb"]["NewImage"]["id"] = {"N": "A-1"}
            stream.send(broken)
    """
    output = run_recipe(tmp_path, "with_powertools.py", script)
    lines = [line for line in lines_of(output) if line.get("level") == "ERROR"]
    assert [line["exception_name"] for line in lines] == ["MalformedValue"]
    assert lines[0]["message"].startswith("welcome failed for record")


def test_structlog_has_the_context_of_each_call(tmp_path: Path) -> None:
    script = """
        from dynaflow.testing import TestClient
        from with_structlog import app
        with TestClient(app) as stream:
            stream.send([stream.records.insert({"id": str(n)}) for n in range(40)])
    """
    lines = lines_of(run_recipe(tmp_path, "with_structlog.py", script))
    assert len({line["sequence_number"] for line in lines}) == len(lines) == 40
    assert {(line["event"], line["route"]) for line in lines} == {("welcome", "welcome")}


def test_powertools_tracer_nests_the_subsegments_of_each_call(tmp_path: Path) -> None:
    script = """
        import os
        os.environ["AWS_XRAY_CONTEXT_MISSING"] = "RUNTIME_ERROR"
        from aws_xray_sdk.core import xray_recorder
        os.environ["LAMBDA_TASK_ROOT"] = "/"  # without it Powertools traces nothing
        class Emitter:
            def send_entity(self, entity):
                for one in entity if isinstance(entity, list) else [entity]:
                    print(one.serialize())
            def set_daemon_address(self, address): ...
        xray_recorder.configure(emitter=Emitter(), sampling=False, service="orders")
        from dynaflow.testing import TestClient
        from with_tracer import app
        with xray_recorder.in_segment("invocation"):
            with TestClient(app) as stream:
                result = stream.send([stream.records.insert({"id": str(n)}) for n in range(10)])
                assert result.errors == []
    """
    entities: dict[str, dict[str, Any]] = {}

    def collect(entity: dict[str, Any], parent: str | None) -> None:
        entities[entity["id"]] = {"parent_id": parent, **entity}
        for inner in entity.get("subsegments", ()):
            collect(inner, entity["id"])

    for line in lines_of(run_recipe(tmp_path, "with_tracer.py", script)):
        collect(line, None)
    calls = [entity for entity in entities.values() if entity["name"] == "## welcome"]
    greets = [entity for entity in entities.values() if entity["name"] == "greet"]
    assert len({call["annotations"]["sequence_number"] for call in calls}) == len(calls) == 10
    assert {entities[call["parent_id"]]["name"] for call in calls} == {"invocation"}
    assert {greet["parent_id"] for greet in greets} == {call["id"] for call in calls}
