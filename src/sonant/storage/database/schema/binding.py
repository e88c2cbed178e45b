"""Which columns of which tables are bound: covered by the MAC of their row.

Every table has an entry here, in `BOUND` or in `NOT_BOUND`, and every column of a bound table is covered
unless its entry names it with a reason. So a new column is covered from the start; a new table without an
entry fails a test. `storage.database.row_macs` computes the MACs, `storage.database.bound_connection` checks
and writes them.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Column, LargeBinary, MetaData

#: The column of a bound table with the MAC of its row. Null only before `storage.row_binding` has run.
ROW_MAC = "row_mac"

_LEASE = "who works on it and until when; a wrong value makes work wait or be done twice, and decides nothing"
_PROGRESS = "a count that is shown"
_SEALED_AUDIO = "sealed under the person's own key, and too large to be read with every row"

#: By table: the columns that are not covered, each with the reason.
BOUND: Mapping[str, Mapping[str, str]] = {
    "principals": {},
    "access_keys": {},
    "consents": {},
    "client_tokens": {},
    "domains": {
        "updated_at": "is shown",
        "version": "makes a change of an outdated copy fail; a wrong value makes changes be tried again",
        "update_message": "is shown",
        "update_attempts": "a pause between tries of a key change",
        "update_due_at": "a pause between tries of a key change",
        "fraudsters_version": "makes copies in memory be loaded again, from rows that are checked",
    },
    "template_keys": {},
    "watchlists": {},
    "fraudsters": {},
    "fraudster_voiceprints": {"audio_sealed": _SEALED_AUDIO},
    "watchlist_members": {},
    "speakers": {},
    "speaker_keys": {},
    "voiceprints": {"audio_sealed": _SEALED_AUDIO},
    "erased_speakers": {},
    "speaker_consents": {},
    "calibrations": {},
    "repeated_enrollments": {},
    "model_upgrades": {
        "problem": "is shown",
        "lease_owner": _LEASE,
        "lease_until": _LEASE,
    },
    "shadow_voiceprints": {},
    "fraudster_shadow_voiceprints": {},
    "jobs": {
        "entries_total": "set again by an import of the manifest; the requests themselves are sealed",
        "entries_done": _PROGRESS,
        "entries_failed": _PROGRESS,
        "started_at": "is shown",
        "lease_owner": _LEASE,
        "lease_until": _LEASE,
        "turn_at": "whose turn it is; a wrong value makes jobs wait",
        "worked_s": "how long runners have worked; a wrong value ends a job early or late",
    },
    "sessions": {
        "updated_at": "is shown, and finds enrollments that stand still",
        "stream_until": "moves with every heartbeat; a wrong value ends a stream early or late",
        "stream_owner": _LEASE,
        "heard_s": _PROGRESS,
        "net_speech_s": _PROGRESS,
        "enrollment_speech_at": "is shown; an enrollment takes its own measure of the speech",
    },
    "session_hearings": {"audio_sealed": _SEALED_AUDIO},
    "session_results": {},
}

#: By table: the reason why its rows have no MAC.
NOT_BOUND: Mapping[str, str] = {
    "audit_chains": "each row has a MAC of its own, under the audit trail's key",
    "key_checks": "sealed under the service key, each for its own name",
    "rate_buckets": "request rates, which refill within seconds",
    "speaker_counts": "a number for the quota; `sonant doctor --integrity` compares it with the speakers",
    "score_misses": "comparisons that did not match; changing them locks speakers or opens them, no more",
    "fraudster_probes": "answers about a fraudster; changing them tells more of its voice or less, no more",
    "fingerprints": "sealed under the speaker's own key, which an enrollment renews",
    "job_entries": "sealed for their job and position; `failed` chooses the list of the result file",
    "events": "reports of what has happened; nothing is decided by them",
    "event_cursors": "which events a sink has; a wrong value delivers some again or not",
    "counters": "metrics",
}


def add_row_macs(metadata: MetaData) -> None:
    """Give the bound tables the column for the MACs of their rows; to be called once, for all tables."""
    for name in BOUND:
        metadata.tables[name].append_column(Column(ROW_MAC, LargeBinary))
