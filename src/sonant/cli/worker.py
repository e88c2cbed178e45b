"""`sonant worker`: runs jobs; `sonant serve` starts one and looks after it."""

from __future__ import annotations

import json
import logging
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import click

from sonant import logs
from sonant.assembly import installation, jobs
from sonant.assembly.integrity_reports import IntegrityReporter
from sonant.assembly.supervisor import STOP_S, Report
from sonant.cli.context import CliContext, Command, pass_cli
from sonant.errors import SetupError
from sonant.logs import note
from sonant.settings import Settings, loading
from sonant.threads import start_loop, start_once
from sonant.traces import build_tracer

log = logging.getLogger(__name__)


@click.command(cls=Command)
@click.option("--supervised", metavar="OWNER", hidden=True)
@click.option(
    "--heartbeat",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Touch this file about once a second; if it is two minutes old, the worker hangs.",
)
@pass_cli
def worker(cli: CliContext, supervised: str | None, heartbeat: Path | None) -> None:
    """Run jobs without serving the API (`sonant serve` has a worker of its own)."""
    if supervised is not None:
        run_supervised(supervised)
    else:
        run_jobs(cli.settings(), f"worker-{secrets.token_hex(8)}", heartbeat_file=heartbeat)


def run_supervised(owner: str) -> None:
    """Run jobs for a `sonant serve`: settings arrive on standard input, and its end is the order to stop."""
    # Ctrl-C and the end of a terminal reach the whole group; the service stops us.
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    line = sys.stdin.buffer.readline()
    if not line:
        return
    # Not the file in the current folder: it may have been changed, or broken, since the service started.
    settings = loading.from_flags(json.loads(line))
    run_jobs(settings, owner, until_end_of_input=True, report=Report())


class Heartbeat:
    """A file that is touched about once a second; its age shows an orchestrator whether a worker hangs."""

    def __init__(self, file: Path) -> None:
        self._file, self._last_s = file, float("-inf")

    def __call__(self) -> None:
        now_s = time.monotonic()
        if now_s - self._last_s >= 1.0:
            self._last_s = now_s
            with suppress(OSError):  # a full disk is no reason to stop; the file grows old
                self._file.touch()


def run_jobs(
    settings: Settings,
    owner: str,
    *,
    until_end_of_input: bool = False,
    heartbeat_file: Path | None = None,
    report: Callable[[str], None] | None = None,
) -> None:
    """Run jobs until a signal, or the end of standard input, orders to stop.

    Meanwhile `heartbeat_file` is touched, and `report` called with the reason why jobs cannot be done, or
    with an empty text. Raises SetupError, and DatabaseUnavailable when the database is away at the start.
    """
    logs.configure(settings.log.level, settings.log.form)
    touch: Callable[[], None] = (lambda: None) if heartbeat_file is None else Heartbeat(heartbeat_file)

    def heartbeat() -> None:
        touch()
        if report is not None:
            report(runner.problem)

    with _only_runner(settings):
        store = installation.open_store(settings)
        store.database.report_faults_to(IntegrityReporter(store))
        installation.check_keys(store)
        with store.database.read():
            pass  # a database that cannot be used is reported once, here, and not by every thread
        tracer = build_tracer(settings.traces, "runner")
        runner = jobs.build_runner(store, owner, heartbeat, tracer=tracer)
        dispatcher = jobs.build_dispatcher(store, owner)
        stop = threading.Event()
        housekeeper = jobs.build_housekeeper(store)
        start_loop(partial(housekeeper.run, stop), "housekeeping")
        signal.signal(signal.SIGTERM, lambda *_: runner.stop())
        if until_end_of_input:
            # Otherwise the worker would outlive its service unnoticed.
            start_once(_exit_with_parent, "end of the service", failed=lambda _: os._exit(1))
        else:
            signal.signal(signal.SIGINT, lambda *_: runner.stop())
        dispatcher.start()
        note(log, logging.INFO, "the runner starts", owner=owner, workers=settings.workers)
        runner.run(alone=settings.embedded)
        stop.set()
        dispatcher.stop()
        if tracer is not None:
            tracer.close()
        log.info("the runner has stopped")


def _only_runner(settings: Settings) -> ExitStack:
    """Take the runner's lock of an embedded installation. Raises SetupError when another holds it.

    The kernel releases the lock when its holder is dead, so a predecessor that was killed a moment ago is
    waited for as long as it may take to end.
    """
    if not settings.embedded:
        return ExitStack()
    deadline_s = time.monotonic() + STOP_S
    while True:
        stack = ExitStack()
        try:
            stack.enter_context(installation.only_one(settings, "runner"))
            return stack
        except SetupError:
            if time.monotonic() > deadline_s:
                raise
            time.sleep(0.1)


def _exit_with_parent() -> None:
    """Exit when the parent process is gone; another runner processes the unfinished entries again."""
    with suppress(ConnectionError):
        while os.read(sys.stdin.fileno(), 1024):
            pass
    os._exit(0)
