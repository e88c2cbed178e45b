"""Measure how often a second voice is found in recordings of two people, and in those of one.

Recordings are composed of real speech (see `mixtures`), sent over simulated lines, and pass through the steps
of an enrollment: speech is collected, and searched for a second voice.
"""

from __future__ import annotations

import multiprocessing
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from sonant.errors import AudioError, NotEnoughSpeech, SetupError
from sonant.evaluation.channels import parse
from sonant.evaluation.cutting import SegmentedRecording, segment_recording
from sonant.evaluation.embedding import read
from sonant.evaluation.mixtures import Mixture, compose
from sonant.settings import Audio
from sonant.voice.enrollment import collect_from_blocks
from sonant.voice.models import Models, load_models
from sonant.voice.single_voice import WARN, keep_single_voice
from sonant.voice.turns import NOBODY_ELSE

LINES = ("clean", "g711", "gsm", "pink:15+g711", "narrow+g711-a")
"""Lines that the recordings are sent over, in turn."""
GAPS_S = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)
BLEEDS_DB = (-20.0, -15.0, -10.0, -5.0, 0.0)
LONG_S, SHORT_S = (1.6, 6.0), (0.8, 2.0)
"""Shortest and longest clip of one person between two changes of speaker."""
_SPARE = 1.1  # composed beyond the speech that is collected, since a line hides some of it
_FEWEST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A kind of recordings to be measured."""

    group: str
    mixture: Mixture
    line: str = ""
    """The line of all recordings; empty for LINES in turn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What was found in the recordings of one condition with one length of speech."""

    condition: Condition
    net_speech_s: float
    recordings: int
    possible: int
    """Recordings in which a second voice is possible, or certain."""
    certain: int
    unusable: int
    """Further recordings in which too little speech was found."""


def conditions() -> list[Condition]:
    """List the conditions with a second voice."""
    found = []
    for clip_s, clips in ((LONG_S, "clips of 1.6 to 6 s"), (SHORT_S, "clips of 0.8 to 2 s")):
        found += [
            Condition(
                group=f"in turn, {clips}, gap",
                mixture=Mixture(name=f"{gap_s:.1f} s", gap_s=gap_s, clip_s=clip_s),
            )
            for gap_s in GAPS_S
        ]
        found += [
            Condition(
                group=f"in turn, {clips}, gap 0.2 s, share of the second person",
                mixture=Mixture(name=f"{share:.0%}", gap_s=0.2, clip_s=clip_s, share=share),
            )
            for share in SHARES
        ]
    found += [
        Condition(
            group="at once, level of the second person",
            mixture=Mixture(name=f"{level_db:.0f} dB", gap_s=0.1, overlap=1.0, level_db=level_db),
        )
        for level_db in (0.0, -6.0)
    ]
    found.append(
        Condition(
            group="in turn, half of each answer over the other's speech",
            mixture=Mixture(name="0 dB", gap_s=0.1, overlap=0.5),
        )
    )
    found.append(Condition(group="seven people at once", mixture=Mixture(name="0 dB", people=7, gap_s=0.2)))
    found += [
        Condition(
            group="the other side of the call bleeds in, level",
            mixture=Mixture(name=f"{level_db:.0f} dB", level_db=level_db),
        )
        for level_db in BLEEDS_DB
    ]
    return found


def single_conditions() -> list[Condition]:
    """List the conditions with one person: every line, with clips of both lengths."""
    return [
        Condition(
            group=f"one person, {clips}, line",
            mixture=Mixture(name=line, people=1, clip_s=clip_s),
            line=line,
        )
        for clip_s, clips in ((LONG_S, "clips of 1.6 to 6 s"), (SHORT_S, "clips of 0.8 to 2 s"))
        for line in LINES
    ]


def measure(
    people: Mapping[str, Sequence[Path]],
    wanted: Sequence[Condition],
    *,
    recordings: int,
    net_speech_s: Sequence[float],
    audio: Audio,
    seed: int,
    workers: int,
    progress: Callable[[int, int], None],
) -> Iterator[Counts]:
    """Compose `recordings` recordings of each condition and length of speech, and search them.

    Who speaks with whom is drawn anew for each; everybody speaks equally often first. Raises SetupError for
    fewer than three people, or when a process ends early.
    """
    if len(people) < _FEWEST:
        raise SetupError(f"recordings of {len(people)} people were given, must be of at least {_FEWEST}")
    rows = [(condition, net_s) for condition in wanted for net_s in net_speech_s]
    jobs = [
        _Job(condition=condition, net_speech_s=net_s, recordings=recordings, seed=(seed, number))
        for number, (condition, net_s) in enumerate(rows)
    ]
    if workers <= 1:
        _start(people, audio)
        for done, job in enumerate(jobs, 1):
            yield _count(job)
            progress(done, len(jobs))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), context, _start, (people, audio)) as pool:
        try:
            for done, counts in enumerate(pool.map(_count, jobs), 1):
                yield counts
                progress(done, len(jobs))
        except BrokenProcessPool:
            raise SetupError(
                "a process was ended from outside: if memory is short, use fewer workers"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    condition: Condition
    net_speech_s: float
    recordings: int
    seed: tuple[int, int]


_people: dict[str, tuple[Path, ...]] = {}
_audio = Audio()


def _start(people: Mapping[str, Sequence[Path]], audio: Audio) -> None:
    global _people, _audio
    _people, _audio = {name: tuple(files) for name, files in people.items()}, audio
    _segmented.cache_clear()


@cache
def _models() -> Models:
    return load_models()


@cache
def _segmented(person: str) -> tuple[SegmentedRecording, ...]:
    """Read a person's recordings; those that cannot be read are left out."""
    found = []
    for file in _people[person]:
        try:
            found.append(segment_recording(str(file), read(file, _audio), _models()))
        except AudioError:
            continue
    usable = tuple(one for one in found if one.spans)
    if not usable:
        raise SetupError(f"no speech was found in the recordings of {person}")
    return usable


def _count(job: _Job) -> Counts:
    mixture, names = job.condition.mixture, sorted(_people)
    rng = np.random.default_rng([*job.seed, zlib.crc32(mixture.name.encode())])
    possible = certain = unusable = 0
    for number in range(job.recordings):
        others = [name for name in names if name != names[number % len(names)]]
        drawn = [others[index] for index in rng.permutation(len(others))[: mixture.people - 1]]
        composed = compose(
            mixture,
            [_segmented(name) for name in (names[number % len(names)], *drawn)],
            net_speech_s=_SPARE * job.net_speech_s + 1.0,
            rng=rng,
        )
        line = parse(job.condition.line or LINES[number % len(LINES)])
        sent = line.apply(composed.samples, seed=(*job.seed, number))
        try:
            speech = collect_from_blocks(
                [[sent]], need_s=job.net_speech_s, at_least_s=0.9 * job.net_speech_s, models=_models()
            )
        except NotEnoughSpeech:
            unusable += 1
            continue
        found = keep_single_voice(speech, _models(), WARN).second_voice or NOBODY_ELSE
        possible += found.possible
        certain += found.certain
    return Counts(
        condition=job.condition,
        net_speech_s=job.net_speech_s,
        recordings=job.recordings - unusable,
        possible=possible,
        certain=certain,
        unusable=unusable,
    )
