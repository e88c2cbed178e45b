"""Recordings that are small and cost much: long silence in many channels at a high rate."""

from __future__ import annotations

import io

import numpy as np
import soundfile

RATE_HZ, CHANNELS = 96_000, 8


def silent_flac(seconds: float) -> bytes:
    """A FLAC file of silence, 96 kHz, eight channels: half an hour is about a megabyte."""
    out = io.BytesIO()
    block = np.zeros((RATE_HZ * 10, CHANNELS), np.int16)
    with soundfile.SoundFile(out, "w", RATE_HZ, CHANNELS, format="FLAC", subtype="PCM_16") as file:
        left = round(seconds * RATE_HZ)
        while left > 0:
            file.write(block[:left])
            left -= len(block)
    return out.getvalue()
