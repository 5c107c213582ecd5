"""CloudWatch metrics as lines of text, in the embedded metric format; no AWS call, no dependency.

In Lambda, what is printed goes to CloudWatch Logs, which makes metrics of such lines. Rules: Amazon
CloudWatch User Guide, "Specification: Embedded metric format". One line a batch, and one for each
of its routes, however many records it has.
"""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from dynaflow.batch import Status
from dynaflow.errors import RegistrationError
from dynaflow.observe import BatchEnded, CallEnded, CallRetried, Event
from dynaflow.record import table_of

__all__ = ["EMF"]

_COUNTS = {
    Status.DONE: "Done",
    Status.FAILED: "Failed",
    Status.NOT_DONE: "NotDone",
    Status.SKIPPED: "Skipped",
    Status.PARKED: "DeadLettered",
    Status.REPEATED: "Repeated",
}
_VALUES = 100  # the most that one line may hold of a metric
_DIMENSIONS = 30  # the most that a metric may have
_LONGEST_NAME = 250
_LONGEST_VALUE = 1024
_NAMESPACE = re.compile(r"(?!AWS/)[A-Za-z0-9._\-/#: ]{1,255}")
_TAKEN = frozenset(
    {"_aws", "route", "table", "Records", "RecordsNotDone", "Undecodable", "BatchDuration"}
    | {"IteratorAge", "Duration", "Retried", *_COUNTS.values()}
)


class EMF:
    """An observer that prints metrics of every batch as lines of the embedded metric format.

    Of a batch, without a dimension of its own: ``Records``, ``RecordsNotDone``, ``Undecodable``,
    ``DeadLettered``, ``BatchDuration`` and ``IteratorAge`` (milliseconds). Of each of its routes,
    with the dimension ``route``: ``Done``, ``Failed``, ``NotDone``, ``Skipped``, ``DeadLettered``
    and ``Repeated`` records, ``Retried`` attempts, and ``Duration`` (milliseconds a call; beyond
    100 calls, 100 of them that stand for all).

    Args:
        namespace: CloudWatch's namespace of the metrics.
        stream: where lines go; None for ``sys.stdout``, whatever that is at the time.
        dimensions: further dimensions of every metric, such as ``{"service": "orders"}``. Each
            combination of values is a metric that CloudWatch bills.

    Raises:
        RegistrationError: CloudWatch would not take the namespace or a dimension.
    """

    def __init__(
        self,
        namespace: str = "dynaflow",
        *,
        stream: TextIO | None = None,
        dimensions: Mapping[str, str] | None = None,
    ) -> None:
        self._namespace = _checked_namespace(namespace)
        self._dimensions = _checked_dimensions(dimensions or {})
        self._stream = stream
        self._lock = threading.Lock()  # one observer may serve several Apps
        self._durations: dict[str, list[float]] = {}
        self._retried: Counter[str] = Counter()

    def __call__(self, event: Event, /) -> None:
        """Note how a call went, or print the lines of a batch."""
        if isinstance(event, CallEnded):
            self._note(event)
        elif isinstance(event, CallRetried):
            with self._lock:
                self._retried[event.route] += 1
        if not isinstance(event, BatchEnded):
            return
        timestamp = int(time.time() * 1000)
        lines = [self._batch_line(event, timestamp)]
        for route, counts in _by_route(event).items():
            with self._lock:  # those of other routes are of other batches, which have not ended
                durations = self._durations.pop(route, ())
                retried = self._retried.pop(route, 0)
            lines.append(self._route_line(route, counts, retried, durations, timestamp))
        self._print(lines)

    def _note(self, event: CallEnded) -> None:
        outcome = event.outcome
        if outcome.route is not None and outcome.duration:  # else it never began
            with self._lock:
                self._durations.setdefault(outcome.route, []).append(outcome.duration)

    def _batch_line(self, event: BatchEnded, timestamp: int) -> dict[str, Any]:
        outcomes = event.result.outcomes
        given_up = (Status.FAILED, Status.PARKED)
        metrics: dict[str, tuple[str, Any]] = {
            "Records": ("Count", event.records),
            "RecordsNotDone": ("Count", len(event.result.not_done)),
            "Undecodable": (
                "Count",
                sum(o.route is None and o.status in given_up for o in outcomes),
            ),
            "DeadLettered": ("Count", sum(o.status is Status.PARKED for o in outcomes)),
            "BatchDuration": ("Milliseconds", _milliseconds(event.duration)),
        }
        if event.iterator_age is not None:
            metrics["IteratorAge"] = ("Milliseconds", _milliseconds(event.iterator_age))
        line = self._line(metrics, self._dimensions, timestamp)
        table = table_of(event.source_arn)
        return line if table is None else {**line, "table": table}  # to search for, no dimension

    def _route_line(
        self,
        route: str,
        counts: Counter[Status],
        retried: int,
        durations: Sequence[float],
        timestamp: int,
    ) -> dict[str, Any]:
        metrics: dict[str, tuple[str, Any]] = {
            name: ("Count", counts[status]) for status, name in _COUNTS.items()
        }
        metrics["Retried"] = ("Count", retried)
        if durations:
            values = [_milliseconds(seconds) for seconds in _spread(durations)]
            metrics["Duration"] = ("Milliseconds", values)
        return self._line(metrics, {"route": _as_value(route), **self._dimensions}, timestamp)

    def _line(
        self, metrics: Mapping[str, tuple[str, Any]], dimensions: Mapping[str, str], timestamp: int
    ) -> dict[str, Any]:
        directive = {
            "Namespace": self._namespace,
            "Dimensions": [list(dimensions)],
            "Metrics": [{"Name": name, "Unit": unit} for name, (unit, _) in metrics.items()],
        }
        return {
            "_aws": {"Timestamp": timestamp, "CloudWatchMetrics": [directive]},
            **dimensions,
            **{name: value for name, (_, value) in metrics.items()},
        }

    def _print(self, lines: Sequence[Mapping[str, Any]]) -> None:
        stream = sys.stdout if self._stream is None else self._stream
        if stream is None:  # a process that was started without one
            return
        # One write, so that nothing that is printed at the same time comes in between.
        stream.write("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
        stream.flush()


def _by_route(event: BatchEnded) -> dict[str, Counter[Status]]:
    counts: dict[str, Counter[Status]] = {}
    for outcome in event.result.outcomes:
        if outcome.route is not None:
            counts.setdefault(outcome.route, Counter())[outcome.status] += 1
    return counts


def _spread(values: Sequence[float]) -> list[float]:
    """Return all values if a line may hold them, else as many evenly over their order.

    Least, greatest and percentiles stay what they are; the number of values does not.
    """
    if len(values) <= _VALUES:
        return list(values)
    ordered, last = sorted(values), len(values) - 1
    return [ordered[round(at * last / (_VALUES - 1))] for at in range(_VALUES)]


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _as_value(text: str) -> str:
    """Return a text as a dimension's value: printable ASCII, not blank, not too long."""
    plain = text.encode("ascii", "backslashreplace").decode()
    plain = "".join(letter if letter.isprintable() else "?" for letter in plain)
    return plain[:_LONGEST_VALUE] if plain.strip() else "?"


def _checked_namespace(namespace: str) -> str:
    if not isinstance(namespace, str) or not _NAMESPACE.fullmatch(namespace):
        raise RegistrationError(
            "EMF(namespace=...) is 1 to 255 letters, digits and . - _ / # : or spaces, and does "
            "not begin with 'AWS/', which is Amazon's own"
        )
    if not namespace.strip():
        raise RegistrationError("EMF(namespace=...) is blank")
    return namespace


def _checked_dimensions(dimensions: Mapping[str, str]) -> dict[str, str]:
    if len(dimensions) >= _DIMENSIONS:
        raise RegistrationError(
            f"EMF(dimensions=...) has {len(dimensions)} of them: a metric may have {_DIMENSIONS}, "
            "and 'route' is one"
        )
    for name, value in dimensions.items():
        if name in _TAKEN:
            raise RegistrationError(f"EMF(dimensions=...): {name!r} is a name that EMF uses itself")
        if not _is_text(name, _LONGEST_NAME) or name.startswith(":"):
            raise RegistrationError(
                f"EMF(dimensions=...): a name is 1 to {_LONGEST_NAME} characters of printable "
                "ASCII, and does not begin with a colon"
            )
        if not _is_text(value, _LONGEST_VALUE):
            raise RegistrationError(
                f"EMF(dimensions=...): the value of {name!r} is 1 to {_LONGEST_VALUE} characters "
                "of printable ASCII"
            )
    return dict(dimensions)


def _is_text(value: object, longest: int) -> bool:
    return (
        isinstance(value, str)
        and value.isascii()
        and value.isprintable()
        and bool(value.strip())
        and len(value) <= longest
    )
