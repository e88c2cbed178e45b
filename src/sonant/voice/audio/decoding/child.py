"""The decoder process: open recordings that it is sent, return their samples on demand.

It has no environment, no descriptor but its socket, and the limits of `limits.Limits`. It ends with its
parent.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from sonant.errors import AudioError
from sonant.voice.audio.decoding import messages
from sonant.voice.audio.decoding.ffmpeg import preload
from sonant.voice.audio.decoding.limits import Limits
from sonant.voice.audio.formats import AudioReader
from sonant.voice.audio.readers import FORMATS

Blocks = Iterator[NDArray[np.float32]]


def main() -> NoReturn:
    """Serve the socket that is this process's standard input, until it is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the parent
    connection = socket.socket(fileno=0)
    preload()
    try:
        _Decoder(connection, Limits()).serve()
    except (EOFError, OSError):  # the parent has ended, or needs this process no more
        os._exit(0)


class _Decoder:
    """Decodes one recording at a time."""

    def __init__(self, connection: socket.socket, limits: Limits) -> None:
        self._connection, self._limits = connection, limits
        self._formats = {one.name: one for one in FORMATS}
        self._reader: AudioReader | None = None
        self._blocks: Blocks = iter(())
        self._frames = 0

    def serve(self) -> NoReturn:
        """Answer messages. Raises EOFError and OSError at the end of the connection."""
        messages.send(self._connection, messages.READY)
        while True:
            kind, payload = messages.receive(self._connection)
            try:
                answer, content = self._answer(kind, payload)
            except AudioError as fault:
                answer, content = messages.FAULT, messages.encode({"Said": str(fault)})
            except MemoryError:
                answer, content = messages.FAULT, messages.encode({"OutOfMemory": True})
            except Exception as fault:  # noqa: BLE001 - whatever fails on a recording is reported as its fault
                answer, content = messages.FAULT, messages.encode({"Unexpected": type(fault).__name__})
            del payload
            messages.send(self._connection, answer, content)

    def _answer(self, kind: bytes, payload: bytes) -> tuple[bytes, bytes]:
        if kind == messages.OPEN:
            return messages.FACTS, messages.encode(self._open(payload))
        if kind == messages.READ:
            self._read(json.loads(payload))
        return self._next()

    def _open(self, payload: bytes) -> dict[str, Any]:
        self._reader, self._blocks = None, iter(())  # frees the last recording
        head, _, data = payload.partition(b"\n")
        asked = json.loads(head)
        self._limits.begin(len(data))
        reader = self._formats[asked["Format"]].open(data, asked["Strict"])
        self._reader = reader
        return {
            "Encoding": reader.encoding,
            "RateHz": reader.rate_hz,
            "Channels": reader.channels,
            "Frames": reader.frames,
        }

    def _read(self, asked: dict[str, int]) -> None:
        if self._reader is None:
            raise AudioError("is not open")
        self._blocks, self._frames = self._reader.blocks(asked["Channel"], asked["BlockFrames"]), 0

    def _next(self) -> tuple[bytes, bytes]:
        block = next(self._blocks, None)
        if block is None or self._reader is None:
            self._reader, self._blocks = None, iter(())
            return messages.END, b""
        self._frames += len(block)
        self._limits.decoded(self._frames / self._reader.rate_hz)
        return messages.BLOCK, np.ascontiguousarray(block, np.float32).tobytes()
