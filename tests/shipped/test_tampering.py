"""Tests alter data by what cannot be there already: a fixed byte is, once in 256 runs."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from documents import REPOSITORY

_MOST = 4  # bytes or letters: longer ones are the same by chance once in 2^40 runs


def _fixed_values(source: str) -> Iterator[int]:
    """Yield the lines of `data[:-n] + literal` that put a literal in the place of as much unknown data."""
    for found in ast.walk(ast.parse(source)):
        node: ast.AST = found
        rest = 0
        if isinstance(found, ast.BinOp) and isinstance(found.right, ast.Subscript):  # ... + data[-m:]
            node, rest = found.left, _from_the_end(found.right, "lower")
        if not (isinstance(node, ast.BinOp) and isinstance(node.left, ast.Subscript)):
            continue
        cut = _from_the_end(node.left, "upper")
        literal = node.right.value if isinstance(node.right, ast.Constant) else None
        if not isinstance(literal, str | bytes) or not 0 < len(literal) == cut - rest <= _MOST:
            continue
        if isinstance(literal, bytes) or literal.isalnum():
            yield node.lineno


def _from_the_end(part: ast.Subscript, side: str) -> int:
    """Return n of `[:-n]` or `[-n:]` of what is no literal, else 0."""
    at = getattr(part.slice, side, None)
    if isinstance(part.value, ast.Constant) or not isinstance(at, ast.UnaryOp):
        return 0
    cut = at.operand.value if isinstance(at.operand, ast.Constant) else 0
    return cut if isinstance(cut, int) else 0


def test_no_test_overwrites_unknown_data_with_a_fixed_value():
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}"
        for path in sorted((REPOSITORY / "tests").rglob("*.py"))
        for line in _fixed_values(path.read_text())
    ]
    assert not found, "use tests.support.tampering.altered"


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ('whole[:-9] + b"x" + whole[-8:]', [1]),
        ('key = name\nkey[:-1] + "X"', [2]),
        ('path.read_bytes()[:-1] + b"?"', [1]),
        ('id[:-1] + "!"', []),  # no letter of an id
        ('file[:-4] + ".json"', []),
        ('"literal"[:-1] + "x"', []),
    ],
)
def test_the_search_finds_fixed_values(source, lines):
    assert list(_fixed_values(source)) == lines
