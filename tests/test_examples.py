"""The examples: found in a checkout and in the wheel, played by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hatchling.builders.wheel import WheelBuilder

from dynaflow.demo import examples
from dynaflow.demo.examples import EXAMPLES
from tests.support.command_line import Project, run_python
from tests.support.documents import ROOT

ALWAYS = ("README.md", "app.py", "demo.py")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


def test_every_folder_with_an_app_is_an_example_with_all_that_belongs_to_it() -> None:
    folders = {path.parent for path in (ROOT / "examples").glob("*/app.py")}
    assert set(EXAMPLES) == {folder.name for folder in folders}
    for folder in folders:
        assert {*ALWAYS, f"test_{folder.name}.py"} <= {path.name for path in folder.iterdir()}


def test_the_wheel_has_every_example_and_not_its_tests() -> None:
    builder: Any = WheelBuilder(str(ROOT))
    packed = {file.distribution_path for file in builder.recurse_included_files()}
    here = "dynaflow/demo/examples/"
    for name, folder in EXAMPLES.items():
        for path in folder.glob("*.py"):
            is_test = path.name.startswith("test_")
            assert (f"{here}{name}/{path.name}" in packed) is not is_test
    assert f"{here}__init__.py" in packed
    assert "dynaflow/app.py" in packed
    assert not [path for path in packed if not path.startswith("dynaflow/")]
    assert not [path for path in packed if path.startswith(here) and "test" in path]


def test_the_list_says_in_a_line_what_each_example_shows(project: Project) -> None:
    result = project.run("demo", "--list")
    head, *rows = map(str.rstrip, result.stdout.splitlines())
    assert head.split() == ["example", "shows"]
    assert [row.split()[0] for row in rows] == sorted(EXAMPLES)
    for row in rows:
        assert row.endswith(".")
        assert len(row) <= 110


def test_an_unknown_name_is_refused_with_the_names_that_there_are(project: Project) -> None:
    result = project.run("demo", "../orders")
    assert result.exit_code == 2
    assert f"no example '../orders'; there are: {', '.join(EXAMPLES)}" in result.stderr


def test_an_examples_app_is_found_by_its_module_name(project: Project) -> None:
    result = project.run("routes", f"{examples.__name__}.orders.app:app")
    assert result.exit_code == 0
    assert "notify" in result.stdout


def test_an_example_that_fails_its_own_check_exits_with_1() -> None:
    process = run_python("""
        import sys
        from dynaflow.demo.examples.orders import demo

        demo.mails = lambda written: {"nobody@example.org": ["what nobody sends"]}
        sys.argv[1:] = ["demo", "orders", "--patience", "0.1"]
        from dynaflow.cli import main
        main()
    """)
    assert process.returncode == 1, process.stderr
    assert "in order for each order: no" in process.stdout
    assert "Its app is" not in process.stderr
