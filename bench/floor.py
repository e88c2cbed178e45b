"""The floor under enrollment: nothing but the networks, over exactly what the pipeline feeds them.

Each process runs the pipeline once over its share of the requests and notes every input that the speech
detector and the speaker encoders are given, with the states carried from call to call. Timed is only giving
the same inputs to the same onnxruntime sessions again: no reading, decoding, features, sealing or storing.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sonant.settings import Settings
from sonant.voice.enrollment import RecordingSource, collect_speech
from sonant.voice.models import load_models
from sonant.voice.models.campplus import CampplusEncoder
from sonant.voice.models.packaged import named_embedder

LIMIT_S = 600.0


class Floor:
    """Processes that hold the inputs and wait; `run` times one pass over all of them."""

    def __init__(self, pipes: Sequence[Connection]) -> None:
        self._pipes = pipes
        facts = [_received(pipe) for pipe in pipes]
        self.recordings_heard = sum(fact["recordings_heard"] for fact in facts)
        """How many recordings the pipeline opened to find enough speech."""
        self.heard_s = sum(fact["heard_s"] for fact in facts)
        """Seconds of audio that went through the speech detector."""

    def run(self) -> float:
        """Seconds until the slowest process is through."""
        begun = time.perf_counter()
        for pipe in self._pipes:
            pipe.send("go")
        for pipe in self._pipes:
            _received(pipe)
        return time.perf_counter() - begun


@contextmanager
def floor(requests: Sequence[Sequence[Path]], processes: int) -> Iterator[Floor]:
    """The floor of these enrollment requests, prepared."""
    context = multiprocessing.get_context("spawn")
    pipes, workers = [], []
    for number in range(processes):
        ours, theirs = context.Pipe()
        worker = context.Process(target=_work, args=(theirs, requests[number::processes]), daemon=True)
        worker.start()
        theirs.close()
        pipes.append(ours)
        workers.append(worker)
    try:
        yield Floor(pipes)
    finally:
        for pipe, worker in zip(pipes, workers, strict=True):
            pipe.close()
            worker.join(10)


class _Noting:
    """An inference session that notes its calls."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.calls: list[tuple[Any, dict[str, Any]]] = []

    def run(self, outputs: Any, inputs: dict[str, Any]) -> Any:
        self.calls.append((outputs, dict(inputs)))
        return self.session.run(outputs, inputs)


def _work(pipe: Connection, requests: Sequence[Sequence[Path]]) -> None:
    real, settings = load_models(), Settings()
    detector, encoder = _Noting(real.detector), _Noting(real.encoder)
    noting = replace(real, encoder=encoder, detector=detector)
    noted, embed = [detector, encoder], named_embedder(settings.encoder, noting)
    if isinstance(embed, CampplusEncoder):
        noted.append(_Noting(embed.session))
        embed = replace(embed, session=noted[-1])
    opened, heard_s = 0, 0.0
    for paths in requests:
        speech = collect_speech(
            (RecordingSource(name=path.name, data=path.read_bytes(), channel=0) for path in paths),
            need_s=settings.enrollment.net_speech_s,
            models=noting,
            strict=settings.audio.strict,
            max_duration_s=settings.audio.max_duration_s,
        )
        embed(speech.samples)
        opened += speech.recordings_used
        heard_s += speech.quality.duration_s or 0.0
    pipe.send({"recordings_heard": opened, "heard_s": heard_s})
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        for one in noted:
            for outputs, inputs in one.calls:
                one.session.run(outputs, inputs)
        pipe.send("done")


def _received(pipe: Connection) -> Any:
    if not pipe.poll(LIMIT_S):
        raise TimeoutError(f"a floor process said nothing for {LIMIT_S:.0f} s")
    return pipe.recv()
