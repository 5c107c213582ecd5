"""``dynaflow package``, offline: libraries are tiny wheels in a folder."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from zipfile import ZipFile

import pytest

import dynaflow
from dynaflow.deploy.packing.archive import code_sha256, put_in_place, write_zip, zip_time
from dynaflow.deploy.packing.bytecode import compile_folder, find_compiler
from dynaflow.deploy.packing.code import find_code, handler_of, unmet_imports
from dynaflow.deploy.packing.libraries import find_installer, named_in
from dynaflow.deploy.packing.package import _copy as copy_code
from dynaflow.deploy.packing.pruning import Library, leave_out_sdk, libraries_in, prune
from dynaflow.deploy.packing.runtime import Runtime
from dynaflow.errors import PackageError
from tests.support.command_line import Project, run_python
from tests.support.wheels import make_wheel

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
OTHER = "3.13" if HERE != "3.13" else "3.12"
WHEN = (1980, 1, 1, 0, 0, 0)

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("pip") is None, reason="pip is not here"),
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere pip is not trusted alone"),
]

SHOP = """
    import helpers
    from dynaflow import App, Record, Router

    router = Router(table="orders")

    @router.on_any()
    def handle(record: Record) -> None:
        helpers.note(record)

    app = App(router)
    lambda_handler = app.lambda_handler()
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what dynaflow needs, and a library for each of two processors."""
    folder = tmp_path_factory.mktemp("wheels")
    make_wheel(folder, "anyio", "4.11.0")
    make_wheel(folder, "pydantic", "2.11.0", requires=["lens"])
    cp = f"cp{HERE.replace('.', '')}"
    for machine in ("aarch64", "x86_64"):
        files = {"lens/__init__.py": "", f"lens/core.{cp}-{machine}.so": "ELF"}
        tag = f"{cp}-{cp}-manylinux2014_{machine}"
        make_wheel(folder, "lens", "1.0", files, tag=tag)
    make_wheel(folder, "lens", "2.0", tag=f"{cp}-{cp}-manylinux_2_99_aarch64")  # too new for Lambda
    return folder


@pytest.fixture
def offline(wheels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pip know these wheels and nothing else."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path)
    project.write("shop.py", SHOP)
    project.write("helpers.py", "def note(record): ...")
    return project


@pytest.fixture
def module(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The shop's module, imported as the command does it."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(project.directory)
    yield importlib.import_module("shop")
    for name in set(sys.modules) - before:
        del sys.modules[name]


# The whole way


@pytest.mark.usefixtures("offline")
def test_two_runs_make_the_same_bytes_whatever_the_place_and_the_time(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = project.run("package", "shop:app", "--json")
    assert first.exit_code == 0, first.stderr
    made = json.loads(first.stdout)

    elsewhere = Project(tmp_path / "another place" / "further down")
    elsewhere.directory.mkdir(parents=True)
    (elsewhere.directory / "shop.py").write_bytes((tmp_path / "shop.py").read_bytes())
    (elsewhere.directory / "helpers.py").write_bytes((tmp_path / "helpers.py").read_bytes())
    (elsewhere.directory / "shop.py").chmod(0o600)
    os.utime(elsewhere.directory / "shop.py", (10**9, 10**9))
    monkeypatch.chdir(elsewhere.directory)
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    before = os.umask(0o077)
    try:
        second = elsewhere.run("package", "shop:app", "--json")
    finally:
        os.umask(before)
    assert json.loads(second.stdout) == made
    assert (elsewhere.directory / "function.zip").read_bytes() == Path(
        "../../function.zip"
    ).read_bytes()

    assert made["handler"] == "shop.lambda_handler"
    assert (made["runtime"], made["architecture"]) == (f"python{HERE}", "arm64")
    assert made["files"] == ["helpers.py", "shop.py"]
    names = ZipFile("function.zip").namelist()
    assert f"lens/core.cp{HERE.replace('.', '')}-aarch64.so" in names
    assert f"dynaflow/__pycache__/app.cpython-{HERE.replace('.', '')}.pyc" in names
    assert not [name for name in names if name.startswith(("dynaflow/cli/", "dynaflow/testing/"))]
    assert made["zipped"] == Path("function.zip").stat().st_size
    assert made["unzipped"] == sum(entry.file_size for entry in ZipFile("function.zip").infolist())
    assert [part["name"] for part in made["parts"]][:3] == ["shop.py", "helpers.py", "dynaflow"]
    assert "other files" not in [part["name"] for part in made["parts"]]
    assert sum(part["files"] for part in made["parts"]) == len(names)


@pytest.mark.usefixtures("offline")
def test_a_missing_wheel_is_named_and_the_old_zip_stays(project: Project) -> None:
    project.write("requirements.txt", "lens==3.0\n")
    old = project.write("function.zip", "the old one")
    result = project.run("package", "shop:app", "--no-compile")
    assert result.exit_code == 1
    assert f"there is no wheel of 'lens==3.0' for python{HERE} on arm64" in result.stderr
    assert "PIP_FIND_LINKS" in result.stderr
    assert result.stderr.count("dynaflow: ") == 1
    assert old.read_text() == "the old one"
    assert sorted(path.name for path in project.directory.glob("*zip*")) == ["function.zip"]


def test_a_module_that_is_called_like_a_library_is_refused(
    project: Project, module: ModuleType, tmp_path: Path
) -> None:
    (project.directory / "function" / "helpers").mkdir(parents=True)
    project.write("function/helpers/__init__.py", "")
    library = Library("Helpers", "1", ("helpers/__init__.py",), {}, requested=True)
    with pytest.raises(PackageError, match=r"helpers\.py and the library Helpers have the same"):
        copy_code(find_code(module), tmp_path / "function", [library])


@pytest.mark.usefixtures("offline")
def test_another_dynaflow_than_the_one_that_runs_is_refused(project: Project) -> None:
    project.write("libraries.txt", "dynaflow==99\n")
    result = project.run("package", "shop:app", "--requirements", "libraries.txt", "--no-compile")
    assert result.exit_code == 1
    assert f"fit together, and with dynaflow {dynaflow.__version__}" in result.stderr
    assert "The user requested dynaflow==99" in result.stderr


@pytest.mark.usefixtures("offline")
def test_what_the_table_says_adds_up_and_names_the_handler(project: Project) -> None:
    project.write("shop.py", SHOP.replace("import helpers", "import helpers, backend", 1))
    project.write("backend/__init__.py", "import typer")  # not among the requirements
    project.write("requirements.txt", "dynaflow\n")  # the one that runs here, from its folder
    result = project.run(
        "package", "shop:app", "--no-compile", "--architecture", "x86_64", "-o", "made.zip"
    )
    assert result.exit_code == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["handler", "shop.lambda_handler"] in lines
    assert ["CodeSha256", code_sha256(Path("made.zip"))] in lines
    assert [line[0] for line in lines[1:4]] == ["shop.py", "helpers.py", "backend"]
    assert "backend/__init__.py imports 'typer', which is not in the zip" in result.stderr
    names = ZipFile("made.zip").namelist()
    assert f"lens/core.cp{HERE.replace('.', '')}-x86_64.so" in names
    assert not [name for name in names if name.endswith((".pyc", ".pyi", "RECORD", "py.typed"))]


def test_a_zip_is_not_made_of_what_cannot_be_imported_or_has_no_handler(project: Project) -> None:
    project.write("broken.py", "import nothing_of_this_name")
    assert project.run("package", "broken:app").exit_code == 3
    assert project.run("package", "absent:app").exit_code == 3
    project.write("bare.py", "from dynaflow import App, Router\napp = App(Router())")
    result = project.run("package", "bare:app")
    assert result.exit_code == 1
    assert "lambda_handler = app.lambda_handler()" in result.stderr


@pytest.mark.parametrize("output", ["absent/function.zip", "."])
def test_a_place_where_no_zip_can_be_is_said_before_anything_is_fetched(
    project: Project, output: str
) -> None:
    result = project.run("package", "shop:app", "--output", output)
    assert result.exit_code == 1
    assert "--output" in result.stderr
    assert "libraries" not in result.stderr


def test_an_interruption_leaves_the_old_zip_and_no_other_file(
    project: Project, tmp_path: Path
) -> None:
    project.write("function.zip", "the old one")
    os.mkfifo(tmp_path / "started")
    uv = project.write("programs/uv", "#!/bin/sh\necho > started\nexec tail -f /dev/null\n")
    uv.chmod(0o755)
    environment = {
        "PATH": f"{uv.parent}:/usr/bin:/bin",
        "PYTHONPATH": str(Path(dynaflow.__file__).parents[1]),
    }
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "dynaflow",
            "package",
            "shop:app",
            "--python",
            OTHER,
            "--no-compile",
        ],
        env=environment | {"TMPDIR": str(uv.parent)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        (tmp_path / "started").read_text()  # until it is
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=20) == 130
    assert (tmp_path / "function.zip").read_text() == "the old one"
    assert not [
        path for path in tmp_path.rglob("*") if "function." in path.name and path.parent != tmp_path
    ]
    assert [path.name for path in uv.parent.iterdir()] == ["uv"]


# The user's own code


def test_own_code_is_what_is_imported_and_the_packages_around_it(
    project: Project, module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        *(
            "backend/__init__.py",
            "backend/rates.json",
            "backend/unused.py",
            "backend/tests/data.py",
        ),
        *(
            "backend/test_rates.py",
            "backend/.env",
            "backend/server.pem",
            "backend/__pycache__/x.pyc",
        ),
        *(
            "backend/venv/pyvenv.cfg",
            "backend/venv/big.py",
            "unrelated.py",
            ".env",
            "backend/a.pyi",
        ),
    ):
        path = project.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    importlib.import_module("backend.tests.data")  # imported, so it stays
    code = find_code(module)
    assert code.root == project.directory
    assert set(code.files) == {
        *("backend/__init__.py", "backend/rates.json", "backend/unused.py"),
        *("backend/tests/data.py", "helpers.py", "shop.py"),
    }
    assert set(code.left_out) == {
        *("backend/.env", "backend/a.pyi", "backend/server.pem", "backend/test_rates.py"),
        "backend/venv",
    }


def test_what_is_included_goes_in_whatever_it_is_called(
    project: Project, module: ModuleType
) -> None:
    project.write("certificates/ca.pem", "")
    project.write("data/rates.json", "")
    project.write("data/.env", "")
    included = [Path("certificates/ca.pem"), project.directory / "data"]
    code = find_code(module, included)
    assert {"certificates/ca.pem", "data/rates.json"} <= set(code.files)
    assert "data/.env" in code.left_out
    with pytest.raises(PackageError, match="--include absent: there is no such"):
        find_code(module, [Path("absent")])


def test_two_files_of_one_name_are_refused(module: ModuleType, tmp_path: Path) -> None:
    files = [tmp_path.parent / f"{folder}-{tmp_path.name}" / "rates.json" for folder in "ab"]
    for file in files:
        file.parent.mkdir()
        file.touch()
    with pytest.raises(PackageError, match=r"would both be rates\.json in the zip"):
        find_code(module, files)


def test_a_folder_that_links_to_itself_ends_and_the_zip_is_never_part_of_itself(
    project: Project, module: ModuleType
) -> None:
    project.write("data/function.zip", "")
    project.write("data/rates.json", "")
    (project.directory / "data" / "again").symlink_to("..")
    code = find_code(module, [Path("data")], (project.directory / "data/function.zip").resolve())
    assert "data/rates.json" in code.files
    assert not [name for name in code.files if name.endswith("function.zip")]
    (project.directory / "data" / "gone").symlink_to("nowhere")
    with pytest.raises(PackageError, match="gone is a link to something that is not there"):
        find_code(module, [Path("data")])


def test_the_handler_is_found_by_its_name_or_by_what_it_is(module: ModuleType) -> None:
    assert handler_of(module) == "shop.lambda_handler"
    handler = module.__dict__.pop("lambda_handler")
    module.handler = lambda event: event  # type: ignore[attr-defined]  # not dynaflow's
    with pytest.raises(PackageError, match="has no function that Lambda could call"):
        handler_of(module)
    module.on_change = handler  # type: ignore[attr-defined]  # a name of the user's own
    assert handler_of(module) == "shop.on_change"


def test_an_installed_library_is_no_code_of_the_users() -> None:
    with pytest.raises(PackageError, match="'typer' is an installed library"):
        find_code(importlib.import_module("typer"))


def test_an_import_that_lambda_would_miss_is_seen_where_it_is_certain(tmp_path: Path) -> None:
    source = tmp_path / "shop.py"
    source.write_text(
        "import json, boto3, httpx.client\nfrom lib.x import y\nfrom . import z\nimport helpers\n"
        "try:\n    import orjson\nexcept ImportError:\n    orjson = None\n"
        "def f():\n    import later\n"
    )
    unmet = unmet_imports({"shop.py": source, "notes.txt": source}, {"helpers"})
    assert unmet == [("shop.py", "httpx"), ("shop.py", "lib")]


# Libraries


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with libraries, as pip would have left it."""
    folder = tmp_path / "function"
    libraries: dict[str, tuple[dict[str, str], list[str]]] = {
        "boto3": ({"boto3/__init__.py": ""}, ["botocore<1.41,>=1.40", "s3transfer<0.15"]),
        "botocore": ({"botocore/__init__.py": ""}, ["python-dateutil", "urllib3"]),
        "s3transfer": ({"s3transfer.py": ""}, ["botocore<2.0a0"]),
        "python_dateutil": ({"dateutil.py": ""}, []),
        "urllib3": ({"urllib3.py": ""}, []),
        "tracer": ({"tracer.py": ""}, ["boto3<2,>=1.30", "urllib3"]),
        "tool": (
            {
                "tool/__init__.py": "from tool import testing\n",
                "tool/core.pyi": "",
                "tool/core.h": "",
                "tool/py.typed": "",
                "tool/testing.py": "",
                "tool/tests/__init__.py": "from tool.tests import util\n",
                "tool/tests/util.py": "",
                "tool/tests/data.json": "",
                "tool/inner/tests/__init__.py": "",
                "tool/inner/__init__.py": "from .tests import check\n",
                "tool/data/test/a.json": "",
                "tool-1.dist-info/licenses/LICENSE": "",
                "bin/tool": "",
            },
            [],
        ),
    }
    for name, (files, requires) in libraries.items():
        info = f"{name}-1.dist-info"
        needs = "".join(f"Requires-Dist: {line}\n" for line in requires)
        files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n{needs}"
        files[f"{info}/INSTALLER"] = "pip"
        if name in ("tool", "tracer"):
            files[f"{info}/REQUESTED"] = ""
        files[f"{info}/RECORD"] = "".join(f"{each},,\n" for each in files)
        for each, text in files.items():
            (folder / each).parent.mkdir(parents=True, exist_ok=True)
            (folder / each).write_text(text)
    return folder


def tops(folder: Path) -> set[str]:
    names = (path.relative_to(folder).parts[0] for path in folder.rglob("*") if path.is_file())
    return {name for name in names if not name.endswith(".dist-info")}


def test_boto3_and_what_it_alone_needs_are_left_out(installed: Path) -> None:
    kept, said = leave_out_sdk(installed, libraries_in(installed), {"tracer"})
    assert tops(installed) == {"bin", "tool", "tracer.py", "urllib3.py"}
    assert [each.key for each in kept] == ["tool", "tracer", "urllib3"]
    assert said is not None
    assert "boto3, botocore, python_dateutil, s3transfer; --with-boto3" in said


def test_boto3_stays_where_the_requirements_name_it(installed: Path) -> None:
    before = tops(installed)
    _, said = leave_out_sdk(installed, libraries_in(installed), {"Boto3", "tracer"})
    assert said is not None
    assert "boto3 is packed, because the requirements name it" in said
    assert tops(installed) == before


def test_boto3_stays_where_a_library_wants_a_version_of_it(installed: Path) -> None:
    before = tops(installed)
    metadata = installed / "tracer-1.dist-info" / "METADATA"
    metadata.write_text(f"{metadata.read_text()}Requires-Dist: botocore <1.40.62,>=1.40\n")
    _, said = leave_out_sdk(installed, libraries_in(installed), set())
    assert said is not None
    assert "because tracer wants botocore <1.40.62,>=1.40" in said
    assert tops(installed) == before


def test_stubs_scripts_and_tests_that_nothing_imports_are_left_out(installed: Path) -> None:
    prune(installed, libraries_in(installed), {})
    files = (path for path in installed.rglob("*") if path.is_file())
    names = {path.relative_to(installed).as_posix() for path in files}
    assert {name for name in names if name.startswith(("tool", "bin"))} == {
        *("tool/__init__.py", "tool/testing.py", "tool/inner/__init__.py"),
        *("tool/inner/tests/__init__.py", "tool/data/test/a.json"),
        *("tool-1.dist-info/METADATA", "tool-1.dist-info/licenses/LICENSE"),
    }


@pytest.mark.parametrize(
    "statement",
    ["import tool.tests.util", "from tool import core, tests", "find('tool.tests')"],
)
def test_tests_that_the_users_code_imports_stay(
    installed: Path, tmp_path: Path, statement: str
) -> None:
    (tmp_path / "shop.py").write_text(f"{statement}\n")
    prune(installed, libraries_in(installed), {"shop.py": tmp_path / "shop.py"})
    assert (installed / "tool/tests/util.py").exists()


def test_of_dynaflow_what_runs_at_a_desk_is_left_out_unless_it_is_imported(
    installed: Path, tmp_path: Path
) -> None:
    for name in ("cli/run.py", "testing/client.py", "app.py", "pytest_plugin.py"):
        (installed / "dynaflow" / name).parent.mkdir(parents=True, exist_ok=True)
        (installed / "dynaflow" / name).write_text("from dynaflow.cli import run\n")
    (tmp_path / "shop.py").write_text("from dynaflow.testing import RecordBuilder\n")
    prune(installed, libraries_in(installed), {"shop.py": tmp_path / "shop.py"})
    files = {path.name for path in (installed / "dynaflow").rglob("*.py")}
    assert files == {"app.py", "client.py"}


def test_requirements_are_read_with_those_that_they_name(tmp_path: Path) -> None:
    (tmp_path / "base.txt").write_text("Boto3>=1\n")
    (tmp_path / "requirements.txt").write_text(
        "-r base.txt\n# note\nhttpx[http2]==1 ; sys_platform != 'x' \\\n  --hash=sha256:0\n--pre\n"
    )
    assert named_in(tmp_path / "requirements.txt") == {"Boto3", "httpx"}


def test_for_another_python_uv_is_asked_and_told_what_for(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = project.directory / "programs"
    script = (
        '#!/bin/sh\n[ "$1" = python ] && exit 2\necho "$@" > asked\necho "error: no" >&2\nexit 1\n'
    )
    project.write("programs/uv", script).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    result = project.run("package", "shop:app", "--python", OTHER, "--no-compile")
    assert result.exit_code == 1
    assert "could not be installed" in result.stderr
    asked = (project.directory / "asked").read_text()
    assert f"--python-version {OTHER}" in asked
    assert "--python-platform aarch64-manylinux_2_34" in asked


def test_without_pip_and_without_uv_it_is_said_where_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackageError, match="python -m ensurepip"):
        find_installer(Runtime(OTHER, "arm64"), python=str(tmp_path / "python"))


def test_wheels_are_only_those_that_lambdas_system_loads() -> None:
    old, new = Runtime("3.11", "x86_64"), Runtime("3.13", "arm64")
    assert old.platforms[0] == "manylinux_2_26_x86_64"
    assert new.platforms[0] == "manylinux_2_34_aarch64"
    assert new.platforms[-1] == "manylinux2014_aarch64"
    assert (old.uv_platform, new.uv_platform) == (
        "x86_64-manylinux_2_17",
        "aarch64-manylinux_2_34",
    )


@pytest.mark.parametrize(
    ("python", "architecture", "message"),
    [
        ("3.9", "arm64", "Choose one with --python: 3.11, 3.12, 3.13, 3.14"),
        ("13", "arm64", "there is no runtime of Lambda for Python 13 "),
        ("3.13", "aarch64", "Choose one with --architecture: arm64, x86_64"),
    ],
)
def test_a_runtime_that_lambda_has_not_is_refused(
    python: str, architecture: str, message: str
) -> None:
    with pytest.raises(PackageError, match=message):
        Runtime(python, architecture)


# Byte code


def test_byte_code_is_never_compared_with_its_source_and_names_lambdas_paths(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "function"
    (folder / "backend").mkdir(parents=True)
    (folder / "backend" / "shop.py").write_text(
        "def where():\n    return where.__code__.co_filename\n"
    )
    (folder / "template.py").write_text("{{ a library's, and no Python }}\n")
    compile_folder(folder, find_compiler(HERE), ["backend/shop.py"])
    (code,) = folder.rglob("*.pyc")
    assert code.name == f"shop.{sys.implementation.cache_tag}.pyc"
    flags = int.from_bytes(code.read_bytes()[4:8], "little")
    assert flags == 0b01  # by hash, unchecked
    assert b"/var/task/backend/shop.py" in code.read_bytes()
    assert str(tmp_path).encode() not in code.read_bytes()


def test_a_file_of_the_users_that_is_no_python_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("a = 1\nmatch = = 2\n")
    (tmp_path / "other.py").write_text("")
    with pytest.raises(PackageError, match=r"^shop\.py:2: not valid .*: SyntaxError"):
        compile_folder(tmp_path, find_compiler(HERE), ["shop.py", "other.py"])


def test_byte_code_wants_an_interpreter_of_the_functions_version(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(project.directory))
    liar = project.write(f"python{OTHER}", "#!/bin/sh\necho cpython 2 7\n")
    liar.chmod(0o755)
    result = project.run("package", "shop:app", "--python", OTHER)
    assert result.exit_code == 1
    assert f"byte code for Python {OTHER} is made by a Python {OTHER}" in result.stderr
    assert "--no-compile" in result.stderr
    assert not (project.directory / "function.zip").exists()


def test_an_interpreter_on_the_path_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / f"python{OTHER}"
    program.write_text(f"#!/bin/sh\necho cpython {OTHER.replace('.', ' ')}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_compiler(OTHER) == str(program)


# The zip


def test_a_zip_is_sorted_dated_and_readable_by_lambdas_user(tmp_path: Path) -> None:
    files = {}
    for name, mode in (("b.py", 0o600), ("a/run", 0o700), ("a/c.txt", 0o444)):
        path = tmp_path / name.replace("/", "-")
        path.write_text(name * 50)
        path.chmod(mode)
        files[name] = path
    sizes = write_zip(files, tmp_path / "function.zip", zip_time("1700000000"))
    with ZipFile(tmp_path / "function.zip") as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == ["a/c.txt", "a/run", "b.py"]
    assert {entry.date_time for entry in entries} == {(2023, 11, 14, 22, 13, 20)}
    modes = [stat.filemode(entry.external_attr >> 16) for entry in entries]
    assert modes == ["-rw-r--r--", "-rwxr-xr-x", "-rw-r--r--"]
    assert {entry.create_system for entry in entries} == {3}
    assert sizes["b.py"] == (200, entries[2].compress_size)


@pytest.mark.parametrize(
    ("epoch", "time"),
    [(None, WHEN), ("", WHEN), ("0", WHEN), ("99999999999", (2107, 12, 31, 23, 59, 58))],
)
def test_a_time_that_a_zip_cannot_have_becomes_the_nearest(
    epoch: str | None, time: tuple[int, ...]
) -> None:
    assert zip_time(epoch) == time


def test_a_source_date_that_is_no_number_is_refused() -> None:
    with pytest.raises(PackageError, match="SOURCE_DATE_EPOCH is 'today'"):
        zip_time("today")


def test_the_hash_is_the_one_that_lambda_shows(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    shown = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    assert code_sha256(tmp_path / "empty") == shown


def test_a_zip_takes_its_place_at_once(tmp_path: Path) -> None:
    made, target = tmp_path / "made", tmp_path / "function.zip"
    made.write_text("new")
    target.write_text("old")
    with target.open() as reader:  # somebody who uploads it now
        put_in_place(made, target)
        assert reader.read() == "old"
    assert target.read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["function.zip", "made"]


def test_a_full_disk_leaves_the_old_zip_and_no_draft(tmp_path: Path) -> None:
    (tmp_path / "made").write_bytes(b"x" * 5000)
    (tmp_path / "function.zip").write_text("old")
    done = run_python(f"""
        import resource
        from pathlib import Path
        from dynaflow.deploy.packing.archive import put_in_place
        from dynaflow.errors import PackageError
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            put_in_place(Path({str(tmp_path / "made")!r}), Path({str(tmp_path / "function.zip")!r}))
        except PackageError as error:
            print(error)
    """)
    assert "function.zip could not be written: File too large" in done.stdout, done.stderr
    assert (tmp_path / "function.zip").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["function.zip", "made"]
