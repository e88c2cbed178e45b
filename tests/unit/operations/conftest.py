"""What the operations' tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
from operations_testbed import Operations, operations_on
from postgres_server import not_default


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """By default run the first case of each test on PostgreSQL, and all of them on SQLite.

    Cases of a test differ in what is asked of an operation, not in the statements by which it does it.
    """
    shown = set()
    for item in items:
        case = getattr(item, "callspec", None)
        if case is None or case.params.get("database_url") != "postgresql":
            continue
        test = item.nodeid.partition("[")[0]
        if Path(__file__).parent in item.path.parents and test in shown:
            item.add_marker(pytest.mark.slow)
        shown.add(test)


@pytest.fixture
def testbed(tmp_path, database_url):
    made: Operations = operations_on(tmp_path / "data", not_default(database_url))
    yield made
    made.close()
