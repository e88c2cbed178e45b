"""Run trials under conditions: choose the comparisons and score them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sonant.errors import SetupError
from sonant.evaluation.channels import CLEAN, needs_others, parse
from sonant.evaluation.embedding import Opener, PieceRequest, PieceTemplates, Task, Use, run_tasks
from sonant.evaluation.scorer import Scored, Scorer, cosine
from sonant.evaluation.trials import Trial
from sonant.settings import Audio
from sonant.voice.sample import VoiceSample

MAX_IMPOSTORS = 200_000
"""Impostor comparisons of one condition, at most; of more, this many are drawn at random."""

_BABBLE_SPEAKERS = 4

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The channels of references and of probes."""

    reference: str = CLEAN
    probe: str = CLEAN

    @property
    def name(self) -> str:
        """The name in reports."""
        return self.reference if self.reference == self.probe else f"{self.reference} / {self.probe}"

    @classmethod
    def parse(cls, text: str) -> Line:
        """Parse `CHANNEL` for both, or `CHANNEL/CHANNEL`. Raises SetupError."""
        names = [parse(part).name for part in text.split("/")]
        if len(names) > 2:
            raise SetupError(f"channel {text!r}: must be one, or two with a / between them")
        return cls(reference=names[0], probe=names[-1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The varied conditions. Every line is combined with every length of probe."""

    enroll_s: float | None = 30.0
    """Net speech of a reference; None takes all of a recording, only with a trial list."""
    test_s: tuple[float | None, ...] = (10.0, 5.0, 3.0)
    lines: tuple[Line, ...] = (Line(),)
    references: int = 10
    """References per speaker, at most."""
    probes: int = 30
    """Probes per speaker and length, at most."""
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All comparisons of one condition."""

    line: Line
    enroll_s: float | None
    test_s: float | None
    speakers: tuple[str, ...]
    reference_speaker: Indices
    """Shape [n], indices into `speakers`."""
    probe_speaker: Indices
    pieces: Indices
    """Shape [n, 2], the numbers of the reference and of the probe: the same for every voice model, with equal
    conditions and recordings."""
    genuine: NDArray[np.bool_]
    raw: Floats
    """Shape [n]; NaN where the probe gave no template (failure to acquire)."""
    speech_s: Floats
    """Net speech of the probe, and the signal-to-noise ratio of the noisier side; NaN like `raw`."""
    snr_db: Floats
    score: Floats | None
    llr: Floats | None
    references: int
    references_failed: int
    """Pieces from which no reference could be made (failure to enroll); they are in no comparison."""
    probes: int
    probes_failed: int
    unreadable: int
    """Recordings that could not be decoded."""

    def select(self, rows: NDArray[np.bool_] | Indices) -> Outcome:
        """Select comparisons by a mask [n] or by indices."""

        def of(values: Floats | None) -> Floats | None:
            return None if values is None else values[rows]

        return replace(
            self,
            reference_speaker=self.reference_speaker[rows],
            probe_speaker=self.probe_speaker[rows],
            pieces=self.pieces[rows],
            genuine=self.genuine[rows],
            raw=self.raw[rows],
            speech_s=self.speech_s[rows],
            snr_db=self.snr_db[rows],
            score=of(self.score),
            llr=of(self.llr),
        )


def evaluate_speakers(
    recordings: Mapping[str, Sequence[Path]],
    conditions: Conditions,
    *,
    audio: Audio,
    scorer: Scorer = cosine,
    workers: int = 1,
    progress: Progress = lambda _done, _total: None,
    opener: Opener | None = None,
) -> list[Outcome]:
    """Make references and probes of every speaker and compare all with all.

    A genuine comparison is one of two pieces that share no recording. Without an `opener` the shipped voice
    model is measured. Raises SetupError when a condition has nothing to compare.
    """
    pieces, unreadable = _embedded(tasks_of(recordings, conditions, audio=audio), workers, progress, opener)
    return compare_all(pieces, conditions, tuple(recordings), unreadable=unreadable, scorer=scorer)


def compare_all(
    pieces: Sequence[PieceTemplates],
    conditions: Conditions,
    speakers: tuple[str, ...],
    *,
    unreadable: int = 0,
    scorer: Scorer = cosine,
) -> list[Outcome]:
    """Compare all references with all probes under every condition. Raises SetupError as above."""
    outcomes = []
    for line, test_s in ((line, test_s) for line in conditions.lines for test_s in conditions.test_s):
        one = [piece for piece in pieces if piece.use == "reference"]
        two = [piece for piece in pieces if piece.use == "probe" and piece.requested_s == test_s]
        pairs = list_pairs(one, two, np.random.default_rng(conditions.seed))
        outcomes.append(
            _compare(one, two, pairs, line, conditions.enroll_s, test_s, speakers, unreadable, scorer)
        )
    return outcomes


def evaluate_trials(
    trials: Sequence[Trial],
    speaker_of: Mapping[Path, str],
    conditions: Conditions,
    *,
    audio: Audio,
    scorer: Scorer = cosine,
    workers: int = 1,
    progress: Progress = lambda _done, _total: None,
    opener: Opener | None = None,
) -> list[Outcome]:
    """Run the comparisons of a trial list on the first net seconds of each recording, or all of it.

    Trials with recordings that cannot be decoded are left out and counted. Raises SetupError if none remains.
    """
    uses: dict[Path, set[Use]] = {}
    for trial in trials:
        uses.setdefault(trial.reference, set()).add("reference")
        uses.setdefault(trial.probe, set()).add("probe")
    files = sorted(uses)
    tasks = [
        Task(
            speaker=speaker_of[file],
            recordings=(file,),
            whole=True,
            requests=tuple(want for want in _wanted(conditions) if want.use in uses[file]),
            others=_babble_recordings(
                {speaker_of[other]: [other] for other in files}, speaker_of[file], conditions
            ),
            seed=conditions.seed,
            audio=audio,
        )
        for file in files
    ]
    pieces, unreadable = _embedded(tasks, workers, progress, opener)
    outcomes = []
    for line, test_s in ((line, test_s) for line in conditions.lines for test_s in conditions.test_s):
        one = [piece for piece in pieces if piece.use == "reference"]
        two = [piece for piece in pieces if piece.use == "probe" and piece.requested_s == test_s]
        first, second = _places(one), _places(two)
        pairs = np.array(
            [
                (first[str(trial.reference)], second[str(trial.probe)], trial.genuine)
                for trial in trials
                if str(trial.reference) in first and str(trial.probe) in second
            ],
            np.intp,
        ).reshape(-1, 3)
        names = tuple(sorted(set(speaker_of.values())))
        outcomes.append(
            _compare(one, two, pairs, line, conditions.enroll_s, test_s, names, unreadable, scorer)
        )
    return outcomes


def tasks_of(recordings: Mapping[str, Sequence[Path]], conditions: Conditions, *, audio: Audio) -> list[Task]:
    """Build one task per speaker, as `evaluate_speakers` runs them."""
    return [
        Task(
            speaker=speaker,
            recordings=tuple(files),
            whole=False,
            requests=_wanted(conditions),
            others=_babble_recordings(recordings, speaker, conditions),
            seed=conditions.seed,
            audio=audio,
        )
        for speaker, files in recordings.items()
    ]


def _wanted(conditions: Conditions) -> tuple[PieceRequest, ...]:
    reference_channels = tuple(dict.fromkeys(line.reference for line in conditions.lines))
    probe_channels = tuple(dict.fromkeys(line.probe for line in conditions.lines))
    return (
        PieceRequest(
            use="reference",
            net_speech_s=conditions.enroll_s,
            at_most=conditions.references,
            channels=reference_channels,
        ),
        *(
            PieceRequest(use="probe", net_speech_s=test_s, at_most=conditions.probes, channels=probe_channels)
            for test_s in conditions.test_s
        ),
    )


def _babble_recordings(
    recordings: Mapping[str, Sequence[Path]], speaker: str, conditions: Conditions
) -> tuple[Path, ...]:
    """Choose the first recording of each of the next speakers in the list."""
    if not any(needs_others(name) for line in conditions.lines for name in (line.reference, line.probe)):
        return ()
    names = list(recordings)
    at = names.index(speaker)
    return tuple(recordings[name][0] for name in [*names[at + 1 :], *names[:at]][:_BABBLE_SPEAKERS])


def _embedded(
    tasks: Sequence[Task], workers: int, progress: Progress, opener: Opener | None
) -> tuple[list[PieceTemplates], int]:
    pieces: list[PieceTemplates] = []
    unreadable = 0
    for result in run_tasks(tasks, workers=workers, progress=progress, opener=opener):
        pieces += result.templates
        unreadable += result.unreadable
    return pieces, unreadable


def _places(pieces: Sequence[PieceTemplates]) -> dict[str, int]:
    return {source: place for place, piece in enumerate(pieces) for source in piece.sources}


def list_pairs(
    references: Sequence[PieceTemplates], probes: Sequence[PieceTemplates], rng: np.random.Generator
) -> Indices:
    """List rows of (reference, probe, genuine). Of more than MAX_IMPOSTORS impostors, a random part."""
    genuine = [
        (one, two, 1)
        for one, reference in enumerate(references)
        for two, probe in enumerate(probes)
        if reference.speaker == probe.speaker and not reference.sources & probe.sources
    ]
    names = {piece.speaker: number for number, piece in enumerate([*references, *probes])}
    first = np.array([names[piece.speaker] for piece in references], np.intp)
    second = np.array([names[piece.speaker] for piece in probes], np.intp)
    count = len(first) * len(second)
    if count <= 2 * MAX_IMPOSTORS:
        one, two = np.nonzero(first[:, None] != second)
        if len(one) > MAX_IMPOSTORS:
            chosen = np.sort(rng.permutation(len(one))[:MAX_IMPOSTORS])
            one, two = one[chosen], two[chosen]
    else:  # too many to list: draw, and discard repeated and genuine pairs
        one, two = np.divmod(np.unique(rng.integers(0, count, 2 * MAX_IMPOSTORS)), len(second))
        other = first[one] != second[two]
        chosen = np.sort(rng.permutation(np.flatnonzero(other))[:MAX_IMPOSTORS])
        one, two = one[chosen], two[chosen]
    impostors = np.stack([one, two, np.zeros_like(one)], axis=1)
    return np.concatenate([np.array(genuine, np.intp).reshape(-1, 3), impostors])


def _compare(
    references: Sequence[PieceTemplates],
    probes: Sequence[PieceTemplates],
    pairs: Indices,
    line: Line,
    enroll_s: float | None,
    test_s: float | None,
    speakers: tuple[str, ...],
    unreadable: int,
    scorer: Scorer,
) -> Outcome:
    reference_templates = [piece.templates[line.reference] for piece in references]
    probe_templates = [piece.templates[line.probe] for piece in probes]
    pairs = pairs[np.array([reference_templates[one] is not None for one in pairs[:, 0]], np.bool_)]
    if not (pairs[:, 2] == 1).any() or not (pairs[:, 2] == 0).any():
        raise SetupError(
            f"nothing to compare for references of {_seconds(enroll_s)} and probes of {_seconds(test_s)}: "
            f"{len(references)} references, {len(probes)} probes; genuine comparisons need recordings of "
            f"one speaker that make a reference and others that make a probe, impostors two speakers"
        )
    number = {name: index for index, name in enumerate(speakers)}
    found = [
        _scored(scorer, reference_templates[one], probe_templates[two]) for one, two, _ in pairs.tolist()
    ]
    noise_db = np.minimum(_snr_db(reference_templates)[pairs[:, 0]], _snr_db(probe_templates)[pairs[:, 1]])
    speech_s = np.array([np.nan if two is None else two.quality.net_speech_s for two in probe_templates])
    return Outcome(
        line=line,
        enroll_s=enroll_s,
        test_s=test_s,
        speakers=speakers,
        reference_speaker=np.array([number[references[one].speaker] for one in pairs[:, 0]], np.intp),
        probe_speaker=np.array([number[probes[two].speaker] for two in pairs[:, 1]], np.intp),
        pieces=pairs[:, :2],
        genuine=pairs[:, 2] == 1,
        raw=np.array([np.nan if one is None else one.raw for one in found]),
        speech_s=speech_s[pairs[:, 1]],
        snr_db=noise_db,
        score=_column([None if one is None else one.score for one in found], found),
        llr=_column([None if one is None else one.llr for one in found], found),
        references=len(references),
        references_failed=sum(one is None for one in reference_templates),
        probes=len(probes),
        probes_failed=sum(two is None for two in probe_templates),
        unreadable=unreadable,
    )


def _scored(scorer: Scorer, reference: VoiceSample | None, probe: VoiceSample | None) -> Scored | None:
    return None if reference is None or probe is None else scorer(reference, probe)


def _snr_db(templates: Sequence[VoiceSample | None]) -> Floats:
    return np.array([np.nan if one is None else one.quality.snr_db for one in templates])


def _column(values: Sequence[float | None], found: Sequence[Scored | None]) -> Floats | None:
    """Build a column, NaN where there was no comparison; None if the scorer gives no values."""
    if any(value is None for value, one in zip(values, found, strict=True) if one is not None):
        return None
    return np.array([np.nan if value is None else value for value in values])


def _seconds(length_s: float | None) -> str:
    return "any length" if length_s is None else f"{length_s:g} s"
