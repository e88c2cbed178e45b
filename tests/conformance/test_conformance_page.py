"""The page of the matrix is made from the tests' data and must not lag behind them."""

from __future__ import annotations

import runpy
from pathlib import Path

from fault_scenarios import CANNOT_OCCUR, ERRORS
from sample_requests import SERVED

REPOSITORY = Path(__file__).parents[2]


def rows(page: str) -> dict[str, list[str]]:
    """Cells behind the name, by operation."""
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    return {line[0]: line[1:] for line in lines if line[0] in SERVED}


def test_the_page_of_the_matrix_is_up_to_date() -> None:
    page = runpy.run_path(str(REPOSITORY / "tools" / "conformance_page.py"))["page"]
    assert (REPOSITORY / "docs" / "conformance.md").read_text("utf-8") == page(), (
        "run: python tools/conformance_page.py > docs/conformance.md"
    )


def test_it_shows_every_operation_with_every_client_and_no_error_untried() -> None:
    shown = rows((REPOSITORY / "docs" / "conformance.md").read_text("utf-8"))
    assert set(shown) == set(SERVED)
    for name, cells in shown.items():
        assert cells[:3] == ["yes"] * 3, name
        for error, cell in zip(ERRORS, cells[3:], strict=True):
            if f"{error}Exception" not in SERVED[name].errors:
                assert cell == "-", (name, error)
            elif (name, error) in CANNOT_OCCUR:
                assert cell == "never", (name, error)
            else:
                assert int(cell.split()[0]) >= 1, (name, error)
