"""The people of the attack: speakers to enroll, and the recordings that the attacker has of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leakage_attack import Floats
from report import Size
from sonant.errors import AudioError
from sonant.voice import VoiceModel, VoiceSample, decode, detect_speech
from sonant.voice.audio.recording import RATE_HZ, Waveform
from sonant.voice.calibration.file import shipped_calibration
from sonant.voice.calibration.model import Calibration

ENROLL_S, PIECE_S = 30.0, 10.0
#: Recordings of one speaker that the attacker has, at most.
PIECES = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Some speech of one person, and its embedding."""

    speaker: str
    samples: NDArray[np.float32]
    """Shape [n], 8 kHz."""
    vector: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """Enrolled speakers, and pieces of them and of others. An attacker has no piece of the attacked one."""

    model: VoiceModel
    calibration: Calibration
    enrolled: Mapping[str, VoiceSample]
    recordings: Mapping[str, NDArray[np.float32]]
    """Speech that the enrolled speakers' voiceprints are made from."""
    pieces: Sequence[Piece]

    @property
    def known(self) -> set[str]:
        """Speakers of whom the attacker has recordings."""
        return {piece.speaker for piece in self.pieces}

    def strangers_to(self, victim: str) -> Floats:
        """Return the embeddings of others' pieces, [n, d]."""
        return np.stack([piece.vector for piece in self.pieces if piece.speaker != victim])


def load_population(
    model: VoiceModel, enrolled: Mapping[str, Sequence[Path]], more: Path | None, size: Size
) -> Population:
    """Embed the telephone voices, which are enrolled, and what the attacker has: the speakers of a folder,
    or other recordings of the telephone voices."""
    samples: dict[str, VoiceSample] = {}
    recordings: dict[str, NDArray[np.float32]] = {}
    pieces: list[Piece] = []
    count = size.pick(PIECES, PIECES, 3)
    for name, clips in enrolled.items():
        speech = _speech(clips, ENROLL_S + count * PIECE_S)
        recordings[name] = speech[: round(ENROLL_S * RATE_HZ)]
        samples[name] = model.embed(Waveform(samples=recordings[name], rate_hz=RATE_HZ))
        if more is None:
            pieces += _pieces(model, name, speech[round(ENROLL_S * RATE_HZ) :])
    for one in sorted(more.iterdir()) if more is not None else ():
        files = sorted(file for file in one.rglob("*") if file.is_file()) if one.is_dir() else [one]
        pieces += _pieces(model, one.name, _speech(files, 2 * PIECE_S))
    return Population(
        model=model,
        calibration=shipped_calibration(),
        enrolled=samples,
        recordings=recordings,
        pieces=pieces,
    )


def _speech(files: Sequence[Path], need_s: float) -> NDArray[np.float32]:
    """Join the speech of recordings until there is enough."""
    found: list[NDArray[np.float32]] = []
    for file in files:
        try:
            audio = decode(file)
        except AudioError:
            continue
        for segment in detect_speech(audio):
            found.append(audio.samples[round(segment.start_s * RATE_HZ) : round(segment.end_s * RATE_HZ)])
        if sum(map(len, found)) >= need_s * RATE_HZ:
            break
    return np.concatenate(found)[: round(need_s * RATE_HZ)] if found else np.zeros(0, np.float32)


def _pieces(model: VoiceModel, speaker: str, speech: NDArray[np.float32]) -> Iterator[Piece]:
    length = round(PIECE_S * RATE_HZ)
    for start in range(0, len(speech) - length + 1, length):
        samples = speech[start : start + length]
        try:
            made = model.embed(Waveform(samples=samples, rate_hz=RATE_HZ))
        except AudioError:
            continue
        yield Piece(speaker=speaker, samples=samples, vector=made.vector.astype(np.float64))
