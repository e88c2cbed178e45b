"""Tests, benchmarks and tools use the public names of the product only."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import REPOSITORY

SOURCE = REPOSITORY / "src" / "sonant"
USERS = sorted(
    path.relative_to(REPOSITORY)
    for folder in ("tests", "bench", "tools")
    for path in (REPOSITORY / folder).rglob("*.py")
)


#: Public in spite of the underscore, see `collections.namedtuple`.
_OF_NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}


def is_private(name: str) -> bool:
    if name in _OF_NAMED_TUPLES:
        return False
    return name.startswith("_") and not name.startswith("__") and name != "_"


def defined_names(tree: ast.AST) -> Iterator[str]:
    """The names of functions, classes, variables and attributes that a module defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def private_uses(tree: ast.AST, private: set[str]) -> Iterator[str]:
    """The private names of the product that a module imports, reads, writes or replaces."""
    others = {"self", "cls"}  # a class's own names, and those of modules that are not the product's
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            others |= {
                (one.asname or one.name).partition(".")[0]
                for one in node.names
                if not one.name.startswith("sonant")
            }
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("sonant"):
            others |= {one.asname or one.name for one in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sonant"):
            yield from (one.name for one in node.names if is_private(one.name))
        elif isinstance(node, ast.Attribute) and node.attr in private and not _is_other(node.value, others):
            yield f"{ast.unparse(node)}, line {node.lineno}"
        elif isinstance(node, ast.Call) and _called(node.func).endswith(("setattr", "getattr", "delattr")):
            named = [one.value for one in node.args[1:] if isinstance(one, ast.Constant)]
            if private.intersection(named) and not _is_other(node.args[0], others):
                yield f"{ast.unparse(node)}, line {node.lineno}"


def _called(function: ast.expr) -> str:
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _is_other(value: ast.expr, others: set[str]) -> bool:
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        return value.func.id == "super"
    return isinstance(value, ast.Name) and value.id in others


@pytest.fixture(scope="module")
def private() -> set[str]:
    trees = (ast.parse(path.read_text("utf-8")) for path in SOURCE.rglob("*.py"))
    return {name for tree in trees for name in defined_names(tree) if is_private(name)}


def test_no_private_name_of_the_product_is_used(private: set[str]) -> None:
    found = {
        str(path): uses
        for path in USERS
        if (uses := sorted(private_uses(ast.parse((REPOSITORY / path).read_text("utf-8")), private)))
    }
    assert found == {}, "use a public function, or make the name public"


@pytest.mark.parametrize(
    "use",
    [
        "from sonant.jobs.runner import _parts",
        "runner._parts = 1",
        "runner()._parts.clock()",
        "from sonant.jobs import runner\nmonkeypatch.setattr(runner, '_parts', 1)",
    ],
)
def test_use_of_a_private_name_is_found(use: str) -> None:
    assert len(list(private_uses(ast.parse(use), {"_parts"}))) == 1


@pytest.mark.parametrize(
    "use",
    ["self._parts = 1", "import other\nother._parts()", "super()._parts()", "runner.parts", "x.__name__"],
)
def test_other_names_are_accepted(use: str) -> None:
    assert list(private_uses(ast.parse(use), {"_parts"})) == []


def test_all_files_are_read() -> None:
    assert Path("tests/shipped/test_private_names.py") in USERS
