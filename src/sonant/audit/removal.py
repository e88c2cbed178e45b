"""Removes old files of the audit trail, and leaves a sealed statement of what they were.

The statements are a chain of their own, in the folder `removals` of the trail. A statement is on the disk
before the files are removed; `verify` takes it for what the oldest line that is left follows.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sonant.audit import chain
from sonant.audit.file import Announce, ChainFile
from sonant.audit.key_files import KeyFiles
from sonant.audit.names import REMOVALS, chain_name
from sonant.audit.verification import Removed
from sonant.ids import new_uuid
from sonant.storage.files import sync_folder

#: The member of a statement.
DETAILS = "serviceEventDetails"
EVENT_NAME = "AuditFilesRemoved"
_SERVICE = "voiceid.amazonaws.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovableFiles:
    """The oldest files of a chain, up to the last one that may be removed."""

    folder: Path
    paths: tuple[Path, ...]
    lines: int
    last_hash: str
    last_sequence: int
    section: Mapping[str, str] | None
    section_sequence: int
    last_day: str


def removable(folder: Path, before: str, known: Removed | None) -> RemovableFiles | None:
    """Find the files of a chain whose day is before `before` (YYYY-MM-DD), None when there is none.

    The last file always stays. `known` is the last statement about the chain: the section of its lines is in
    it when their first line was removed. Raises LineFault for a damaged line.
    """
    paths: list[Path] = []
    section = None if known is None else known.section
    section_sequence = 0 if known is None else known.section_sequence
    count, last = 0, None
    for path in chain.files(folder)[:-1]:
        if path.stem[9:] >= before:
            break
        paths.append(path)
        for content in chain.lines(path):
            line = chain.read_line(content)
            count += 1
            if line.section is not None:
                linked = last is not None and bool(last.mac) and "since" not in line.section
                section, section_sequence = line.section, line.sequence + (1 if linked else 0)
            last = line
    if last is None:
        return None
    return RemovableFiles(
        folder=folder,
        paths=tuple(paths),
        lines=count,
        last_hash=last.own,
        last_sequence=last.sequence,
        section=section,
        section_sequence=section_sequence,
        last_day=paths[-1].stem[9:],
    )


def remove(
    trail: Path,
    found: RemovableFiles,
    keys: KeyFiles,
    *,
    by: str,
    reason: str,
    now: datetime,
    announce: Announce | None = None,
) -> None:
    """Write the statement and remove the files. Raises OSError, SetupError."""
    folder = trail / REMOVALS
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        file = ChainFile(
            folder, 1 << 40, keys, announce
        )  # one file: statements are few, and are never removed
        try:
            file.write([_document(found, by=by, reason=reason, now=now)], now)
            file.sync()
        except OSError:
            file.undo()
            raise
        finally:
            file.close()
    for path in found.paths:
        path.unlink(missing_ok=True)
    sync_folder(found.folder)


def statements(trail: Path) -> dict[str, list[Removed]]:
    """Return what was removed from each chain, oldest first. The chain of statements must be checked too."""
    found: dict[str, list[Removed]] = {}
    for path in chain.files(trail / REMOVALS):
        for content in chain.lines(path):
            details = _details(content)
            if details is None:
                continue
            section = details.get("section")
            removed = Removed(
                last_hash=str(details.get("lastHash", "")),
                last_sequence=int(details.get("lastSequence", 0)),
                section=section if isinstance(section, dict) else None,
                section_sequence=int(details.get("sectionSequence", 0)),
            )
            found.setdefault(str(details.get("chain", "")), []).append(removed)
    return found


def _details(content: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(content)
        details = record[DETAILS] if record["eventName"] == EVENT_NAME else None
    except (ValueError, KeyError, TypeError):
        return None
    return details if isinstance(details, dict) else None


def _document(found: RemovableFiles, *, by: str, reason: str, now: datetime) -> dict[str, object]:
    return {
        "eventVersion": "1.08",
        "userIdentity": {"type": "Operator", "userName": by, "invokedBy": "sonant audit remove"},
        "eventTime": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "eventSource": _SERVICE,
        "eventName": EVENT_NAME,
        "sourceIPAddress": _SERVICE,
        "userAgent": _SERVICE,
        "requestParameters": None,
        "responseElements": None,
        "eventID": new_uuid(),
        "readOnly": False,
        "eventType": "AwsServiceEvent",
        "managementEvent": True,
        "eventCategory": "Management",
        DETAILS: {
            "chain": chain_name(found.folder),
            "files": [path.name for path in found.paths],
            "lines": found.lines,
            "lastHash": found.last_hash,
            "lastSequence": found.last_sequence,
            "section": None if found.section is None else dict(found.section),
            "sectionSequence": found.section_sequence,
            "reason": reason,
        },
    }
