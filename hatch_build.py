"""Write the addresses of the package, and its long description: the README, linked to the tagged sources.

Hatchling runs it (`[tool.hatch.metadata.hooks.custom]`). `REPOSITORY_URL` is the address of the repository,
such as https://host/owner/sonant; a package built without it names no addresses. The README in the repository
keeps relative links, which are right in every clone; a package index shows the README alone, where they would
lead nowhere.
"""

from __future__ import annotations

import os
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


class PublishedMetadata(MetadataHookInterface):
    """Set `urls` and `readme` of the package's metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Hatchling has read the version by now. Raises ValueError for an address that is not https."""
        text = (Path(self.root) / "README.md").read_text("utf-8")
        address = os.environ.get("REPOSITORY_URL", "").rstrip("/")
        if address and not address.startswith("https://"):
            raise ValueError(f"REPOSITORY_URL is {address!r}, not an https address")
        if address:
            text = absolute_links(text, f"{address}/blob/v{metadata['version']}")
        metadata["urls"] = addresses(address)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}


def addresses(repository: str) -> dict[str, str]:
    """Return the labelled addresses of a repository; none for an empty one."""
    if not repository:
        return {}
    return {
        "Homepage": repository,
        "Documentation": f"{repository}/blob/main/docs/README.md",
        "Changelog": f"{repository}/blob/main/CHANGELOG.md",
        "Issues": f"{repository}/issues",
        "Source": repository,
    }
