#!/usr/bin/env python3
"""Measure what the speaker encoders that ship cost: processor time and memory, one thread.

    python bench/encoders.py [--speech-s 30] [--rounds 5] [--call]

Each encoder embeds a voice-like signal in a process of its own: the least processor time of some rounds for a
second of speech, and by how much opening and running it raises the memory (greatest resident set).

With --call it prints processor time for 10 s of a call's speech instead: for the whole alone, for whole and
parts as live calls embed them, and for whole and parts each by itself.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from functools import partial

from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.audio.test_signal import voice_like_signal
from sonant.voice.call_voices import part_spans
from sonant.voice.models import load_models
from sonant.voice.models.embedding import embed_with_parts
from sonant.voice.models.packaged import packaged_embedder, packaged_encoder_ids

CALL_S = 10.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speech-s", type=float, default=30.0, help="length of the speech [30]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--call", action="store_true", help="measure a call's speech with its parts")
    options = parser.parse_args()
    if options.call:
        show_calls(options.rounds)
        return
    print(f"{'encoder':24}{'ms a second of speech':>24}{'MiB':>8}")
    for model_id in packaged_encoder_ids():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            ms, mib = pool.apply(measure, (model_id, options.speech_s, options.rounds))
        print(f"{model_id:24}{ms:24.1f}{mib:8.0f}")


def measure(model_id: str, speech_s: float, rounds: int) -> tuple[float, float]:
    """Compute milliseconds of processor time for a second of speech, and MiB of memory."""
    speech = voice_like_signal(RATE_HZ, speech_s, pitch_hz=120.0)
    models = load_models()
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    embedder = packaged_embedder(model_id, models)
    assert embedder is not None
    least = least_s(partial(embedder, speech), rounds)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    return 1000 * least / speech_s, grown_kib / 1024


def show_calls(rounds: int) -> None:
    """Print milliseconds of processor time for 10 s of a call's speech."""
    models, speech = load_models(), voice_like_signal(RATE_HZ, CALL_S, pitch_hz=120.0)
    spans = part_spans(len(speech))
    print(f"{'encoder, ms a call':24}{'whole':>12}{'together':>12}{'apart':>12}")
    for model_id in packaged_encoder_ids():
        embedder = packaged_embedder(model_id, models)
        assert embedder is not None
        ways = (
            partial(embedder, speech),
            partial(embed_with_parts, embedder, speech, spans),
            partial(embed_with_parts, partial(embedder), speech, spans),
        )
        print(f"{model_id:24}" + "".join(f"{1000 * least_s(way, rounds):12.0f}" for way in ways), flush=True)


def least_s(action: Callable[[], object], rounds: int) -> float:
    """Measure the least processor time of some rounds, after one that is not counted."""
    times_s = []
    for _ in range(rounds + 1):
        started_s = time.process_time()
        action()
        times_s.append(time.process_time() - started_s)
    return min(times_s[1:])


if __name__ == "__main__":
    main()
