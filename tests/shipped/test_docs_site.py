"""The documentation site: all documents are pages of it, links lead to pages, the API is described whole."""

from __future__ import annotations

import json
import re
import sys
from collections import Counter

import pytest
from documents import REPOSITORY

sys.path.append(str(REPOSITORY / "tools" / "docs_site"))

import api_reference
import sources

from sonant.errors import Conflict
from sonant.gateway.models import load_models
from sonant.gateway.validation import compile_input

OPERATIONS = sorted(load_models().operations.values(), key=lambda one: one.target)
every_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """The text of each page, by its place."""
    return dict(sources.pages())


def test_every_page_is_in_the_navigation_once(pages):
    entries = [re.sub(r".*<(.*)>", r"\1", one) for names in sources.NAVIGATION.values() for one in names]
    assert not [name for name, count in Counter(entries).items() if count > 1]
    alone = {place.removesuffix(".md") for place in pages if "/" not in place or place == "api/index.md"}
    assert set(entries) == alone - {"index"}


def test_every_link_between_pages_leads_to_one(pages):
    lost = [
        f"{place}: {link}"
        for place, text in pages.items()
        for link in re.findall(r"\]\(([^)\s#]+\.md)", text)
        if ":" not in link
        and (REPOSITORY / "x" / place)
        .parent.joinpath(link)
        .resolve()
        .relative_to((REPOSITORY / "x").resolve())
        .as_posix()
        not in pages
    ]
    assert lost == []


@pytest.mark.parametrize(
    ("line", "on_the_site"),
    [
        ("see [keys](keys.md#rotation)", "see [keys](keys.md#rotation)"),
        ("[README](../README.md#first-steps)", "[README](project.md#first-steps)"),
        ("[index](README.md)", "[index](index.md)"),
        ("[rules](../deploy/alerts.yaml)", "rules (`deploy/alerts.yaml`)"),
        ("[`schema`](../src/schema.json)", "`schema`"),
        ("[here](#below)", "[here](#below)"),
        ("[site](https://example.com/a.md)", "[site](https://example.com/a.md)"),
        ("```\n[keys](../README.md)\n```", "```\n[keys](../README.md)\n```"),
        ("```mermaid\na --> b\n```", '```{raw} html\n<pre class="mermaid">a --&gt; b</pre>\n```'),
    ],
)
def test_links_and_diagrams_are_rewritten_for_the_site(line, on_the_site):
    assert sources.rewritten(line, "docs/events.md", "events.md") == on_the_site + "\n"


def test_link_from_a_page_of_the_repository_leads_to_the_documents_page():
    assert sources.rewritten("[keys](docs/keys.md)", "README.md", "project.md") == "[keys](keys.md)\n"


# --- the API reference --------------------------------------------------------------------------------


def of(operation, pages):
    return pages[f"api/{operation.name}.md"]


@every_operation
def test_example_request_obeys_the_model(operation, pages):
    request = json.loads(re.findall(r"```json\n(.*?)```", of(operation, pages), re.DOTALL)[0])
    compile_input(operation.input_shape)(request)


@every_operation
def test_every_member_and_error_is_named(operation, pages):
    text = of(operation, pages)
    members = set(operation.input_shape.members)
    if operation.output_shape is not None:
        members |= set(operation.output_shape.members)
    missing = {name for name in members if f"- `{name}" not in text}
    missing |= {code for code in operation.errors if f"`{code}`" not in text}
    assert missing == set()


@every_operation
def test_operation_says_what_it_does(operation, pages):
    assert len(of(operation, pages).splitlines()[2].split()) > 2


def test_catalogue_has_every_error_and_conflict(pages):
    codes = {code for operation in OPERATIONS for code in operation.errors}
    text = pages["api/errors.md"]
    assert {one for one in (*codes, *Conflict.TEXTS) if f"`{one}`" not in text} == set()
    assert "InvalidSignatureException" in text


def test_html_of_the_models_becomes_text():
    html = "<p>The <code>DomainId</code>, see <a href='x'>there</a>.</p> <ul><li><p>a &lt; b</p></li></ul>"
    assert api_reference.plain(html) == "The `DomainId`, see there.\n- a &lt; b"
