"""`sonant serve` and `sonant worker`: the API, and the runner it looks after in a process of its own."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

import click

from sonant.assembly.supervisor import STOP_S, Report, Supervisor
from sonant.cpu_affinity import CpuAffinity
from sonant.errors import SetupError
from sonant.settings import Settings, loading
from sonant.threads import start_loop, start_once

#: Tells commands on the same data folder where the service listens.
ENDPOINT_FILE = "endpoint"

log = logging.getLogger(__name__)

#: Longest WebSocket message. Carriers send 20 to 200 ms at once; this is two seconds of the densest audio.
MAX_MESSAGE_BYTES = 64 * 1024


def serve(settings: Settings, *, quiet: bool) -> None:
    """Serve until told to stop. Raises SetupError when the folder or the port is taken."""
    import socket

    import uvicorn

    from sonant.assembly import installation, jobs, service
    from sonant.gateway.draining import draining_server
    from sonant.jobs.workers import check_engine

    if settings.jobs.beside_service:
        check_engine(settings)
    installation.make_folder(settings.data)
    with installation.only_one(settings, "service") if settings.embedded else nullcontext():
        store = installation.open_store(settings, create=True)
        key_id = installation.first_start(store)
        if key_id is None and settings.audit.enabled and not installation.audit_folders(settings):
            log.warning("%s", installation.lost_trail(settings))
        store.backends.clean_up()
        family = socket.AF_INET6 if ":" in settings.gateway.host else socket.AF_INET
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.gateway.host, settings.gateway.port))
        except (OSError, OverflowError, UnicodeError) as fault:
            raise SetupError(
                f"cannot listen on {settings.gateway.host}:{settings.gateway.port}: "
                f"{getattr(fault, 'strerror', None) or str(fault).rstrip('.')}; "
                "choose another with --host and --port"
            ) from None
        listener.listen(1024)
        cores = CpuAffinity()
        if settings.embedded and settings.gateway.one_core:
            cores.keep_to_one()
        if settings.embedded:
            jobs.session_keeper(store).take_over()
        runner = Supervisor(settings, cores) if settings.jobs.beside_service else None
        state = None if runner is None else runner.state
        built = service.build_app(store, cores, state)
        server = draining_server(
            uvicorn.Config(
                built.asgi,
                http=_connection(),
                ws=websocket_connection,  # type: ignore[arg-type]  # called like the class it makes one of
                ws_max_size=MAX_MESSAGE_BYTES,
                ws_per_message_deflate=False,  # costs more than audio is worth
                access_log=False,
                log_config=None,
                server_header=False,
                proxy_headers=False,  # a caller could write any address into them
                date_header=True,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=10,
                lifespan="on",
            ),
            built.health,
            lambda: built.streams.streams,
            drain_s=settings.gateway.drain_s,
            streams_s=settings.live.drain_s,
        )
        port = listener.getsockname()[1]
        host = settings.gateway.host
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        noted = settings.data / ENDPOINT_FILE
        # uvicorn sends a signal on to the handler that was there before it: the default one would end the
        # process on the spot, runner and all.
        signal.signal(signal.SIGTERM, lambda *_: setattr(server, "should_exit", True))
        try:
            noted.write_text(url + "\n", "utf-8")
            if not quiet:
                _greet(settings, url, key_id)
            if runner is not None:
                runner.start()
            server.run(sockets=[listener])
        finally:
            with suppress(OSError):
                if noted.read_text("utf-8").strip() == url:  # another service may have noted its own
                    noted.unlink()
            if runner is not None:
                runner.stop()
            built.close()


def _connection() -> Any:
    """The HTTP connection; a Python without httptools gets uvicorn's slower one, which has its own bounds."""
    try:
        from sonant.gateway.http_connection import BoundedConnection
    except ImportError:
        return "h11"
    return BoundedConnection


def websocket_connection(**named: Any) -> Any:
    """The WebSocket connection; nothing of it is loaded before the first one."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    return WebSocketsSansIOProtocol(**named)


def _greet(settings: Settings, url: str, key_id: str | None) -> None:
    from sonant.assembly import installation

    path = installation.credentials_file(settings).absolute()
    regions = ", ".join(settings.served_regions)
    lines = [f"Sonant serves the Voice ID API at {url} (region {regions}), data in {settings.data}"]
    if key_id is not None:
        lines += [
            f"  first access key {key_id}, its secret is in {path}",
            f"  role for jobs    {installation.role_arn(settings)}",
            f"  key for domains  {installation.DEFAULT_ALIAS}",
        ]
    lines += [
        "  use it with:     sonant voice-id list-domains",
        f"  or:              AWS_SHARED_CREDENTIALS_FILE={path} \\",
        f"                   aws voice-id list-domains --region {settings.region} --endpoint-url {url}",
    ]
    click.echo("\n".join(lines), err=True)


def run_supervised(owner: str) -> None:
    """The runner of a `sonant serve`: settings come by the pipe, and its end is the order to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the service stops us
    line = sys.stdin.buffer.readline()
    if not line:
        return
    settings = loading.load(environment={}, flags=json.loads(line))
    work(settings, owner, until_end_of=True, report=Report())


class Heartbeat:
    """A file that is touched about once a second: an orchestrator sees by its age that a runner lives."""

    def __init__(self, file: Path) -> None:
        self._file, self._last_s = file, float("-inf")

    def __call__(self) -> None:
        now_s = time.monotonic()
        if now_s - self._last_s >= 1.0:
            self._last_s = now_s
            with suppress(OSError):  # a full disk is no reason to stop; the file's age tells
                self._file.touch()


def work(
    settings: Settings,
    owner: str,
    *,
    until_end_of: bool = False,
    heartbeat: Path | None = None,
    report: Callable[[str], None] | None = None,
) -> None:
    """Run jobs until told to stop.

    While it lives, `heartbeat` is touched, and `report` called with why jobs cannot be done, or nothing.
    Raises SetupError, and DatabaseUnavailable when the database is away at the start.
    """
    touch: Callable[[], None] = (lambda: None) if heartbeat is None else Heartbeat(heartbeat)

    def beat() -> None:
        touch()
        if report is not None:
            report(runner.problem)

    from sonant.assembly import installation, jobs

    # The kernel lets go of the lock when the last holder is dead, so a predecessor killed a moment ago
    # can keep us waiting only as long as it takes to die.
    with _patiently(settings):
        store = installation.open_store(settings)
        installation.check_keys(store)
        with store.database.read():
            pass  # a database that cannot be used is told once, here, and not by every thread
        runner = jobs.build_runner(store, owner, beat)
        dispatcher = jobs.build_dispatcher(store, owner)
        stop = threading.Event()
        housekeeper = jobs.build_housekeeper(store)
        start_loop(partial(housekeeper.run, stop), "housekeeping")
        signal.signal(signal.SIGTERM, lambda *_: runner.stop())
        if until_end_of:
            # Else it would outlive its service unseen.
            start_once(_end_with_parent, "end of the service", failed=lambda _: os._exit(1))
        else:
            signal.signal(signal.SIGINT, lambda *_: runner.stop())
        dispatcher.start()
        runner.run(alone=settings.embedded)
        stop.set()
        dispatcher.stop()


def _patiently(settings: Settings) -> Any:
    from contextlib import ExitStack

    from sonant.assembly import installation

    if not settings.embedded:
        return ExitStack()
    deadline = time.monotonic() + STOP_S
    while True:
        stack = ExitStack()
        try:
            stack.enter_context(installation.only_one(settings, "runner"))
            return stack
        except SetupError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _end_with_parent() -> None:
    """The service died without a word: whatever is in hand, another runner will do it again."""
    with suppress(ConnectionError):
        while os.read(sys.stdin.fileno(), 1024):
            pass
    os._exit(0)
