"""`sonant calibrate`: measures what scores mean among your own callers.

Impostor comparisons come from the domain itself, where every two enrolled speakers are two different people,
or from a folder of recordings. Repeated speech of one person, where there is any, gives the rejection rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from sonant.assembly.installation import open_store
from sonant.cli.calibrate_model import calibrate_model
from sonant.cli.calibration_report import SHOWN_SCORES, percent, refuse_unsupported, require_enough_speakers
from sonant.cli.context import CliContext, Command, pass_cli, table
from sonant.cli.folder_comparisons import compare_folder, compared
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
from sonant.voice.models.packaged import encoder_id

#: Of a large domain so many speakers are drawn: their pairs number 200,000.
MOST_SPEAKERS = 640


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparisons:
    """Comparisons of own speakers, in deviations of the scale that came with the voice model."""

    impostor: NDArray[np.float64]
    """Scores of two different people each; shape [n]."""
    first: NDArray[np.intp]
    second: NDArray[np.intp]
    """Numbers of the two speakers; shape [n] each."""
    genuine: NDArray[np.float64]
    """Scores of one person each; shape [m]."""
    source: str


@click.command(cls=Command)
@click.option("--domain", "domain_id", metavar="ID", help="Calibrate this domain, on its own speakers.")
@click.option(
    "--speech", type=click.Path(path_type=Path), help="Calibrate on recordings, one sub-folder a speaker."
)
@click.option(
    "--model", "model_id", metavar="ID", help="Make the calibration of this added voice model, from --speech."
)
@click.option("--apply", is_flag=True, help="Put the result into use.")
@click.option("--undo", is_flag=True, help="Take the newest calibration back.")
@click.option("--show", is_flag=True, help="List the calibrations, the one in use first.")
@pass_cli
def calibrate(
    cli: CliContext,
    domain_id: str | None,
    speech: Path | None,
    model_id: str | None,
    apply: bool,
    undo: bool,
    show: bool,
) -> None:
    """Measure what scores mean among your own callers; with --apply the result is put into use.

    Without --domain the result of --speech is for all domains.
    """
    if apply + undo + show > 1:
        raise click.UsageError("--apply, --undo and --show exclude each other")
    if model_id is not None and (domain_id is not None or undo or show):
        raise click.UsageError("--model goes with --speech and --apply alone")
    if model_id is not None and speech is None:
        raise click.UsageError("--model takes --speech DIR as well, with a sub-folder a speaker")
    settings = cli.settings()
    if model_id is not None and speech is not None:
        calibrate_model(cli, settings, model_id, speech, apply=apply)
    elif show:
        show_calibrations(cli, settings, domain_id)
    elif undo:
        undo_calibration(cli, settings, domain_id)
    else:
        calibrate_scores(cli, settings, domain_id=domain_id, speech=speech, apply=apply)


def calibrate_scores(
    cli: CliContext, settings: Settings, *, domain_id: str | None, speech: Path | None, apply: bool
) -> None:
    """Fit and show before and after; with `apply` the fit is used from now on. Raises SetupError."""
    shipped, own = (
        _of_folder(cli, settings, domain_id, speech) if speech else _of_domain(settings, _required(domain_id))
    )
    speakers = len(np.union1d(own.first, own.second))
    require_enough_speakers(speakers)
    fit = fit_own(own.impostor, own.first, own.second)
    supported = fit.support.supported_log10_far()
    evidence = {
        "source": own.source,
        "speakers": speakers,
        "comparisons": len(own.impostor),
        "repetitions": len(own.genuine),
    }
    scores = _before_and_after(fit, own.genuine)
    lines = [
        f"{speakers} speakers, {len(own.impostor):,} comparisons of strangers ({own.source})",
        _scores_table(scores, supported),
    ]
    try:
        refuse_unsupported(supported)
    except SetupError:
        cli.print_text("\n".join(lines))
        raise
    lines.append(f"supported down to a FAR of {percent(supported)}; below that the curve is extended")
    if apply:
        _add(settings, domain_id, shipped.model_id, fit, supported, evidence)
        lines.append(f"counts from now on for {_scope(domain_id)}; `sonant calibrate --undo` takes it back")
    else:
        lines.append("nothing was changed; --apply makes it count")
    document = {
        "Scope": _scope(domain_id),
        "ModelId": shipped.model_id,
        "Shift": fit.shift,
        "Scale": fit.scale,
        "SupportedLog10Far": supported,
        "Evidence": evidence,
        "Scores": [one.document for one in scores],
        "Applied": apply,
    }
    cli.show(document, lines)


def _add(
    settings: Settings,
    domain_id: str | None,
    model_id: str,
    fit: OwnFit,
    supported_log10_far: float,
    evidence: dict[str, Any],
) -> None:
    """Store a fit, which is used from now on."""
    store = open_store(settings)
    try:
        with store.database.write() as connection:
            made = OwnCalibration(
                model_id=model_id,
                shift=fit.shift,
                scale=fit.scale,
                supported_log10_far=supported_log10_far,
                evidence=evidence,
                created_at=store.clock(),
            )
            calibrations.add(connection, domain_id, made)
    finally:
        store.database.close()


def show_calibrations(cli: CliContext, settings: Settings, domain_id: str | None) -> None:
    """Show the calibrations of a domain or of all domains, the one in use first."""
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
    document = {
        "Scope": _scope(domain_id),
        "ModelId": model_id,
        "Calibrations": [
            {
                "CreatedAt": one.created_at,
                "Shift": one.shift,
                "Scale": one.scale,
                "SupportedLog10Far": one.supported_log10_far,
                "Evidence": one.evidence,
            }
            for one in found
        ],
        "ShippedSupportedLog10Far": shipped.supported_log10_far,
    }
    cli.show(
        document,
        (
            f"{_scope(domain_id)}; the first line counts",
            table(rows, ("made", "shift", "scale", "supports FAR", "speakers", "source")),
        ),
    )


def undo_calibration(cli: CliContext, settings: Settings, domain_id: str | None) -> None:
    """Delete the newest calibration and show the rest. Raises SetupError when there is none."""
    model_id = _model_of(settings, domain_id)
    store = open_store(settings)
    try:
        with store.database.write() as connection:
            if not calibrations.undo(connection, domain_id, model_id):
                raise SetupError(f"{_scope(domain_id)}: there is no own calibration to take back")
    finally:
        store.database.close()
    cli.print_text(f"taken back for {_scope(domain_id)}")
    show_calibrations(cli, settings, domain_id)


def _of_domain(settings: Settings, domain_id: str) -> tuple[Calibration, Comparisons]:
    """Compare the enrolled speakers of a domain with each other.

    An enrollment that replaced another gives a comparison of one person. Raises SetupError.
    """
    with opened_domain(settings, domain_id) as (connection, domain, vault):
        voices = load_voices(connection, vault, domain.domain_id)
        if voices is None:
            raise SetupError(f"domain {domain_id} has no enrolled speakers")
        shipped = model_calibration(ModelFiles(settings.data), voices.model_id)
        repeated = calibrations.list_repeated_enrollments(
            connection, domain.domain_id, voices.model_id, REPETITIONS.newest or 0
        )
    chosen = np.sort(np.random.default_rng(1).permutation(len(voices.speaker_ids))[:MOST_SPEAKERS])
    vectors, snr = voices.vectors[chosen], voices.snr_db[chosen]
    first, second = np.triu_indices(len(chosen), 1)
    genuine = deviations(
        shipped,
        np.array([one.similarity for one in repeated]),
        np.array([one.speech_s for one in repeated]),
        np.array([one.snr_db for one in repeated]),
    )
    impostor = deviations(
        shipped,
        (vectors @ vectors.T)[first, second].astype(np.float64),
        np.full(len(first), voices.speech_s),
        np.minimum(snr[first], snr[second]),
    )
    return shipped, Comparisons(
        impostor=impostor,
        first=first,
        second=second,
        genuine=genuine,
        source=f"speakers of domain {domain_id}",
    )


def _of_folder(
    cli: CliContext, settings: Settings, domain_id: str | None, folder: Path
) -> tuple[Calibration, Comparisons]:
    """Compare recordings, one sub-folder a speaker: 30 s of speech with 10, 5 and 3 s. Raises SetupError."""
    model_id = _model_of(settings, domain_id)
    shipped = model_calibration(ModelFiles(settings.data), model_id)
    recordings = recordings_by_speaker(folder)
    require_enough_speakers(len(recordings))
    outcomes = compare_folder(cli, settings, recordings, Conditions(references=3, probes=10), model_id)
    found = concatenate([compared(outcome) for outcome in outcomes])
    scores, impostor = found.deviations(shipped), ~found.genuine
    return shipped, Comparisons(
        impostor=scores[impostor],
        first=found.first[impostor],
        second=found.second[impostor],
        genuine=scores[found.genuine],
        source=f"recordings of {len(recordings)} speakers",
    )


def _model_of(settings: Settings, domain_id: str | None) -> str:
    """Give the domain's voice model; for all domains that of new ones. Raises SetupError."""
    if domain_id is None:
        return encoder_id(settings.encoder)
    with opened_domain(settings, domain_id) as (_, domain, _vault):
        return domain.model_id or shipped_encoder_id()


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRates:
    """Error rates of one threshold, with the shipped calibration and with the own one."""

    score: int
    claimed_log10_far: float
    shipped_log10_far: tuple[float, float, float]
    """The rate, and the limits of its 95 % interval."""
    shipped_frr: float | None
    own_frr: float | None
    """None without comparisons of one person."""

    @property
    def document(self) -> dict[str, Any]:
        """The rates for JSON."""
        rate, low, high = self.shipped_log10_far
        return {
            "Score": self.score,
            "OwnLog10Far": self.claimed_log10_far,
            "ShippedLog10Far": rate,
            "ShippedLog10FarInterval": [low, high],
            "ShippedFrr": self.shipped_frr,
            "OwnFrr": self.own_frr,
        }


def _before_and_after(fit: OwnFit, genuine: NDArray[np.float64]) -> list[ScoreRates]:
    return [
        ScoreRates(
            score=score,
            claimed_log10_far=log10_far_of(score),
            shipped_log10_far=fit.shipped_log10_far(score),
            shipped_frr=_share_below(genuine, fit.shipped_deviation(score)),
            own_frr=_share_below(genuine, fit.own_deviation(score)),
        )
        for score in SHOWN_SCORES
    ]


def _share_below(genuine: NDArray[np.float64], threshold: float) -> float | None:
    return float(np.mean(genuine < threshold)) if len(genuine) else None


def _scores_table(scores: Sequence[ScoreRates], supported_log10_far: float) -> str:
    rows = []
    for one in scores:
        rate, low, high = one.shipped_log10_far
        claimed = percent(one.claimed_log10_far)
        rows.append(
            (
                one.score,
                f"{percent(rate)} ({percent(low)} to {percent(high)})",
                claimed if one.claimed_log10_far >= supported_log10_far else f"{claimed}, not supported",
                "-" if one.shipped_frr is None else f"{one.shipped_frr:.1%}",
                "-" if one.own_frr is None else f"{one.own_frr:.1%}",
            )
        )
    return table(rows, ("score", "FAR shipped (95 %)", "FAR own", "FRR shipped", "FRR own"))


def _scope(domain_id: str | None) -> str:
    return "all domains" if domain_id is None else f"domain {domain_id}"


def _required(domain_id: str | None) -> str:
    if domain_id is None:
        raise SetupError(
            "name what to calibrate on: --domain ID, or --speech DIR with a sub-folder a speaker"
        )
    return domain_id
