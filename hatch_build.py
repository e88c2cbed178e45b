"""Write the long description of the package: the README, with links that lead to the tagged sources.

Hatchling runs it (`[tool.hatch.metadata.hooks.custom]`). The README in the repository keeps relative links,
which are right in every clone; a package index shows the README alone, where they would lead nowhere.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

#: The target of a link or picture, unless it has a scheme.
_RELATIVE = re.compile(r"(?<=\]\()(?![a-z][a-z0-9+.-]*:)([^)\s]*)")


def absolute_links(text: str, sources: str) -> str:
    """Lead relative links of README.md to a folder of sources, given by its address."""

    def address(found: re.Match[str]) -> str:
        target = found[1]
        return f"{sources}/{'README.md' if target.startswith('#') else ''}{target}"

    outside_code = re.split(r"(^```.*?^```$)", text, flags=re.MULTILINE | re.DOTALL)
    outside_code[::2] = [_RELATIVE.sub(address, part) for part in outside_code[::2]]
    return "".join(outside_code)


class LongDescription(MetadataHookInterface):
    """Set `readme` of the package's metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Hatchling has read the version by now."""
        sources = f"{metadata['urls']['Source']}/blob/v{metadata['version']}"
        text = (Path(self.root) / "README.md").read_text("utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": absolute_links(text, sources)}
