"""What a container or codec provides so that recordings and uploads can be read.

To add one, write a module with an `AudioFormat` and name it in `readers.FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class AudioReader(Protocol):
    """An open recording: its header has been checked, its samples are decoded on demand."""

    @property
    def encoding(self) -> str:
        """The name of the encoding, such as PCM-16 or Opus."""

    @property
    def rate_hz(self) -> int:
        """The sample rate."""

    @property
    def channels(self) -> int:
        """The number of channels."""

    @property
    def frames(self) -> int | None:
        """Samples per channel according to the header; None if it does not say."""

    def blocks(self, channel: int, block_frames: int) -> Iterator[NDArray[np.float32]]:
        """Yield one channel in blocks of at most `block_frames` samples; float32, full scale is 1.

        Raises AudioError if the recording is damaged or shorter than its header promises.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioFormat:
    """A container that recordings may have."""

    name: str
    """Its name in messages and figures."""
    media_types: frozenset[str]
    """Content types of uploads in this container, in lower case."""
    recognizes: Callable[[bytes], bool]
    """Whether a file begins like this container."""
    open: Callable[[bytes, bool], AudioReader]
    """Read and check the header of a file's bytes; the flag restricts to what Voice ID accepted.

    Raises AudioError, which states the measured value and the limit.
    """
    accepted_by_voice_id: bool = False
    """Whether Voice ID read this container."""
    isolated: bool = True
    """Whether files are opened in a decoder process (`decoding`): everything that C libraries decode."""
