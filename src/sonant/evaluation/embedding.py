"""Make templates of one speaker's recordings under every channel, in several processes."""

from __future__ import annotations

import multiprocessing
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from sonant.errors import AudioError, SetupError
from sonant.evaluation import cutting
from sonant.evaluation.channels import parse
from sonant.evaluation.cutting import Piece, SegmentedRecording
from sonant.settings import Audio
from sonant.voice.audio.recording import RATE_HZ, decode
from sonant.voice.models import Models, load_models
from sonant.voice.models.embedding import Embedder
from sonant.voice.sample import VoiceSample

Use = Literal["reference", "probe"]
Opener = Callable[[], Embedder]
"""Opens the voice model under test, once in each process; it must be picklable."""

BABBLE_S = 20.0
"""Speech of each of the other speakers in the babble."""
_RESERVE = 1.5  # recordings are read until they hold this multiple of the speech that the pieces need


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceRequest:
    """The pieces to cut from a speaker's recordings."""

    use: Use
    net_speech_s: float | None
    """Net speech per piece; None uses all of a recording, only for recordings taken whole."""
    at_most: int
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The work on one speaker's recordings, or on one recording of a trial list."""

    speaker: str
    recordings: tuple[Path, ...]
    whole: bool
    """Whether each recording is one piece; otherwise they are cut and joined."""
    requests: tuple[PieceRequest, ...]
    others: tuple[Path, ...]
    """Recordings of other speakers, for babble."""
    seed: int
    audio: Audio


@dataclass(frozen=True, slots=True, kw_only=True)
class PieceTemplates:
    """A piece with its template under each channel; None where nothing could be embedded."""

    speaker: str
    use: Use
    requested_s: float | None
    sources: frozenset[str]
    templates: dict[str, VoiceSample | None]
    refusals: dict[str, str] = field(default_factory=dict)
    """Why nothing could be embedded, by channel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """The pieces of a task."""

    templates: tuple[PieceTemplates, ...]
    unreadable: int
    """Number of recordings that could not be decoded."""


def run_tasks(
    tasks: Sequence[Task],
    *,
    workers: int,
    progress: Callable[[int, int], None],
    opener: Opener | None = None,
) -> Iterator[TaskResult]:
    """Run tasks and yield results in their order. One worker is this process, more are others.

    Without an `opener` the shipped model is used. Raises SetupError if a process ends early.
    """
    if workers <= 1 or len(tasks) <= 1:
        models = load_models()
        embedder = None if opener is None else opener()
        for done, task in enumerate(tasks, 1):
            yield run_task(task, models, embedder)
            progress(done, len(tasks))
        return
    # Spawned: a forked child would inherit the parent's inference threads in an unknown state.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(tasks)), context, _start_worker, (opener,)) as pool:
        try:
            for done, result in enumerate(pool.map(_run_in_worker, tasks), 1):
                yield result
                progress(done, len(tasks))
        except BrokenProcessPool:
            raise SetupError(
                "a process that embeds recordings was ended from outside or by the voice model: "
                "if memory is short, use fewer workers"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def run_task(task: Task, models: Models, embedder: Embedder | None = None) -> TaskResult:
    """Hear, cut, degrade, embed."""
    channels = {name: parse(name) for wanted in task.requests for name in wanted.channels}
    others = _others(task) if any(channel.babbles for channel in channels.values()) else []
    pieces, unreadable = pieces_of(task, models)
    results = []
    for number, (wanted, piece) in enumerate(pieces):
        templates: dict[str, VoiceSample | None] = {}
        refusals: dict[str, str] = {}
        for name in wanted.channels:
            seed = (task.seed, _crc(task.speaker), number, _crc(name))
            degraded = channels[name].apply(piece.samples, seed=seed, others=others)
            try:
                templates[name] = cutting.template(
                    degraded, models, net_speech_s=wanted.net_speech_s, embedder=embedder
                )
            except AudioError as fault:
                templates[name], refusals[name] = None, str(fault)
        results.append(
            PieceTemplates(
                speaker=task.speaker,
                use=wanted.use,
                requested_s=wanted.net_speech_s,
                sources=piece.sources,
                templates=templates,
                refusals=refusals,
            )
        )
    return TaskResult(templates=tuple(results), unreadable=unreadable)


def pieces_of(task: Task, models: Models) -> tuple[list[tuple[PieceRequest, Piece]], int]:
    """Cut the pieces of a task, as recorded, and count the recordings that could not be read."""
    rng = np.random.default_rng([task.seed, _crc(task.speaker)])
    enough = _RESERVE * RATE_HZ * sum((want.net_speech_s or 0) * want.at_most for want in task.requests)
    segmented: list[SegmentedRecording] = []
    unreadable = 0
    for index in rng.permutation(len(task.recordings)):
        if not task.whole and sum(recording.net_samples for recording in segmented) > enough:
            break
        try:
            samples = read(task.recordings[index], task.audio)
            segmented.append(cutting.segment_recording(str(task.recordings[index]), samples, models))
        except AudioError:
            unreadable += 1
    if task.whole:
        whole = [
            (want, cutting.beginning(task.speaker, recording, want.net_speech_s))
            for want in task.requests
            for recording in segmented
        ]
        return whole, unreadable
    return [
        (want, piece)
        for want in task.requests
        for piece in cutting.cut(
            task.speaker,
            segmented,
            net_speech_s=want.net_speech_s or 0,
            at_most=want.at_most,
            rng=rng,
            passes=cutting.PASSES if want.use == "reference" else 1,
        )
    ], unreadable


def read(file: Path, limits: Audio) -> cutting.Samples:
    """Decode the first channel of a recording at 8 kHz. Raises AudioError, also for unreadable files."""
    try:
        if file.stat().st_size > limits.max_file_bytes:
            raise AudioError(f"file is larger than {limits.max_file_bytes:,} bytes")
        data = file.read_bytes()
    except OSError as fault:
        raise AudioError(f"cannot be read: {fault.strerror}") from None
    return decode(data, channel=0, strict=False, max_duration_s=limits.max_duration_s).samples


def _others(task: Task) -> list[cutting.Samples]:
    found = []
    for file in task.others:
        try:
            found.append(read(file, task.audio)[: int(BABBLE_S * RATE_HZ)])
        except AudioError:
            continue
    return found


def _crc(text: str) -> int:
    return zlib.crc32(text.encode())


_opener: Opener | None = None


def _start_worker(opener: Opener | None) -> None:
    global _opener
    _opener = opener


@cache
def _opened() -> tuple[Models, Embedder | None]:
    """Open the models with the first task, which can report a fault; a pool's initializer cannot."""
    return load_models(), None if _opener is None else _opener()


def _run_in_worker(task: Task) -> TaskResult:
    return run_task(task, *_opened())
