"""Recording metadata (RFC 7865): who takes part in the recorded call, and who sends which stream."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.parsers import expat

from sonant.carriers.siprec.message import SipFault

_MOST_DEPTH, _MOST_ELEMENTS, _MOST_ATTRIBUTES, _LONGEST_TEXT = 16, 2000, 16, 1024
_USER = re.compile(r"(?:sips?|tel):\+?([^@;:]{1,128})(?:[@;:].*)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Participant:
    """One who takes part in the call."""

    aor: str = ""
    """Address of record, such as `sip:+4420@example.com`."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Texts of its elements by their name, such as `name`."""

    @property
    def user(self) -> str:
        """The user part of the address or the telephone number, without a leading `+`."""
        found = _USER.fullmatch(self.aor)
        return found[1] if found else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What is known of a recorded call. Participants are in the order in which they were named."""

    participants: Mapping[str, Participant] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    """Labels of streams by the streams' ids."""
    sends: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Ids of the streams that a participant sends."""
    session_ids: tuple[str, ...] = ()
    """Ids of the recorded call: of its SIP session (RFC 7989), then that of the metadata."""

    def merged(self, later: Metadata) -> Metadata:
        """Return this with what a partial update names."""
        return Metadata(
            participants={**self.participants, **later.participants},
            labels={**self.labels, **later.labels},
            sends={**self.sends, **later.sends},
            session_ids=self.session_ids or later.session_ids,
        )

    def labels_of(self, participant_id: str) -> set[str]:
        """Return the labels of the streams that a participant sends."""
        return {self.labels[one] for one in self.sends.get(participant_id, ()) if one in self.labels}

    def customer(self, agents: str) -> str:
        """Return the id of the customer: the first participant who sends a stream and whose address the
        regular expression `agents` does not match; empty for none."""
        for participant_id, participant in self.participants.items():
            is_agent = bool(agents) and re.fullmatch(agents, participant.aor) is not None
            if self.labels_of(participant_id) and not is_agent:
                return participant_id
        return ""


@dataclass(slots=True)
class _Element:
    name: str
    attributes: dict[str, str]
    text: str = ""
    children: list[_Element] = field(default_factory=list)

    def find(self, name: str) -> list[_Element]:
        return [child for child in self.children if child.name == name]

    def texts(self, name: str) -> list[str]:
        return [child.text.strip() for child in self.find(name) if child.text.strip()]

    def descendants(self) -> list[_Element]:
        return [self, *(one for child in self.children for one in child.descendants())]


def parse_metadata(body: bytes, earlier: Metadata | None = None) -> Metadata:
    """Parse a document; one with the mode `partial` adds to `earlier`. Raises SipFault."""
    root = _parse_xml(body)
    if root.name != "recording":
        raise SipFault("the recording metadata has no element recording")
    sends: dict[str, tuple[str, ...]] = {}
    for one in root.find("participantstreamassoc"):
        sends[one.attributes.get("participant_id", "")] = tuple(one.texts("send"))
    sessions = root.find("session")
    found = Metadata(
        participants={
            one.attributes["participant_id"]: _participant(one)
            for one in root.find("participant")
            if one.attributes.get("participant_id")
        },
        labels={
            one.attributes["stream_id"]: label
            for one in root.find("stream")
            if one.attributes.get("stream_id")
            for label in one.texts("label")[:1]
        },
        sends=sends,
        session_ids=tuple(
            one
            for session in sessions
            for one in (*session.texts("sipSessionID"), session.attributes.get("session_id", ""))
            if one
        ),
    )
    partial = [mode.lower() for mode in root.texts("datamode")] == ["partial"]
    return earlier.merged(found) if partial and earlier is not None else found


def _participant(element: _Element) -> Participant:
    inner = element.descendants()
    aor = next((one.attributes["aor"] for one in inner if one.attributes.get("aor")), "")
    texts: dict[str, str] = {}
    for one in inner[1:]:
        if one.text.strip():
            texts.setdefault(one.name, one.text.strip())
    return Participant(aor=aor[:256], texts=texts)


def _parse_xml(body: bytes) -> _Element:
    """Parse XML without document types, and so without entities of its own."""
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    root = _Element("", {})
    open_elements = [root]
    count = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if count > _MOST_ELEMENTS or len(open_elements) > _MOST_DEPTH or len(attributes) > _MOST_ATTRIBUTES:
            raise SipFault("the recording metadata is too large")
        element = _Element(
            name.rpartition(" ")[2],
            {key.rpartition(" ")[2]: value[:_LONGEST_TEXT] for key, value in attributes.items()},
        )
        open_elements[-1].children.append(element)
        open_elements.append(element)

    def end(_name: str) -> None:
        open_elements.pop()

    def text(data: str) -> None:
        element = open_elements[-1]
        element.text = (element.text + data)[:_LONGEST_TEXT]

    def refuse(*_what: object) -> None:
        raise SipFault("the recording metadata declares a document type")

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        parser.Parse(body, True)
    except (expat.ExpatError, ValueError, LookupError):
        raise SipFault("the recording metadata is not well-formed XML") from None
    return root.children[0]
