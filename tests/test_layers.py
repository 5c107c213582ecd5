"""The layers of docs/architecture.md, checked from the imports themselves."""

from __future__ import annotations

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.documents import Document

ROOT = Path(__file__).parent.parent / "dynaflow"

# One total order: a file imports only from files above it. A folder's __init__ is its last file.
ORDER = """
errors values encoding record batch _kinesis codec
_paths diff change _conditions filters _expiry
params context middleware retry observe _pump
_core_schema _models _signature _binding _batches
_generators _dependencies _evaluation _attempt _invocation
_on_error _checks _route routing _flatten _table _compile _needs _explain _overriding
pushdown/rules pushdown/pattern pushdown/fields pushdown/alternative pushdown/compiler
pushdown/fitting pushdown/criteria pushdown/__init__
permissions
_plain _told dead_letter _mark_keys _marks _patience _claim idempotency
transaction _commit checkpoints source lineage _aws
engine/lost engine/fold engine/order engine/refused engine/jobs engine/memory
engine/parking engine/plan engine/lanes engine/chunks engine/named engine/judge engine/desk
engine/batching engine/work engine/slots
engine/threads engine/bridge engine/finish engine/crew engine/run engine/__init__
_app_options _declared app
_watchdog _loop _host aws_lambda
sources/_client sources/dynamodb sources/memory sources/__init__
stores/_sqlite stores/memory stores/sqlite stores/transactions
stores/idempotency_memory stores/idempotency_sqlite stores/idempotency_dynamodb stores/__init__
dead_letters/_kept dead_letters/jsonl dead_letters/sqs dead_letters/sns dead_letters/s3
dead_letters/__init__
observers/emf observers/otel observers/__init__
deploy/_draft deploy/deployment deploy/live deploy/iam deploy/alarms deploy/choices deploy/from_app
deploy/drift deploy/neutral deploy/_yaml deploy/sam deploy/_cdk_stack deploy/cdk deploy/terraform
deploy/doctor/rules deploy/doctor/app_facts deploy/doctor/checks_stream
deploy/doctor/checks_mapping deploy/doctor/targets deploy/doctor/reading deploy/doctor/gathering
deploy/doctor/examination deploy/doctor/__init__
deploy/packing/runtime deploy/packing/archive deploy/packing/code deploy/packing/libraries
deploy/packing/pruning deploy/packing/bytecode deploy/packing/package deploy/packing/__init__
deploy/__init__
poller/shutdown poller/backoff poller/pages poller/progress poller/discovery poller/shard
poller/poller poller/__init__
__init__
testing/records testing/kinesis testing/clock testing/client testing/transactions
testing/_mapping_rules testing/_mapping_report testing/_mapping_sandbox testing/_mapping_lanes
testing/_mapping_filter testing/_mapping_run testing/mapping testing/__init__
pytest_plugin
demo/emulator demo/storm demo/stage demo/history
demo/ledger demo/services demo/shop demo/traffic demo/show demo/run
demo/examples/__init__ demo/__init__
cli/_exit cli/_options cli/_output cli/_target cli/_event cli/_grammar cli/_reload
cli/_messages cli/_stretch cli/_letters cli/_letter_lines cli/_redrive cli/_mapping
cli/dead_letters cli/demo cli/deploy_config cli/doctor cli/explain cli/filters cli/invoke
cli/package cli/recover cli/routes cli/run cli/tail cli/trigger
cli/_commands cli/__init__
__main__
""".split()

# Imports of our own inside functions, and why they are not at the top.
LATE = {
    ("record", "diff"): "a record has its diff, and the diff is made of what stands on records",
    ("_binding", "_models"): "pydantic is loaded only for routes that use a model",
    ("app", "engine/run"): "anyio is loaded with the first batch that needs a loop",
    ("app", "engine/bridge"): "as above",
    ("_declared", "pushdown/__init__"): "patterns are made at a desk; Lambda never makes one",
    ("_declared", "_explain"): "explanations are for a desk; Lambda never makes one",
    ("app", "aws_lambda"): "the handler is made by its door, which knows the App",
    ("stores/__init__", "stores/memory"): "a store is loaded when it is asked for",
    ("stores/__init__", "stores/sqlite"): "as above",
    ("cli/__init__", "cli/_commands"): "without typer and rich there is one line to say so",
    ("cli/demo", "demo/run"): "the shop has models: no other command is to load pydantic",
    ("pytest_plugin", "testing/__init__"): "pytest loads the plugin in projects that do not use it",
    ("pytest_plugin", "__init__"): "as above",
}

# Doors do not import each other; what two of them share stands above the app.
DOORS = {
    "aws_lambda": ("_watchdog", "_loop", "_host", "aws_lambda"),
    "sources": ("sources/",),
    "stores": ("stores/",),
    "dead_letters": ("dead_letters/",),
    "observers": ("observers/",),
    "deploy": ("deploy/",),
    "poller": ("poller/",),
}

# Which file may know which library.
LIBRARIES = {
    "anyio": (
        "_aws",
        "_claim",
        "_patience",
        "engine/bridge",
        "engine/crew",
        "engine/finish",
        "engine/run",
        "engine/slots",
        "sources/",
        "stores/",
        "dead_letters/",
        "poller/",
        "testing/",
        "demo/",
        "cli/run",
    ),
    "pydantic": ("_models", "demo/shop"),
    "asyncio": (
        "_loop",
        "_host",
        "sources/",
        "stores/",
        "poller/",
        "testing/clock",
        "demo/",
        "cli/",
    ),
    "aioboto3": ("sources/", "demo/"),
    "aiobotocore": ("sources/", "demo/"),
    "botocore": ("deploy/doctor/reading", "sources/", "demo/"),
    "boto3": ("_aws", "deploy/doctor/reading", "demo/stage"),
    "moto": ("demo/emulator",),
    "werkzeug": ("demo/emulator",),
    "typer": ("cli/",),
    "watchfiles": ("cli/_reload",),
    "rich": ("cli/", "demo/stage", "demo/show"),
    "pytest": ("pytest_plugin",),
    "opentelemetry": ("observers/otel",),
    "snapshot_restore_py": ("aws_lambda",),
    "trio": (),
}


def files() -> list[str]:
    return [path.relative_to(ROOT).with_suffix("").as_posix() for path in ROOT.rglob("*.py")]


@functools.cache
def imports_of(name: str) -> tuple[tuple[str, bool], ...]:
    """Return what a file imports, as file names or libraries, and whether inside a function."""
    return tuple(_imports_of(name))


def _imports_of(name: str) -> Iterator[tuple[str, bool]]:
    tree = ast.parse((ROOT / f"{name}.py").read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from ((target, id(node) in inside) for target in _targets(alias.name, ()))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            names = tuple(alias.name for alias in node.names)
            yield from (
                (target, id(node) in inside) for target in _targets(node.module or "", names)
            )


def _targets(module: str, names: tuple[str, ...]) -> Iterator[str]:
    head, *rest = module.split(".")
    if head != "dynaflow":
        yield head
        return
    path = "/".join(rest)
    if path and (ROOT / f"{path}.py").exists():
        yield path
        return
    for name in names:  # from a package: its files, or what its __init__ exports
        inner = f"{path}/{name}" if path else name
        init = f"{path}/__init__" if path else "__init__"
        yield inner if (ROOT / f"{inner}.py").exists() else init


def own(name: str) -> set[tuple[str, bool]]:
    return {(target, late) for target, late in imports_of(name) if target in ORDER}


def test_every_file_has_its_place_in_the_order() -> None:
    assert sorted(files()) == sorted(ORDER)


def test_the_document_has_the_same_rooms_in_the_same_order() -> None:
    rooms = Document("docs/architecture.md").column("Room")
    named = [name for cell in rooms for name in re.findall(r"`([^`]+)`", cell)]
    places = [re.sub(r"/.*", "/", name) for name in ORDER if not name.startswith("__")]
    assert named == list(dict.fromkeys(places))


def test_the_document_tells_every_file_of_the_engine() -> None:
    _, told = Document("docs/architecture.md").text.split("Inside `engine/`:")
    told = told[: told.index("\n\n")]
    in_engine = {name for name in ORDER if name.startswith("engine/")} - {"engine/__init__"}
    assert {f"engine/{name}" for name in re.findall(r"`(\w+)`", told)} == in_engine


@pytest.mark.parametrize("name", ORDER)
def test_a_file_imports_only_from_files_above_it(name: str) -> None:
    above = ORDER[: ORDER.index(name)]
    allowed = {target for source, target in LATE if source == name}
    if name == "app":
        allowed |= {"engine/run", "_host"}  # for their types only
    wrong = {target for target, late in own(name) if target not in above and target not in allowed}
    assert not wrong


@pytest.mark.parametrize("name", ORDER)
def test_imports_inside_functions_are_listed_with_their_reason(name: str) -> None:
    late = {(name, target) for target, inside in own(name) if inside}
    assert late <= set(LATE)


def test_no_listed_exception_is_out_of_use() -> None:
    late = {(name, target) for name in ORDER for target, inside in own(name) if inside}
    late |= {(name, target) for name in ("app", "pytest_plugin") for target, _ in own(name)}
    assert set(LATE) <= late


@pytest.mark.parametrize("door", DOORS)
def test_doors_do_not_import_each_other(door: str) -> None:
    others = [place for name, places in DOORS.items() if name != door for place in places]
    for name in ORDER:
        if name.startswith(DOORS[door]):
            assert not [target for target, _ in own(name) if target.startswith(tuple(others))]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_known_only_where_it_belongs(library: str) -> None:
    knowing = [name for name in ORDER if library in {target for target, _ in imports_of(name)}]
    assert [name for name in knowing if not name.startswith(LIBRARIES[library])] == []


def test_no_other_library_is_imported_anywhere() -> None:
    known = set(LIBRARIES) | set(sys.stdlib_module_names) | set(ORDER)
    assert {target for name in ORDER for target, _ in imports_of(name)} <= known


HEAVY = (
    *("anyio", "asyncio", "boto3", "botocore", "aioboto3", "opentelemetry", "pydantic", "rich"),
    *("trio", "typer"),
)


@pytest.mark.parametrize(
    "script",
    [
        "import dynaflow",
        "import dynaflow.pytest_plugin",
        "import dynaflow.observers.emf",
        "import dynaflow.dead_letters",
        "from dynaflow import App, Record, Router\n"
        "router = Router()\n"
        "@router.on_any()\n"
        "def handler(new: dict | None) -> None: ...\n"
        "@router.on_batch()\n"
        "def of_many(records: list[Record]) -> None: ...\n"
        "image = {'id': {'S': '1'}}\n"
        "stream = {'SequenceNumber': '1', 'Keys': image, 'NewImage': image}\n"
        "record = {'eventName': 'INSERT', 'eventSource': 'aws:dynamodb', 'dynamodb': stream}\n"
        "watch = [lambda event: None]\n"
        "answer = App(router, observers=watch).lambda_handler()({'Records': [record]})\n"
        "assert answer == {'batchItemFailures': []}\n",
        "import os\n"
        "os.environ['AWS_LAMBDA_RUNTIME_API'] = 'somewhere'\n"
        "from typing import Annotated\n"
        "from dynaflow import App, Depends, Router\n"
        "opened = []\n"
        "def client():\n"
        "    opened.append('client')\n"
        "    yield 'client'\n"
        "def session(client: Annotated[str, Depends(client, scope='app')], new: dict):\n"
        "    yield client + new['id']\n"
        "router = Router()\n"
        "@router.on_insert()\n"
        "def handler(session: Annotated[str, Depends(session)]) -> None:\n"
        "    opened.append(session)\n"
        "lambda_handler = App(router).lambda_handler()\n"
        "assert opened == ['client'], 'not during INIT'\n"
        "image = {'id': {'S': '1'}}\n"
        "stream = {'SequenceNumber': '1', 'Keys': image, 'NewImage': image}\n"
        "record = {'eventName': 'INSERT', 'eventSource': 'aws:dynamodb', 'dynamodb': stream}\n"
        "assert lambda_handler({'Records': [record]}) == {'batchItemFailures': []}\n"
        "assert opened == ['client', 'client1']\n",
        "from dynaflow import App, Router\n"
        "from dynaflow.errors import NonRetryable\n"
        "from dynaflow.dead_letters import JsonLines\n"
        "from dynaflow.stores import DynamoDBMarks, Transactions\n"
        "transactions, letters = Transactions('marks'), []\n"
        "router = Router()\n"
        "@router.on_insert()\n"
        "def handler(new: dict) -> None:\n"
        "    raise NonRetryable('no')\n"
        "lambda_handler = App(router, dead_letter=letters.append).lambda_handler()\n"
        "image = {'id': {'S': '1'}}\n"
        "stream = {'SequenceNumber': '1', 'Keys': image, 'NewImage': image}\n"
        "record = {'eventName': 'INSERT', 'eventSource': 'aws:dynamodb', 'dynamodb': stream}\n"
        "assert lambda_handler({'Records': [record]}) == {'batchItemFailures': []}\n"
        "assert [letter.reason for letter in letters] == ['non_retryable']\n",
    ],
    ids=[
        "import",
        "plugin",
        "metrics",
        "dead letters",
        "a whole invocation of sync handlers",
        "with dependencies",
        "a record that is parked",
    ],
)
def test_nothing_heavy_is_loaded_before_it_is_needed(script: str) -> None:
    check = f"{script}\nimport sys\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    ran = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True, timeout=30
    )
    assert ran.stdout == "[]\n"


FORBIDDEN = ("eval(", "exec(", "pickle", "marshal.", "yaml.load", "__import__")


@pytest.mark.parametrize("word", FORBIDDEN)
def test_nothing_turns_data_into_code(word: str) -> None:
    assert [name for name in ORDER if word in (ROOT / f"{name}.py").read_text()] == []


def test_the_command_line_starts_without_models_and_aws() -> None:
    heavy = ("pydantic", "boto3", "botocore", "aioboto3", "moto")
    script = (
        "import sys, dynaflow.cli._commands\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=30
    )
    assert ran.stdout == "[]\n"
