"""`sonant speaker duplicates`: one voice under several ids, found in the data folder itself."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import click

from sonant.assembly.installation import write_private
from sonant.cli.common import table
from sonant.cli.folder_domains import opened_domain
from sonant.jobs.calibration_cache import domain_calibration
from sonant.jobs.model_registry import model_calibration
from sonant.operations.duplicates import Pair, find_pairs, load_voices
from sonant.settings import Settings
from sonant.storage.model_files import ModelFiles
from sonant.storage.repositories import speakers
from sonant.voice.pairwise import connected_groups

#: Lines of the table; all groups are in the JSON file.
_SHOWN = 50


def duplicates(settings: Settings, domain_id: str, one_in: int, file: Path | None) -> int:
    """Print groups of speakers whose voices are the same; 1 when there are any. Raises SetupError."""
    with opened_domain(settings, domain_id) as (connection, domain, vault):
        begun_s = time.monotonic()
        voices = load_voices(connection, vault, domain.domain_id)
        if voices is None:
            click.echo(f"domain {domain_id} has no enrolled speakers")
            return 0
        scale = domain_calibration(
            connection,
            domain.domain_id,
            voices.model_id,
            partial(model_calibration, ModelFiles(settings.data)),
        )
        pairs = list(find_pairs(voices, scale, 1 / one_in))
        place = {speaker_id: number for number, speaker_id in enumerate(voices.speaker_ids)}
        found = connected_groups([(place[pair.first], place[pair.second]) for pair in pairs])
        named: dict[str, str] = {}
        for number in (number for group in found for number in group):
            speaker_id = voices.speaker_ids[number]
            speaker = speakers.find(connection, vault, domain.domain_id, speaker_id)
            named[speaker_id] = speaker_id if speaker is None else speaker.customer_id(vault)
        took_s = time.monotonic() - begun_s
    count = len(voices.speaker_ids)
    click.echo(
        f"{count:,} speakers compared, each with every other, in {took_s:.1f} s"
        + (f"; {voices.left_out:,} of other voice models left out" if voices.left_out else "")
    )
    chance = count * (count - 1) / 2 / one_in
    click.echo(f"pairs of different people to be expected at one in {one_in:,}: {chance:.2g}")
    if not found:
        click.echo("no voice is there twice")
        return 0
    ids = [[voices.speaker_ids[number] for number in group] for group in found]
    rows = [(len(group), _rarest(group, pairs), ", ".join(named[one] for one in group)) for group in ids]
    click.echo(table(rows[:_SHOWN], ("ids", "one in", "speakers")))
    if len(rows) > _SHOWN:
        click.echo(f"... and {len(rows) - _SHOWN:,} more groups" + ("" if file else "; --json has them all"))
    if file is not None:
        write_private(file, json.dumps(_document(ids, named, pairs), indent=2) + "\n")
        click.echo(f"written to {file}")
    return 1


def _rarest(group: list[str], pairs: list[Pair]) -> str:
    members = set(group)
    least = min(pair.log10_rate for pair in pairs if pair.first in members)
    return f"1e{-least:.0f}" if least > -15 else "1e15 or more"


def _document(ids: list[list[str]], named: dict[str, str], pairs: list[Pair]) -> dict[str, Any]:
    return {
        "groups": [
            [{"customerSpeakerId": named[one], "generatedSpeakerId": one} for one in group] for group in ids
        ],
        "pairs": [
            {
                "first": pair.first,
                "second": pair.second,
                "similarity": round(pair.similarity, 4),
                "falseMatchRateLog10": round(pair.log10_rate, 1),
            }
            for pair in pairs
        ],
    }
