"""`sonant evaluate`: how often the voice pipeline errs, on your recordings or on real telephone voices."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sonant import __version__
from sonant.cli.common import data_option, load_settings, show_progress
from sonant.errors import SetupError

if TYPE_CHECKING:
    from sonant.evaluation.embedding import Opener
    from sonant.evaluation.run import Conditions, Outcome
    from sonant.evaluation.scorer import Scorer
    from sonant.evaluation.trials import SpeakerInfo
    from sonant.settings import Settings

#: Of the telephone voices, as their packages name them.
GENDERS = {
    "english": "F",
    "french": "F",
    "french-armelle": "F",
    "italian": "M",
    "italian-menardi": "F",
    "russian": "F",
}


@click.command()
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--trials",
    type=click.Path(path_type=Path),
    help="Trial list instead of DIR: `enrol test target|nontarget` or `1|0 enrol test` a line.",
)
@click.option("--root", type=click.Path(path_type=Path), help="What its paths are relative to [its folder].")
@click.option(
    "--speakers",
    type=click.Path(path_type=Path),
    help="CSV with columns speaker, gender, channel [DIR/speakers.csv if there].",
)
@click.option(
    "--enroll-s", type=click.FloatRange(1.6, 600), help="Net speech of a reference [30; of a list: all]."
)
@click.option(
    "--test-s",
    multiple=True,
    type=click.FloatRange(1.6, 600),
    help="Net speech of a probe; may be repeated [10, 5, 3; of a list: all].",
)
@click.option(
    "--channel",
    "channels",
    multiple=True,
    metavar="CHANNEL[/CHANNEL]",
    help="Line to simulate, of references and of probes if they differ: clean, g711, g711-a, gsm, narrow, "
    "amr-band, loss:5, white:15, pink:15, babble:15, reverb:0.5, joined by +; may be repeated [clean].",
)
@click.option(
    "--references", type=click.IntRange(1, 200), default=10, show_default=True, help="A speaker, at most."
)
@click.option(
    "--probes", type=click.IntRange(1, 1000), default=30, show_default=True, help="A speaker, at most."
)
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Equal seeds, equal figures."
)
@click.option("--model", "model_id", metavar="ID", help="Voice model to measure [the one that ships].")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write figures as JSON.")
@click.option("--html", "html_file", type=click.Path(path_type=Path), help="Write a page with plots.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Write report.txt, .json, .html and scores.csv here."
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=Path(".cache/speech"),
    show_default=True,
    help="Where fetched speech is kept.",
)
@click.option("--workers", type=click.IntRange(1, 256), help="Processes [one a core].")
@click.option("--quiet", is_flag=True, help="No progress.")
@data_option
def evaluate(data: Path | None, config: Path | None, **options: Any) -> None:
    """Measure error rates: of DIR (one sub-folder a speaker), of a trial list, else of telephone voices."""
    run(load_settings(data, config), **options)


def run(
    settings: Settings,
    *,
    folder: Path | None,
    trials: Path | None,
    root: Path | None,
    speakers: Path | None,
    enroll_s: float | None,
    test_s: tuple[float, ...],
    channels: tuple[str, ...],
    references: int,
    probes: int,
    seed: int,
    model_id: str | None,
    json_file: Path | None,
    html_file: Path | None,
    output: Path | None,
    cache: Path,
    workers: int | None,
    quiet: bool,
) -> None:
    """Measure, print, write. Raises SetupError; what cannot be written is found out before the work."""
    from sonant.evaluation import plots, report
    from sonant.evaluation.figures import all_results
    from sonant.evaluation.page import as_html
    from sonant.evaluation.run import Conditions, Line

    if folder and trials:
        raise SetupError("give a folder of speakers or --trials, not both")
    if html_file:
        plots.need_matplotlib()
    for file in (json_file, html_file):
        if file and not file.absolute().parent.is_dir():
            raise SetupError(f"{file.parent} is not a folder")
    default_test = (None,) if trials else (10.0, 5.0, 3.0)
    conditions = Conditions(
        enroll_s=enroll_s if enroll_s or trials else 30.0,
        test_s=tuple(dict.fromkeys(test_s)) or default_test,
        lines=tuple(dict.fromkeys(map(Line.parse, channels))) or (Line(),),
        references=references,
        probes=probes,
        seed=seed,
    )
    measured = _model(settings, model_id)
    outcomes, data, facts = _measured(
        settings,
        conditions,
        measured,
        folder,
        trials,
        root,
        speakers,
        cache,
        workers or settings.workers,
        quiet,
    )

    found = report.Report(
        data=data,
        model_id=measured.model_id,
        scorer=measured.scorer_name,
        version=__version__,
        seed=seed,
        results=all_results(outcomes, facts),
    )
    text, document = report.as_text(found), json.dumps(report.as_json(found), indent=2) + "\n"
    click.echo(text, nl=False)
    if json_file:
        json_file.write_text(document, "utf-8")
    if html_file:
        html_file.write_text(as_html(found), "utf-8")
    if output:
        _write_all(output, text, document, outcomes)
        try:
            (output / "report.html").write_text(as_html(found), "utf-8")
        except SetupError as fault:
            click.echo(f"no report.html: {fault}", err=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """The voice model under test."""

    model_id: str
    opener: Opener | None
    scorer: Scorer
    scorer_name: str


def _model(settings: Settings, model_id: str | None) -> _Measured:
    """An added model need not be calibrated to be measured. Raises SetupError for one that is not there."""
    from sonant.evaluation.scorer import calibrated, cosine
    from sonant.jobs.model_registry import embedder_opener, model_calibration
    from sonant.storage.model_files import ModelFiles
    from sonant.voice.models import shipped_encoder_id

    files, found = ModelFiles(settings.data), model_id or shipped_encoder_id()
    opener = embedder_opener(files, found)
    if opener is not None and files.calibration(found) is None:
        return _Measured(model_id=found, opener=opener, scorer=cosine, scorer_name="cosine, not calibrated")
    return _Measured(
        model_id=found,
        opener=opener,
        scorer=calibrated(model_calibration(files, found)),
        scorer_name="the shipped calibration" if opener is None else "its calibration",
    )


def _measured(
    settings: Settings,
    conditions: Conditions,
    measured: _Measured,
    folder: Path | None,
    trials: Path | None,
    root: Path | None,
    speakers: Path | None,
    cache: Path,
    workers: int,
    quiet: bool,
) -> tuple[list[Outcome], str, dict[str, SpeakerInfo]]:
    from sonant.demo.speech import fetch_voices
    from sonant.evaluation.run import evaluate_speakers, evaluate_trials
    from sonant.evaluation.trials import (
        SPEAKERS_FILE,
        SpeakerInfo,
        read_speaker_info,
        read_trials,
        recordings_by_speaker,
        speakers_of,
    )

    facts = read_speaker_info(speakers) if speakers else {}
    progress = _Progress(show_progress(quiet))
    if trials:
        listed = read_trials(trials, root)
        whose = speakers_of(listed, (root or trials.parent))
        outcomes = evaluate_trials(
            listed,
            whose,
            conditions,
            audio=settings.audio,
            scorer=measured.scorer,
            workers=workers,
            progress=progress,
            opener=measured.opener,
        )
        return outcomes, f"{len(listed):,} trials of {trials.name}", facts
    if folder:
        recordings = recordings_by_speaker(folder)
        if not speakers and (folder / SPEAKERS_FILE).is_file():
            facts = read_speaker_info(folder / SPEAKERS_FILE)
        data = f"{len(recordings)} speakers of {folder.absolute().name}"
    else:
        say = (lambda _text: None) if quiet else (lambda text: click.echo(text, err=True))
        recordings = fetch_voices(cache.absolute(), progress=say)
        facts = facts or {name: SpeakerInfo(gender=gender) for name, gender in GENDERS.items()}
        data = f"{len(recordings)} telephone voices"
    outcomes = evaluate_speakers(
        recordings,
        conditions,
        audio=settings.audio,
        scorer=measured.scorer,
        workers=workers,
        progress=progress,
        opener=measured.opener,
    )
    return outcomes, data, facts


def _write_all(folder: Path, text: str, document: str, outcomes: list[Outcome]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.txt").write_text(text, "utf-8")
    (folder / "report.json").write_text(document, "utf-8")
    with (folder / "scores.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(
            ("channel", "enroll_s", "test_s", "reference_speaker", "probe_speaker", "genuine", "raw", "score")
        )
        for outcome in outcomes:
            scores = outcome.raw if outcome.score is None else outcome.score
            names = outcome.speakers
            for one, two, genuine, raw, score in zip(
                outcome.reference_speaker.tolist(),
                outcome.probe_speaker.tolist(),
                outcome.genuine.tolist(),
                outcome.raw.tolist(),
                scores.tolist(),
                strict=True,
            ):
                made = raw == raw  # NaN: the probe gave no template
                rows.writerow(
                    (
                        outcome.line.name,
                        outcome.enroll_s,
                        outcome.test_s,
                        names[one],
                        names[two],
                        int(genuine),
                        f"{raw:.6f}" if made else "",
                        f"{score:.3f}" if made and outcome.score is not None else "",
                    )
                )


class _Progress:
    """A line that counts what has been embedded, for people at a terminal."""

    def __init__(self, shown: bool) -> None:
        self._shown = shown

    def __call__(self, done: int, total: int) -> None:
        if self._shown:
            click.echo(f"\rembedded {done} of {total}", nl=done == total, err=True)
