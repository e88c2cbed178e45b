"""The page of settings is generated, and must match the settings."""

from __future__ import annotations

import runpy
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]


def test_settings_page_is_up_to_date() -> None:
    page = runpy.run_path(str(REPOSITORY / "tools" / "settings_page.py"))["page"]
    assert (REPOSITORY / "docs" / "settings.md").read_text("utf-8") == page()
