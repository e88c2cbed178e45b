"""Collect the speech of one stream: as much as any purpose needs, and more while two voices are mixed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sonant.sessions.stream import Samples
from sonant.voice.audio.recording import RATE_HZ, TelephoneResampler
from sonant.voice.audio.samples import float_from_int16
from sonant.voice.collector import SpeechCollector, SpeechWindow
from sonant.voice.models import Models

#: Of long silences only so many seconds are remembered for the noise level.
REMEMBER_S = 600.0
#: Where two people speak, so many times the usual speech is collected before it begins anew.
MOST_EXTENSION = 2


class CallSpeech:
    """Finds the speech of a stream. Positions and counts are samples at 8 kHz.

    Audio after enough speech is skipped. While a result is awaited that may ask for more (`hold`), it is held
    instead, so that nothing is missing if it does.
    """

    def __init__(self, models: Models, rate_hz: int, most: int) -> None:
        """Collect `most` samples of speech at first."""
        self._models, self._rate_hz, self._most = models, rate_hz, most
        self._band, self._collector = self._begin()
        self._begins_at = 0
        """Position in the stream of the first sample that the collector was given."""
        self._taken = 0
        self._held: list[NDArray[np.float32]] = []
        self._skipped = self._finished = False

    @property
    def count(self) -> int:
        """Samples of speech found since the stream began, or since the speech was collected anew."""
        return self._collector.count

    @property
    def analyzed(self) -> int:
        """Samples of the stream up to which speech was looked for."""
        return self._begins_at + self._collector.analyzed

    def push(self, samples: Samples, *, hold: bool) -> None:
        """Take the next audio of the stream; int16, [n], at the stream's rate."""
        self._taken += len(samples)
        if hold or not self._collector.enough:
            self._collect(self._band.push(float_from_int16(samples)))
        else:
            self._held.clear()
            self._skipped = True

    def finish(self) -> None:
        """Process the end of the stream."""
        self._finished = True
        if not self._collector.enough:
            self._collector.push(self._band.finish())
            self._collector.finish()

    def window(self, count: int) -> SpeechWindow:
        """Return the first `count` samples of speech with their place in the stream.

        Raises ValueError if there are fewer.
        """
        window = self._collector.window(count)
        return replace(window, start=self._begins_at + window.start, end=self._begins_at + window.end)

    def extend(self, count: int) -> bool:
        """Go on until there are `count` samples of speech. Returns False when the speech is collected anew
        instead: what was found reaches the limit, or audio after it was skipped."""
        go_on = not self._skipped and count <= MOST_EXTENSION * self._most
        held, self._held = self._held, []
        if go_on:
            self._collector.need = max(self._collector.need, count)
        else:
            self._begin_anew(sum(map(len, held)))
        for block in held:
            self._collect(block)
        if self._finished:
            self._collector.finish()
        return go_on

    def forget(self) -> None:
        """Drop all speech and begin anew with the next audio."""
        self._held.clear()
        self._begin_anew(0)
        if self._finished:
            self._collector.finish()

    def _begin_anew(self, held: int) -> None:
        """Begin anew `held` samples before the audio that comes next."""
        self._begins_at = round(self._taken * RATE_HZ / self._rate_hz) - held
        self._skipped = False
        self._band, self._collector = self._begin()

    def _collect(self, block: NDArray[np.float32]) -> None:
        if self._collector.enough:
            self._held.append(block)
        else:
            self._collector.push(block)

    def _begin(self) -> tuple[TelephoneResampler, SpeechCollector]:
        collector = SpeechCollector(self._models, self._most, history_s=REMEMBER_S)
        return TelephoneResampler(self._rate_hz), collector
