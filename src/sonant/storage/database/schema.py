"""The tables. Times are whole microseconds since 1970 UTC; `*_sealed` columns hold ciphertext only.

A change here needs a migration in `migrations/versions`; a test compares the two.
"""

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
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: Job statuses that hold the domain's one active slot.
ACTIVE_STATUSES = ("SUBMITTED", "IN_PROGRESS")

principals = Table(
    "principals",
    metadata,
    Column("arn", String(2048), primary_key=True),
    Column("account_id", String(12), nullable=False),
    Column("policies", Text, nullable=False),  # JSON list of policy documents
    Column("tags", Text, nullable=False, server_default="{}"),  # JSON object, for aws:PrincipalTag
    Column("created_at", BigInteger, nullable=False),
)

access_keys = Table(
    "access_keys",
    metadata,
    Column("access_key_id", String(128), primary_key=True),
    Column("principal_arn", ForeignKey("principals.arn", ondelete="CASCADE"), nullable=False),
    Column("secret_sealed", LargeBinary, nullable=False),
    Column("token_sealed", LargeBinary),  # session token of temporary credentials
    Column("active", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
)

#: What opens with the right keys only, made with the installation: whose keys do not open it must not start.
key_checks = Table(
    "key_checks",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

client_tokens = Table(
    "client_tokens",
    metadata,
    Column("scope", String(64), primary_key=True),  # keyed hash of account, Region, operation, domain, token
    Column("request_hash", String(64), nullable=False),
    Column("resource_id", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False, index=True),
)

domains = Table(
    "domains",
    metadata,
    Column("domain_id", String(22), primary_key=True),
    Column("account_id", String(12), nullable=False),
    Column("region", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("name_sealed", LargeBinary, nullable=False),
    Column("description_sealed", LargeBinary),
    Column("tags_sealed", LargeBinary, nullable=False),
    Column("kms_key_arn", String(2048), nullable=False),
    Column("data_key_wrapped", LargeBinary, nullable=False),
    Column("default_watchlist_id", String(22), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("version", Integer, nullable=False, server_default="0"),  # moves with every change of the row
    Column("suspended_at", BigInteger),
    Column("update_status", String(16)),  # of the last key change: IN_PROGRESS, COMPLETED, FAILED
    Column("update_old_key_arn", String(2048)),
    Column("update_message", Text),
    Column("update_attempts", Integer, nullable=False, server_default="0"),
    Column("update_due_at", BigInteger),
    Column("fraudsters_version", BigInteger, nullable=False, server_default="0"),
    Column("model_id", String(64)),  # null: the voice model that ships with Sonant
    Index(None, "account_id", "region", "created_at", "domain_id"),
)

watchlists = Table(
    "watchlists",
    metadata,
    Column("watchlist_id", String(22), primary_key=True),
    Column("domain_id", ForeignKey("domains.domain_id", ondelete="CASCADE"), nullable=False),
    Column("is_default", Boolean, nullable=False),
    Column("name_sealed", LargeBinary, nullable=False),
    Column("description_sealed", LargeBinary),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Index(None, "domain_id", "created_at", "watchlist_id"),
)

#: `wrapped` is the only copy of each fraudster's data key.
fraudsters = Table(
    "fraudsters",
    metadata,
    Column("fraudster_id", String(25), primary_key=True),
    Column("domain_id", ForeignKey("domains.domain_id", ondelete="CASCADE"), nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "domain_id", "created_at", "fraudster_id"),
)

fraudster_voiceprints = Table(
    "fraudster_voiceprints",
    metadata,
    Column("fraudster_id", ForeignKey("fraudsters.fraudster_id", ondelete="CASCADE"), primary_key=True),
    Column("model_id", String(64), nullable=False),
    Column("vector_sealed", LargeBinary, nullable=False),
    Column("audio_sealed", LargeBinary),
    Column("net_speech_s", Float, nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

watchlist_members = Table(
    "watchlist_members",
    metadata,
    Column("watchlist_id", ForeignKey("watchlists.watchlist_id", ondelete="CASCADE"), primary_key=True),
    Column("fraudster_id", ForeignKey("fraudsters.fraudster_id", ondelete="CASCADE"), primary_key=True),
    Column("added_at", BigInteger, nullable=False),
    Index(None, "fraudster_id"),
)

#: Accounts that have accepted the biometric privacy notice.
consents = Table(
    "consents",
    metadata,
    Column("account_id", String(12), primary_key=True),
    Column("principal_arn", String(2048), nullable=False),
    Column("accepted_at", BigInteger, nullable=False),
)

speakers = Table(
    "speakers",
    metadata,
    Column("speaker_id", String(25), primary_key=True),
    Column("domain_id", ForeignKey("domains.domain_id", ondelete="CASCADE"), nullable=False),
    Column("customer_id_hash", LargeBinary(32), nullable=False),
    Column("customer_id_sealed", LargeBinary, nullable=False),
    Column("status", String(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("last_accessed_at", BigInteger),
    UniqueConstraint("domain_id", "customer_id_hash"),
    Index(None, "domain_id", "created_at", "speaker_id"),
    Index(None, "status", "last_accessed_at"),
)

#: How many speakers a domain has, whatever their status: counting a million takes longer than a call may.
speaker_counts = Table(
    "speaker_counts",
    metadata,
    Column("domain_id", ForeignKey("domains.domain_id", ondelete="CASCADE"), primary_key=True),
    Column("present", BigInteger, nullable=False),
)

#: Calls that are left to each account in a Region; for processes that share PostgreSQL (see
#: `store.rate_buckets`).
rate_buckets = Table(
    "rate_buckets",
    metadata,
    Column("account_id", String(12), primary_key=True),
    Column("region", String(64), primary_key=True),
    Column("operation", String(64), primary_key=True),
    Column("calls", Float, nullable=False),
    Column("filled_at_s", Float, nullable=False),
)

#: The only copy of each speaker's data key. Deleting a row here is how a person is forgotten.
speaker_keys = Table(
    "speaker_keys",
    metadata,
    Column("speaker_id", ForeignKey("speakers.speaker_id", ondelete="CASCADE"), primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
)

#: Stored measures of `voice.quality.Quality`, with the names of their columns in the tables of voices. A new
#: one is a line here, a column in each table that stores it, and a migration.
QUALITY_COLUMNS = {"net_speech_s": "net_speech_s", "snr_db": "snr_db", "highpass_300hz": "low_cut"}

voiceprints = Table(
    "voiceprints",
    metadata,
    Column("speaker_id", ForeignKey("speakers.speaker_id", ondelete="CASCADE"), primary_key=True),
    Column("model_id", String(64), nullable=False),
    Column("vector_sealed", LargeBinary, nullable=False),
    Column("audio_sealed", LargeBinary),
    Column("net_speech_s", Float, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("snr_db", Float),  # null: enrolled before it was noted down
    Column("low_cut", Boolean),  # the line's; null as well
)

#: Never given a number twice: indexes in memory know fingerprints by it.
fingerprints = Table(
    "fingerprints",
    metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("domain_id", ForeignKey("domains.domain_id", ondelete="CASCADE"), nullable=False),
    Column("speaker_id", ForeignKey("speakers.speaker_id", ondelete="CASCADE"), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "domain_id", "number"),
    Index(None, "speaker_id"),
    sqlite_autoincrement=True,
)

#: A domain's change from one voice model to another; null stands for the one that ships with Sonant.
model_upgrades = Table(
    "model_upgrades",
    metadata,
    Column("domain_id", ForeignKey("domains.domain_id", ondelete="CASCADE"), primary_key=True),
    Column("old_model_id", String(64)),
    Column("new_model_id", String(64)),
    Column("status", String(16), nullable=False),  # RUNNING, READY, SWITCHED
    Column("report", Text),  # JSON, once READY
    Column("problem", Text),  # why it does not go on
    Column("created_at", BigInteger, nullable=False),
    Column("switched_at", BigInteger),
    Column("lease_owner", String(64)),
    Column("lease_until", BigInteger),
)

#: The voiceprint under the other model: the new one's before the switch, the old one's after it. Without a
#: vector it says why there is none. The `other_*` columns are filled only while both are exchanged.
shadow_voiceprints = Table(
    "shadow_voiceprints",
    metadata,
    Column("speaker_id", ForeignKey("speakers.speaker_id", ondelete="CASCADE"), primary_key=True),
    Column("model_id", String(64), nullable=False),
    Column("vector_sealed", LargeBinary),
    Column("problem", Text),
    Column("other_model_id", String(64)),
    Column("other_vector_sealed", LargeBinary),
)

#: The same of fraudsters.
fraudster_shadow_voiceprints = Table(
    "fraudster_shadow_voiceprints",
    metadata,
    Column("fraudster_id", ForeignKey("fraudsters.fraudster_id", ondelete="CASCADE"), primary_key=True),
    Column("model_id", String(64), nullable=False),
    Column("vector_sealed", LargeBinary),
    Column("problem", Text),
    Column("other_model_id", String(64)),
    Column("other_vector_sealed", LargeBinary),
)

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
    Column("entries_total", Integer),  # null until the manifest has been taken in
    Column("entries_done", Integer, nullable=False),
    Column("entries_failed", Integer, nullable=False),
    Column("failure_code", Integer),
    Column("failure_message", Text),
    Column("created_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("lease_owner", String(64)),
    Column("lease_until", BigInteger),
    Column("worked_s", Float, nullable=False, server_default="0"),  # by runners' monotonic clocks
    Index(None, "domain_id", "kind", "created_at", "job_id"),
    Index(None, "status", "created_at"),
)

#: A manifest's requests, from the moment it is taken in until the result file is written.
job_entries = Table(
    "job_entries",
    metadata,
    Column("job_id", ForeignKey("jobs.job_id", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True, autoincrement=False),
    Column("request_sealed", LargeBinary, nullable=False),
    Column("outcome_sealed", LargeBinary),
    Column("failed", Boolean),
    Index("ix_job_entries_open", "job_id", "position", sqlite_where=text("outcome_sealed IS NULL"),
          postgresql_where=text("outcome_sealed IS NULL")),
)  # fmt: skip

#: Live calls. A session has one stream at a time, numbered from 1; `stream_until` is when a pending one is
#: given up, when an ongoing one whose process has fallen silent counts as ended, and when the session of an
#: ended one is erased. `speaker_id` may name a speaker who has been deleted since.
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
    UniqueConstraint("domain_id", "name"),
    Index(None, "domain_id", "created_at", "session_id"),
    Index(None, "stream_status", "stream_until"),
)

#: What was heard in a session's latest streams, sealed under the session's key.
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
)

#: The latest result of each kind; `basis` says what it was made from, so that it is made once.
session_results = Table(
    "session_results",
    metadata,
    Column("session_id", ForeignKey("sessions.session_id", ondelete="CASCADE"), primary_key=True),
    Column("purpose", String(16), primary_key=True),
    Column("basis", Text, nullable=False),
    Column("result_id", String(22), nullable=False),
    Column("document", Text, nullable=False),  # JSON, no voice and no customer's id in it
)

#: What happened, until every sink has taken it. Documents hold generated ids only.
events = Table(
    "events",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("event_id", String(36), nullable=False),
    Column("domain_id", String(22), nullable=False),
    Column("type", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("document", Text, nullable=False),
    sqlite_autoincrement=True,  # a number that was purged must not come back: cursors would pass over it
)

#: How far each sink is, and which process delivers to it.
event_cursors = Table(
    "event_cursors",
    metadata,
    Column("sink", String(64), primary_key=True),
    Column("delivered", BigInteger, nullable=False),
    Column("lease_owner", String(64)),
    Column("lease_until", BigInteger),
)

#: What the runners have done since the installation was made.
counters = Table(
    "counters",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("label", String(64), primary_key=True),
    Column("value", Float, nullable=False),
)

#: What installations found out about their own strangers; the newest of a domain counts.
calibrations = Table(
    "calibrations",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("domain_id", ForeignKey("domains.domain_id", ondelete="CASCADE")),  # null: all domains
    Column("model_id", String(64), nullable=False),
    Column("shift", Float, nullable=False),
    Column("scale", Float, nullable=False),
    Column("supported_log10_far", Float, nullable=False),
    Column("evidence", Text, nullable=False),  # JSON
    Column("created_at", BigInteger, nullable=False),
    Index(None, "domain_id", "model_id"),
    sqlite_autoincrement=True,
)

#: How alike a speaker's new voiceprint and the one it replaced were: one number, of nobody in particular.
repeated_enrollments = Table(
    "repeated_enrollments",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("domain_id", ForeignKey("domains.domain_id", ondelete="CASCADE"), nullable=False),
    Column("model_id", String(64), nullable=False),
    Column("similarity", Float, nullable=False),
    Column("speech_s", Float, nullable=False),
    Column("snr_db", Float, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "domain_id", "model_id"),
    sqlite_autoincrement=True,
)
