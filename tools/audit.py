"""Look for known vulnerabilities of the locked packages, by pip-audit.

    python tools/audit.py [LOCK...]

Asks the advisories of the package index, or with --osv those of OSV, for each locked package: it needs a
network, and no registry of packages has an up-to-date list that could come along. Exits with 1 when
something is found that `locks/advisories.toml` does not answer: an entry there names the advisory, why it
does not concern Sonant, and until when that holds. Needs pip-audit (`pip install pip-audit`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from locked import LOCKS

ANSWERS = LOCKS / "advisories.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Why an advisory does not concern Sonant."""

    advisory: str
    """Its id, or one of its aliases."""
    reason: str
    until: date
    """From this day on it has to be answered again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A known vulnerability of a locked package."""

    package: str
    version: str
    ids: tuple[str, ...]
    """The advisory's id and its aliases."""
    fixed_in: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as a program."""
    parser = argparse.ArgumentParser(description="Look for known vulnerabilities of what is locked.")
    parser.add_argument("locks", nargs="*", help="names of locks; all by default")
    parser.add_argument("--osv", action="store_true", help="ask OSV instead of the package index")
    given = parser.parse_args(arguments)
    program = shutil.which("pip-audit")
    if program is None:
        print("pip-audit is not installed: pip install pip-audit", file=sys.stderr)
        return 2
    files = [LOCKS / f"{name}.txt" for name in given.locks] or sorted(LOCKS.glob("*.txt"))
    command = [program, "--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json"]
    command += ["--vulnerability-service", "osv" if given.osv else "pypi"]
    command += [option for file in files for option in ("-r", str(file))]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        report = json.loads(done.stdout)
    except ValueError:
        print(f"pip-audit failed: {done.stderr.strip()}", file=sys.stderr)
        return 2
    open_ones = list(unanswered(findings(report), read_answers(ANSWERS.read_text("utf-8")), date.today()))  # noqa: DTZ011
    for one in open_ones:
        fixed = ", ".join(one.fixed_in) or "no version"
        print(f"{one.package} {one.version}: {', '.join(one.ids)}; fixed in {fixed}")
    print(f"{len(report['dependencies'])} packages, {len(open_ones)} open advisories")
    return 1 if open_ones else 0


def findings(report: Mapping[str, Any]) -> list[Finding]:
    """Read the JSON report of pip-audit."""
    return [
        Finding(
            package=package["name"],
            version=package["version"],
            ids=(one["id"], *one.get("aliases", ())),
            fixed_in=tuple(one.get("fix_versions", ())),
        )
        for package in report["dependencies"]
        for one in package.get("vulns", ())
    ]


def read_answers(text: str) -> list[Answer]:
    """Read `advisories.toml`: tables `[[answer]]` with advisory, reason and until."""
    return [Answer(**one) for one in tomllib.loads(text).get("answer", ())]


def unanswered(found: Sequence[Finding], answers: Sequence[Answer], today: date) -> Iterator[Finding]:
    """Yield the findings that no answer covers today."""
    valid = {one.advisory for one in answers if today < one.until}
    return (one for one in found if not valid & set(one.ids))


if __name__ == "__main__":
    sys.exit(main())
