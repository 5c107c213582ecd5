"""A local Lambda Runtime API: AWS's own runtime client, awslambdaric, runs a handler against it.

Paths and headers: "Using the Lambda runtime API" in the AWS Lambda Developer Guide. It also plays
the platform: it ends a process at its deadline and starts another one after a process has died.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import Any, Self

__all__ = ["EXIT_ERROR", "TIMED_OUT", "Answer", "RuntimeApi"]

EXIT_ERROR = "Runtime.ExitError"
TIMED_OUT = "Sandbox.Timedout"

_ROOT = Path(__file__).parents[2]
_VERSION = "/2018-06-01/runtime"
_INIT_LIMIT = 10.0  # seconds, as in Lambda
_NEXT, _RESPONSE, _ERROR, _EXITED = "next", "response", "error", "exited"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller of one invocation is told.

    Args:
        pid: the process that the invocation was given to.
        payload: the handler's response, or the error object (``errorType``, ``errorMessage``, …).
        error_type: None for a response; ``TIMED_OUT`` and ``EXIT_ERROR`` come from the platform.
        seconds: from handing the event over to the answer.
    """

    pid: int
    payload: Any
    error_type: str | None
    seconds: float


class RuntimeApi:
    """Invokes one Lambda function; all invocations share a process for as long as it lives.

    Args:
        handler: ``module.attribute``, the module as it is imported from the root.
        directory: where the processes' output is kept.
        env: environment variables of the function, beside those that Lambda sets.
        root: the function's folder; where it is the project's root, it is on the import path.
        command: what is started in it; None is AWS's runtime client, by this interpreter.
    """

    def __init__(
        self,
        handler: str,
        *,
        directory: Path,
        env: Mapping[str, str] | None = None,
        root: Path = _ROOT,
        command: Sequence[str] | None = None,
    ) -> None:
        self._command = command or [sys.executable, "-m", "awslambdaric", handler]
        self._root = root
        self._env = _lambda_environment(handler, root) | dict(env or {})
        self._stdout = directory / "stdout"
        self._stderr = directory / "stderr"
        self._sandbox: _Sandbox | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    @property
    def stdout(self) -> str:
        """Everything that the processes have written to standard output."""
        return self._stdout.read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        """Everything that the processes have written to standard error."""
        return self._stderr.read_text(encoding="utf-8")

    def initialize(self) -> Answer | None:
        """Start a process and wait until it asks for an event, as Lambda's INIT phase does.

        Returns:
            None if it is ready (or was already), else the failure, for which no event was needed.
        """
        failure = self._running().wait_until_ready()
        if failure is not None:
            self._end()
        return failure

    def invoke(self, event: Any, *, timeout: float = 10.0) -> Answer:
        """Hand over an event and wait for its answer, ``timeout`` seconds at most.

        A process that died while it was idle is noticed here and replaced, as in Lambda; one that
        dies, or is ended at its deadline, is replaced at the next invocation.
        """
        if self._sandbox is not None and self._sandbox.has_exited():
            self._end()
        failure = self.initialize()
        if failure is not None:
            return failure
        answer = self._running().invoke(event, timeout)
        if answer.error_type in (TIMED_OUT, EXIT_ERROR):
            self._end()
        return answer

    def _running(self) -> _Sandbox:
        if self._sandbox is None:
            with self._stdout.open("ab") as stdout, self._stderr.open("ab") as stderr:
                self._sandbox = _Sandbox(
                    self._command, self._root, self._env, stdout.fileno(), stderr.fileno()
                )
        return self._sandbox

    def _end(self) -> None:
        sandbox, self._sandbox = self._sandbox, None
        if sandbox is not None:
            sandbox.end()


@dataclass(frozen=True, slots=True)
class _Request:
    id: str
    body: bytes
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class _Message:
    """What happened in a sandbox: the runtime called the API, or its process ended."""

    kind: str
    payload: Any = None


class _Sandbox:
    """One process of the runtime, and the API that it alone talks to."""

    def __init__(
        self, command: Sequence[str], root: Path, env: Mapping[str, str], stdout: int, stderr: int
    ) -> None:
        self.requests: Queue[_Request | None] = Queue()
        self.messages: Queue[_Message] = Queue()
        self._ready = False
        self._count = 0
        self._server = _Server(self)
        self._serving = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._serving.start()
        self._process = subprocess.Popen(
            command,
            cwd=root,
            env={**env, "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}"},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
        self._watching = threading.Thread(target=self._watch)
        self._watching.start()

    def has_exited(self) -> bool:
        return self._process.poll() is not None

    def wait_until_ready(self) -> Answer | None:
        """Wait until the runtime asks for an event; return the failure if it never does."""
        if self._ready:
            return None
        started = time.monotonic()
        message = self._message(_INIT_LIMIT)
        if message is not None and message.kind == _NEXT:
            self._ready = True
            return None
        return self._answer(message, started, _INIT_LIMIT)

    def invoke(self, event: Any, timeout: float) -> Answer:
        self._count += 1
        self._ready = False
        started = time.monotonic()
        deadline_ms = int((time.time() + timeout) * 1000)
        body = json.dumps(event).encode()
        self.requests.put(_Request(f"request-{self._count}", body, deadline_ms))
        return self._answer(self._message(timeout), started, timeout)

    def end(self) -> None:
        self._process.kill()
        self._watching.join()
        self.requests.put(None)
        self._server.shutdown()
        self._serving.join()
        self._server.server_close()

    def _watch(self) -> None:
        self.messages.put(_Message(_EXITED, self._process.wait()))

    def _message(self, timeout: float) -> _Message | None:
        try:
            return self.messages.get(timeout=timeout)
        except Empty:
            return None

    def _answer(self, message: _Message | None, started: float, timeout: float) -> Answer:
        seconds = time.monotonic() - started
        payload: Any
        if message is None:
            payload = {"errorMessage": f"Task timed out after {timeout:.2f} seconds"}
            return Answer(self._process.pid, payload, TIMED_OUT, seconds)
        if message.kind == _RESPONSE:
            return Answer(self._process.pid, message.payload, None, seconds)
        if message.kind == _ERROR:
            error_type = str(message.payload["errorType"])
            return Answer(self._process.pid, message.payload, error_type, seconds)
        payload = {"errorMessage": f"Runtime exited with {message.payload}"}
        return Answer(self._process.pid, payload, EXIT_ERROR, seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, sandbox: _Sandbox) -> None:
        super().__init__(("127.0.0.1", 0), _Api)
        self.sandbox = sandbox

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a process that was ended leaves broken connections behind."""


class _Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else every answer is 40 ms late
    server: _Server

    def do_GET(self) -> None:
        if self.path == f"{_VERSION}/restore/next":
            self._reply(200, b"")
            return
        self.server.sandbox.messages.put(_Message(_NEXT))
        request = self.server.sandbox.requests.get()
        if request is None:
            self.close_connection = True
            return
        self._reply(200, request.body, _invocation_headers(request))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._reply(202, b"")
        kind = self.path.rpartition("/")[2]  # …/invocation/ID/response, …/error, /init/error
        self.server.sandbox.messages.put(_Message(kind, json.loads(body)))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  http.server's name
        """Say nothing: the test's output is the function's."""

    def _reply(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _invocation_headers(request: _Request) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "Lambda-Runtime-Aws-Request-Id": request.id,
        "Lambda-Runtime-Deadline-Ms": str(request.deadline_ms),
        "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-west-1:123456789012:function:f",
        "Lambda-Runtime-Trace-Id": "Root=1-5e1b4151-43a0913a12345678901234567;Sampled=0",
    }


def _lambda_environment(handler: str, root: Path) -> dict[str, str]:
    """Return what Lambda sets, and nothing of this process's but where programs are found."""
    of_project = {"PYTHONPATH": str(_ROOT)} if root == _ROOT else {}
    return of_project | {
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_FUNCTION_NAME": "f",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/f",
        "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/01/[$LATEST]0",
        "AWS_REGION": "eu-west-1",
        "LAMBDA_TASK_ROOT": str(root),
        "PATH": os.environ.get("PATH", ""),
        "TZ": ":UTC",
        "_HANDLER": handler,
    }
