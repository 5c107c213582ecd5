"""The site: it builds without a warning and without network, and loads nothing from elsewhere.

What its pages say is tested in test_docs.py, without building it.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.support.documents import DOCUMENTS, ROOT, Document

# What users import from, and what of it has no entry of its own, with the reason.
_PUBLIC = (
    "dynaflow",
    "dynaflow.codec",
    "dynaflow.dead_letter",
    "dynaflow.dead_letters",
    "dynaflow.errors",
    "dynaflow.observe",
    "dynaflow.observers.emf",
    "dynaflow.observers.otel",
    "dynaflow.poller",
    "dynaflow.pytest_plugin",
    "dynaflow.sources",
    "dynaflow.stores",
    "dynaflow.testing",
)
_NOT_SHOWN = {
    "dynaflow.codec.tables_of_event": "called by App.accepts",
    "dynaflow.dead_letter.MAX_BYTES": "from_json says what it does",
    "dynaflow.dead_letter.Reason": "an alias; DeadLetterRecord.reason has them",
    "dynaflow.observe.Event": "an alias, CallEnded | BatchEnded",
    "dynaflow.observe.batch_ended": "called by the engine",
    "dynaflow.observe.log_event": "the App's own observer",
    "dynaflow.observe.notify": "called by the engine",
    "dynaflow.observe.observer_name": "how log lines name an observer",
    "dynaflow.observe.warn_of_unmatched": "called by the App",
    "dynaflow.pytest_plugin.StreamClient": "the type of a fixture, which is shown",
    "dynaflow.sources.MemorySource": "scripted by the tests of pollers",
}

# What a drawing is made of: nothing that runs, embeds or links.
_SVG = "{http://www.w3.org/2000/svg}"
_DRAWN = {"svg", "title", "desc", "style", "rect", "path", "text"}

# Attributes that make a browser fetch something, or connect, without a click.
_FETCHING = {
    ("audio", "src"),
    ("embed", "src"),
    ("iframe", "src"),
    ("img", "src"),
    ("img", "srcset"),
    ("input", "src"),
    ("link", "href"),
    ("object", "data"),
    ("script", "src"),
    ("source", "src"),
    ("source", "srcset"),
    ("track", "src"),
    ("use", "href"),
    ("video", "poster"),
    ("video", "src"),
}


class Page(HTMLParser):
    """Notes what a page makes a browser fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.classes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if (tag, name) in _FETCHING:
                self.fetched += (
                    re.split(r"[\s,]+", value or "") if name == "srcset" else [value or ""]
                )
            elif name == "style":
                self.fetched += in_styles(value or "")
            elif name == "class":
                self.classes |= set((value or "").split())


def in_styles(text: str) -> list[str]:
    """Return the addresses that a style sheet fetches."""
    return re.findall(r"""(?:url\(\s*|@import\s+)["']?([^"')\s;]+)""", text)


def is_elsewhere(address: str) -> bool:
    """Return True for an address of another host; the site's own are relative."""
    return re.match(r"(?:[a-z]+:)?//", address, re.IGNORECASE) is not None


def public_objects() -> Iterator[tuple[str, Any]]:
    for module_name in _PUBLIC:
        module = importlib.import_module(module_name)
        for name in module.__all__:
            yield f"{module_name}.{name}", getattr(module, name)


def resolve(path: str) -> Any:
    """Return the object that a dotted path leads to."""
    module_name, rest = path, list[str]()
    while find_module(module_name) is None:
        module_name, _, last = module_name.rpartition(".")
        rest.insert(0, last)
    found: Any = find_module(module_name)
    for name in rest:
        found = getattr(found, name)
    return found


def find_module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def shown_objects() -> list[tuple[str, Any]]:
    """The objects in the reference; a module stands for what it exports."""
    shown: list[tuple[str, Any]] = []
    for path in DOCUMENTS:
        for name in Document(path).objects:
            found = resolve(name)
            if isinstance(found, ModuleType):
                shown += [(f"{name}.{inner}", getattr(found, inner)) for inner in found.__all__]
            else:
                shown.append((name, found))
    return shown


def test_every_public_name_is_in_the_reference() -> None:
    shown = {id(found) for _, found in shown_objects()}
    missing = {name for name, found in public_objects() if id(found) not in shown}
    assert missing == set(_NOT_SHOWN)


def test_the_reference_shows_nothing_twice_and_nothing_private() -> None:
    names = [name for name, _ in shown_objects()]
    assert len({id(found) for _, found in shown_objects()}) == len(names)
    assert [name for name in names if "._" in name] == []


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://unpkg.com/x"></script>',
        '<link rel="stylesheet" href="//fonts.googleapis.com/css">',
        '<img src="HTTPS://img.shields.io/badge.svg">',
        '<img srcset="a.png 1x, https://cdn.example/b.png 2x">',
        '<p style="background: url(https://cdn.example/b.png)">',
    ],
)
def test_what_a_page_would_fetch_from_elsewhere_is_found(html: str) -> None:
    assert [address for address in Page(html).fetched if is_elsewhere(address)]


def test_a_link_is_fetched_by_its_reader_only() -> None:
    assert Page('<a href="https://docs.aws.amazon.com/">AWS</a>').fetched == []
    assert not is_elsewhere("../assets/extra.css")


@pytest.mark.parametrize(
    "drawing", [path.relative_to(ROOT) for path in ROOT.glob("docs/assets/*.svg")], ids=str
)
def test_a_drawing_fetches_nothing_says_what_it_shows_and_has_a_dark_side(drawing: Path) -> None:
    text = (ROOT / drawing).read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)  # noqa: S314 - our own file
    for element in root.iter():
        assert element.tag.removeprefix(_SVG) in _DRAWN
        for name, value in element.attrib.items():
            assert not name.endswith(("href", "src")) and not name.startswith("on")
            assert in_styles(value) == []
    assert in_styles(text) == []
    assert root.get("role") == "img"
    described = {element.get("id"): element.text for element in root if element.get("id")}
    assert all(described[name] for name in (root.get("aria-labelledby") or "nothing").split())
    assert "@media (prefers-color-scheme: dark)" in text
    light, dark = re.findall(r"\.page \{ fill: (#\w{6})", text)
    assert light != dark, "it stands on a ground of its own, whatever the page's is"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The built site."""
    if find_spec("material") is None or find_spec("mkdocstrings") is None:
        pytest.skip("the site is built with what the extra 'docs' brings")
    nowhere = "http://127.0.0.1:9"
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={
            **os.environ,
            **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), nowhere),
            "NO_MKDOCS_2_WARNING": "1",  # an announcement of the theme's, no fact about this site
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    return tmp_path


def test_the_site_builds_without_a_warning_and_fetches_nothing_from_elsewhere(site: Path) -> None:
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    documents = [path for path in DOCUMENTS if path.startswith(("docs/", "examples/"))]
    assert len(pages) == len(documents) + 1  # 404.html
    for path, page in pages.items():
        fetched = [address for address in page.fetched if is_elsewhere(address)]
        assert fetched == [], path
        # The theme's script would fetch Mermaid for a page that has a diagram of it.
        assert "mermaid" not in page.classes, path
    for path in site.rglob("*.css"):
        fetched = in_styles(path.read_text(encoding="utf-8"))
        assert [address for address in fetched if is_elsewhere(address)] == [], path

    lambda_page = (site / "lambda.html").read_text(encoding="utf-8")
    assert 'href="examples/deploy/index.html"' in lambda_page
    assert 'href="examples/deploy/given_up.py"' in lambda_page

    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"] for entry in index["docs"] if "on_expire" in entry["text"]}
    assert {"expiry.html", "reference/router.html#dynaflow.Router.on_expire"} <= found
