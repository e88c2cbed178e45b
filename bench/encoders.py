#!/usr/bin/env python3
"""Measure what the speaker encoders that ship cost: processor time and memory, one thread.

    python bench/encoders.py [--speech-s 30] [--rounds 5]

Each encoder embeds a voice-like signal in a process of its own: the least processor time of some rounds for a
second of speech, and by how much opening and running it raises the memory (greatest resident set).
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time

from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.audio.test_signal import voice_like_signal
from sonant.voice.models import load_models
from sonant.voice.models.packaged import packaged_embedder, packaged_encoder_ids


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speech-s", type=float, default=30.0, help="length of the speech [30]")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
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
    times_s = []
    for _ in range(rounds + 1):
        started_s = time.process_time()
        embedder(speech)
        times_s.append(time.process_time() - started_s)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    return 1000 * min(times_s[1:]) / speech_s, grown_kib / 1024


if __name__ == "__main__":
    main()
