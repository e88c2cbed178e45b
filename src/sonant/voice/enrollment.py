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
class SearchLimits:
    """How much of a recording is searched for speech while somebody waits for the result."""

    silence_s: float
    """A recording is given up after this long without new speech."""
    audio_s: float
    """So much of a recording is searched."""
    decoding_cpu_s: float
    """Processor time that decoding a recording may take."""


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
    limits: SearchLimits | None = None,
) -> Speech:
    """Collect the first `need_s` seconds of speech from the recordings, in their order.

    Reads lazily: the next recording is requested, and the next few seconds are decoded, only while speech is
    missing. Speech that repeats earlier speech does not count. The result does not depend on how recordings
    are cut into blocks. With `limits` a recording may be given up before its end, at the end of a block;
    without, it is searched to its end. Raises NotEnoughSpeech, which describes every recording, when all
    together hold too little, AudioError (its message begins with the recording's name) when one is faulty.
    """
    found = _Found(round(need_s * RATE_HZ), models)
    for source in recordings:
        cpu_s = None if limits is None else limits.decoding_cpu_s
        blocks = recording_blocks(source, strict=strict, max_duration_s=max_duration_s, cpu_s=cpu_s)
        gave_up = found.collect(blocks, limits)
        if found.enough:
            break
        described = _describe(source, found.last, models, strict=strict, max_duration_s=max_duration_s)
        found.descriptions.append(f"{described}, {gave_up}" if gave_up else described)
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


class _SearchWatch:
    """Notices when a recording is to be given up."""

    def __init__(self, limits: SearchLimits) -> None:
        self._limits = limits
        self._count, self._heard_at = 0, 0  # samples

    def reason_to_give_up(self, collector: SpeechCollector) -> str:
        """Return the reason in words for a message; empty while the search is to go on."""
        if collector.count > self._count:
            self._count, self._heard_at = collector.count, collector.analyzed
        if collector.analyzed - self._heard_at >= self._limits.silence_s * RATE_HZ:
            return f"given up after {self._limits.silence_s:g} s without speech"
        if collector.analyzed >= self._limits.audio_s * RATE_HZ:
            return f"of which only the first {self._limits.audio_s:g} s were searched"
        return ""


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

    def collect(self, blocks: Iterable[NDArray[np.float32]], limits: SearchLimits | None = None) -> str:
        """Analyze block by block until there is enough speech, the stream ends, or it is given up: then the
        reason is returned, else an empty text."""
        collector = SpeechCollector(self._models, self._missing)
        self._collectors.append(collector)
        watch = None if limits is None else _SearchWatch(limits)
        reason = ""
        for block in blocks:
            collector.push(block)
            if self._is_enough(collector):
                return ""
            if watch is not None and (reason := watch.reason_to_give_up(collector)):
                break
        collector.finish()
        self._is_enough(collector)
        return reason

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
    source: RecordingSource, *, strict: bool, max_duration_s: float, cpu_s: float | None = None
) -> Iterator[NDArray[np.float32]]:
    """Decode a recording; AudioErrors get its name. `cpu_s` limits the decoder's processor time."""
    try:
        yield from Recording.open(
            source.data, channel=source.channel, strict=strict, max_duration_s=max_duration_s, cpu_s=cpu_s
        ).blocks()
    except AudioError as fault:
        raise type(fault)(f"{source.name}: {fault}") from fault
