"""Random graphs of dependencies with random failures, against a model of nested ``with``."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from inspect import Parameter, Signature
from typing import Annotated, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynaflow import App, BatchResult, Depends, Router
from dynaflow.testing import TestClient
from tests.support.routers import ITEM

KINDS = ("function", "coroutine", "generator", "async generator")
FATES = ("fine", "opening fails", "clean-up fails", "swallows", "replaces")


@dataclass
class Node:
    """One dependency of a graph; it needs nodes before itself only."""

    name: str
    kind: str
    fate: str
    scope: str
    needs: list[int] = field(default_factory=list)

    @property
    def cleans_up(self) -> bool:
        return self.kind.endswith("generator")


class Failure(Exception):
    """What fails; ``where`` says at which node."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.where = where


@st.composite
def graphs(draw: st.DrawFn) -> list[Node]:
    nodes: list[Node] = []
    for number in range(draw(st.integers(1, 6))):
        scope = draw(st.sampled_from(["call", "call", "call", "app"]))
        reachable = [at for at, node in enumerate(nodes) if scope == "call" or node.scope == "app"]
        needs = draw(st.lists(st.sampled_from(reachable), unique=True)) if reachable else []
        kind = draw(st.sampled_from(KINDS))
        fate = "fine" if scope == "app" else draw(st.sampled_from(("fine",) * 5 + FATES))
        nodes.append(Node(f"n{number}", kind, fate, scope, needs))
    return nodes


class World:
    """The functions of a graph; what happens to them is in ``log``."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = nodes
        self.log: list[str] = []
        self.functions: list[Callable[..., Any]] = []
        for node in nodes:
            self.functions.append(
                self._named(node, getattr(self, f"_{node.kind.split()[0]}")(node))
            )

    def _named(self, node: Node, function: Any) -> Callable[..., Any]:
        function.__signature__ = self.signature(node.needs)
        return function  # type: ignore[no-any-return]  # a function of any kind

    def signature(self, needs: list[int]) -> Signature:
        return Signature(
            [
                Parameter(
                    f"need_{at}",
                    Parameter.KEYWORD_ONLY,
                    annotation=Annotated[
                        str, Depends(self.functions[at], scope=self.nodes[at].scope)  # type: ignore[arg-type]  # drawn
                    ],
                )
                for at in needs
            ]
        )

    def _open(self, node: Node, values: dict[str, str]) -> None:
        assert values == {f"need_{at}": self.nodes[at].name for at in node.needs}
        self.log.append(f"open {node.name}")
        if node.fate == "opening fails":
            raise Failure(node.name)

    def _close(self, node: Node, error: BaseException | None) -> None:
        self.log.append(f"close {node.name}")
        if node.fate == "clean-up fails" or (error is not None and node.fate == "replaces"):
            raise Failure(node.name)
        if error is not None and node.fate != "swallows":
            raise error

    def _function(self, node: Node) -> Callable[..., Any]:
        def function(**values: str) -> str:
            self._open(node, values)
            return node.name

        return function

    def _coroutine(self, node: Node) -> Callable[..., Any]:
        async def function(**values: str) -> str:
            await asyncio.sleep(0)
            self._open(node, values)
            return node.name

        return function

    def _generator(self, node: Node) -> Callable[..., Any]:
        def function(**values: str) -> Iterator[str]:
            self._open(node, values)
            try:
                yield node.name
            except BaseException as error:
                self._close(node, error)
            else:
                self._close(node, None)

        return function

    def _async(self, node: Node) -> Callable[..., Any]:
        async def function(**values: str) -> AsyncIterator[str]:
            await asyncio.sleep(0)
            self._open(node, values)
            try:
                yield node.name
            except BaseException as error:
                await asyncio.sleep(0)
                self._close(node, error)
            else:
                await asyncio.sleep(0)
                self._close(node, None)

        return function


def order_of(nodes: list[Node], needs: list[int], scope: str) -> list[Node]:
    """Return the nodes of a scope in the order in which they are first needed."""
    order: list[Node] = []

    def visit(at: int) -> None:
        for needed in nodes[at].needs:
            visit(needed)
        if nodes[at].scope == scope and nodes[at] not in order:
            order.append(nodes[at])

    for at in needs:
        visit(at)
    return order


def expected(steps: list[Node], *, fails: bool) -> tuple[list[str], str | None]:
    """Return the log of one call, and where its error is from, as nested ``with`` would have it."""
    log: list[str] = []
    opened: list[Node] = []
    error: str | None = None
    for node in steps:
        log.append(f"open {node.name}")
        if node.fate == "opening fails":
            error = node.name
            break
        if node.cleans_up:
            opened.append(node)
    never_reached = error
    if error is None:
        log.append("handler")
        error = "handler" if fails else None
    for node in reversed(opened):
        log.append(f"close {node.name}")
        if node.fate == "clean-up fails" or (error is not None and node.fate == "replaces"):
            error = node.name
        elif node.fate == "swallows":
            error = never_reached
    return log, error


@pytest.mark.parametrize("is_async", [False, True])
@settings(max_examples=150, deadline=None)
@given(nodes=graphs(), needs=st.data(), fails=st.booleans(), threads=st.sampled_from([0, 4]))
def test_each_is_opened_once_and_closed_in_reverse(
    *, is_async: bool, nodes: list[Node], needs: Any, fails: bool, threads: int
) -> None:
    world = World(nodes)
    needed = needs.draw(st.lists(st.integers(0, len(nodes) - 1), unique=True, min_size=1))

    def handler(**values: str) -> None:
        world.log.append("handler")
        if fails:
            raise Failure("handler")

    async def async_handler(**values: str) -> None:
        await asyncio.sleep(0)
        handler(**values)

    chosen: Any = async_handler if is_async else handler
    chosen.__signature__ = world.signature(needed)
    router = Router()
    router.on_insert(name="route")(chosen)
    log, error = expected(order_of(nodes, needed, "call"), fails=fails)
    shared = order_of(nodes, needed, "app")
    opened = [f"open {node.name}" for node in shared]
    closed = [f"close {node.name}" for node in reversed(shared) if node.cleans_up]

    results: list[BatchResult] = []
    with TestClient(App(router, threads=threads)) as stream:
        results.extend(stream.insert({**ITEM, "id": str(n)}) for n in range(2))

    assert world.log == [*opened, *log, *log, *closed]
    assert max(Counter(log).values()) == 1
    for result in results:
        assert [e.where for e in result.errors if isinstance(e, Failure)] == (
            [error] if error else []
        )
        assert (result.failed is None) == (error is None)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level("CRITICAL", logger="dynaflow"):
        yield
