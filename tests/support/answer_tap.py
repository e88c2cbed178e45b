"""Notes down every answer of a service before it goes out, and has all of them judged.

Run as a program, this file is the `sonant` command whose service does so, into the file ANSWERS_NOTED.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Names the file, for the process of the service.
NOTED = "ANSWERS_NOTED"

_STARTS = ("http.response.start", "websocket.http.response.start")
_BODIES = ("http.response.body", "websocket.http.response.body")

Asgi = Callable[[Any, Any, Any], Awaitable[None]]


def tapped(app: Asgi, note: Callable[[dict[str, Any]], None]) -> Asgi:
    """The app, which tells `note` each answer before the last of it is sent."""

    async def asking(scope: Any, receive: Any, send: Any) -> None:
        start: dict[str, Any] = {}
        body: list[bytes] = []

        async def sending(message: Any) -> None:
            if message["type"] in _STARTS:
                start.update(message)
            elif message["type"] in _BODIES and start:
                body.append(message.get("body", b""))
                if not message.get("more_body", False):
                    note(_noted(scope, start, b"".join(body)))
            await send(message)

        await app(scope, receive, sending)

    return asking


def _noted(scope: Any, start: Any, body: bytes) -> dict[str, Any]:
    targets = [value for name, value in scope["headers"] if name.lower() == b"x-amz-target"]
    return {
        "method": scope.get("method", "GET"),
        "path": scope["path"],
        "target": targets[0].decode("latin-1") if targets else None,
        "status": start["status"],
        "headers": [
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in start.get("headers", ())
        ],
        "body": base64.b64encode(body).decode(),
    }


@dataclass(eq=False)
class Answers:
    """What a service has answered so far."""

    file: Path
    seen: set[tuple[str | None, str | None]] = field(default_factory=set)
    """(target, error) of all that were judged; a success has no error."""
    _read: int = 0

    @classmethod
    def to_come(cls, file: Path) -> Answers:
        """Those after what stands in the file already."""
        return cls(file, _read=file.stat().st_size if file.exists() else 0)

    def judge(self) -> list[str]:
        """What is wrong with the answers since the last time."""
        from strict_answers import answer_faults, exchange_of

        if not self.file.exists():
            return []
        with self.file.open("rb") as file:
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")
        self._read += len(whole[0]) + len(whole[1])
        told = []
        for line in whole[0].splitlines():
            exchange = exchange_of(json.loads(line))
            self.seen.add((exchange.target, exchange.error))
            told += answer_faults(exchange)
        return told


def _serve() -> None:
    """The `sonant` command; what its service answers is noted down."""
    import uvicorn

    class Tapped(uvicorn.Config):
        def __init__(self, app: Any, *more: Any, **named: Any) -> None:
            super().__init__(tapped(app, note), *more, **named)

    file = os.open(os.environ.pop(NOTED), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(answer: dict[str, Any]) -> None:
        os.write(file, json.dumps(answer).encode() + b"\n")

    uvicorn.Config = Tapped  # type: ignore[misc]
    from sonant.cli.main import run

    run()


if __name__ == "__main__":
    _serve()
