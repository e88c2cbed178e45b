"""`sonant evaluate spoofing`: error rates of the spoofing detectors.

Attacks are spoken by Debian's synthesizers or read from a folder, genuine speech is that of the telephone
voices or of a folder, and both pass through the same simulated telephone lines.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile
from numpy.typing import NDArray

from sonant.cli.context import CliContext, Command, pass_cli
from sonant.demo.speech import fetch_voices
from sonant.demo.synthesizers import SYNTHESIZERS, fetch_synthesizers, sentences, speak
from sonant.errors import AudioError, NotEnoughSpeech, SetupError
from sonant.evaluation.attacks import AttackRates, attack_rates
from sonant.evaluation.channels import parse
from sonant.evaluation.trials import SUFFIXES
from sonant.jobs.countermeasures import installed_models
from sonant.settings import Fraud
from sonant.storage.countermeasure_files import CountermeasureFiles
from sonant.voice.audio.recording import decode
from sonant.voice.models import Models, load_models
from sonant.voice.speech import analyze
from sonant.voice.spoofing.models import SpoofingModels
from sonant.voice.spoofing.synthetic_speech import score_synthetic_speech

LINES = ("g711", "g711-a", "gsm", "pink:20+g711")
TRAINED_ON = frozenset({"espeak-ng", "festival-diphone", "festival-hts", "piper", "hibari"})
"""Kinds of attacks that the small detector was trained on, as far as they are named so."""
THRESHOLD = 50
_GENUINE_S = 16.0
_SEED = 2024  # not the one that training sentences were made with
_MAX_DURATION_S = 600.0

Recordings = Callable[[], Iterable[NDArray[np.float32]]]
"""Reads or makes recordings at 8 kHz, float32, [n]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kind of attack, or one genuine voice."""

    name: str
    count: int
    flagged: int
    """Recordings with a risk of 50 or more."""
    second_stage: int
    """Recordings that the large network analysed, too."""
    rates: AttackRates | None
    """Against all genuine recordings; None for genuine ones and where nothing was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The scores of one kind of recording, each over every line."""

    name: str
    values: NDArray[np.float64]
    """How rarely genuine speech reaches what was found, in powers of ten; high for attacks, [n]."""
    flagged: int
    second_stage: int

    def row(self, rates: AttackRates | None) -> Row:
        """Give the row of a table."""
        return Row(
            name=self.name,
            count=len(self.values),
            flagged=self.flagged,
            second_stage=self.second_stage,
            rates=rates,
        )


@click.command("spoofing", cls=Command)
@click.option(
    "--recordings", type=click.IntRange(1, 10_000), default=12, show_default=True, help="A kind of attack."
)
@click.option(
    "--genuine",
    type=click.IntRange(1, 10_000),
    default=12,
    show_default=True,
    help="A voice, or a folder of --genuine-speech, at most.",
)
@click.option(
    "--attack-speech",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Attacks instead of Debian's synthesizers: a folder with a sub-folder for each kind.",
)
@click.option(
    "--genuine-speech",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    multiple=True,
    help="Genuine recordings instead of the telephone voices; can be given several times.",
)
@click.option("--line", "lines", multiple=True, help=f"Line to send all over [default: {', '.join(LINES)}].")
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=Path(".cache/speech"),
    show_default=True,
    help="Where fetched speech is kept; synthesizers go into `synthesizers` beside it.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write figures as JSON.")
@pass_cli
def spoofing(
    cli: CliContext,
    recordings: int,
    genuine: int,
    attack_speech: Path | None,
    genuine_speech: tuple[Path, ...],
    lines: tuple[str, ...],
    cache: Path,
    json_file: Path | None,
) -> None:
    """Measure spoofing detection: error rates at risk 50, at BPCER 1 % and 5 %, and EER, with counts."""

    def report(text: str) -> None:
        if cli.shows_progress:
            click.echo(text, err=True)

    settings = cli.settings()
    scorer = Scorer(
        voice_models=load_models(),
        models=installed_models(CountermeasureFiles(settings.data)),
        limits=settings.fraud,
        lines=lines or LINES,
    )
    missing: Mapping[str, str] = {}
    voices = (
        {folder.name: partial(_read, _files(folder), genuine) for folder in genuine_speech}
        if genuine_speech
        else _telephone_voices(cache, genuine, report)
    )
    if attack_speech is not None:
        kinds = _kinds(attack_speech, recordings)
    else:
        kinds, missing = _synthesizers(cache, recordings, report)
    bona_fide = [scorer.score(name, make, report) for name, make in voices.items()]
    attacks = [scorer.score(name, make, report) for name, make in kinds.items()]
    pooled = np.concatenate([one.values for one in bona_fide])
    if not len(pooled):
        raise SetupError("no genuine recording can be read and has 3 s of speech")
    genuine_rows = [one.row(None) for one in bona_fide]
    attack_rows = [one.row(attack_rates(pooled, one.values) if len(one.values) else None) for one in attacks]
    document = {
        "genuine": [_document(row) for row in genuine_rows],
        "attacks": [_document(row) for row in attack_rows],
        "not_measured": dict(missing),
    }
    cli.show(document, report_lines(scorer.lines, genuine_rows, attack_rows, missing))
    if json_file:
        json_file.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorer:
    """Sends recordings over lines and scores them with the detectors of an installation."""

    voice_models: Models
    models: SpoofingModels
    limits: Fraud
    lines: Sequence[str]

    def score(self, name: str, make: Recordings, progress: Callable[[str], None]) -> Scores:
        """Score recordings over every line; those with too little speech are left out."""
        progress(name)
        values: list[float] = []
        flagged = second_stage = 0
        for recording in make():
            for number, line in enumerate(self.lines):
                sent = parse(line).apply(recording, seed=[len(values), number])
                try:
                    found = score_synthetic_speech(
                        analyze(sent, self.voice_models).speech,
                        self.models,
                        max_s=self.limits.spoofing_max_s,
                        windows=self.limits.spoofing_windows,
                    )
                except NotEnoughSpeech:
                    continue
                values.append(-math.log10(found.share))
                flagged += found.risk >= THRESHOLD
                second_stage += found.network_odds is not None
        return Scores(name=name, values=np.array(values), flagged=flagged, second_stage=second_stage)


def _document(row: Row) -> dict[str, Any]:
    """Give a row's members as the file of --json names them."""
    rates = {"eer": None} if row.rates is None else asdict(row.rates)
    return {"name": row.name, "count": row.count, "flagged": row.flagged, "asked": row.second_stage, **rates}


def report_lines(
    lines: Sequence[str], genuine: Sequence[Row], attacks: Sequence[Row], missing: Mapping[str, str]
) -> Iterator[str]:
    """Write the figures as lines of text, in the terms of ISO/IEC 30107-3.

    `missing` holds the reasons why other synthesizers have none.
    """
    total, flagged = sum(row.count for row in genuine), sum(row.flagged for row in genuine)
    yield f"Threshold {THRESHOLD}; lines {', '.join(lines)}"
    yield ""
    yield "attack             known  recordings  missed  APCER   at BPCER 1 %  at 5 %    EER"
    for row in attacks:
        missed = row.count - row.flagged
        known = "yes" if row.name in TRAINED_ON else "no"
        rates = "     -             -       -      -"
        if row.rates is not None:
            rates = (
                f"{missed / row.count:6.0%} {row.rates.apcer_at_bpcer_1:14.0%} "
                f"{row.rates.apcer_at_bpcer_5:7.0%} {row.rates.eer:6.1%}"
            )
        yield f"{row.name:18s} {known:5s} {row.count:11d} {missed:7d} {rates}"
    for name, why in missing.items():
        yield f"{name:18s} not measured: {why}"
    yield ""
    yield "genuine voice             recordings  flagged  BPCER"
    for row in genuine:
        yield f"{row.name:24s} {row.count:11d} {row.flagged:8d} {row.flagged / max(row.count, 1):6.1%}"
    yield f"{'all':24s} {total:11d} {flagged:8d} {flagged / max(total, 1):6.1%}"


def _telephone_voices(cache: Path, most: int, progress: Callable[[str], None]) -> dict[str, Recordings]:
    voices = fetch_voices(cache, progress=progress)
    return {name: partial(_joined, clips, most) for name, clips in voices.items()}


def _synthesizers(
    cache: Path, count: int, progress: Callable[[str], None]
) -> tuple[dict[str, Recordings], Mapping[str, str]]:
    """Fetch Debian's synthesizers; also the reasons why some of them are missing."""
    folder = cache.absolute().parent / "synthesizers"
    fetched = fetch_synthesizers(folder, list(SYNTHESIZERS), progress=progress)
    return {
        name: partial(_spoken, name, tree, count) for name, tree in fetched.trees.items()
    }, fetched.missing


def _kinds(folder: Path, most: int) -> dict[str, Recordings]:
    """Find the kinds of attacks in a folder. Raises SetupError if there are none."""
    kinds = sorted(path for path in folder.iterdir() if path.is_dir())
    if not kinds:
        raise SetupError(f"{folder} has no sub-folders, must have one for each kind of attack")
    return {kind.name: partial(_read, _files(kind), most) for kind in kinds}


def _files(folder: Path) -> list[Path]:
    """Find the recordings in a folder and its sub-folders, in a fixed random order."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return [found[int(place)] for place in np.random.default_rng(_SEED).permutation(len(found))]


def _read(files: Sequence[Path], most: int) -> Iterator[NDArray[np.float32]]:
    """Read recordings at 8 kHz, at most so many; those that cannot be decoded are left out."""
    for path in files[:most]:
        try:
            yield decode(path.read_bytes(), channel=0, strict=False, max_duration_s=_MAX_DURATION_S).samples
        except AudioError:
            continue


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
