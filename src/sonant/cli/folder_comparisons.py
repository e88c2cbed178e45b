"""Comparisons of the recordings of a folder, one sub-folder a speaker, by a voice model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sonant.cli.context import CliContext
from sonant.evaluation.run import Conditions, Outcome, evaluate_speakers
from sonant.jobs.model_registry import embedder_opener
from sonant.settings import Settings
from sonant.storage.model_files import ModelFiles
from sonant.voice.calibration.grid import ComparisonTable


def compare_folder(
    cli: CliContext,
    settings: Settings,
    recordings: Mapping[str, Sequence[Path]],
    conditions: Conditions,
    model_id: str,
) -> list[Outcome]:
    """Compare recordings by speaker under each condition. Raises SetupError."""
    opener = embedder_opener(ModelFiles(settings.data), model_id)
    with cli.progress_bar(length=len(recordings), label="embedding") as bar:
        return evaluate_speakers(
            recordings,
            conditions,
            audio=settings.audio,
            workers=settings.workers,
            progress=lambda done, _total: bar.update(done - bar.pos),
            opener=opener,
        )


def compared(outcome: Outcome) -> ComparisonTable:
    """Give the comparisons whose two recordings both gave an embedding."""
    return ComparisonTable(
        similarity=outcome.raw,
        first=outcome.reference_speaker,
        second=outcome.probe_speaker,
        speech_s=outcome.speech_s,
        snr_db=outcome.snr_db,
    ).select(np.isfinite(outcome.raw))
