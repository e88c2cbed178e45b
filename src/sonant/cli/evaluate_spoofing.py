"""`sonant evaluate spoofing`: error rates of the spoofing detectors.

Attacks are spoken by Debian's synthesizers, genuine speech is that of the telephone voices, and both pass
through the same simulated telephone lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile
from numpy.typing import NDArray

from sonant.cli.context import CliContext, Command, pass_cli
from sonant.demo.speech import fetch_voices
from sonant.demo.synthesizers import SYNTHESIZERS, fetch_synthesizers, sentences, speak
from sonant.errors import NotEnoughSpeech
from sonant.evaluation.channels import parse
from sonant.settings import Fraud
from sonant.voice.models import Models, load_models
from sonant.voice.speech import analyze
from sonant.voice.spoofing.models import SpoofingModels, load_spoofing_models
from sonant.voice.spoofing.synthetic_speech import score_synthetic_speech

LINES = ("g711", "g711-a", "gsm", "pink:20+g711")
TRAINED_ON = frozenset({"espeak-ng", "festival-diphone", "festival-hts"})
"""Synthesizers whose speech the small detector was trained on."""
THRESHOLD = 50
_GENUINE_S = 16.0
_SEED = 2024  # not the one that training sentences were made with


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of attack, or one genuine voice."""

    name: str
    count: int
    flagged: int
    """Recordings with a risk of 50 or more."""
    second_stage: int
    """Recordings that the large network analysed, too."""
    eer: float | None
    """Against all genuine recordings; None for genuine ones."""


@click.command("spoofing", cls=Command)
@click.option(
    "--recordings", type=click.IntRange(1, 200), default=12, show_default=True, help="A synthesizer."
)
@click.option(
    "--genuine", type=click.IntRange(1, 200), default=12, show_default=True, help="A voice, at most."
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=Path(".cache/speech"),
    show_default=True,
    help="Where fetched speech is kept; synthesizers go into `synthesizers` beside it.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write figures as JSON.")
@pass_cli
def spoofing(cli: CliContext, recordings: int, genuine: int, cache: Path, json_file: Path | None) -> None:
    """Measure spoofing detection: APCER and BPCER at risk 50 and EER for each synthesizer, with counts."""

    def progress(text: str) -> None:
        if cli.shows_progress:
            click.echo(text, err=True)

    models, spoofing_models = load_models(), load_spoofing_models()
    voices = fetch_voices(cache, progress=progress)
    fetched = fetch_synthesizers(
        cache.absolute().parent / "synthesizers", list(SYNTHESIZERS), progress=progress
    )
    genuine_scores, rows = [], []
    for name, clips in voices.items():
        progress(f"genuine: {name}")
        scores, second_stage = _scores(_joined(clips, genuine), models, spoofing_models)
        genuine_scores.append(scores)
        rows.append(
            Row(name=name, count=len(scores), flagged=_flagged(scores), second_stage=second_stage, eer=None)
        )
    all_genuine = np.concatenate(genuine_scores)
    attacks = []
    for name, tree in fetched.trees.items():
        progress(f"synthetic: {name}")
        scores, second_stage = _scores(_spoken(name, tree, recordings), models, spoofing_models)
        attacks.append(
            Row(
                name=name,
                count=len(scores),
                flagged=_flagged(scores),
                second_stage=second_stage,
                eer=_eer(all_genuine, scores),
            )
        )
    document = {
        "genuine": [_document(row) for row in rows],
        "attacks": [_document(row) for row in attacks],
        "not_measured": dict(fetched.missing),
    }
    cli.show(document, report_lines(rows, attacks, fetched.missing))
    if json_file:
        json_file.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def _document(row: Row) -> dict[str, Any]:
    """Give a row's members as the file of --json names them."""
    document = asdict(row)
    return {"asked" if name == "second_stage" else name: value for name, value in document.items()}


def report_lines(genuine: Sequence[Row], attacks: Sequence[Row], missing: Mapping[str, str]) -> Iterator[str]:
    """Write the figures as lines of text, in the terms of ISO/IEC 30107-3.

    `missing` holds the reasons why other synthesizers have none.
    """
    total, flagged = sum(row.count for row in genuine), sum(row.flagged for row in genuine)
    yield f"Threshold {THRESHOLD}; lines {', '.join(LINES)}"
    yield ""
    yield "attack             known  recordings  missed  APCER    EER"
    for row in attacks:
        missed = row.count - row.flagged
        known = "yes" if row.name in TRAINED_ON else "no"
        rates = f"{missed / row.count:6.0%} {row.eer:6.1%}" if row.count else "     -      -"
        yield f"{row.name:18s} {known:5s} {row.count:11d} {missed:7d} {rates}"
    for name, why in missing.items():
        yield f"{name:18s} not measured: {why}"
    yield ""
    yield "genuine voice             recordings  flagged  BPCER"
    for row in genuine:
        yield f"{row.name:24s} {row.count:11d} {row.flagged:8d} {row.flagged / max(row.count, 1):6.1%}"
    yield f"{'all':24s} {total:11d} {flagged:8d} {flagged / max(total, 1):6.1%}"


def _scores(
    recordings: Iterator[NDArray[np.float32]], models: Models, spoofing_models: SpoofingModels
) -> tuple[NDArray[np.float64], int]:
    """Give the risks of recordings over every line, and how often the large network was used."""
    limits = Fraud()
    risks: list[float] = []
    second_stage = 0
    for recording in recordings:
        for line in LINES:
            sent = parse(line).apply(recording, seed=[len(risks)])
            try:
                found = score_synthetic_speech(
                    analyze(sent, models).speech,
                    spoofing_models,
                    max_s=limits.spoofing_max_s,
                    windows=limits.spoofing_windows,
                )
            except NotEnoughSpeech:
                continue
            # Whole risks tie; the logit orders equal ones for the EER and cannot move one over the threshold.
            risks.append(found.risk + 1e-3 * np.tanh(found.light_logit))
            second_stage += found.network_odds is not None
    return np.array(risks), second_stage


def _joined(clips: Sequence[Path], most: int) -> Iterator[NDArray[np.float32]]:
    """Join a voice's clips into recordings of a call each, in a fixed random order."""
    parts: list[NDArray[np.float32]] = []
    made, length_s = 0, 0.0
    for index in np.random.default_rng(_SEED).permutation(len(clips)):
        samples, rate_hz = soundfile.read(clips[int(index)], dtype="float32")
        parts.append(samples)
        length_s += len(samples) / rate_hz
        if length_s >= _GENUINE_S:
            yield np.concatenate(parts)
            parts, made, length_s = [], made + 1, 0.0
            if made == most:
                return


def _spoken(name: str, tree: Path, count: int) -> Iterator[NDArray[np.float32]]:
    """Synthesise recordings of three sentences each, by the voices in turn."""
    voices, texts = SYNTHESIZERS[name].voices, sentences(3 * count, _SEED)
    for number in range(count):
        said = texts[3 * number : 3 * number + 3]
        yield np.concatenate([speak(name, tree, voices[number % len(voices)], text) for text in said])


def _flagged(scores: NDArray[np.float64]) -> int:
    return int(np.count_nonzero(np.round(scores) >= THRESHOLD))


def _eer(genuine: NDArray[np.float64], attacks: NDArray[np.float64]) -> float | None:
    """Give the rate at which as many genuine recordings are flagged as attacks are missed."""
    if len(attacks) == 0:
        return None
    at = np.sort(np.concatenate([genuine, attacks]))
    flagged = 1 - np.searchsorted(np.sort(genuine), at) / len(genuine)
    missed = np.searchsorted(np.sort(attacks), at) / len(attacks)
    nearest = int(np.argmin(np.abs(flagged - missed)))
    return float((flagged[nearest] + missed[nearest]) / 2)
