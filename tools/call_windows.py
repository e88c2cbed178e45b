"""Measure what becomes of the speech for an authentication when two people speak in it.

    python tools/call_windows.py [--cache .cache/speech] [--pairs 42] [--singles 30] [--later] [--model ID]

The voices are those of the tests (`sonant.demo.speech`), each enrolled with 30 s of speech of clips that no
call has. Windows hold 10 s of speech, single callers also 5 and 7 s.

    handed over    k seconds of the enrolled voice, then another's, with gaps of 0 to 0.6 s between them
    at once        both all the time, the other voice so many dB quieter
    one person     over lines of several kinds (see `sonant.evaluation.channels`)

`whole` counts windows whose speech as a whole scores 90 or more, `several` those in which several people are
noticed, `parts` those where a half or third scores too low, and `accepted` those that an authentication with
the threshold 90 accepts.

With `--later` it measures later looks at a voice instead: 10 s of speech of a call are compared with the 10 s
before them, of the same person or of another one, over one line. `changed` counts those that are taken for
another person's.
"""

from __future__ import annotations

import argparse
import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from sonant.demo.recordings import call_recording, split_clips
from sonant.demo.speech import fetch_voices
from sonant.evaluation.channels import parse
from sonant.sessions.later_looks import CHANGED_BELOW
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.calibration.file import calibration_of
from sonant.voice.call_voices import SpeakerScore, part_spans, separate
from sonant.voice.collector import SpeechCollector, SpeechWindow
from sonant.voice.enrollment import Speech
from sonant.voice.models import load_models
from sonant.voice.models.embedding import Embedder, Embedding, embed_with_parts
from sonant.voice.models.packaged import packaged_embedder, packaged_encoder_ids
from sonant.voice.quality import Quality
from sonant.voice.sample import VoiceSample

THRESHOLD = 90
NEED_S, LENGTHS_S = 10.0, (5.0, 7.0, 10.0)
OWN_S, GAPS_S, LEVELS_DB = (3.0, 5.0, 7.0), (0.0, 0.1, 0.2, 0.3, 0.6), (0.0, -10.0, -20.0)
LINES = ("clean", "g711", "gsm", "narrow+g711", "pink:15+g711", "reverb:0.4+g711", "loss:3+g711")
MODELS = load_models()

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A window of one kind, with whom it claims to be."""

    kind: str
    claimed: str
    call: Samples
    need_s: float = NEED_S


class People:
    """Calls of the voices, and their voiceprints."""

    def __init__(self, voices: dict[str, list[Path]], embedder: Embedder) -> None:
        self.embedder = embedder
        self._clips = {
            name: split_clips(clips, np.random.default_rng(zlib.crc32(name.encode())))
            for name, clips in voices.items()
        }
        self.names = list(voices)
        self.voiceprints = {name: self._voiceprint(name) for name in self.names}

    def call(self, name: str, seed: int, *, speech_s: float, fresh: bool = True) -> Samples:
        """Make a call of one voice at 8 kHz."""
        clips = self._clips[name][1 if fresh else 0]
        wav = call_recording(clips, np.random.default_rng(seed), net_speech_s=speech_s, channels=1)
        return np.asarray(soundfile.read(io.BytesIO(wav), dtype="float32")[0], np.float32)

    def _voiceprint(self, name: str) -> VoiceSample:
        window = collected(self.call(name, 1, speech_s=35, fresh=False), 30.0)
        assert window is not None
        return sample(window.samples, window.quality, self.embedder)


def collected(call: Samples, need_s: float) -> SpeechWindow | None:
    collector = SpeechCollector(MODELS, round(need_s * RATE_HZ))
    collector.push(call)
    collector.finish()
    return collector.window(collector.need) if collector.enough else None


def sample(samples: Samples, quality: Quality, embedder: Embedder) -> VoiceSample:
    return sample_of(embedder(samples), quality, len(samples))


def sample_of(embedding: Embedding, quality: Quality, count: int) -> VoiceSample:
    quality = replace(quality, net_speech_s=count / RATE_HZ)
    return VoiceSample(model_id=embedding.model_id, vector=embedding.vector, quality=quality)


def windows(people: People, pairs: int, singles: int) -> Iterator[Window]:
    both = [(one, other) for one in people.names for other in people.names if one != other]
    for number in range(min(pairs, len(both))):
        own, other = both[number * len(both) // min(pairs, len(both))]
        first, second = (
            people.call(own, 100 + number, speech_s=14),
            people.call(other, 200 + number, speech_s=14),
        )
        begun = second[start_of_speech(second) :]
        for own_s in OWN_S:
            window = collected(first, own_s)
            assert window is not None
            gap = np.zeros(round(GAPS_S[number % len(GAPS_S)] * RATE_HZ), np.float32)
            call = np.concatenate([first[: window.end], gap, begun])
            yield Window(kind=f"handed over after {own_s:.0f} s", claimed=own, call=call)
        one, two = (speech_without_pauses(call) for call in (first, second))
        for level_db in LEVELS_DB:
            call = one + np.float32(10 ** (level_db / 20)) * two
            yield Window(kind=f"at once, {level_db:.0f} dB", claimed=own, call=call)
    for name in people.names:
        for number in range(singles):
            line, need_s = LINES[number % len(LINES)], LENGTHS_S[number % len(LENGTHS_S)]
            call = people.call(name, 300 + number, speech_s=need_s + 2)
            call = parse(line).apply(call, seed=(number,))
            yield Window(kind=f"one person, {line}", claimed=name, call=call, need_s=need_s)


def start_of_speech(call: Samples) -> int:
    window = collected(call, 1.0)
    assert window is not None
    return window.start


def speech_without_pauses(call: Samples) -> Samples:
    """Return 10.5 s of speech, equally loud for everybody."""
    window = collected(call, 10.5)
    assert window is not None
    level = np.sqrt(np.mean(window.samples**2))
    return np.asarray(window.samples * (0.05 / level), np.float32)


def judge(window: Window, people: People) -> NDArray[np.int64] | None:
    """Count whole, several, parts, accepted; None with too little speech."""
    found = collected(window.call, window.need_s)
    if found is None:
        return None
    speech = Speech(samples=found.samples, quality=found.quality, recordings_used=0)
    voices = separate(speech, len(found.samples), MODELS).voices
    spans = part_spans(len(found.samples))
    voiceprint, lengths = people.voiceprints[window.claimed], [end - first for first, end in spans]
    embedding, parts = embed_with_parts(people.embedder, found.samples, spans)
    whole = score_of(sample_of(embedding, found.quality, len(found.samples)), voiceprint)
    of_parts = (
        score_of(sample_of(part, found.quality, count), voiceprint)
        for part, count in zip(parts, lengths, strict=True)
    )
    limits = calibration_of(voiceprint.model_id).part_limits
    score = SpeakerScore(whole=whole, parts=tuple(of_parts), limits=limits)
    accepted = not voices.missing and score.value >= THRESHOLD
    return np.array(
        [1, whole >= THRESHOLD, voices.count > 1, score.is_handover(THRESHOLD), accepted], np.int64
    )


def score_of(probe: VoiceSample, voiceprint: VoiceSample) -> int:
    calibration = calibration_of(probe.model_id)
    return calibration.score_for(probe.similarity(voiceprint), probe.comparison_quality(voiceprint))


def later_looks(people: People, pairs: int, singles: int) -> Iterator[tuple[str, bool]]:
    """Yield the kind of each look, and whether it finds another person."""
    for name in people.names:
        for number in range(singles):
            line = LINES[number % len(LINES)]
            call = parse(line).apply(people.call(name, 400 + number, speech_s=2 * NEED_S + 4), seed=(number,))
            first = collected(call, NEED_S)
            later = None if first is None else collected(call[first.end :], NEED_S)
            if first is not None and later is not None:
                yield f"one person, {line}", is_another(first, later, people.embedder)
    both = [(one, other) for one in people.names for other in people.names if one != other]
    for number, (own, other) in enumerate(both[:pairs]):
        line = LINES[number % len(LINES)]
        calls = (people.call(own, 500 + number, speech_s=14), people.call(other, 600 + number, speech_s=14))
        first, later = (collected(parse(line).apply(call, seed=(number,)), NEED_S) for call in calls)
        if first is not None and later is not None:
            yield "another person", is_another(first, later, people.embedder)


def is_another(first: SpeechWindow, later: SpeechWindow, embedder: Embedder) -> bool:
    reference, probe = (sample(one.samples, one.quality, embedder) for one in (first, later))
    return score_of(probe, reference) < CHANGED_BELOW


def show_later_looks(people: People, pairs: int, singles: int) -> None:
    counts: dict[str, list[int]] = {}
    for kind, changed in later_looks(people, pairs, singles):
        for one in (kind, "one person, all") if kind.startswith("one person") else (kind,):
            found = counts.setdefault(one, [0, 0])
            found[0] += 1
            found[1] += changed
    print(f"{'':32s} looks  changed")
    for kind, (number, of_them) in sorted(counts.items()):
        print(f"{kind:32s} {number:5d} {of_them:8d}")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure windows of calls in which two people speak.")
    parser.add_argument("--cache", type=Path, default=Path(".cache/speech"))
    parser.add_argument("--pairs", type=int, default=1000, help="pairs of voices at most [all]")
    parser.add_argument("--singles", type=int, default=30, help="calls of each single person")
    parser.add_argument("--later", action="store_true", help="measure later looks at a voice")
    ids = packaged_encoder_ids()
    parser.add_argument("--model", choices=ids, default=ids[-1], help=f"encoder [{ids[-1]}]")
    options = parser.parse_args(arguments)
    embedder = packaged_embedder(options.model, MODELS)
    assert embedder is not None
    people = People(fetch_voices(options.cache, progress=print), embedder)
    if options.later:
        show_later_looks(people, options.pairs, options.singles)
        return
    counts: dict[str, NDArray[np.int64]] = {}
    for window in windows(people, options.pairs, options.singles):
        judged = judge(window, people)
        if judged is not None:
            counts[window.kind] = counts.get(window.kind, np.zeros(5, np.int64)) + judged
    counts["one person, all"] = sum(
        (found for kind, found in counts.items() if kind.startswith("one person")), np.zeros(5, np.int64)
    )
    print(f"{'':32s} windows  whole  several  parts  accepted")
    for kind, (number, whole, several, parts, accepted) in counts.items():
        print(f"{kind:32s} {number:7d} {whole:6d} {several:8d} {parts:6d} {accepted:9d}")


if __name__ == "__main__":
    main()
