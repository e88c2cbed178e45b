"""`sonant evaluate robustness`: scores under faults of lines and recordings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from sonant import __version__
from sonant.cli.context import CliContext, Command, pass_cli
from sonant.demo.speech import fetch_voices
from sonant.errors import SetupError
from sonant.evaluation.channels import parse
from sonant.evaluation.embedding import PieceTemplates, run_tasks
from sonant.evaluation.robustness import CLEAN_CONDITION, CONDITIONS, Condition, Sizes, rows_of, tasks_of
from sonant.evaluation.robustness_report import RobustnessReport, as_html, as_json, text_lines
from sonant.evaluation.scorer import calibrated
from sonant.evaluation.trials import recordings_by_speaker
from sonant.jobs.model_registry import embedder_opener, model_calibration
from sonant.storage.model_files import ModelFiles
from sonant.voice.models.packaged import encoder_id


@click.command("robustness", cls=Command)
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--condition",
    "channels",
    multiple=True,
    metavar="CHANNEL",
    help="Condition to measure instead of the table's, such as offset:0.02 or hum:50:10; may be repeated.",
)
@click.option(
    "--enroll-s",
    type=click.FloatRange(1.6, 600),
    default=30.0,
    show_default=True,
    help="Net speech.",
)
@click.option(
    "--call-s", type=click.FloatRange(1.6, 600), default=10.0, show_default=True, help="Net speech of a call."
)
@click.option(
    "--references",
    type=click.IntRange(1, 50),
    default=1,
    show_default=True,
    help="Enrollments a person, at most.",
)
@click.option(
    "--calls", type=click.IntRange(1, 200), default=1, show_default=True, help="Calls a person, at most."
)
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Equal seeds, equal figures."
)
@click.option("--model", "model_id", metavar="ID", help="Voice model to measure [the one of new domains].")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write figures as JSON.")
@click.option("--html", "html_file", type=click.Path(path_type=Path), help="Write a page.")
@click.option("--report-dir", type=click.Path(path_type=Path), help="Write report.txt, .json and .html here.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=Path(".cache/speech"),
    show_default=True,
    help="Where fetched speech is kept.",
)
@click.option("--workers", type=click.IntRange(1, 256), help="Processes [one a core].")
@pass_cli
def robustness(
    cli: CliContext,
    folder: Path | None,
    channels: tuple[str, ...],
    enroll_s: float,
    call_s: float,
    references: int,
    calls: int,
    seed: int,
    model_id: str | None,
    json_file: Path | None,
    html_file: Path | None,
    report_dir: Path | None,
    cache: Path,
    workers: int | None,
) -> None:
    """Measure scores under faults of lines and recordings.

    Offset, hum, tones, level, clipping, tilt, clicks, the agent's voice and wrong sample rates, on the calls
    only and on both sides. The recordings are those of DIR (one sub-folder a person), or else telephone
    voices fetched from Debian packages. Every other recording is for enrollments, the rest for calls.
    """
    settings = cli.settings()
    for file in (json_file, html_file):
        if file and not file.absolute().parent.is_dir():
            raise SetupError(f"{file.parent} is not a folder")
    conditions = _conditions(channels)
    sizes = Sizes(enroll_s=enroll_s, call_s=call_s, references=references, calls=calls, seed=seed)
    recordings: Mapping[str, Sequence[Path]] = (
        recordings_by_speaker(folder) if folder else fetch_voices(cache.absolute(), progress=cli.report)
    )
    files, measured = ModelFiles(settings.data), model_id or encoder_id(settings.encoder)
    scorer = calibrated(model_calibration(files, measured))
    pieces: list[PieceTemplates] = []
    unreadable = 0
    with cli.progress_bar(length=2 * len(recordings), label="embedding") as bar:
        for result in run_tasks(
            tasks_of(recordings, conditions, sizes, audio=settings.audio),
            workers=workers or settings.workers,
            progress=lambda done, _total: bar.update(done - bar.pos),
            opener=embedder_opener(files, measured),
        ):
            pieces += result.templates
            unreadable += result.unreadable
    name = folder.absolute().name if folder else ""
    report = RobustnessReport(
        data=f"{len(recordings)} people of {name}" if folder else f"{len(recordings)} telephone voices",
        model_id=measured,
        version=__version__,
        sizes=sizes,
        unreadable=unreadable,
        rows=rows_of(pieces, conditions, scorer),
    )
    text, document = list(text_lines(report)), as_json(report)
    cli.show(document, text)
    contents = {
        "report.txt": "\n".join(text) + "\n",
        "report.json": json.dumps(document, indent=2) + "\n",
        "report.html": as_html(report),
    }
    _write(contents, json_file, html_file, report_dir)


def _conditions(channels: Sequence[str]) -> tuple[Condition, ...]:
    """Take the table's conditions, or those given, after the clean one. Raises SetupError."""
    if not channels:
        return CONDITIONS
    given = [Condition(name=parse(text).name, channel=parse(text).name) for text in dict.fromkeys(channels)]
    return (CLEAN_CONDITION, *given)


def _write(
    contents: Mapping[str, str], json_file: Path | None, html_file: Path | None, report_dir: Path | None
) -> None:
    if json_file:
        json_file.write_text(contents["report.json"], "utf-8")
    if html_file:
        html_file.write_text(contents["report.html"], "utf-8")
    if report_dir:
        report_dir.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            (report_dir / name).write_text(content, "utf-8")
