"""`sonant evaluate fraudsters`: how often the known-fraudster risk flags people who are on no list."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from sonant.cli.context import CliContext, Command, pass_cli
from sonant.demo.readers import fetch_readers
from sonant.demo.speech import fetch_voices
from sonant.evaluation.embedding import PieceRequest, PieceTemplates, Task, Use, run_tasks
from sonant.evaluation.false_alerts import Alerts, PersonVoice, false_alerts
from sonant.evaluation.trials import recordings_by_speaker
from sonant.jobs.model_registry import embedder_opener, model_calibration
from sonant.settings import Audio
from sonant.storage.model_files import ModelFiles
from sonant.voice.models.packaged import encoder_id

LINES = ("g711", "gsm", "narrow+g711-a", "pink:15+g711", "reverb:0.4+gsm", "loss:5+g711")
"""Lines of the calls, and of the recordings that fraudsters were registered with."""
_KNOWN: Use = "reference"
_CALL: Use = "probe"
NOMINAL_SHARE = 0.01
"""Share of calls with a risk of 50 or more, by the definition of the risk."""


@click.command("fraudsters", cls=Command)
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
@click.option("--model", "model_id", metavar="ID", help="Voice model to measure [the one of new domains].")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write figures as JSON.")
@click.option("--workers", type=click.IntRange(1, 256), help="Processes [one a core].")
@pass_cli
def fraudsters(
    cli: CliContext,
    folder: Path | None,
    listed: Path | None,
    readers: bool,
    sizes: tuple[int, ...],
    calls: int,
    call_s: float,
    list_s: float,
    seed: int,
    cache: Path,
    model_id: str | None,
    json_file: Path | None,
    workers: int | None,
) -> None:
    """Measure false alarms of the known-fraudster risk.

    The callers are those of DIR (a sub-folder a person) or fetched, compared with lists of other people.
    Longer lists than there are people are filled up with voices synthesised from those of real people.
    """
    settings = cli.settings()
    files, measured = ModelFiles(settings.data), model_id or encoder_id(settings.encoder)
    calibration = model_calibration(files, measured)

    def progress(text: str) -> None:
        if cli.shows_progress:
            click.echo(text, err=True)

    people = _people(folder, listed, readers, cache, progress)
    made: list[PieceTemplates] = []
    unreadable = 0
    tasks = _tasks(people, settings.audio, call_s=call_s, list_s=list_s, calls=calls, seed=seed)
    for result in run_tasks(
        tasks,
        workers=workers or settings.workers,
        progress=lambda done, of: progress(f"embedded {done} of {of} people"),
        opener=embedder_opener(files, measured),
    ):
        made += result.templates
        unreadable += result.unreadable
    probes, known = (_voices(made, people, use) for use in (_CALL, _KNOWN))
    progress("comparing")
    found = false_alerts(probes, known, calibration, sizes or (10, 100, 500), seed=seed)
    source = f"{sum(one.calls for one in people.values())} callers, {len(people)} people to be on lists"
    document = {
        "speech": source,
        "model_id": calibration.model_id,
        "unreadable": unreadable,
        "lists": [asdict(one) | {"share": one.share, "meant": NOMINAL_SHARE} for one in found],
    }
    cli.show(document, report_lines(found, source, unreadable))
    if json_file:
        json_file.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def report_lines(found: Sequence[Alerts], source: str, unreadable: int) -> Iterator[str]:
    """Write the figures as lines of text."""
    first = found[0]
    yield f"{source}; {first.calls} calls over {', '.join(LINES)}"
    if unreadable:
        yield f"{unreadable} recordings could not be read"
    yield f"known-fraudster risk of 50 or more, meant to be reached by {NOMINAL_SHARE:.0%} of calls"
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
    """A person's recordings, and how they are used."""

    recordings: Sequence[Path]
    calls: bool
    """Whether the person calls; all people can be on lists."""
    kin: str
    """Equal for entries that may be one person."""


def _people(
    folder: Path | None, listed: Path | None, readers: bool, cache: Path, progress: Callable[[str], None]
) -> dict[str, Person]:
    """Collect callers and people for the lists, by name. Raises SetupError."""
    callers = recordings_by_speaker(folder) if folder else fetch_voices(cache, progress=progress)
    found = {name: Person(recordings=files, calls=True, kin=name) for name, files in callers.items()}
    if listed:
        for name, files in recordings_by_speaker(listed).items():
            found[f"list/{name}"] = Person(recordings=files, calls=False, kin=name)
    if readers or not (folder or listed):
        for name, one in fetch_readers(cache, progress=progress).items():
            found[name] = Person(recordings=one.recordings, calls=readers, kin=f"reader of {one.language}")
    return found


def _tasks(
    people: Mapping[str, Person], audio: Audio, *, call_s: float, list_s: float, calls: int, seed: int
) -> list[Task]:
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
    number = {name: index for index, name in enumerate(people)}
    families = sorted({person.kin for person in people.values()})
    family = {kin: index for index, kin in enumerate(families)}
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
