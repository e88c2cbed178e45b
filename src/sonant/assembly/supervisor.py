"""Supervise the runner of a service: start it, watch it, and restart it after any failure."""

from __future__ import annotations

import json
import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from sonant.backoff import Backoff
from sonant.cpu_affinity import CpuAffinity
from sonant.runner_state import GRACE_S, RunnerState
from sonant.settings import Settings
from sonant.settings.loading import as_flags
from sonant.threads import start_loop

log = logging.getLogger(__name__)

#: Bounds of the pauses before a restart. After a runner that lived longer than the longest there is none.
PAUSE_LEAST_S, PAUSE_MOST_S = 0.2, 10.0
#: How long a runner may take to end when the service stops.
STOP_S = 10.0
#: How often a running runner is checked.
POLL_S = 0.2
#: File of the data folder with the state of the runner, for other commands.
STATE_FILE = "runner.json"
_STDIN = 0


class Supervisor:
    """Keeps one runner process alive as long as the service lives.

    The runner's standard input is a socket: the supervisor sends the settings and closes it to stop the
    runner, and the runner reports there that it works, or why it cannot (see `Report`).
    """

    def __init__(
        self, settings: Settings, cores: CpuAffinity, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings, self._cores, self._monotonic_s = settings, cores, monotonic_s
        self._owner = f"local-{secrets.token_hex(8)}"
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._pauses = Backoff(PAUSE_LEAST_S, PAUSE_MOST_S)
        self._lock = threading.Lock()
        self._restarts, self._problem = 0, ""
        self._down_since_s: float | None = None
        """When the runner last worked, by the monotonic clock; None while it works."""

    def start(self) -> None:
        """Start the runner. Raises RuntimeError when the system cannot start a thread."""
        self._down_since_s = self._monotonic_s()
        self._thread = start_loop(self._watch, "runner supervisor")

    def stop(self) -> None:
        """Stop the runner, by force after `STOP_S`."""
        self._stopping.set()
        process = self._process
        if process is not None:
            process.terminate()
        if self._thread is not None:
            self._thread.join(STOP_S + 1)
            with suppress(OSError):
                self._state_file.unlink()

    def state(self) -> RunnerState:
        """Return the runner's state, without waiting; safe from any thread."""
        with self._lock:
            process, since_s = self._process, self._down_since_s
            return RunnerState(
                pid=None if process is None else process.pid,
                restarts=self._restarts,
                down_s=None if since_s is None else self._monotonic_s() - since_s,
                problem=self._problem,
            )

    @property
    def _state_file(self) -> Path:
        return self._settings.data / STATE_FILE

    # --- in the thread

    def _watch(self) -> None:
        while not self._stopping.is_set():
            started_s = self._monotonic_s()
            try:
                problem = self._run_one()
            except Exception as fault:  # noqa: BLE001 - such as no file descriptor or memory free
                problem = f"cannot be started: {fault}"
            if self._stopping.is_set():
                return
            if self._monotonic_s() - started_s > PAUSE_MOST_S:
                self._pauses.reset()
                pause_s = 0.0
            else:
                pause_s = self._pauses.next_s()
            log.warning("the runner %s; starting another in %.1f s", problem, pause_s)
            self._set_problem(problem)
            self._stopping.wait(pause_s)
            with self._lock:
                self._restarts += 1

    def _run_one(self) -> str:
        """Run a runner until it ends; return how it ended. Raises OSError and MemoryError."""
        ours, runners = socket.socketpair()
        with ours:
            with runners, self._cores.all():
                process = subprocess.Popen(
                    [sys.executable, "-m", "sonant", "worker", "--supervised", self._owner],
                    stdin=runners.fileno(),
                )
            try:
                with self._lock:
                    self._process = process
                if self._stopping.is_set():
                    process.terminate()
                try:
                    # Not by arguments, which all users of the machine can read: a database URL may hold a
                    # password.
                    ours.sendall(json.dumps(as_flags(self._settings)).encode() + b"\n")
                except OSError:
                    log.warning("the runner ended while it was starting")
                ours.setblocking(False)
                return f"ended with code {self._wait(process, ours)}"
            finally:
                if process.poll() is None:  # something failed here, and two runners must not work at once
                    process.kill()
                    process.wait()
                with self._lock:
                    self._process = None

    def _wait(self, process: subprocess.Popen[bytes], reports: socket.socket) -> int:
        while True:
            try:
                return process.wait(POLL_S if not self._stopping.is_set() else STOP_S)
            except subprocess.TimeoutExpired:
                if self._stopping.is_set():
                    process.kill()
            with suppress(OSError):  # no report, or the runner has ended
                if lines := reports.recv(1 << 16):
                    self._set_problem(json.loads(lines.splitlines()[-1])["problem"])

    def _set_problem(self, problem: str) -> None:
        """Store why no runner works; an empty text when one works."""
        with self._lock:
            self._problem = problem
            if not problem:
                self._down_since_s = None
            elif self._down_since_s is None:
                self._down_since_s = self._monotonic_s()
        self._write_state()

    def _write_state(self) -> None:
        """Write the state for commands on the same data folder, which cannot ask this process."""
        state = self.state()
        now_s = time.time()
        since = None if state.down_s is None else now_s - state.down_s
        document = {"service": os.getpid(), "changed": now_s, "down_since": since, **asdict(state)}
        with suppress(OSError):  # such as a full disk: readers also check whether the processes live
            new = self._state_file.with_suffix(".new")
            new.write_text(json.dumps(document), "utf-8")
            new.replace(self._state_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredState:
    """State of a runner as its service has written it, corrected by whether the processes live."""

    pid: int | None
    restarts: int
    missing: bool
    problem: str
    down_since: str
    """ISO 8601, UTC; empty while a runner works."""


def stored_state(settings: Settings) -> StoredState | None:
    """Read the state of the runner of the service on this data folder; None when no service runs there."""
    try:
        document = json.loads((settings.data / STATE_FILE).read_text("utf-8"))
        service, state = document["service"], {name: document[name] for name in RunnerState.__slots__}
        changed, down_since = document["changed"], document["down_since"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not _runs(service):
        return None
    pid, problem = state["pid"], state["problem"]
    if pid is not None and not _runs(pid) and down_since is None:  # ended after the last write
        pid, problem, down_since = None, problem or "it ended", changed
    down_s = None if down_since is None else time.time() - down_since
    shown = "" if down_since is None else f"{datetime.fromtimestamp(down_since, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return StoredState(
        pid=pid,
        restarts=state["restarts"],
        missing=down_s is not None and down_s > GRACE_S,
        problem=problem,
        down_since=shown,
    )


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Report:
    """Reports to the service, over the runner's standard input, that the runner works, or why it cannot."""

    def __init__(self) -> None:
        self._last: str | None = None

    def __call__(self, problem: str) -> None:
        """Send the problem, empty for none, when it is not the last one sent."""
        if problem == self._last:
            return
        line = json.dumps({"problem": problem}).encode() + b"\n"
        with suppress(OSError), socket.socket(fileno=os.dup(_STDIN)) as service:
            service.send(line, socket.MSG_DONTWAIT)  # a service that hangs must not block the runner
            self._last = problem
