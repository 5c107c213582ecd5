"""What examples/deploy makes is made here, and run as Lambda runs it, with nothing else to import.

Wheels come from PyPI. Where that cannot be reached, these tests are skipped. They run with
``pytest -m packages`` only, because they install more than they test.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support import dockerfile
from tests.support.documents import ROOT, Document
from tests.support.lambda_function import answered, failed
from tests.support.runtime_api import RuntimeApi

pytest.importorskip("awslambdaric", reason="AWS publishes its runtime client for Linux only")
pytestmark = [
    pytest.mark.packages,
    pytest.mark.skipif(
        importlib.util.find_spec("pip") is None, reason="pip is not in this environment"
    ),
]

DEPLOY = ROOT / "examples" / "deploy"
HANDLER = "app.lambda_handler"
PACKAGE = Document("docs/package.md")
ARCHITECTURE = "arm64" if platform.machine() == "aarch64" else "x86_64"
EVENT = json.loads((ROOT / "examples" / "orders" / "event.json").read_text(encoding="utf-8"))

# dynaflow without extras, and what that needs.
CORE = {"annotated-types", "anyio", "dynaflow", "idna", "pydantic", "pydantic-core"}
CORE |= {"typing-extensions", "typing-inspection"}
RUNTIME_CLIENT = {"awslambdaric", "simplejson", "snapshot-restore-py"}

FROM_ELSEWHERE = ("/usr/bin/env", "--chdir=/")  # a bootstrap must not rely on where it is started


def test_the_folder_for_lambda_has_the_core_for_lambdas_processor(tmp_path: Path) -> None:
    folder = tmp_path / "function"
    build(folder)

    assert distributions(folder) == CORE
    assert (folder / "app.py").read_bytes() == (ROOT / "examples/orders/app.py").read_bytes()
    binaries = {path.name for path in folder.rglob("*.so")}
    assert binaries == {"_pydantic_core.cpython-313-aarch64-linux-gnu.so"}
    (size,) = Document("examples/deploy/README.md").column("Zipped")
    assert 0.9 < zipped_megabytes(folder, tmp_path) / float(size.split()[0]) < 1.1


def test_a_folder_that_is_not_empty_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text("# not deployed by accident\n", encoding="utf-8")
    done = run([str(DEPLOY / "build.sh"), str(tmp_path)])

    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["old.py"]


def test_the_container_image_answers_with_its_command(tmp_path: Path) -> None:
    image = image_of("container", tmp_path)
    assert image.base.startswith("public.ecr.aws/lambda/python:3.13")
    assert distributions(image.task_root) == CORE  # the runtime client is part of AWS's image
    (handler,) = image.command

    path = search_path(tmp_path, "python3")
    env = {"PATH": path, "PYTHONPATH": f"{image.task_root}:{runtime_client(tmp_path)}"}
    command = ["/usr/bin/env", f"PATH={path}", "python3", "-m", "awslambdaric", handler]
    root = image.task_root
    with RuntimeApi(handler, directory=tmp_path, env=env, root=root, command=command) as function:
        assert_it_works(function)


def test_the_custom_runtime_answers_from_its_image_and_from_the_folder(tmp_path: Path) -> None:
    image = image_of("custom-runtime", tmp_path)
    assert image.base.startswith("public.ecr.aws/lambda/provided:al2023")
    assert distributions(image.task_root) == CORE | RUNTIME_CLIENT
    (handler,) = image.command

    root = image.task_root
    env = {"PATH": search_path(tmp_path, image.env["PYTHON"]), "PYTHON": image.env["PYTHON"]}
    command = [*FROM_ELSEWHERE, str(image.inside("/var/runtime/bootstrap"))]
    with RuntimeApi(handler, directory=tmp_path, env=env, root=root, command=command) as function:
        assert_it_works(function)

    env = {"PATH": search_path(tmp_path, "python3")}  # as from a layer, in /opt/bin
    command = [*FROM_ELSEWHERE, str(root / "bootstrap")]
    with RuntimeApi(HANDLER, directory=tmp_path, env=env, root=root, command=command) as function:
        assert_it_works(function)


def test_the_command_packs_the_core_for_lambdas_processor(tmp_path: Path) -> None:
    made = packed(tmp_path, "--architecture", "arm64", "--python", "3.13", "--no-compile")
    folder = unzipped(tmp_path)

    assert distributions(folder) == CORE
    assert (made["handler"], made["runtime"]) == (HANDLER, "python3.13")
    binaries = {path.name for path in folder.rglob("*.so")}
    assert binaries == {"_pydantic_core.cpython-313-aarch64-linux-gnu.so"}
    said = re.findall(r"[\d.]+", PACKAGE.column("Without byte code")[0])
    for size, megabytes in zip((made["unzipped"], made["zipped"]), map(float, said), strict=True):
        assert 0.9 < size / 1e6 / megabytes < 1.1


def test_what_the_command_packs_answers_from_byte_code_alone(tmp_path: Path) -> None:
    made = packed(tmp_path, "--architecture", ARCHITECTURE)
    folder = unzipped(tmp_path)
    for source in folder.rglob("*.py"):  # it is never looked at, so this is not noticed
        source.write_text("raise SystemExit('compiled once more')\n", encoding="utf-8")

    path = search_path(tmp_path, "python3")
    env = {"PATH": path, "PYTHONPATH": f"{folder}:{runtime_client(tmp_path)}"}
    command = ["/usr/bin/env", f"PATH={path}", "python3", "-m", "awslambdaric", made["handler"]]
    with RuntimeApi(HANDLER, directory=tmp_path, env=env, root=folder, command=command) as function:
        assert_it_works(function)


@pytest.mark.parametrize(("shell", "script"), [("bash", "build.sh"), ("sh", "*/bootstrap")])
def test_scripts_are_well_formed_and_may_be_run(shell: str, script: str) -> None:
    (path,) = DEPLOY.glob(script)
    assert run([shell, "-n", str(path)]).stderr == ""
    assert os.access(path, os.X_OK)


def test_every_version_that_is_deployed_is_said(tmp_path: Path) -> None:
    lines = (DEPLOY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0] for line in lines if not line.startswith("#")}
    assert pinned == CORE - {"dynaflow"} | RUNTIME_CLIENT
    assert all(re.search(r"==[\d.]+(post\d+)?$", line) for line in lines[1:])


def assert_it_works(function: RuntimeApi) -> None:
    """Check an answer to good records, and one to a record that fails."""
    assert function.initialize() is None, function.stderr + function.stdout
    assert answered(function.invoke(EVENT)) == failed()

    spoiled = json.loads(json.dumps(EVENT))
    images = [record["dynamodb"] for record in spoiled["Records"]]
    images[1]["NewImage"]["email"] = {"S": ""}
    assert answered(function.invoke(spoiled)) == failed(images[1]["SequenceNumber"])


def build(folder: Path) -> None:
    """Run build.sh, or skip the test where PyPI cannot be reached."""
    done = run([str(DEPLOY / "build.sh"), str(folder)], PYTHON=sys.executable)
    if "connection broken" in done.stderr:
        pytest.skip("PyPI cannot be reached")
    assert done.returncode == 0, done.stderr


def packed(directory: Path, *options: str) -> dict[str, Any]:
    """Pack examples/orders by the command, or skip the test where PyPI cannot be reached."""
    requirements = directory / "requirements.txt"
    requirements.write_text(f"--constraint {DEPLOY / 'constraints.txt'}\n", encoding="utf-8")
    command = [sys.executable, "-m", "dynaflow", "package", "app:app", "--json"]
    command += ["--app-dir", str(ROOT / "examples" / "orders"), "--requirements", str(requirements)]
    done = run([*command, "--output", str(directory / "function.zip"), *options])
    if "index cannot be reached" in done.stderr:
        pytest.skip("PyPI cannot be reached")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def unzipped(directory: Path) -> Path:
    """Unpack the function that was packed, and return where."""
    with zipfile.ZipFile(directory / "function.zip") as archive:
        archive.extractall(directory / "task")
    return directory / "task"


def image_of(folder: str, directory: Path) -> dockerfile.Image:
    """Carry out the Dockerfile of a folder, or skip the test where PyPI cannot be reached."""
    file, place = DEPLOY / folder / "Dockerfile", directory / "image"
    try:
        return dockerfile.build(file, context=ROOT, directory=place, python=sys.executable)
    except AssertionError as error:
        if "connection broken" in str(error):
            pytest.skip("PyPI cannot be reached")
        raise


def run(command: Sequence[str], **env: str) -> subprocess.CompletedProcess[str]:
    """Run a program in this environment and a few more variables."""
    variables: Mapping[str, str] = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **env}
    return subprocess.run(
        command, env=variables, capture_output=True, text=True, timeout=50, check=False
    )


def distributions(folder: Path) -> set[str]:
    """Return what is installed in a folder, by its name on PyPI."""
    found = importlib.metadata.distributions(path=[str(folder)])
    return {each.name.lower().replace("_", "-") for each in found}


def search_path(directory: Path, name: str) -> str:
    """Return a PATH with an interpreter of this name that knows the standard library only."""
    folder = directory / "programs" / name
    folder.mkdir(parents=True)
    interpreter = getattr(sys, "_base_executable", sys.executable)
    (folder / name).write_text(f'#!/bin/sh\nexec "{interpreter}" -S "$@"\n', encoding="utf-8")
    (folder / name).chmod(0o755)
    return f"{folder}:/usr/bin:/bin"


def runtime_client(directory: Path) -> Path:
    """Return a folder with AWS's runtime client alone, as AWS's image has it."""
    folder = directory / "runtime"
    for name in RUNTIME_CLIENT:
        for file in importlib.metadata.files(name) or ():
            if ".." not in file.parts:
                place = folder / file
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(str(file.locate()), place)
    return folder


def zipped_megabytes(folder: Path, directory: Path) -> float:
    """Return the size of a folder's zip."""
    archive = shutil.make_archive(str(directory / "function"), "zip", folder)
    with zipfile.ZipFile(archive) as content:
        files: list[Any] = content.infolist()
    assert files
    return Path(archive).stat().st_size / 1e6
