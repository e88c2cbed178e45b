"""Trials of untrusted model files: each is opened, run and timed in a process of its own, with limits.

The process answers in JSON, so that a file that took it over could not reach this one.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonant.errors import SetupError, SonantError
from sonant.voice.audio.test_signal import voice_like_signal
from sonant.voice.models import load_models
from sonant.voice.models.embedding import Embedding, embed
from sonant.voice.models.frontends import RATES_HZ, FrontEnd, Kind
from sonant.voice.models.onnx_file import inspect
from sonant.voice.models.speaker_model import open_speaker_model
from sonant.voice.scoring import similarity

TIME_LIMIT_S = 120.0
_MAX_ANSWER_BYTES = 1 << 16
#: Address space beyond a few copies of the weights: onnxruntime, numpy and the network's own working memory.
_SPARE_BYTES = 6 << 30
_COPIES = 6
#: The same voice 12 dB softer must stay this similar: the line's level says nothing about who speaks.
_LEVEL_SIMILARITY, _SOFTER = 0.9, np.float32(0.25)
#: Largest difference between two runs on the same speech.
_SAME = 1e-4
_BENCH_S, _BENCH_RUNS = 10.0, 3

#: Toolkits as exporters note them in `framework`, and their kinds.
_FRAMEWORKS = {"wespeaker": "wespeaker", "3d-speaker": "3dspeaker", "nemo": "nemo"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Results of a model's trial."""

    rate_hz: int
    mels: int
    output: str
    dimensions: int
    ms_a_second: float
    shipped_ms_a_second: float
    level_similarity: float
    """Cosine similarity of a synthetic voice and the same 12 dB softer."""
    other_similarity: float
    """Of two synthetic voices an octave apart; a hint only, for they are not people."""


def examine(
    file: Path,
    kind: Kind,
    *,
    rate_hz: int | None = None,
    mels: int | None = None,
    output: str | None = None,
    time_limit_s: float = TIME_LIMIT_S,
) -> Findings:
    """Check, open, run and time a model. Raises SetupError with the reason why it cannot be used."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_examine_here, args=(sender, str(file.absolute()), kind, rate_hz, mels, output), daemon=True
    )
    process.start()
    sender.close()
    try:
        answer = receiver.recv_bytes(_MAX_ANSWER_BYTES) if receiver.poll(time_limit_s) else None
    except (EOFError, OSError):
        process.join(1)
        raise SetupError(
            f"the model ends the process that tries it (exit code {process.exitcode}): "
            "it is damaged, or needs more memory than there is"
        ) from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    if answer is None:
        raise SetupError(f"the model could not be tried within {time_limit_s:g} s")
    return _findings(answer)


def _findings(answer: bytes) -> Findings:
    value = json.loads(answer)
    if "fault" in value:
        raise SetupError(str(value["fault"])[:1000])
    return Findings(
        rate_hz=int(value["rate_hz"]),
        mels=int(value["mels"]),
        output=str(value["output"]),
        dimensions=int(value["dimensions"]),
        **{name: float(value[name]) for name in ("ms_a_second", "shipped_ms_a_second")},
        **{name: float(value[name]) for name in ("level_similarity", "other_similarity")},
    )


def _examine_here(pipe: Connection, file: str, kind: Kind, *options: Any) -> None:
    """Run the trial in the process that may be lost, and send the results."""
    try:
        content = Path(file).read_bytes()
        _limit(len(content))
        with tempfile.TemporaryDirectory() as empty:  # relative paths in the file then lead nowhere
            os.chdir(empty)
            answer = asdict(_try(content, kind, *options))
    except SonantError as fault:
        answer = {"fault": str(fault)}
    except MemoryError:
        answer = {"fault": "the model needs more memory than may be used to try it"}
    except Exception as fault:  # noqa: BLE001 - a hostile file may cause any
        answer = {"fault": f"the model cannot be tried: {type(fault).__name__}: {str(fault)[:300]}"}
    pipe.send_bytes(json.dumps(answer).encode())


def _limit(size_bytes: int) -> None:
    most = _SPARE_BYTES + _COPIES * size_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _try(content: bytes, kind: Kind, rate_hz: int | None, mels: int | None, output: str | None) -> Findings:
    notes = inspect(content).notes
    _check_kind(kind, notes)
    front_end = FrontEnd(kind=kind, rate_hz=_rate(notes, rate_hz), mels=mels or 80)
    model = open_speaker_model(content, model_id="under test", front_end=front_end, output=output)
    voice = voice_like_signal(8000, 4.0)
    first = model.embed(voice)
    if float(np.max(np.abs(model.embed(voice).vector - first.vector))) > _SAME:
        raise SetupError(
            "the model answers differently to the same speech: it was exported for training, not for use"
        )
    level = similarity(first, model.embed(voice * _SOFTER))
    if level < _LEVEL_SIMILARITY:
        raise SetupError(
            f"a voice 12 dB softer is only {level:.2f} similar to itself, must be {_LEVEL_SIMILARITY}: "
            "is --kind the right one?"
        )
    models = load_models()
    return Findings(
        rate_hz=model.front_end.rate_hz,
        mels=model.front_end.mels,
        output=model.layout.output,
        dimensions=model.dimensions,
        ms_a_second=_ms_a_second(model.embed),
        shipped_ms_a_second=_ms_a_second(partial(embed, models=models)),
        level_similarity=level,
        other_similarity=similarity(first, model.embed(voice_like_signal(8000, 4.0, pitch_hz=240.0))),
    )


def _check_kind(kind: Kind, notes: dict[str, str]) -> None:
    noted = _FRAMEWORKS.get(notes.get("framework", "").lower())
    if noted is not None and noted != kind:
        raise SetupError(f"the model's own notes say that it is a {noted} model: use --kind {noted}")


def _rate(notes: dict[str, str], given: int | None) -> int:
    noted = notes.get("sample_rate", "")
    rate_hz = given or (int(noted) if noted.isascii() and noted.isdigit() else 16000)
    if rate_hz not in RATES_HZ:
        raise SetupError(f"a model for {rate_hz} Hz cannot be used: 8000 and 16000 are supported")
    return rate_hz


def _ms_a_second(embedder: Callable[[NDArray[np.float32]], Embedding]) -> float:
    """Measure the least processor time of a few runs, in milliseconds for each second of speech."""
    voice = voice_like_signal(8000, _BENCH_S)
    taken = []
    for _ in range(_BENCH_RUNS):
        start_s = time.thread_time()
        embedder(voice)
        taken.append(time.thread_time() - start_s)
    return 1000 * min(taken) / _BENCH_S
