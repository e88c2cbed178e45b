"""The tables. Times are whole microseconds since 1970 UTC; `*_sealed` columns hold ciphertext only.

A change here needs a migration in `migrations/versions`; a test compares the two.
"""

from sonant.storage.database.schema.access import (
    access_keys,
    audit_chains,
    client_tokens,
    consents,
    key_checks,
    principals,
    rate_buckets,
)
from sonant.storage.database.schema.base import metadata
from sonant.storage.database.schema.binding import add_row_macs
from sonant.storage.database.schema.voices import (
    QUALITY_COLUMNS,
    calibrations,
    domains,
    erased_speakers,
    fingerprints,
    fraudster_probes,
    fraudster_shadow_voiceprints,
    fraudster_voiceprints,
    fraudsters,
    model_upgrades,
    repeated_enrollments,
    score_misses,
    shadow_voiceprints,
    speaker_consents,
    speaker_counts,
    speaker_keys,
    speakers,
    template_keys,
    voiceprints,
    watchlist_members,
    watchlists,
)
from sonant.storage.database.schema.work import (
    ACTIVE_STATUSES,
    counters,
    event_cursors,
    events,
    job_entries,
    jobs,
    session_hearings,
    session_results,
    sessions,
)

add_row_macs(metadata)

__all__ = [
    "ACTIVE_STATUSES",
    "QUALITY_COLUMNS",
    "access_keys",
    "audit_chains",
    "calibrations",
    "client_tokens",
    "consents",
    "counters",
    "domains",
    "erased_speakers",
    "event_cursors",
    "events",
    "fingerprints",
    "fraudster_probes",
    "fraudster_shadow_voiceprints",
    "fraudster_voiceprints",
    "fraudsters",
    "job_entries",
    "jobs",
    "key_checks",
    "metadata",
    "model_upgrades",
    "principals",
    "rate_buckets",
    "repeated_enrollments",
    "score_misses",
    "session_hearings",
    "session_results",
    "sessions",
    "shadow_voiceprints",
    "speaker_consents",
    "speaker_counts",
    "speaker_keys",
    "speakers",
    "template_keys",
    "voiceprints",
    "watchlist_members",
    "watchlists",
]
