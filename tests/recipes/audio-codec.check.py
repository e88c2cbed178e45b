"""Recordings and uploads of the new kind are read."""

import struct

import numpy as np

from sonant.carriers.upload import CONTAINER_TYPES
from sonant.errors import AudioError
from sonant.voice.audio.readers import open_reader

samples = np.arange(-800, 800, dtype=">i2")
data = struct.pack(">4s5I", b".snd", 24, len(samples) * 2, 3, 8000, 1) + samples.tobytes()

kind, reader = open_reader(data, strict=False)
assert kind.name == "Sun audio"
assert (reader.rate_hz, reader.channels, reader.frames, reader.encoding) == (8000, 1, 1600, "PCM-16")
read = np.concatenate(list(reader.blocks(0, 1000)))
assert np.array_equal(np.rint(read * 32768).astype(int), samples.astype(int))

assert "audio/x-au" in CONTAINER_TYPES
try:
    open_reader(data, strict=True)
except AudioError:
    pass
else:
    raise AssertionError("strict mode accepts what Voice ID did not")
