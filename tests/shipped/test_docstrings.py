"""The first sentence of a function's docstring begins with a verb; a property's may name what it is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest
from documents import REPOSITORY

SOURCE = REPOSITORY / "src" / "sonant"
#: First words of sentences that say what something is and not what the function does, or only name an error.
#: "As in `ObjectStore`." is accepted: it refers to the interface.
NO_VERBS = re.compile(
    "A|All|An|Any|At|By|Bytes|Called|Each|For|From|How|In|Its|One|Raises|Rows|Samples|Seconds|The|This|What|When"
    "|Where|Whether|With"
)


def wordless(tree: ast.AST) -> Iterator[str]:
    """The public functions whose docstring begins without a verb."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        first = (ast.get_docstring(node) or "").partition(" ")[0].strip(".,:;")
        if NO_VERBS.fullmatch(first) and not any(
            "property" in ast.unparse(one) for one in node.decorator_list
        ):
            yield f"{node.name}, line {node.lineno}"


def test_docstrings_of_functions_begin_with_a_verb() -> None:
    found = {
        str(path.relative_to(SOURCE)): faults
        for path in sorted(SOURCE.rglob("*.py"))
        if (faults := list(wordless(ast.parse(path.read_text("utf-8")))))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("function", "count"),
    [
        ('def f(): "Whether it runs."', 1),
        ('def f(): "Raises SealBroken."', 1),
        ('def f(): "Return whether it runs."', 0),
        ('def _f(): "Whether it runs."', 0),
        ('@property\ndef f(): "Whether it runs."', 0),
        ("def f(): pass", 0),
    ],
)
def test_docstring_without_a_verb_is_found(function: str, count: int) -> None:
    assert len(list(wordless(ast.parse(function)))) == count
