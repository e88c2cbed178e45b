"""Collect one customer's speech from recordings of conversations: find the parties, select, join."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sonant.errors import AmbiguousParties, AudioError, NotEnoughSpeech
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.calibration.file import shipped_calibration
from sonant.voice.collector import SpeechCollector
from sonant.voice.enrollment import RecordingSource, Speech, recording_blocks
from sonant.voice.models import Models
from sonant.voice.models.embedding import embed
from sonant.voice.parties import ANALYZED_S, Party, find_parties
from sonant.voice.party_selection import AgentVoice, PartySelection, select_recurring
from sonant.voice.quality import measure

AGENT_SPEECH_S = 60.0
"""Speech of an agent's recording that is used, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingParties:
    """A recording's speech and who speaks in it."""

    collector: SpeechCollector = field(repr=False)
    """Holds the speech without pauses, at most ANALYZED_S of it."""
    parties: tuple[Party, ...]
    """Their spans are positions in that speech."""

    @property
    def speech_s(self) -> float:
        """Seconds of speech that were examined, of all people."""
        return len(self.collector.samples) / RATE_HZ


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestParties:
    """The parties of all recordings of a request, and which of them is the customer."""

    recordings: tuple[RecordingParties, ...]
    selection: PartySelection


@dataclass(frozen=True, slots=True, kw_only=True)
class PartySummary:
    """How much each party of each recording speaks; can be pickled, unlike `RequestParties`."""

    speech_s: tuple[float, ...]
    """Speech of each recording, of all people."""
    party_s: tuple[tuple[float, ...], ...]
    """Speech of each party of each recording, alone."""
    selection: PartySelection

    @classmethod
    def of(cls, found: RequestParties) -> PartySummary:
        return cls(
            speech_s=tuple(one.speech_s for one in found.recordings),
            party_s=tuple(tuple(party.speech_s for party in one.parties) for one in found.recordings),
            selection=found.selection,
        )


def select_parties(
    recordings: Iterable[RecordingSource],
    agents: Iterable[RecordingSource],
    *,
    models: Models,
    strict: bool,
    max_duration_s: float,
) -> RequestParties:
    """Find the parties of every recording and select the customer; recordings are read one after the other.

    `agents` are recordings in which one agent each speaks alone. Raises AudioError, whose message begins with
    the recording's name, for a faulty one and for an agent's recording without enough speech. An ambiguous
    request raises nothing: see `selection`.
    """
    voices = [_agent_voice(source, models, strict=strict, max_duration_s=max_duration_s) for source in agents]
    found = []
    for source in recordings:
        collector = _collected(source, models, ANALYZED_S, strict=strict, max_duration_s=max_duration_s)
        found.append(RecordingParties(collector=collector, parties=find_parties(collector.samples, models)))
    selection = select_recurring([one.parties for one in found], voices, shipped_calibration())
    return RequestParties(recordings=tuple(found), selection=selection)


def collect_party_speech(found: RequestParties, need_s: float) -> Speech:
    """Join the first `need_s` seconds in which the selected party speaks alone.

    Raises AmbiguousParties when no party was selected, NotEnoughSpeech when it speaks too little.
    """
    if not found.selection.selected:
        raise AmbiguousParties(found.selection.reason)
    need = round(need_s * RATE_HZ)
    chosen = [
        (one.collector, one.parties[party])
        for one, party in zip(found.recordings, found.selection.chosen, strict=True)
        if party is not None
    ]
    taken = [(collector, _mask(party, len(collector.samples))) for collector, party in chosen]
    samples = np.concatenate([collector.samples[mask] for collector, mask in taken])[:need]
    if len(samples) < need:
        raise NotEnoughSpeech(len(samples) / RATE_HZ, need_s)
    quality = measure(
        samples,
        clipped=np.concatenate([collector.clipped[mask] for collector, mask in taken])[:need],
        power=np.concatenate([collector.power for collector, _ in taken]),
        probability=np.concatenate([collector.probability for collector, _ in taken]),
        duration_s=sum(collector.analyzed for collector, _ in taken) / RATE_HZ,
    )
    return Speech(samples=samples, quality=quality, recordings_used=len(taken))


def _agent_voice(
    source: RecordingSource, models: Models, *, strict: bool, max_duration_s: float
) -> AgentVoice:
    collector = _collected(source, models, AGENT_SPEECH_S, strict=strict, max_duration_s=max_duration_s)
    samples = collector.samples
    try:
        return AgentVoice(vector=embed(samples, models).vector, speech_s=len(samples) / RATE_HZ)
    except NotEnoughSpeech as fault:
        raise AudioError(f"{source.name}, a recording of an agent: {fault}") from None


def _collected(
    source: RecordingSource, models: Models, need_s: float, *, strict: bool, max_duration_s: float
) -> SpeechCollector:
    """Collect the first `need_s` seconds of speech, or all if there is less."""
    collector = SpeechCollector(models, round(need_s * RATE_HZ))
    for block in recording_blocks(source, strict=strict, max_duration_s=max_duration_s):
        collector.push(block)
        if collector.enough:
            return collector
    collector.finish()
    return collector


def _mask(party: Party, count: int) -> NDArray[np.bool_]:
    mask = np.zeros(count, np.bool_)
    for start, end in party.spans:
        mask[start:end] = True
    return mask
