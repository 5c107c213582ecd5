"""An embedded AWS for the demos: moto's services on 127.0.0.1, in this process."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from threading import Lock, Thread
from typing import Any
from urllib.parse import urlsplit

from dynaflow.errors import ExtraMissing

__all__ = ["REGION", "aws_at", "emulator", "forget"]

REGION = "eu-north-1"

_STOP_WITHIN = 0.05  # seconds; half a second by default, which every test would wait for

# For botocore as moto and the demo's own clients use it: no files, no proxy, and no endpoints that
# name the account, which moto does not know.
_ENVIRONMENT = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_ACCOUNT_ID_ENDPOINT_MODE": "disabled",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


@contextmanager
def emulator() -> Iterator[str]:
    """Run the emulator on a free port; the value is its URL.

    What it keeps belongs to the process: emulators that run one after the other share it.

    Raises:
        ExtraMissing: what the demo needs is not installed.
    """
    try:
        import aioboto3  # noqa: F401 - it is wanted later on, and better missed before the start
        from moto.moto_server.werkzeug_app import (
            DomainDispatcherApplication,
            create_backend_app,
        )
        from werkzeug.serving import make_server
    except ImportError as error:
        raise ExtraMissing((error.name or "moto").partition(".")[0], "demo") from None
    with _environment(_ENVIRONMENT), _silenced("werkzeug"):
        application = _OneAtATime(DomainDispatcherApplication(create_backend_app))
        server = make_server("127.0.0.1", 0, application, threaded=True)
        thread = Thread(target=server.serve_forever, args=(_STOP_WITHIN,), name="emulator")
        thread.daemon = True
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@contextmanager
def aws_at(url: str) -> Iterator[None]:
    """Let clients that are made from the environment go to the emulator for a while.

    So an app makes its clients as in production. Clients of S3 need no other style of addresses:
    where the host is a number, botocore puts the bucket's name into the path by itself.
    """
    settings = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }
    with _environment(_ENVIRONMENT | settings):
        yield


def forget(url: str) -> None:
    """Let the emulator drop everything that it keeps: tables, buckets and all."""
    connection = HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("POST", "/moto-api/reset")
        connection.getresponse().read()
    finally:
        connection.close()


class _OneAtATime:
    """A WSGI application whose requests come one after the other.

    moto takes no locks. Two writes at a time would see each other's halves: a condition that holds
    for both, or two records of a stream with one sequence number.
    """

    def __init__(self, application: Callable[..., Any]) -> None:
        self._application = application
        self._lock = Lock()

    def __call__(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Any:
        with self._lock:
            return list(self._application(environ, start_response))


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Have these settings, and no others of AWS, for a while: the user's are not for the demo."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("AWS_")}
    replaced = {name: os.environ[name] for name in settings if name in os.environ}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name in settings:
            os.environ.pop(name, None)
        os.environ.update(hidden | replaced)


@contextmanager
def _silenced(name: str) -> Iterator[None]:
    """Let a logger say nothing but errors for a while."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
