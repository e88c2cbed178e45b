"""A folder of recordings, one sub-folder a speaker, heard by a voice model and compared with each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import numpy as np

from sonant.cli.common import show_progress
from sonant.evaluation.run import Conditions, Outcome, evaluate_speakers
from sonant.jobs.model_registry import embedder_opener
from sonant.settings import Settings
from sonant.storage.model_files import ModelFiles
from sonant.voice.calibration.grid import ComparisonTable


def listen(
    settings: Settings,
    recordings: Mapping[str, Sequence[Path]],
    conditions: Conditions,
    model_id: str,
    *,
    quiet: bool,
) -> list[Outcome]:
    """Similarities under each condition. Raises SetupError."""
    opener = embedder_opener(ModelFiles(settings.data), model_id)
    with click.progressbar(length=len(recordings), label="listening", hidden=not show_progress(quiet)) as bar:
        return evaluate_speakers(
            recordings,
            conditions,
            audio=settings.audio,
            workers=settings.workers,
            progress=lambda done, _total: bar.update(done - bar.pos),
            opener=opener,
        )


def compared(outcome: Outcome) -> ComparisonTable:
    """What could be compared: both sides gave an embedding."""
    return ComparisonTable(
        similarity=outcome.raw,
        first=outcome.reference_speaker,
        second=outcome.probe_speaker,
        speech_s=outcome.speech_s,
        snr_db=outcome.snr_db,
    ).select(np.isfinite(outcome.raw))
