"""Limits of a decoder process: descriptors, files, processes, memory and processor time."""

from __future__ import annotations

import math
import resource
import time
from contextlib import suppress
from pathlib import Path

MEMORY_BYTES = 256 * 2**20
"""Memory beside the libraries and four times the recording. Decoders of all formats in the collection of
docs/audio-formats.md need less than 60 MiB."""
_MEMORY_PER_BYTE = 4
_MAX_RECORDING_BYTES = 2**30
CPU_S = 30.0
"""Processor time for a recording, beside CPU_SHARE of the audio that it gave."""
CPU_SHARE = 0.05
"""The slowest decoder of the collection takes 0.01 of the audio's length."""

_FORBIDDEN = (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE)
_PAGE_BYTES = resource.getpagesize()


class Limits:
    """Limits this process for good, and anew for each recording."""

    def __init__(self) -> None:
        """Forbid new descriptors (so no file and no socket), files, processes and core dumps.

        Everything that decoding needs must have been imported before.
        """
        self._memory_bytes = _address_space_bytes()
        self._hard_bytes = resource.RLIM_INFINITY
        if self._memory_bytes:
            self._hard_bytes = self._memory_bytes + MEMORY_BYTES + _MEMORY_PER_BYTE * _MAX_RECORDING_BYTES
            _limit(resource.RLIMIT_AS, self._hard_bytes, self._hard_bytes)
        for kind in (
            resource.RLIMIT_CORE,
            resource.RLIMIT_FSIZE,
            resource.RLIMIT_NPROC,
            resource.RLIMIT_NOFILE,
        ):
            _limit(kind, 0, 0)
        self._started_s = 0.0

    def begin(self, size_bytes: int) -> None:
        """Grant memory and processor time for a recording of this size."""
        if self._memory_bytes:
            granted = self._memory_bytes + MEMORY_BYTES + _MEMORY_PER_BYTE * size_bytes
            _limit(resource.RLIMIT_AS, min(granted, self._hard_bytes), self._hard_bytes)
        self._started_s = time.process_time()
        self.decoded(0.0)

    def decoded(self, audio_s: float) -> None:
        """Grant processor time for `audio_s` seconds of audio that the recording gave since it began."""
        granted_s = self._started_s + CPU_S + CPU_SHARE * audio_s
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        soft = math.ceil(granted_s)
        _limit(resource.RLIMIT_CPU, soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard)


def _limit(kind: int, soft: int, hard: int) -> None:
    with suppress(ValueError, OSError):  # a system or an administrator allows less: that holds
        resource.setrlimit(kind, (soft, hard))


def _address_space_bytes() -> int:
    """Return the size of this process, or 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[0]) * _PAGE_BYTES
    except (OSError, ValueError):
        return 0
