"""Sessions of live calls"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "sessions",
        sa.Column("session_id", sa.String(25), nullable=False),
        sa.Column("domain_id", sa.String(22), nullable=False),
        sa.Column("name", sa.String(36), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("speaker_id", sa.String(25), nullable=True),
        sa.Column("acceptance_threshold", sa.Integer(), nullable=True),
        sa.Column("authentication_speech_s", sa.Float(), nullable=False),
        sa.Column("risk_threshold", sa.Integer(), nullable=True),
        sa.Column("watchlist_id", sa.String(22), nullable=True),
        sa.Column("enrollment_status", sa.String(24), nullable=True),
        sa.Column("enrollment_message", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("stream", sa.Integer(), nullable=False),
        sa.Column("stream_status", sa.String(24), nullable=False),
        sa.Column("stream_until", sa.BigInteger(), nullable=False),
        sa.Column("stream_owner", sa.String(64), nullable=True),
        sa.Column("stream_started_at", sa.BigInteger(), nullable=True),
        sa.Column("stream_ended_at", sa.BigInteger(), nullable=True),
        sa.Column("stream_end_reason", sa.String(32), nullable=True),
        sa.Column("heard_s", sa.Float(), nullable=False),
        sa.Column("net_speech_s", sa.Float(), nullable=False),
        sa.ForeignKeyConstraint(
            ["domain_id"], ["domains.domain_id"], name=op.f("fk_sessions_domain_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("session_id", name=op.f("pk_sessions")),
        sa.UniqueConstraint("domain_id", "name", name=op.f("uq_sessions_domain_id_name")),
    )
    op.create_index(
        op.f("ix_sessions_domain_id_created_at_session_id"),
        "sessions",
        ["domain_id", "created_at", "session_id"],
    )
    op.create_index(
        op.f("ix_sessions_stream_status_stream_until"), "sessions", ["stream_status", "stream_until"]
    )
    op.create_table(
        "session_hearings",
        sa.Column("session_id", sa.String(25), nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("stream", sa.Integer(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=False),
        sa.Column("net_speech_s", sa.Float(), nullable=False),
        sa.Column("snr_db", sa.Float(), nullable=False),
        sa.Column("low_cut", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("model_id", sa.String(64), nullable=False),
        sa.Column("vector_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("fingerprint_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("audio_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("spoofing_score", sa.Integer(), nullable=True),
        sa.Column("spoofing_evidence", sa.String(32), nullable=True),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sessions.session_id"],
            name=op.f("fk_session_hearings_session_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("session_id", "purpose", name=op.f("pk_session_hearings")),
    )
    op.create_table(
        "session_results",
        sa.Column("session_id", sa.String(25), nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("basis", sa.Text(), nullable=False),
        sa.Column("result_id", sa.String(22), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_id"],
            ["sessions.session_id"],
            name=op.f("fk_session_results_session_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("session_id", "purpose", name=op.f("pk_session_results")),
    )


def downgrade() -> None:
    op.drop_table("session_results")
    op.drop_table("session_hearings")
    op.drop_table("sessions")
