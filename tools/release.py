"""Build a release into dist/: wheel, source, SBOMs, provenance and checksums.

    python tools/release.py [--out DIR] [--sign KEY.pem]

Builds what is committed, and refuses a work tree with changes. Wheel and source are the same bytes for
the same commit, whoever builds them (`SOURCE_DATE_EPOCH` is the commit's time): build again and compare
the checksums. It needs no network. docs/supply-chain.md says what to do with the files.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from locked import ROOT
from provenance import (
    ProvenanceFault,
    envelope,
    private_key,
    read_source,
    source_time,
    statement,
)
from sbom import DEFAULT_EXTRAS, image_sbom, wheel_sbom

PROVENANCE, CHECKSUMS = "provenance.json", "SHA256SUMS"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="Build a release.")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--sign", type=Path, help="PEM of an Ed25519 key")
    given = parser.parse_args(arguments)
    try:
        for file in build_release(given.out, given.sign):
            print(file)
    except (ProvenanceFault, OSError, ValueError) as fault:
        print(fault, file=sys.stderr)
        return 1
    return 0


def build_release(out: Path, sign: Path | None) -> list[Path]:
    """Build everything into an empty folder. Raises ProvenanceFault and OSError."""
    if out.exists() and any(out.iterdir()):
        raise ProvenanceFault(f"{out} is not empty")
    source, made_at = read_source(), source_time()
    key = None if sign is None else private_key(sign)
    if not source.clean:
        raise ProvenanceFault(
            "the work tree has changes; commit them, so that the commit says what was built"
        )
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(int(made_at.timestamp()))}
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(out.absolute())]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    (wheel,) = out.glob("*.whl")
    (archive,) = out.glob("*.tar.gz")
    boms = out / f"{wheel.stem}.cdx.json", out / "image.cdx.json"
    boms[0].write_text(wheel_sbom(wheel, DEFAULT_EXTRAS, made_at), "utf-8")
    boms[1].write_text(image_sbom(DEFAULT_EXTRAS, made_at), "utf-8")
    built = [wheel, archive, *boms]
    document = statement(built, source, made_at, datetime.now(UTC))
    if key is not None:
        document = envelope(document, key)
    (out / PROVENANCE).write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    built.append(out / PROVENANCE)
    lines = (f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(built))
    (out / CHECKSUMS).write_text("".join(lines), "utf-8")
    return [*built, out / CHECKSUMS]


if __name__ == "__main__":
    sys.exit(main())
