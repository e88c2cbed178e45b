"""The runner beside a service: started, watched and started again, whatever goes wrong with it."""

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
from typing import Any

from sonant.cpu_affinity import CpuAffinity
from sonant.runner_state import GRACE_S, RunnerState
from sonant.settings import Settings
from sonant.threads import Backoff, start_loop

log = logging.getLogger(__name__)

#: Pauses before a runner is started again. After one that lived longer than the longest there is none.
PAUSE_LEAST_S, PAUSE_MOST_S = 0.2, 10.0
#: How long a runner may take to put its work down when the service stops.
STOP_S = 10.0
#: How often is looked at a runner that runs.
LOOK_S = 0.2
#: Where commands on the same data folder find the state of the runner.
STATE_FILE = "runner.json"
_STDIN = 0


class Supervisor:
    """Keeps one runner process alive while the service lives; the runner ends when the service does.

    The runner's standard input is a socket: settings go down, its end is the order to stop, and the runner
    says there that it works, or why it cannot (see `Report`).
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
        """When the runner worked for the last time, by the monotonic clock; None while it works."""
        self._noted = ""

    def start(self) -> None:
        """Raises RuntimeError when the system has no thread to give."""
        self._down_since_s = self._monotonic_s()
        self._thread = start_loop(self._watch, "runner supervisor")

    def stop(self) -> None:
        """End the runner, by force after `STOP_S`."""
        self._stopping.set()
        process = self._process
        if process is not None:
            process.terminate()
        if self._thread is not None:
            self._thread.join(STOP_S + 1)
            with suppress(OSError):
                self._state_file.unlink()

    def state(self) -> RunnerState:
        """How the runner is; from any thread, and at once."""
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
            begun_s = self._monotonic_s()
            try:
                problem = self._run_one()
            except Exception as fault:  # noqa: BLE001 - no files, processes or memory left: they come back
                problem = f"cannot be started: {fault}"
            if self._stopping.is_set():
                return
            if self._monotonic_s() - begun_s > PAUSE_MOST_S:
                self._pauses.reset()
                pause_s = 0.0
            else:
                pause_s = self._pauses.next_s()
            log.warning("the runner %s; starting another in %.1f s", problem, pause_s)
            self._now(problem)
            self._stopping.wait(pause_s)
            with self._lock:
                self._restarts += 1

    def _run_one(self) -> str:
        """Run a runner until it ends; how it did. Raises OSError and MemoryError when none can be started."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs, self._cores.all():
                process = subprocess.Popen(
                    [sys.executable, "-m", "sonant", "worker", "--supervised", self._owner],
                    stdin=theirs.fileno(),
                )
            try:
                with self._lock:
                    self._process = process
                if self._stopping.is_set():
                    process.terminate()
                try:
                    # The settings go this way: a database URL may hold a password, and arguments show.
                    ours.sendall(json.dumps(flat(self._settings)).encode() + b"\n")
                except OSError:
                    log.warning("the runner ended while it was starting")
                ours.setblocking(False)
                return f"ended with code {self._wait(process, ours)}"
            finally:
                if process.poll() is None:  # something failed here: two must not work at once
                    process.kill()
                    process.wait()
                with self._lock:
                    self._process = None

    def _wait(self, process: subprocess.Popen[bytes], reports: socket.socket) -> int:
        while True:
            try:
                return process.wait(LOOK_S if not self._stopping.is_set() else STOP_S)
            except subprocess.TimeoutExpired:
                if self._stopping.is_set():
                    process.kill()
            with suppress(OSError):  # it has said nothing, or has ended
                if told := reports.recv(1 << 16):
                    self._now(json.loads(told.splitlines()[-1])["problem"])

    def _now(self, problem: str) -> None:
        """Note down why there is no runner that works; nothing when there is one."""
        with self._lock:
            self._problem = problem
            if not problem:
                self._down_since_s = None
            elif self._down_since_s is None:
                self._down_since_s = self._monotonic_s()
        self._note()

    def _note(self) -> None:
        """For commands on the same folder, which cannot ask this process."""
        state = self.state()
        now_s = time.time()
        since = None if state.down_s is None else now_s - state.down_s
        told = {"service": os.getpid(), "changed": now_s, "down_since": since, **asdict(state)}
        with suppress(OSError):  # a full disk, say: who reads it looks whether the processes live
            new = self._state_file.with_suffix(".new")
            new.write_text(json.dumps(told), "utf-8")
            new.replace(self._state_file)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotedState:
    """What a service has noted down of its runner, as far as it is still true."""

    pid: int | None
    restarts: int
    missing: bool
    problem: str
    down_since: str
    """ISO 8601, UTC; empty while a runner works."""


def noted_state(settings: Settings) -> NotedState | None:
    """The state of the runner beside a service that runs on this data folder; None when none does."""
    try:
        told = json.loads((settings.data / STATE_FILE).read_text("utf-8"))
        service, state = told["service"], {name: told[name] for name in RunnerState.__slots__}
        changed, down_since = told["changed"], told["down_since"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not _runs(service):
        return None
    pid, problem = state["pid"], state["problem"]
    if pid is not None and not _runs(pid) and down_since is None:  # nothing could be written since it ended
        pid, problem, down_since = None, problem or "it ended", changed
    down_s = None if down_since is None else time.time() - down_since
    shown = "" if down_since is None else f"{datetime.fromtimestamp(down_since, UTC):%Y-%m-%dT%H:%M:%SZ}"
    return NotedState(
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
    """Tells the service, over the runner's standard input, that the runner works, or why it cannot.

    Called again and again; says something when it is not what was said before.
    """

    def __init__(self) -> None:
        self._said: str | None = None

    def __call__(self, problem: str) -> None:
        if problem == self._said:
            return
        line = json.dumps({"problem": problem}).encode() + b"\n"
        with suppress(OSError), socket.socket(fileno=os.dup(_STDIN)) as service:
            service.send(line, socket.MSG_DONTWAIT)  # a service that stands still must not stop the runner
            self._said = problem


def flat(settings: Settings) -> dict[str, Any]:
    """Settings as dotted names and JSON values; `settings_sources.load(flags=…)` reads them back."""
    found: dict[str, Any] = {}
    for name, value in asdict(settings).items():
        if isinstance(value, dict):
            found.update({f"{name}.{inner}": part for inner, part in value.items()})
        else:
            found[name] = str(value.absolute()) if isinstance(value, Path) else value
    return found
