"""Records every response of a service before it is sent, and checks all of them.

`serve` is the `sonant` command whose service records into the file ANSWERS_NOTED.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Environment variable with the path of the file.
NOTED = "ANSWERS_NOTED"

_STARTS = ("http.response.start", "websocket.http.response.start")
_BODIES = ("http.response.body", "websocket.http.response.body")

Asgi = Callable[[Any, Any, Any], Awaitable[None]]


def tapped(app: Asgi, note: Callable[[dict[str, Any]], None]) -> Asgi:
    """Wrap an app so that `note` gets each response before its last part is sent."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        start: dict[str, Any] = {}
        body: list[bytes] = []

        async def record_and_send(message: Any) -> None:
            if message["type"] in _STARTS:
                start.update(message)
            elif message["type"] in _BODIES and start:
                body.append(message.get("body", b""))
                if not message.get("more_body", False):
                    note(_record(scope, start, b"".join(body)))
            await send(message)

        await app(scope, receive, record_and_send)

    return wrapped


def _record(scope: Any, start: Any, body: bytes) -> dict[str, Any]:
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
    """The recorded responses of a service."""

    file: Path
    seen: set[tuple[str | None, str | None]] = field(default_factory=set)
    """(target, error) of all that were checked; a success has no error."""
    _read: int = 0

    @classmethod
    def to_come(cls, file: Path) -> Answers:
        """The responses after those that are in the file already."""
        return cls(file, _read=file.stat().st_size if file.exists() else 0)

    def judge(self) -> list[str]:
        """Check the responses since the last call and list their faults."""
        from strict_answers import answer_faults, exchange_of

        if not self.file.exists():
            return []
        with self.file.open("rb") as file:
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")
        self._read += len(whole[0]) + len(whole[1])
        faults = []
        for line in whole[0].splitlines():
            exchange = exchange_of(json.loads(line))
            self.seen.add((exchange.target, exchange.error))
            faults += answer_faults(exchange)
        return faults


def serve() -> None:
    """Run the `sonant` command and record what its service responds; changes uvicorn in this process."""
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
