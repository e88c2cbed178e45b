"""Decoder processes: start them, exchange messages with them, keep idle ones for the next recording.

A decoder processes recordings of strangers with C libraries. It gets no environment, no descriptor but one
socket, and limits. What it writes to its standard error is discarded: libraries quote recordings there.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

from sonant.backoff import Backoff
from sonant.errors import SetupError
from sonant.voice.audio.decoding import messages

START_S = 60.0
"""How long a decoder may take to get ready."""
ANSWER_S = 300.0
"""How long one answer may take by the clock; what computes reaches its limit of processor time before."""
STARTS = 6
"""How often it is tried to start a decoder, with pauses between."""
PAUSE_LEAST_S, PAUSE_MOST_S = 0.1, 5.0
MAX_IDLE = 2
"""Idle decoders that are kept."""
MAX_RECORDINGS = 2000
"""Recordings after which a decoder is replaced, so that what a library leaks is given back."""

BOOT = """\
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from sonant.voice.audio.decoding.child import main
main()
"""
"""What a decoder runs."""
#: Variables without which libraries may not be found. Threads of OpenBLAS would only take memory.
_KEPT_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class DecoderEnded(Exception):
    """A decoder ended, did not answer, or failed so that it cannot be used any more."""

    def __init__(self, reason: str, *, too_long: bool = False) -> None:
        super().__init__(reason)
        self.too_long = too_long
        """Whether it reached the limit of processor time, or did not answer."""

    @classmethod
    def by_exit_code(cls, code: int | None) -> DecoderEnded:
        """Say how a process ended; `code` is negative for a signal, None while it still runs."""
        if code in (None, -signal.SIGXCPU):
            return cls("it takes too long", too_long=True)
        if code is not None and code < 0:
            with suppress(ValueError):
                return cls(f"ended by {signal.Signals(-code).name}")
        return cls(f"ended with code {code}")


class DecoderProcess:
    """One decoder process. For one recording and one thread at a time."""

    def __init__(self) -> None:
        """Start a process and wait until it is ready. Raises OSError, MemoryError, DecoderEnded."""
        ours, theirs = socket.socketpair()
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        path = json.dumps([os.path.abspath(entry or ".") for entry in sys.path])  # noqa: PTH100 - no resolving
        try:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-I", "-c", BOOT, path],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**_ENVIRONMENT, **environment},
                cwd="/",
            )
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        self._connection = ours
        self._owed = 0  # answers that were asked for and not taken
        self.held: object = None
        """The recording that the process has open."""
        self.recordings = 0
        """Recordings that it has opened."""
        self._receive(START_S)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def ask(self, kind: bytes, payload: bytes = b"", more: bytes = b"") -> None:
        """Ask for an answer. Raises DecoderEnded."""
        while self._owed:  # a decoder that waits to be rid of an answer would not read what is sent
            self.answer()
        self._connection.settimeout(ANSWER_S)
        try:
            messages.send(self._connection, kind, payload, more)
        except OSError:
            raise self._ended() from None
        self._owed += 1

    def answer(self) -> tuple[bytes, bytes]:
        """Return the next answer that was asked for. Raises DecoderEnded."""
        found = self._receive(ANSWER_S)
        self._owed -= 1
        return found

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.kill()
        self._process.wait()

    def _receive(self, timeout_s: float) -> tuple[bytes, bytes]:
        self._connection.settimeout(timeout_s)
        try:
            return messages.receive(self._connection)
        except (EOFError, OSError) as fault:
            raise self._ended(late=isinstance(fault, TimeoutError)) from None

    def _ended(self, *, late: bool = False) -> DecoderEnded:
        if not late:
            with suppress(subprocess.TimeoutExpired):  # its socket is closed: it is ending
                self._process.wait(1.0)
        code = self._process.poll()
        self.close()
        return DecoderEnded.by_exit_code(code)


class DecoderPool:
    """Lends decoder processes: one for each recording that is read at the same time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: list[DecoderProcess] = []
        self.started = 0
        """Decoders that were started."""

    def take(self, held: object = None) -> DecoderProcess:
        """Return an idle decoder, if possible the one that holds the recording `held`, or start one.

        Raises SetupError if none can be started.
        """
        with self._lock:
            for number, one in enumerate(self._idle):
                if held is not None and one.held is held:
                    return self._idle.pop(number)
            if self._idle:
                return self._idle.pop()
        process = _start_patiently()
        with self._lock:
            self.started += 1
        return process

    def give_back(self, process: DecoderProcess) -> None:
        """Keep a decoder for the next recording."""
        if process.recordings < MAX_RECORDINGS:
            with self._lock:
                if len(self._idle) < MAX_IDLE:
                    self._idle.append(process)
                    return
        process.close()

    def close(self) -> None:
        """End all idle decoders."""
        with self._lock:
            idle, self._idle = self._idle, []
        for one in idle:
            one.close()

    def forget(self) -> None:
        """Drop all decoders without ending them: after a fork they are the parent's."""
        self._lock, self._idle = threading.Lock(), []


def _start_patiently() -> DecoderProcess:
    """Start a decoder, again after growing pauses: lack of descriptors, processes or memory passes."""
    pauses = Backoff(PAUSE_LEAST_S, PAUSE_MOST_S)
    for _ in range(STARTS - 1):
        with suppress(OSError, MemoryError, DecoderEnded):
            return DecoderProcess()
        time.sleep(pauses.next_s())
    try:
        return DecoderProcess()
    except (OSError, MemoryError, DecoderEnded) as fault:
        raise SetupError(f"the process that decodes recordings cannot be started: {fault}") from None


POOL = DecoderPool()
"""The decoders of this process."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=POOL.forget)
