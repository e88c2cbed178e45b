"""Part `speech_cpu`: CPU time from a recording's bytes to its embedding, for each second of speech in it.

Whole recordings, every second of them: decoding, finding speech, features, network, pooling; one thread and
one process each, in turns. Beside resemblyzer's own pipeline, and beside the speaker embedding extractor of
sherpa-onnx, which has no speech detector: it gets the speech that Sonant found, for nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from calls import recordings
from environments import environment
from peer import REQUIREMENTS
from processes import ONE_THREAD
from report import Outcome, Ratio, Size
from sonant.settings import Settings
from sonant.voice.audio.recording import RATE_HZ, decode
from sonant.voice.models import Models, load_models
from sonant.voice.models.embedding import embed
from sonant.voice.speech import analyze

TARGET = 2.0
SHERPA = (("sherpa-onnx>=1.12", "soundfile>=0.12", "numpy>=2"),)
#: Writes the encoder in the form that sherpa-onnx takes; `onnx` is no dependency of the product.
SHERPA_MODEL = (("onnx>=1.16", "numpy>=2"),)
_SCRIPTS = Path(__file__).parent


def measure(size: Size, peers: bool) -> Outcome:
    models = load_models()
    paths = [own[0] for own in recordings(size.pick(42, 14, 2), 1)]
    rounds = size.pick(3, 3, 1)
    with tempfile.TemporaryDirectory(prefix="sonant-speech-cpu-") as folder:
        speech_s, spoken = _speech_only(paths, Path(folder), models)
        sherpa_model = Path(folder) / "encoder.onnx"
        if peers:
            _run(environment("sherpa-model-venv", *SHERPA_MODEL), "sherpa_model.py", str(sherpa_model))
        ours, theirs, sherpas = [], [], []
        for _ in range(rounds):
            ours.append(_ours_cpu_s(paths, models))
            if peers:
                theirs.append(_peer_cpu_s("peer-venv", REQUIREMENTS, paths, "resemblyzer"))
                sherpas.append(_peer_cpu_s("sherpa-venv", SHERPA, spoken, "sherpa_onnx", str(sherpa_model)))
    ratios = []
    if peers:
        ratios.append(
            Ratio(
                part="speech_cpu",
                name="recording to embedding / resemblyzer",
                ours=speech_s / min(ours),
                theirs=speech_s / min(theirs),
                unit="s of speech a CPU second",
                target=TARGET,
                at_least=True,
                note=f"{len(paths)} recordings with {speech_s:.0f} s of speech, all of it heard, one thread, "
                f"best of {rounds} rounds; sherpa-onnx {speech_s / min(sherpas):,.0f} s of speech a CPU "
                "second, with the same network on 80 bands at 16 kHz, given the speech without pauses",
            )
        )
    return Outcome(
        ratios=ratios,
        details={
            "speech_s": speech_s,
            "sonant_cpu_s": ours,
            "resemblyzer_cpu_s": theirs,
            "sherpa_onnx_cpu_s": sherpas,
        },
    )


def _ours_cpu_s(paths: Sequence[Path], models: Models) -> float:
    begun = 0.0
    for number, path in enumerate([paths[0], *paths]):
        if number == 1:  # the first pass warms up
            begun = time.process_time()
        embed(_speech_of(path, models), models)
    return time.process_time() - begun


def _speech_of(path: Path, models: Models) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    waveform = decode(
        path.read_bytes(), channel=0, strict=False, max_duration_s=Settings().audio.max_duration_s
    )
    return analyze(waveform.samples, models).speech


def _speech_only(paths: Sequence[Path], folder: Path, models: Models) -> tuple[float, list[Path]]:
    """Seconds of speech in all, and files of nothing else."""
    speech_s, files = 0.0, []
    for path in paths:
        samples = _speech_of(path, models)
        speech_s += len(samples) / RATE_HZ
        files.append(folder / path.name)
        soundfile.write(files[-1], samples, RATE_HZ, subtype="PCM_16")
    return speech_s, files


def _peer_cpu_s(
    name: str, requirements: Sequence[Sequence[str]], paths: Sequence[Path], *arguments: str
) -> float:
    files = json.dumps([str(path) for path in [paths[0], *paths]])
    said = _run(environment(name, *requirements), "peer_speech_cpu.py", *arguments, told=files)
    return float(said.split()[-1])


def _run(python: Path, script: str, *arguments: str, told: str = "") -> str:
    done = subprocess.run(
        [str(python), "-W", "ignore", str(_SCRIPTS / script), *arguments],
        input=told,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **ONE_THREAD},
    )
    if done.returncode != 0:
        raise RuntimeError(f"{script} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout
