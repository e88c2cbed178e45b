"""Names of tests are short enough to be read in a list of results."""

from __future__ import annotations

import ast

from documents import REPOSITORY

MOST_CHARACTERS = 70


def test_names_of_tests_are_short() -> None:
    found = {
        node.name
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }
    assert found
    assert {name for name in found if len(name) > MOST_CHARACTERS} == set()
