"""What pydantic's core schema of a model says: the names that it reads, and those that are safe.

The path of a validation error mixes names of the model with keys of the data: of dictionaries, and
of attributes that no field is for. Item data is not for logs, so a path is shown only as far as the
schema explains it. Pure: core schemas are dictionaries, and pydantic is not needed to read them. A
kind of schema that is not known here explains nothing, which hides too much rather than too little.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

__all__ = ["CoreSchema"]

_Schema: TypeAlias = Mapping[str, Any]
_Location: TypeAlias = tuple[Any, ...]
_Step: TypeAlias = tuple[_Schema, list[str], int]
"""Where it leads, how that is shown, and how many segments of the location it takes."""

_HIDDEN = "*"
_NOTHING: _Schema = {"type": "unknown"}
_INNER = ("schema", "lax_schema", "strict_schema", "json_schema", "python_schema")
_FUNCTIONS = ("function-before", "function-after", "function-wrap")
_EITHER = ("lax-or-strict", "json-or-python")
_INNER_TYPES = frozenset(
    (
        *("definitions", "model", "dataclass", "nullable", "default", "chain", "json", "call"),
        *("custom-error", *_FUNCTIONS, *_EITHER),
    )
)
_ITEM_TYPES = frozenset(("list", "set", "frozenset", "generator", "tuple"))
_FIELD_TYPES = frozenset(("model-fields", "typed-dict", "dataclass-args"))
_WRAPPED = re.compile(r"function-(?:before|after|wrap)\[[^\[\]]*\(\), (.*)\]", re.DOTALL)


class CoreSchema:
    """A core schema as pydantic 2 makes them.

    Args:
        schema: of a TypeAdapter.
    """

    def __init__(self, schema: _Schema) -> None:
        self._schema = schema
        self._definitions: dict[str, _Schema] = {}

    def shown(self, location: _Location) -> str:
        """Return an error's ``loc`` as text: names of the schema as they are, others as ``*``."""
        try:
            return ".".join(self._explained(self._schema, location))
        except Exception:  # a shape of another pydantic; an error must not hide the error
            return ".".join([_HIDDEN] * len(location))

    def names_read(self) -> frozenset[str]:
        """Return the names that validation reads from a mapping; empty if it may read any."""
        try:
            return self._names_read(self._schema)
        except Exception:  # as above: then no spelling is checked
            return frozenset()

    def _names_read(self, schema: _Schema) -> frozenset[str]:
        names: set[str] = set()
        for inner, config in self._unwrapped(schema, {}):
            choices = [choice for _, choice in _choices(inner)]
            parts = [self._names_read(choice) for choice in choices] or [_names(inner, config)]
            if not all(parts):
                return frozenset()
            names.update(*parts)
        return frozenset(names)

    def _explained(self, schema: _Schema, location: _Location) -> list[str]:
        """Return how the segments are shown, by the reading that explains the most of them."""
        best = [_HIDDEN] * len(location)
        if location:
            for inner, _ in self._unwrapped(schema, {}):
                for target, shown, taken in self._steps(inner, location):
                    reading = [*shown, *self._explained(target, location[taken:])]
                    best = min(best, reading, key=lambda parts: parts.count(_HIDDEN))
        return best

    def _unwrapped(
        self, schema: _Schema, config: _Schema, seen: frozenset[str] = frozenset()
    ) -> Iterator[tuple[_Schema, _Schema]]:
        """Yield what is within everything that adds nothing to a location, with its config."""
        kind = schema["type"]
        if kind == "definition-ref":
            ref = schema["schema_ref"]
            if ref not in seen:
                target = self._definitions.get(ref, _NOTHING)
                yield from self._unwrapped(target, config, seen | {ref})
            return
        for definition in schema.get("definitions", ()):
            self._definitions[definition["ref"]] = definition
        config = schema.get("config") or config
        if kind not in _INNER_TYPES:
            yield schema, config
            return
        parts = [schema[key] for key in _INNER if isinstance(schema.get(key), Mapping)]
        if kind == "call":
            parts = [schema["arguments_schema"]]
        for part in (*parts, *schema.get("steps", ())):
            yield from self._unwrapped(part, config, seen)

    def _steps(self, schema: _Schema, location: _Location) -> Iterable[_Step]:
        """Return what the first segments of a location may mean here."""
        kind, first = schema["type"], location[0]
        if kind in _ITEM_TYPES and isinstance(first, int):
            items = schema.get("items_schema", _NOTHING)
            return [
                (item, [str(first)], 1) for item in (items if isinstance(items, list) else [items])
            ]
        if kind == "dict":
            return _dict_steps(schema, location)
        if kind in _FIELD_TYPES:
            return _field_steps(schema, location)
        if kind == "arguments":
            return [
                (argument["schema"], [str(first)], 1)
                for index, argument in enumerate(schema["arguments_schema"])
                if first in (argument["name"], index)
            ]
        if kind == "tagged-union":
            tagged = [(tag, choice) for tag, choice in _choices(schema) if _is_tag(first, tag)]
            return [(choice, [str(first)], 1) for _, choice in tagged]
        labelled = [(one, [self._label(one, first)], 1) for _, one in _choices(schema)]
        return [step for step in labelled if step[1] != [_HIDDEN]] or labelled

    def _label(self, choice: _Schema, label: Any) -> str:
        """Return the segment with which pydantic says which member of a union an error is of."""
        text = str(label)
        while wrapped := _WRAPPED.fullmatch(text):
            text = wrapped[1]
        kinds = set(self._kinds(choice))
        return next((name for name in (text, text.partition("[")[0]) if name in kinds), _HIDDEN)

    def _kinds(self, schema: _Schema, seen: frozenset[str] = frozenset()) -> Iterator[str]:
        ref = schema.get("schema_ref")
        if ref is not None and ref not in seen:
            yield from self._kinds(self._definitions.get(ref, _NOTHING), seen | {ref})
            return
        yield schema["type"]
        if "cls" in schema:
            yield schema["cls"].__name__
        if schema["type"] in _INNER_TYPES and isinstance(schema.get("schema"), Mapping):
            yield from self._kinds(schema["schema"], seen)


def _choices(schema: _Schema) -> list[tuple[Any, _Schema]]:
    """Return the members of a union, each with its tag, if it has one."""
    if schema["type"] == "tagged-union":
        return [(tag, one) for tag, one in schema["choices"].items() if isinstance(one, Mapping)]
    if schema["type"] == "union":
        return [(None, one[0] if isinstance(one, tuple) else one) for one in schema["choices"]]
    return []


def _is_tag(segment: Any, tag: Any) -> bool:
    return str(segment) == str(getattr(tag, "value", tag))


def _dict_steps(schema: _Schema, location: _Location) -> Iterator[_Step]:
    yield schema.get("values_schema", _NOTHING), [_HIDDEN], 1
    if location[1:2] == ("[key]",):
        yield schema.get("keys_schema", _NOTHING), [_HIDDEN, "[key]"], 2


def _field_steps(schema: _Schema, location: _Location) -> Iterator[_Step]:
    for name, field in _fields(schema):
        for path in ((name,), *_alias_paths(field)):
            if location[: len(path)] == path:
                yield field["schema"], [str(segment) for segment in path], len(path)


def _fields(schema: _Schema) -> list[tuple[str, _Schema]]:
    """Return the fields that are read, by name; a dataclass may have others."""
    fields = schema.get("fields", {})
    if isinstance(fields, Mapping):
        return list(fields.items())
    return [(field["name"], field) for field in fields if field.get("init", True)]


def _alias_paths(field: _Schema) -> list[_Location]:
    """Return where a field is read from: names, or paths that begin with one."""
    alias = field.get("validation_alias")
    if not alias:
        return []
    if isinstance(alias, str):
        return [(alias,)]
    return [tuple(path) for path in (alias if isinstance(alias[0], list) else [alias])]


def _names(schema: _Schema, config: _Schema) -> frozenset[str]:
    """Return the names that fields are read from; empty for what is not made of fields."""
    extra = schema.get("extra_behavior") or config.get("extra_fields_behavior")
    if schema["type"] not in _FIELD_TYPES or extra == "allow":
        return frozenset()
    by_name = config.get("validate_by_name", config.get("populate_by_name", False))
    by_alias = config.get("validate_by_alias", True)
    names: set[str] = set()
    for name, field in _fields(schema):
        aliases = {path[0] for path in _alias_paths(field)} if by_alias else set()
        names |= aliases | ({name} if by_name or not aliases else set())
    return frozenset(names)
