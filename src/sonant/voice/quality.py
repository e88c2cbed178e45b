"""Measures of recorded speech: how much there is, how clean it is, what line it came over.

A new fact about a voice is one more field of `Quality` with its measure here. Where it is stored, it is a
column of the same tables as the others (`storage.database.schema.QUALITY_COLUMNS`) with a migration.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The rest of the pipeline is imported where it is used: the storage reads `Quality` without any network.

_CLIPPED = 0.98  # the outermost step of mu-law is 0.9803 of full scale, of A-law 0.9844
_SURELY_NOT_SPEECH = 0.1
_MIN_NOISE_FRAMES = 8  # a quarter of a second
_QUIETEST_SHARE = 0.05
_POWER_FLOOR = 1e-9  # -90 dBFS: below the rounding noise of 16 bits
_SNR_RANGE_DB = (-10.0, 60.0)
_LOW_BANDS = 3  # mel bands that lie below 300 Hz
#: Of simulated calls of 70 LibriSpeech speakers the greatest share on lines of 300-3400 Hz was 0.015 (GSM
#: 06.10; 0.012 with G.711); on full-band lines 0.28 in the median, and 95 % of them lay above 0.079. Seven
#: telephone voices: 0.16 to 0.52, and 0.003 to 0.026 cut off at 300 Hz and with white noise 5 dB below.
_LOW_CUT_SHARE = 0.03
_LOOK_EVERY = 400  # samples: half of the sound is looked at, which moves the share by next to nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Measures of the audio that a voice sample was made from; None where one was not taken or not stored.

    Audio after enough speech was found is not measured.
    """

    net_speech_s: float
    """Speech without pauses."""
    duration_s: float | None = None
    """Audio that the speech was found in."""
    snr_db: float | None = None
    """Speech power over noise power in the telephone band, from -10 to 60."""
    clipping_share: float | None = None
    """Share of speech samples at full scale, 0..1; above some thousandths the voice is distorted."""
    highpass_300hz: bool | None = None
    """Whether the speech came over a line that cuts off below 300 Hz; see `highpass_300hz`."""


def comparison_quality(probe: Quality, reference: Quality) -> Quality:
    """Combine the qualities of two samples into that of their comparison.

    The speech is the probe's, the noise that of the noisier side. The comparison counts as one over lines
    that cut off below 300 Hz where both do, or the probe's does and the reference's line is not known:
    strangers over a full band are less alike, so that a score then errs on the safe side.
    """
    known = [noise for noise in (probe.snr_db, reference.snr_db) if noise is not None]
    return Quality(
        net_speech_s=probe.net_speech_s,
        snr_db=min(known, default=None),
        highpass_300hz=bool(probe.highpass_300hz) and reference.highpass_300hz is not False,
    )


def measure(
    speech: NDArray[np.float32],
    *,
    clipped: NDArray[np.bool_],
    power: NDArray[np.float64],
    probability: NDArray[np.float32],
    duration_s: float,
) -> Quality:
    """Take every measure of some speech (8 kHz, [n], -1..1, pauses removed, in the telephone band).

    `clipped` says which of its samples were at full scale before the filter (see `at_full_scale`). `power`
    and `probability` are those of all frames of the audio that it was found in (see `frame_power` and
    `speech.SpeechDetector`), which lasts `duration_s`.
    """
    from sonant.voice.audio.recording import RATE_HZ

    return Quality(
        net_speech_s=len(speech) / RATE_HZ,
        duration_s=duration_s,
        snr_db=snr_db(power, probability),
        clipping_share=clipping_share(clipped),
        highpass_300hz=highpass_300hz(speech),
    )


def frame_power(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the mean square of each whole frame of 32 ms; [n // 256]."""
    from sonant.voice.speech import FRAME

    whole = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    power: NDArray[np.float64] = np.einsum("ij,ij->i", whole, whole, dtype=np.float64) / FRAME
    return power


def snr_db(power: NDArray[np.float64], probability: NDArray[np.float32]) -> float:
    """Estimate the signal-to-noise ratio from the power and the speech probability of each frame.

    Noise is the median power of the frames that are surely not speech (probability under 0.1; the median
    shrugs off clicks and tones). A recording without such frames has its noise taken from the quietest
    twentieth of all frames. Speech frames hold speech and noise, so noise is subtracted from their mean.
    """
    from sonant.voice.speech import BEGIN_PROBABILITY

    spoken = power[probability >= BEGIN_PROBABILITY]
    if len(spoken) == 0:
        return _SNR_RANGE_DB[0]
    pauses = power[probability < _SURELY_NOT_SPEECH]
    measured = np.median(pauses) if len(pauses) >= _MIN_NOISE_FRAMES else np.quantile(power, _QUIETEST_SHARE)
    noise = max(float(measured), _POWER_FLOOR)
    signal = max(float(spoken.mean()) - noise, _POWER_FLOOR)
    return float(np.clip(10 * np.log10(signal / noise), *_SNR_RANGE_DB))


def at_full_scale(samples: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Decide for each sample, as it was decoded, whether it is at full scale.

    A filter moves clipped samples, so this is asked before it.
    """
    return np.asarray(np.abs(samples) >= _CLIPPED, np.bool_)


def clipping_share(clipped: NDArray[np.bool_]) -> float:
    """Compute the share of samples at full scale, 0..1."""
    return float(np.mean(clipped)) if len(clipped) else 0.0


def highpass_300hz(samples: NDArray[np.float32]) -> bool:
    """Decide whether speech (8 kHz, [n], pauses removed) came over a line without sound below 300 Hz.

    Classic telephone lines are such (300-3400 Hz), and voices over them are more alike. The measure is the
    share of mel power in the three lowest bands (below 294 Hz). A recording made with a high-pass filter
    counts as one: to the encoder it is. Silence does not.
    """
    from sonant.voice.models.embedding import mel_power

    bands = mel_power(samples, hop=_LOOK_EVERY).sum(axis=0, dtype=np.float64)
    return bool(bands[:_LOW_BANDS].sum() < _LOW_CUT_SHARE * bands.sum())
