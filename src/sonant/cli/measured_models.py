"""Voice models under test, and the comparisons of `sonant evaluate verification` with each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from sonant.cli.context import CliContext
from sonant.demo.speech import fetch_voices
from sonant.evaluation.embedding import Opener
from sonant.evaluation.paired import compare_models
from sonant.evaluation.paired_report import PairedReport
from sonant.evaluation.run import Conditions, Outcome, evaluate_speakers, evaluate_trials
from sonant.evaluation.scorer import Scorer, calibrated, cosine
from sonant.evaluation.trials import (
    SPEAKERS_FILE,
    SpeakerInfo,
    read_speaker_info,
    read_trials,
    recordings_by_speaker,
    speakers_of,
)
from sonant.jobs.model_registry import embedder_opener, model_calibration
from sonant.settings import Settings
from sonant.storage.model_files import ModelFiles
from sonant.voice.models.packaged import encoder_id, packaged_entry

#: Genders of the telephone voices, as their packages state them.
GENDERS = {
    "english": "F",
    "french": "F",
    "french-armelle": "F",
    "italian": "M",
    "italian-menardi": "F",
    "russian": "F",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredModel:
    """The voice model under test."""

    model_id: str
    opener: Opener | None
    scorer: Scorer
    scorer_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelComparisons:
    """Comparisons under each condition."""

    outcomes: list[Outcome]
    data: str
    """The recordings, for the report."""
    speaker_info: Mapping[str, SpeakerInfo]
    """Information about the speakers that comes with the recordings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechSource:
    """Where recordings come from: a folder, a trial list, or else fetched voices."""

    folder: Path | None
    trials: Path | None
    root: Path | None
    cache: Path


def compare_all_speech(
    cli: CliContext,
    settings: Settings,
    conditions: Conditions,
    measured: MeasuredModel,
    source: SpeechSource,
    workers: int,
) -> ModelComparisons:
    """Make all comparisons with one voice model. Raises SetupError."""
    if source.trials:
        return _compare_trials(cli, settings, conditions, measured, source.trials, source.root, workers)
    return _compare_speakers(cli, settings, conditions, measured, source.folder, source.cache, workers)


def paired_results(
    first: MeasuredModel, comparisons: ModelComparisons, second: MeasuredModel, others: ModelComparisons
) -> PairedReport:
    """Compare both models under each condition."""
    pairs = zip(comparisons.outcomes, others.outcomes, strict=True)
    return PairedReport(
        first_id=first.model_id,
        second_id=second.model_id,
        second_scorer=second.scorer_name,
        results=[compare_models(one, other) for one, other in pairs],
    )


def open_measured(settings: Settings, model_id: str | None) -> MeasuredModel:
    """Open the model under test; it need not be calibrated. Raises SetupError for one that is not there."""
    files, found = ModelFiles(settings.data), model_id or encoder_id(settings.encoder)
    opener, ships = embedder_opener(files, found), packaged_entry(found) is not None
    if not ships and files.calibration(found) is None:
        return MeasuredModel(
            model_id=found, opener=opener, scorer=cosine, scorer_name="cosine, not calibrated"
        )
    return MeasuredModel(
        model_id=found,
        opener=opener,
        scorer=calibrated(model_calibration(files, found)),
        scorer_name="the shipped calibration" if ships else "its calibration",
    )


def _compare_trials(
    cli: CliContext,
    settings: Settings,
    conditions: Conditions,
    measured: MeasuredModel,
    trials: Path,
    root: Path | None,
    workers: int,
) -> ModelComparisons:
    """Compare the recordings of a trial list. Raises SetupError."""
    listed = read_trials(trials, root)
    outcomes = evaluate_trials(
        listed,
        speakers_of(listed, (root or trials.parent)),
        conditions,
        audio=settings.audio,
        scorer=measured.scorer,
        workers=workers,
        progress=_Progress(cli.shows_progress),
        opener=measured.opener,
    )
    return ModelComparisons(
        outcomes=outcomes, data=f"{len(listed):,} trials of {trials.name}", speaker_info={}
    )


def _compare_speakers(
    cli: CliContext,
    settings: Settings,
    conditions: Conditions,
    measured: MeasuredModel,
    folder: Path | None,
    cache: Path,
    workers: int,
) -> ModelComparisons:
    """Compare recordings by speaker, of a folder or fetched. Raises SetupError."""
    speaker_info: Mapping[str, SpeakerInfo] = {}
    if folder:
        recordings: Mapping[str, Sequence[Path]] = recordings_by_speaker(folder)
        if (folder / SPEAKERS_FILE).is_file():
            speaker_info = read_speaker_info(folder / SPEAKERS_FILE)
        data = f"{len(recordings)} speakers of {folder.absolute().name}"
    else:
        recordings = fetch_voices(cache.absolute(), progress=cli.report)
        speaker_info = {name: SpeakerInfo(gender=gender) for name, gender in GENDERS.items()}
        data = f"{len(recordings)} telephone voices"
    outcomes = evaluate_speakers(
        recordings,
        conditions,
        audio=settings.audio,
        scorer=measured.scorer,
        workers=workers,
        progress=_Progress(cli.shows_progress),
        opener=measured.opener,
    )
    return ModelComparisons(outcomes=outcomes, data=data, speaker_info=speaker_info)


class _Progress:
    """Counts embedded recordings on one line of a terminal."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown

    def __call__(self, done: int, total: int) -> None:
        if self._shown:
            click.echo(f"\rembedded {done} of {total}", nl=done == total, err=True)
