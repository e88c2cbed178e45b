"""Tables of domains and of the voices in them: speakers, fraudsters, calibrations and changes of models."""

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
    true,
)

from sonant.storage.database.schema.base import metadata

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
    Column("model_id", String(64)),  # null: GE2E, the only one that earlier releases shipped
    Column("erasures", BigInteger, nullable=False, server_default="0"),  # deletions of speakers' voice data
    Column("template_version", Integer, nullable=False, server_default="0"),  # space of new embeddings
    Column("oldest_template_version", Integer, nullable=False, server_default="0"),  # lower while renewing
    Column("consent_required", Boolean, nullable=False, server_default=false()),  # to enroll a speaker
    Index(None, "account_id", "region", "created_at", "domain_id"),
)

#: The only copy of the key of each template space; what is left of a deleted one's embeddings is useless.
template_keys = Table(
    "template_keys",
    metadata,
    Column("domain_id", ForeignKey("domains.domain_id", ondelete="CASCADE"), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
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
    Column("template_version", Integer, nullable=False, server_default="0"),  # of the domain's spaces
)

watchlist_members = Table(
    "watchlist_members",
    metadata,
    Column("watchlist_id", ForeignKey("watchlists.watchlist_id", ondelete="CASCADE"), primary_key=True),
    Column("fraudster_id", ForeignKey("fraudsters.fraudster_id", ondelete="CASCADE"), primary_key=True),
    Column("added_at", BigInteger, nullable=False),
    Index(None, "fraudster_id"),
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

#: Voices that were compared with a speaker and do not match; `probe` is a keyed hash of the voice.
score_misses = Table(
    "score_misses",
    metadata,
    Column("speaker_id", ForeignKey("speakers.speaker_id", ondelete="CASCADE"), primary_key=True),
    Column("principal_arn", String(2048), primary_key=True),
    Column("probe", LargeBinary(32), primary_key=True),
    Column("rejected", Boolean, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("budgeted", Boolean, nullable=False, server_default=true()),  # false: of one who has no budget
    Index(None, "created_at"),
)

#: Voices whose risk of being a fraudster was told, below a certain match; `probe` as in `score_misses`.
fraudster_probes = Table(
    "fraudster_probes",
    metadata,
    Column("fraudster_id", ForeignKey("fraudsters.fraudster_id", ondelete="CASCADE"), primary_key=True),
    Column("principal_arn", String(2048), primary_key=True),
    Column("probe", LargeBinary(32), primary_key=True),
    Column("band", Integer, nullable=False),  # lower end of the risk's band: 0, 50, 75
    Column("created_at", BigInteger, nullable=False),
    Index(None, "created_at"),
)

#: Number of speakers of each domain, whatever their status: counting a million takes too long for a call.
speaker_counts = Table(
    "speaker_counts",
    metadata,
    Column("domain_id", ForeignKey("domains.domain_id", ondelete="CASCADE"), primary_key=True),
    Column("present", BigInteger, nullable=False),
)

#: The only copy of each speaker's data key. Deleting a row makes all of the person's data unreadable.
speaker_keys = Table(
    "speaker_keys",
    metadata,
    Column("speaker_id", ForeignKey("speakers.speaker_id", ondelete="CASCADE"), primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
)

#: Speakers whom a deletion, or an opt-out that a restore repeated, has removed: a job or call that began
#: before may not bring them back. `mark` is a hash of the customer's id that is stored nowhere else.
erased_speakers = Table(
    "erased_speakers",
    metadata,
    Column("domain_id", ForeignKey("domains.domain_id", ondelete="CASCADE"), primary_key=True),
    Column("mark", LargeBinary(32), primary_key=True),
    Column("status", String(16), nullable=False),  # DELETED, OPTED_OUT
    Column("erased_at", BigInteger, nullable=False),
    Index(None, "status", "erased_at"),
)

#: What speakers have agreed to; also of those who have no entry yet. `sealed` holds text, purpose, evidence.
speaker_consents = Table(
    "speaker_consents",
    metadata,
    Column("consent_id", String(22), primary_key=True),
    Column("domain_id", ForeignKey("domains.domain_id", ondelete="CASCADE"), nullable=False),
    Column("customer_id_hash", LargeBinary(32), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("given_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("withdrawn_at", BigInteger),
    Column("created_at", BigInteger, nullable=False),
    Index("ix_speaker_consents_speaker", "domain_id", "customer_id_hash", "created_at", "consent_id"),
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
    Column("template_version", Integer, nullable=False, server_default="0"),  # of the domain's spaces
    Column("audio_sealed", LargeBinary),
    Column("net_speech_s", Float, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("snr_db", Float),  # null: enrolled before it was recorded
    Column("low_cut", Boolean),  # whether the line cut off below 300 Hz; null as above
)

#: Numbers are never used twice: indexes in memory find fingerprints by them.
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

#: Calibrations on recordings of the installation itself; the newest of a domain counts.
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

#: Similarity of a speaker's new voiceprint and the one that it replaced, without the speaker.
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

#: A domain's change from one voice model to another; null is the model that ships with Sonant.
model_upgrades = Table(
    "model_upgrades",
    metadata,
    Column("domain_id", ForeignKey("domains.domain_id", ondelete="CASCADE"), primary_key=True),
    Column("old_model_id", String(64)),
    Column("new_model_id", String(64)),
    Column("status", String(16), nullable=False),  # RUNNING, READY, SWITCHED
    Column("report", Text),  # JSON, once READY
    Column("problem", Text),  # why it does not progress
    Column("created_at", BigInteger, nullable=False),
    Column("switched_at", BigInteger),
    Column("lease_owner", String(64)),
    Column("lease_until", BigInteger),
)

#: The voiceprint of the other model: the new model's before the switch, the old model's after it. Without a
#: vector, `problem` says why. The `other_*` columns are set only while both are exchanged.
shadow_voiceprints = Table(
    "shadow_voiceprints",
    metadata,
    Column("speaker_id", ForeignKey("speakers.speaker_id", ondelete="CASCADE"), primary_key=True),
    Column("model_id", String(64), nullable=False),
    Column("vector_sealed", LargeBinary),
    Column("problem", Text),
    Column("other_model_id", String(64)),
    Column("other_vector_sealed", LargeBinary),
    Column("template_version", Integer, nullable=False, server_default="0"),  # of the domain's spaces
    Column("other_template_version", Integer),
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
    Column("template_version", Integer, nullable=False, server_default="0"),  # of the domain's spaces
    Column("other_template_version", Integer),
)
