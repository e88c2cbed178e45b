"""Build the documentation site: `make docs`.

Gathers the pages in a temporary folder and has Sphinx write the site to FOLDER (default build/docs). Warnings
are errors: a link that leads nowhere, a page that is in no menu. Diagrams are drawn by Mermaid, which npm
fetches; where there is no npm, or no network, they are shown as text. The site asks no other for anything.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sources import REPOSITORY, pages

MERMAID = "11.17.2"
MERMAID_SHA256 = "6ad2f42c3fc26bbf9e45cbb6d11898972573ea52b33a5f4ff51952899f950ffd"
_SCRIPT = "package/dist/mermaid.min.js"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="Build the documentation site.")
    parser.add_argument("folder", nargs="?", type=Path, default=REPOSITORY / "build" / "docs")
    parser.add_argument("--sphinx", default=sys.executable, help="Python of the environment that has Sphinx")
    parser.add_argument("--no-diagrams", action="store_true", help="do not fetch Mermaid")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as work:
        source = Path(work)
        write_pages(source)
        static = source / "static"
        static.mkdir()
        shutil.copy(Path(__file__).with_name("conf.py"), source)
        shutil.copy(Path(__file__).with_name("diagrams.js"), static)
        if given.no_diagrams:
            print("diagrams are shown as text")
        elif (why := fetch_mermaid(static / "mermaid.min.js")) is not None:
            print(f"diagrams are shown as text: {why}", file=sys.stderr)
        done = subprocess.run(
            [given.sphinx, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", source, given.folder],
            check=False,
        )
    if done.returncode == 0:
        print(f"the site is in {given.folder}: open {given.folder / 'index.html'}")
    return done.returncode


def write_pages(folder: Path) -> None:
    """Write all pages as Sphinx reads them."""
    for place, text in pages():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")


def fetch_mermaid(target: Path) -> str | None:
    """Fetch Mermaid's script by npm and check its hash; returns why not, if so."""
    npm = shutil.which("npm")
    if npm is None:
        return "npm is not installed"
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", "--silent", f"mermaid@{MERMAID}"]
        fetched = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        archive = Path(folder, f"mermaid-{MERMAID}.tgz")
        if fetched.returncode or not archive.exists():
            return f"npm could not fetch mermaid {MERMAID}"
        content = archive.read_bytes()
    if hashlib.sha256(content).hexdigest() != MERMAID_SHA256:
        return f"mermaid {MERMAID} has another hash than the pinned one"
    with tarfile.open(fileobj=io.BytesIO(content)) as packed:
        script = packed.extractfile(_SCRIPT)
        assert script is not None
        target.write_bytes(script.read())
    return None


if __name__ == "__main__":
    sys.exit(main())
