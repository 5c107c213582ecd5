"""A stand-in for OpenSearch, in memory: its bulk API, and what goes wrong with it.

Of all that OpenSearch can do it has what this example uses: updates by the stored script "newest".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import Any

__all__ = ["SearchService"]

Lines = Sequence[Mapping[str, Any]]


class SearchService:
    """An index that takes bulk requests, and now and then does not.

    Args:
        busy: how many of a request's actions are refused with 429, from 0 to 1.
        down: the requests that fail as a whole, by number from 1.
        seed: of the choice of what is refused.
    """

    def __init__(self, *, busy: float = 0, down: Collection[int] = (), seed: int = 1) -> None:
        self.requests: list[int] = []  # how many actions each one had
        self.failed = 0  # requests
        self.refused = 0  # actions
        self.stale = 0
        self._documents: dict[str, Mapping[str, Any]] = {}
        self._busy = busy
        self._down = frozenset(down)
        self._chance = Random(seed)  # noqa: S311 - a seed, so that every run is the same

    @property
    def found(self) -> dict[str, dict[str, Any]]:
        """The documents that a search for everything finds, without what the guard needs."""
        return {
            name: {field: value for field, value in document.items() if field != "position"}
            for name, document in self._documents.items()
            if "deleted_at" not in document
        }

    async def bulk(self, *, body: Lines, index: str) -> Mapping[str, Any]:
        """Do a request's actions, each by itself, and say what became of each.

        Raises:
            ConnectionError: the service is down.
        """
        actions = [
            (line["update"]["_id"], update)
            for line, update in zip(body[::2], body[1::2], strict=True)
        ]
        self.requests.append(len(actions))
        if len(self.requests) in self._down:
            self.failed += 1
            raise ConnectionError("the search service does not answer")
        items = [{"update": self._update(name, update)} for name, update in actions]
        return {"errors": any("error" in item["update"] for item in items), "items": items}

    def _update(self, name: str, update: Mapping[str, Any]) -> dict[str, Any]:
        if self._chance.random() < self._busy:
            self.refused += 1
            error = {"type": "rejected_execution_exception"}
            return {"_id": name, "status": 429, "error": error}
        document = update["script"]["params"]["document"]
        before = self._documents.get(name)
        if before is not None and before["position"] >= document["position"]:
            self.stale += 1
            return {"_id": name, "status": 200, "result": "noop"}
        self._documents[name] = document
        result = "created" if before is None else "updated"
        return {"_id": name, "status": 201 if before is None else 200, "result": result}
