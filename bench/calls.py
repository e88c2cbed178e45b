"""The recordings that the benchmarks listen to: calls of 60 s, 8 kHz stereo, the customer speaks for half.

A pool of calls is built from real telephone voices (see sonant.demo.speech). Every recording is one of
them, turned round by a random number of samples, at a random level and with noise of its own: as much work as
a new call, made in a hundredth of the time. All are distinct; equal arguments give equal bytes.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from report import CACHE, SPEECH
from sonant.demo.recordings import RATE_HZ, call_recording
from sonant.demo.speech import fetch_voices

DURATION_S, NET_SPEECH_S = 60.0, 30.0
CALLS_A_VOICE = 3
SEED = 7
_FOLDER = CACHE / f"recordings-{DURATION_S:.0f}s-{NET_SPEECH_S:.0f}s-{SEED}"


def recordings(speakers: int, each: int) -> list[list[Path]]:
    """`each` recordings of each speaker as WAV files; made when missing."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    paths = [[_FOLDER / f"{speaker:04d}-{call}.wav" for call in range(each)] for speaker in range(speakers)]
    missing = [
        (speaker, call)
        for speaker, own in enumerate(paths)
        for call, path in enumerate(own)
        if not path.is_file()
    ]
    if missing:
        pool = _pool()
        for speaker, call in missing:
            voice = pool[speaker % len(pool)]
            rng = np.random.default_rng([SEED, speaker, call])
            partial = paths[speaker][call].with_suffix(".part")
            partial.write_bytes(_varied(voice[(speaker // len(pool) + call) % len(voice)], rng))
            partial.rename(paths[speaker][call])
    return paths


def _pool() -> list[list[NDArray[np.float32]]]:
    """Calls of each voice, float32 [samples, 2], the customer on channel 0."""
    clips = fetch_voices(SPEECH, progress=lambda text: print(text, file=sys.stderr))
    pool = []
    for number, (name, own) in enumerate(clips.items()):
        others = [clip for other, theirs in clips.items() if other != name for clip in theirs[:20]]
        calls = []
        for call in range(CALLS_A_VOICE):
            rng = np.random.default_rng([SEED, number, call])
            wav = call_recording(
                own, rng, net_speech_s=NET_SPEECH_S, duration_s=DURATION_S, agent_clips=others
            )
            calls.append(soundfile.read(io.BytesIO(wav), dtype="float32")[0])
        pool.append(calls)
    return pool


def _varied(call: NDArray[np.float32], rng: np.random.Generator) -> bytes:
    samples = np.roll(call, int(rng.integers(len(call))), axis=0) * 10 ** (rng.uniform(-3, 3) / 20)
    samples += rng.standard_normal(samples.shape, dtype=np.float32) * 10 ** (rng.uniform(-70, -60) / 20)
    out = io.BytesIO()
    soundfile.write(out, np.clip(samples, -1, 1), RATE_HZ, format="WAV", subtype="PCM_16")
    return out.getvalue()
