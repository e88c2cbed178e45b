"""What actors of the engine's tests do tasks with. Imported by the actors, so it imports little."""

import os
import signal
import threading
from pathlib import Path

from made_samples import made_result

from sonant.errors import SetupError

LOOK_S = 0.05


class Squares:
    """Answers with the square of the ticket; `model_id` says which process did it."""

    def __init__(self, pause_s=0.0):
        self.pause_s = pause_s

    def fetch_first(self, task):
        return b""

    def execute(self, task, first):
        threading.Event().wait(self.pause_s)  # in place of work
        return made_result(
            [task.task_id**2], model_id=str(os.getpid()), net_speech_s=task.need_s, audio=task.stored_audio
        )


class Mortal(Squares):
    """Dies `deaths[ticket]` times on a ticket, then answers it; the deaths are counted in `folder`."""

    def __init__(self, folder, deaths):
        super().__init__()
        self.folder, self.deaths = Path(folder), deaths

    def execute(self, task, first):
        died = len(list(self.folder.glob(f"{task.task_id}-*")))
        if died < self.deaths.get(task.task_id, 0):
            (self.folder / f"{task.task_id}-{died}").touch()
            os._exit(1)
        return super().execute(task, first)


class Hanging(Squares):
    """Never answers one ticket."""

    def __init__(self, task_id):
        super().__init__()
        self.task_id = task_id

    def execute(self, task, first):
        if task.task_id == self.task_id:
            signal.pause()
        return super().execute(task, first)


def with_models(file):
    """Cannot begin until the file is there."""
    if not Path(file).exists():
        raise SetupError("voice model speaker-encoder.onnx is missing")
    return Squares()


def slow_to_begin(file):
    """Takes for ever to begin, unless the file is there."""
    never = threading.Event()
    while not Path(file).exists():
        never.wait(LOOK_S)
    return Squares()
