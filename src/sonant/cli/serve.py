"""`sonant serve`: serves the API, and looks after a worker in a process of its own."""

from __future__ import annotations

import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import Any

import click
import uvicorn

from sonant import __version__, logs
from sonant.assembly import installation, jobs, service
from sonant.assembly.supervisor import Supervisor
from sonant.carriers.endpoints import STREAMED
from sonant.cli.context import CliContext, Command, pass_cli
from sonant.cli.reloading import reload_on_hangup
from sonant.cli.service_client import ENDPOINT_FILE
from sonant.cpu_affinity import CpuAffinity
from sonant.errors import SetupError
from sonant.gateway.connections import ConnectionLimits
from sonant.gateway.descriptors import plan_connections, raise_descriptor_limit
from sonant.gateway.draining import draining_server
from sonant.gateway.keepalive import PING_AFTER_S, PONG_WITHIN_S, keep_alive
from sonant.gateway.tls import Certificate, configured_certificate
from sonant.jobs.workers import check_engine
from sonant.logs import note
from sonant.settings import Settings, loading

log = logging.getLogger(__name__)

#: Seconds that a busy thread keeps the interpreter while others wait. A write takes it some fifteen times: at
#: Python's 5 ms a thread that finds speech in many calls would hold up each write for a tenth of a second.
SWITCH_S = 0.001

#: Longest WebSocket message. Carriers send 20 to 200 ms at once; this is two seconds of the densest audio.
MAX_MESSAGE_BYTES = 64 * 1024


@click.command(cls=Command)
@click.option("--host", help="Address to listen on [default: 127.0.0.1].")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one [default: 8180].")
@pass_cli
def serve(cli: CliContext, host: str | None, port: int | None) -> None:
    """Serve the API and run jobs.

    With --quiet it prints nothing but warnings.
    """

    def load() -> Settings:
        settings = cli.settings(**{"gateway.host": host, "gateway.port": port})
        if cli.quiet and settings.log.level != "error":
            settings = replace(settings, log=replace(settings.log, level="warning"))  # the runner's, too
        return settings

    run_service(load, quiet=cli.quiet)


def run_service(load: Callable[[], Settings], *, quiet: bool) -> None:
    """Serve until a signal orders to stop. Raises SetupError when the folder or the port is taken.

    `load` reads the settings, again at SIGHUP.
    """
    settings = load()
    logs.configure(settings.log.level, settings.log.form)
    if settings.jobs.beside_service:
        check_engine(settings)
    certificate = configured_certificate(settings.gateway)
    installation.make_folder(settings.data)
    with installation.only_one(settings, "service") if settings.embedded else nullcontext():
        store = installation.open_store(settings, create=True)
        made = installation.first_start(store)
        if made is None and settings.audit.enabled and not installation.audit_folders(settings):
            log.warning("%s", installation.lost_trail(settings))
        with store.database.read() as connection:
            for advice in installation.former_policies(connection):
                log.warning("%s", advice)
        store.backends.clean_up()
        listener = _listen(settings)
        sys.setswitchinterval(SWITCH_S)
        connections = plan_connections(settings, raise_descriptor_limit())
        cores = CpuAffinity()
        if settings.embedded and settings.gateway.one_core:
            cores.keep_to_one()
        if settings.embedded:
            jobs.session_keeper(store).take_over()
        runner = Supervisor(settings, cores) if settings.jobs.beside_service else None
        state = None if runner is None else runner.state
        http = _connection(connections)
        built = service.build_app(store, cores, state, None if isinstance(http, str) else http.table)
        if not isinstance(http, str):
            http.note_refused = staticmethod(built.note_handshake)
        server = _server(settings, built, http, certificate)
        # uvicorn sends a signal on to the handler that was there before it: the default one would end the
        # process on the spot, runner and all.
        signal.signal(signal.SIGTERM, lambda *_: setattr(server, "should_exit", True))
        reload_on_hangup(load, settings, certificate)
        url = settings.gateway.url or _url(
            settings.gateway.host, listener.getsockname()[1], secure=certificate is not None
        )
        # A search for garbage stops every thread. Among what was made so far, a hundred thousand objects of
        # modules most of all, it would take a tenth of a second and find none.
        gc.collect()
        gc.freeze()
        try:
            with _noted(settings, url):
                if not quiet:
                    _print_banner(settings, url, made)
                if runner is not None:
                    runner.start()
                if certificate is not None:
                    certificate.start()
                note(
                    log,
                    logging.INFO,
                    "the service starts",
                    version=__version__,
                    url=url,
                    settings=loading.in_force(settings),
                )
                server.run(sockets=[listener])
        finally:
            if runner is not None:
                runner.stop()
            if certificate is not None:
                certificate.stop()
            built.close()
            log.info("the service has stopped")


def _listen(settings: Settings) -> socket.socket:
    """Open the socket that the service listens on. Raises SetupError."""
    listener = socket.socket(socket.AF_INET6 if ":" in settings.gateway.host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.gateway.host, settings.gateway.port))
    except (OSError, OverflowError, UnicodeError) as fault:
        raise SetupError(
            f"cannot listen on {settings.gateway.host}:{settings.gateway.port}: "
            f"{getattr(fault, 'strerror', None) or str(fault).rstrip('.')}; "
            "choose another with --host and --port"
        ) from None
    keep_alive(listener)
    listener.listen(1024)
    return listener


def _server(
    settings: Settings, built: service.App, http: Any, certificate: Certificate | None
) -> uvicorn.Server:
    config = uvicorn.Config(
        built.asgi,
        http=http,
        ws=websocket_connection,  # type: ignore[arg-type]  # called like the class it makes one of
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_ping_interval=PING_AFTER_S,
        ws_ping_timeout=PONG_WITHIN_S,
        ws_per_message_deflate=False,  # costs more than audio is worth
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,  # a caller could write any address into them: see `gateway.forwarded`
        date_header=True,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=10,
        lifespan="on",
    )
    if certificate is not None:
        config.load()
        config.ssl = certificate.context  # one that can be loaded again
    return draining_server(
        config,
        built.health,
        lambda: built.streams.streams,
        drain_s=settings.gateway.drain_s,
        streams_s=settings.live.drain_s,
        on_loop_failure=None if isinstance(http, str) else http.table.on_loop_failure,
    )


def _url(host: str, port: int, *, secure: bool) -> str:
    return f"{'https' if secure else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


@contextmanager
def _noted(settings: Settings, url: str) -> Iterator[None]:
    """Note the service's URL in the data folder, for commands, as long as the context lasts."""
    file = settings.data / ENDPOINT_FILE
    try:
        # Commands wait for this file, so it must be complete when it appears.
        installation.write_private(file, url + "\n")
        yield
    finally:
        with suppress(OSError):
            if file.read_text("utf-8").strip() == url:  # another service may have noted its own
                file.unlink()


def _connection(limits: ConnectionLimits) -> Any:
    """Choose the HTTP connection's class.

    A Python without httptools gets uvicorn's slower one, which limits the size of headers only.
    """
    try:
        from sonant.gateway.http_connection import connection_class
    except ImportError:
        log.warning("httptools is not installed: connections are not limited; install httptools")
        return "h11"
    return connection_class(limits, STREAMED)


def websocket_connection(**named: Any) -> Any:
    """Make a WebSocket connection; its module is loaded with the first one."""
    from sonant.gateway.websocket_connection import WebSocketConnection

    return WebSocketConnection(**named)


def _print_banner(settings: Settings, url: str, made: installation.AccessKeyPair | None) -> None:
    """Print the service's address on standard error, and at the first start how to begin."""
    path = installation.credentials_file(settings).absolute()
    regions = ", ".join(settings.served_regions)
    lines = [f"Sonant serves the Voice ID API at {url} (region {regions}), data in {settings.data}"]
    if made is not None:
        lines += [
            f"  administrator    access key {made.administrator}, in {path.name}.administrator beside it",
            f"  application      access key {made.application}, in {path}",
            f"  role for jobs    {installation.role_arn(settings)}",
            f"  key for domains  {installation.DEFAULT_ALIAS}",
        ]
    lines += [
        "  use it with:     sonant voice-id list-domains",
        f"  or:              AWS_SHARED_CREDENTIALS_FILE={path} \\",
        f"                   aws voice-id list-domains --region {settings.region} --endpoint-url {url}",
    ]
    click.echo("\n".join(lines), err=True)
