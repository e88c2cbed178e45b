"""Remove what lies under the telephone band: constant offset, mains hum, rumble.

Sound cards, gateways and transcoders add an offset, wiring adds hum at 50 or 60 Hz. Telephone lines carry
neither speech nor anything else there, but the encoder was trained with nothing there: an offset of 2 % of
full scale makes a caller a stranger, and the same offset on two strangers makes them alike.

The filter is a Butterworth high-pass of 4th order with its edge (-3 dB) at 120 Hz: -30 dB at 50 Hz, -24 dB at
60 Hz, -0.2 dB at 170 Hz. All sound passes it before speech detection, noise estimate, encoder, spoofing
detectors and fingerprint; decoding alone changes no sample.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from sonant.voice.audio.recording import RATE_HZ

EDGE_HZ = 120.0
"""Where the filter passes half of the power."""

BLOCK = 256
"""Samples that are filtered at once: a frame of the speech detector, so that none waits for the filter."""

# Butterworth, 4th order: 1 / (2 cos(pi k / 8)), k = 1 and 3.
_SECTION_QUALITIES = (0.54119610, 1.30656296)
# The impulse response falls by 80 dB within 32 ms. Cut off there, the filter has no feedback: no rounding
# error grows, no value decays into denormal numbers, and nothing is remembered for longer.
_MEMORY = 256
_SIZE = _MEMORY + BLOCK


class TelephoneBand:
    """Filters one stream of samples at 8 kHz, in pieces of any size.

    The result is equal, bit for bit, however the stream is cut: blocks lie at fixed places and are filtered
    independently of each other (overlap-save).
    """

    __slots__ = ("_memory", "_rest")

    def __init__(self) -> None:
        self._memory: NDArray[np.float32] | None = None
        self._rest = np.empty(0, np.float32)

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the next samples (float32, [n], finite); return the blocks that are complete, -1..1."""
        joined = np.concatenate([self._rest, samples])
        whole = len(joined) // BLOCK * BLOCK
        self._rest = joined[whole:]
        return self._filtered(joined[:whole])

    def finish(self) -> NDArray[np.float32]:
        """Return the rest of the stream, less than a block."""
        rest, self._rest = self._rest, np.empty(0, np.float32)
        return self._filtered(np.pad(rest, (0, -len(rest) % BLOCK)))[: len(rest)]

    def _filtered(self, blocks: NDArray[np.float32]) -> NDArray[np.float32]:
        if not len(blocks):
            return blocks
        if self._memory is None:
            # The first value counts as one that was always there: an offset makes no click at the start.
            self._memory = np.full(_MEMORY, blocks[0], np.float32)
        signal = np.concatenate([self._memory, blocks])
        self._memory = signal[-_MEMORY:]
        pieces = np.lib.stride_tricks.sliding_window_view(signal, _SIZE)[::BLOCK]
        spectra = np.fft.rfft(pieces.astype(np.float64))
        filtered = np.fft.irfft(spectra * _response(), _SIZE)[:, _MEMORY:]
        return np.clip(filtered.reshape(-1), -1, 1).astype(np.float32)


def telephone_band(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Filter a whole recording at 8 kHz (float32, [n], finite); [n], -1..1."""
    stream = TelephoneBand()
    return np.concatenate([stream.push(samples), stream.finish()])


@cache
def _response() -> NDArray[np.complex128]:
    """Compute the spectrum of the impulse response of `_MEMORY` + 1 samples; [1 + _SIZE // 2]."""
    size = 16 * _MEMORY
    back = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)  # delay by a sample
    # Each section is the bilinear transform of s^2 / (s^2 + s / Q + 1), its edge prewarped.
    edge = np.tan(np.pi * EDGE_HZ / RATE_HZ)
    found = np.ones(len(back), np.complex128)
    for quality in _SECTION_QUALITIES:
        poles = (1 + edge / quality + edge**2) + 2 * (edge**2 - 1) * back
        found *= (1 - back) ** 2 / (poles + (1 - edge / quality + edge**2) * back**2)
    taps = np.fft.irfft(found, size)[: _MEMORY + 1]
    taps -= taps.mean()  # what was cut off: a constant input gives exactly nothing
    return np.fft.rfft(taps, _SIZE)
