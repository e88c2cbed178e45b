"""First release: access, domains, speakers, jobs"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "client_tokens",
        sa.Column("scope", sa.String(length=64), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("resource_id", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", name=op.f("pk_client_tokens")),
    )
    op.create_index(op.f("ix_client_tokens_created_at"), "client_tokens", ["created_at"], unique=False)
    op.create_table(
        "domains",
        sa.Column("domain_id", sa.String(length=22), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("region", sa.String(length=64), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("name_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("description_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("tags_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("kms_key_arn", sa.String(length=2048), nullable=False),
        sa.Column("data_key_wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("default_watchlist_id", sa.String(length=22), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("domain_id", name=op.f("pk_domains")),
    )
    op.create_index(
        op.f("ix_domains_account_id_region_created_at_domain_id"),
        "domains",
        ["account_id", "region", "created_at", "domain_id"],
        unique=False,
    )
    op.create_table(
        "principals",
        sa.Column("arn", sa.String(length=2048), nullable=False),
        sa.Column("account_id", sa.String(length=12), nullable=False),
        sa.Column("policies", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("arn", name=op.f("pk_principals")),
    )
    op.create_table(
        "access_keys",
        sa.Column("access_key_id", sa.String(length=128), nullable=False),
        sa.Column("principal_arn", sa.String(length=2048), nullable=False),
        sa.Column("secret_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["principal_arn"],
            ["principals.arn"],
            name=op.f("fk_access_keys_principal_arn"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("access_key_id", name=op.f("pk_access_keys")),
    )
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String(length=22), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("domain_id", sa.String(length=22), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("name_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("role_arn", sa.String(length=2048), nullable=False),
        sa.Column("input_uri", sa.String(length=1024), nullable=False),
        sa.Column("output_uri", sa.String(length=1024), nullable=False),
        sa.Column("output_kms_key", sa.String(length=2048), nullable=True),
        sa.Column("config", sa.Text(), nullable=False),
        sa.Column("entries_total", sa.Integer(), nullable=True),
        sa.Column("entries_done", sa.Integer(), nullable=False),
        sa.Column("entries_failed", sa.Integer(), nullable=False),
        sa.Column("failure_code", sa.Integer(), nullable=True),
        sa.Column("failure_message", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.Column("lease_owner", sa.String(length=64), nullable=True),
        sa.Column("lease_until", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["domain_id"], ["domains.domain_id"], name=op.f("fk_jobs_domain_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_jobs")),
    )
    op.create_index(
        op.f("ix_jobs_domain_id_kind_created_at_job_id"),
        "jobs",
        ["domain_id", "kind", "created_at", "job_id"],
        unique=False,
    )
    op.create_index(op.f("ix_jobs_status_created_at"), "jobs", ["status", "created_at"], unique=False)
    op.create_table(
        "speakers",
        sa.Column("speaker_id", sa.String(length=25), nullable=False),
        sa.Column("domain_id", sa.String(length=22), nullable=False),
        sa.Column("customer_id_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("customer_id_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("last_accessed_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["domain_id"], ["domains.domain_id"], name=op.f("fk_speakers_domain_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("speaker_id", name=op.f("pk_speakers")),
        sa.UniqueConstraint(
            "domain_id", "customer_id_hash", name=op.f("uq_speakers_domain_id_customer_id_hash")
        ),
    )
    op.create_index(
        op.f("ix_speakers_domain_id_created_at_speaker_id"),
        "speakers",
        ["domain_id", "created_at", "speaker_id"],
        unique=False,
    )
    op.create_table(
        "watchlists",
        sa.Column("watchlist_id", sa.String(length=22), nullable=False),
        sa.Column("domain_id", sa.String(length=22), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("name_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("description_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["domain_id"], ["domains.domain_id"], name=op.f("fk_watchlists_domain_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("watchlist_id", name=op.f("pk_watchlists")),
    )
    op.create_index(
        op.f("ix_watchlists_domain_id_created_at_watchlist_id"),
        "watchlists",
        ["domain_id", "created_at", "watchlist_id"],
        unique=False,
    )
    op.create_table(
        "job_entries",
        sa.Column("job_id", sa.String(length=22), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("request_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("outcome_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("failed", sa.Boolean(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"], ["jobs.job_id"], name=op.f("fk_job_entries_job_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("job_id", "position", name=op.f("pk_job_entries")),
    )
    op.create_index(
        "ix_job_entries_open",
        "job_entries",
        ["job_id", "position"],
        unique=False,
        sqlite_where=sa.text("outcome_sealed IS NULL"),
        postgresql_where=sa.text("outcome_sealed IS NULL"),
    )
    op.create_table(
        "speaker_keys",
        sa.Column("speaker_id", sa.String(length=25), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["speaker_id"],
            ["speakers.speaker_id"],
            name=op.f("fk_speaker_keys_speaker_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("speaker_id", name=op.f("pk_speaker_keys")),
    )
    op.create_table(
        "voiceprints",
        sa.Column("speaker_id", sa.String(length=25), nullable=False),
        sa.Column("model_id", sa.String(length=64), nullable=False),
        sa.Column("vector_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("audio_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("net_speech_s", sa.Float(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["speaker_id"],
            ["speakers.speaker_id"],
            name=op.f("fk_voiceprints_speaker_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("speaker_id", name=op.f("pk_voiceprints")),
    )


def downgrade() -> None:
    op.drop_table("voiceprints")
    op.drop_table("speaker_keys")
    op.drop_index(
        "ix_job_entries_open",
        table_name="job_entries",
        sqlite_where=sa.text("outcome_sealed IS NULL"),
        postgresql_where=sa.text("outcome_sealed IS NULL"),
    )
    op.drop_table("job_entries")
    op.drop_index(op.f("ix_watchlists_domain_id_created_at_watchlist_id"), table_name="watchlists")
    op.drop_table("watchlists")
    op.drop_index(op.f("ix_speakers_domain_id_created_at_speaker_id"), table_name="speakers")
    op.drop_table("speakers")
    op.drop_index(op.f("ix_jobs_status_created_at"), table_name="jobs")
    op.drop_index(op.f("ix_jobs_domain_id_kind_created_at_job_id"), table_name="jobs")
    op.drop_table("jobs")
    op.drop_table("access_keys")
    op.drop_table("principals")
    op.drop_index(op.f("ix_domains_account_id_region_created_at_domain_id"), table_name="domains")
    op.drop_table("domains")
    op.drop_index(op.f("ix_client_tokens_created_at"), table_name="client_tokens")
    op.drop_table("client_tokens")
