"""An embedded DynamoDB for the demo: moto's server on 127.0.0.1, in this process."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dynaflow.errors import ExtraMissing

__all__ = ["create_table", "emulator", "make_session"]

_REGION = "eu-north-1"

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

    Raises:
        ExtraMissing: what the demo needs is not installed.
    """
    try:
        import aioboto3  # noqa: F401 - it is wanted later on, and better missed before the start
        from moto.server import ThreadedMotoServer
    except ImportError as error:
        raise ExtraMissing((error.name or "moto").partition(".")[0], "demo") from None
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with _own_environment(), _silenced("werkzeug"):
        server.start()
        try:
            host, port = server.get_host_and_port()
            yield f"http://{host}:{port}"
        finally:
            server.stop()


def make_session() -> Any:
    """Return an aioboto3 session for the emulator, which takes any credentials."""
    import aioboto3

    return aioboto3.Session(
        aws_access_key_id="demo",
        aws_secret_access_key="demo",  # noqa: S106 - no secret
        region_name=_REGION,
    )


async def create_table(client: Any, name: str) -> None:
    """Create a table with the key ``id`` and a stream of new and old images."""
    await client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )


@contextmanager
def _own_environment() -> Iterator[None]:
    """Hide the user's AWS settings for a while: profiles and endpoints do not concern the demo."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("AWS_")}
    replaced = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name in _ENVIRONMENT:
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
