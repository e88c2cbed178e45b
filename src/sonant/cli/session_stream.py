"""`sonant session stream` and `url`: audio for a session, over a signed WebSocket."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from sonant.cli.common import credentials, service_url, show_progress
from sonant.cli.session import Desk, evaluation_text, new_name, told
from sonant.errors import AudioError, SetupError
from sonant.settings import Settings

RATE_HZ = 8000
FRAME_S = 0.02
FRAME_BYTES = int(RATE_HZ * FRAME_S) * 2
_URL_LIFE_S = 60
#: How long a service may take to listen to what it has, at the end.
_END_S = 150.0


def signed_url(
    desk: Desk,
    session_name: str,
    *,
    expires_s: int = _URL_LIFE_S,
    encoding: str = "pcm_s16le",
    rate: str = str(RATE_HZ),
    channels: int = 1,
    channel: int = 0,
) -> str:
    """A WebSocket URL that takes audio for one session. Raises SetupError."""
    if channel >= channels:
        raise SetupError(f"there is no channel {channel} of {channels}: channels count from 0")
    asked = {
        **desk.of(session_name),
        "Encoding": encoding,
        "SampleRate": rate,
        "Channels": str(channels),
        "Channel": str(channel),
    }
    url = f"{service_url(desk.settings)}/stream?{urlencode(asked, quote_via=quote)}"
    return "ws" + presigned(desk.settings, url, expires_s).removeprefix("http")


def presigned(settings: Settings, url: str, expires_s: int) -> str:
    """The URL of a GET, signed in its query string."""
    from botocore.auth import SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    from sonant.gateway.models import SIGNING_NAME

    request = AWSRequest("GET", url)
    known = Credentials(*credentials(settings))
    SigV4QueryAuth(known, SIGNING_NAME, settings.region, expires=expires_s).add_auth(request)
    return str(request.url)


def stream(
    desk: Desk,
    file: Path,
    *,
    speed: str,
    channel: int,
    session_name: str | None,
    speaker: str | None,
    quiet: bool,
) -> int:
    """Bring a recording to a session; 0 when all of it was listened to. Raises SetupError."""
    frames, duration_s = _frames(desk.settings, file, channel)
    name = waiting_session(desk, session_name, speaker)
    bar = click.progressbar(
        length=round(duration_s or 0.0),
        label="streamed",
        hidden=not (show_progress(quiet) and duration_s),
        file=sys.stderr,
    )
    with bar:
        url = signed_url(desk, name)
        whole = asyncio.run(send(url, frames, real=speed == "real", second=lambda: bar.update(1)))
    with told():
        found = desk.own.describe_session(**desk.of(name))
        evaluation = desk.voice_id.evaluate_session(**desk.of(name))
    evaluation.pop("ResponseMetadata", None)
    session = found["Session"]
    desk.show(
        {"Session": session, "Evaluation": evaluation},
        lambda _answer: (
            f"{name}: heard {session.get('HeardSeconds', 0):.1f} s, "
            f"{session.get('NetSpeechSeconds', 0):.1f} s of speech; "
            f"{session.get('StreamEndReason', session['StreamingStatus'])}\n{evaluation_text(evaluation)}"
        ),
    )
    return 0 if whole else 1


def bring(desk: Desk, file: Path, session_name: str, *, channel: int, real: bool) -> bool:
    """Bring a recording to a session that waits for it; whether all of it was listened to. Raises
    SetupError."""
    frames, _ = _frames(desk.settings, file, channel)
    return asyncio.run(send(signed_url(desk, session_name), frames, real=real))


def _frames(settings: Settings, file: Path, channel: int) -> tuple[Iterator[bytes], float | None]:
    """A recording in frames of 16-bit samples at 8 kHz, and how long it is. Raises SetupError."""
    from sonant.voice.audio.recording import Recording
    from sonant.voice.audio.samples import pcm16_from_float

    try:
        recording = Recording.open(
            file.read_bytes(), channel=channel, strict=False, max_duration_s=settings.audio.max_duration_s
        )
    except AudioError as fault:
        raise SetupError(f"{file} {fault}") from None

    def frames() -> Iterator[bytes]:
        rest = b""
        try:
            for block in recording.blocks():
                rest += pcm16_from_float(block)
                whole = len(rest) - len(rest) % FRAME_BYTES
                for place in range(0, whole, FRAME_BYTES):
                    yield rest[place : place + FRAME_BYTES]
                rest = rest[whole:]
        except AudioError as fault:
            raise SetupError(f"{file} {fault}") from None
        if rest:
            yield rest

    return frames(), recording.duration_s


def waiting_session(desk: Desk, name: str | None, speaker: str | None, contact_arn: str | None = None) -> str:
    """The session, waiting for audio: as it is, or started now. Raises SetupError."""
    known = {"SpeakerId": speaker, "ContactArn": contact_arn}
    who = {member: value for member, value in known.items() if value is not None}
    with told():
        if name is not None:
            try:
                status = desk.own.describe_session(**desk.of(name))["Session"]["StreamingStatus"]
            except desk.own.exceptions.ResourceNotFoundException:
                status = "ENDED"
            if status != "ENDED":
                if who:
                    desk.own.update_session(**desk.of(name), **who)
                return name
        name = name or new_name()
        desk.own.start_session(DomainId=desk.domain_id, SessionName=name, **who)
    return name


async def send(
    url: str, frames: Iterator[bytes], *, real: bool, second: Callable[[], object] = lambda: None
) -> bool:
    """Send frames, in real time or as fast as the service takes them; whether it has listened to all of them.

    `second` is called after each second of audio. Frames are asked for in a thread. Raises SetupError.
    """
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

    try:
        async with connect(url, compression=None, proxy=None, close_timeout=5) as socket:
            listening = asyncio.create_task(_last_message(socket))
            begun_s, sent, whole = time.monotonic(), 0, False
            try:
                while (frame := await asyncio.to_thread(next, frames, None)) is not None:
                    if real:
                        await asyncio.sleep(max(0.0, begun_s + sent * FRAME_S - time.monotonic()))
                    await socket.send(frame)
                    sent += 1
                    if sent % round(1 / FRAME_S) == 0:
                        second()
                await socket.send(json.dumps({"type": "end"}))
                whole = True
            except ConnectionClosed:
                pass  # why, the last message and the close code tell
            async with asyncio.timeout(_END_S):
                last = await listening
            if whole and last.get("type") != "ended" and socket.close_code == 1000:
                return True
            why = last.get("reason") if last.get("type") == "ended" else socket.close_reason
            click.echo(f"sonant: the service ended the stream: {why or socket.close_code}", err=True)
            return False
    except InvalidStatus as fault:
        raise SetupError(_refusal(fault.response.status_code, fault.response.body)) from None
    except TimeoutError:
        raise SetupError("the service did not come to an end with what it was sent") from None
    except (OSError, InvalidHandshake) as fault:
        raise SetupError(f"{fault}; is `sonant serve` running?") from None


async def _last_message(socket: Any) -> dict[str, Any]:
    """What the service said last, when it has closed the connection."""
    from websockets.exceptions import ConnectionClosed

    last: dict[str, Any] = {}
    try:
        async for message in socket:
            last = json.loads(message)
    except ConnectionClosed:
        pass
    return last


def _refusal(status: int, body: bytes | bytearray | None) -> str:
    try:
        told = json.loads(body or b"")
        code = str(told["__type"]).rpartition("#")[2]
        return f"{code}: {told.get('Message') or told.get('message') or ''}".rstrip(": ")
    except (ValueError, KeyError, TypeError):
        return f"the service answered {status}"
