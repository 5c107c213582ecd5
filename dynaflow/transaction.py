"""Writes that are committed all together, with the mark that they are. Pure.

What is checked here is checked where the handler writes it, so that the error names its line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from dynaflow.encoding import encode
from dynaflow.errors import DynaflowError, TransactionRefused
from dynaflow.record import Image
from dynaflow.values import Canonical, canonical, decode, to_boto

__all__ = ["MAX_ACTIONS", "Operation", "Transaction", "Write"]

MAX_ACTIONS = 100
"""How many actions a transaction has at most (DynamoDB: TransactWriteItems); a mark is one."""

Operation: TypeAlias = Literal["put", "update", "delete", "condition_check"]

_ACTIONS = {
    "put": "Put",
    "update": "Update",
    "delete": "Delete",
    "condition_check": "ConditionCheck",
}
_KEY_TYPES = {"S", "N", "B"}


@dataclass(frozen=True, slots=True)
class Write:
    """One write of a transaction.

    Args:
        operation: "put", "update", "delete" or "condition_check".
        request: what boto3's client takes for it in ``TransactItems``.
    """

    operation: Operation
    request: Mapping[str, Any] = field(repr=False)  # item data is not for logs

    @property
    def table(self) -> str:
        """The table's name, or its ARN."""
        return str(self.request["TableName"])

    @property
    def item(self) -> dict[str, Any]:
        """The item of a put, as Python values; empty for the others."""
        return _plain(self.request.get("Item", {}))

    @property
    def key(self) -> dict[str, Any]:
        """The key of an update, a delete or a condition check; empty for a put."""
        return _plain(self.request.get("Key", {}))

    @property
    def values(self) -> dict[str, Any]:
        """What the placeholders of the expressions stand for, as Python values."""
        return _plain(self.request.get("ExpressionAttributeValues", {}))

    @property
    def action(self) -> dict[str, Any]:
        """The member of ``TransactItems``."""
        return {_ACTIONS[self.operation]: dict(self.request)}


class Transaction:
    """Collects writes that DynamoDB is to do all together, or none of them.

    Handlers get it by ``Annotated[Transaction, Depends(transactions)]``, see
    ``dynaflow.stores.Transactions``. Nothing is written while the handler runs. When it has
    returned, one TransactWriteItems writes everything, with a mark for each record of the call that
    says so; if it raises, nothing is.

    Keys, items and values are Python values as boto3's resources take them (``str``, ``int``,
    ``Decimal``, ``bytes``, ``bool``, ``None``, lists, mappings and sets; no floats), or an
    ``Image``. Expressions and placeholders are DynamoDB's own. ``writes`` are those so far.

    Args:
        marks: how many records the call has: so many of the 100 actions are taken already.
    """

    def __init__(self, marks: int = 1) -> None:
        self._marks = marks
        self._writes: list[Write] = []
        self._items: list[dict[str, Canonical]] = []
        self._sealed = False

    @property
    def writes(self) -> tuple[Write, ...]:
        """What was collected, in order."""
        return tuple(self._writes)

    def put(
        self,
        table: str,
        item: Mapping[str, Any],
        *,
        condition: str | None = None,
        values: Mapping[str, Any] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        """Write an item, in place of what is there.

        Args:
            table: the table's name, or its ARN.
            item: attribute names to Python values; an ``Image`` will do.
            condition: must be true of what is there, or nothing of the transaction is written.
            values: what the placeholders ``:…`` of the condition stand for.
            names: the attribute names that its placeholders ``#…`` stand for.

        Raises:
            TransactionRefused: it cannot work; or the 100 actions of a transaction are used up.
        """
        self._add(
            "put",
            table,
            {"Item": _typed(item, "item")},
            condition=condition,
            values=values,
            names=names,
        )

    def update(
        self,
        table: str,
        key: Mapping[str, Any],
        expression: str,
        *,
        condition: str | None = None,
        values: Mapping[str, Any] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        """Change an item, or make it if there is none.

        Args:
            table: the table's name, or its ARN.
            key: the item's primary key, all of its attributes.
            expression: what changes, such as ``"ADD balance :amount"``.
            condition: must be true of what is there, or nothing of the transaction is written.
            values: what the placeholders ``:…`` of expression and condition stand for.
            names: the attribute names that their placeholders ``#…`` stand for.

        Raises:
            TransactionRefused: it cannot work; or the 100 actions of a transaction are used up.
        """
        self._add(
            "update",
            table,
            _key(key),
            expression=expression,
            condition=condition,
            values=values,
            names=names,
        )

    def delete(
        self,
        table: str,
        key: Mapping[str, Any],
        *,
        condition: str | None = None,
        values: Mapping[str, Any] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        """Delete an item; that there is none is no error. For the arguments see ``update``.

        Raises:
            TransactionRefused: it cannot work; or the 100 actions of a transaction are used up.
        """
        self._add(
            "delete",
            table,
            _key(key),
            condition=condition,
            values=values,
            names=names,
        )

    def condition_check(
        self,
        table: str,
        key: Mapping[str, Any],
        condition: str,
        *,
        values: Mapping[str, Any] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        """Write nothing of the transaction unless this is true of an item that it does not write.

        For the arguments see ``update``.

        Raises:
            TransactionRefused: it cannot work; or the 100 actions of a transaction are used up.
        """
        if condition is None:
            raise TransactionRefused("condition_check(...) without a condition checks nothing")
        self._add(
            "condition_check",
            table,
            _key(key),
            condition=condition,
            values=values,
            names=names,
        )

    def seal(self) -> None:
        """Take no more writes, which would be lost: the handler has ended."""
        self._sealed = True

    def __repr__(self) -> str:
        return f"<Transaction of {len(self._writes)} writes>"

    def _add(
        self,
        operation: Operation,
        table: str,
        what: dict[str, Any],
        *,
        condition: str | None,
        values: Mapping[str, Any] | None,
        names: Mapping[str, str] | None,
        expression: str | None = None,
    ) -> None:
        if not isinstance(table, str) or not table:
            raise TransactionRefused(f"tx.{operation}(table, ...): a table is named by its name")
        request: dict[str, Any] = {"TableName": table, **what}
        if operation == "update":
            request["UpdateExpression"] = _expression(expression, "expression")
        if condition is not None:
            request["ConditionExpression"] = _expression(condition, "condition")
        text = " ".join((expression or "", condition or ""))
        if _placeholders(":", text, values, "values"):
            request["ExpressionAttributeValues"] = _typed(values, "values")
        if _placeholders("#", text, names, "names"):
            request["ExpressionAttributeNames"] = _attribute_names(names)
        write = Write(operation, request)
        self._refuse_late(write)
        self._refuse_too_many()
        self._refuse_twice(write)
        self._writes.append(write)

    def _refuse_late(self, write: Write) -> None:
        if self._sealed:
            raise DynaflowError(
                f"tx.{write.operation}(...) came when its call had ended, so it would never be "
                "committed: await what the handler starts, and do not keep its Transaction"
            )

    def _refuse_too_many(self) -> None:
        if self._marks + len(self._writes) < MAX_ACTIONS:
            return
        most = MAX_ACTIONS - self._marks
        if self._marks == 1:
            raise TransactionRefused(
                f"a transaction has at most {most} writes, because DynamoDB takes {MAX_ACTIONS} "
                f"actions and one is the record's mark; this is write {most + 1}. What does not "
                "have to be committed together belongs into another route."
            )
        raise TransactionRefused(
            f"a transaction has at most {MAX_ACTIONS} actions; this call has {self._marks} "
            f"records, each with a mark, so that {most} writes are left, and this is write "
            f"{most + 1}. Write on_batch(max_items=...) with a lower number."
        )

    def _refuse_twice(self, write: Write) -> None:
        """Refuse a second action on one item, as far as keys are known."""
        mine = _scalars(write.request.get("Key") or write.request["Item"])
        for number, (other, theirs) in enumerate(zip(self._writes, self._items, strict=True), 1):
            if other.table == write.table and _is_same_item(other, theirs, write, mine):
                raise TransactionRefused(
                    f"write {len(self._writes) + 1} ({write.operation}) and write {number} "
                    f"({other.operation}) are of the same item of {write.table!r}, and DynamoDB "
                    "takes one action on an item in a transaction: put both into one. A condition "
                    "on an item that is written is its write's condition=."
                )
        self._items.append(mine)


def _is_same_item(
    one: Write, ones: dict[str, Canonical], other: Write, others: dict[str, Canonical]
) -> bool:
    if one.operation == "put" == other.operation:
        return False  # which attributes are the key is not known here; DynamoDB will say it
    if one.operation == "put":
        return others.items() <= ones.items()
    return ones.items() <= others.items()


def _scalars(attributes: Mapping[str, Any]) -> dict[str, Canonical]:
    """Return what may be of a key, so that it is equal where DynamoDB calls it equal."""
    return {n: canonical(v) for n, v in attributes.items() if not _KEY_TYPES.isdisjoint(v)}


def _key(key: Mapping[str, Any]) -> dict[str, Any]:
    typed = _typed(key, "key")
    for name, value in typed.items():
        if _KEY_TYPES.isdisjoint(value):
            raise TransactionRefused(
                f"key[{name!r}] is text, a number or binary: write Python values, {{'id': '1'}} "
                "and not {'id': {'S': '1'}}"
            )
    if not 1 <= len(typed) <= 2:
        raise TransactionRefused(
            f"a primary key has one or two attributes, and this key= has {len(typed)}"
        )
    return {"Key": typed}


def _typed(values: Mapping[str, Any] | None, where: str) -> dict[str, Any]:
    """Return values as boto3's client takes them."""
    if isinstance(values, Image):
        return values.to_dynamodb()
    if not isinstance(values, Mapping):
        raise TransactionRefused(
            f"{where} is a mapping of names to Python values, got {type(values).__name__}"
        )
    typed = {}
    for name, value in values.items():
        if not isinstance(name, str):
            raise TransactionRefused(f"{where}: names are text, got {type(name).__name__}")
        try:
            typed[name] = to_boto(encode(value))
        except (TypeError, ValueError) as error:
            raise TransactionRefused(f"{where}[{name!r}]: {error}") from None
    return typed


def _attribute_names(names: Mapping[str, str] | None) -> dict[str, str]:
    for placeholder, name in (names or {}).items():
        if not isinstance(name, str):
            raise TransactionRefused(
                f"names[{placeholder!r}] is an attribute's name, got {type(name).__name__}"
            )
    return dict(names or {})


def _expression(text: str | None, where: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise TransactionRefused(f"{where} is an expression of DynamoDB's, as text, and not empty")
    return text


def _placeholders(sign: str, text: str, given: Mapping[str, Any] | None, option: str) -> bool:
    """Return True if there are any; refuse those that are not both given and used."""
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise TransactionRefused(f"{option}= is a mapping, got {type(given).__name__}")
    used = set(re.findall(rf"{sign}\w+", text))
    for name in given:
        if not isinstance(name, str) or not re.fullmatch(rf"{sign}\w+", name):
            meant = sign + re.sub(r"\W", "", str(name))
            raise TransactionRefused(
                f"{option}=: a placeholder is {sign!r} and letters, digits or '_', so {name!r} is "
                f"none: write {meant!r}"
            )
        if name not in used:
            raise TransactionRefused(f"{option}= has {name!r}, which no expression uses: remove it")
    for name in sorted(used):
        if name not in given:
            raise TransactionRefused(f"an expression uses {name!r}, and {option}= does not have it")
    return bool(given)


def _plain(typed: Mapping[str, Any]) -> dict[str, Any]:
    return {name: decode(value) for name, value in typed.items()}
