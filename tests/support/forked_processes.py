"""Processes forked from one that has done the imports: services, runners and workers that tests start.

Importing is most of what a process of Sonant costs at its start, and the tests start hundreds. A forked one
is a process of its own all the same, with its own signals, files and memory. A service's runner and workers
are forked from the same process too, but where a test looks for the children of a service: there they start
as everywhere. `job_service`, the tests of the command line and the slow tests start whole programs.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import wait
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any
from weakref import WeakSet

from sonant.jobs.workers.engines import local

#: Imported before the fork, by the process that forks.
PRELOADED = (
    "sonant.assembly.supervisor",
    "sonant.assembly.worker_process",
    "sonant.cli.main",
    "sonant.cli.serve",
    "sonant.cli.worker",
    "sonant.gateway.http_connection",
    "alembic.command",
    "jsonschema",
    "onnxruntime",
    "psycopg",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite",
    "uvicorn.protocols.websockets.websockets_sansio_impl",
)

_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(list(PRELOADED))


#: Whoever looks for an exit code takes it out of a pipe.
_LOCK = threading.Lock()
_STARTED: WeakSet[ForkedProcess] = WeakSet()


class ForkedProcess:
    """A program in a process of its own, with the methods of `subprocess.Popen` that tests use.

    Any thread may use it.
    """

    def __init__(
        self,
        program: Callable[[], object],
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        output: Path,
        stdin: int | None = None,
        fork_children: bool = False,
    ) -> None:
        """Run `program`, which finds `arguments` after its name; what it prints is appended to `output`.

        `stdin` is the file descriptor of its standard input, by default of an empty one. With `fork_children`
        the program's runner and workers are forked where it was forked itself, and are no children of it.
        """
        surroundings = _Surroundings(dict(env), str(cwd), str(output))
        self._process = _FORKING.Process(
            target=_run,
            args=(
                program,
                ["sonant", *arguments],
                surroundings,
                None if stdin is None else DupFd(stdin),
                fork_children,
            ),
        )
        with _LOCK:
            self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        _STARTED.add(self)

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while the process runs."""
        with _LOCK:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once there is one. Raises TimeoutExpired."""
        wait([self._process.sentinel], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("sonant", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@atexit.register
def _end_all() -> None:
    """Leave nothing running, and nothing to wait for, whatever tests have forgotten."""
    for process in list(_STARTED):
        process.kill()


def sonant_command() -> None:
    """Run the `sonant` command."""
    from sonant.cli.main import run

    run()


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What a program finds where it is started."""

    environment: dict[str, str]
    folder: str
    output: str

    def enter(self) -> None:
        """Make them those of this process, with an empty standard input."""
        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.folder)
        out = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number, opened in ((0, os.open(os.devnull, os.O_RDONLY)), (1, out), (2, out)):
            os.dup2(opened, number)


def _run(
    program: Callable[[], object],
    arguments: list[str],
    surroundings: _Surroundings,
    stdin: Any,
    fork_children: bool,
) -> None:
    surroundings.enter()
    if stdin is not None:
        os.dup2(stdin.detach(), 0)
        sys.stdin = os.fdopen(0, closefd=False)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = arguments
    if fork_children:
        _fork_children(surroundings.output)
    program()


def _fork_children(output: str) -> None:
    """Have this service or runner fork its runner and workers from the process that it was forked from."""
    from sonant.assembly import supervisor

    forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]  # it runs
    local.multiprocessing = _ChildrensWorkers(output)  # type: ignore[assignment,attr-defined]
    supervisor.subprocess = _ChildrensRunner(output)  # type: ignore[assignment,attr-defined]


class _ChildrensRunner:
    """Stands for `subprocess` in a service's supervisor."""

    TimeoutExpired = subprocess.TimeoutExpired

    def __init__(self, output: str) -> None:
        self._output = Path(output)

    def Popen(self, command: Sequence[str], stdin: int) -> ForkedProcess:  # noqa: N802 - as subprocess has it
        """Run a `python -m sonant` command."""
        python, *module = command[:3]
        assert (python, *module) == (sys.executable, "-m", "sonant")
        return ForkedProcess(
            sonant_command,
            command[3:],
            env=os.environ,
            cwd=Path.cwd(),
            output=self._output,
            stdin=stdin,
            fork_children=True,
        )


class _ChildrensWorkers:
    """Stands for `multiprocessing` in the local engine of a service or runner."""

    def __init__(self, output: str) -> None:
        self._output = output

    def get_context(self, method: str) -> _ChildrensWorkers:
        return self

    def Pipe(self) -> Any:  # noqa: N802 - as multiprocessing has it
        return _FORKING.Pipe()

    def Process(self, *, target: Any, args: tuple[Any, ...], daemon: bool) -> Any:  # noqa: N802
        surroundings = _Surroundings(dict(os.environ), str(Path.cwd()), self._output)
        return _FORKING.Process(target=_work, args=(surroundings, target, args), daemon=daemon)


def _work(surroundings: _Surroundings, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    surroundings.enter()
    target(*arguments)


class _WorkerProcesses:
    """Stands for `multiprocessing` in the local engine: workers are forked as well."""

    def __init__(self) -> None:
        self._environment, self._pid = _environment(), os.getpid()

    def get_context(self, method: str) -> Any:
        """Fork for this process alone, and while its environment is that of the process that forks."""
        if os.getpid() != self._pid or _environment() != self._environment:
            return multiprocessing.get_context(method)
        return _FORKING


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}


def fork_workers() -> None:
    """Have every local engine of this process fork its workers, as long as the environment stays as it is."""
    local.multiprocessing = _WorkerProcesses()  # type: ignore[assignment,attr-defined]
