"""Trials of untrusted model files: each is opened, run and timed in a process of its own, with limits.

The process answers in JSON, so that a file that took it over could not reach this one.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sonant.errors import SetupError, SonantError
from sonant.voice.audio.test_signal import voice_like_signal

TIME_LIMIT_S = 120.0
_MAX_ANSWER_BYTES = 1 << 16
#: Address space beyond a few copies of the weights: onnxruntime, numpy and the network's own working memory.
_SPARE_BYTES = 6 << 30
_COPIES = 6
_BENCH_S, _BENCH_RUNS = 10.0, 3

#: Tries a model: its content and the trial's options to a JSON document. A function of a module.
Trial = Callable[..., dict[str, Any]]


def try_apart(trial: Trial, file: Path, *options: Any, time_limit_s: float = TIME_LIMIT_S) -> dict[str, Any]:
    """Run a trial of a model file in a process of its own. Raises SetupError with the reason of a failure."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(
        target=_try_here, args=(sender, trial, str(file.absolute()), *options), daemon=True
    )
    process.start()
    sender.close()
    try:
        answer = receiver.recv_bytes(_MAX_ANSWER_BYTES) if receiver.poll(time_limit_s) else None
    except (EOFError, OSError):
        process.join(1)
        raise SetupError(
            f"the model ends the process that tries it (exit code {process.exitcode}): "
            "it is damaged, or needs more memory than there is"
        ) from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    if answer is None:
        raise SetupError(f"the model could not be tried within {time_limit_s:g} s")
    found: dict[str, Any] = json.loads(answer)
    if "fault" in found:
        raise SetupError(str(found["fault"])[:1000])
    return found


def _try_here(pipe: Connection, trial: Trial, file: str, *options: Any) -> None:
    """Run the trial in the process that may be lost, and send the results."""
    try:
        content = Path(file).read_bytes()
        _limit(len(content))
        with tempfile.TemporaryDirectory() as empty:  # relative paths in the file then lead nowhere
            os.chdir(empty)
            answer = trial(content, *options)
    except SonantError as fault:
        answer = {"fault": str(fault)}
    except MemoryError:
        answer = {"fault": "the model needs more memory than may be used to try it"}
    except Exception as fault:  # noqa: BLE001 - a hostile file may cause any
        answer = {"fault": f"the model cannot be tried: {type(fault).__name__}: {str(fault)[:300]}"}
    pipe.send_bytes(json.dumps(answer).encode())


def _limit(size_bytes: int) -> None:
    most = _SPARE_BYTES + _COPIES * size_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def ms_a_second(run: Callable[[NDArray[np.float32]], object]) -> float:
    """Measure the least processor time of a few runs, in milliseconds for each second of speech."""
    voice = voice_like_signal(8000, _BENCH_S)
    taken = []
    for _ in range(_BENCH_RUNS):
        start_s = time.thread_time()
        run(voice)
        taken.append(time.thread_time() - start_s)
    return 1000 * min(taken) / _BENCH_S
