"""Names of the audit trail's chains: what a chain is called in key files, in the database and in reports."""

from __future__ import annotations

from pathlib import Path

#: The chain of the first process, which is the trail's folder itself.
FIRST = "audit"
#: The chain of jobs' fraud findings, which runners write.
JOBS = "jobs"
#: The chain of statements about files that were removed.
REMOVALS = "removals"


def chain_name(folder: Path) -> str:
    """Return the name of a chain by its folder."""
    return folder.name


def chain_folder(trail: Path, name: str) -> Path:
    """Return the folder of a chain, which may not exist."""
    return trail if name == FIRST else trail / name


def chain_folders(trail: Path) -> list[Path]:
    """List the folders of all chains: of the first process, of further ones, of jobs' findings, and of
    statements about removed files."""
    others = sorted(trail.glob("process-*"), key=lambda path: (len(path.name), path.name))
    return [path for path in (trail, *others, trail / JOBS, trail / REMOVALS) if path.is_dir()]
