"""Recognize speakers: audio to speech, embeddings, calibrated scores and spoofing risks.

    from sonant.voice import decode, load_voice_model

    model = load_voice_model()
    sample = model.embed(decode("call.wav"))

The names in `__all__` are the public library; docs/library.md describes them. They follow semantic versioning
and need no running service. Other modules of this package serve the service and may change at any time.

No files are read but the shipped models and those that are passed in, there are no
settings and no logging; recordings that are not plain WAV are decoded in a child process. Names are
imported when they are first used, so that importing the package is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sonant.errors import AudioError, ModelMismatch, NotEnoughSpeech, SetupError, WrongSampleRate
    from sonant.voice.audio.recording import Waveform
    from sonant.voice.library import (
        Comparison,
        VoiceModel,
        VoiceStream,
        decode,
        detect_speech,
        false_accept_rate,
        load_voice_model,
        measure_quality,
        resample,
        spoofing_risk,
    )
    from sonant.voice.quality import Quality
    from sonant.voice.sample import VoiceSample
    from sonant.voice.search import Gallery, Match
    from sonant.voice.speech import Segment
    from sonant.voice.spoofing.registry import SpoofingRisk

__all__ = [
    "AudioError",
    "Comparison",
    "Gallery",
    "Match",
    "ModelMismatch",
    "NotEnoughSpeech",
    "Quality",
    "Segment",
    "SetupError",
    "SpoofingRisk",
    "VoiceModel",
    "VoiceSample",
    "VoiceStream",
    "Waveform",
    "WrongSampleRate",
    "decode",
    "detect_speech",
    "false_accept_rate",
    "load_voice_model",
    "measure_quality",
    "resample",
    "spoofing_risk",
]

_MODULES = {
    "sonant.errors": ("AudioError", "ModelMismatch", "NotEnoughSpeech", "SetupError", "WrongSampleRate"),
    "sonant.voice.library": (
        "Comparison",
        "VoiceModel",
        "VoiceStream",
        "decode",
        "detect_speech",
        "false_accept_rate",
        "load_voice_model",
        "measure_quality",
        "resample",
        "spoofing_risk",
    ),
    "sonant.voice.audio.recording": ("Waveform",),
    "sonant.voice.quality": ("Quality",),
    "sonant.voice.sample": ("VoiceSample",),
    "sonant.voice.search": ("Gallery", "Match"),
    "sonant.voice.speech": ("Segment",),
    "sonant.voice.spoofing.registry": ("SpoofingRisk",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
