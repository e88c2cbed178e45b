"""Names of tests are short enough to be read in a list of results."""

from __future__ import annotations

import re

from documents import REPOSITORY

MOST_CHARACTERS = 70


def test_names_of_tests_are_short() -> None:
    found = {
        name
        for path in (REPOSITORY / "tests").rglob("test_*.py")
        for name in re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)
    }
    assert found
    assert {name for name in found if len(name) > MOST_CHARACTERS} == set()
