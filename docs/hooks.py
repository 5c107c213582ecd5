"""Puts the examples into the site, and makes links between documents and examples work there.

In the repository, documents and examples stand side by side; in the site, the documents are the top
and the examples are a folder of it. Links are written for the repository, and turned here.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_EXAMPLES = "examples"
_LINK = re.compile(r"(?<=\]\()(?P<path>[^)#\s:]+)(?P<anchor>#[^)\s]*)?(?=\))")
_CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the examples, pages and files alike."""
    root = Path(config.docs_dir).parent
    for path in sorted((root / _EXAMPLES).rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_file() and not re.search(r"(^|/)(\.|__)|\.sqlite", name):
            files.append(File(name, str(root), config.site_dir, config.use_directory_urls))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links of a page, outside of its code."""
    here = page.file.src_uri
    folder = posixpath.dirname(here if _is_example(here) else f"docs/{here}")

    def turned(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match["path"]))
        if not target.startswith(("docs/", f"{_EXAMPLES}/")):
            return match[0]  # mkdocs says that it leads nowhere
        found = posixpath.relpath(target.removeprefix("docs/"), posixpath.dirname(here) or ".")
        return found + (match["anchor"] or "")

    parts, end = [], 0
    for block in _CODE.finditer(markdown):
        parts += [_LINK.sub(turned, markdown[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, _LINK.sub(turned, markdown[end:])])


def _is_example(name: str) -> bool:
    return name.startswith(f"{_EXAMPLES}/")
