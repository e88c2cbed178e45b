"""`sonant serve` and `sonant worker`: the API, and the runner it looks after in a process of its own."""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from sonant import settings_sources
from sonant.cores import Cores
from sonant.errors import SetupError
from sonant.jobs.housekeeping import Housekeeper
from sonant.settings import Settings

#: Tells commands on the same data folder where the service listens.
ENDPOINT_FILE = "endpoint"

log = logging.getLogger(__name__)

#: A runner that dies is started again, at once the first time, then after a growing pause.
PAUSE_MOST_S = 10.0
#: How long a runner may take to put its work down when the service stops.
STOP_S = 10.0
#: Longest WebSocket message. Carriers send 20 to 200 ms at once; this is two seconds of the densest audio.
MAX_MESSAGE_BYTES = 64 * 1024


def serve(settings: Settings, *, quiet: bool) -> None:
    """Serve until told to stop. Raises SetupError when the folder or the port is taken."""
    import socket

    import uvicorn

    from sonant import app, app_engines, app_jobs, installation
    from sonant.commands.draining import draining_server
    from sonant.wire import audiosocket

    if settings.jobs.beside_service:
        app_engines.check_engine(settings)
    installation.make_folder(settings.data)
    with installation.only_one(settings, "service") if settings.embedded else nullcontext():
        store = installation.open_store(settings, create=True)
        key_id = installation.first_start(store)
        if key_id is None and settings.audit.enabled and not installation.audit_folders(settings):
            log.warning("%s", installation.lost_trail(settings))
        store.backends.tidy()
        family = socket.AF_INET6 if ":" in settings.wire.host else socket.AF_INET
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((settings.wire.host, settings.wire.port))
        except (OSError, OverflowError, UnicodeError) as fault:
            raise SetupError(
                f"cannot listen on {settings.wire.host}:{settings.wire.port}: "
                f"{getattr(fault, 'strerror', None) or str(fault).rstrip('.')}; "
                "choose another with --host and --port"
            ) from None
        listener.listen(1024)
        cores = Cores()
        if settings.embedded and settings.wire.one_core:
            cores.keep_to_one()
        if settings.embedded:
            app_jobs.session_keeper(store).take_over()
        built = app.build_app(store, cores, audiosocket.bind(settings))
        server = draining_server(
            uvicorn.Config(
                built.asgi,
                http=_connection(),
                ws=_websocket_connection,  # type: ignore[arg-type]  # called like the class it makes one of
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
            lambda: built.intake.streams,
            drain_s=settings.wire.drain_s,
            streams_s=settings.live.drain_s,
        )
        port = listener.getsockname()[1]
        host = settings.wire.host
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        noted = settings.data / ENDPOINT_FILE
        # uvicorn sends a signal on to the handler that was there before it: the default one would end the
        # process on the spot, runner and all.
        signal.signal(signal.SIGTERM, lambda *_: setattr(server, "should_exit", True))
        runner = Supervisor(settings, cores)
        try:
            noted.write_text(url + "\n", "utf-8")
            if not quiet:
                _greet(settings, url, key_id)
            if settings.jobs.beside_service:
                runner.start()
            server.run(sockets=[listener])
        finally:
            with suppress(OSError):
                if noted.read_text("utf-8").strip() == url:  # another service may have noted its own
                    noted.unlink()
            runner.stop()
            built.close()


def _connection() -> Any:
    """The HTTP connection; a Python without httptools gets uvicorn's slower one, which has its own bounds."""
    try:
        from sonant.commands.connection import BoundedConnection
    except ImportError:
        return "h11"
    return BoundedConnection


def _websocket_connection(**named: Any) -> Any:
    """The WebSocket connection; nothing of it is loaded before the first one."""
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    return WebSocketsSansIOProtocol(**named)


def _greet(settings: Settings, url: str, key_id: str | None) -> None:
    from sonant import installation

    path = installation.credentials_file(settings).absolute()
    lines = [f"Sonant serves the Voice ID API at {url} (region {settings.region}), data in {settings.data}"]
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


class Supervisor:
    """Keeps one runner process alive while the service lives; the runner ends when the service does."""

    def __init__(self, settings: Settings, cores: Cores) -> None:
        self._settings, self._cores = settings, cores
        self._owner = f"local-{secrets.token_hex(8)}"
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="runner supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        process = self._process
        if process is not None:
            process.terminate()
        if self._thread.ident is not None:  # it was started
            self._thread.join(STOP_S + 1)

    def _watch(self) -> None:
        pause_s = 0.0
        while not self._stopping.wait(pause_s):
            begun = time.monotonic()
            self._process = process = self._begin()
            if self._stopping.is_set():
                process.terminate()
            code = self._wait(process)
            if self._stopping.is_set():
                return
            lived_s = time.monotonic() - begun
            pause_s = 0.0 if lived_s > PAUSE_MOST_S else min(PAUSE_MOST_S, max(0.2, pause_s * 2))
            log.warning("the runner ended with code %s; starting another in %.1f s", code, pause_s)

    def _begin(self) -> subprocess.Popen[bytes]:
        with self._cores.all():
            process = subprocess.Popen(
                [sys.executable, "-m", "sonant", "worker", "--supervised", self._owner],
                stdin=subprocess.PIPE,
            )
        if process.stdin is not None:
            try:
                # The settings go through the pipe: a database URL may hold a password, and arguments show.
                process.stdin.write(json.dumps(flat(self._settings)).encode() + b"\n")
                process.stdin.flush()  # left open: its end tells the runner that the service is gone
            except OSError:
                log.warning("the runner ended while it was starting")
        return process

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        while True:
            try:
                return process.wait(0.2 if not self._stopping.is_set() else STOP_S)
            except subprocess.TimeoutExpired:
                if self._stopping.is_set():
                    process.kill()


def flat(settings: Settings) -> dict[str, Any]:
    """Settings as dotted names and JSON values; `settings_sources.load(flags=…)` reads them back."""
    found: dict[str, Any] = {}
    for name, value in asdict(settings).items():
        if isinstance(value, dict):
            found.update({f"{name}.{inner}": part for inner, part in value.items()})
        else:
            found[name] = str(value.absolute()) if isinstance(value, Path) else value
    return found


def run_supervised(owner: str) -> None:
    """The runner of a `sonant serve`: settings come by the pipe, and its end is the order to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the service stops us
    line = sys.stdin.buffer.readline()
    if not line:
        return
    settings = settings_sources.load(environment={}, flags=json.loads(line))
    work(settings, owner, until_end_of=True)


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
    settings: Settings, owner: str, *, until_end_of: bool = False, heartbeat: Path | None = None
) -> None:
    """Run jobs until told to stop; while it lives, `heartbeat` is touched. Raises SetupError."""
    beat = Heartbeat(heartbeat) if heartbeat is not None else lambda: None
    from sonant import app_jobs, installation

    # The kernel lets go of the lock when the last holder is dead, so a predecessor killed a moment ago
    # can keep us waiting only as long as it takes to die.
    with _patiently(settings):
        store = installation.open_store(settings)
        installation.check_keys(store)
        with store.database.read():
            pass  # a database that cannot be used is told once, here, and not by every thread
        runner = app_jobs.build_runner(store, owner, beat)
        dispatcher = app_jobs.build_dispatcher(store, owner)
        stop = threading.Event()
        housekeeper = Housekeeper(
            database=store.database,
            keys_of=store.backends.keys,
            clock=store.clock,
            sessions=app_jobs.session_keeper(store),
        )
        threading.Thread(target=housekeeper.run, args=(stop,), name="housekeeping", daemon=True).start()
        signal.signal(signal.SIGTERM, lambda *_: runner.stop())
        if until_end_of:
            threading.Thread(target=_end_with_parent, daemon=True).start()
        else:
            signal.signal(signal.SIGINT, lambda *_: runner.stop())
        dispatcher.start()
        runner.run(alone=settings.embedded)
        stop.set()
        dispatcher.stop()


def _patiently(settings: Settings) -> Any:
    from contextlib import ExitStack

    from sonant import installation

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
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os._exit(0)
