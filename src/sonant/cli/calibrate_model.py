"""`sonant calibrate --model`: the calibration of an added voice model, fitted from the ground up.

Recordings are compared as they are and over three simulated lines, each noisier than the one before, each
against each, so that the calibration covers short probes and bad lines. Impostor comparisons alone decide
what a score stands for; genuine ones fit the likelihood ratio only, and show how many would be rejected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sonant.assembly.installation import open_store
from sonant.cli.calibration_report import SHOWN_SCORES, percent, refuse_unsupported, require_enough_speakers
from sonant.cli.context import CliContext, table
from sonant.cli.folder_comparisons import compare_folder, compared
from sonant.cli.voice_models import SHIPPED
from sonant.errors import SetupError
from sonant.evaluation.run import Conditions, Line, Outcome
from sonant.evaluation.trials import recordings_by_speaker
from sonant.jobs.model_registry import calibration_for
from sonant.settings import Settings
from sonant.storage.model_files import ModelFiles
from sonant.storage.repositories import calibrations
from sonant.voice.calibration.file import write_calibration
from sonant.voice.calibration.fit import OwnFit, fit_llr
from sonant.voice.calibration.grid import ComparisonTable, GridFit, concatenate, fit_grid
from sonant.voice.calibration.model import Calibration, log10_far_of
from sonant.voice.models.packaged import packaged_entry

#: The recording as it is, and one line for each other level of noise of a calibration.
CHANNELS = ("clean", "babble:24+g711", "pink:16+gsm", "reverb:0.4+white:9+g711-a")
CONDITIONS = Conditions(
    references=2,
    probes=3,
    lines=tuple(Line(reference=one, probe=two) for one in CHANNELS for two in CHANNELS),
)
#: More comparisons of one condition would only repeat pairs of people.
MOST_A_CONDITION = 20_000
#: A probe counts for a length of which it has at least this share; the line may have masked the rest.
LEAST_SHARE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFit:
    """A model's calibration, and the comparisons that it was fitted to."""

    calibration: Calibration
    grid: GridFit
    speakers: int
    genuine: ComparisonTable


def calibrate_model(
    cli: CliContext,
    settings: Settings,
    model_id: str,
    speech: Path,
    *,
    apply: bool,
    conditions: Conditions = CONDITIONS,
) -> None:
    """Fit a calibration of an added model and show it; with `apply` the model gets it. Raises SetupError."""
    files = ModelFiles(settings.data)
    if model_id == SHIPPED or packaged_entry(model_id) is not None:
        raise SetupError(
            "a voice model that ships has its calibration: leave --model out to fit it to your own callers"
        )
    files.get(model_id)
    if apply:
        _refuse_replacing(settings, model_id)
    recordings = recordings_by_speaker(speech)
    require_enough_speakers(len(recordings))
    made = fit_model(model_id, compare_folder(cli, settings, recordings, conditions, model_id))
    show_fit(cli, files, made, conditions, apply=apply)


def show_fit(
    cli: CliContext, files: ModelFiles, made: ModelFit, conditions: Conditions, *, apply: bool
) -> None:
    """Show a fit, and with `apply` store it. Raises SetupError when it supports too little to be used."""
    model_id = made.calibration.model_id
    supported = made.calibration.supported_log10_far
    scores = _scores(made)
    lines = [
        f"{made.speakers} speakers, {len(made.grid.strangers):,} comparisons of strangers, "
        f"{len(made.genuine):,} of one person",
        _nodes_table(made.grid),
        _scores_table(scores),
    ]
    try:
        refuse_unsupported(supported)
    except SetupError:
        cli.print_text("\n".join(lines))
        raise
    lines.append(f"supported down to a FAR of {percent(supported)}; below that the curve is extended")
    evidence = {
        "speech": f"recordings of {made.speakers} speakers",
        "lines": sorted({name for line in conditions.lines for name in (line.reference, line.probe)}),
        "pairs_of_people": made.grid.support.pairs,
        "comparisons": len(made.grid.strangers),
    }
    text = write_calibration(made.calibration, evidence)
    calibration_for(text, model_id)
    if apply:
        files.put_calibration(model_id, text)
        lines.append(f"{model_id} is calibrated")
    else:
        lines.append("nothing was changed; --apply makes it the model's calibration")
    document: dict[str, Any] = {
        "ModelId": model_id,
        "Speakers": made.speakers,
        "ImpostorComparisons": len(made.grid.strangers),
        "GenuineComparisons": len(made.genuine),
        "SupportedLog10Far": supported,
        "Evidence": evidence,
        "Scores": scores,
        "Applied": apply,
    }
    cli.show(document, lines)


def fit_model(model_id: str, outcomes: list[Outcome]) -> ModelFit:
    """Fit the grid to impostor comparisons and the likelihood ratio to all. Raises SetupError."""
    rng = np.random.default_rng(1)
    found = [_nominal(outcome) for outcome in outcomes]
    impostor = concatenate([_sample(one.select(~one.genuine), rng) for one in found])
    genuine = concatenate([one.select(one.genuine) for one in found])
    speakers = len(np.union1d(impostor.first, impostor.second))
    require_enough_speakers(speakers)
    if not len(genuine):
        raise SetupError("no two recordings of one speaker could be compared: two or more of each are needed")
    grid = fit_grid(model_id, impostor)
    slope, offset = fit_llr(genuine.deviations(grid.calibration), grid.strangers)
    if slope <= 0:
        raise SetupError(f"to {model_id} these people are no more like themselves than like each other")
    return ModelFit(
        calibration=replace(grid.calibration, llr_slope=slope, llr_offset=offset),
        grid=grid,
        speakers=speakers,
        genuine=genuine,
    )


def _nominal(outcome: Outcome) -> ComparisonTable:
    """Give the comparisons of probes of the condition's length, as of exactly that length."""
    assert outcome.test_s is not None  # only a trial list has probes of any length
    found = compared(outcome)
    found = found.select(found.speech_s >= LEAST_SHARE * outcome.test_s)
    return replace(found, speech_s=np.full(len(found), outcome.test_s))


def _sample(impostor: ComparisonTable, rng: np.random.Generator) -> ComparisonTable:
    """Draw at most MOST_A_CONDITION comparisons."""
    return impostor.select(np.sort(rng.permutation(len(impostor))[:MOST_A_CONDITION]))


def _refuse_replacing(settings: Settings, model_id: str) -> None:
    """Raise SetupError for a model on top of whose calibration a domain has its own.

    Own calibrations describe impostor scores on the present scale: on another they would be wrong.
    """
    store = open_store(settings)
    try:
        with store.database.read() as connection:
            found = calibrations.domains_with(connection, model_id)
    finally:
        store.database.close()
    if found:
        raise SetupError(
            f"domain {found[0]} has an own calibration on top of the one that {model_id} has: "
            f"take it back first with `sonant calibrate --domain {found[0]} --undo`"
        )


def _nodes_table(grid: GridFit) -> str:
    rows = [
        (
            f"{node.speech_s:g} s",
            f"{node.snr_db:.1f} dB",
            f"{count:,}",
            f"{node.tail.z.mean:.3f}",
            f"{node.tail.z.deviation:.3f}",
        )
        for node, count in zip(grid.calibration.nodes, grid.counts, strict=True)
    ]
    return table(rows, ("speech", "above noise", "comparisons", "mean of z", "deviation"))


def _scores(made: ModelFit) -> list[dict[str, Any]]:
    """Give what each shown score stands for; rejections by the net speech of the probe in seconds."""
    supported = made.calibration.supported_log10_far
    z = made.genuine.deviations(made.calibration)
    lengths_s = sorted(set(made.genuine.speech_s.tolist()), reverse=True)
    scores = []
    for score in SHOWN_SCORES:
        claimed = log10_far_of(score)
        rejected = z < OwnFit.shipped_deviation(score)
        scores.append(
            {
                "Score": score,
                "Log10Far": claimed,
                "Log10FarInterval": list(made.grid.support.interval(claimed)),
                "Supported": bool(claimed >= supported),
                "Frr": {
                    length_s: float(np.mean(rejected[made.genuine.speech_s == length_s]))
                    for length_s in lengths_s
                },
            }
        )
    return scores


def _scores_table(scores: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for one in scores:
        low, high = one["Log10FarInterval"]
        claimed = f"{percent(one['Log10Far'])} ({percent(low)} to {percent(high)})"
        rows.append(
            (
                one["Score"],
                claimed if one["Supported"] else f"{claimed}, not supported",
                *(f"{rate:.1%}" for rate in one["Frr"].values()),
            )
        )
    return table(rows, ("score", "FAR (95 %)", *(f"FRR {length_s:g} s" for length_s in scores[0]["Frr"])))
