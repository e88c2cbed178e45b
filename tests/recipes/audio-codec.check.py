"""Recordings and uploads of the new kind are read."""

import numpy as np

from sonant.carriers.upload import CONTAINER_TYPES
from sonant.errors import AudioError
from sonant.voice.audio.readers import open_reader

samples = np.arange(-800, 800, dtype=">i2")
header = b"NIST_1A\n   1024\nchannel_count -i 1\nsample_rate -i 8000\nsample_count -i 1600\n"
header += b"sample_byte_format -s2 10\nsample_coding -s3 pcm\nend_head\n"
data = header.ljust(1024) + samples.tobytes()

kind, reader = open_reader(data, strict=False)
assert kind.name == "SPHERE"
assert (reader.rate_hz, reader.channels, reader.frames, reader.encoding) == (8000, 1, 1600, "PCM-16")
read = np.concatenate(list(reader.blocks(0, 1000)))
assert np.array_equal(np.rint(read * 32768).astype(int), samples.astype(int))

assert "audio/x-nist" in CONTAINER_TYPES
try:
    open_reader(data, strict=True)
except AudioError:
    pass
else:
    raise AssertionError("strict mode accepts what Voice ID did not")
