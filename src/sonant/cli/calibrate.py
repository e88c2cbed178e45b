"""`sonant calibrate`: what scores mean among your own callers.

Strangers come from the domain itself, where every two enrolled speakers are two different people, or from a
folder of recordings. Where it can be had, speech of the same person over again tells how many are rejected.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from sonant.assembly.installation import open_store
from sonant.cli.common import table
from sonant.cli.folder_comparisons import compared, listen
from sonant.cli.folder_domains import opened_domain
from sonant.errors import SetupError
from sonant.evaluation.run import Conditions
from sonant.evaluation.trials import recordings_by_speaker
from sonant.jobs.model_registry import model_calibration
from sonant.operations.duplicates import load_voices
from sonant.retention.rules import REPETITIONS
from sonant.settings import Settings
from sonant.storage.model_files import ModelFiles
from sonant.storage.repositories import calibrations
from sonant.storage.repositories.calibrations import OwnCalibration
from sonant.voice.calibration.fit import OwnFit, deviations, fit_own
from sonant.voice.calibration.grid import concatenate
from sonant.voice.calibration.model import Calibration, log10_far_of
from sonant.voice.models import shipped_encoder_id

#: Of a large domain so many speakers are drawn: their pairs number 200,000.
MOST_SPEAKERS = 640
LEAST_SPEAKERS = 20
#: What a calibration must at least support: a score of 80.
MUST_SUPPORT_SCORE = 80
SHOWN_SCORES = (50, 80, 90, 95)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparisons:
    """Own comparisons, in deviations of the scale that came with the voice model."""

    strangers: NDArray[np.float64]
    """Shape [n]."""
    first: NDArray[np.intp]
    second: NDArray[np.intp]
    """Who they are; shape [n], numbers of speakers."""
    genuine: NDArray[np.float64]
    """Of one person each; shape [m]."""
    source: str


def calibrate(
    settings: Settings, *, domain_id: str | None, speech: Path | None, apply: bool, quiet: bool
) -> int:
    """Fit and show before and after; with `apply` the fit counts from now on. Raises SetupError."""
    shipped, own = (
        _of_folder(settings, domain_id, speech, quiet=quiet)
        if speech
        else _of_domain(settings, _required(domain_id))
    )
    speakers = len(np.union1d(own.first, own.second))
    refuse_few(speakers)
    fit = fit_own(own.strangers, own.first, own.second)
    supported = fit.support.supported_log10_far()
    click.echo(f"{speakers} speakers, {len(own.strangers):,} comparisons of strangers ({own.source})")
    click.echo(_before_and_after(fit, own.genuine, supported))
    refuse_unsupported(supported)
    click.echo(f"supported down to a FAR of {percent(supported)}; below that the curve is extended")
    if not apply:
        click.echo("nothing was changed; --apply makes it count")
        return 0
    evidence = {
        "source": own.source,
        "speakers": speakers,
        "comparisons": len(own.strangers),
        "repetitions": len(own.genuine),
    }
    store = open_store(settings)
    try:
        with store.database.write() as connection:
            made = OwnCalibration(
                model_id=shipped.model_id,
                shift=fit.shift,
                scale=fit.scale,
                supported_log10_far=supported,
                evidence=evidence,
                created_at=store.clock(),
            )
            calibrations.add(connection, domain_id, made)
    finally:
        store.database.close()
    click.echo(f"counts from now on for {_place(domain_id)}; `sonant calibrate --undo` takes it back")
    return 0


def show(settings: Settings, domain_id: str | None) -> int:
    """The calibrations of a place, the one that counts first."""
    model_id = _model_of(settings, domain_id)
    store = open_store(settings)
    try:
        with store.database.read() as connection:
            found = calibrations.history(connection, domain_id, model_id)
    finally:
        store.database.close()
    rows: list[tuple[Any, ...]] = [
        (
            f"{one.created_at:%Y-%m-%d %H:%M}",
            f"{one.shift:+.2f}",
            f"{one.scale:.2f}",
            percent(one.supported_log10_far),
            one.evidence.get("speakers", ""),
            one.evidence.get("source", ""),
        )
        for one in found
    ]
    shipped = model_calibration(ModelFiles(settings.data), model_id)
    rows.append(("shipped", "+0.00", "1.00", percent(shipped.supported_log10_far), "", model_id))
    click.echo(f"{_place(domain_id)}; the first line counts")
    click.echo(table(rows, ("made", "shift", "scale", "supports FAR", "speakers", "source")))
    return 0


def undo(settings: Settings, domain_id: str | None) -> int:
    """Take the newest calibration of a place back. Raises SetupError when there is none."""
    model_id = _model_of(settings, domain_id)
    store = open_store(settings)
    try:
        with store.database.write() as connection:
            if not calibrations.undo(connection, domain_id, model_id):
                raise SetupError(f"{_place(domain_id)}: there is no own calibration to take back")
    finally:
        store.database.close()
    click.echo(f"taken back for {_place(domain_id)}")
    return show(settings, domain_id)


def refuse_few(speakers: int) -> None:
    """Raises SetupError below LEAST_SPEAKERS."""
    if speakers < LEAST_SPEAKERS:
        raise SetupError(f"{speakers} speakers are too few to calibrate on: at least {LEAST_SPEAKERS}")


def refuse_unsupported(supported_log10_far: float) -> None:
    """Raises SetupError where not even MUST_SUPPORT_SCORE is supported."""
    if supported_log10_far > log10_far_of(MUST_SUPPORT_SCORE):
        raise SetupError(
            f"these data support no FAR below {percent(supported_log10_far)}, but a score of "
            f"{MUST_SUPPORT_SCORE} claims {percent(log10_far_of(MUST_SUPPORT_SCORE))}: "
            "calibrate on more speakers"
        )


def percent(log10_rate: float) -> str:
    """A rate for people to read."""
    return f"{100 * 10**log10_rate:.2g} %"


def _of_domain(settings: Settings, domain_id: str) -> tuple[Calibration, Comparisons]:
    """Every two enrolled speakers are strangers; an enrollment that replaced another is one voice twice."""
    with opened_domain(settings, domain_id) as (connection, domain, vault):
        voices = load_voices(connection, vault, domain.domain_id)
        if voices is None:
            raise SetupError(f"domain {domain_id} has no enrolled speakers")
        shipped = model_calibration(ModelFiles(settings.data), voices.model_id)
        repeated = calibrations.list_repeated_enrollments(
            connection, domain.domain_id, voices.model_id, REPETITIONS.newest or 0
        )
    some = np.sort(np.random.default_rng(1).permutation(len(voices.speaker_ids))[:MOST_SPEAKERS])
    vectors, snr = voices.vectors[some], voices.snr_db[some]
    first, second = np.triu_indices(len(some), 1)
    genuine = deviations(
        shipped,
        np.array([one.similarity for one in repeated]),
        np.array([one.speech_s for one in repeated]),
        np.array([one.snr_db for one in repeated]),
    )
    strangers = deviations(
        shipped,
        (vectors @ vectors.T)[first, second].astype(np.float64),
        np.full(len(first), voices.speech_s),
        np.minimum(snr[first], snr[second]),
    )
    return shipped, Comparisons(
        strangers=strangers,
        first=first,
        second=second,
        genuine=genuine,
        source=f"speakers of domain {domain_id}",
    )


def _of_folder(
    settings: Settings, domain_id: str | None, folder: Path, *, quiet: bool
) -> tuple[Calibration, Comparisons]:
    """One sub-folder a speaker: pieces of 30 s against pieces of 10, 5 and 3 s."""
    model_id = _model_of(settings, domain_id)
    shipped = model_calibration(ModelFiles(settings.data), model_id)
    recordings = recordings_by_speaker(folder)
    refuse_few(len(recordings))
    outcomes = listen(settings, recordings, Conditions(references=3, probes=10), model_id, quiet=quiet)
    found = concatenate([compared(outcome) for outcome in outcomes])
    own, strangers = found.deviations(shipped), ~found.genuine
    return shipped, Comparisons(
        strangers=own[strangers],
        first=found.first[strangers],
        second=found.second[strangers],
        genuine=own[found.genuine],
        source=f"recordings of {len(recordings)} speakers",
    )


def _model_of(settings: Settings, domain_id: str | None) -> str:
    """The domain's voice model; for all domains together the one that ships."""
    if domain_id is None:
        return shipped_encoder_id()
    with opened_domain(settings, domain_id) as (_, domain, _vault):
        return domain.model_id or shipped_encoder_id()


def _before_and_after(fit: OwnFit, genuine: NDArray[np.float64], supported: float) -> str:
    rows = []
    for score in SHOWN_SCORES:
        claim = log10_far_of(score)
        level, low, high = fit.shipped_log10_far(score)
        before = fit.shipped_deviation(score)
        after = fit.own_deviation(score)
        told = percent(claim) if claim >= supported else f"{percent(claim)}, not supported"
        rows.append(
            (
                score,
                f"{percent(level)} ({percent(low)} to {percent(high)})",
                told,
                f"{np.mean(genuine < before):.1%}" if len(genuine) else "-",
                f"{np.mean(genuine < after):.1%}" if len(genuine) else "-",
            )
        )
    return table(rows, ("score", "FAR shipped (95 %)", "FAR own", "FRR shipped", "FRR own"))


def _place(domain_id: str | None) -> str:
    return "all domains" if domain_id is None else f"domain {domain_id}"


def _required(domain_id: str | None) -> str:
    if domain_id is None:
        raise SetupError(
            "name what to calibrate on: --domain ID, or --speech DIR with a sub-folder a speaker"
        )
    return domain_id
