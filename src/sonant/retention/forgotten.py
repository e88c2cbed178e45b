"""Whom events tell to forget, read back from JSON lines. Pure but for reading the file it is given."""

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


class End(IntEnum):
    """How it ended with a speaker or fraudster; the greater outweighs the lesser."""

    OPT_OUT_SPEAKER = 1
    DELETE_SPEAKER = 2
    DELETE_FRAUDSTER = 3


#: What an event's status says of what was done; files from before this release have the second word.
_DONE = (SUCCEEDED, "SUCCESS")
_ID_MEMBERS = {SPEAKER: "generatedSpeakerId", FRAUDSTER: "generatedFraudsterId"}
_ENDS = {
    (SPEAKER, "OPT_OUT_SPEAKER"): End.OPT_OUT_SPEAKER,
    (SPEAKER, "DELETE_SPEAKER"): End.DELETE_SPEAKER,
    (FRAUDSTER, "DELETE_FRAUDSTER"): End.DELETE_FRAUDSTER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A speaker or fraudster, by an id that nobody else is ever given."""

    account: str
    domain_id: str
    generated_id: str


@dataclass(slots=True, kw_only=True)
class Forgotten:
    """Who is to be forgotten, of all documents `take` was given.

    Their order does not matter: under one generated id nobody is enrolled again after a deletion, nor after
    an opt-out, which only a deletion ends.
    """

    sources: frozenset[str]
    """What an event of Sonant's may have as its source."""
    ends: dict[Person, End] = field(default_factory=dict)
    events: int = 0
    others: int = 0
    """Documents that are no event of Sonant's, or say of nobody we could know that it ended."""

    def take(self, document: Mapping[str, Any]) -> None:
        """Count one document in."""
        detail = document.get("detail")
        if str(document.get("source")) not in self.sources or not isinstance(detail, dict):
            self.others += 1
            return
        kind = str(document.get("detail-type"))
        end = _ENDS.get((kind, str(detail.get("action"))))
        if end is None or detail.get("status") not in _DONE:
            self.events += 1
            return
        told = (document.get("account"), detail.get("domainId"), detail.get(_ID_MEMBERS[kind]))
        account, domain_id, generated_id = map(str, told)
        forms = ((_ACCOUNT, account), (_DOMAIN_ID, domain_id), (_GENERATED_ID, generated_id))
        if not all(form.fullmatch(text) for form, text in forms):
            self.others += 1
            return
        self.events += 1
        person = Person(account=account, domain_id=domain_id, generated_id=generated_id)
        self.ends[person] = max(end, self.ends.get(person, end))


@dataclass(frozen=True, slots=True, kw_only=True)
class Torn:
    """The last line of a file was cut short, so that its event is not known."""

    line: int


def documents(file: Path) -> Iterator[Mapping[str, Any] | Torn]:
    """What a file of JSON lines holds: a document or an array of them a line.

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
                    yield Torn(line=number)
                    return
                yield from several
    except OSError as fault:
        raise SetupError(f"{file} cannot be read: {fault.strerror}") from None
