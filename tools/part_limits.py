#!/usr/bin/env python3
"""Measure how far the parts of one person's speech fall below the whole, by voice model.

    python tools/part_limits.py --speech DIR --model ID [--calls 10] [--enroll-s 20] [--apart]

DIR has a folder for each person. Each is enrolled with speech of the first half of the recordings; calls with
5, 7 and 10 s of the rest are made over lines of several kinds. Of those that score THRESHOLD as a whole the
tool prints how many have a part below each pair of limits, for halves and for thirds: they would be taken for
a handover. Beside it stands the share of calls in which another person takes over after 3, 5 or 7 of 10 s,
whose whole and parts all keep the limits: those are accepted, unless a change of speaker is found in them.

--apart embeds each part by itself, also where the model takes whole and parts in one pass.

The limits stand in the calibration of the model (`least_part_scores`).
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonant.evaluation.channels import parse
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.calibration.file import calibration_of
from sonant.voice.call_voices import part_spans
from sonant.voice.collector import SpeechCollector
from sonant.voice.library import decode
from sonant.voice.models import load_models
from sonant.voice.models.embedding import Embedder, embed_with_parts
from sonant.voice.models.packaged import packaged_embedder, packaged_encoder_ids
from sonant.voice.quality import Quality
from sonant.voice.sample import VoiceSample

THRESHOLD = 90
LENGTHS_S, TAKEN_OVER_S, WHOLE_S = (5.0, 7.0, 10.0), (3.0, 5.0, 7.0), 10.0
LINES = (
    "clean",
    "g711",
    "gsm",
    "narrow+g711",
    "pink:15+g711",
    "pink:12+gsm",
    "reverb:0.4+g711",
    "loss:3+g711",
    "white:20+g711-a",
    "narrow+gsm",
)
LIMITS = [(halves, halves - less) for halves in (85, 80, 75, 70, 65, 60, 55, 50) for less in (5, 10, 15)]
SUFFIXES = (".flac", ".wav", ".opus", ".ogg")
MODELS = load_models()

Samples = NDArray[np.float32]
Scores = tuple[int, ...]
"""Of the whole; then of the parts as `part_spans` gives them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One person's voiceprint, and speech for calls at 8 kHz."""

    voiceprint: VoiceSample
    rest: Samples


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speech", type=Path, required=True)
    parser.add_argument("--model", choices=packaged_encoder_ids(), required=True)
    parser.add_argument("--calls", type=int, default=10, help="calls of each person [10]")
    parser.add_argument("--enroll-s", type=float, default=20.0, help="speech of the enrollment [20]")
    parser.add_argument("--apart", action="store_true", help="embed each part by itself")
    options = parser.parse_args()
    embedder = packaged_embedder(options.model, MODELS)
    assert embedder is not None
    if options.apart:
        embedder = _without_parts(embedder)
    folders = sorted(folder for folder in options.speech.iterdir() if folder.is_dir())
    people = [one for folder in folders if (one := enrolled(folder, options.enroll_s, embedder)) is not None]
    own = [scores for one in people for scores in genuine_calls(one, options.calls, embedder)]
    mixed = list(handovers(people, embedder))
    show(people, own, mixed)


def _without_parts(embedder: Embedder) -> Embedder:
    return lambda samples: embedder(samples)


def enrolled(folder: Path, enroll_s: float, embedder: Embedder) -> Person | None:
    """Enroll a person; None where there is too little speech."""
    files = sorted(file for file in folder.rglob("*") if file.suffix in SUFFIXES)
    half = (len(files) + 1) // 2
    first, rest = (
        np.concatenate([np.zeros(0, np.float32), *(decode(file).samples for file in some)])
        for some in (files[:half], files[half:])
    )
    line = parse(LINES[zlib.crc32(folder.name.encode()) % 3])
    window = collected(line.apply(first, seed=(1,)), enroll_s)
    if window is None or len(rest) < WHOLE_S * RATE_HZ:
        return None
    samples, quality = window
    found = embedder(samples)
    return Person(
        voiceprint=VoiceSample(model_id=found.model_id, vector=found.vector, quality=quality), rest=rest
    )


def collected(call: Samples, need_s: float) -> tuple[Samples, Quality] | None:
    """Collect the first speech of a call; None where it has too little."""
    collector = SpeechCollector(MODELS, round(need_s * RATE_HZ))
    collector.push(call)
    collector.finish()
    if not collector.enough:
        return None
    window = collector.window(collector.need)
    return window.samples, window.quality


def genuine_calls(person: Person, calls: int, embedder: Embedder) -> Iterator[Scores]:
    """Score calls of one person, each over another line and from another place of the recordings."""
    for number in range(calls):
        speech_s = LENGTHS_S[number % len(LENGTHS_S)]
        start = number * max(0, len(person.rest) - round(3 * speech_s * RATE_HZ)) // max(1, calls - 1)
        line = parse(LINES[number % len(LINES)])
        window = collected(line.apply(person.rest[start:], seed=(number,)), speech_s)
        if window is not None:
            yield scores_of(*window, person.voiceprint, embedder)


def handovers(people: list[Person], embedder: Embedder) -> Iterator[Scores]:
    """Score calls that a person hands over to the next one."""
    for number, person in enumerate(people):
        line = parse(LINES[number % len(LINES)])
        other = people[(number + 1) % len(people)]
        one, two = (
            collected(line.apply(talker.rest, seed=(number, place)), WHOLE_S)
            for place, talker in enumerate((person, other))
        )
        if one is None or two is None:
            continue
        (first, quality), (second, _) = one, two
        for own_s in TAKEN_OVER_S:
            own = round(own_s * RATE_HZ)
            both = np.concatenate([first[:own], second[: len(first) - own]])
            yield scores_of(both, quality, person.voiceprint, embedder)


def scores_of(samples: Samples, quality: Quality, voiceprint: VoiceSample, embedder: Embedder) -> Scores:
    """Score speech and its parts as an authentication does."""
    calibration = calibration_of(voiceprint.model_id)
    spans = part_spans(len(samples))
    whole, parts = embed_with_parts(embedder, samples, spans)

    def score(vector: Samples, count: int) -> int:
        own = Quality(
            net_speech_s=count / RATE_HZ, snr_db=quality.snr_db, highpass_300hz=quality.highpass_300hz
        )
        probe = VoiceSample(model_id=voiceprint.model_id, vector=vector, quality=own)
        return calibration.score_for(probe.similarity(voiceprint), probe.comparison_quality(voiceprint))

    lengths = [end - first for first, end in spans]
    return (
        score(whole.vector, len(samples)),
        *(score(part.vector, count) for part, count in zip(parts, lengths, strict=True)),
    )


def show(people: list[Person], own: list[Scores], mixed: list[Scores]) -> None:
    """Print the counts for each pair of limits."""
    reached = [scores for scores in own if scores[0] >= THRESHOLD]
    print(f"{len(people)} people, {len(own)} calls, {len(reached)} of them reach {THRESHOLD} as a whole")
    for name, parts in (("halves", slice(1, 3)), ("thirds", slice(3, None))):
        least = [min(scores[parts]) for scores in reached if scores[parts]]
        marks = ", ".join(
            f"{share:g} %: {np.percentile(least, share):.0f}" for share in (0.5, 1, 2, 5) if least
        )
        print(f"weakest of {name}, {len(least)} calls: {marks}")
    as_whole = sum(scores[0] >= THRESHOLD for scores in mixed)
    print(f"{len(mixed)} calls handed over, {as_whole} reach {THRESHOLD} as a whole")
    print(f"{'halves':>8}{'thirds':>8}{'one person refused':>22}{'handed over accepted':>22}")
    for limits in LIMITS:
        refused = sum(not keeps(scores, *limits) for scores in reached)
        accepted = sum(scores[0] >= THRESHOLD and keeps(scores, *limits) for scores in mixed)
        share = 100 * refused / max(1, len(reached))
        print(f"{limits[0]:8}{limits[1]:8}{f'{refused} ({share:.2f} %)':>22}{accepted:>22}")


def keeps(scores: Scores, halves: int, thirds: int) -> bool:
    return min(scores[1:3]) >= halves and min(scores[3:], default=100) >= thirds


if __name__ == "__main__":
    main()
