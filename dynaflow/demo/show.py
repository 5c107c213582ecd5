"""Shows a delivery while it happens: one line for each call of a handler."""

from __future__ import annotations

from threading import Lock
from typing import Any

from rich.console import Console
from rich.text import Text

from dynaflow.batch import Outcome, Status
from dynaflow.demo.ledger import Verdict
from dynaflow.observe import CallEnded, Event
from dynaflow.record import Record, Undecodable

__all__ = ["Show"]

_STYLES = {Status.FAILED: "red", Status.NOT_DONE: "yellow"}
_LINE = "{:<6}  {:<5}  {:<22}  {:<8}  {:<23}  {:>5}"  # 79 columns
_UNSHOWN = ("id", "version")


class Show:
    """An observer that prints calls as they end, and counts them.

    Args:
        console: where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = Lock()
        self._records: set[int] = set()
        self._failed: set[tuple[int, str | None]] = set()
        self._retried: set[tuple[int, str | None]] = set()
        self._calls = 0

    def __call__(self, event: Event, /) -> None:
        """Print a call that ended."""
        if isinstance(event, CallEnded):
            with self._lock:
                is_retry = self._count(event.outcome)
                self._say(_line(event.outcome, is_retry), _STYLES.get(event.outcome.status, ""))

    def begin(self) -> None:
        """Print the heads of the columns."""
        head = _LINE.format("event", "item", "what changed", "handler", "outcome", "ms")
        self._say(head, "bold")

    def end(self, verdict: Verdict, seconds: float) -> None:
        """Print what was counted, and how the ledger judges it."""
        for write in verdict.lost:
            self._say(f"lost: {write.item} version {write.version} ({write.due})", "red")
        for item in verdict.out_of_order:
            self._say(f"out of order: {item}", "red")
        self._say(
            f"{len(self._records)} records, {self._calls} handler calls, "
            f"{len(self._retried)} retried, lost {len(verdict.lost)}, "
            f"order kept for {len(verdict.in_order)} items, {seconds:.1f} s",
            "bold" if verdict.is_ok else "bold red",
        )

    def _count(self, outcome: Outcome) -> bool:
        """Count a call; return True if it had failed before."""
        call = (outcome.record.position, outcome.route)
        self._records.add(outcome.record.position)
        self._calls += 1
        is_retry = call in self._failed
        if is_retry:
            self._retried.add(call)
        if outcome.status is Status.FAILED:
            self._failed.add(call)
        return is_retry

    def _say(self, line: str, style: str) -> None:
        self._console.print(Text(line, style), soft_wrap=True)


def _line(outcome: Outcome, is_retry: bool) -> str:
    record = outcome.record
    said = outcome.status.value + (" on retry" if is_retry else "")
    if outcome.error is not None:
        said = f"failed: {type(outcome.error).__name__}"
    return _LINE.format(
        record.event_name if isinstance(record, Record) else "?",
        record.keys["id"] if record.keys else "?",
        _change(record),
        (outcome.route or "").rpartition(".")[2],
        said,
        f"{outcome.duration * 1000:.1f}",
    )


def _change(record: Record | Undecodable) -> str:
    """Describe a change by the attributes that differ."""
    if not isinstance(record, Record):
        return "unreadable"
    old, new = _shown(record.old), _shown(record.new)
    if record.new is None:
        return "was " + ", ".join(map(str, old.values()))
    if record.old is None:
        return "new " + ", ".join(map(str, new.values()))
    names = [name for name in new if new[name] != old.get(name)]
    return ", ".join(f"{name} {old.get(name)} -> {new[name]}" for name in names)


def _shown(image: Any) -> dict[str, Any]:
    return {name: image[name] for name in sorted(image or ()) if name not in _UNSHOWN}
