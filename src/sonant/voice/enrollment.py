"""Collect the speech for a voiceprint from recordings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.errors import AudioError, NotEnoughSpeech
from sonant.voice.audio.recording import RATE_HZ, Recording
from sonant.voice.collector import SpeechCollector
from sonant.voice.models import Models
from sonant.voice.quality import Quality, measure


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingSource:
    """A recording to read."""

    name: str
    """Its name in messages."""
    data: bytes
    channel: int
    """The speaker's channel, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speech:
    """Speech of one person, pauses removed."""

    samples: NDArray[np.float32]
    """Shape [n], 8 kHz, -1..1, filtered to the telephone band."""
    quality: Quality
    recordings_used: int
    """How many recordings were opened to find it."""

    @property
    def net_speech_s(self) -> float:
        """The length of the speech in seconds."""
        return len(self.samples) / RATE_HZ


def collect_speech(
    recordings: Iterable[RecordingSource],
    *,
    need_s: float,
    models: Models,
    strict: bool,
    max_duration_s: float,
) -> Speech:
    """Collect the first `need_s` seconds of speech from the recordings, in their order.

    Reads lazily: the next recording is requested, and the next few seconds are decoded, only while speech is
    missing. The result does not depend on how recordings are cut into blocks. Raises NotEnoughSpeech when
    all recordings together hold too little, AudioError (its message begins with the recording's name) when
    one is faulty.
    """
    streams = (_blocks(source, strict=strict, max_duration_s=max_duration_s) for source in recordings)
    return collect_from_blocks(streams, need_s=need_s, at_least_s=need_s, models=models)


def collect_from_blocks(
    streams: Iterable[Iterable[NDArray[np.float32]]], *, need_s: float, at_least_s: float, models: Models
) -> Speech:
    """Collect the first `need_s` seconds of speech from streams of blocks at 8 kHz, in their order.

    Reads as lazily as `collect_speech`. Raises NotEnoughSpeech when all streams together hold less than
    `at_least_s`.
    """
    need, have = round(need_s * RATE_HZ), 0
    found: list[SpeechCollector] = []
    for blocks in streams:
        collector = SpeechCollector(models, need - have)
        found.append(collector)
        _collect(blocks, collector)
        have += collector.count
        if have >= need:
            break
    if have < round(at_least_s * RATE_HZ):
        raise NotEnoughSpeech(have / RATE_HZ, at_least_s)
    samples = np.concatenate([collector.samples for collector in found])
    quality = measure(
        samples,
        clipped=np.concatenate([collector.clipped for collector in found]),
        power=np.concatenate([collector.power for collector in found]),
        probability=np.concatenate([collector.probability for collector in found]),
        duration_s=sum(collector.analyzed for collector in found) / RATE_HZ,
    )
    return Speech(samples=samples, quality=quality, recordings_used=len(found))


def _collect(blocks: Iterable[NDArray[np.float32]], collector: SpeechCollector) -> None:
    """Analyze block by block until there is enough speech or the stream ends."""
    for block in blocks:
        collector.push(block)
        if collector.enough:
            return
    collector.finish()


def _blocks(source: RecordingSource, *, strict: bool, max_duration_s: float) -> Iterator[NDArray[np.float32]]:
    """Decode a recording; AudioErrors get its name."""
    try:
        yield from Recording.open(
            source.data, channel=source.channel, strict=strict, max_duration_s=max_duration_s
        ).blocks()
    except AudioError as fault:
        raise type(fault)(f"{source.name}: {fault}") from fault
