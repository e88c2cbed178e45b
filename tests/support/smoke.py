"""Runs of the scripts of bench and tools, each as small as it can be; what they print means nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import pytest

REPOSITORY = Path(__file__).parents[2]
FOLDERS = ("bench", "tools", "tools/distil", "tools/docs_site")
PATIENCE_S = 1500.0
#: Tests that run a script, by the script's path in the repository.
RUNS: dict[str, Callable[..., None]] = {}

Test = TypeVar("Test", bound=Callable[..., None])


def runs(*scripts: str) -> Callable[[Test], Test]:
    """Mark a slow test as the one that runs these scripts.

    All of them are run by one process of the tests, because scripts share what they make in `.cache`.
    """

    def mark(test: Test) -> Test:
        RUNS.update(dict.fromkeys(scripts, test))
        for one in (
            pytest.mark.slow,
            pytest.mark.timeout(PATIENCE_S + 60),
            pytest.mark.xdist_group("scripts"),
        ):
            test = one(test)
        return test

    return mark


def ran(script: str, *arguments: object, fault: str = "") -> str:
    """What a script prints that ends as it should. One that ends with the message `fault` skips the test."""
    done = subprocess.run(
        [sys.executable, str(REPOSITORY / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=PATIENCE_S,
    )
    if done.returncode and fault and fault in done.stderr:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def needs(module: str, requirements: str) -> None:
    """Skip the test unless a package is there that only a script of the tools needs."""
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install -r {requirements}")


# --- what there is


@cache
def modules() -> dict[str, ast.Module]:
    """Every Python file of bench and tools."""
    return {
        str(path.relative_to(REPOSITORY)): ast.parse(path.read_text("utf-8"))
        for folder in FOLDERS
        for path in sorted((REPOSITORY / folder).glob("*.py"))
    }


def scripts() -> set[str]:
    """Those that a person starts: they look whether they are the main program."""
    return {name for name, module in modules().items() if any(map(_asks_for_main, module.body))}


def reached(starts: set[str]) -> set[str]:
    """Modules that are imported, or started by their file's name, from these on."""
    known, found, waiting = modules(), set(starts), list(starts)
    by_name = {Path(name).stem: name for name in known}
    while waiting:
        for stem in _named(known[waiting.pop()]):
            other = by_name.get(stem)
            if other is not None and other not in found:
                found.add(other)
                waiting.append(other)
    return found


def _asks_for_main(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and ast.unparse(statement.test) == "__name__ == '__main__'"


def _named(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        match node:
            case ast.Import(names=names):
                yield from (one.name for one in names)
            case ast.ImportFrom(module=str(name)):
                yield name
            case ast.Constant(value=str(text)) if text.endswith(".py"):
                yield text.removesuffix(".py")
