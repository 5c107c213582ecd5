"""How the command line ends: exit codes, missing extras, a reader that goes away."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import dynaflow
from dynaflow.cli._exit import exit_code_of
from dynaflow.errors import (
    DynaflowError,
    EventError,
    ExtraMissing,
    RecordsFailed,
    RegistrationError,
    SourceError,
    StoreRefused,
    StreamRefused,
    TargetError,
    ThreadsExhausted,
)
from tests.support.command_line import Project, run_python, start


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    project.write("shop.py", "from dynaflow import App\n\napp = App()\n")
    return project


def test_an_error_of_dynaflow_itself_keeps_its_traceback(project: Project) -> None:
    project.write(
        "odd.py",
        """
        from dynaflow import App

        class Odd(App):
            routes = property(lambda self: 1 / 0)

        app = Odd()
        """,
    )
    result = project.run("routes", "odd:app")
    assert isinstance(result.exception, ZeroDivisionError)


def test_python_m_dynaflow_prints_the_version() -> None:
    process = start("--version")
    out, err = process.communicate(timeout=30)
    assert (out, err, process.returncode) == (f"dynaflow {dynaflow.__version__}\n", "", 0)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_reader_that_goes_away_ends_the_command_quietly(options: tuple[str, ...]) -> None:
    process = start("routes", "dynaflow.demo.shop:app", *options)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(30) == 141
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stderr.close()


def test_ctrl_c_while_the_command_line_is_still_imported_exits_with_130_and_no_traceback() -> None:
    result = run_python(
        """
        import sys

        class Interrupted:
            def find_spec(self, name, *_):
                if name == "typer":
                    raise KeyboardInterrupt

        from dynaflow.cli import main

        sys.meta_path.insert(0, Interrupted())
        main()
        """
    )
    assert (result.returncode, result.stderr) == (130, "")


@pytest.mark.parametrize(
    ("closed", "code", "told"),
    [("stdin", 2, "stdin is not JSON"), ("stdout", 2, "stdin is not JSON"), ("stderr", 2, "")],
)
def test_a_stream_that_is_closed_is_taken_for_an_empty_one(
    closed: str, code: int, told: str
) -> None:
    result = run_python(
        f"""
        import sys
        from dynaflow.cli import main

        sys.{closed} = None
        sys.argv = ["dynaflow", "explain", "dynaflow.demo.shop:app", "-"]
        main()
        """
    )
    assert result.returncode == code
    assert told in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_without_the_cli_extra_there_is_one_line_with_the_command_that_installs_it(
    package: str,
) -> None:
    process = run_python(f"""
        import sys
        sys.modules[{package!r}] = None
        from dynaflow.cli import main
        main()
    """)
    assert process.returncode == 3
    assert process.stdout == ""
    assert process.stderr == (
        f"dynaflow: {package} is not installed. Install it with: pip install 'dynaflow[cli]'\n"
    )


@pytest.mark.parametrize(
    ("module", "arguments", "remedy"),
    [
        (
            "aioboto3",
            ["run", "shop:app", "--table", "t", "--store", "memory"],
            "aioboto3 is not installed. Install it with: pip install 'dynaflow[aws]'",
        ),
        (
            "moto.moto_server.werkzeug_app",
            ["demo"],
            "moto is not installed. Install it with: pip install 'dynaflow[demo]'",
        ),
    ],
)
def test_a_command_without_its_extra_says_how_to_install_it(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
    arguments: list[str],
    remedy: str,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    result = project.run(*arguments)
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1] == f"dynaflow: {remedy}"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RecordsFailed("…"), 1),
        (ThreadsExhausted("…"), 1),
        (RegistrationError("…"), 2),
        (EventError("…"), 2),
        (StoreRefused("…"), 2),
        (TargetError("…", usage=True), 2),
        (TargetError("…"), 3),
        (ExtraMissing("moto", "demo"), 3),
        (StreamRefused("…"), 4),
        (SourceError("…"), 4),
    ],
)
def test_every_kind_of_error_has_its_exit_code(error: DynaflowError, code: int) -> None:
    assert exit_code_of(error) == code


def test_importing_dynaflow_does_not_import_its_command_line() -> None:
    process = run_python("""
        import sys, dynaflow
        print([name for name in sys.modules if name.startswith(("dynaflow.cli", "typer", "rich"))])
    """)
    assert process.stdout == "[]\n"
