"""What Amazon Connect writes to Kinesis Video Streams: Matroska by PyAV, with Connect's tags behind it."""

from __future__ import annotations

import io

import av
import numpy as np
from numpy.typing import NDArray

TRACKS = ("AUDIO_FROM_CUSTOMER", "AUDIO_TO_CUSTOMER")


def element(identity: str, *content: bytes) -> bytes:
    data = b"".join(content)
    return bytes.fromhex(identity) + (0x10000000 | len(data)).to_bytes(4, "big") + data


#: What every fragment begins with.
HEADER = element("1A45DFA3", element("4282", b"matroska"))


def tags(**values: str) -> bytes:
    """As Amazon Connect writes them: behind the cluster, each in Tags of its own."""
    return b"".join(
        element(
            "1254C367",
            element("7373", element("67C8", element("45A3", name.encode()), element("4487", value.encode()))),
        )
        for name, value in values.items()
    )


def fragment(
    samples: NDArray[np.int16], contact: str | None = None, names: tuple[str, ...] = TRACKS
) -> bytes:
    """PyAV's Matroska: the customer on the first track that is named so, another voice on the others."""
    out = io.BytesIO()
    with av.open(out, "w", format="matroska", options={"live": "1"}) as container:
        streams = []
        for name in names:
            stream = container.add_stream("pcm_s16le", rate=8000)
            stream.layout = "mono"
            stream.metadata["title"] = name
            streams.append(stream)
        for first in range(0, len(samples), 1024):
            for stream, name in zip(streams, names, strict=True):
                part = samples[first : first + 1024]
                part = part if name == TRACKS[0] else -part
                frame = av.AudioFrame.from_ndarray(part.reshape(1, -1), format="s16", layout="mono")
                frame.sample_rate, frame.pts = 8000, first
                for packet in stream.encode(frame):
                    container.mux(packet)
    return out.getvalue() + (tags(ContactId=contact, MimeType="audio/L16") if contact else b"")
