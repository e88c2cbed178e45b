"""`sonant evaluate verification`: error rates on your recordings or on real telephone voices."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import click

from sonant import __version__
from sonant.cli.context import CliContext, Command, pass_cli, split_output
from sonant.cli.measured_models import SpeechSource, compare_all_speech, open_measured, paired_results
from sonant.errors import SetupError
from sonant.evaluation import paired_report, plots, report
from sonant.evaluation.figures import all_results
from sonant.evaluation.page import as_html
from sonant.evaluation.run import Conditions, Line, Outcome
from sonant.evaluation.trials import read_speaker_info


@click.command("verification", cls=Command)
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
@click.option("--model", "model_id", metavar="ID", help="Voice model to measure [the one of new domains].")
@click.option(
    "--compare",
    "compared_id",
    metavar="ID",
    help="A second voice model: is it better on the same comparisons? (paired bootstrap)",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write figures as JSON.")
@click.option("--html", "html_file", type=click.Path(path_type=Path), help="Write a page with plots.")
@click.option(
    "--report-dir",
    type=click.Path(path_type=Path),
    help="Write report.txt, .json, .html and scores.csv here.",
)
@click.option("--output", help="text or json: the form of results. Else the same as --report-dir.")
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=Path(".cache/speech"),
    show_default=True,
    help="Where fetched speech is kept.",
)
@click.option("--workers", type=click.IntRange(1, 256), help="Processes [one a core].")
@pass_cli
def verification(
    cli: CliContext,
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
    compared_id: str | None,
    json_file: Path | None,
    html_file: Path | None,
    report_dir: Path | None,
    output: str | None,
    cache: Path,
    workers: int | None,
) -> None:
    """Measure verification error rates.

    The recordings are those of DIR (one sub-folder a speaker), those of a trial list, or else telephone
    voices fetched from Debian packages. With --compare the figures of a second voice model on the same
    comparisons follow, each with its difference.
    """
    cli, folder_name = split_output(cli, output)
    report_dir = report_dir or (Path(folder_name) if folder_name else None)
    settings = cli.settings()
    _check_files(folder, trials, json_file, html_file)
    given_info = read_speaker_info(speakers) if speakers else {}
    default_test = (None,) if trials else (10.0, 5.0, 3.0)
    conditions = Conditions(
        enroll_s=enroll_s if enroll_s or trials else 30.0,
        test_s=tuple(dict.fromkeys(test_s)) or default_test,
        lines=tuple(dict.fromkeys(map(Line.parse, channels))) or (Line(),),
        references=references,
        probes=probes,
        seed=seed,
    )
    measured = open_measured(settings, model_id)
    second = open_measured(settings, compared_id) if compared_id else None
    if second is not None and second.model_id == measured.model_id:
        raise SetupError(f"--compare needs another voice model than {measured.model_id}")
    source = SpeechSource(folder=folder, trials=trials, root=root, cache=cache)
    workers = workers or settings.workers
    comparisons = compare_all_speech(cli, settings, conditions, measured, source, workers)
    found = report.Report(
        data=comparisons.data,
        model_id=measured.model_id,
        scorer=measured.scorer_name,
        version=__version__,
        seed=seed,
        results=all_results(comparisons.outcomes, given_info or comparisons.speaker_info),
    )
    text, document = report.as_text(found), report.as_json(found)
    if second is not None:
        others = compare_all_speech(cli, settings, conditions, second, source, workers)
        paired = paired_results(measured, comparisons, second, others)
        text += "\n" + paired_report.as_text(paired)
        document["compared"] = paired_report.as_json(paired)
    cli.show(document, text.removesuffix("\n"))
    json_text = json.dumps(document, indent=2) + "\n"
    if json_file:
        json_file.write_text(json_text, "utf-8")
    if html_file:
        html_file.write_text(as_html(found), "utf-8")
    if report_dir:
        _write_all(report_dir, text, json_text, comparisons.outcomes)
        try:
            (report_dir / "report.html").write_text(as_html(found), "utf-8")
        except SetupError as fault:
            click.echo(f"no report.html: {fault}", err=True)


def _check_files(
    folder: Path | None, trials: Path | None, json_file: Path | None, html_file: Path | None
) -> None:
    """Find out before the work what cannot be read or written. Raises SetupError."""
    if folder and trials:
        raise SetupError("give a folder of speakers or --trials, not both")
    if html_file:
        plots.need_matplotlib()
    for file in (json_file, html_file):
        if file and not file.absolute().parent.is_dir():
            raise SetupError(f"{file.parent} is not a folder")


def _write_all(folder: Path, text: str, document: str, outcomes: list[Outcome]) -> None:
    """Write the report as text and JSON, and all scores as CSV."""
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
                scored = raw == raw  # NaN: the probe gave no embedding
                rows.writerow(
                    (
                        outcome.line.name,
                        outcome.enroll_s,
                        outcome.test_s,
                        names[one],
                        names[two],
                        int(genuine),
                        f"{raw:.6f}" if scored else "",
                        f"{score:.3f}" if scored and outcome.score is not None else "",
                    )
                )
