"""`sonant session kinesis`: a call that Amazon Connect streams to Kinesis Video Streams, for a session.

Connect's flow block "Start media streaming" gives the stream's ARN, the fragment with which the customer's
audio begins, and the contact's id as attributes; a Lambda function or a desktop hands them on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import click

from sonant.carriers.matroska import CustomerTrack
from sonant.cli.session import Desk, evaluation_text, told
from sonant.cli.session_stream import FRAME_BYTES, send, signed_url, waiting_session
from sonant.errors import SetupError
from sonant.sessions.calls import StreamFault

#: Bytes read at once: both tracks of a call bring 32 kB a second.
CHUNK_BYTES = 4096
#: A live stream that brings nothing for so long is over.
SILENCE_S = 30


def kinesis(
    desk: Desk,
    stream: str,
    *,
    contact_id: str | None,
    instance_arn: str | None,
    fragment: str | None,
    session_name: str | None,
    speaker: str | None,
    endpoint_url: str | None,
    region: str | None,
) -> int:
    """Carry a contact's audio to its session; 0 when all of it was listened to. Raises SetupError.

    `stream` is a name or an ARN; without a `fragment` audio is taken from now on. The session is named by the
    contact unless `session_name` says otherwise. With its `instance_arn` the contact has an ARN, which the
    session is told.
    """
    contact_arn = None
    if instance_arn is not None:
        if contact_id is None:
            raise SetupError("the ARN of a contact needs its id, too: --contact")
        contact_arn = f"{instance_arn}/contact/{contact_id}"
    name = waiting_session(desk, session_name or contact_id, speaker, contact_arn)
    frames = _frames(_media(stream, fragment, endpoint_url, region), contact_id)
    try:
        whole = asyncio.run(send(signed_url(desk, name), frames, real=False))
    except StreamFault as fault:
        raise SetupError(f"the video stream cannot be read: {fault}") from None
    with told():
        evaluation = desk.voice_id.evaluate_session(**desk.of(name))
    evaluation.pop("ResponseMetadata", None)
    desk.show(evaluation, evaluation_text)
    return 0 if whole else 1


def _media(
    stream: str, fragment: str | None, endpoint_url: str | None, region: str | None
) -> Iterator[bytes]:
    """What GetMedia gives, as it comes. Raises SetupError."""
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
        # What came before counts: a live stream of a call that is over falls silent and nothing more.
        click.echo(f"sonant: the video stream brings nothing more ({type(fault).__name__})", err=True)
    finally:
        payload.close()


def _frames(chunks: Iterator[bytes], contact_id: str | None) -> Iterator[bytes]:
    """The customer's samples in frames. Raises StreamFault."""
    track, rest = CustomerTrack(contact_id), b""
    for chunk in chunks:
        for samples in track.push(chunk):
            rest += samples.astype("<i2").tobytes()
            whole = len(rest) - len(rest) % FRAME_BYTES
            for place in range(0, whole, FRAME_BYTES):
                yield rest[place : place + FRAME_BYTES]
            rest = rest[whole:]
        if track.ended:
            break
    for samples in track.finish():
        rest += samples.astype("<i2").tobytes()
    for place in range(0, len(rest), FRAME_BYTES):
        yield rest[place : place + FRAME_BYTES]
