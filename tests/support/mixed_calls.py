"""Calls of two real voices on one channel, as WAV."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

from sonant.evaluation.channels import parse
from sonant.evaluation.conversations import Conversation, PhraseReader, converse
from sonant.evaluation.cutting import SegmentedRecording, segment_recording
from sonant.evaluation.embedding import read
from sonant.settings import Audio
from sonant.voice.models import Models

CLIPS_PER_CALL = 25


def segmented(
    voices: Mapping[str, Sequence[Path]], voice: str, number: int, models: Models
) -> list[SegmentedRecording]:
    """The clips that a voice speaks in its call of this number; calls share no clip."""
    clips = list(voices[voice])[number * CLIPS_PER_CALL : (number + 1) * CLIPS_PER_CALL]
    return [segment_recording(str(clip), read(clip, Audio()), models) for clip in clips]


def mixed_call(
    voices: Mapping[str, Sequence[Path]],
    customer: str,
    agent: str,
    number: int,
    models: Models,
    *,
    speech_s: float = 50.0,
    share: float = 0.5,
) -> Conversation:
    """A conversation of two voices; its party 0 is the customer."""
    return converse(
        [PhraseReader(segmented(voices, name, number, models)) for name in (customer, agent)],
        speech_s=speech_s,
        share=share,
        rng=np.random.default_rng(number),
        lines=[parse("g711"), parse("g711")],
    )


def as_wav(samples: np.ndarray) -> bytes:
    """16-bit WAV of samples [n] at 8 kHz."""
    out = io.BytesIO()
    soundfile.write(out, samples, 8000, format="WAV", subtype="PCM_16")
    return out.getvalue()
