"""`sonant evaluate fraudsters`: how often the known-fraudster risk flags people who are on no list."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sonant.cli.common import data_option, load_settings, show_progress

if TYPE_CHECKING:
    from sonant.evaluation.embedding import PieceTemplates, Task, Use
    from sonant.evaluation.false_alerts import Alerts, PersonVoice
    from sonant.settings import Audio

LINES = ("g711", "gsm", "narrow+g711-a", "pink:15+g711", "reverb:0.4+gsm", "loss:5+g711")
"""Calls come over each of them, and so do the recordings that fraudsters were registered with."""
_KNOWN: Use = "reference"
_CALL: Use = "probe"
MEANT = 0.01
"""What a risk of 50 stands for."""


@click.command("fraudsters")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--list",
    "listed",
    type=click.Path(path_type=Path),
    help="People who are on lists only, a sub-folder each [without DIR: readers of words].",
)
@click.option(
    "--readers", is_flag=True, help="Count the fetched readers of letters and words as callers too."
)
@click.option(
    "--size",
    "sizes",
    multiple=True,
    type=click.IntRange(1, 100_000),
    help="Length of the list; may be repeated [10, 100, 500].",
)
@click.option(
    "--calls", type=click.IntRange(1, 200), default=2, show_default=True, help="A person and line, at most."
)
@click.option(
    "--call-s", type=click.FloatRange(1.6, 600), default=10.0, show_default=True, help="Net speech of a call."
)
@click.option(
    "--list-s",
    type=click.FloatRange(1.6, 600),
    default=10.0,
    show_default=True,
    help="Net speech of a fraudster's voiceprint.",
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
@click.option("--quiet", is_flag=True, help="No progress.")
@data_option
def fraudsters(
    folder: Path | None,
    listed: Path | None,
    readers: bool,
    sizes: tuple[int, ...],
    calls: int,
    call_s: float,
    list_s: float,
    seed: int,
    cache: Path,
    json_file: Path | None,
    workers: int | None,
    quiet: bool,
    data: Path | None,
    config: Path | None,
) -> None:
    """Measure false alerts: callers, of DIR (a sub-folder a person) or fetched, against lists of others.

    Lists that are longer than there are people are filled up with voices made from those of real people.
    """
    from sonant.evaluation.embedding import run_tasks
    from sonant.evaluation.false_alerts import false_alerts
    from sonant.voice.calibration.file import calibration_of
    from sonant.voice.models import load_models

    settings, shown = load_settings(data, config), show_progress(quiet)

    def say(text: str) -> None:
        if shown:
            click.echo(text, err=True)

    people = _people(folder, listed, readers, cache, say)
    made: list[PieceTemplates] = []
    unreadable = 0
    tasks = _tasks(people, settings.audio, call_s=call_s, list_s=list_s, calls=calls, seed=seed)
    for result in run_tasks(
        tasks,
        workers=workers or settings.workers,
        progress=lambda done, of: say(f"heard {done} of {of} people"),
    ):
        made += result.templates
        unreadable += result.unreadable
    asked, known = (_voices(made, people, use) for use in (_CALL, _KNOWN))
    calibration = calibration_of(load_models().encoder_id)
    say("comparing")
    found = false_alerts(asked, known, calibration, sizes or (10, 100, 500), seed=seed)
    source = f"{sum(one.calls for one in people.values())} callers, {len(people)} people to be on lists"
    click.echo("\n".join(table(found, source, unreadable)))
    if json_file:
        document = {
            "speech": source,
            "model_id": calibration.model_id,
            "unreadable": unreadable,
            "lists": [asdict(one) | {"share": one.share, "meant": MEANT} for one in found],
        }
        json_file.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def table(found: Sequence[Alerts], source: str, unreadable: int) -> Iterator[str]:
    """The figures as lines of text."""
    first = found[0]
    yield f"{source}; {first.calls} calls over {', '.join(LINES)}"
    if unreadable:
        yield f"{unreadable} recordings could not be read"
    yield f"known-fraudster risk of 50 or more, meant to be reached by {MEANT:.0%} of calls"
    yield ""
    yield "list  real  made  comparisons  flagged   share  95 % interval"
    for one in found:
        made = one.size - one.real_on_list
        interval = f"{one.interval.low:.2%} - {one.interval.high:.2%}" if one.interval else "-"
        yield (
            f"{one.size:4d} {one.real_on_list:5.0f} {made:5.0f} {one.lists:12,d} {one.flagged:8,d} "
            f"{one.share:7.2%}  {interval}"
        )
    yield ""
    yield (
        f"one comparison in a hundred, says the calibration; found {first.real_share:.2%} with real voices, "
        f"{first.made_share:.2%} with made ones"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Whose recordings they are, and what is done with them."""

    recordings: Sequence[Path]
    calls: bool
    """Is a caller; everybody can be on a list."""
    kin: str
    """The same for people who may be one person."""


def _people(
    folder: Path | None, listed: Path | None, readers: bool, cache: Path, say: Callable[[str], None]
) -> dict[str, Person]:
    from sonant.demo.readers import fetch_readers
    from sonant.demo.speech import fetch_voices
    from sonant.evaluation.trials import recordings_by_speaker

    callers = recordings_by_speaker(folder) if folder else fetch_voices(cache, progress=say)
    found = {name: Person(recordings=files, calls=True, kin=name) for name, files in callers.items()}
    if listed:
        for name, files in recordings_by_speaker(listed).items():
            found[f"list/{name}"] = Person(recordings=files, calls=False, kin=name)
    if readers or not (folder or listed):
        for name, one in fetch_readers(cache, progress=say).items():
            found[name] = Person(recordings=one.recordings, calls=readers, kin=f"reader of {one.language}")
    return found


def _tasks(
    people: Mapping[str, Person], audio: Audio, *, call_s: float, list_s: float, calls: int, seed: int
) -> list[Task]:
    from sonant.evaluation.embedding import PieceRequest, Task

    return [
        Task(
            speaker=name,
            recordings=tuple(person.recordings),
            whole=False,
            requests=tuple(
                PieceRequest(use=use, net_speech_s=seconds, at_most=calls, channels=(line,))
                for line in LINES
                for use, seconds in ((_KNOWN, list_s), (_CALL, call_s))
                if person.calls or use == _KNOWN
            ),
            others=(),
            seed=seed,
            audio=audio,
        )
        for name, person in people.items()
    ]


def _voices(made: Sequence[PieceTemplates], people: Mapping[str, Person], use: Use) -> list[PersonVoice]:
    from sonant.evaluation.false_alerts import PersonVoice

    number = {name: place for place, name in enumerate(people)}
    families = sorted({person.kin for person in people.values()})
    family = {kin: place for place, kin in enumerate(families)}
    return [
        PersonVoice(
            person=number[piece.speaker],
            group=family[people[piece.speaker].kin],
            sample=template,
        )
        for piece in made
        if piece.use == use
        for template in piece.templates.values()
        if template is not None
    ]
