"""What the worker processes of the engine's tests run. Imported by the workers, so it imports little."""

import os
import signal
from pathlib import Path

from made_samples import made_result

from sonant.errors import ObjectNotFound, SetupError
from sonant.jobs.workers.engines.local import READY, Answers


def _tasks(pipe):
    pipe.send(READY)
    while True:
        try:
            tasks = pipe.recv()
        except (EOFError, OSError):
            return
        yield from tasks


def square(task):
    return made_result([task.task_id**2], model_id=str(os.getpid()), net_speech_s=task.need_s)


def answer(pipe):
    for task in _tasks(pipe):
        pipe.send(Answers([(task.task_id, square(task))], 0.0))


def die_often(pipe, folder, deaths):
    """Die `deaths[ticket]` times on a ticket, then answer it; the deaths are counted in `folder`."""
    for task in _tasks(pipe):
        died = len(list(Path(folder).glob(f"{task.task_id}-*")))
        if died < deaths.get(task.task_id, 0):
            (Path(folder) / f"{task.task_id}-{died}").touch()
            os._exit(1)
        pipe.send(Answers([(task.task_id, square(task))], 0.0))


def hang(pipe, task_id):
    """Never answer one ticket."""
    for task in _tasks(pipe):
        if task.task_id == task_id:
            signal.pause()
        pipe.send(Answers([(task.task_id, square(task))], 0.0))


def die_unless(pipe, file):
    """End before being ready, as when the voice models are missing, until the file is there."""
    if not Path(file).exists():
        raise SetupError("voice model speaker-encoder.onnx is missing")
    answer(pipe)


def die_unready_once(pipe, folder):
    """The first worker dies before it is ready, the others work."""
    first = Path(folder) / "first"
    if not first.exists():
        first.touch()
        os._exit(1)
    answer(pipe)


def hang_unless(pipe, file):
    """Hang before being ready, unless the file is there."""
    if not Path(file).exists():
        signal.pause()
    answer(pipe)


def one_ready(pipe, file):
    """Who comes first works; all others end before they are ready."""
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        os._exit(1)
    answer(pipe)


def fetch(_role, uri):
    """A store with one missing object and one that makes it fail in a way nobody foresaw."""
    if uri.endswith("odd"):
        raise RuntimeError("the disk said: customer-1")
    raise ObjectNotFound(f"{uri}: there is no such object")
