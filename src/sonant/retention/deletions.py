"""Read deletions and opt-outs back from event files, to repeat them after a backup was restored."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any

from sonant.errors import SetupError
from sonant.events.documents import FRAUDSTER, SPEAKER, SUCCEEDED

#: Far longer than the events of one delivery to a webhook.
_MAX_LINE_BYTES = 64 << 20
_ACCOUNT = re.compile(r"[0-9]{12}")
_DOMAIN_ID = re.compile(r"[A-Za-z0-9]{22}")
_GENERATED_ID = re.compile(r"id#[A-Za-z0-9]{22}")


class Deletion(IntEnum):
    """What was done to a speaker or fraudster; the greater replaces the lesser."""

    OPT_OUT_SPEAKER = 1
    DELETE_SPEAKER = 2
    DELETE_FRAUDSTER = 3


#: The status of an event about something done; files of earlier releases have the second.
_DONE = (SUCCEEDED, "SUCCESS")
_ID_MEMBERS = {SPEAKER: "generatedSpeakerId", FRAUDSTER: "generatedFraudsterId"}
_DELETIONS = {
    (SPEAKER, "OPT_OUT_SPEAKER"): Deletion.OPT_OUT_SPEAKER,
    (SPEAKER, "DELETE_SPEAKER"): Deletion.DELETE_SPEAKER,
    (FRAUDSTER, "DELETE_FRAUDSTER"): Deletion.DELETE_FRAUDSTER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A speaker or fraudster, by an id that is never used again."""

    account: str
    domain_id: str
    generated_id: str


@dataclass(slots=True, kw_only=True)
class DeletionLog:
    """The deletions in all documents that were added.

    Their order does not matter: no one is enrolled again under a generated id after a deletion, nor after an
    opt-out, which only a deletion ends.
    """

    sources: frozenset[str]
    """The sources that events of Sonant can have."""
    deletions: dict[Person, Deletion] = field(default_factory=dict)
    events: int = 0
    others: int = 0
    """Documents that are no event of Sonant's, or name no valid id."""

    def add(self, document: Mapping[str, Any]) -> None:
        """Add one document."""
        detail = document.get("detail")
        if str(document.get("source")) not in self.sources or not isinstance(detail, dict):
            self.others += 1
            return
        kind = str(document.get("detail-type"))
        deletion = _DELETIONS.get((kind, str(detail.get("action"))))
        if deletion is None or detail.get("status") not in _DONE:
            self.events += 1
            return
        ids = (document.get("account"), detail.get("domainId"), detail.get(_ID_MEMBERS[kind]))
        account, domain_id, generated_id = map(str, ids)
        forms = ((_ACCOUNT, account), (_DOMAIN_ID, domain_id), (_GENERATED_ID, generated_id))
        if not all(form.fullmatch(text) for form, text in forms):
            self.others += 1
            return
        self.events += 1
        person = Person(account=account, domain_id=domain_id, generated_id=generated_id)
        self.deletions[person] = max(deletion, self.deletions.get(person, deletion))


@dataclass(frozen=True, slots=True, kw_only=True)
class CutLine:
    """The last line of a file is cut off, so that its event is not known."""

    line: int


def documents(file: Path) -> Iterator[Mapping[str, Any] | CutLine]:
    """Read a file of JSON lines: a document or an array of them a line.

    Raises SetupError for a file that cannot be read, or a whole line that is something else.
    """
    try:
        with file.open("rb") as lines:
            number = 0
            while line := lines.readline(_MAX_LINE_BYTES):
                number += 1
                try:
                    found = json.loads(line) if line.strip() else []
                    several = found if isinstance(found, list) else [found]
                    if not all(isinstance(document, dict) for document in several):
                        raise ValueError("neither an object nor an array of them")
                except (ValueError, RecursionError):
                    if number == 1 or line.endswith(b"\n") or len(line) == _MAX_LINE_BYTES:
                        raise SetupError(f"{file}, line {number}: this is no event of Sonant's") from None
                    yield CutLine(line=number)
                    return
                yield from several
    except OSError as fault:
        raise SetupError(f"{file} cannot be read: {fault.strerror}") from None
