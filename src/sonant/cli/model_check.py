"""Trials of speaker models before they are added."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sonant.cli.model_trial import TIME_LIMIT_S, ms_a_second, try_apart
from sonant.errors import SetupError
from sonant.voice.audio.test_signal import voice_like_signal
from sonant.voice.models import load_models
from sonant.voice.models.embedding import embed
from sonant.voice.models.frontends import RATES_HZ, FrontEnd, Kind
from sonant.voice.models.onnx_file import inspect
from sonant.voice.models.speaker_model import open_speaker_model
from sonant.voice.scoring import similarity

#: The same voice 12 dB softer must stay this similar: the line's level says nothing about who speaks.
_LEVEL_SIMILARITY, _SOFTER = 0.9, np.float32(0.25)
#: Largest difference between two runs on the same speech.
_SAME = 1e-4

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
    answer = try_apart(_try, file, kind, rate_hz, mels, output, time_limit_s=time_limit_s)
    return _findings(answer)


def _findings(value: dict[str, Any]) -> Findings:
    return Findings(
        rate_hz=int(value["rate_hz"]),
        mels=int(value["mels"]),
        output=str(value["output"]),
        dimensions=int(value["dimensions"]),
        **{name: float(value[name]) for name in ("ms_a_second", "shipped_ms_a_second")},
        **{name: float(value[name]) for name in ("level_similarity", "other_similarity")},
    )


def _try(
    content: bytes, kind: Kind, rate_hz: int | None, mels: int | None, output: str | None
) -> dict[str, Any]:
    notes = inspect(content).notes
    _check_kind(kind, notes)
    front_end = FrontEnd(kind=kind, rate_hz=rate_of(notes, rate_hz), mels=mels or 80)
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
    findings = Findings(
        rate_hz=model.front_end.rate_hz,
        mels=model.front_end.mels,
        output=model.layout.output,
        dimensions=model.dimensions,
        ms_a_second=ms_a_second(model.embed),
        shipped_ms_a_second=ms_a_second(partial(embed, models=models)),
        level_similarity=level,
        other_similarity=similarity(first, model.embed(voice_like_signal(8000, 4.0, pitch_hz=240.0))),
    )
    return asdict(findings)


def _check_kind(kind: Kind, notes: dict[str, str]) -> None:
    noted = _FRAMEWORKS.get(notes.get("framework", "").lower())
    if noted is not None and noted != kind:
        raise SetupError(f"the model's own notes say that it is a {noted} model: use --kind {noted}")


def rate_of(notes: dict[str, str], given: int | None) -> int:
    """Choose the rate: the given one, else that in the model's notes, else 16 kHz. Raises SetupError."""
    noted = notes.get("sample_rate", "")
    rate_hz = given or (int(noted) if noted.isascii() and noted.isdigit() else 16000)
    if rate_hz not in RATES_HZ:
        raise SetupError(f"a model for {rate_hz} Hz cannot be used: 8000 and 16000 are supported")
    return rate_hz
