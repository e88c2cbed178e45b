"""`sonant calibrate spoofing`: what voice spoofing risks mean on the operator's own lines.

Genuine recordings alone are needed: a risk says how rarely genuine speech reaches it. The shipped networks
and all countermeasures that were added are calibrated together, so that their false alarms do not add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from sonant.assembly.installation import open_store
from sonant.cli.context import CliContext, Command, pass_cli, table
from sonant.errors import AudioError, SetupError
from sonant.evaluation.trials import recordings_by_speaker
from sonant.jobs.countermeasures import calibration_in_use, open_added, parse_calibration
from sonant.settings import Settings
from sonant.storage.countermeasure_files import CountermeasureFiles
from sonant.storage.times import now
from sonant.voice.audio.recording import decode
from sonant.voice.models import load_models
from sonant.voice.speech import analyze
from sonant.voice.spoofing.models import CalibratedCountermeasure, SpoofingModels, load_spoofing_models
from sonant.voice.spoofing.own_calibration import (
    GenuineScores,
    OwnSpoofingCalibration,
    false_alarm_interval,
    fit_own,
)
from sonant.voice.spoofing.synthetic_speech import SyntheticSpeechResult, score_synthetic_speech
from sonant.voice.spoofing.tail import GenuineTail, share_of

SHOWN_RISKS = (25, 50, 75)
#: Scores are wanted for every recording, whatever their meaning.
_ANY_TAIL = GenuineTail(middle=0.0, tail=1.0, scale=1.0)


@click.command("spoofing", cls=Command)
@click.option(
    "--speech",
    type=click.Path(path_type=Path),
    help="Genuine recordings of your own lines, one sub-folder a speaker.",
)
@click.option("--apply", is_flag=True, help="Put the result into use.")
@click.option("--undo", is_flag=True, help="Take the newest calibration back.")
@click.option("--show", is_flag=True, help="List the calibrations, the one in use first.")
@pass_cli
def spoofing(cli: CliContext, speech: Path | None, apply: bool, undo: bool, show: bool) -> None:
    """Measure what voice spoofing risks mean on your own lines, with all countermeasures that were added."""
    if apply + undo + show > 1:
        raise click.UsageError("--apply, --undo and --show exclude each other")
    if (speech is None) != (undo or show):
        raise click.UsageError("give genuine recordings with --speech DIR, or --undo or --show alone")
    settings = cli.settings()
    open_store(settings).database.close()
    files = CountermeasureFiles(settings.data)
    if speech is not None:
        calibrate_spoofing(cli, settings, files, speech, apply=apply)
        return
    if undo and not files.undo_calibration():
        raise SetupError("there is no own calibration of the spoofing detectors to take back")
    show_calibrations(cli, files)


def calibrate_spoofing(
    cli: CliContext, settings: Settings, files: CountermeasureFiles, speech: Path, *, apply: bool
) -> None:
    """Fit a calibration and show what changes; with `apply` it is used from now on. Raises SetupError."""
    models = every_detector(files)
    scored = score_folder(cli, settings, models, recordings_by_speaker(speech))
    made = fit_own(scored.scores)
    before = calibration_in_use(files) or shipped_calibration(models)
    rows = _rows(scored.scores, before, made)
    recordings, people = len(scored.scores.people), len(np.unique(scored.scores.people))
    low, high = false_alarm_interval(scored.scores, SHOWN_RISKS[1])
    lines = [
        f"{recordings} recordings of {people} people, {scored.left_out} left out (unreadable, or under 3 s)",
        f"detectors: {', '.join(['shipped networks', *made.added])}",
        table(
            [(one["Risk"], *(f"{one[name]:.1%}" for name in ("Stated", "Before", "After"))) for one in rows],
            ("risk", "stated", "flagged before", "flagged after"),
        ),
        f"of people who are not among these, {low:.1%} to {high:.1%} reach {SHOWN_RISKS[1]} (95 %)",
    ]
    evidence = {"recordings": recordings, "people": people}
    if apply:
        created_at = f"{now():%Y-%m-%dT%H:%M:%SZ}"
        files.put_calibration({"created_at": created_at, "evidence": evidence, **made.document()})
        lines.append("counts from now on; `sonant calibrate spoofing --undo` takes it back")
    else:
        lines.append("nothing was changed; --apply makes it count")
    document = {
        "Evidence": evidence,
        "LeftOut": scored.left_out,
        "Countermeasures": list(made.added),
        "Risks": rows,
        "FlaggedOfOthersAt50": [low, high],
        "Applied": apply,
    }
    cli.show(document, lines)


def every_detector(files: CountermeasureFiles) -> SpoofingModels:
    """Open the shipped networks and all countermeasures, calibrated or not. Raises SetupError."""
    opened = [open_added(files, model_id) for model_id in files.models.ids()]
    added = tuple(CalibratedCountermeasure(countermeasure=one, tail=_ANY_TAIL) for one in opened)
    return replace(load_spoofing_models(), added=added)


def shipped_calibration(models: SpoofingModels) -> OwnSpoofingCalibration:
    """Give the calibration of the shipped networks, which covers no countermeasure."""
    known = models.calibration
    return OwnSpoofingCalibration(alone=known.alone, together=known.together, added={}, factor=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRecordings:
    """The scores of a folder's recordings."""

    scores: GenuineScores
    left_out: int
    """Recordings that cannot be read, or have too little speech."""


def score_folder(
    cli: CliContext,
    settings: Settings,
    models: SpoofingModels,
    recordings: Mapping[str, Sequence[Path]],
) -> ScoredRecordings:
    """Score every recording with all detectors, as jobs do. Raises SetupError if none can be scored."""
    people: list[int] = []
    results: list[SyntheticSpeechResult] = []
    voice_models, left_out = load_models(), 0
    files = [(number, path) for number, paths in enumerate(recordings.values()) for path in paths]
    with cli.progress_bar(files, label="scoring") as bar:
        for person, path in bar:
            try:
                audio = decode(
                    path.read_bytes(),
                    channel=0,
                    strict=settings.audio.strict,
                    max_duration_s=settings.audio.max_duration_s,
                )
                found = score_synthetic_speech(
                    analyze(audio.samples, voice_models).speech,
                    models,
                    max_s=settings.fraud.spoofing_max_s,
                    windows=settings.fraud.spoofing_windows,
                )
            except (AudioError, OSError):
                left_out += 1
                continue
            if not np.isfinite(list(found.added.values())).all():
                raise SetupError(f"a countermeasure gives no number for {path.name}: remove it")
            people.append(person)
            results.append(found)
    if not results:
        raise SetupError("none of the recordings can be read and has 3 s of speech")
    return ScoredRecordings(scores=GenuineScores.of(people, results), left_out=left_out)


def show_calibrations(cli: CliContext, files: CountermeasureFiles) -> None:
    """List the calibrations, the one in use first. Raises SetupError."""
    documents = files.calibrations()
    rows: list[tuple[Any, ...]] = []
    for one in documents:
        own, evidence = parse_calibration(one), dict(one.get("evidence", {}))
        made = str(one.get("created_at", ""))
        people = evidence.get("people", ""), evidence.get("recordings", "")
        rows.append((made, *people, f"{own.factor:.2f}", ", ".join(own.added) or "-"))
    rows.append(("shipped", "", "", "1.00", "-"))
    header = ("made", "people", "recordings", "factor", "countermeasures")
    cli.show({"Calibrations": documents}, ("the first line counts", table(rows, header)))


def _rows(
    scores: GenuineScores, before: OwnSpoofingCalibration, after: OwnSpoofingCalibration
) -> list[dict[str, Any]]:
    """Give the share of the recordings that each risk flags, before and after."""
    known = {name: tail for name, tail in before.added.items() if name in scores.added}
    before = replace(before, added=known)
    return [
        {
            "Risk": risk,
            "Stated": share_of(risk),
            "Before": float(scores.flagged(before, risk).mean()),
            "After": float(scores.flagged(after, risk).mean()),
        }
        for risk in SHOWN_RISKS
    ]
