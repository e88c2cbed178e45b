"""`sonant evaluate parties`: which party is enrolled from recordings of both on one channel."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import click

from sonant.cli.context import CliContext, Command, pass_cli
from sonant.demo.speech import fetch_voices
from sonant.errors import AudioError
from sonant.evaluation.cutting import SegmentedRecording, segment_recording
from sonant.evaluation.embedding import read
from sonant.evaluation.parties import PartyTrial, PartyTrials, RequestMaker, measure_parties
from sonant.evaluation.trials import recordings_by_speaker
from sonant.settings import Audio
from sonant.voice.audio.recording import RATE_HZ
from sonant.voice.models import Models, load_models

MOST_SPEECH_S = 300.0
"""Speech of a person that is used."""


@click.command("parties", cls=Command)
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--agents", type=click.IntRange(1), default=3, show_default=True, help="People who are agents.")
@click.option("--requests", type=click.IntRange(1, 100_000), default=100, show_default=True)
@click.option(
    "--least",
    type=click.IntRange(1, 10),
    default=2,
    show_default=True,
    help="Fewest recordings of a request.",
)
@click.option(
    "--most", type=click.IntRange(1, 10), default=5, show_default=True, help="Most recordings of a request."
)
@click.option(
    "--call-s",
    type=click.FloatRange(15, 600),
    default=60.0,
    show_default=True,
    help="Speech of a recording, of both parties.",
)
@click.option("--agents-known", is_flag=True, help="Name a recording of every agent, as AgentVoices does.")
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
@pass_cli
def parties(
    cli: CliContext,
    folder: Path | None,
    agents: int,
    requests: int,
    least: int,
    most: int,
    call_s: float,
    agents_known: bool,
    seed: int,
    cache: Path,
    json_file: Path | None,
) -> None:
    """Measure how often SpeakerSelection RECURRING enrolls the wrong party, or nobody.

    Conversations are made of the speech of single people: those of DIR (a sub-folder a person) or fetched.
    Those with most speech are the agents.
    """
    if least > most:
        raise click.UsageError("--least must not be greater than --most")

    def progress(text: str) -> None:
        if cli.shows_progress:
            click.echo(text, err=True)

    files = recordings_by_speaker(folder) if folder else fetch_voices(cache, progress=progress)
    models = load_models()
    people = _read_people(files, cli.settings().audio, models)
    trials = measure_parties(
        RequestMaker(people, agents=agents, call_s=call_s),
        models,
        requests=requests,
        recordings=(least, most),
        agents_known=agents_known,
        seed=seed,
        progress=lambda done: progress(f"{done} of {requests} requests"),
    )
    rows = [
        *(_of_count(trials, count) for count in sorted({trial.recordings for trial in trials})),
        PartyTrials.of("all", trials),
    ]
    document = {"people": len(people), "agents": agents, "rows": [asdict(row) for row in rows]}
    cli.show(document, report_lines(rows, len(people), agents))
    if json_file:
        json_file.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def report_lines(rows: Sequence[PartyTrials], people: int, agents: int) -> Iterator[str]:
    """Write the figures as lines of text."""
    yield f"{people} people, {agents} of them agents"
    yield "right: the customer is at least 80 % of the selected speech; mixed: half; wrong: less"
    yield ""
    yield "recordings  requests   right   mixed   wrong  refused"
    for row in rows:
        shares = [count / row.requests for count in row.outcomes.values()]
        right, mixed, wrong, refused = (f"{share:7.1%}" for share in shares)
        yield f"{row.name:>10} {row.requests:9d} {right} {mixed} {wrong}  {refused}"


def _of_count(trials: Sequence[PartyTrial], count: int) -> PartyTrials:
    return PartyTrials.of(str(count), [trial for trial in trials if trial.recordings == count])


def _read_people(
    files: Mapping[str, Sequence[Path]], audio: Audio, models: Models
) -> dict[str, list[SegmentedRecording]]:
    """Decode each person's recordings until there is enough speech; leave out unreadable ones."""
    people: dict[str, list[SegmentedRecording]] = {}
    for name, recordings in files.items():
        have, mine = 0, people.setdefault(name, [])
        for file in recordings:
            if have >= MOST_SPEECH_S * RATE_HZ:
                break
            try:
                mine.append(segment_recording(str(file), read(file, audio), models))
            except AudioError:
                continue
            have += mine[-1].net_samples
    return people
