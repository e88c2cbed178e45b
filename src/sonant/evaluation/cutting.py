"""Cut recordings into pieces with a given net speech, and make templates of pieces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sonant.errors import NotEnoughSpeech
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.models import Models
from sonant.voice.models.embedding import WINDOW_S, Embedder, embed
from sonant.voice.quality import at_full_scale, frame_power, measure
from sonant.voice.sample import VoiceSample
from sonant.voice.speech import analyze

Samples = NDArray[np.float32]

PASSES = 5
"""Orders in which short recordings are joined, at most, while pieces are missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentedRecording:
    """A recording with its segments of speech."""

    source: str
    """The recording's name: pieces that share one are never compared as genuine."""
    samples: Samples
    """Shape [n] at 8 kHz, pauses included."""
    spans: tuple[tuple[int, int], ...]
    """First and last sample (exclusive) of each stretch of speech, in order."""

    @property
    def net_samples(self) -> int:
        """Samples of speech."""
        return sum(end - start for start, end in self.spans)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Audio of one person, as recorded, for a reference or a probe."""

    speaker: str
    sources: frozenset[str]
    samples: Samples = field(repr=False)
    """Shape [n] at 8 kHz, pauses included."""
    net_speech_s: float
    """Its net speech before any channel was applied."""


def segment_recording(source: str, samples: Samples, models: Models) -> SegmentedRecording:
    """Find the speech in a recording at 8 kHz, whose samples stay as they are."""
    return SegmentedRecording(source=source, samples=samples, spans=analyze(samples, models).spans)


def cut(
    speaker: str,
    recordings: Sequence[SegmentedRecording],
    *,
    net_speech_s: float,
    at_most: int,
    rng: np.random.Generator,
    passes: int = 1,
) -> list[Piece]:
    """Cut at most `at_most` pieces with exactly `net_speech_s` seconds of net speech.

    Recordings that hold enough are cut by themselves; shorter ones, and remainders of longer ones, are joined
    in random order. With more `passes`, short recordings are joined again in other orders until there are
    enough pieces; those overlap each other.
    """
    need = round(net_speech_s * RATE_HZ)
    found: list[list[SegmentedRecording]] = []
    short: list[SegmentedRecording] = []
    left_over: list[SegmentedRecording] = []
    for recording in _shuffled(recordings, rng):
        if recording.net_samples < need:
            short.append(recording)
            continue
        rest = recording
        while rest.net_samples >= need:
            head, rest = split(rest, need)
            found.append([head])
        left_over.append(rest)
    for _ in range(passes):
        found += _joined(_shuffled([*short, *left_over], rng), need)
        left_over = []
        if len(found) >= at_most:
            break
    chosen = [found[index] for index in rng.permutation(len(found))[:at_most]]
    return [
        Piece(
            speaker=speaker,
            sources=frozenset(part.source for part in parts),
            samples=np.concatenate([part.samples for part in parts]),
            net_speech_s=sum(part.net_samples for part in parts) / RATE_HZ,
        )
        for parts in chosen
    ]


def beginning(speaker: str, recording: SegmentedRecording, net_speech_s: float | None) -> Piece:
    """Cut off the first `net_speech_s` seconds of net speech of a recording, or take all of it."""
    need = recording.net_samples if net_speech_s is None else round(net_speech_s * RATE_HZ)
    head = recording if recording.net_samples <= need else split(recording, need)[0]
    return Piece(
        speaker=speaker,
        sources=frozenset([recording.source]),
        samples=head.samples,
        net_speech_s=head.net_samples / RATE_HZ,
    )


def split(recording: SegmentedRecording, net: int) -> tuple[SegmentedRecording, SegmentedRecording]:
    """Split a recording after `net` samples of speech."""
    passed = 0
    at = len(recording.samples)
    for start, end in recording.spans:
        if passed + end - start >= net:
            at = start + net - passed
            break
        passed += end - start
    head = tuple((start, min(end, at)) for start, end in recording.spans if start < at)
    tail = tuple((max(start, at) - at, end - at) for start, end in recording.spans if end > at)
    return (
        SegmentedRecording(source=recording.source, samples=recording.samples[:at], spans=head),
        SegmentedRecording(source=recording.source, samples=recording.samples[at:], spans=tail),
    )


def template(
    samples: Samples, models: Models, *, net_speech_s: float | None, embedder: Embedder | None = None
) -> VoiceSample:
    """Make a template of audio from the far end of a channel, by the steps of an enrollment.

    Speech is detected anew, since the channel may hide it; the first `net_speech_s` seconds of it are used,
    or less if there is less. `embedder` replaces the shipped model. Raises AudioError when nothing can be
    embedded: a failure to acquire.
    """
    embedder = embedder or partial(embed, models=models)
    analyzed = analyze(samples, models)
    speech = analyzed.speech
    if net_speech_s is not None:
        speech = speech[: round(net_speech_s * RATE_HZ)]
    if len(speech) < WINDOW_S * RATE_HZ:
        raise NotEnoughSpeech(len(speech) / RATE_HZ, WINDOW_S)
    power = frame_power(analyzed.samples)
    quality = measure(
        speech,
        clipped=analyzed.speech_of(at_full_scale(samples))[: len(speech)],
        power=power,
        probability=analyzed.probabilities[: len(power)],
        duration_s=len(samples) / RATE_HZ,
    )
    embedding = embedder(speech)
    return VoiceSample(model_id=embedding.model_id, vector=embedding.vector, quality=quality)


def _joined(recordings: Iterable[SegmentedRecording], need: int) -> list[list[SegmentedRecording]]:
    found: list[list[SegmentedRecording]] = []
    parts: list[SegmentedRecording] = []
    have = 0
    for recording in recordings:
        rest = recording
        while have + rest.net_samples >= need:
            head, rest = split(rest, need - have)
            found.append([*parts, head])
            parts, have = [], 0
        if rest.net_samples:
            parts.append(rest)
            have += rest.net_samples
    return found


def _shuffled(recordings: Sequence[SegmentedRecording], rng: np.random.Generator) -> list[SegmentedRecording]:
    return [recordings[index] for index in rng.permutation(len(recordings))]
