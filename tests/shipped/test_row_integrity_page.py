"""docs/row-integrity.md lists every table, and every column that MACs do not cover, with the reason."""

from __future__ import annotations

from pathlib import Path

from sonant.storage.database.schema.binding import BOUND, NOT_BOUND

PAGE = Path(__file__).parents[2] / "docs" / "row-integrity.md"


def table_rows() -> dict[str, list[str]]:
    """The cells behind the first one of the page's tables, by the first one."""
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return {row[0].strip("`"): row[1:] for row in rows}


def test_page_lists_every_table_with_what_is_not_covered() -> None:
    described = table_rows()
    for table, left_out in BOUND.items():
        reasons = "; ".join(f"`{column}`: {reason}" for column, reason in left_out.items()) or "-"
        assert described.pop(table)[-1] == reasons, table
    for table, reason in NOT_BOUND.items():
        assert described.pop(table) == [reason], table
    assert described == {}
