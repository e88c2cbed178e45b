"""Read a recording through a decoder process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonant.errors import AudioError
from sonant.voice.audio.decoding import messages
from sonant.voice.audio.decoding.limits import CPU_S, MEMORY_BYTES
from sonant.voice.audio.decoding.process import POOL, DecoderEnded, DecoderProcess

_ATTEMPTS = 2
"""A decoder may end for reasons that are not the recording's: the second one has only this recording."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recording:
    """What a decoder needs to open a recording; told apart by identity."""

    format: str
    strict: bool
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolatedReader:
    """An open recording whose header was read, and whose samples are decoded, in a decoder process."""

    encoding: str
    rate_hz: int
    channels: int
    frames: int | None
    _recording: _Recording

    def blocks(self, channel: int, block_frames: int) -> Iterator[NDArray[np.float32]]:
        """Yield one channel in blocks of at most `block_frames` samples; float32, full scale is 1.

        The next block is decoded while the caller processes one. Raises AudioError.
        """
        done = 0
        for attempt in range(1, _ATTEMPTS + 1):
            process = POOL.take(self._recording)
            try:
                if process.held is not self._recording:
                    _open(process, self._recording)
                process.held = None  # it can be read once
                process.ask(messages.READ, messages.encode({"Channel": channel, "BlockFrames": block_frames}))
                skipped = 0
                while (block := _next_block(process)) is not None:
                    process.ask(messages.NEXT)
                    skipped += len(block)
                    if skipped > done:  # otherwise it was yielded by the attempt that failed
                        done = skipped
                        yield block
            except DecoderEnded as fault:
                _check_attempt(attempt, fault, f" past {done / self.rate_hz:.1f} s")
            except BaseException:
                POOL.give_back(process)
                raise
            else:
                POOL.give_back(process)
                return


def open_isolated(format_name: str, data: bytes, *, strict: bool) -> IsolatedReader:
    """Read a recording's header in a decoder process. Raises AudioError, SetupError."""
    recording = _Recording(format=format_name, strict=strict, data=data)
    for attempt in range(1, _ATTEMPTS + 1):
        process = POOL.take()
        try:
            facts = _open(process, recording)
        except DecoderEnded as fault:
            _check_attempt(attempt, fault, "")
        except BaseException:
            POOL.give_back(process)
            raise
        else:
            POOL.give_back(process)
            return IsolatedReader(
                encoding=facts["Encoding"],
                rate_hz=facts["RateHz"],
                channels=facts["Channels"],
                frames=facts["Frames"],
                _recording=recording,
            )
    raise AssertionError("the last attempt returns or raises")


def _check_attempt(attempt: int, fault: DecoderEnded, where: str) -> None:
    """Raise AudioError unless another attempt is worth while."""
    if fault.too_long:
        raise AudioError(f"cannot be decoded{where}: takes more than {CPU_S:.0f} s of processor time")
    if attempt == _ATTEMPTS:
        raise AudioError(f"cannot be decoded{where}: the decoder fails ({fault})")


def _open(process: DecoderProcess, recording: _Recording) -> dict[str, Any]:
    process.held, process.recordings = None, process.recordings + 1
    head = messages.encode({"Format": recording.format, "Strict": recording.strict}) + b"\n"
    process.ask(messages.OPEN, head, recording.data)
    _, content = _checked(process)
    process.held = recording
    facts: dict[str, Any] = json.loads(content)
    return facts


def _next_block(process: DecoderProcess) -> NDArray[np.float32] | None:
    kind, content = _checked(process)
    return np.frombuffer(bytearray(content), np.float32) if kind == messages.BLOCK else None


def _checked(process: DecoderProcess) -> tuple[bytes, bytes]:
    """Return an answer. Raises AudioError for a fault, DecoderEnded."""
    kind, content = process.answer()
    if kind != messages.FAULT:
        return kind, content
    process.held = None
    fault = json.loads(content)
    if "Said" in fault:
        raise AudioError(fault["Said"])
    process.close()
    if "OutOfMemory" in fault:
        raise DecoderEnded(f"more than {MEMORY_BYTES >> 20} MiB of memory needed")
    raise DecoderEnded(f"unexpected {fault['Unexpected']}")
