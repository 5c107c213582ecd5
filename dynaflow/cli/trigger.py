"""``dynaflow trigger``: write to a table, so that its stream has a record."""

from __future__ import annotations

import asyncio
import signal
import sys
from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any

import typer

from dynaflow.cli._exit import ExitCode, refuse
from dynaflow.cli._grammar import parse_assignment
from dynaflow.cli._options import EndpointUrl, Region
from dynaflow.cli._output import talk
from dynaflow.encoding import encode
from dynaflow.sources._client import Clients, ConditionFailed
from dynaflow.values import canonical, decode, harmless, printable

__all__ = ["trigger"]


class Change(StrEnum):
    """What is to happen to the item."""

    INSERT = "insert"
    MODIFY = "modify"
    REMOVE = "remove"


_DONE = {Change.INSERT: "inserted", Change.MODIFY: "modified", Change.REMOVE: "removed"}
_AS_KEY = {"S": "text, as in id=A-1", "N": "a number as JSON does, as in id=7"}
_REFUSED = {
    Change.INSERT: "there is such an item already, and it is left as it is. Change it with: "
    "dynaflow trigger modify",
    Change.MODIFY: "there is no such item. Write it with: dynaflow trigger insert",
    Change.REMOVE: "there is no such item, so there is nothing to remove",
}


@dataclass(frozen=True, slots=True)
class _Item:
    """What is written: attributes in their wire form, binaries as bytes.

    Args:
        key: the key attributes, all of them.
        others: the other attributes that are named.
    """

    key: Mapping[str, Any]
    others: Mapping[str, Any]

    def __str__(self) -> str:
        return " ".join(f"{name}={printable(decode(value))}" for name, value in self.key.items())


def trigger(
    change: Annotated[Change, typer.Argument(metavar="CHANGE", help="insert, modify or remove.")],
    table: Annotated[str, typer.Argument(metavar="TABLE", help="The table's name.")],
    attributes: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=VALUE",
            help="The key, and other attributes: status=paid total=20 tags:='[\"a\"]'.",
        ),
    ],
    *,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Write to AWS without being asked.")
    ] = False,
    region: Region = None,
    endpoint_url: EndpointUrl = None,
) -> None:
    """Write to a table, so that its stream has a record.

    insert writes a new item, and never over another one; modify sets the named
    attributes of an item that is there; remove deletes it. A value is a number
    if it looks like one, else text; NAME:=JSON takes any other type.
    """
    assigned = _assigned(attributes)
    clients = Clients(None, region, endpoint_url, None)
    asyncio.run(_write(clients, change, table, assigned, yes))


def _assigned(attributes: Sequence[str]) -> dict[str, tuple[str, Any]]:
    """Return name → how it was written, and its value."""
    assigned: dict[str, tuple[str, Any]] = {}
    for text in attributes:
        try:
            name, value = parse_assignment(text)
        except ValueError as error:
            refuse(f"{text!r}: {error}", ExitCode.USAGE)
        if name in assigned:
            refuse(f"{name!r} is given twice", ExitCode.USAGE)
        assigned[name] = text, value
    return assigned


async def _write(
    clients: Clients,
    change: Change,
    table: str,
    assigned: Mapping[str, tuple[str, Any]],
    yes: bool,
) -> None:
    async with clients:
        description = await clients.describe_table(table)
        item = _item(change, description, assigned)
        where = f"table {table} at {clients.endpoint} ({clients.region})"
        talk(f"writing to {where}")
        if not (description.get("StreamSpecification") or {}).get("StreamEnabled"):
            talk(f"table {table} has no stream, so no record will come of it")
        numbers = [name for name in item.others if _is_bare_number(name, *assigned[name])]
        if numbers:
            names = ", ".join(map(harmless, numbers))
            talk(f"as numbers: {names}. What is meant as text needs quotes: 'zip=\"10115\"'")
        if clients.is_aws and not yes:
            _confirm(f"{change} {item} in {where}?")
        operation, options = _request(change, item)
        try:
            answer = await clients.write(operation, {"TableName": table, **options})
        except ConditionFailed:
            refuse(f"{change} {item} in {table}: {_REFUSED[change]}", ExitCode.AWS_REFUSED)
    typer.echo(f"{_DONE[change]} {item} in {table}")
    if change is Change.MODIFY and not _differs(item, answer.get("Attributes") or {}):
        talk("nothing is another value than before, so no record will come of it")


def _confirm(question: str) -> None:
    """Go on after a yes. Nothing else runs on the loop, so that it may wait for an answer."""
    # A loop's own handler would only note the signal, and go on waiting.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
    finally:
        signal.signal(signal.SIGINT, before)
    if answer.strip().lower() not in ("y", "yes"):
        refuse("nothing was written. Without a question: --yes", ExitCode.USAGE)


def _item(
    change: Change, description: Mapping[str, Any], assigned: Mapping[str, tuple[str, Any]]
) -> _Item:
    """Sort the attributes into key and others, by what the table says about itself."""
    kinds = {a["AttributeName"]: a["AttributeType"] for a in description["AttributeDefinitions"]}
    names = [element["AttributeName"] for element in description["KeySchema"]]
    missing = [name for name in names if name not in assigned]
    if missing:
        table = description.get("TableName", "the table")
        refuse(
            f"the key of {table} is {' and '.join(names)}, and {missing[0]} is missing: add "
            f"{missing[0]}=VALUE",
            ExitCode.USAGE,
        )
    key = {name: _key_value(name, kinds[name], *assigned[name]) for name in names}
    others = {
        name: _wire(text, value) for name, (text, value) in assigned.items() if name not in key
    }
    if change is Change.REMOVE and others:
        refuse(f"remove takes the key alone: leave out {', '.join(others)}", ExitCode.USAGE)
    if change is Change.MODIFY and not others:
        refuse("modify wants an attribute to set besides the key: status=paid", ExitCode.USAGE)
    return _Item(key, others)


def _key_value(name: str, kind: str, text: str, value: Any) -> dict[str, Any]:
    """Return a key attribute in the type that the table has for it."""
    if kind == "B":
        try:
            return {"B": b64decode(value, validate=True)}
        except (TypeError, ValueError):
            refuse(f"{text!r}: {name} is a binary: write it as base64 text", ExitCode.USAGE)
    written = _wire(text, value)
    if kind == "S" and "N" in written and not text.startswith(f"{name}:="):
        return {"S": text.partition("=")[2]}  # it only looks like a number
    if kind not in written:
        refuse(
            f"{text!r}: {name} is of type {kind} in this table, and this is {next(iter(written))}. "
            f"Write {_AS_KEY[kind]}",
            ExitCode.USAGE,
        )
    if written == {"S": ""}:
        refuse(f"{text!r}: a key is never empty. Write {_AS_KEY[kind]}", ExitCode.USAGE)
    return written


def _is_bare_number(name: str, text: str, value: Any) -> bool:
    """Return True for a number that is one by its looks alone; JSON says what it means."""
    return isinstance(value, Decimal) and not text.startswith(f"{name}:=")


def _wire(text: str, value: Any) -> dict[str, Any]:
    try:
        return encode(value)
    except (TypeError, ValueError) as error:
        refuse(f"{text!r}: {error}", ExitCode.USAGE)


def _request(change: Change, item: _Item) -> tuple[str, dict[str, Any]]:
    """Return the operation and its options; conditions make sure that a record comes of it."""
    first = next(iter(item.key))
    there = "attribute_not_exists" if change is Change.INSERT else "attribute_exists"
    names = {"#key": first}
    options: dict[str, Any] = {
        "ConditionExpression": f"{there}(#key)",
        "ExpressionAttributeNames": names,
    }
    if change is Change.INSERT:
        return "PutItem", options | {"Item": {**item.key, **item.others}}
    options["Key"] = dict(item.key)
    if change is Change.REMOVE:
        return "DeleteItem", options
    names.update({f"#n{at}": name for at, name in enumerate(item.others)})
    sets = ", ".join(f"#n{at} = :v{at}" for at in range(len(item.others)))
    return "UpdateItem", options | {
        "UpdateExpression": f"SET {sets}",
        "ExpressionAttributeValues": {f":v{at}": v for at, v in enumerate(item.others.values())},
        "ReturnValues": "UPDATED_OLD",
    }


def _differs(item: _Item, before: Mapping[str, Any]) -> bool:
    return any(
        name not in before or canonical(value) != canonical(before[name])
        for name, value in item.others.items()
    )
