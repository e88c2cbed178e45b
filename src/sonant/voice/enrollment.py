"""Collect the speech for a voiceprint from recordings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sonant.errors import AudioError, NotEnoughSpeech
from sonant.voice.audio.recording import RATE_HZ, Recording
from sonant.voice.channel_summary import LITTLE_SHARE, describe_channels, summarize_channels
from sonant.voice.collector import SpeechCollector
from sonant.voice.models import Models
from sonant.voice.quality import Quality, measure
from sonant.voice.repeats import find_repeats


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
    missing. Speech that repeats earlier speech does not count. The result does not depend on how recordings
    are cut into blocks. Raises NotEnoughSpeech, which describes every recording, when all together hold too
    little, AudioError (its message begins with the recording's name) when one is faulty.
    """
    found = _Found(round(need_s * RATE_HZ), models)
    for source in recordings:
        found.collect(recording_blocks(source, strict=strict, max_duration_s=max_duration_s))
        if found.enough:
            break
        found.descriptions.append(
            _describe(source, found.last, models, strict=strict, max_duration_s=max_duration_s)
        )
    return found.speech(need_s)


def collect_from_blocks(
    streams: Iterable[Iterable[NDArray[np.float32]]], *, need_s: float, at_least_s: float, models: Models
) -> Speech:
    """Collect the first `need_s` seconds of speech from streams of blocks at 8 kHz, in their order.

    Reads as lazily as `collect_speech`, and leaves out repeats as well. Raises NotEnoughSpeech when all
    streams together hold less than `at_least_s`.
    """
    found = _Found(round(need_s * RATE_HZ), models)
    for blocks in streams:
        found.collect(blocks)
        if found.enough:
            break
    return found.speech(at_least_s)


class _Found:
    """The speech of several recordings, as it is collected."""

    def __init__(self, need: int, models: Models) -> None:
        self._need, self._models = need, models
        self._collectors: list[SpeechCollector] = []
        self._repeated = np.empty(0, np.bool_)
        self.descriptions: list[str] = []

    @property
    def last(self) -> SpeechCollector:
        return self._collectors[-1]

    @property
    def enough(self) -> bool:
        return self._missing == 0

    @property
    def _missing(self) -> int:
        have = sum(min(collector.count, collector.need) for collector in self._collectors)
        return max(0, self._need - have + int(self._repeated.sum()))

    def collect(self, blocks: Iterable[NDArray[np.float32]]) -> None:
        """Analyze block by block until there is enough speech or the stream ends."""
        collector = SpeechCollector(self._models, self._missing)
        self._collectors.append(collector)
        for block in blocks:
            collector.push(block)
            if self._is_enough(collector):
                return
        collector.finish()
        self._is_enough(collector)

    def _is_enough(self, collector: SpeechCollector) -> bool:
        """Look for repeats once there is enough speech with them; the collector goes on for as much."""
        while self._missing == 0:
            samples = self._samples()
            if len(self._repeated) == len(samples):
                return True
            self._repeated = find_repeats(samples)
            collector.need += self._missing
        return False

    def _samples(self) -> NDArray[np.float32]:
        return np.concatenate([np.empty(0, np.float32), *(one.samples for one in self._collectors)])

    def speech(self, at_least_s: float) -> Speech:
        """Return the speech without repeats. Raises NotEnoughSpeech."""
        samples = self._samples()
        if len(self._repeated) != len(samples):  # else nothing was added since repeats were looked for
            self._repeated = find_repeats(samples)
        repeated = self._repeated
        new = samples[~repeated][: self._need]
        if len(new) < round(at_least_s * RATE_HZ):
            raise NotEnoughSpeech(len(new) / RATE_HZ, at_least_s, self._described(int(repeated.sum())))
        quality = measure(
            new,
            clipped=np.concatenate([one.clipped for one in self._collectors])[~repeated][: self._need],
            power=np.concatenate([one.power for one in self._collectors]),
            probability=np.concatenate([one.probability for one in self._collectors]),
            duration_s=sum(one.analyzed for one in self._collectors) / RATE_HZ,
        )
        share = float(repeated.mean()) if len(repeated) else 0.0
        return Speech(
            samples=new,
            quality=replace(quality, repeat_share=share),
            recordings_used=len(self._collectors),
        )

    def _described(self, repeated: int) -> list[str]:
        repeats = f"{repeated / RATE_HZ:.1f} s more repeat other speech of the request and count once"
        return [*self.descriptions, *([repeats] if repeated else [])]


def _describe(
    source: RecordingSource, heard: SpeechCollector, models: Models, *, strict: bool, max_duration_s: float
) -> str:
    """Describe what a recording added, for a message."""
    speech_s, audio_s = heard.count / RATE_HZ, heard.analyzed / RATE_HZ
    text = f"{source.name} channel {source.channel}: {speech_s:.1f} s of speech in {audio_s:.1f} s of audio"
    if speech_s >= LITTLE_SHARE * audio_s:
        return text
    summaries = summarize_channels(source.data, models, strict=strict, max_duration_s=max_duration_s)
    return " ".join(filter(None, (text, describe_channels(source.channel, summaries))))


def recording_blocks(
    source: RecordingSource, *, strict: bool, max_duration_s: float
) -> Iterator[NDArray[np.float32]]:
    """Decode a recording; AudioErrors get its name."""
    try:
        yield from Recording.open(
            source.data, channel=source.channel, strict=strict, max_duration_s=max_duration_s
        ).blocks()
    except AudioError as fault:
        raise type(fault)(f"{source.name}: {fault}") from fault
