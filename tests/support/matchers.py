"""Three matchers of event patterns, none of which knows how dynaflow writes them.

Ours, of ``dynaflow.testing``; moto's; and LocalStack's. The last two take one of two values where
two ways lead to one name (``{"x": {"M": {"y": ...}}}`` and ``{"x.M.y": ...}``), event-ruler both.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, TypeAlias

from moto.events.models import EventPattern

from dynaflow.testing._mapping_filter import filtering

__all__ = ["MATCHERS", "matched_by"]

Raw: TypeAlias = Mapping[str, Any]
Passes: TypeAlias = Callable[[Raw], bool]


def ours(patterns: list[str]) -> Passes:
    return filtering({"Filters": [{"Pattern": pattern} for pattern in patterns]})


def moto(patterns: list[str]) -> Passes:
    loaded: list[Any] = [EventPattern.load(pattern) for pattern in patterns]
    return lambda raw: any(pattern.matches_event(raw) for pattern in loaded)


def localstack(patterns: list[str]) -> Passes:
    compiled = [_localstack.EventPatternCompiler().compile_event_pattern(p) for p in patterns]
    engine = _localstack.EventRuleEngine()
    return lambda raw: any(engine.evaluate_pattern_on_event(p, raw) for p in compiled)


def _localstack_engine() -> Any:
    """Return LocalStack's module as it is, without the web framework that its package imports.

    It wants one exception of ``localstack.aws.api.events``, which stands in for that module.
    """
    wanted = "localstack.aws.api.events"
    stand_in = ModuleType(wanted)
    stand_in.InvalidEventPatternException = ValueError  # type: ignore[attr-defined]  # made here
    sys.modules[wanted] = stand_in
    try:
        return importlib.import_module("localstack.services.events.event_rule_engine")
    finally:
        del sys.modules[wanted]


_localstack = _localstack_engine()

MATCHERS: dict[str, Callable[[list[str]], Passes]] = {
    "ours": ours,
    "moto": moto,
    "localstack": localstack,
}


def matched_by(matcher: str, criteria: Mapping[str, Any]) -> Passes:
    """Return whether a mapping with these FilterCriteria, ``{}`` being none, passes a record."""
    patterns = [entry["Pattern"] for entry in criteria.get("Filters", [])]
    return MATCHERS[matcher](patterns) if patterns else lambda raw: True
