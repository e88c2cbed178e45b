"""What the operations' tests share."""

from __future__ import annotations

import pytest
from operations_testbed import Operations, operations_on
from postgres_server import not_default


@pytest.fixture
def testbed(tmp_path, database_url):
    made: Operations = operations_on(tmp_path / "data", not_default(database_url))
    yield made
    made.close()
