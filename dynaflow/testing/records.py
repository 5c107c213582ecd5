"""Builds raw stream records, as Lambda hands them over, from Python values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from hashlib import blake2b
from typing import Any

from dynaflow.encoding import encode
from dynaflow.record import EventName
from dynaflow.values import canonical, decode, type_of

__all__ = ["RecordBuilder", "lambda_event"]

_VIEW_TYPES = ("KEYS_ONLY", "NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES")
_LABEL = "2026-01-01T00:00:00.000"
_STARTED = 1_767_225_600.0  # the same moment, in seconds since the epoch

# Both lengths are seen in AWS's own samples. Compared as text, 1… comes before 9…, so that whatever
# orders sequence numbers as text gets the third record wrong.
_SHORT_NUMBERS = 2
_FIRST_SHORT = 9 * 10**20
_FIRST_LONG = 10**27


class RecordBuilder:
    """Makes one stream's records, one after the other, as a table would write them.

    Each method returns a raw record in its Lambda form: a dict that ``json.dumps`` takes, binaries
    as base64 text. Sequence numbers and creation times grow with every record; the first two
    sequence numbers have 21 digits, all others 28, so they order by ``int()`` only. Two builders
    made alike return the same records.

    Args:
        keys: the names of the table's key attributes, one or two.
        table: the table's name.
        view_type: KEYS_ONLY, NEW_IMAGE, OLD_IMAGE or NEW_AND_OLD_IMAGES. It decides which images a
            record carries; the methods want whole items under each of them.
        region: the AWS region.
        account: the AWS account, 12 digits.

    Raises:
        TypeError: ``keys`` is a single string.
        ValueError: not one or two key names, or an unknown view type.
    """

    def __init__(
        self,
        keys: Iterable[str] = ("id",),
        *,
        table: str = "table",
        view_type: str = "NEW_AND_OLD_IMAGES",
        region: str = "us-east-1",
        account: str = "123456789012",
    ) -> None:
        if isinstance(keys, str):
            raise TypeError(f"keys is a single string; write keys=({keys!r},)")
        self._keys = tuple(keys)
        if len(self._keys) not in (1, 2):
            raise ValueError(f"a table has one or two key attributes, got {len(self._keys)}")
        if view_type not in _VIEW_TYPES:
            raise ValueError(f"unknown view type {view_type!r}; take one of {_VIEW_TYPES}")
        self._table = table
        self._view_type = view_type
        self._region = region
        self._account = account
        self._count = 0

    @property
    def stream_arn(self) -> str:
        """The ARN of the stream that all these records come from."""
        return (
            f"arn:aws:dynamodb:{self._region}:{self._account}:table/{self._table}/stream/{_LABEL}"
        )

    def insert(self, new: Mapping[str, Any]) -> dict[str, Any]:
        """Return the record of a new item.

        Args:
            new: the item, attribute names to Python values; see ``dynaflow.encoding.encode``.

        Raises:
            TypeError: a value that DynamoDB does not have, such as a float.
            ValueError: a key attribute is missing, empty, or not text, number or binary; or a
                number that DynamoDB cannot store.
        """
        image = _image(new)
        return self._record(EventName.INSERT, self._keys_of(image, "new"), new=image)

    def modify(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
        """Return the record of an item that was ``old`` and now is ``new``.

        Raises:
            TypeError, ValueError: as for ``insert``; ValueError also if the two have different
                keys: DynamoDB cannot change an item's key.
        """
        before, after = _image(old), _image(new)
        keys = self._keys_of(after, "new")
        if canonical({"M": keys}) != canonical({"M": self._keys_of(before, "old")}):
            raise ValueError(
                f"old and new differ in {' or '.join(map(repr, self._keys))}: they are two items. "
                "An item's key cannot change; write a remove() and an insert()."
            )
        return self._record(EventName.MODIFY, keys, old=before, new=after)

    def remove(self, old: Mapping[str, Any]) -> dict[str, Any]:
        """Return the record of a delete, by a user or by a service other than Time to Live.

        Raises:
            TypeError, ValueError: as for ``insert``.
        """
        image = _image(old)
        return self._record(EventName.REMOVE, self._keys_of(image, "old"), old=image)

    def expire(self, old: Mapping[str, Any]) -> dict[str, Any]:
        """Return the record of a delete by Time to Live: a REMOVE with its ``userIdentity``.

        Raises:
            TypeError, ValueError: as for ``insert``.
        """
        identity = {"type": "Service", "principalId": "dynamodb.amazonaws.com"}
        return self.remove(old) | {"userIdentity": identity}

    def event(self, *records: dict[str, Any]) -> dict[str, Any]:
        """Return the Lambda event that carries these records."""
        return lambda_event(*records)

    def _keys_of(self, image: Mapping[str, Any], name: str) -> dict[str, Any]:
        keys = {}
        for key in self._keys:
            if key not in image:
                raise ValueError(
                    f"{name} has no key attribute {key!r}. Add it, or name the table's own key "
                    "attributes in RecordBuilder(keys=…)."
                )
            kind = type_of(image[key])
            if kind not in ("S", "N", "B") or not image[key][kind]:
                raise ValueError(
                    f"the key attribute {key!r} of {name} is {kind} or empty. "
                    "A key is text, a number or bytes, and not empty."
                )
            keys[key] = dict(image[key])
        return keys

    def _record(
        self,
        event_name: EventName,
        keys: dict[str, Any],
        *,
        old: dict[str, Any] | None = None,
        new: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        shown: dict[str, Any] = {"Keys": keys}
        if new is not None and self._view_type in ("NEW_IMAGE", "NEW_AND_OLD_IMAGES"):
            shown["NewImage"] = new
        if old is not None and self._view_type in ("OLD_IMAGE", "NEW_AND_OLD_IMAGES"):
            shown["OldImage"] = old
        self._count += 1
        sequence_number = _sequence_number(self._count)
        return {
            "eventID": self._event_id(sequence_number),
            "eventName": event_name.value,
            "eventVersion": "1.1",
            "eventSource": "aws:dynamodb",
            "awsRegion": self._region,
            "dynamodb": {
                "ApproximateCreationDateTime": _STARTED + self._count,
                **shown,
                "SequenceNumber": sequence_number,
                "SizeBytes": sum(map(_size_of_attributes, shown.values())),
                "StreamViewType": self._view_type,
            },
            "eventSourceARN": self.stream_arn,
        }

    def _event_id(self, sequence_number: str) -> str:
        change = f"{self.stream_arn}/{sequence_number}".encode()
        return blake2b(change, digest_size=16).hexdigest()


def lambda_event(*records: dict[str, Any]) -> dict[str, Any]:
    """Return the Lambda event that carries these raw records, in this order."""
    return {"Records": list(records)}


def _image(item: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise TypeError(
            f"an item is a mapping of attribute names to values, got {type(item).__name__}"
        )
    return {name: _attribute(name, value) for name, value in item.items()}


def _attribute(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(name, str):
        raise TypeError(f"attribute names are text, got {type(name).__name__}")
    try:
        return encode(value)
    except (TypeError, ValueError) as error:
        error.add_note(f"in the attribute {name!r}")
        raise


def _sequence_number(count: int) -> str:
    first = _FIRST_SHORT if count <= _SHORT_NUMBERS else _FIRST_LONG
    return str(first + count)


def _size_of_attributes(attributes: Mapping[str, Any]) -> int:
    """Return bytes: the UTF-8 length of each name, and the size of its value."""
    return sum(_text_size(name) + _size(value) for name, value in attributes.items())


def _size(value: Mapping[str, Any]) -> int:
    """Return a value's bytes (DynamoDB developer guide, "Item sizes and formats")."""
    ((kind, payload),) = value.items()
    if kind in ("BOOL", "NULL"):
        return 1
    if kind in ("SS", "NS", "BS"):
        return sum(_size({kind[0]: member}) for member in payload)
    if kind == "M":
        return 3 + len(payload) + _size_of_attributes(payload)
    if kind == "L":
        return 3 + len(payload) + sum(map(_size, payload))
    if kind == "N":
        return _number_size(decode(value))
    return len(decode(value)) if kind == "B" else _text_size(payload)


def _text_size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _number_size(number: Decimal) -> int:
    """Return one byte, one more per two significant digits, and one more for a minus sign."""
    digits = "".join(map(str, number.as_tuple().digits)).strip("0")
    return 1 + (len(digits) + 1) // 2 + (number < 0)
