"""Names of test cases that are the same in every process, as running tests in parallel wants."""

from __future__ import annotations

__all__ = ["stable_id"]


def stable_id(value: object) -> str:
    """Return a value's ``repr``, with sets in order and without memory addresses."""
    if isinstance(value, dict):
        inner = ", ".join(f"{key!r}: {stable_id(held)}" for key, held in value.items())
        return f"{{{inner}}}"
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}({sorted(map(repr, value))})"
    return "object" if type(value) is object else repr(value)
