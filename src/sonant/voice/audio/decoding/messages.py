"""Messages between a process and its decoder process, over one socket: kind, length, payload.

To the decoder go `OPEN` (a JSON object, a line feed, the recording) and `READ` (a JSON object), then `NEXT`
for each further block. It answers `FACTS`, `BLOCK` (float32 samples), `END` or `FAULT`, and `READY` once.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

OPEN, READ, NEXT = b"O", b"R", b"N"
READY, FACTS, BLOCK, END, FAULT = b"r", b"f", b"b", b"e", b"x"

_HEAD = struct.Struct("<cQ")
_PIECE_BYTES = 1 << 20


def send(
    connection: socket.socket, kind: bytes, payload: bytes | memoryview = b"", more: bytes = b""
) -> None:
    """Send one message; its payload is `payload`, then `more`. Raises OSError."""
    connection.sendall(_HEAD.pack(kind, len(payload) + len(more)))
    if payload:
        connection.sendall(payload)
    if more:
        connection.sendall(more)


def receive(connection: socket.socket) -> tuple[bytes, bytes]:
    """Receive one message. Raises EOFError at the end of the connection, OSError."""
    kind, length = _HEAD.unpack(_read(connection, _HEAD.size))
    return kind, _read(connection, length)


def encode(value: dict[str, Any]) -> bytes:
    """Encode a JSON object in one line."""
    return json.dumps(value).encode()


def _read(connection: socket.socket, length: int) -> bytes:
    pieces, missing = [], length
    while missing:
        piece = connection.recv(min(missing, _PIECE_BYTES))
        if not piece:
            raise EOFError
        pieces.append(piece)
        missing -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
