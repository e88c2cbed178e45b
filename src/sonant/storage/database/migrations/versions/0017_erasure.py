"""Erasure: versions of voices in memory, erased speakers, and whose voice an outcome of a dry run holds"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

_VOICES = sa.text("speaker_hash IS NOT NULL")


def upgrade() -> None:
    op.add_column("domains", sa.Column("erasures", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("sessions", sa.Column("erasures", sa.Integer(), nullable=False, server_default="0"))
    op.create_index(op.f("ix_sessions_domain_id_speaker_id"), "sessions", ["domain_id", "speaker_id"])
    op.add_column("job_entries", sa.Column("speaker_hash", sa.LargeBinary(32), nullable=True))
    op.create_index(
        "ix_job_entries_voices",
        "job_entries",
        ["job_id", "speaker_hash"],
        sqlite_where=_VOICES,
        postgresql_where=_VOICES,
    )
    op.create_table(
        "erased_speakers",
        sa.Column("domain_id", sa.String(22), nullable=False),
        sa.Column("mark", sa.LargeBinary(32), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("erased_at", sa.BigInteger(), nullable=False),
        sa.Column("row_mac", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["domain_id"],
            ["domains.domain_id"],
            name=op.f("fk_erased_speakers_domain_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("domain_id", "mark", name=op.f("pk_erased_speakers")),
    )
    op.create_index(op.f("ix_erased_speakers_status_erased_at"), "erased_speakers", ["status", "erased_at"])


def downgrade() -> None:
    op.drop_table("erased_speakers")
    op.drop_index("ix_job_entries_voices", "job_entries")
    op.drop_column("job_entries", "speaker_hash")
    op.drop_index(op.f("ix_sessions_domain_id_speaker_id"), "sessions")
    op.drop_column("sessions", "erasures")
    op.drop_column("domains", "erasures")
