"""One service with a console for the tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from console_testbed import ConsoleTestbed, Person, console_on


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleTestbed]:
    with console_on(tmp_path_factory.mktemp("console") / "data") as testbed:
        yield testbed


@pytest.fixture
def admin(console: ConsoleTestbed) -> Person:
    return console.person()
