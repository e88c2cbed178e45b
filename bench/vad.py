"""Part `vad`: finding speech must cost less CPU than embedding it, on calls of which half is speech."""

from __future__ import annotations

import time

import numpy as np

from calls import recordings
from report import Outcome, Ratio, Size
from sonant.settings import Settings
from sonant.voice.audio.recording import decode
from sonant.voice.models import load_models
from sonant.voice.models.embedding import embed
from sonant.voice.speech import find_speech, net_speech_s


def measure(size: Size, _peers: bool) -> Outcome:
    models, max_duration_s = load_models(), Settings().audio.max_duration_s
    paths = [own[0] for own in recordings(size.pick(42, 7, 2), 1)]
    audio_s = speech_s = find_cpu_s = embed_cpu_s = 0.0
    for number, path in enumerate([paths[0], *paths]):
        waveform = decode(path.read_bytes(), channel=0, strict=False, max_duration_s=max_duration_s)
        begun = time.process_time()
        segments = find_speech(waveform, models)
        found = time.process_time()
        rate = waveform.rate_hz
        spoken = [waveform.samples[round(s.start_s * rate) : round(s.end_s * rate)] for s in segments]
        samples = np.concatenate(spoken)
        ready = time.process_time()
        embed(samples, models)
        ended = time.process_time()
        if number:  # the first pass warms up
            audio_s += waveform.duration_s
            speech_s += net_speech_s(segments)
            find_cpu_s += found - begun
            embed_cpu_s += ended - ready
    return Outcome(
        ratios=[
            Ratio(
                part="vad",
                name="CPU time of finding speech / of embedding it",
                ours=1000 * find_cpu_s / audio_s,
                theirs=1000 * embed_cpu_s / audio_s,
                unit="ms CPU a second of audio",
                target=1.0,
                at_least=False,
                note=f"{len(paths)} recordings, {100 * speech_s / audio_s:.0f} % of them speech",
            )
        ],
        details={
            "audio_s": audio_s,
            "speech_s": speech_s,
            "finding_cpu_s": find_cpu_s,
            "embedding_cpu_s": embed_cpu_s,
            "finding_times_real_time": audio_s / find_cpu_s,
            "embedding_times_real_time_of_audio": audio_s / embed_cpu_s,
        },
    )
