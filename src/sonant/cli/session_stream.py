"""`sonant session stream` and `sonant session url`: audio for a session, over a signed WebSocket."""

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

from sonant.cli.context import CliContext, Command, json_option, pass_cli, without_metadata
from sonant.cli.credentials import read_credentials
from sonant.cli.domain_client import domain_option
from sonant.cli.service_client import service_errors, service_url
from sonant.cli.session_client import SessionClient, evaluation_text, speaker_option
from sonant.errors import AudioError, SetupError
from sonant.settings import Settings

RATE_HZ = 8000
FRAME_S = 0.02
FRAME_BYTES = int(RATE_HZ * FRAME_S) * 2
_URL_LIFE_S = 60
#: How long a service may take to process what it has, at the end.
_END_S = 150.0


@click.command(cls=Command)
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--speed", type=click.Choice(["real", "full"]), default="real", show_default=True)
@click.option("--channel", type=click.IntRange(0), default=0, show_default=True, help="The caller's, from 0.")
@click.option(
    "--session", "session_name", metavar="NAME", help="Session to stream it to [default: a new one]."
)
@speaker_option
@domain_option
@json_option
@pass_cli
def stream(
    cli: CliContext,
    file: Path,
    speed: str,
    channel: int,
    session_name: str | None,
    speaker: str | None,
    domain_id: str | None,
) -> None:
    """Stream the recording FILE to a session as if it were a call, and show the results.

    The session is started if there is none that waits for audio. Exits 0 when all audio was processed.
    """
    sessions = SessionClient(cli.settings(), domain_id)
    frames, duration_s = _frames(sessions.settings, file, channel)
    name = sessions.waiting_session(session_name, speaker)
    with cli.progress_bar(length=round(duration_s or 0.0), label="streamed", hidden=not duration_s) as bar:
        whole = asyncio.run(
            send(signed_url(sessions, name), frames, real=speed == "real", on_second=lambda: bar.update(1))
        )
    with service_errors():
        session = sessions.own.describe_session(**sessions.session_members(name))["Session"]
        evaluation = without_metadata(sessions.voice_id.evaluate_session(**sessions.session_members(name)))
    text = (
        f"{name}: heard {session.get('HeardSeconds', 0):.1f} s, "
        f"{session.get('NetSpeechSeconds', 0):.1f} s of speech; "
        f"{session.get('StreamEndReason', session['StreamingStatus'])}\n{evaluation_text(evaluation)}"
    )
    cli.show({"Session": session, "Evaluation": evaluation}, text)
    sys.exit(0 if whole else 1)


@click.command(cls=Command)
@click.argument("session_name")
@click.option(
    "--encoding",
    type=click.Choice(["pcm_s16le", "mulaw", "alaw", "pcm_s16be"]),
    default="pcm_s16le",
    show_default=True,
)
@click.option("--rate", type=click.Choice(["8000", "16000"]), default="8000", show_default=True)
@click.option("--channels", type=click.IntRange(1, 2), default=1, show_default=True)
@click.option(
    "--channel", type=click.IntRange(0, 1), default=0, show_default=True, help="The caller's, from 0."
)
@click.option(
    "--expires",
    "expires_s",
    type=click.IntRange(1, 604_800),
    default=300,
    show_default=True,
    help="Seconds until it is void.",
)
@domain_option
@pass_cli
def url(cli: CliContext, /, session_name: str, domain_id: str | None, **parameters: Any) -> None:
    """Print a signed WebSocket URL that takes audio for a session.

    The URL lets its holder open the session's next stream, once, until it expires, and nothing else.
    """
    signed = signed_url(SessionClient(cli.settings(), domain_id), session_name, **parameters)
    cli.show({"Url": signed}, signed)


def signed_url(
    sessions: SessionClient,
    session_name: str,
    *,
    expires_s: int = _URL_LIFE_S,
    encoding: str = "pcm_s16le",
    rate: str = str(RATE_HZ),
    channels: int = 1,
    channel: int = 0,
) -> str:
    """Make a WebSocket URL that takes audio for one session. Raises SetupError."""
    if channel >= channels:
        raise SetupError(f"there is no channel {channel} of {channels}: channels count from 0")
    query = {
        **sessions.session_members(session_name),
        **sessions.stream_members(session_name),
        "Encoding": encoding,
        "SampleRate": rate,
        "Channels": str(channels),
        "Channel": str(channel),
    }
    address = f"{service_url(sessions.settings)}/stream?{urlencode(query, quote_via=quote)}"
    return "ws" + presigned(sessions.settings, address, expires_s).removeprefix("http")


def presigned(settings: Settings, address: str, expires_s: int) -> str:
    """Sign the URL of a GET in its query string. Raises SetupError when there is no access key."""
    from botocore.auth import SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    from sonant.gateway.models import SIGNING_NAME

    request = AWSRequest("GET", address)
    key = Credentials(*read_credentials(settings))
    SigV4QueryAuth(key, SIGNING_NAME, settings.region, expires=expires_s).add_auth(request)
    return str(request.url)


def stream_recording(
    sessions: SessionClient, file: Path, session_name: str, *, channel: int, real: bool
) -> bool:
    """Stream a recording to a session that waits for it; returns whether all was processed.

    Raises SetupError.
    """
    frames, _ = _frames(sessions.settings, file, channel)
    return asyncio.run(send(signed_url(sessions, session_name), frames, real=real))


def _frames(settings: Settings, file: Path, channel: int) -> tuple[Iterator[bytes], float | None]:
    """Decode a recording into frames of 16-bit samples at 8 kHz: (frames, duration). Raises SetupError."""
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
                for start in range(0, whole, FRAME_BYTES):
                    yield rest[start : start + FRAME_BYTES]
                rest = rest[whole:]
        except AudioError as fault:
            raise SetupError(f"{file} {fault}") from None
        if rest:
            yield rest

    return frames(), recording.duration_s


async def send(
    url: str, frames: Iterator[bytes], *, real: bool, on_second: Callable[[], object] = lambda: None
) -> bool:
    """Send frames, in real time or as fast as possible; returns whether the service processed them all.

    `on_second` is called after each second of audio. A thread iterates over `frames`. Raises SetupError.
    """
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

    try:
        async with connect(url, compression=None, proxy=None, close_timeout=5) as socket:
            last_message = asyncio.create_task(_last_message(socket))
            start_s, sent, whole = time.monotonic(), 0, False
            try:
                while (frame := await asyncio.to_thread(next, frames, None)) is not None:
                    if real:
                        await asyncio.sleep(max(0.0, start_s + sent * FRAME_S - time.monotonic()))
                    await socket.send(frame)
                    sent += 1
                    if sent % round(1 / FRAME_S) == 0:
                        on_second()
                await socket.send(json.dumps({"type": "end"}))
                whole = True
            except ConnectionClosed:
                pass  # the reason is in the last message or the close code
            async with asyncio.timeout(_END_S):
                last = await last_message
            if whole and last.get("type") != "ended" and socket.close_code == 1000:
                return True
            why = last.get("reason") if last.get("type") == "ended" else socket.close_reason
            click.echo(f"sonant: the service ended the stream: {why or socket.close_code}", err=True)
            return False
    except InvalidStatus as fault:
        raise SetupError(_refusal(fault.response.status_code, fault.response.body)) from None
    except TimeoutError:
        raise SetupError("the service did not finish with the audio in time") from None
    except (OSError, InvalidHandshake) as fault:
        raise SetupError(f"{fault}; is `sonant serve` running?") from None


async def _last_message(socket: Any) -> dict[str, Any]:
    """Give the service's last message, once it has closed the connection."""
    from websockets.exceptions import ConnectionClosed

    last: dict[str, Any] = {}
    try:
        async for message in socket:
            last = json.loads(message)
    except ConnectionClosed:
        pass
    return last


def _refusal(status: int, body: bytes | bytearray | None) -> str:
    """Write a refused handshake as one sentence."""
    try:
        error = json.loads(body or b"")
        code = str(error["__type"]).rpartition("#")[2]
        return f"{code}: {error.get('Message') or error.get('message') or ''}".rstrip(": ")
    except (ValueError, KeyError, TypeError):
        return f"the service answered {status}"
