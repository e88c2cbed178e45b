"""`sonant evaluate second-voice`: second voices that are found, and single callers taken for two."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from sonant.cli.context import CliContext, Command, pass_cli
from sonant.demo.speech import fetch_voices
from sonant.evaluation.second_voice import LINES, Counts, conditions, measure, single_conditions
from sonant.evaluation.trials import recordings_by_speaker

DEFAULT_LENGTHS_S = (10.0, 30.0)


@click.command("second-voice", cls=Command)
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--recordings",
    type=click.IntRange(1, 10_000),
    default=30,
    show_default=True,
    help="Recordings of two people, a condition.",
)
@click.option(
    "--single",
    type=click.IntRange(1, 10_000),
    default=20,
    show_default=True,
    help="Recordings of one person, a condition.",
)
@click.option(
    "--speech-s",
    "lengths_s",
    multiple=True,
    type=click.FloatRange(2.0, 600.0),
    help="Net speech of a recording; may be repeated [10, 30].",
)
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Equal seeds, equal figures."
)
@click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=Path(".cache/speech"),
    show_default=True,
    help="Where fetched speech is kept.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write figures as JSON.")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes [one a core].")
@pass_cli
def second_voice(
    cli: CliContext,
    folder: Path | None,
    recordings: int,
    single: int,
    lengths_s: tuple[float, ...],
    seed: int,
    cache: Path,
    json_file: Path | None,
    workers: int | None,
) -> None:
    """Measure how second voices are found, and how often one person is taken for two.

    Recordings are composed of the speech of DIR (a sub-folder a person), or of the fetched telephone voices.
    """
    settings = cli.settings()

    def progress(text: str) -> None:
        if cli.shows_progress:
            click.echo(text, err=True)

    people: Mapping[str, Sequence[Path]]
    people = recordings_by_speaker(folder) if folder else fetch_voices(cache.absolute(), progress=progress)
    counts: list[Counts] = []
    for wanted, number, what in (
        (conditions(), recordings, "two people"),
        (single_conditions(), single, "one person"),
    ):
        counts += measure(
            people,
            wanted,
            recordings=number,
            net_speech_s=lengths_s or DEFAULT_LENGTHS_S,
            audio=settings.audio,
            seed=seed,
            workers=workers or settings.workers,
            progress=_rows(progress, what),
        )
    document = {"people": len(people), "lines": LINES, "rows": [_document(one) for one in counts]}
    cli.show(document, report_lines(counts, len(people)))
    if json_file:
        json_file.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def _rows(progress: Callable[[str], None], what: str) -> Callable[[int, int], None]:
    return lambda done, of: progress(f"{what}: {done} of {of} rows")


def report_lines(counts: Sequence[Counts], people: int) -> Iterator[str]:
    """Write the figures as lines of text."""
    yield f"{people} people; lines {', '.join(LINES)} in turn, unless a row names one"
    yield "possible: at least a warning; certain: an enrollment is refused"
    group = ""
    for one in counts:
        if one.condition.group != group:
            group = one.condition.group
            yield ""
            yield f"{group:66s} speech  recordings  possible  certain"
        yield (
            f"  {one.condition.mixture.name:64s} {one.net_speech_s:4.0f} s {one.recordings:11d} "
            f"{one.possible:9d} {one.certain:8d}"
        )
    single = [one for one in counts if one.condition.mixture.people == 1]
    total = sum(one.recordings for one in single)
    if total:
        possible, certain = sum(one.possible for one in single), sum(one.certain for one in single)
        yield ""
        yield (
            f"one person: {total} recordings, a second voice possible in {possible} "
            f"({possible / total:.1%}), certain in {certain} ({certain / total:.1%})"
        )


def _document(one: Counts) -> dict[str, Any]:
    figures = asdict(one)
    condition = figures.pop("condition")
    return {"group": condition["group"], "condition": condition["mixture"]["name"], **figures}
