"""Erase a speaker from dry runs that have not written their reports yet."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from sonant.jobs.faults import Refusal
from sonant.jobs.report_line import outcome_fields
from sonant.storage.crypto.vault import Vault
from sonant.storage.repositories import erasure, jobs

#: Members of a line that name the request; all others were measured from the voice.
_NAMES = ("RequestId", "SpeakerId", "NeededSpeechSeconds")


def erase_from_dry_runs(
    connection: Connection, vault: Vault, domain_id: str, customer_id_hash: bytes, why: str
) -> int:
    """Replace what running dry runs have stored of a speaker by a refusal that says why; how many lines.

    Raises SealBroken for a line that was altered.
    """
    found = jobs.voice_outcomes(connection, domain_id, customer_id_hash)
    for job_id, position, sealed in found:
        place = f"{job_id}/{position}"
        line = erased_line(vault.open_json("job outcome", place, sealed), why)
        jobs.replace_voice_outcome(connection, job_id, position, vault.seal_json("job outcome", place, line))
    if found:
        erasure.increment_version(connection, domain_id)
    return len(found)


def erased_line(line: dict[str, Any], why: str) -> dict[str, Any]:
    """Reduce a line of a report to the names of its request and the reason why there is no more."""
    recordings = [
        {name: recording[name] for name in ("S3Uri", "ChannelId") if name in recording}
        for recording in line.get("Recordings", ())
    ]
    kept = {name: line[name] for name in _NAMES if name in line}
    return {**kept, **outcome_fields(Refusal(409, why)), "Recordings": recordings}
