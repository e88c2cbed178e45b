"""`sonant session …`: sessions of live calls, and audio for them. Thin, like all of the command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from sonant.cli.common import Commands, data_option, load_settings

F = TypeVar("F", bound=Callable[..., Any])

session = Commands("session", help="Start, watch and end sessions of live calls; bring audio to them.")

_domain = click.option(
    "--domain", "domain_id", metavar="ID", help="The session's domain [default: the only one]."
)
_json = click.option("--json", "as_json", is_flag=True, help="The service's whole answer.")
_speaker = click.option(
    "--speaker", metavar="ID", help="Who the caller says to be, by customer's or generated id."
)
_threshold = click.IntRange(0, 100)


def _setup(command: F) -> F:
    for option in (
        click.option(
            "--contact-arn", metavar="ARN", help="What Amazon Connect calls the call; events tell it."
        ),
        click.option(
            "--watchlist", metavar="ID", help="Fraudsters to look for [default: the domain's own list]."
        ),
        click.option("--risk-threshold", type=_threshold, help="From this score on a call is HIGH_RISK."),
        click.option(
            "--acceptance-threshold", type=_threshold, help="From this score on a caller is accepted."
        ),
        _speaker,
    ):
        command = option(command)
    return command


def _on_session(name: str, help_text: str) -> None:
    """A command that takes a session and shows what the service says."""

    @session.command(name, help=help_text)
    @click.argument("session_name")
    @_domain
    @_json
    @data_option
    def command(session_name: str, domain_id: str | None, as_json: bool, **where: Any) -> None:
        from sonant.cli import session as sessions

        desk = sessions.Desk(load_settings(**where), domain_id, as_json=as_json)
        sys.exit(sessions.SHOWING[name](desk, session_name))


@session.command("start")
@click.argument("session_name", required=False)
@_setup
@click.option(
    "--speech", type=click.IntRange(5, 10), help="Net speech that authentication needs, in seconds."
)
@click.option("--no-authentication", is_flag=True, help="Do not ask who it is.")
@click.option("--no-fraud-detection", is_flag=True, help="Do not look for fraudsters and made voices.")
@_domain
@_json
@data_option
def start(
    session_name: str | None,
    domain_id: str | None,
    as_json: bool,
    data: Path | None,
    config: Path | None,
    **setup: Any,
) -> None:
    """Start a session, or the next stream of one that has ended; without a name it gets a random one."""
    from sonant.cli import session as sessions

    sessions.start(
        sessions.Desk(load_settings(data, config), domain_id, as_json=as_json), session_name, **setup
    )


@session.command("update")
@click.argument("session_name")
@_setup
@_domain
@_json
@data_option
def update(
    session_name: str,
    domain_id: str | None,
    as_json: bool,
    data: Path | None,
    config: Path | None,
    **setup: Any,
) -> None:
    """Change a session's speaker, thresholds or watchlist."""
    from sonant.cli import session as sessions

    sessions.update(
        sessions.Desk(load_settings(data, config), domain_id, as_json=as_json), session_name, **setup
    )


_on_session("describe", "Show a session.")


@session.command("list")
@click.option(
    "--status",
    type=click.Choice(["PENDING_CONFIGURATION", "ONGOING", "ENDED"]),
    help="Only streams like this.",
)
@_domain
@_json
@data_option
def show_all(status: str | None, domain_id: str | None, as_json: bool, **where: Any) -> None:
    """All sessions of a domain, oldest first."""
    from sonant.cli import session as sessions

    sessions.show_all(sessions.Desk(load_settings(**where), domain_id, as_json=as_json), status)


_on_session("enroll", "Enroll the session's speaker with what is heard in it.")
_on_session("evaluate", "Who is it, and is it fraud? Exits 3 unless the caller is accepted and of low risk.")
_on_session("end", "Stop listening.")


@session.command("stream")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--speed", type=click.Choice(["real", "full"]), default="real", show_default=True)
@click.option("--channel", type=click.IntRange(0), default=0, show_default=True, help="The caller's, from 0.")
@click.option(
    "--session", "session_name", metavar="NAME", help="Session to bring it to [default: a new one]."
)
@_speaker
@_domain
@_json
@click.option("--quiet", is_flag=True, help="No progress bar.")
@data_option
def stream(
    file: Path,
    domain_id: str | None,
    as_json: bool,
    data: Path | None,
    config: Path | None,
    **how: Any,
) -> None:
    """Bring the recording FILE to a session as if it were a call, and show what was made of it.

    The session is started if there is none that waits for audio. Exits 0 when all of it was listened to.
    """
    from sonant.cli import session, session_stream

    desk = session.Desk(load_settings(data, config), domain_id, as_json=as_json)
    sys.exit(session_stream.stream(desk, file, **how))


@session.command("kinesis")
@click.argument("stream")
@click.option("--contact", "contact_id", metavar="ID", help="The contact whose audio is taken.")
@click.option(
    "--instance",
    "instance_arn",
    metavar="ARN",
    help="Connect's instance: with it, events tell the contact's ARN.",
)
@click.option(
    "--fragment", metavar="NUMBER", help="Fragment behind which the audio begins [default: from now on]."
)
@click.option("--session", "session_name", metavar="NAME", help="Session [default: the contact's id].")
@_speaker
@_domain
@_json
@click.option("--region", metavar="REGION", help="Of the video stream [default: its ARN's].")
@click.option("--endpoint-url", metavar="URL", help="Of Kinesis Video Streams, instead of AWS's own.")
@data_option
def kinesis(
    stream: str,
    domain_id: str | None,
    as_json: bool,
    data: Path | None,
    config: Path | None,
    **how: Any,
) -> None:
    """Bring a call of Amazon Connect to a session, from the video stream STREAM (name or ARN).

    Needs boto3 and AWS credentials that may read the stream. Ends when the contact does.
    """
    from sonant.cli import session, session_kinesis

    desk = session.Desk(load_settings(data, config), domain_id, as_json=as_json)
    sys.exit(session_kinesis.kinesis(desk, stream, **how))


@session.command("url")
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
    type=click.IntRange(1, 604_800),
    default=300,
    show_default=True,
    help="Seconds until it is void.",
)
@_domain
@data_option
def url(
    session_name: str,
    domain_id: str | None,
    data: Path | None,
    config: Path | None,
    expires: int,
    **form: Any,
) -> None:
    """Print a signed WebSocket URL that takes audio for a session.

    Whoever has the URL can bring audio until it expires, and nothing else.
    """
    from sonant.cli import session, session_stream

    desk = session.Desk(load_settings(data, config), domain_id, as_json=False)
    click.echo(session_stream.signed_url(desk, session_name, expires_s=expires, **form))
