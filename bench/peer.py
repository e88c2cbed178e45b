"""The peer of enrollment: resemblyzer, the reference implementation of the speaker encoder, with PyTorch.

Runs in an environment of its own, one process a core, one torch thread each.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from environments import environment
from processes import ONE_THREAD

REQUIREMENTS = (
    ("torch>=2.4",),
    # Its metadata asks for webrtcvad, which needs a compiler; webrtcvad-wheels is the same, built.
    ("--no-deps", "resemblyzer==0.1.4"),
    ("librosa>=0.10,<1", "numpy>=2", "scipy<2", "webrtcvad-wheels>=2.0.14"),
)


def peer_s(speakers: Sequence[Sequence[Path]], processes: int) -> float:
    """Seconds that resemblyzer takes to embed these speakers, start-up and warming up not counted."""
    python = environment("peer-venv", *REQUIREMENTS)
    script = Path(__file__).with_name("peer_resemblyzer.py")
    workers = [
        subprocess.Popen(
            [str(python), "-W", "ignore", str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **ONE_THREAD},
        )
        for _ in range(processes)
    ]
    try:
        for number, worker in enumerate(workers):
            _tell(worker, json.dumps([[str(path) for path in own] for own in speakers[number::processes]]))
        for worker in workers:
            _hear(worker, "ready")
        begun = time.perf_counter()
        for worker in workers:
            _tell(worker, "go")
        for worker in workers:
            _hear(worker, "done")
        return time.perf_counter() - begun
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def _tell(worker: subprocess.Popen[str], line: str) -> None:
    assert worker.stdin is not None
    worker.stdin.write(line + "\n")
    worker.stdin.flush()


def _hear(worker: subprocess.Popen[str], expected: str) -> None:
    assert worker.stdout is not None
    while (line := worker.stdout.readline()) and line.strip() != expected:
        pass  # resemblyzer announces its model on standard output
    if not line:
        raise RuntimeError(f"the resemblyzer process ended before it was {expected}")
