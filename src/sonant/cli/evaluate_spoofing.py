"""`sonant evaluate spoofing`: what the countermeasures and the replay guard catch, and whom they wrong.

Everything it needs it makes: attacks are spoken by Debian's synthesizers, genuine speech is that of the
telephone voices. Both are sent over the same telephone lines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from numpy.typing import NDArray

from sonant.cli.common import show_progress

if TYPE_CHECKING:
    from sonant.voice.models import Models
    from sonant.voice.spoofing.models import SpoofingModels

LINES = ("g711", "g711-a", "gsm", "pink:20+g711")
TRAINED_ON = frozenset({"espeak-ng", "festival-diphone", "festival-hts"})
"""What the small detector has heard before; the others it has not."""
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
    asked: int
    """Recordings that the large network heard."""
    eer: float | None
    """Against all genuine recordings; None for genuine ones."""


@click.command("spoofing")
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
@click.option("--quiet", is_flag=True, help="No progress.")
def spoofing(recordings: int, genuine: int, cache: Path, json_file: Path | None, quiet: bool) -> None:
    """Measure spoofing detection: APCER and BPCER at risk 50 and EER for each synthesizer, with counts."""
    from sonant.demo.speech import fetch_voices
    from sonant.demo.synthesizers import SYNTHESIZERS, fetch_synthesizers
    from sonant.voice.models import load_models
    from sonant.voice.spoofing.models import load_spoofing_models

    shown = show_progress(quiet)

    def say(text: str) -> None:
        if shown:
            click.echo(text, err=True)

    models, spoofing_models = load_models(), load_spoofing_models()
    voices = fetch_voices(cache, progress=say)
    fetched = fetch_synthesizers(cache.absolute().parent / "synthesizers", list(SYNTHESIZERS), progress=say)
    genuine_scores, rows = [], []
    for name, clips in voices.items():
        say(f"genuine: {name}")
        scores, asked = _scores(_joined(clips, genuine), models, spoofing_models)
        genuine_scores.append(scores)
        rows.append(Row(name=name, count=len(scores), flagged=_flagged(scores), asked=asked, eer=None))
    honest = np.concatenate(genuine_scores)
    attacks = []
    for name, tree in fetched.trees.items():
        say(f"synthetic: {name}")
        scores, asked = _scores(_spoken(name, tree, recordings), models, spoofing_models)
        attacks.append(
            Row(name=name, count=len(scores), flagged=_flagged(scores), asked=asked, eer=_eer(honest, scores))
        )
    click.echo("\n".join(table(rows, attacks, fetched.missing)))
    if json_file:
        found = {
            "genuine": [asdict(row) for row in rows],
            "attacks": [asdict(row) for row in attacks],
            "not_measured": dict(fetched.missing),
        }
        json_file.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


def table(genuine: Sequence[Row], attacks: Sequence[Row], missing: Mapping[str, str]) -> Iterator[str]:
    """The figures as lines of text, in the words of ISO/IEC 30107-3; `missing` is why others have none."""
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
    """Risks of recordings over every line, and how often the large network was asked."""
    from sonant.errors import NotEnoughSpeech
    from sonant.evaluation.channels import parse
    from sonant.settings import Fraud
    from sonant.voice.audio.recording import RATE_HZ, Waveform
    from sonant.voice.speech import find_speech
    from sonant.voice.spoofing.synthetic_speech import score_synthetic_speech

    cost = Fraud()
    risks: list[float] = []
    asked = 0
    for recording in recordings:
        for line in LINES:
            heard = parse(line).apply(recording, seed=[len(risks)])
            spans = find_speech(Waveform(samples=heard, rate_hz=RATE_HZ), models)
            cuts = [heard[int(s.start_s * RATE_HZ) : int(s.end_s * RATE_HZ)] for s in spans]
            try:
                found = score_synthetic_speech(
                    np.concatenate([heard[:0], *cuts]),
                    spoofing_models,
                    max_s=cost.spoofing_max_s,
                    windows=cost.spoofing_windows,
                )
            except NotEnoughSpeech:
                continue
            # Whole risks tie; the logit orders equal ones for the EER and cannot move one over the threshold.
            risks.append(found.risk + 1e-3 * np.tanh(found.light_logit))
            asked += found.network_odds is not None
    return np.array(risks), asked


def _joined(clips: Sequence[Path], most: int) -> Iterator[NDArray[np.float32]]:
    """Recordings of a caller from a voice's clips, in a fixed random order."""
    import soundfile

    parts: list[NDArray[np.float32]] = []
    made, length_s = 0, 0.0
    for place in np.random.default_rng(_SEED).permutation(len(clips)):
        samples, rate_hz = soundfile.read(clips[int(place)], dtype="float32")
        parts.append(samples)
        length_s += len(samples) / rate_hz
        if length_s >= _GENUINE_S:
            yield np.concatenate(parts)
            parts, made, length_s = [], made + 1, 0.0
            if made == most:
                return


def _spoken(name: str, tree: Path, count: int) -> Iterator[NDArray[np.float32]]:
    """What a synthesizer's voices say, in turn, three sentences at a time."""
    from sonant.demo.synthesizers import SYNTHESIZERS, sentences, speak

    voices, texts = SYNTHESIZERS[name].voices, sentences(3 * count, _SEED)
    for number in range(count):
        said = texts[3 * number : 3 * number + 3]
        yield np.concatenate([speak(name, tree, voices[number % len(voices)], text) for text in said])


def _flagged(scores: NDArray[np.float64]) -> int:
    return int(np.count_nonzero(np.round(scores) >= THRESHOLD))


def _eer(honest: NDArray[np.float64], attacks: NDArray[np.float64]) -> float | None:
    """Where as large a share of genuine recordings is flagged as of attacks is missed."""
    if len(attacks) == 0:
        return None
    at = np.sort(np.concatenate([honest, attacks]))
    flagged = 1 - np.searchsorted(np.sort(honest), at) / len(honest)
    missed = np.searchsorted(np.sort(attacks), at) / len(attacks)
    place = int(np.argmin(np.abs(flagged - missed)))
    return float((flagged[place] + missed[place]) / 2)
