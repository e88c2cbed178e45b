"""What the operations' tests share."""

from __future__ import annotations

import pytest
from operations_house import Operations, operations_on


@pytest.fixture
def house(tmp_path):
    made: Operations = operations_on(tmp_path / "data")
    yield made
    made.close()
