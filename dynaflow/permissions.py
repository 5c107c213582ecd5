"""What an App needs permission for, as statements of an IAM policy. Pure.

Stores, sinks of dead letters, middleware and dependencies say it themselves, by a method
``permissions()``. Which operation wants which action: Service Authorization Reference, "Actions,
resources, and condition keys for AWS services".
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from dynaflow.errors import DynaflowError

__all__ = [
    "Permission",
    "Permitted",
    "TableNeeds",
    "bucket_arn",
    "key_arn",
    "merged",
    "permissions_of",
    "queue_arn",
    "region_of_queue",
    "table_arn",
]

_QUEUE_REGION = re.compile(
    r"https?://(?:[^/]*\.)?(?:sqs(?:-fips)?\.([a-z]+(?:-[a-z]+)+-\d+)\.|"
    r"([a-z]+(?:-[a-z]+)+-\d+)\.queue\.)"
)


@dataclass(frozen=True, slots=True)
class Permission:
    """One statement of an IAM policy.

    Args:
        actions: such as "dynamodb:PutItem", sorted.
        resources: ARNs; what is not known is written ``${Partition}``, ``${Region}`` and
            ``${Account}``, as AWS's Service Authorization Reference does.
        reason: what needs it.
    """

    actions: tuple[str, ...]
    resources: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class TableNeeds:
    """How a table has to be made, so that what an App uses can keep marks in it.

    Args:
        table: its name or ARN.
        key: its key attributes, of type S, partition key first.
        expiry: the attribute that its Time to Live has to be on.
        reader: what keeps marks in it, for messages.
    """

    table: str
    key: tuple[str, ...]
    expiry: str
    reader: str


class Permitted(Protocol):
    """A store, sink, middleware or dependency that says what it needs permission for."""

    def permissions(self) -> tuple[Permission, ...]:
        """Return what it needs while records are handled, and nothing more; none for nothing."""
        ...


def permissions_of(*users: object) -> tuple[Permission, ...]:
    """Return what some objects need, merged; those without ``permissions()`` need nothing.

    Args:
        users: stores, sinks, middleware, functions of dependencies. Of a bound method and of a
            ``functools.partial`` the object behind it is asked, too.

    Raises:
        DynaflowError: one of them says something else than permissions.
    """
    return merged(permission for user in users for permission in _of(user))


def _of(user: object) -> Iterator[Permission]:
    while isinstance(user, functools.partial):
        user = user.func
    method = getattr(user, "permissions", None)
    if method is None:
        method = getattr(getattr(user, "__self__", None), "permissions", None)
    if not callable(method) or isinstance(user, type):
        return
    told: Any = method()
    if not isinstance(told, (tuple, list)) or not all(isinstance(p, Permission) for p in told):
        raise DynaflowError(
            f"{type(user).__name__}.permissions() returned {type(told).__name__}: it returns a "
            "tuple of dynaflow.permissions.Permission, which may be empty"
        )
    yield from told


def merged(permissions: Iterable[Permission]) -> tuple[Permission, ...]:
    """Return them with one statement for each resource and reason, in order of appearance."""
    actions: dict[tuple[tuple[str, ...], str], set[str]] = {}
    for permission in permissions:
        actions.setdefault((permission.resources, permission.reason), set()).update(
            permission.actions
        )
    return tuple(
        Permission(tuple(sorted(found)), resources, reason)
        for (resources, reason), found in actions.items()
    )


def table_arn(table: str) -> str:
    """Return the ARN of a table, from its name or ARN."""
    if table.startswith("arn:"):
        return table
    return f"arn:${{Partition}}:dynamodb:${{Region}}:${{Account}}:table/{table}"


def queue_arn(queue_url: str) -> str:
    """Return the ARN of a queue, from its URL: what the URL does not say stays open."""
    parts = urlsplit(queue_url)
    account, _, name = parts.path.strip("/").rpartition("/")
    account = account.rpartition("/")[2]
    region = region_of_queue(queue_url)
    is_account = region is not None and re.fullmatch(r"\d{12}", account) is not None
    place = f"{region or '${Region}'}:{account if is_account else '${Account}'}"
    return f"arn:${{Partition}}:sqs:{place}:{name}"


def region_of_queue(queue_url: str) -> str | None:
    """Return the region that a queue's URL names; None if it names none."""
    match = _QUEUE_REGION.match(queue_url)
    return None if match is None else match[1] or match[2]


def bucket_arn(bucket: str, keys: str) -> str:
    """Return the ARN of a bucket's objects.

    Args:
        bucket: its name.
        keys: their keys, ``*`` for any part.
    """
    return f"arn:${{Partition}}:s3:::{bucket}/{keys}"


def key_arn(key: str) -> str:
    """Return the ARN of a KMS key, from its ARN or id; an alias does not say which key it is."""
    if key.startswith("arn:") and ":key/" in key:
        return key
    name = "*" if "alias/" in key else key
    return f"arn:${{Partition}}:kms:${{Region}}:${{Account}}:key/{name}"
