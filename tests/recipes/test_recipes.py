"""Each recipe of CONTRIBUTING.md has an example, which touches no more files than the page says.

`NAME.diff` is put on a copy of the source; `NAME.check.py` then runs with that copy and fails unless what was
added works.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from documents import REPOSITORY

FOLDER = Path(__file__).parent
PAGE = REPOSITORY / "CONTRIBUTING.md"
SOURCE = REPOSITORY / "src"
LONGEST_S = 120
#: A row of the page's table: the change, its diff, how many files of the product it may touch.
_ROW = re.compile(
    r"^\| \[[^]]+\]\(#([\w-]+)\) \| (\d+) \| \[`([\w-]+)\.diff`\]\(tests/recipes/\3\.diff\) \|", re.M
)
_TOUCHED = re.compile(r"^diff --git a/(\S+) b/(\S+)$", re.M)
#: Runs a check, and makes sure that it is the copy that is checked.
_CHECK = """\
import runpy, sys, sonant
assert sonant.__file__.startswith(sys.argv[1]), sonant.__file__
runpy.run_path(sys.argv[2], run_name="__main__")
"""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A row of the table in CONTRIBUTING.md."""

    name: str
    section: str
    """Anchor of the recipe's section."""
    most_files: int

    def __str__(self) -> str:
        return self.name

    @property
    def diff(self) -> Path:
        return FOLDER / f"{self.name}.diff"

    @property
    def check(self) -> Path:
        return FOLDER / f"{self.name}.check.py"

    @property
    def files(self) -> set[str]:
        """The files that the diff changes or adds."""
        return {new for _, new in _TOUCHED.findall(self.diff.read_text("utf-8"))}


RECIPES = [Recipe(name, section, int(most)) for section, most, name in _ROW.findall(PAGE.read_text("utf-8"))]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    shutil.copytree(SOURCE, tmp_path / "src")  # with what was compiled, which is most of a short run's time
    return tmp_path


def run(command: list[str | Path], folder: Path, **environment: str) -> None:
    done = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_recipe_applies_and_its_change_works(recipe: Recipe, copied: Path) -> None:
    if shutil.which("git") is None:
        pytest.skip("this machine has no git to apply a diff with")
    # The copy lies in no repository, whatever the folder for temporary files is in.
    run(["git", "apply", "-C1", recipe.diff], copied, GIT_CEILING_DIRECTORIES=str(copied.parent))
    paths = os.pathsep.join([str(copied / "src"), str(REPOSITORY / "tests" / "support")])
    run([sys.executable, "-c", _CHECK, copied / "src", recipe.check], copied, PYTHONPATH=paths)


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_recipe_touches_no_more_files_than_the_page_says(recipe: Recipe) -> None:
    assert all(name.startswith("src/sonant/") for name in recipe.files)
    assert 0 < len(recipe.files) <= recipe.most_files


def test_every_diff_is_a_recipe_of_the_page() -> None:
    assert {path.stem for path in FOLDER.glob("*.diff")} == {recipe.name for recipe in RECIPES}
    assert len(RECIPES) == 12


def section(recipe: Recipe) -> str:
    """The text under the recipe's heading."""
    for part in re.split(r"^### ", PAGE.read_text("utf-8"), flags=re.M):
        heading = part.partition("\n")[0]
        if re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") == recipe.section:
            return part
    raise LookupError(recipe.section)


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_section_of_a_recipe_names_every_file_that_the_diff_touches(recipe: Recipe) -> None:
    named = re.findall(r"`([\w/.*-]+)`", section(recipe))
    for file in recipe.files:
        path = Path(file.removeprefix("src/sonant/"))
        assert any(path.match(pattern) for pattern in named), f"{path} is not named"
