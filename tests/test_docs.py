"""What the documents say is true: snippets run, transcripts are what is seen, links lead somewhere.

A Python block that begins with the name of a file is that file; the other ones of a document are
run in order, as one script. A console block is a transcript: each command is run, and what is shown
below it must be what it prints. ``...`` leaves out lines, ``^C`` is the moment of that signal. A
diff is the difference of two of the document's files.
"""

from __future__ import annotations

import ast
import difflib
import inspect
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
import typer.main
from botocore.validate import ParamValidator

import dynaflow
from dynaflow import errors, filters
from dynaflow.cli._commands import commands
from dynaflow.cli._exit import ExitCode
from dynaflow.routing import RouteOptions
from dynaflow.testing import EventSourceMapping
from tests.support.command_line import Project
from tests.support.documents import DOCUMENTS, ROOT, Command, Document

README = Document("README.md")
TUTORIAL = Document("docs/quickstart.md")
MESSAGES = Document("docs/reference/errors.md")
COMMAND_LINE = Document("docs/command-line.md")

_REGION = "eu-west-3"  # one that no other test uses: moto keeps all tables in one process
_INSTALL = "python3 -m venv .venv && .venv/bin/pip install"

# Shell lines that are not run here, and why. Any other text of them is an error.
_NOT_RUN = {
    f"{_INSTALL} -q '.[demo]' && .venv/bin/dynaflow demo": "installs; .ci/run takes it from here",
    f"{_INSTALL} -q -e '.[test]' && .venv/bin/pytest -q": "installs; .ci/run takes it from here",
    "uv run --extra demo dynaflow demo": "installs, with a tool that may not be there",
    "uv run --extra test pytest -q": "installs, with a tool that may not be there",
    f"{_INSTALL} '../dynaflow[demo]' pytest && . .venv/bin/activate": "installs",
    ". .venv/bin/activate && moto_server -p 4567": "the tests have a moto of their own",
    "export AWS_ENDPOINT_URL_DYNAMODB=http://127.0.0.1:4567 AWS_REGION=eu-north-1": "as above",
    "export AWS_DEFAULT_REGION=eu-north-1 AWS_ACCESS_KEY_ID=nobody AWS_SECRET_ACCESS_KEY=nothing": (
        "as above"
    ),
}

# Those of these pages deploy, or ask AWS or PyPI. What they deploy, build and run is in
# tests/test_deploy_*.py, tests/test_cli_recover.py and tests/test_package.py.
_DEPLOYS = (
    *("examples/deploy/README.md", "docs/lambda.md", "docs/deploy.md", "docs/dead-letters.md"),
    *("docs/command-line.md", "docs/package.md"),
)
_DEPLOYING = re.compile(
    r"(examples/deploy/build\.sh|python examples/deploy/given_up\.py|"
    r"sam deploy|cdk deploy|terraform apply|aws|docker|curl|dynaflow recover|dynaflow dead-letters|"
    r"dynaflow deploy-config .* --(?:check|output)|dynaflow package|pip wheel|uv export) .+"
)

# Files that no command or script of their page uses, because another test saves and runs them.
_RUN_ELSEWHERE = {
    "docs/observability.md": "tests/test_observability_doc.py, which looks at what they print",
}
_LANGUAGES = ("console", "diff", "json", "python", "sh", "yaml", "")
_DRAWINGS = ("docs/architecture.md", "docs/ordering-and-failures.md")

_TOOLS = {
    "dynaflow": ("-m", "dynaflow"),
    # The plugin is loaded by itself only where dynaflow is installed.
    "pytest": ("-m", "pytest", "-p", "dynaflow.pytest_plugin", "-p", "no:cacheprovider"),
    "python": (),
}


class Desk:
    """A reader's directory, with what the document tells him to save.

    Args:
        document: what he reads.
        directory: where he is.
    """

    def __init__(self, document: Document, directory: Path) -> None:
        self._document = document
        self._directory = directory
        self._project = Project(directory)
        if document.path.startswith("examples/"):  # these speak from the top of the repository
            shutil.copytree(ROOT / "examples", directory / "examples")
        for name, text in document.files.items():
            (directory / name).write_text(text, encoding="utf-8")

    def follow(self, command: Command) -> None:
        """Run a command, and check what it prints."""
        if "--table" in command.words and "table.py" not in self._document.files:
            self.run_python(TUTORIAL.files["table.py"], name="table.py")
        if "^C" in command.shown:
            self._follow_until_interrupted(command)
        else:
            check(command.shown, self._run(command.words), command.words)

    def run_python(self, text: str, *, name: str) -> None:
        """Run Python code as a script of this name."""
        (self._directory / name).write_text(text, encoding="utf-8")
        self._run(f"python {name}")

    def _run(self, words: str) -> list[str]:
        tool, *arguments = shlex.split(words)
        if tool == "dynaflow":
            result = self._project.run(*arguments)
            assert result.exit_code == 0, f"{words}\n{result.output}"
            # What is printed while handlers run comes first; the runner's own mixture is wrong.
            return (result.stderr + result.stdout).splitlines()
        with self._started(words) as process:
            output, _ = process.communicate(timeout=30)
        assert process.returncode == 0, f"{words}\n{output}"
        return list(output.splitlines())

    def _follow_until_interrupted(self, command: Command) -> None:
        at = command.shown.index("^C")
        before, after = command.shown[:at], command.shown[at + 1 :]
        with self._started(command.words) as process:
            assert process.stdout is not None
            output: list[str] = []
            while not shows(before, output):
                line = process.stdout.readline()
                assert line, f"{command.words} ended too early: {output}"
                output.append(line)
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=30)
        assert process.returncode == 0, f"{command.words}: {rest}"
        check(("...", *after), rest.splitlines(), command.words)

    @contextmanager
    def _started(self, words: str) -> Iterator[subprocess.Popen[str]]:
        tool, *arguments = shlex.split(words)
        process = subprocess.Popen(
            [sys.executable, *_TOOLS[tool], *arguments],
            cwd=self._directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()


def check(shown: Sequence[str], output: Sequence[str], words: str) -> None:
    """Compare what a document shows with what was printed, but for times and columns' widths."""
    if "..." in shown:
        assert shows(shown, output), f"{words} does not print {missing(shown, output)}"
    else:
        assert plain(output) == plain(shown), words


def shows(shown: Sequence[str], output: Sequence[str]) -> bool:
    return not missing(shown, output)


def missing(shown: Sequence[str], output: Sequence[str]) -> list[str]:
    printed = plain(output)
    return [line for line in plain(shown) if line not in printed]


def plain(lines: Sequence[str]) -> list[str]:
    fixed = (re.sub(r"\d+\.\d+", "0.0", line) for line in lines)
    fixed = (re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z  \d+", "time  number", line) for line in fixed)
    fixed = (re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z", "time", line) for line in fixed)
    spaced = (" ".join(line.split()) for line in fixed)
    return [line for line in spaced if line not in ("", "...")]


@pytest.fixture
def directory(path: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A working directory, and an environment without AWS.

    Where the document at ``path`` makes or reads a table, there is a DynamoDB without tables; the
    other documents do not wait for one.
    """
    url = None
    if Document(path).needs_table:
        url = request.getfixturevalue("moto_url")  # first, because it hides what is set before
    aws_environment: pytest.MonkeyPatch = request.getfixturevalue("aws_environment")
    environment = {
        "AWS_REGION": _REGION,
        "AWS_DEFAULT_REGION": _REGION,
        "AWS_ENDPOINT_URL_DYNAMODB": url or "http://127.0.0.1:9",  # nobody listens there
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)]),
        "PYTHONUNBUFFERED": "1",  # what a handler prints is waited for
    }
    for name, value in environment.items():
        aws_environment.setenv(name, value)
    aws_environment.chdir(tmp_path)
    yield tmp_path
    if url is not None:
        client: Any = boto3.client("dynamodb")
        for table in client.list_tables()["TableNames"]:
            client.delete_table(TableName=table)
        client.close()


def plays_an_example(path: str) -> bool:
    """Return True for pages of which each plays a storm that the example's own test plays, too."""
    return path.startswith("examples/") and "\n$ dynaflow demo " in Document(path).text


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=pytest.mark.packages if plays_an_example(path) else ())
        for path in DOCUMENTS
    ],
)
def test_what_a_document_shows_is_what_a_reader_sees(path: str, directory: Path) -> None:
    document = Document(path)
    desk = Desk(document, directory)
    for command in document.commands:
        desk.follow(command)
    if document.script:
        desk.run_python(document.script, name="blocks.py")


@pytest.mark.parametrize("path", DOCUMENTS)
def test_no_block_escapes_the_tests(path: str) -> None:
    blocks = Document(path).blocks
    for block in blocks:
        assert block.language in _LANGUAGES, block.language
        if block.language == "sh":
            lines = set(block.text.splitlines()) - set(_NOT_RUN)
            assert all(path in _DEPLOYS and _DEPLOYING.fullmatch(line) for line in lines), lines
        if block.language == "json":
            json.loads(block.text)
        if block.language == "console":
            assert block.text.startswith("$ ")
        if block.language == "":
            assert path in _DRAWINGS, "only drawings have no language"
    files = [block.file for block in blocks if block.file]
    assert len(files) == len(set(files))
    for file in (name for name in files if name.endswith(".py") and path not in _RUN_ELSEWHERE):
        others = [block.text for block in blocks if block.file != file]
        used = "$ pytest" if file.startswith("test_") else Path(file).stem
        assert any(used in text for text in others), f"nothing runs {file}"


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_diff_is_the_difference_of_the_files_that_it_names(path: str) -> None:
    document = Document(path)
    for block in document.blocks:
        if block.language == "diff":
            before, after = re.findall(r"^(?:---|\+\+\+) (\S+)$", block.text, re.MULTILINE)[:2]
            old, new = (document.files[name].splitlines() for name in (before, after))
            lines = difflib.unified_diff(old, new, before, after, lineterm="")
            assert block.text.splitlines() == list(lines)


@pytest.mark.parametrize("path", DOCUMENTS)
def test_yaml_is_a_piece_of_what_is_deployed(path: str) -> None:
    files = (ROOT / "examples" / "deploy").rglob("*.yaml")
    deployed = [file.read_text(encoding="utf-8") for file in files]
    for block in Document(path).blocks:
        if block.language == "yaml":
            pieces = [textwrap.indent(block.text, " " * depth) for depth in range(0, 20, 2)]
            assert any(f"\n{piece}" in text for piece in pieces for text in deployed), block.text


@pytest.mark.parametrize("path", DOCUMENTS)
def test_links_lead_somewhere(path: str) -> None:
    document = Document(path)
    for link in document.links:
        if re.match(r"https?://", link):
            continue
        target, _, anchor = link.partition("#")
        place = (ROOT / path).parent / target if target else ROOT / path
        assert place.exists(), link
        if anchor:
            assert anchor in Document(os.path.relpath(place, ROOT)).anchors, link


def test_the_readme_begins_with_two_commands_and_is_short() -> None:
    lines = README.text.splitlines()
    assert len(lines) < 250
    first, second, *_ = [block.text.strip() for block in README.blocks]
    assert [first, second] == list(_NOT_RUN)[:2]


def test_filters_in_the_table_can_be_written_so() -> None:
    names = {name: getattr(dynaflow, name) for name in ("F", "added", "changed", "crossed")}
    names["removed"] = dynaflow.removed
    written = [
        cell.strip("`").replace(r"\|", "|") for cell in Document("docs/filters.md").column("Filter")
    ]
    assert written
    for text in written:
        condition = filters.as_filter(eval(text, dict(names)))  # noqa: S307 - our own document
        if not text.startswith("lambda"):
            assert repr(condition).replace("'", '"') == text.replace("'", '"')


def test_every_verb_has_its_row_in_the_table() -> None:
    verbs = {name for name in vars(dynaflow.Router) if name.startswith("on")}
    assert set(code(Document("docs/routing.md").column("Verb"))) == verbs


def test_every_exit_code_has_its_row_in_the_table() -> None:
    codes = [int(cell) for cell in COMMAND_LINE.column("Exit code")]
    assert codes == [code.value for code in ExitCode]


def options_of(command: str) -> set[str]:
    names = {name for option in all_commands()[command].params for name in option.opts}
    return {name for name in names if name.startswith("-")}


def all_commands() -> dict[str, Any]:
    """The commands by name; those of a group have its name before theirs."""
    group: Any = typer.main.get_command(commands)
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        inner = getattr(command, "commands", None) or {"": command}
        found |= {f"{name} {rest}".strip(): each for rest, each in inner.items()}
    return found


def test_every_command_and_every_option_has_its_row_in_the_table() -> None:
    for command in all_commands():
        assert set(code(COMMAND_LINE.column(f"Option of `{command}`"))) == options_of(command)
    assert set(code(README.column("Command"))) == {
        f"dynaflow {command.split()[0]}" for command in all_commands()
    }


def test_every_option_of_run_has_its_row_in_the_page_on_the_poller() -> None:
    assert set(code(Document("docs/poller.md").column("Option of run"))) == {
        name for name in options_of("run") if name.startswith("--")
    }


def test_every_example_is_named_where_a_reader_looks_for_it() -> None:
    examples = {path.parent.name for path in (ROOT / "examples").glob("*/app.py")}
    assert set(re.findall(r"\]\(examples/(\w+)/README\.md\)", README.text)) == examples | {"deploy"}
    table = " ".join(Document("docs/recipes.md").column("Example"))
    assert set(re.findall(r"\[(\w+)\]", table)) == examples


def test_every_extra_has_its_row_in_the_table() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(code(README.column("Extra"))) == set(project["optional-dependencies"])


def test_every_error_has_its_row_in_the_table() -> None:
    assert set(code(MESSAGES.column("Error"))) == set(errors.__all__) - {"DynaflowError"}


def test_every_option_of_a_batch_route_has_its_row_in_the_table() -> None:
    options = inspect.signature(dynaflow.Router.on_batch).parameters
    named = {name for name, option in options.items() if option.kind is option.KEYWORD_ONLY}
    rows = Document("docs/batch-routes.md").column("Option of on_batch")
    documented = set(code(rows))
    shared = set(RouteOptions.__annotations__)
    assert documented == {f"{name}=" for name in named | shared}


def test_every_option_of_the_mapping_has_its_row_in_the_table() -> None:
    options = inspect.signature(EventSourceMapping).parameters.values()
    rows = Document("docs/testing.md").column("Option of EventSourceMapping")
    assert set(code(rows)) == {
        f"{option.name}=" for option in options if option.kind is option.KEYWORD_ONLY
    }


@pytest.mark.parametrize("head", ["Log line", "Message"])
def test_messages_in_the_tables_are_those_of_the_code(head: str) -> None:
    quoted = [code([cell])[0] for cell in MESSAGES.column(head)]
    assert quoted
    texts = [text for path in (ROOT / "dynaflow").rglob("*.py") for text in texts_in(path)]
    assert [text for text in quoted if not any(is_part(text, whole) for whole in texts)] == []


def test_lambda_takes_the_event_source_mapping_of_the_tutorial() -> None:
    model = botocore.session.get_session().get_service_model("lambda")
    shape = model.operation_model("CreateEventSourceMapping").input_shape
    mapping = json.loads(TUTORIAL.files["mapping.json"])
    assert ParamValidator().validate(mapping, shape).generate_report() == ""


def test_the_changelog_has_this_version() -> None:
    assert f"## [{dynaflow.__version__}]" in Document("CHANGELOG.md").text


def texts_in(path: Path) -> Iterator[str]:
    """Yield the texts of a file, with … for what is filled in when it runs."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"%(?:\.\d)?[sdrf]", "…", node.value)  # logging's own
        elif isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values
            )


def is_part(quoted: str, text: str) -> bool:
    """Return True if the text has all pieces of what is quoted, in this order."""
    pieces = [re.escape(piece.strip()) for piece in quoted.split("…")]
    return re.search(".*".join(pieces), text) is not None


def code(cells: Sequence[str]) -> list[str]:
    """Return what stands in backticks."""
    return [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]
