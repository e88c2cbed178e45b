"""`sonant speaker ...`: the speakers of a domain.

What this module defines reads the data folder itself; `speaker_calls` calls the service.
"""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import click

from sonant.assembly.installation import write_private
from sonant.assembly.jobs import build_outbox
from sonant.cli.context import CliContext, Group, pass_cli, table
from sonant.cli.folder_domains import opened_domain
from sonant.cli.speaker_calls import delete, describe, export, list_speakers, opt_out
from sonant.cli.speaker_deletions import prove_deleted, receipt, receipt_key, verify_receipt
from sonant.errors import SetupError
from sonant.events.documents import speaker_protection_event
from sonant.jobs.calibration_cache import domain_calibration
from sonant.jobs.model_registry import model_calibration
from sonant.operations.duplicates import Pair, find_pairs, load_voices
from sonant.storage.model_files import ModelFiles
from sonant.storage.repositories import score_misses, speakers
from sonant.storage.times import now
from sonant.voice.pairwise import connected_groups

#: Rows of the table; all groups are in the JSON document.
_MOST_ROWS = 50

speaker = Group("speaker", help="List, opt out, delete and export speakers, and prove deletions.")


@speaker.command("duplicates")
@click.argument("domain_id")
@click.option(
    "--one-in",
    type=click.IntRange(10, 1_000_000_000),
    default=10_000_000,
    show_default=True,
    help="List pairs so alike as only one in so many pairs of different people is.",
)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write all groups and pairs here.")
@pass_cli
def duplicates(cli: CliContext, domain_id: str, one_in: int, file: Path | None) -> None:
    """Find speakers of a domain whose voices are the same; exits 1 when there are any."""
    settings = cli.settings()
    with opened_domain(settings, domain_id) as (connection, domain, vault):
        start_s = time.monotonic()
        voices = load_voices(connection, vault, domain.domain_id)
        if voices is None:
            cli.show(_document([], {}, []), f"domain {domain_id} has no enrolled speakers")
            return
        scale = domain_calibration(
            connection,
            domain.domain_id,
            voices.model_id,
            partial(model_calibration, ModelFiles(settings.data)),
        )
        pairs = list(find_pairs(voices, scale, 1 / one_in))
        index = {speaker_id: number for number, speaker_id in enumerate(voices.speaker_ids)}
        found = connected_groups([(index[pair.first], index[pair.second]) for pair in pairs])
        ids = [[voices.speaker_ids[number] for number in group] for group in found]
        customer_ids: dict[str, str] = {}
        for speaker_id in (one for group in ids for one in group):
            one = speakers.find(connection, vault, domain.domain_id, speaker_id)
            customer_ids[speaker_id] = speaker_id if one is None else one.customer_id(vault)
        took_s = time.monotonic() - start_s
    count = len(voices.speaker_ids)
    lines = [
        f"{count:,} speakers compared, each with every other, in {took_s:.1f} s"
        + (f"; {voices.left_out:,} of other voice models left out" if voices.left_out else ""),
        f"pairs of different people to be expected at one in {one_in:,}: "
        f"{count * (count - 1) / 2 / one_in:.2g}",
    ]
    document = _document(ids, customer_ids, pairs)
    if ids:
        rows = [
            (len(group), _lowest_rate(group, pairs), ", ".join(customer_ids[one] for one in group))
            for group in ids
        ]
        lines.append(table(rows[:_MOST_ROWS], ("ids", "one in", "speakers")))
        if len(rows) > _MOST_ROWS:
            hint = "" if file else "; --json has them all"
            lines.append(f"... and {len(rows) - _MOST_ROWS:,} more groups{hint}")
        if file is not None:
            write_private(file, json.dumps(document, indent=2) + "\n")
            lines.append(f"written to {file}")
    else:
        lines.append("no voice is there twice")
    cli.show(document, lines)
    sys.exit(1 if ids else 0)


@speaker.command("unlock")
@click.argument("domain_id")
@click.argument("speaker_id")
@pass_cli
def unlock(cli: CliContext, domain_id: str, speaker_id: str) -> None:
    """Make a speaker comparable again who is locked after many rejections, or was compared with too many
    voices. SPEAKER_ID is your own id or the generated one."""
    settings = cli.settings()
    with opened_domain(settings, domain_id, write=True) as (connection, domain, vault):
        found = speakers.find(connection, vault, domain.domain_id, speaker_id)
        if found is None:
            raise SetupError(f"domain {domain_id} has no such speaker")
        forgotten = score_misses.delete_of(connection, found.speaker_id)
        if forgotten:
            event = speaker_protection_event(
                domain, "UNLOCK_SPEAKER", speaker_id=found.speaker_id, principal_arn=None
            )
            build_outbox(settings).put(connection, [event], now())
    cli.show(
        {"generatedSpeakerId": found.speaker_id, "forgottenComparisons": forgotten},
        f"speaker {found.speaker_id} is open; {forgotten} comparisons that did not match were forgotten",
    )


for _command in (
    *(list_speakers, describe, opt_out, delete, export),
    *(receipt, receipt_key, verify_receipt, prove_deleted),
):
    speaker.add_command(_command)


def _lowest_rate(group: list[str], pairs: list[Pair]) -> str:
    """Write the lowest false match rate of a group's pairs as its reciprocal."""
    members = set(group)
    least = min(pair.log10_rate for pair in pairs if pair.first in members)
    return f"1e{-least:.0f}" if least > -15 else "1e15 or more"


def _document(ids: list[list[str]], customer_ids: dict[str, str], pairs: list[Pair]) -> dict[str, Any]:
    return {
        "groups": [
            [{"customerSpeakerId": customer_ids[one], "generatedSpeakerId": one} for one in group]
            for group in ids
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
