"""`sonant session kinesis`: streams a call of Amazon Connect from Kinesis Video Streams to a session.

Connect's flow block "Start media streaming" gives the stream's ARN, the fragment with which the customer's
audio begins, and the contact's id as attributes; a Lambda function or a desktop passes them on.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import click

from sonant.carriers.matroska import CustomerTrack
from sonant.cli.context import CliContext, Command, json_option, pass_cli, without_metadata
from sonant.cli.domain_client import domain_option
from sonant.cli.service_client import service_errors
from sonant.cli.session_client import SessionClient, evaluation_text, speaker_option
from sonant.cli.session_stream import FRAME_BYTES, send, signed_url
from sonant.errors import SetupError
from sonant.sessions.calls import StreamFault

#: Bytes read at once: both tracks of a call bring 32 kB a second.
CHUNK_BYTES = 4096
#: A live stream without data for so long has ended.
SILENCE_S = 30


@click.command(cls=Command)
@click.argument("stream")
@click.option("--contact", "contact_id", metavar="ID", help="The contact whose audio is taken.")
@click.option(
    "--instance",
    "instance_arn",
    metavar="ARN",
    help="Connect's instance, so that events have the contact's ARN.",
)
@click.option(
    "--fragment", metavar="NUMBER", help="Fragment after which the audio begins [default: from now on]."
)
@click.option("--session", "session_name", metavar="NAME", help="Session [default: the contact's id].")
@speaker_option
@domain_option
@json_option
@click.option("--region", metavar="REGION", help="Of the video stream [default: its ARN's].")
@click.option("--endpoint-url", metavar="URL", help="Of Kinesis Video Streams, instead of AWS's own.")
@pass_cli
def kinesis(
    cli: CliContext,
    stream: str,
    contact_id: str | None,
    instance_arn: str | None,
    fragment: str | None,
    session_name: str | None,
    speaker: str | None,
    domain_id: str | None,
    region: str | None,
    endpoint_url: str | None,
) -> None:
    """Stream a call of Amazon Connect to a session, from the video stream STREAM (name or ARN).

    Needs boto3 and AWS credentials that may read the stream. Ends when the contact does; exits 0 when all
    audio was processed.
    """
    sessions = SessionClient(cli.settings(), domain_id)
    contact_arn = None
    if instance_arn is not None:
        if contact_id is None:
            raise SetupError("the ARN of a contact needs its id, too: --contact")
        contact_arn = f"{instance_arn}/contact/{contact_id}"
    name = sessions.waiting_session(session_name or contact_id, speaker, contact_arn)
    frames = _frames(_media(stream, fragment, endpoint_url, region), contact_id)
    try:
        whole = asyncio.run(send(signed_url(sessions, name), frames, real=False))
    except StreamFault as fault:
        raise SetupError(f"the video stream cannot be read: {fault}") from None
    with service_errors():
        evaluation = sessions.voice_id.evaluate_session(**sessions.session_members(name))
    cli.show(without_metadata(evaluation), evaluation_text(evaluation))
    sys.exit(0 if whole else 1)


def _media(
    stream: str, fragment: str | None, endpoint_url: str | None, region: str | None
) -> Iterator[bytes]:
    """Read the media of GetMedia in chunks, as it arrives. Raises SetupError."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError
        from urllib3.exceptions import HTTPError
    except ImportError:
        raise SetupError("this needs boto3: pip install 'sonant[aws]'") from None
    which = {"StreamARN" if stream.startswith("arn:") else "StreamName": stream}
    start: dict[str, Any] = {"StartSelectorType": "NOW"}
    if fragment is not None:
        start = {"StartSelectorType": "FRAGMENT_NUMBER", "AfterFragmentNumber": fragment}
    arn_region = stream.split(":")[3] if stream.startswith("arn:") else None
    try:
        control = boto3.client(
            "kinesisvideo", endpoint_url=endpoint_url, region_name=region or arn_region or None
        )
        endpoint = control.get_data_endpoint(**which, APIName="GET_MEDIA")["DataEndpoint"]
        media = boto3.client(
            "kinesis-video-media",
            endpoint_url=endpoint,
            region_name=control.meta.region_name,
            config=Config(read_timeout=SILENCE_S, retries={"max_attempts": 2}),
        )
        payload = media.get_media(**which, StartSelector=start)["Payload"]
    except (BotoCoreError, ClientError) as fault:
        raise SetupError(f"Kinesis Video Streams: {fault}") from None
    try:
        yield from payload.iter_chunks(CHUNK_BYTES)
    except (BotoCoreError, HTTPError, OSError) as fault:
        # What came before counts: the stream of a call that has ended only falls silent.
        click.echo(f"sonant: the video stream has no more data ({type(fault).__name__})", err=True)
    finally:
        payload.close()


def _frames(chunks: Iterator[bytes], contact_id: str | None) -> Iterator[bytes]:
    """Cut the customer's samples into frames. Raises StreamFault."""
    track, rest = CustomerTrack(contact_id), b""
    for chunk in chunks:
        for samples in track.push(chunk):
            rest += samples.astype("<i2").tobytes()
            whole = len(rest) - len(rest) % FRAME_BYTES
            for start in range(0, whole, FRAME_BYTES):
                yield rest[start : start + FRAME_BYTES]
            rest = rest[whole:]
        if track.ended:
            break
    for samples in track.finish():
        rest += samples.astype("<i2").tobytes()
    for start in range(0, len(rest), FRAME_BYTES):
        yield rest[start : start + FRAME_BYTES]
