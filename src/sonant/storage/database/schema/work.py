"""Tables of what the service does: jobs, sessions, events and counters."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

from sonant.storage.database.schema.base import metadata

#: Statuses of jobs that count as active.
ACTIVE_STATUSES = ("SUBMITTED", "IN_PROGRESS")

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", String(22), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("domain_id", ForeignKey("domains.domain_id", ondelete="CASCADE"), nullable=False),
    Column("status", String(32), nullable=False),
    Column("name_sealed", LargeBinary),
    Column("role_arn", String(2048), nullable=False),
    Column("input_uri", String(1024), nullable=False),
    Column("output_uri", String(1024), nullable=False),
    Column("output_kms_key", String(2048)),
    Column("config", Text, nullable=False),  # JSON: EnrollmentConfig or RegistrationConfig
    Column("entries_total", Integer),  # null until the manifest has been imported
    Column("entries_done", Integer, nullable=False),
    Column("entries_failed", Integer, nullable=False),
    Column("failure_code", Integer),
    Column("failure_message", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("lease_owner", String(64)),
    Column("lease_until", BigInteger),
    Column("worked_s", Float, nullable=False, server_default="0"),  # by the runners' monotonic clocks
    Column("turn_at", BigInteger),  # when a runner last took it
    Index(None, "domain_id", "kind", "created_at", "job_id"),
    Index(None, "status", "created_at"),
)

#: Requests of a manifest, from its import until the result file is written.
job_entries = Table(
    "job_entries",
    metadata,
    Column("job_id", ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("request_sealed", LargeBinary, nullable=False),
    Column("outcome_sealed", LargeBinary),
    Column("failed", Boolean),
    Column("speaker_hash", LargeBinary(32)),  # of outcomes that hold voice data: whose it is
    Index("ix_job_entries_voices", "job_id", "speaker_hash",
          sqlite_where=text("speaker_hash IS NOT NULL"), postgresql_where=text("speaker_hash IS NOT NULL")),
    Index("ix_job_entries_open", "job_id", "position", sqlite_where=text("outcome_sealed IS NULL"),
          postgresql_where=text("outcome_sealed IS NULL")),
)  # fmt: skip

#: Live calls. A session has one stream at a time, numbered from 1. `stream_until` is when a pending stream
#: times out, when an ongoing one without heartbeats counts as ended, and when the session of an ended one is
#: erased. `speaker_id` may name a speaker who has been deleted since.
sessions = Table(
    "sessions",
    metadata,
    Column("session_id", String(25), primary_key=True),
    Column("domain_id", ForeignKey("domains.domain_id", ondelete="CASCADE"), nullable=False),
    Column("name", String(36), nullable=False),
    Column("wrapped", LargeBinary, nullable=False),  # the only copy of the session's data key
    Column("speaker_id", String(25)),
    Column("acceptance_threshold", Integer),  # null: no authentication
    Column("authentication_speech_s", Float, nullable=False),
    Column("risk_threshold", Integer),  # null: no fraud detection
    Column("watchlist_id", String(22)),  # null: the domain's default one
    Column("enrollment_status", String(24)),  # NOT_ENOUGH_SPEECH, IN_PROGRESS, COMPLETED, FAILED
    Column("enrollment_message", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("stream", Integer, nullable=False),
    Column("stream_status", String(24), nullable=False),  # PENDING_CONFIGURATION, ONGOING, ENDED
    Column("stream_until", BigInteger, nullable=False),
    Column("stream_owner", String(64)),
    Column("stream_started_at", BigInteger),
    Column("stream_ended_at", BigInteger),
    Column("stream_end_reason", String(32)),
    Column("heard_s", Float, nullable=False),
    Column("net_speech_s", Float, nullable=False),
    Column("enrollment_speech_at", BigInteger),
    Column("contact_arn", String(256)),
    Column("multiple_speakers_at", BigInteger),  # null: one person was heard in the stream so far
    Column("speaker_changed_at", BigInteger),  # another person than the one who was authenticated speaks
    Column("later_risk_at", BigInteger),  # a later look found a high risk
    Column("erasures", Integer, nullable=False, server_default="0"),  # renewals of `wrapped`
    Index(None, "domain_id", "speaker_id"),
    UniqueConstraint("domain_id", "name"),
    Index(None, "domain_id", "created_at", "session_id"),
    Index(None, "stream_status", "stream_until"),
)

#: Voice samples of a session's latest streams, sealed under the session's key.
session_hearings = Table(
    "session_hearings",
    metadata,
    Column("session_id", ForeignKey("sessions.session_id", ondelete="CASCADE"), primary_key=True),
    Column("purpose", String(16), primary_key=True),  # AUTHENTICATION, FRAUD
    Column("stream", Integer, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Column("net_speech_s", Float, nullable=False),
    Column("snr_db", Float, nullable=False),
    Column("low_cut", Boolean, nullable=False, server_default=false()),
    Column("model_id", String(64), nullable=False),
    Column("vector_sealed", LargeBinary, nullable=False),
    Column("fingerprint_sealed", LargeBinary),
    Column("audio_sealed", LargeBinary),
    Column("spoofing_score", Integer),
    Column("spoofing_evidence", String(32)),
    Column("parts_sealed", LargeBinary),  # null: the parts of this speech were not analyzed
    Column("template_version", Integer, nullable=False, server_default="0"),  # space of vector and parts
)

#: The latest result of each kind. `basis` identifies its inputs: the same inputs give the stored result.
session_results = Table(
    "session_results",
    metadata,
    Column("session_id", ForeignKey("sessions.session_id", ondelete="CASCADE"), primary_key=True),
    Column("purpose", String(16), primary_key=True),
    Column("basis", Text, nullable=False),
    Column("result_id", String(22), nullable=False),
    Column("document", Text, nullable=False),  # JSON, without voices, customers' ids and exact scores
    Column("exact_sealed", LargeBinary),  # the JSON with exact scores; null where it has no others
    # What calls are found and counted by; null in rows of releases before 0027.
    Column("domain_id", String(22)),
    Column("decided_at", BigInteger),
    Column("decision", String(32)),
    Column("reasons", String(64)),  # of a high risk, separated by commas
    Index("ix_session_results_decisions", "domain_id", "purpose", "decision", "decided_at", "reasons"),
)

#: Events, until every sink has them. Documents hold generated ids only.
events = Table(
    "events",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("event_id", String(36), nullable=False),
    Column("domain_id", String(22), nullable=False),
    Column("type", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
    sqlite_autoincrement=True,  # numbers of purged rows must not be used again: cursors would skip them
)

#: The last event delivered to each sink, and the process that delivers.
event_cursors = Table(
    "event_cursors",
    metadata,
    Column("sink", String(64), primary_key=True),
    Column("delivered", BigInteger, nullable=False),
    Column("lease_owner", String(64)),
    Column("lease_until", BigInteger),
)

#: Counters of the runners' work since the installation was made.
counters = Table(
    "counters",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("label", String(64), primary_key=True),
    Column("value", Float, nullable=False),
)
