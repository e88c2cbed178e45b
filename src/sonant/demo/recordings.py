"""Call recordings and manifests, made from short clips of people's voices.

A recording is like one of a contact centre: 8 kHz, 16-bit PCM, customer and agent on a channel each, taking
turns, with pauses, changing level and line noise. Equal clips, seed and arguments give equal bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from sonant.errors import SetupError

RATE_HZ = 8000
SPEECH_LEVEL_DBFS = -26.0
"""Level of active speech: the nominal one of ITU-T's tests of telephone speech (measured as in P.56)."""
SPEECH_DEPTH_DB = 30.0
"""Frames further below a clip's loud ones are pause: a strict limit, other detectors find as much or more."""
MAX_CLIP_S = 600.0
"""Of a longer clip only the beginning is used."""

Samples = NDArray[np.float32]

_FRAME = RATE_HZ // 50  # 20 ms
_PAUSE_FRAMES = 15  # a pause this long (0.3 s) separates two utterances
_MARGIN = RATE_HZ // 20  # added around an utterance: quiet beginnings and ends


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestEntry:
    """One speaker to enroll: up to ten recordings as (S3 URI, channel number)."""

    request_id: str
    speaker_id: str
    audio: Sequence[tuple[str, int]]


def split_clips(clips: Sequence[Path], rng: np.random.Generator) -> tuple[list[Path], list[Path]]:
    """Split clips at random into (for enrollment, for fresh calls): no clip is in both.

    Raises SetupError when there are fewer than two clips.
    """
    if len(clips) < 2:
        raise SetupError(
            f"a speaker has {len(clips)} recordings, needs 2: one to enroll, one to compare with"
        )
    order = rng.permutation(len(clips))
    middle = (len(clips) + 1) // 2
    return [clips[i] for i in order[:middle]], [clips[i] for i in order[middle:]]


def call_recording(
    clips: Sequence[Path],
    rng: np.random.Generator,
    *,
    net_speech_s: float,
    duration_s: float | None = None,
    channels: int = 2,
    customer_channel: int = 0,
    agent_clips: Sequence[Path] = (),
    snr_db: float = 30.0,
) -> bytes:
    """Make a WAV file (PCM-16, 8 kHz) of a call in which the customer speaks for `net_speech_s` seconds net.

    The customer's turns lie on `customer_channel`; the agent's (from `agent_clips`) fill the gaps between
    them on the other channel, if there is one, else that channel is line noise. Noise lies `snr_db` below
    speech. Without `duration_s` the call lasts as long as the turns need, else exactly so long, the gaps
    stretched or shortened. A clip is used once at most.
    Raises SetupError when the clips hold too little speech, ValueError when the turns do not fit into
    `duration_s` or the channels are impossible.
    """
    if channels not in (1, 2) or not 0 <= customer_channel < channels:
        raise ValueError(f"customer channel {customer_channel} of {channels}: must be 0, or 1 of 2")
    turns = _turns(_draw_utterances(clips, rng, net_speech_s), rng)
    gaps = rng.uniform(1.5, 6.0, len(turns) + 1) * RATE_HZ
    if duration_s is not None:
        free = duration_s * RATE_HZ - sum(map(len, turns))
        if free < 0:
            raise ValueError(f"{net_speech_s:g} s of speech do not fit into a call of {duration_s:g} s")
        gaps *= free / gaps.sum()
    starts = (np.cumsum(gaps) + np.cumsum([0, *map(len, turns)])).astype(int)
    length = int(starts[-1]) if duration_s is None else round(duration_s * RATE_HZ)
    call = np.stack([_line_noise(length, rng, SPEECH_LEVEL_DBFS - snr_db) for _ in range(channels)], axis=1)
    for start, turn in zip(starts, turns, strict=False):  # the last start is the call's end
        part = call[start : start + len(turn), customer_channel]
        part += turn[: len(part)]
    if channels == 2 and agent_clips:
        pauses = [(start - gap, gap) for start, gap in zip(starts, gaps, strict=True)]
        _add_agent(call[:, 1 - customer_channel], pauses, agent_clips, rng)
    file = io.BytesIO()
    soundfile.write(file, np.clip(call, -1, 1), RATE_HZ, format="WAV", subtype="PCM_16")
    return file.getvalue()


def write_manifest(entries: Sequence[ManifestEntry]) -> bytes:
    """Write the input manifest of a speaker enrollment job, as Voice ID defines it (version 1.0)."""
    requests = [
        {
            "RequestId": entry.request_id,
            "SpeakerId": entry.speaker_id,
            "AudioSpecifications": _audio(entry.audio),
        }
        for entry in entries
    ]
    return json.dumps({"Version": "1.0", "SpeakerEnrollmentRequests": requests}, indent=2).encode()


def write_registration_manifest(calls: Sequence[tuple[str, Sequence[tuple[str, int]]]]) -> bytes:
    """Write that of a fraudster registration job, from (request id, recordings as in `ManifestEntry`)."""
    requests = [{"RequestId": name, "AudioSpecifications": _audio(audio)} for name, audio in calls]
    return json.dumps({"Version": "1.0", "FraudsterRegistrationRequests": requests}, indent=2).encode()


def _audio(audio: Sequence[tuple[str, int]]) -> list[dict[str, str | int]]:
    return [{"S3Uri": uri, "ChannelId": channel} for uri, channel in audio]


def net_speech_s(samples: Samples) -> float:
    """Measure net speech of one channel at 8 kHz: seconds of 20 ms frames within 30 dB of the loud ones."""
    return float(_active(samples).sum()) * _FRAME / RATE_HZ


# --- parts of a call ----------------------------------------------------------------------------------


def _read(clip: Path) -> Samples:
    """Read the clip's first channel at 8 kHz, active speech at the nominal level."""
    with soundfile.SoundFile(clip) as file:
        rate_hz = file.samplerate
        samples = file.read(int(MAX_CLIP_S * rate_hz), dtype="float32", always_2d=True)[:, 0]
    if rate_hz != RATE_HZ:
        samples = soxr.resample(samples, rate_hz, RATE_HZ)
    active = _active(samples)
    loud = samples[: len(active) * _FRAME].reshape(-1, _FRAME)[active]
    if loud.size == 0:
        return np.zeros(0, np.float32)
    return np.asarray(samples * (10 ** (SPEECH_LEVEL_DBFS / 20) / np.sqrt(np.mean(loud**2))), np.float32)


def _active(samples: Samples) -> NDArray[np.bool_]:
    """Find the 20 ms frames that hold speech."""
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
    power = np.mean(frames**2, axis=1)
    if not power.any():
        return np.zeros(len(power), np.bool_)
    return np.asarray(power > np.percentile(power, 95) * 10 ** (-SPEECH_DEPTH_DB / 10), np.bool_)


def _utterances(samples: Samples) -> list[tuple[Samples, float]]:
    """Cut a clip at its pauses: utterances, each with its net speech in seconds."""
    active = _active(samples)
    speech = np.flatnonzero(active)
    if speech.size == 0:
        return []
    parts = np.split(speech, np.flatnonzero(np.diff(speech) > _PAUSE_FRAMES) + 1)
    return [
        (
            samples[max(0, part[0] * _FRAME - _MARGIN) : (part[-1] + 1) * _FRAME + _MARGIN],
            len(part) * _FRAME / RATE_HZ,
        )
        for part in parts
    ]


def _draw_utterances(clips: Sequence[Path], rng: np.random.Generator, needed_s: float) -> list[Samples]:
    """Draw utterances of random clips, with `needed_s` of net speech; the last is cut short."""
    found: list[Samples] = []
    drawn_s = 0.0
    for index in rng.permutation(len(clips)):
        for samples, speech_s in _utterances(_read(clips[index])):
            if drawn_s + speech_s < needed_s:
                found.append(samples)
                drawn_s += speech_s
                continue
            frames = np.cumsum(_active(samples)) * _FRAME / RATE_HZ
            end = int(np.searchsorted(frames, needed_s - drawn_s)) + 1
            return [*found, samples[: end * _FRAME]] if needed_s > drawn_s else found
    if drawn_s < needed_s:
        raise SetupError(f"a speaker's clips hold {drawn_s:.0f} s of speech, a call needs {needed_s:.0f} s")
    return found


def _turns(utterances: list[Samples], rng: np.random.Generator) -> list[Samples]:
    """Join utterances into turns of about 2 to 10 s, with short pauses, each turn at its own level."""
    turns: list[Samples] = []
    parts: list[Samples] = []
    turn_length = rng.uniform(2, 10) * RATE_HZ
    for utterance in utterances:
        parts += [_faded(utterance), np.zeros(int(rng.uniform(0.2, 0.7) * RATE_HZ), np.float32)]
        if sum(map(len, parts)) >= turn_length:
            turns.append(_levelled(parts, rng))
            parts, turn_length = [], rng.uniform(2, 10) * RATE_HZ
    if parts:
        turns.append(_levelled(parts, rng))
    return turns


def _levelled(parts: list[Samples], rng: np.random.Generator) -> Samples:
    return np.concatenate(parts) * np.float32(10 ** (rng.normal(0, 2) / 20))


def _faded(utterance: Samples) -> Samples:
    """Add ramps of 10 ms at both ends, so that a cut does not click."""
    ramp = np.linspace(0, 1, min(RATE_HZ // 100, len(utterance) // 2), dtype=np.float32)
    faded = utterance.copy()
    faded[: len(ramp)] *= ramp
    faded[len(faded) - len(ramp) :] *= ramp[::-1]
    return faded


def _line_noise(length: int, rng: np.random.Generator, level_dbfs: float) -> Samples:
    """Make noise that falls by 3 dB an octave above 200 Hz, as that of rooms and lines."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(length, 1 / RATE_HZ), 200.0))
    noise = np.fft.irfft(spectrum, length)
    noise *= 10 ** (level_dbfs / 20) / max(float(np.std(noise)), 1e-12)
    return np.asarray(noise, np.float32)


def _add_agent(
    channel: Samples,
    pauses: list[tuple[float, float]],
    clips: Sequence[Path],
    rng: np.random.Generator,
) -> None:
    """Add the agent's speech in the customer's pauses (start, length, in samples), with silence around it."""
    order = iter(rng.permutation(len(clips)))
    waiting: list[Samples] = []
    for start, length in pauses:
        at, end = int(start + 0.3 * RATE_HZ), int(start + length - 0.3 * RATE_HZ)
        while at < end:
            while not waiting:
                index = next(order, None)
                if index is None:
                    return
                waiting = [samples for samples, _ in _utterances(_read(clips[index]))]
            utterance = _faded(waiting.pop(0)[: end - at])  # a longer one is interrupted by the customer
            channel[at : at + len(utterance)] += utterance
            at += len(utterance) + int(rng.uniform(0.2, 0.6) * RATE_HZ)
