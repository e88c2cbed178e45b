"""What can be said of a recording beside whose voice it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sonant.voice.models.embedding import mel_power
from sonant.voice.speech import BEGIN_PROBABILITY, FRAME

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
    """Figures of the audio that was looked at (what came after enough speech was found was not)."""

    net_speech_s: float
    duration_s: float
    snr_db: float
    """Speech power over noise power in the telephone band, from -10 to 60."""
    clipping_share: float
    """Share of speech samples at full scale, 0..1; above some thousandths the voice is distorted."""
    highpass_300hz: bool
    """Whether the speech came over a line that cuts off below 300 Hz; see `highpass_300hz`."""


def frame_power(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean square of each whole frame of 32 ms; [n // 256]."""
    whole = samples[: len(samples) // FRAME * FRAME].reshape(-1, FRAME)
    power: NDArray[np.float64] = np.einsum("ij,ij->i", whole, whole, dtype=np.float64) / FRAME
    return power


def snr_db(power: NDArray[np.float64], probability: NDArray[np.float32]) -> float:
    """Signal-to-noise ratio from the power and the speech probability of each frame.

    Noise is the median power of the frames that are surely not speech (probability under 0.1; the median
    shrugs off clicks and tones). A recording without such frames has its noise taken from the quietest
    twentieth of all frames. Speech frames hold speech and noise, so noise is subtracted from their mean.
    """
    spoken = power[probability >= BEGIN_PROBABILITY]
    if len(spoken) == 0:
        return _SNR_RANGE_DB[0]
    pauses = power[probability < _SURELY_NOT_SPEECH]
    measured = np.median(pauses) if len(pauses) >= _MIN_NOISE_FRAMES else np.quantile(power, _QUIETEST_SHARE)
    noise = max(float(measured), _POWER_FLOOR)
    signal = max(float(spoken.mean()) - noise, _POWER_FLOOR)
    return float(np.clip(10 * np.log10(signal / noise), *_SNR_RANGE_DB))


def clipping_share(samples: NDArray[np.float32]) -> float:
    """Share of samples at full scale, 0..1."""
    return float(np.mean(np.abs(samples) >= _CLIPPED)) if len(samples) else 0.0


def highpass_300hz(samples: NDArray[np.float32]) -> bool:
    """Whether speech (8 kHz, [n], pauses removed) came over a line without sound below 300 Hz.

    Classic telephone lines are such (300-3400 Hz), and what they leave of voices is more alike. Told by the
    share of mel power that lies in the three lowest bands (below 294 Hz). A recording made with a high-pass
    filter counts as one: to the encoder it is. Nothing but silence does not.
    """
    bands = mel_power(samples, hop=_LOOK_EVERY).sum(axis=0, dtype=np.float64)
    return bool(bands[:_LOW_BANDS].sum() < _LOW_CUT_SHARE * bands.sum())
