"""`sonant calibrate --model`: what the similarities of a voice model that was added mean, from the ground up.

Recordings are heard as they are and over three simulated lines, noisier and noisier, each against each, so
that the calibration knows short probes and bad lines. Strangers alone decide what a score stands for; of the
same person only the likelihood ratio is learned, and how many would be rejected is shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from sonant.assembly.installation import open_store
from sonant.cli.calibrate import SHOWN_SCORES, percent, refuse_few, refuse_unsupported
from sonant.cli.common import table
from sonant.cli.folder_comparisons import compared, listen
from sonant.cli.models import SHIPPED
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
from sonant.voice.models import shipped_encoder_id

#: From the recording as it is to one for each level of noise that a calibration tells apart.
CHANNELS = ("clean", "babble:24+g711", "pink:16+gsm", "reverb:0.4+white:9+g711-a")
CONDITIONS = Conditions(
    references=2,
    probes=3,
    lines=tuple(Line(reference=one, probe=two) for one in CHANNELS for two in CHANNELS),
)
#: Comparisons of one condition beyond these are of pairs of people that were counted already.
MOST_A_CONDITION = 20_000
#: A probe counts for a length of which it has at least this share; the line may have hidden the rest.
LEAST_SHARE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFit:
    """A model's calibration, and what it was made of."""

    calibration: Calibration
    grid: GridFit
    people: int
    genuine: ComparisonTable


def calibrate_model(
    settings: Settings,
    model_id: str,
    speech: Path,
    *,
    apply: bool,
    quiet: bool,
    conditions: Conditions = CONDITIONS,
) -> int:
    """Fit a calibration of an added model and show it; with `apply` it is the model's. Raises SetupError."""
    files = ModelFiles(settings.data)
    if model_id in (SHIPPED, shipped_encoder_id()):
        raise SetupError(
            "the voice model that ships has its calibration: leave --model out to fit it to your own callers"
        )
    files.get(model_id)
    if apply:
        _refuse_replacing(settings, model_id)
    recordings = recordings_by_speaker(speech)
    refuse_few(len(recordings))
    made = fit_model(model_id, listen(settings, recordings, conditions, model_id, quiet=quiet))
    settle(files, made, conditions, apply=apply)
    return 0


def settle(files: ModelFiles, made: ModelFit, conditions: Conditions, *, apply: bool) -> None:
    """Show a fit, and with `apply` keep it. Raises SetupError when it supports too little to be kept."""
    model_id = made.calibration.model_id
    supported = made.calibration.supported_log10_far
    click.echo(
        f"{made.people} speakers, {len(made.grid.strangers):,} comparisons of strangers, "
        f"{len(made.genuine):,} of one person"
    )
    click.echo(_places(made.grid))
    click.echo(_scores(made))
    refuse_unsupported(supported)
    click.echo(f"supported down to a FAR of {percent(supported)}; below that the curve is extended")
    text = write_calibration(
        made.calibration,
        {
            "speech": f"recordings of {made.people} speakers",
            "lines": sorted({name for line in conditions.lines for name in (line.reference, line.probe)}),
            "pairs_of_people": made.grid.support.pairs,
            "comparisons": len(made.grid.strangers),
        },
    )
    calibration_for(text, model_id)
    if not apply:
        click.echo("nothing was changed; --apply makes it the model's calibration")
        return
    files.put_calibration(model_id, text)
    click.echo(f"{model_id} is calibrated")


def fit_model(model_id: str, outcomes: list[Outcome]) -> ModelFit:
    """Fit the grid to strangers and the likelihood ratio to both. Raises SetupError."""
    rng = np.random.default_rng(1)
    found = [_nominal(outcome) for outcome in outcomes]
    strangers = concatenate([_some(one.select(~one.genuine), rng) for one in found])
    genuine = concatenate([one.select(one.genuine) for one in found])
    people = len(np.union1d(strangers.first, strangers.second))
    refuse_few(people)
    if not len(genuine):
        raise SetupError("no two recordings of one speaker could be compared: two or more of each are needed")
    grid = fit_grid(model_id, strangers)
    slope, offset = fit_llr(genuine.deviations(grid.calibration), grid.strangers)
    if slope <= 0:
        raise SetupError(f"to {model_id} these people are no more like themselves than like each other")
    return ModelFit(
        calibration=replace(grid.calibration, llr_slope=slope, llr_offset=offset),
        grid=grid,
        people=people,
        genuine=genuine,
    )


def _nominal(outcome: Outcome) -> ComparisonTable:
    """Comparisons of probes that have the condition's length, as of exactly that length."""
    assert outcome.test_s is not None  # only a trial list has probes of any length
    found = compared(outcome)
    found = found.select(found.speech_s >= LEAST_SHARE * outcome.test_s)
    return replace(found, speech_s=np.full(len(found), outcome.test_s))


def _some(strangers: ComparisonTable, rng: np.random.Generator) -> ComparisonTable:
    return strangers.select(np.sort(rng.permutation(len(strangers))[:MOST_A_CONDITION]))


def _refuse_replacing(settings: Settings, model_id: str) -> None:
    """Own calibrations say where strangers lie on the present scale: on another they would be wrong."""
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


def _places(grid: GridFit) -> str:
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


def _scores(made: ModelFit) -> str:
    supported = made.calibration.supported_log10_far
    z = made.genuine.deviations(made.calibration)
    lengths = sorted(set(made.genuine.speech_s.tolist()), reverse=True)
    rows = []
    for score in SHOWN_SCORES:
        claim = log10_far_of(score)
        low, high = made.grid.support.interval(claim)
        told = f"{percent(claim)} ({percent(low)} to {percent(high)})"
        rejected = z < OwnFit.shipped_deviation(score)
        rows.append(
            (
                score,
                told if claim >= supported else f"{told}, not supported",
                *(_share(rejected, made.genuine.speech_s == length) for length in lengths),
            )
        )
    return table(rows, ("score", "FAR (95 %)", *(f"FRR {length:g} s" for length in lengths)))


def _share(rejected: NDArray[np.bool_], which: NDArray[np.bool_]) -> str:
    return f"{np.mean(rejected[which]):.1%}"
