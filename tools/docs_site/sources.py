"""Gather the pages of the documentation site: documents of the repository, and the API reference.

The documents link to one another as files of the repository, so that they can be read there. On the site a
link to a document leads to its page, and one to a file that is no page becomes its name.
"""

from __future__ import annotations

import html
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import api_reference

REPOSITORY = Path(__file__).resolve().parents[2]

#: Documents outside `docs`, by their place in the repository, and the names of their pages.
OUTSIDE: Mapping[str, str] = {
    "README.md": "project.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
    "tools/README.md": "tools.md",
    "tools/distil/README.md": "distil.md",
}
HOME = "index.md"
#: The index of the folder `docs` in the repository; on the site, navigation takes its place.
INDEX = "docs/README.md"

NAVIGATION: Mapping[str, tuple[str, ...]] = {
    "Start": (
        "start-developer",
        "start-operator",
        "start-agent-desktop",
        "start-data-protection",
        "privacy",
        "The project <project>",
    ),
    "Use": (
        "coming-from-voice-id",
        "recordings",
        "audio-formats",
        "dry-run",
        "console",
        "live-calls",
        "sessions-api",
        "carriers",
        "siprec",
        "events",
        "audit",
        "commands",
        "settings",
        "api/index",
    ),
    "Run": (
        "deployment",
        "postgresql",
        "object-stores",
        "keys",
        "ray",
        "operations",
        "runbook",
        "backup",
        "sizing",
    ),
    "Trust": ("security", "row-integrity", "templates", "erasure", "supply-chain", "reporting"),
    "Voices": ("calibration", "accuracy", "spoofing", "models", "library", "distil"),
    "Develop": (
        "contributing",
        "architecture",
        "glossary",
        "conformance",
        "benchmarks",
        "tools",
        "changelog",
        "conduct",
    ),
}

_LINK = re.compile(r"(?<!!)\[([^\]\[]+)\]\(([^)\s]+)\)")


def pages() -> Iterator[tuple[str, str]]:
    """Yield the place of each page on the site, and its text."""
    documents = {f"docs/{path.name}": path.name for path in sorted((REPOSITORY / "docs").glob("*.md"))}
    for origin, place in {**documents, **OUTSIDE}.items():
        if origin == INDEX:
            continue
        text = rewritten((REPOSITORY / origin).read_text("utf-8"), origin, place)
        yield place, text + _contents() if place == HOME else text
    generated = api_reference.pages()
    for page in generated:
        names = [posixpath.basename(one.path).removesuffix(".md") for one in generated if one is not page]
        is_index = page.path == f"{api_reference.FOLDER}/index.md"
        yield page.path, page.text + _tree("", names) if is_index else page.text


def rewritten(markdown: str, origin: str, place: str) -> str:
    """Rewrite a document that lies at `origin` in the repository for `place` on the site.

    Links lead to pages, and diagrams become HTML that Mermaid draws.
    """
    done: list[str] = []
    fence: list[str] | None = None
    for line in markdown.splitlines():
        opening = line.lstrip().startswith("```")
        if fence is None and not opening:
            done.append(_LINK.sub(lambda found: _link(found, origin, place), line))
        elif fence is None:
            fence = [line]
        else:
            fence.append(line)
            if opening:
                done += _diagram(fence[1:-1]) if fence[0].strip() == "```mermaid" else fence
                fence = None
    return "\n".join([*done, ""])


def _link(found: re.Match[str], origin: str, place: str) -> str:
    text, link = found.groups()
    path, mark, anchor = link.partition("#")
    if not path or ":" in path:
        return found.group()
    target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), path))
    page = _page_of(target)
    if page is None:
        return text if text.startswith("`") else f"{text} (`{target}`)"
    return f"[{text}]({posixpath.relpath(page, posixpath.dirname(place) or '.')}{mark}{anchor})"


def _page_of(target: str) -> str | None:
    """Return where a file of the repository is on the site; None if it is no page."""
    if target == INDEX:
        return HOME
    if target in OUTSIDE:
        return OUTSIDE[target]
    if target.startswith("docs/") and target.endswith(".md"):
        return target.removeprefix("docs/")
    return None


def _diagram(lines: list[str]) -> list[str]:
    return ["```{raw} html", f'<pre class="mermaid">{html.escape(chr(10).join(lines))}</pre>', "```"]


def _contents() -> str:
    return "".join(_tree(caption, names) for caption, names in NAVIGATION.items())


def _tree(caption: str, names: tuple[str, ...] | list[str]) -> str:
    options = f":caption: {caption}\n" if caption else ":titlesonly:\n"
    return f"\n```{{toctree}}\n:hidden:\n{options}\n" + "\n".join(names) + "\n```\n"
